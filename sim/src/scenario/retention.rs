//! Bodies expire by log time while leaders die and clocks jump, are kept longer afterwards, and agents' are kept by legal holds.

use super::draft::{Draft, stop};
use super::tier::PLACES;
use super::{Expected, LONG, Scenario};
use crate::fault::Fault;
use crate::plan::OrderKind;

const EXPIRED: &str = "a body had expired";
const HOUR_MS: i64 = 3_600_000;

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "expiry-under-jumping-clocks",
        what: "Bodies are kept for four seconds while clocks jump an hour ahead and back, and later for longer.",
        expected: Expected::Good,
        seen: &[EXPIRED],
        bounds: LONG,
        build: |seed| {
            let jump =
                |turn: u64| Fault::ClockJump { node: turn % 3 + 1, by_ms: [HOUR_MS, -HOUR_MS][turn as usize % 2] };
            expiring(seed).each(4, 8_500, 4_000, 3_000, jump).done()
        },
    },
    Scenario {
        name: "expiry-while-leaders-die",
        what: "Machines die one after the other, and one loses power as it begins to lead, while bodies expire.",
        expected: Expected::Good,
        seen: &[EXPIRED],
        bounds: LONG,
        build: |seed| {
            expiring(seed)
                .each(4, 8_500, 4_000, 1_500, |turn| Fault::Kill { node: turn % 3 + 1 })
                .at(13_000, 8_000, stop(2, "lead.begin", 1, 900))
                .done()
        },
    },
    Scenario {
        name: "legal-hold-against-time",
        what: "An agent's bodies are held before, while and after others expire, and its erasure is refused meanwhile.",
        expected: Expected::Good,
        seen: &[EXPIRED, "a legal hold forbade an erasure"],
        bounds: LONG,
        build: |seed| {
            let hold = |agent, for_ms| OrderKind::LegalHold { agent, for_ms };
            expiring(seed)
                .order(7_500, hold(0, 60_000))
                .order(9_000, hold(1, 9_000))
                .order(12_500, OrderKind::Erase { agent: 0 })
                .order(15_000, hold(1, 60_000))
                .order(20_000, OrderKind::Erase { agent: 2 })
                .each(3, 10_000, 5_000, 1_500, |turn| Fault::Kill { node: turn % 3 + 1 })
                .done()
        },
    },
    Scenario {
        name: "expired-bodies-leave-segments",
        what: "Bodies expire and leave warm segments, an agent's are held and stay, and machines lose their power on the way.",
        expected: Expected::Good,
        seen: &[EXPIRED, "a dropped body left its segment"],
        bounds: LONG,
        build: |seed| {
            let draft = expiring(seed).seconds(40).order(7_500, OrderKind::LegalHold { agent: 1, for_ms: 60_000 });
            let draft = draft.knob("warm.after-ms", 1_500).knob("warm.every-ms", 400).knob("retention.look-s", 1);
            let places = (1..=3).flat_map(|node| PLACES.map(|place| (node, place)));
            let stops = places.enumerate().map(|(turn, (node, place))| (turn as u64, stop(node, place, 1, 900)));
            stops.fold(draft, |draft, (turn, stop)| draft.at(10_000 + turn * 720, 10_000, stop)).done()
        },
    },
];

/// Bodies are kept for four seconds, and in the second half of the run for much longer.
fn expiring(seed: u64) -> Draft {
    let keep = |routine_s, notable_s| OrderKind::Keep { routine_s, notable_s };
    Draft::three(seed)
        .knob("retention.age-s-min", 1)
        .knob("retention.grace-s", 2)
        .order(7_000, keep(4, 6))
        .order(19_000, keep(1_000, 2_000))
}
