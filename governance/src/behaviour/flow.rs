//! Label flow: what a session has read under a label, it carries; sending outside while it carries a sensitive one is
//! exfiltration.
//!
//! Labels are a fixed vocabulary, one bit each, so that any number of sessions and agents agree on them in two bytes.
//! Whoever labels the data says so in the context (`source_labels`); a denied read gives the session nothing to carry.

use nethical_protocol::ids::KeyedId;

use super::{EXFILTRATION_SEVERITY, Seen};

/// Labels by bit. Frozen: new ones take the place of nothing.
pub const LABELS: [&str; 12] = [
    "confidential",
    "secret",
    "restricted",
    "credentials",
    "pii",
    "phi",
    "pci",
    "financial",
    "legal",
    "personal",
    "sensitive",
    "internal",
];

/// The labels that must not leave: all but `internal`, which is carried and only colours what is seen of a session.
pub const SENSITIVE: u16 = 0b0111_1111_1111;

/// Sessions with labels that are remembered of an agent, the latest ones.
const SESSIONS: usize = 8;
/// A session that has read nothing labelled for so long carries nothing any more.
const FORGET_S: u32 = 24 * 3_600;

/// What the actor found in an action's content that a profile goes by; integers, in the command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ActionFactsV1 {
    /// Bytes of arguments and context.
    pub bytes: u32,
    /// Labels of what the action reads, as bits of [`LABELS`].
    pub labels: u16,
    /// The action sends something outside.
    pub outside: bool,
    /// Entropy of the arguments in 1/32 bit ([`crate::entropy`]); none where they are short. The profile leaves it alone.
    pub entropy: Option<u8>,
}

/// The bit of a label, whatever its case; 0 for one that is not in the vocabulary.
pub fn label_bits(label: &str) -> u16 {
    LABELS.iter().position(|known| known.eq_ignore_ascii_case(label.trim())).map_or(0, |bit| 1 << bit)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Session {
    /// First 8 bytes of its keyed id.
    id: u64,
    /// Log time of its last labelled read, seconds since 1970.
    at_s: u32,
    /// 0 for no session.
    labels: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Flow {
    /// The latest labelled read first.
    sessions: [Session; SESSIONS],
}

impl Flow {
    pub fn judge(&self, now_ns: u64, seen: &Seen) -> Option<u16> {
        let carried = seen.facts.labels | self.labels(now_ns, seen.session);
        (seen.facts.outside && carried & SENSITIVE != 0).then_some(EXFILTRATION_SEVERITY)
    }

    pub fn labels(&self, now_ns: u64, session: KeyedId) -> u16 {
        let (id, now_s) = (short(session), seconds(now_ns));
        let carried = self.sessions.iter().filter(|held| held.labels != 0 && held.id == id);
        carried.filter(|held| now_s.saturating_sub(held.at_s) < FORGET_S).map(|held| held.labels).next().unwrap_or(0)
    }

    pub fn learn(&mut self, now_ns: u64, seen: &Seen) {
        if seen.facts.labels == 0 {
            return;
        }
        let labels = seen.facts.labels | self.labels(now_ns, seen.session);
        let id = short(seen.session);
        let place = self.sessions.iter().position(|held| held.labels != 0 && held.id == id).unwrap_or(SESSIONS - 1);
        self.sessions.copy_within(..place, 1);
        self.sessions[0] = Session { id, at_s: seconds(now_ns), labels };
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        for Session { id, at_s, labels } in self.sessions {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&at_s.to_le_bytes());
            out.extend_from_slice(&labels.to_le_bytes());
        }
    }
}

fn short(session: KeyedId) -> u64 {
    let mut id = [0; 8];
    id.copy_from_slice(&session.0[..8]);
    u64::from_le_bytes(id)
}

fn seconds(now_ns: u64) -> u32 {
    u32::try_from(now_ns / 1_000_000_000).unwrap_or(u32::MAX)
}
