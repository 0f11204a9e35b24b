//! A real agent's work done by many: nothing that they do together is an alarm, and what is planted in it is one.

use std::collections::BTreeMap;

use super::{START_NS, Whole, id};
use crate::correlate::{Pattern, Seen, Sketch};
use crate::entropy::entropy_of;
use crate::policy::measured::recorded;
use crate::risk::VIOLATION_SEVERITY_MIN;
use nethical_protocol::action::Action;

const MINUTE_NS: u64 = 60_000_000_000;

/// So many agents each work through all actions, from another place on, six a minute, in two cohorts; `change` may do
/// something to an action, given the agent and the minute.
fn run(actions: &[Action], agents: u64, minutes: u64, change: impl Fn(u64, u64, &mut Action)) -> Sketch {
    let (mut whole, mut sketch) = (Whole::new(), Sketch::default());
    for at in 0..agents * 6 * minutes {
        let agent = at % agents;
        let mut action = actions[((agent * 211 + at / agents) % actions.len() as u64) as usize].clone();
        action.agent = format!("agent-{agent}");
        whole.now_ns = START_NS + at * MINUTE_NS / 6 / agents;
        change(agent, at / agents / 6, &mut action);
        let decide = whole.command(&action);
        let (actor, tool, resource, facts) = (decide.actor, decide.tool, decide.resource, decide.evaluation.facts);
        let decided = whole.apply(decide);
        sketch.note(&Seen {
            now_ns: whole.now_ns,
            tenant: actor.tenant,
            agent: actor.agent,
            tool,
            kind: action.kind as u8,
            resource,
            violates: decided.risk_terms[1] >= VIOLATION_SEVERITY_MIN,
            cohort: id(if agent.is_multiple_of(2) { "even" } else { "odd" }),
            risk: decided.risk,
            entropy: facts.entropy,
        });
    }
    sketch.catch_up();
    sketch
}

/// The letters of base64 of a text.
fn encoded(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // As if it had been encrypted before.
    let mut dice = text.len() as u64;
    let letter = |byte: u8| {
        dice = (dice ^ u64::from(byte)).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(LETTERS[(dice >> 58) as usize])
    };
    let letters: String = text.bytes().chain(text.bytes().take(text.len() / 3)).map(letter).collect();
    format!(r#"{{"text":"{letters}"}}"#)
}

#[test]
fn many_who_do_real_work_raise_almost_no_alarm() {
    let Some(actions) = recorded() else { return };
    let texts: Vec<_> = actions.iter().filter_map(|action| entropy_of(&action.args_json)).collect();
    println!("{} of {} real actions have an entropy", texts.len(), actions.len());
    let (mut told, mut windows) = (BTreeMap::new(), BTreeMap::new());
    for (agents, minutes) in [(2, 600), (5, 600), (20, 300), (100, 100), (1_000, 20)] {
        let sketch = run(&actions, agents, minutes, |_, _, _| ());
        sketch.alarms(None).for_each(|alarm| *told.entry(alarm.pattern.as_str()).or_insert(0) += 1);
        for pattern in Pattern::ALL {
            *windows.entry(pattern.as_str()).or_insert(0) += minutes * 60 / u64::from(pattern.window_s());
        }
    }
    println!("alarms {told:?} in windows {windows:?}");
    assert!(told.values().sum::<u64>() * 100 <= windows.values().sum(), "{told:?}");
}

#[test]
fn agents_at_real_work_that_switch_to_encodings_or_filler_are_found_within_the_window() {
    let Some(actions) = recorded() else { return };
    for (agents, attackers) in [(12, 12), (20, 12), (100, 20)] {
        for sort in ["encoded", "filler"] {
            let sketch = run(&actions, agents, 85, |agent, minute, action| {
                if agent < attackers && minute >= 70 {
                    action.args_json = match sort {
                        "encoded" => encoded(&action.args_json),
                        _ => format!(r#"{{"text":"{}"}}"#, "A".repeat(40 + action.args_json.len())),
                    };
                }
            });
            let begin = START_NS + 70 * MINUTE_NS;
            let mut alarms = sketch.alarms(None).filter(|alarm| alarm.pattern == Pattern::PayloadEntropyShift);
            let alarm = alarms.next().unwrap_or_else(|| panic!("{sort}, {attackers} of {agents}: not found"));
            let after_s = (alarm.first_ns.checked_sub(begin).expect("not before")) / 1_000_000_000;
            println!("{sort}, {attackers} of {agents}: found after {after_s} s, {} agents", alarm.agents);
            assert!(after_s <= 600, "{sort}, {attackers} of {agents}: after {after_s} s");
        }
    }
}
