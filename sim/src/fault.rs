//! The kinds of faults: what goes wrong, to whom, how badly. Data only; `nemesis` carries them out.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// One fault of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, by which its dice are forked.
    pub id: u32,
    /// When it begins, milliseconds since the start of the run.
    pub at_ms: u64,
    /// How long it lasts. A machine that lost power is dark that long.
    pub for_ms: u64,
    /// What it is.
    pub fault: Fault,
}

/// What goes wrong. Nodes are numbers from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Every link from one of these to one of those is cut, in that direction only.
    Cut {
        /// The senders.
        from: Vec<u64>,
        /// The receivers.
        to: Vec<u64>,
    },
    /// As [`Fault::Cut`], for every other period.
    Flap {
        /// The senders.
        from: Vec<u64>,
        /// The receivers.
        to: Vec<u64>,
        /// Length of a period.
        period_ms: u64,
    },
    /// Messages from one of these to one of those are lost.
    Loss {
        /// The senders.
        from: Vec<u64>,
        /// The receivers.
        to: Vec<u64>,
        /// Of a thousand.
        permille: u32,
    },
    /// Messages between any two nodes are delivered twice.
    Duplicate {
        /// Of a thousand.
        permille: u32,
    },
    /// Messages between any two nodes take up to so much longer, each by its own luck, so that they overtake each other.
    Reorder {
        /// At most.
        jitter_ms: u64,
    },
    /// A gray link: messages arrive, late.
    Gray {
        /// The senders.
        from: Vec<u64>,
        /// The receivers.
        to: Vec<u64>,
        /// How much later.
        delay_ms: u64,
    },
    /// Links carry only so much.
    Bandwidth {
        /// The senders.
        from: Vec<u64>,
        /// The receivers.
        to: Vec<u64>,
        /// In each direction.
        bytes_per_s: u64,
    },
    /// Machines lose power at the same instant, and get it back one by one within `for_ms`.
    Power {
        /// The machines.
        nodes: Vec<u64>,
    },
    /// The process dies and the machine lives: what was written is there, synced or not.
    Kill {
        /// The node.
        node: u64,
    },
    /// A machine loses power and its disk is replaced by an empty one.
    Wipe {
        /// The machine.
        node: u64,
    },
    /// Syncs take this much longer.
    SlowDisk {
        /// The machine.
        node: u64,
        /// How much longer.
        delay_ms: u64,
    },
    /// No sync ends before the fault does.
    StalledDisk {
        /// The machine.
        node: u64,
    },
    /// Syncs fail with EIO.
    FailingDisk {
        /// The machine.
        node: u64,
    },
    /// Nothing more can be written: ENOSPC.
    FullDisk {
        /// The machine.
        node: u64,
    },
    /// Syncs are acknowledged and not made; at the end of the fault the machine loses power. Beyond what the cluster
    /// promises to survive, unless it strikes a minority.
    LyingDisk {
        /// The machines.
        nodes: Vec<u64>,
    },
    /// A machine loses power, and a durable bit of a file is flipped while it is dark.
    Rot {
        /// The machine.
        node: u64,
        /// Which kind of file: `wal`, `audit`, `segment` (a closed one of the audit trail), `snapshot`.
        file: String,
    },
    /// A machine loses power, and sectors of a file are found at another place of it afterwards.
    Misdirected {
        /// The machine.
        node: u64,
        /// Which kind of file.
        file: String,
    },
    /// A machine loses power, and a file is gone afterwards.
    Vanished {
        /// The machine.
        node: u64,
        /// Which kind of file: `audit` or `segment`.
        file: String,
    },
    /// A machine loses power, and a file ends before its end afterwards.
    Truncated {
        /// The machine.
        node: u64,
        /// Which kind of file: `audit` or `segment`.
        file: String,
    },
    /// The object store is out of reach.
    AwayStore {
        /// Of these nodes; of all where none is named.
        nodes: Vec<u64>,
    },
    /// Calls to the object store take so much longer. Nodes wait for half a minute at most.
    SlowStore {
        /// How much longer.
        delay_ms: u64,
    },
    /// The object store makes changes and does not acknowledge them.
    DoubtfulStore {
        /// Of a thousand.
        permille: u32,
    },
    /// The object store loses an object.
    LostObject {
        /// One whose name contains this; any one where it is empty.
        part: String,
    },
    /// A byte of an object changes in the object store.
    ChangedObject {
        /// One whose name contains this; any one where it is empty.
        part: String,
    },
    /// A wall clock jumps, and jumps back at the end.
    ClockJump {
        /// The machine.
        node: u64,
        /// How far; back where negative.
        by_ms: i64,
    },
    /// A clock runs too fast, or too slowly where negative.
    ClockDrift {
        /// The machine.
        node: u64,
        /// Parts per million.
        ppm: i64,
    },
    /// The first time in this span that a machine passes a place of its code, it loses power there.
    StopAt {
        /// The machine; 0 for whichever comes first.
        node: u64,
        /// The place.
        place: String,
        /// The how manieth time, from 1.
        nth: u32,
        /// How long it is dark afterwards.
        dark_ms: u64,
    },
    /// Machines are held up at a place of their code.
    WaitAt {
        /// The machine; 0 for all.
        node: u64,
        /// The place.
        place: String,
        /// Of a thousand passes.
        permille: u32,
        /// At most.
        wait_ms: u64,
    },
    /// The code takes an unusual but permitted way.
    Buggify {
        /// Its name.
        name: String,
        /// Of a thousand times.
        permille: u32,
    },
}

