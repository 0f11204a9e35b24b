//! What is remembered of one agent for a quarter of an hour: since when it is known, when it violated, how often it was refused
//! at something new to it, what it did in this minute, and what its payloads are usually like.

use super::shift::Payloads;
use super::{Pattern, SILENT_CELLS, Seen, fold, mix};

/// Refusals at resources new to the agent within the window, from which on it is probing.
const PROBES: u16 = 4;
/// Minutes of the reconnaissance window.
const PROBE_CELLS: usize = 15;
/// Actions in a minute, and different deeds among them, from which on doing the same is no coincidence.
const STEPS_MIN: u16 = 4;
const DEEDS_MIN: u32 = 3;

const _: () = assert!(SILENT_CELLS as usize >= PROBE_CELLS);

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    /// The minute in which it came.
    first: u64,
    /// It had been here before that.
    returned: bool,
    /// The minute of its latest action.
    last: u64,
    /// Bit n: it violated n minutes ago.
    violations: u8,
    probes: [u8; PROBE_CELLS],
    /// The sum of this minute's deeds, whatever their order.
    sum: u64,
    steps: u16,
    /// One bit for each deed of this minute, by its hash.
    deeds: u16,
    payloads: Payloads,
}

impl Agent {
    pub fn new(cell: u64, returned: bool) -> Self {
        let (violations, probes, sum, steps, deeds) = (0, [0; PROBE_CELLS], 0, 0, 0);
        let payloads = Payloads::default();
        Self { first: cell, returned, last: cell, violations, probes, sum, steps, deeds, payloads }
    }

    pub fn step(&mut self, cell: u64, seen: &Seen) {
        self.last = cell;
        let deed = seen.deed();
        self.sum = self.sum.wrapping_add(mix(deed));
        self.steps = self.steps.saturating_add(1);
        self.deeds |= 1 << (deed % 16);
    }

    pub fn violate(&mut self) {
        self.violations |= 1;
    }

    pub fn probe(&mut self, cell: u64) {
        let probes = &mut self.probes[cell as usize % PROBE_CELLS];
        *probes = probes.saturating_add(1);
    }

    /// It came within the window of probes under many ids and had not been here before.
    pub fn is_new(&self, cell: u64) -> bool {
        !self.returned && cell < self.first + Pattern::MultiIdProbes.cells()
    }

    pub fn is_violating(&self) -> bool {
        self.violations & ((1 << Pattern::CoordinatedAttack.cells()) - 1) != 0
    }

    pub fn is_probing(&self) -> bool {
        self.probes.iter().map(|probes| u16::from(*probes)).sum::<u16>() >= PROBES
    }

    /// Takes its payload in; true where that goes on with a shift.
    pub fn send(&mut self, cell: u64, seen: &Seen) -> bool {
        seen.entropy.is_some_and(|entropy| self.payloads.note(cell, fold(seen.tool), entropy))
    }

    /// The minute comes from the tenant: an agent does not know what time it is.
    pub fn is_shifted(&self, cell: u64) -> bool {
        self.payloads.is_shifted(cell)
    }

    pub fn acted(&self) -> bool {
        self.steps > 0
    }

    /// What it did in this minute, where that says something.
    pub fn signature(&self) -> Option<u64> {
        (self.steps >= STEPS_MIN && self.deeds.count_ones() >= DEEDS_MIN).then_some(self.sum)
    }

    /// Begins the minute `cell`; false where the agent has been silent for too long.
    pub fn turn(&mut self, cell: u64) -> bool {
        self.violations <<= 1;
        self.probes[cell as usize % PROBE_CELLS] = 0;
        (self.sum, self.steps, self.deeds) = (0, 0, 0);
        cell < self.last + SILENT_CELLS
    }
}
