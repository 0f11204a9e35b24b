//! A witness outside of the fleet, which is slow, loses questions and answers and is away for seconds, while leaders change.
//! It must never see two histories, and nothing may wait for it.

use nethical_protocol::ids::GroupId;

use super::draft::Draft;
use super::{Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

const GATHERED: &str = "checkpoints were added to the cluster log";
const SIGNED: &str = "a witness signed the cluster log's checkpoint";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "witness-comes-and-goes",
        what: "A witness loses questions and answers and is away for seconds; decisions do not notice.",
        expected: Expected::Good,
        seen: &[GATHERED, SIGNED, "a witness did not answer"],
        bounds: USUAL,
        build: |seed| Draft::three(seed).done(),
    },
    Scenario {
        name: "witness-ahead-of-a-new-leader",
        what: "The control group's leader dies again and again, and its successors learn from the witness how far it has come.",
        expected: Expected::Good,
        seen: &[GATHERED, SIGNED, "a witness told the size that it had signed"],
        bounds: LONG,
        build: |seed| {
            let draft = Draft::three(seed);
            let nodes = draft.placed(GroupId::CONTROL);
            draft.each(3, 9_000, 7_000, 3_000, |turn| Fault::Kill { node: nodes[turn as usize % 2] }).done()
        },
    },
];
