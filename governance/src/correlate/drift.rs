//! Drift of risk scores, for each cohort of a tenant: whether its latest decisions are scored as usual.
//!
//! Ten bins of a hundred points. What one agent does in a minute goes together and counts as one *sample* when chance is
//! judged, however many decisions it is. The window is ten *cells* of a cohort: minutes, or longer where fewer than
//! [`CELL_SAMPLES_MIN`] samples come in one, so that it has thirty. What leaves the window becomes part of the baseline, which forgets slowly
//! and learns a drift slower still; the first [`LEARNING_CELLS`] cells are the baseline alone and set it.
//!
//! PSI, Kullback-Leibler divergence and Jensen-Shannon distance, in nats, of counts to each of which a half is added, so
//! that an empty bin has no infinite weight. Chance alone makes each of them larger than zero: for large samples PSI times
//! the sample is distributed as chi squared, the others as a half and an eighth of it. So much, and four deviations more, is
//! taken off before a threshold is asked; and PSI must be beyond what is usual for the cohort itself.

use nethical_protocol::ids::KeyedId;

use super::crowd::Crowd;
use super::usual::Excess;
use super::{CELL_NS, Drift, Found, Level, Pattern, Seen};
use crate::behaviour::stats::{OCTAVE, log2};

const BINS: usize = 10;
const CELLS: usize = 10;
/// Samples that make a cell.
const CELL_SAMPLES_MIN: u32 = 3;
/// Cells from which on there is a baseline, and samples in them.
const LEARNING_CELLS: u16 = 30;
const LEARNING_SAMPLES: u64 = 100;
/// The part of the baseline that each cell takes the place of: four hours of minutes; and of that, of a cell in drift.
const FORGET: u64 = 240;
const DRIFTED_SLOWER: u64 = 4;
/// Whole windows whose PSI says how restless the cohort is by itself, before one may be a drift; and those that count later.
const SETTLING_CELLS: u64 = 20;
const UNREST_CELLS: u64 = 120;
/// A drift is so many times the usual unrest. Scores of one agent may go together for longer than a minute.
const UNRESTS: u64 = 4;
/// Fractional bits of the baseline's counts.
const FRACTION: u32 = 8;
/// ln 2 with 16 fractional bits.
const LN_2: i64 = 45_426;
const ONE: u64 = 1 << 16;

/// What was raised, and from where on: PSI, KL, JS distance, in thousandths.
const LEVELS: [(Level, [u64; 3]); 3] =
    [(Level::Critical, [500, 300, 250]), (Level::Warning, [300, 150, 180]), (Level::Notice, [200, 100, 100])];

type Counts = [u64; BINS];

/// Decisions by bin, and the samples that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    bins: [u32; BINS],
    samples: u32,
}

/// Decisions by bin, and the samples that they are; 8 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    bins: Counts,
    samples: u64,
}

impl Tally {
    fn add(&mut self, cell: &Cell, slower: u64) {
        self.bins.iter_mut().zip(cell.bins).for_each(|(sum, count)| *sum += (u64::from(count) << FRACTION) / slower);
        self.samples += (u64::from(cell.samples) << FRACTION) / slower;
    }

    fn forget(&mut self, part: u64) {
        self.bins.iter_mut().for_each(|sum| *sum -= *sum / part);
        self.samples -= self.samples / part;
    }

    fn decisions(&self) -> u64 {
        self.bins.iter().sum::<u64>() >> FRACTION
    }
}

/// One cohort.
#[derive(Debug, Clone)]
pub(super) struct Cohort {
    /// The minute of its latest decision.
    pub last: u64,
    /// The number of its latest alarm.
    pub told: Option<u64>,
    /// Log time of its first decision.
    since_ns: u64,
    now: Cell,
    /// Who acted in this minute.
    acting: Crowd,
    /// The window, without `now`; the oldest at `at`.
    cells: [Cell; CELLS],
    at: usize,
    /// Cells that the baseline has learned.
    learned: u16,
    baseline: Tally,
    /// Mean PSI of windows, 16 fractional bits.
    unrest: u64,
    settled: u64,
    agents: Crowd,
    /// Cells since there is a baseline.
    judged: usize,
    drift: Drift,
}

impl Cohort {
    pub fn new(cohort: KeyedId, since_ns: u64) -> Self {
        let drift = Drift { cohort, since_ns, ..Drift::default() };
        Self {
            last: since_ns / CELL_NS,
            told: None,
            since_ns,
            now: Cell::default(),
            acting: Crowd::default(),
            cells: [Cell::default(); CELLS],
            at: 0,
            learned: 0,
            baseline: Tally::default(),
            unrest: 0,
            settled: 0,
            agents: Crowd::default(),
            judged: 0,
            drift,
        }
    }

    pub fn note(&mut self, cell: u64, seen: &Seen) {
        self.last = cell;
        let bin = &mut self.now.bins[usize::from(seen.risk / 100).min(BINS - 1)];
        *bin = bin.saturating_add(1);
        self.acting.add(seen.agent);
        self.agents.add(seen.agent);
    }

    /// As of the cell that ended last.
    pub fn report(&self) -> Drift {
        self.drift
    }