/// The kinds of files that rot.
pub const FILES: [&str; 4] = ["wal", "audit", "segment", "snapshot"];
/// Of those, the kinds that may be lost whole: nothing is acknowledged on their word.
pub const COPIES: [&str; 2] = ["audit", "segment"];
/// Audit segments that were moved; none are unless a plan makes them old soon, so that swarms do not draw it.
pub const WARM: &str = "warm";
/// Text indexes; there are none unless a plan wants them.
pub const TEXT: &str = "text";
/// Parts of cold files that were read again; there are none unless bodies become cold and somebody reads them.
pub const PROMOTED: &str = "promoted";
/// Kinds of files that swarms do not draw.
const SELDOM: [&str; 3] = [WARM, TEXT, PROMOTED];

impl Entry {
    /// When it is over.
    pub fn until_ms(&self) -> u64 {
        match &self.fault {
            // The place may be passed in the last moment.
            Fault::StopAt { dark_ms, .. } => self.at_ms + self.for_ms + dark_ms,
            _ => self.at_ms + self.for_ms,
        }
    }

    /// Refuses a fault that means nothing in its plan.
    pub fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        let nodes = plan.fleet.regions.len() as u64;
        let named = self.fault.nodes();
        let unknown = named.iter().find(|node| **node == 0 || **node > nodes);
        ensure!(unknown.is_none(), "there is no node {}", unknown.copied().unwrap_or_default());
        ensure!(self.until_ms() <= plan.length_ms, "it ends at {} ms, after the run", self.until_ms());
        ensure!(self.for_ms > 0, "for_ms is 0");
        match &self.fault {
            Fault::Rot { file, .. } | Fault::Misdirected { file, .. } => {
                let is_known = SELDOM.contains(&file.as_str()) || FILES.contains(&file.as_str());
                ensure!(is_known, "there is no kind of file {file:?}; there are {FILES:?} and {SELDOM:?}");
            }
            Fault::Vanished { file, .. } | Fault::Truncated { file, .. } => {
                let is_copy = SELDOM.contains(&file.as_str()) || COPIES.contains(&file.as_str());
                ensure!(is_copy, "no file of kind {file:?} may be lost whole; only {COPIES:?} and {SELDOM:?}");
            }
            Fault::Flap { period_ms, .. } => ensure!(*period_ms > 0, "period_ms is 0"),
            Fault::Bandwidth { bytes_per_s, .. } => ensure!(*bytes_per_s > 0, "bytes_per_s is 0"),
            Fault::ClockDrift { ppm, .. } => ensure!(ppm.abs() <= 500_000, "{ppm} ppm is no drift"),
            Fault::StopAt { node: 0, .. } | Fault::WaitAt { node: 0, .. } => {}
            _ => {}
        }
        Ok(())
    }
}

