//! Work of unusual shapes, and everything at once.

use super::draft::{Draft, buggify, quarantine, wait};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hot-agent",
        what: "Thirty clients act for one agent of each tenant while leaders die.",
        expected: Expected::Good,
        seen: &["the rate limit refused something", "an entry held several commands"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .work(|work| (work.clients, work.spread_agents, work.single_agents) = (30, 1, 1))
                .work(|work| work.pause_ms = (200, 600))
                .each(3, 9_000, 5_000, 700, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
    Scenario {
        name: "herd-after-a-heal",
        what: "A hundred clients wait for six seconds while nobody can decide, and all come at once.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "an entry held several commands"],
        bounds: Bounds { healed_ms_max: 5_000, ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .work(|work| (work.clients, work.pause_ms) = (100, (600, 2_000)))
                .apart(10_000, 6_000, &[1], &[2, 3])
                .apart(10_000, 6_000, &[2], &[3])
                .done()
        },
    },
    Scenario {
        name: "bursts-after-quiet",
        what: "Forty clients do nothing for eight seconds and then all ask at once, again and again, as leaders die.",
        expected: Expected::Good,
        seen: &["an idle actor was passivated", "an entry held several commands"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .knob("actor.idle-ms", 500)
                .work(|work| (work.clients, work.pause_ms, work.batch_max) = (40, (8_000, 8_000), 20))
                .each(4, 9_000, 4_000, 600, |turn| Fault::Power { nodes: vec![turn % 3 + 1] })
                .done()
        },
    },
    Scenario {
        name: "actors-passivated-at-once",
        what: "Every actor is put away as soon as it has nothing to do, while leaders change.",
        expected: Expected::Good,
        seen: &["an idle actor was passivated", "actor.passivate-at-once"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 16_000, buggify("actor.passivate-at-once", 1_000))
                .at(8_000, 16_000, wait("actor.passivate", 60))
                .each(3, 10_000, 4_500, 3_000, |turn| Fault::Cut { from: vec![turn + 1], to: vec![(turn + 1) % 3 + 1] })
                .done()
        },
    },
    Scenario {
        name: "log-segments-used-again",
        what: "Log segments are switched early and recycled all the time while machines lose power.",
        expected: Expected::Good,
        seen: &["a log segment was used again", "wal.switch-early", "a snapshot was written"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .knob("snapshot.log-bytes", 8 * 1024)
                .knob("snapshot.keep-entries", 0)
                .at(7_500, 17_000, buggify("wal.switch-early", 300))
                .each(5, 9_000, 3_200, 400, |turn| Fault::Power { nodes: vec![turn % 3 + 1] })
                .done()
        },
    },
    Scenario {
        name: "leadership-handed-over",
        what: "The preferred leader dies, comes back, and is given its groups again.",
        expected: Expected::Good,
        seen: &["leadership was handed over"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed);
            let leaders = [draft.leader(0), draft.leader(1), draft.leader(2)];
            draft.each(3, 8_000, 6_000, 1_200, |turn| Fault::Kill { node: leaders[turn as usize] }).done()
        },
    },
    Scenario {
        name: "sealer-falls-behind",
        what: "Audit segments are written so slowly that the sealer lags and the door has to shed.",
        expected: Expected::Good,
        seen: &["the sealer lagged so far that the door shed"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed).knob("seal.lag-bytes", 8 * 1024).at(8_000, 10_000, wait("seal.before", 4_000)).done()
        },
    },
    Scenario {
        name: "one-command-an-entry",
        what: "Every entry holds one command and every batch of the log one entry, with ten clients.",
        expected: Expected::Good,
        seen: &["propose.one-command", "wal.batch-of-one"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .work(|work| work.clients = 10)
                .at(7_000, 18_000, buggify("propose.one-command", 1_000))
                .at(7_000, 18_000, buggify("wal.batch-of-one", 1_000))
                .done()
        },
    },
    Scenario {
        name: "large-batches",
        what: "Calls hold up to a hundred actions and entries only sixteen kilobytes, while leaders change.",
        expected: Expected::Good,
        seen: &["an entry held several commands", "a request needed more than one attempt"],
        bounds: LONG,
        build: |seed| {
            let draft = Draft::three(seed).work(|work| (work.batch_max, work.pause_ms) = (100, (300, 900)));
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 3_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "many-groups-on-five-nodes",
        what: "Sixteen groups share five nodes, and two machines lose their power one after the other.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: USUAL,
        build: |seed| {
            Draft::five(seed)
                .fleet(|fleet| fleet.partitions = 16)
                .each(2, 9_000, 6_000, 3_000, |turn| Fault::Power { nodes: vec![turn + 1] })
                .done()
        },
    },
    Scenario {
        name: "everything-at-once",
        what: "Links are lossy, cut and slow, disks stall, clocks jump, machines die and agents are held.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a hold on an agent was enforced"],
        bounds: LONG,
        build: |seed| {
            let held = |draft: Draft, agent| draft.order(8_500 + u64::from(agent) * 500, quarantine(agent, 14_000));
            let draft = (0..4).fold(Draft::five(seed).seconds(40), held);
            let all: Vec<u64> = (1..=5).collect();
            draft
                .at(8_000, 18_000, Fault::Loss { from: all.clone(), to: all, permille: 60 })
                .at(8_000, 18_000, Fault::Duplicate { permille: 100 })
                .at(8_000, 18_000, Fault::Reorder { jitter_ms: 60 })
                .each(5, 8_000, 3_500, 1_200, |turn| Fault::Power { nodes: vec![turn + 1] })
                .each(4, 9_500, 4_000, 1_500, |turn| Fault::StalledDisk { node: (turn + 2) % 5 + 1 })
                .each(4, 10_000, 4_000, 2_500, |turn| Fault::ClockJump { node: turn + 1, by_ms: 60_000 })
                .each(4, 9_000, 4_500, 2_000, |turn| Fault::Gray {
                    from: vec![turn + 1],
                    to: vec![turn + 2],
                    delay_ms: 400,
                })
                .alone(12_000, 2_500, &[2])
                .alone(20_000, 2_500, &[4])
                .done()
        },
    },
];
