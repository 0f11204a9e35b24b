//! A tenant gives a dictionary of its own for its bodies, leaves it, and gives it again, while nodes that must know it come and go.

use nethical_protocol::ids::GroupId;

use super::draft::Draft;
use super::{Expected, LONG, Scenario};
use crate::fault::Fault;
use crate::plan::OrderKind;

const PACKED: &str = "a body was packed with its tenant's own dictionary";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "dictionary-while-leaders-die",
        what: "A dictionary is given, left and given again while each node in turn dies: who opens bodies is seldom who packed them.",
        expected: Expected::Good,
        seen: &[PACKED],
        bounds: LONG,
        build: |seed| {
            giving(Draft::three(seed)).each(6, 7_300, 3_000, 1_500, |turn| Fault::Kill { node: turn % 3 + 1 }).done()
        },
    },
    Scenario {
        name: "dictionary-of-a-lost-disk",
        what: "A node is away when a dictionary is given, another loses its disk, and the control group's leaders are cut off.",
        expected: Expected::Good,
        seen: &[PACKED],
        bounds: LONG,
        build: |seed| {
            let draft = giving(Draft::five(seed));
            let control = draft.placed(GroupId::CONTROL);
            let draft = draft.at(7_000, 6_000, Fault::Kill { node: control[2] });
            draft
                .at(14_000, 3_000, Fault::Wipe { node: control[1] })
                .at(9_000, 3_000, Fault::Kill { node: control[0] })
                .done()
        },
    },
];

fn giving(draft: Draft) -> Draft {
    let give = |own| OrderKind::Dictionary { own };
    draft.order(7_500, give(true)).order(13_000, give(false)).order(18_000, give(true))
}
