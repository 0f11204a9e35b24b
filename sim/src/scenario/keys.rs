//! Signing keys are turned while leaders lose their power at every step, nodes are away or cut off, and disks are lost.

use nethical_protocol::ids::GroupId;

use super::draft::{Draft, stop};
use super::{Expected, LONG, Scenario};
use crate::fault::Fault;
use crate::plan::OrderKind;

const TURNED: &str = "the zone turned to a new signing key";
const BOTH: &str = "a checkpoint was signed by two generations of the zone's key";
const RETIRED: &str = "a signing key was retired";
const DESTROYED: &str = "a signing seed was destroyed";

/// Where a turn may be cut short: a seed is made, is held where it has to be, is destroyed here, everywhere, and one of a node's own
/// is made.
pub const PLACES: [&str; 5] = ["seeds.made", "seeds.held", "seeds.destroyed", "seeds.settled", "seeds.own"];

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "keys-turn-while-a-node-is-down",
        what: "The zone's key is turned twice while a node is away: it fetches the new seeds, and is waited for with the old.",
        expected: Expected::Good,
        seen: &[TURNED, BOTH, RETIRED, DESTROYED, "a node fetched a signing seed that it lacked"],
        bounds: LONG,
        build: |seed| {
            let draft = turning(Draft::three(seed));
            let node = draft.placed(GroupId::CONTROL)[2];
            draft.at(7_000, 12_000, Fault::Kill { node }).done()
        },
    },
    Scenario {
        name: "keys-turn-survives-every-step",
        what: "Machines lose their power when a seed is made, held, retired, and destroyed.",
        expected: Expected::Good,
        seen: &[TURNED, RETIRED, DESTROYED],
        bounds: LONG,
        build: |seed| {
            let draft = turning(Draft::three(seed));
            let stops = (1..=3).flat_map(|node| PLACES.map(|place| stop(node, place, 1, 900)));
            stops
                .enumerate()
                .fold(draft, |draft, (turn, stop)| draft.at(7_500 + turn as u64 * 700, 10_000, stop))
                .done()
        },
    },
    Scenario {
        name: "keys-turn-of-a-lost-disk",
        what: "A machine's disk is lost between two turns of the zone's key, and each leader of the control group dies in turn.",
        expected: Expected::Good,
        seen: &[TURNED, RETIRED, DESTROYED, "a node fetched a signing seed that it lacked"],
        bounds: LONG,
        build: |seed| {
            let draft = turning(Draft::five(seed));
            let control = draft.placed(GroupId::CONTROL);
            let draft = draft.at(11_500, 3_000, Fault::Wipe { node: control[1] });
            draft.each(2, 8_200, 8_000, 2_500, |turn| Fault::Kill { node: control[turn as usize % 2 * 2] }).done()
        },
    },
];

/// The zone's key is turned twice, the second time at once, and in between the one of a node.
fn turning(draft: Draft) -> Draft {
    let turn = |overlap_s, node| OrderKind::RotateKeys { overlap_s, node };
    draft.order(8_000, turn(3, 0)).order(12_000, turn(0, 2)).order(18_000, turn(0, 0))
}
