//! What is usual for one agent, and what is not: a bounded profile in integers, kept by apply.
//!
//! Six looks at every action: is the pair of tool and resource new, does the agent act faster than ever or ever faster,
//! is the payload larger than ever or growing, has the mix of tools changed, does it send outside what it read under a
//! label. [`Behaviour::judge`] gives the findings and counts that the action was seen; [`Behaviour::learn`] makes it part
//! of what is usual, and is called only for actions that went ahead, so that denied traffic teaches nothing.
//!
//! An anomaly is odd, not wrong: its severity stays below that of a violation, it colours the risk of its action, and an
//! automatic quarantine rule may go by it. Exfiltration is wrong. Policy sees none of this: a profile moves with every
//! action, and what policy sees must not (ARCHITECTURE 6). No floats, no clock; arithmetic that cannot overflow whatever
//! a snapshot holds.

use nethical_protocol::action::ActionKind;
use nethical_protocol::ids::KeyedId;

use crate::command::DetectionV1;
use crate::risk::VIOLATION_SEVERITY_MIN;

mod flow;
mod mix;
mod novelty;
mod pace;
mod size;
pub(crate) mod stats;

#[cfg(test)]
pub(crate) mod tests;

pub use flow::{ActionFactsV1, LABELS, SENSITIVE, label_bits};

use flow::Flow;
use mix::Mix;
use novelty::Novelty;
use pace::Pace;
use size::Sizes;

/// A pair of tool and resource that the agent never used.
pub const NOVELTY: u8 = 128;
/// More actions at once than is usual.
pub const RATE: u8 = 129;
/// Twice as many actions as in the ten seconds before, twice in a row.
pub const ACCELERATION: u8 = 130;
/// A payload far larger than is usual for this kind of action.
pub const SIZE: u8 = 131;
/// Payloads that have become larger and stay so.
pub const GROWTH: u8 = 132;
/// Another mix of tools than is usual.
pub const DRIFT: u8 = 133;
/// Data under a sensitive label was read in this session, and this action sends outside.
pub const EXFILTRATION: u8 = 134;

/// Names by number, from [`NOVELTY`]. Numbers and names are in leaves: they never change, new ones are appended. Numbers
/// below are those of [`crate::detect`].
pub const NAMES: [&str; 7] = ["novelty", "rate", "acceleration", "size", "growth", "drift", "exfiltration"];

/// Severity of an anomaly that is merely odd …
const ODD: u16 = 150;
/// … or striking …
const STRIKING: u16 = 200;
/// … or extreme.
const EXTREME: u16 = 240;
/// Severity of sending out what a label keeps in.
const EXFILTRATION_SEVERITY: u16 = 700;

const _: () = assert!(ODD < STRIKING && STRIKING < EXTREME && EXTREME < VIOLATION_SEVERITY_MIN);
const _: () = assert!(EXFILTRATION_SEVERITY >= VIOLATION_SEVERITY_MIN);

/// The name of a behavioural finding, or none for another number.
pub fn name(detector: u8) -> Option<&'static str> {
    detector.checked_sub(NOVELTY).and_then(|place| NAMES.get(usize::from(place)).copied())
}

/// The number of a name.
pub fn number(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|place| NOVELTY + place as u8)
}

/// An action as a profile sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What sort of action.
    pub kind: ActionKind,
    /// The action's name.
    pub tool: KeyedId,
    /// The resource, or none.
    pub resource: KeyedId,
    /// The session, or none.
    pub session: KeyedId,
    /// What the actor found in its content.
    pub facts: ActionFactsV1,
}

/// What is usual for one agent, about 430 bytes. Frozen: snapshots hold it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Behaviour {
    novelty: Novelty,
    pace: Pace,
    sizes: Sizes,
    mix: Mix,
    flow: Flow,
}

impl Behaviour {
    /// What is odd about an action, sorted by number, each number once. Counts the action as seen; learns nothing.
    pub fn judge(&mut self, now_ns: u64, seen: &Seen) -> Vec<DetectionV1> {
        let found = [
            (NOVELTY, self.novelty.judge(seen)),
            (RATE, self.pace.judge(now_ns)),
            (ACCELERATION, self.pace.judge_growth()),
            (SIZE, self.sizes.judge(seen)),
            (GROWTH, self.sizes.judge_growth(seen)),
            (DRIFT, self.mix.judge()),
            (EXFILTRATION, self.flow.judge(now_ns, seen)),
        ];
        let found = found.into_iter().filter_map(|(detector, severity)| Some((detector, severity?)));
        found.map(|(detector, severity)| DetectionV1 { detector, severity }).collect()
    }

    /// Makes an action that was judged and went ahead part of what is usual.
    pub fn learn(&mut self, now_ns: u64, seen: &Seen) {
        self.novelty.learn(seen);
        self.pace.learn();
        self.sizes.learn(seen);
        self.mix.learn(seen);
        self.flow.learn(now_ns, seen);
    }

    /// Labels that the session carries at a time, as bits of [`LABELS`].
    pub fn labels(&self, now_ns: u64, session: KeyedId) -> u16 {
        self.flow.labels(now_ns, session)
    }

    /// All of it as canonical bytes, for the digest.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.novelty.put(out);
        self.pace.put(out);
        self.sizes.put(out);
        self.mix.put(out);
        self.flow.put(out);
    }
}