/// Faults of the object store, for scenarios.
impl Fault {
    /// The object store is out of reach of these nodes; of all where none is named.
    pub fn away_store(nodes: &[u64]) -> Self {
        Self::AwayStore { nodes: nodes.to_vec() }
    }

    /// Calls to the object store take so much longer.
    pub fn slow_store(delay_ms: u64) -> Self {
        Self::SlowStore { delay_ms }
    }

    /// The object store makes this many of a thousand changes without acknowledging them.
    pub fn doubtful_store(permille: u32) -> Self {
        Self::DoubtfulStore { permille }
    }

    /// An object whose name contains this is gone.
    pub fn lost_object(part: &str) -> Self {
        Self::LostObject { part: part.to_owned() }
    }

    /// A byte of an object whose name contains this is another one.
    pub fn changed_object(part: &str) -> Self {
        Self::ChangedObject { part: part.to_owned() }
    }
}

impl Fault {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cut { .. } => "cut",
            Self::Flap { .. } => "flap",
            Self::Loss { .. } => "loss",
            Self::Duplicate { .. } => "duplicate",
            Self::Reorder { .. } => "reorder",
            Self::Gray { .. } => "gray",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Power { .. } => "power",
            Self::Kill { .. } => "kill",
            Self::Wipe { .. } => "wipe",
            Self::SlowDisk { .. } => "slow-disk",
            Self::StalledDisk { .. } => "stalled-disk",
            Self::FailingDisk { .. } => "failing-disk",
            Self::FullDisk { .. } => "full-disk",
            Self::LyingDisk { .. } => "lying-disk",
            Self::Rot { .. } => "rot",
            Self::Misdirected { .. } => "misdirected",
            Self::Vanished { .. } => "vanished",
            Self::Truncated { .. } => "truncated",
            Self::AwayStore { .. } => "away-store",
            Self::SlowStore { .. } => "slow-store",
            Self::DoubtfulStore { .. } => "doubtful-store",
            Self::LostObject { .. } => "lost-object",
            Self::ChangedObject { .. } => "changed-object",
            Self::ClockJump { .. } => "clock-jump",
            Self::ClockDrift { .. } => "clock-drift",
            Self::StopAt { .. } => "stop-at",
            Self::WaitAt { .. } => "wait-at",
            Self::Buggify { .. } => "buggify",
        }
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<u64> {
        match self {
            Self::Cut { from, to }
            | Self::Flap { from, to, .. }
            | Self::Loss { from, to, .. }
            | Self::Gray { from, to, .. }
            | Self::Bandwidth { from, to, .. } => from.iter().chain(to).copied().collect(),
            Self::Power { nodes } | Self::LyingDisk { nodes } | Self::AwayStore { nodes } => nodes.clone(),
            Self::StopAt { node: 0, .. } | Self::WaitAt { node: 0, .. } => Vec::new(),
            Self::Kill { node }
            | Self::Wipe { node }
            | Self::SlowDisk { node, .. }
            | Self::StalledDisk { node }
            | Self::FailingDisk { node }
            | Self::FullDisk { node }
            | Self::Rot { node, .. }
            | Self::Misdirected { node, .. }
            | Self::Vanished { node, .. }
            | Self::Truncated { node, .. }
            | Self::ClockJump { node, .. }
            | Self::ClockDrift { node, .. }
            | Self::StopAt { node, .. }
            | Self::WaitAt { node, .. } => vec![*node],
            Self::Duplicate { .. } | Self::Reorder { .. } | Self::Buggify { .. } => Vec::new(),
            Self::SlowStore { .. }
            | Self::DoubtfulStore { .. }
            | Self::LostObject { .. }
            | Self::ChangedObject { .. } => Vec::new(),
        }
    }

    /// In words, for traces and people.
    pub fn words(&self) -> String {
        let list = |nodes: &[u64]| nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Cut { from, to } => format!("cut {}>{}", list(from), list(to)),
            Self::Flap { from, to, period_ms } => format!("flap {}>{} every {period_ms} ms", list(from), list(to)),
            Self::Loss { from, to, permille } => format!("loss {}>{} {permille} ‰", list(from), list(to)),
            Self::Duplicate { permille } => format!("duplicate {permille} ‰"),
            Self::Reorder { jitter_ms } => format!("reorder by up to {jitter_ms} ms"),
            Self::Gray { from, to, delay_ms } => format!("gray {}>{} +{delay_ms} ms", list(from), list(to)),
            Self::Bandwidth { from, to, bytes_per_s } => {
                format!("bandwidth {}>{} {bytes_per_s} B/s", list(from), list(to))
            }
            Self::Power { nodes } => format!("power loss of {}", list(nodes)),
            Self::Kill { node } => format!("process {node} killed"),
            Self::Wipe { node } => format!("disk of {node} replaced"),
            Self::SlowDisk { node, delay_ms } => format!("disk of {node} +{delay_ms} ms"),
            Self::StalledDisk { node } => format!("disk of {node} stalls"),
            Self::FailingDisk { node } => format!("disk of {node} fails syncs"),
            Self::FullDisk { node } => format!("disk of {node} is full"),
            Self::LyingDisk { nodes } => format!("disks of {} lie", list(nodes)),
            Self::Rot { node, file } => format!("{file} of {node} rots"),
            Self::Misdirected { node, file } => format!("{file} of {node} misdirected"),
            Self::Vanished { node, file } => format!("{file} of {node} is gone"),
            Self::Truncated { node, file } => format!("{file} of {node} ends early"),
            Self::AwayStore { nodes } if nodes.is_empty() => "object store is away".to_owned(),
            Self::AwayStore { nodes } => format!("object store is away from {}", list(nodes)),
            Self::SlowStore { delay_ms } => format!("object store +{delay_ms} ms"),
            Self::DoubtfulStore { permille } => format!("object store acknowledges nothing, {permille} ‰"),
            Self::LostObject { part } => format!("an object like {part:?} is lost"),
            Self::ChangedObject { part } => format!("a byte of an object like {part:?} changes"),
            Self::ClockJump { node, by_ms } => format!("clock of {node} jumps {by_ms} ms"),
            Self::ClockDrift { node, ppm } => format!("clock of {node} drifts {ppm} ppm"),
            Self::StopAt { node, place, nth, .. } => format!("{node} stops at {place} #{nth}"),
            Self::WaitAt { node, place, permille, wait_ms } => {
                format!("{node} waits at {place}, {permille} ‰, up to {wait_ms} ms")
            }
            Self::Buggify { name, permille } => format!("buggify {name} {permille} ‰"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_store_survive_a_plans_file_and_are_called_there_as_in_traces() {
        for fault in [
            Fault::away_store(&[1, 3]),
            Fault::away_store(&[]),
            Fault::slow_store(5_000),
            Fault::doubtful_store(300),
            Fault::lost_object("seg"),
            Fault::changed_object(""),
        ] {
            let text = serde_json::to_string(&fault).expect("plain data");
            assert!(text.starts_with(&format!("{{\"{}\":", fault.name())), "{text}");
            assert_eq!(serde_json::from_str::<Fault>(&text).expect("it was just written"), fault);
            assert!(!fault.words().is_empty());
        }
        assert_eq!(Fault::away_store(&[1, 3]).nodes(), [1, 3]);
    }
}