    /// Ends the minute, and with it the cell where it has enough.
    pub fn close(&mut self, end_ns: u64) -> Option<Found> {
        let acting = std::mem::take(&mut self.acting).count();
        self.now.samples = self.now.samples.saturating_add(u32::try_from(acting).unwrap_or(u32::MAX));
        if self.now.samples < CELL_SAMPLES_MIN {
            return None;
        }
        let now = std::mem::take(&mut self.now);
        if self.learned < LEARNING_CELLS || self.baseline.samples >> FRACTION < LEARNING_SAMPLES {
            self.learn(&now, 1);
            self.drift.baseline = self.baseline.decisions();
            return None;
        }
        let leaves = std::mem::replace(&mut self.cells[self.at], now);
        self.at = (self.at + 1) % CELLS;
        let slower = if self.drift.level > Level::Steady { DRIFTED_SLOWER } else { 1 };
        self.learn(&leaves, slower);
        self.judged += 1;
        let found = self.judge(end_ns);
        if self.judged.is_multiple_of(CELLS) {
            self.agents = Crowd::default();
        }
        found
    }

    fn learn(&mut self, cell: &Cell, slower: u64) {
        if cell.samples > 0 {
            self.learned = self.learned.saturating_add(1);
            self.baseline.forget(FORGET * slower);
            self.baseline.add(cell, slower);
        }
    }

    fn judge(&mut self, at_ns: u64) -> Option<Found> {
        let mut window = Tally::default();
        self.cells.iter().for_each(|cell| window.add(cell, 1));
        let found = Divergence::of(&window, &self.baseline);
        let samples = window.decisions();
        let (level, goes_on) = (self.level(&found), self.drift.level > Level::Steady);
        let [psi, kl, js] = [found.psi, found.kl, distance(found.js)].map(thousandths);
        let (baseline, cohort) = (self.baseline.decisions(), self.drift.cohort);
        self.drift = Drift { cohort, since_ns: self.since_ns, samples, baseline, psi, kl, js, level };
        (level > Level::Steady).then(|| self.found(at_ns, &found, goes_on))
    }

    /// Beyond the thresholds, and beyond the cohort's own unrest.
    fn level(&mut self, found: &Divergence) -> Level {
        if self.judged < CELLS {
            return Level::Learning;
        }
        let (is_settled, bar) = (self.settled >= SETTLING_CELLS, self.unrest * UNRESTS);
        let level = match (is_settled, found.psi > bar) {
            (false, _) => Level::Learning,
            (_, false) => Level::Steady,
            _ => found.level(),
        };
        // What lasts is usual in time, and a leap no more than the bar.
        let psi = if is_settled { found.psi.min(bar.max(ONE / 5)) } else { found.psi };
        self.settled = (self.settled + 1).min(UNREST_CELLS);
        self.unrest = self.unrest + psi / self.settled - self.unrest / self.settled;
        level
    }

    fn found(&self, at_ns: u64, divergence: &Divergence, goes_on: bool) -> Found {
        let least = divergence.chance + LEVELS[2].1[0] * ONE / 1_000;
        let beyond = log2(divergence.psi.max(1)).saturating_sub(log2(least));
        let excess = Excess { observed: self.agents.count(), usual: 0, needed: 0, beyond };
        let sample = self.agents.sample().to_vec();
        Found { pattern: Pattern::RiskDrift, at_ns, excess, sample, drift: Some(self.drift), goes_on }
    }
}

/// How far a window is from the baseline, 16 fractional bits, and how much of PSI chance may be. JS is not yet a distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Divergence {
    psi: u64,
    kl: u64,
    js: u64,
    chance: u64,
}

impl Divergence {
    fn of(window: &Tally, baseline: &Tally) -> Self {
        let half = 1 << (FRACTION - 1);
        let [p, q] = [window, baseline].map(|tally| {
            let total = tally.bins.iter().sum::<u64>() + half * BINS as u64;
            tally.bins.map(|count| ((count + half) << 16) / total)
        });
        let (mut psi, mut kl, mut js) = (0, 0, 0);
        for (p, q) in p.into_iter().zip(q).map(|(p, q)| (p.max(1), q.max(1))) {
            let mean = (p + q).div_ceil(2);
            psi += (p as i64 - q as i64) * ln(p, q);
            kl += p as i64 * ln(p, q);
            js += (p as i64 * ln(p, mean) + q as i64 * ln(q, mean)) / 2;
        }
        let [psi, kl, js] = [psi, kl, js].map(|sum: i64| (sum >> 16).max(0) as u64);
        let bins =
            window.bins.iter().zip(baseline.bins).filter(|(now, usual)| **now + *usual >= 1 << FRACTION).count() as u64;
        let free = bins.saturating_sub(1).max(1);
        let most = free * ONE + ((free * 2) << 16 << 16).isqrt() * 4;
        let chance = (most << FRACTION) / window.samples.max(1) + (most << FRACTION) / baseline.samples.max(1);
        Self { psi, kl, js, chance }
    }

    /// The highest level that something reaches beyond chance.
    fn level(&self) -> Level {
        let js = self.js.saturating_sub(self.chance / 8);
        let beyond = [self.psi.saturating_sub(self.chance), self.kl.saturating_sub(self.chance / 2), distance(js)];
        let reaches = |bars: &[u64; 3]| beyond.iter().zip(bars).any(|(found, bar)| *found * 1_000 > bar * ONE);
        LEVELS.iter().find(|(_, bars)| reaches(bars)).map_or(Level::Steady, |(level, _)| *level)
    }
}

/// ln(p / q) with 16 fractional bits.
fn ln(p: u64, q: u64) -> i64 {
    (i64::from(log2(p)) - i64::from(log2(q))) * LN_2 / i64::from(OCTAVE)
}

/// The root of a Jensen-Shannon divergence.
fn distance(js: u64) -> u64 {
    (js << 16).isqrt()
}

fn thousandths(of: u64) -> u32 {
    u32::try_from((of * 1_000 + ONE / 2) / ONE).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
