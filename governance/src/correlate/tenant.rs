//! What is correlated of one tenant: its agents of the last quarter of an hour, and what is usual for them together.

use std::collections::BTreeMap;

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::{ALARM_AGENTS_MAX, CORRELATE_AGENTS_MAX, CORRELATE_COHORTS_MAX, CORRELATE_DEEDS_MAX};

use super::agents::Agent;
use super::drift::Cohort;
use super::filter::Filter;
use super::lockstep::Lockstep;
use super::usual::{Excess, Usual};
use super::waves::Waves;
use super::{CELL_NS, Drift, Found, LATE_CELLS, Pattern, SILENT_CELLS, Seen, fold};

/// Agents, and octaves above the usual, from which on there is an alarm.
const WAVE_MIN: u64 = 6;
const ATTACK_MIN: u64 = 6;
const PROBERS_MIN: u64 = 5;
const SHIFTED_MIN: u64 = 5;
const OCTAVES: u32 = 2;
/// 8 KiB a generation: 6,500 agents that were here before.
const AGENTS_WORDS: usize = 1_024;
/// 32 KiB a generation: 26,000 pairs of agent and resource.
const TOUCHES_WORDS: usize = 4_096;
/// Minutes over which ordinary traffic is counted.
const CALM_CELLS: usize = 3;

/// One tenant.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    /// The current minute.
    pub cell: u64,
    /// Numbers of the latest alarms by pattern.
    told: [Option<u64>; Pattern::ALL.len()],
    /// Agents, slots and cells that were visited.
    pub work: u64,
    /// The minute after the one in which agents were last named, by pattern.
    named: [u64; Pattern::ALL.len()],
    agents: BTreeMap<KeyedId, Agent>,
    /// Agents that were here and have been silent since.
    gone: Filter,
    /// Agents at resources.
    touches: Filter,
    waves: Waves,
    lockstep: Lockstep,
    violators: u64,
    probers: u64,
    shifted: u64,
    cohorts: BTreeMap<KeyedId, Cohort>,
    /// Actions that did not violate, in this minute and those before.
    calm: [u64; CALM_CELLS],
    usual_wave: Usual,
    usual_violators: Usual,
    usual_probers: Usual,
    usual_calm: Usual,
    usual_shifted: Usual,
}

impl Tenant {
    pub fn new(cell: u64) -> Self {
        Self {
            cell,
            told: [None; Pattern::ALL.len()],
            work: 0,
            named: [0; Pattern::ALL.len()],
            agents: BTreeMap::new(),
            gone: Filter::new(AGENTS_WORDS),
            touches: Filter::new(TOUCHES_WORDS),
            waves: Waves::new(),
            lockstep: Lockstep::new(),
            violators: 0,
            probers: 0,
            shifted: 0,
            cohorts: BTreeMap::new(),
            calm: [0; CALM_CELLS],
            usual_wave: Usual::default(),
            usual_violators: Usual::default(),
            usual_probers: Usual::default(),
            usual_calm: Usual::default(),
            usual_shifted: Usual::default(),
        }
    }

    /// The number of the latest alarm of the same kind: of the pattern, or of the cohort's drift.
    pub fn told(&mut self, found: &Found) -> Option<&mut Option<u64>> {
        match found.drift {
            Some(drift) => self.cohorts.get_mut(&drift.cohort).map(|cohort| &mut cohort.told),
            None => self.told.get_mut(found.pattern as usize),
        }
    }

    /// Where the risk scores of each cohort stand.
    pub fn drifts(&self) -> impl Iterator<Item = Drift> {
        self.cohorts.values().map(Cohort::report)
    }

    /// Takes an action of the current minute in. Agents beyond the bound are not looked at.
    pub fn note(&mut self, seen: &Seen) -> Vec<Found> {
        self.work += 1;
        let (cell, is_late) = (self.cell, seen.now_ns / CELL_NS + LATE_CELLS < self.cell);
        let is_full = self.agents.len() >= CORRELATE_AGENTS_MAX && !self.agents.contains_key(&seen.agent);
        if !is_late {
            self.score(seen);
        }
        if is_late || is_full {
            return Vec::new();
        }
        // Nobody is new while the tenant itself is.
        let (gone, is_learning) = (&self.gone, self.usual_calm.is_learning());
        let arrive = || Agent::new(cell, is_learning || gone.knows(fold(seen.agent)));
        let agent = self.agents.entry(seen.agent).or_insert_with(arrive);
        agent.step(cell, seen);
        let (is_new, was_shifted) = (agent.is_new(cell), agent.is_shifted(cell));
        let shifts = agent.send(cell, seen);
        let mut found = Vec::new();
        if seen.violates {
            self.violators += u64::from(!agent.is_violating());
            agent.violate();
            found.extend(self.attack(seen));
            found.extend(self.reconnaissance(seen));
        } else {
            self.calm[0] += 1;
            self.touches.insert(seen.touch());
        }
        match is_new {
            true => found.extend(self.wave(seen)),
            false => self.waves.note_known(seen),
        }
        if shifts {
            self.shifted += u64::from(!was_shifted);
            found.extend(self.shift(seen));
        }
        found
    }

    /// Counts the decision's risk score for its cohort. A cohort beyond the bound takes the place of one silent for long.
    fn score(&mut self, seen: &Seen) {
        let cell = self.cell;
        if self.cohorts.len() >= CORRELATE_COHORTS_MAX && !self.cohorts.contains_key(&seen.cohort) {
            self.work += self.cohorts.len() as u64;
            let silent =
                self.cohorts.iter().min_by_key(|(_, cohort)| cohort.last).map(|(id, cohort)| (*id, cohort.last));
            match silent.filter(|(_, last)| last.saturating_add(SILENT_CELLS) < cell) {
                Some((id, _)) => drop(self.cohorts.remove(&id)),
                None => return,
            }
        }
        self.cohorts.entry(seen.cohort).or_insert_with(|| Cohort::new(seen.cohort, seen.now_ns)).note(cell, seen);
    }

    fn shift(&mut self, seen: &Seen) -> Option<Found> {
        let excess = self.usual_shifted.excess(self.shifted, SHIFTED_MIN, OCTAVES, self.growth())?;
        let cell = self.cell;
        Some(self.found(Pattern::PayloadEntropyShift, seen, excess, |agent| agent.is_shifted(cell)))
    }

    fn attack(&mut self, seen: &Seen) -> Option<Found> {
        let excess = self.usual_violators.excess(self.violators, ATTACK_MIN, OCTAVES, self.growth())?;
        Some(self.found(Pattern::CoordinatedAttack, seen, excess, Agent::is_violating))
    }

    fn reconnaissance(&mut self, seen: &Seen) -> Option<Found> {
        let touch = seen.touch();
        if seen.resource.is_none() || self.touches.knows(touch) {
            return None;
        }
        self.touches.insert(touch);
        let agent = self.agents.get_mut(&seen.agent)?;
        let was_probing = agent.is_probing();
        agent.probe(self.cell);
        self.probers += u64::from(!was_probing && agent.is_probing());
        let excess = self.usual_probers.excess(self.probers, PROBERS_MIN, OCTAVES, self.growth())?;
        Some(self.found(Pattern::DistributedReconnaissance, seen, excess, Agent::is_probing))
    }

    fn wave(&mut self, seen: &Seen) -> Option<Found> {
        let (weight, sample) = self.waves.note_new(self.cell, seen);
        let excess = self.usual_wave.excess(weight, WAVE_MIN, OCTAVES, 0)?;
        Some(Found {
            pattern: Pattern::MultiIdProbes,
            at_ns: seen.now_ns,
            excess,
            sample: sample.to_vec(),
            drift: None,
            goes_on: false,
        })
    }

    /// Octaves by which traffic without violations is above the usual.
    fn growth(&self) -> u32 {
        self.usual_calm.growth(self.calm.iter().sum())
    }

    /// The acting agent first, then those with the smallest keyed ids; these are looked up once a minute.
    fn found(&mut self, pattern: Pattern, seen: &Seen, excess: Excess, is_one: impl Fn(&Agent) -> bool) -> Found {
        let mut sample = vec![seen.agent];
        if std::mem::replace(&mut self.named[pattern as usize], self.cell + 1) <= self.cell {
            self.work += self.agents.len() as u64;
            let others = self.agents.iter().filter(|(id, agent)| **id != seen.agent && is_one(agent));
            sample.extend(others.map(|(id, _)| *id).take(ALARM_AGENTS_MAX - 1));
        }
        Found { pattern, at_ns: seen.now_ns, excess, sample, drift: None, goes_on: false }
    }

    /// Ends all minutes before `cell`.
    pub fn turn(&mut self, cell: u64) -> Vec<Found> {
        let mut found = Vec::new();
        // After a long silence nothing of the windows is left.
        let passed = cell.saturating_sub(self.cell);
        for _ in 0..passed.min(SILENT_CELLS + 1) {
            found.extend(self.close());
        }
        self.cell = self.cell.max(cell);
        found
    }

    /// Ends the current minute.
    fn close(&mut self) -> Vec<Found> {
        let acted = self.agents.values().filter(|agent| agent.acted()).count() as u64;
        self.work += (self.agents.len() + self.cohorts.len() + CORRELATE_DEEDS_MAX) as u64;
        let mut found = Vec::from_iter(if acted > 0 { self.close_active(acted) } else { None });
        let end_ns = (self.cell + 1).saturating_mul(CELL_NS);
        found.extend(self.cohorts.values_mut().filter_map(|cohort| cohort.close(end_ns)));
        self.cell += 1;
        let (cell, gone) = (self.cell, &mut self.gone);
        self.agents.retain(|id, agent| {
            let stays = agent.turn(cell);
            if !stays {
                gone.insert(fold(*id));
            }
            stays
        });
        self.violators = self.agents.values().filter(|agent| agent.is_violating()).count() as u64;
        self.probers = self.agents.values().filter(|agent| agent.is_probing()).count() as u64;
        self.shifted = self.agents.values().filter(|agent| agent.is_shifted(cell)).count() as u64;
        self.calm.rotate_right(1);
        self.calm[0] = 0;
        self.waves.turn(cell);
        found
    }

    /// Learns from a minute in which somebody acted, and looks for lockstep in it.
    fn close_active(&mut self, acted: u64) -> Option<Found> {
        self.usual_wave.learn(self.waves.heaviest);
        self.usual_violators.learn(self.violators);
        self.usual_probers.learn(self.probers);
        self.usual_calm.learn(self.calm.iter().sum());
        self.usual_shifted.learn(self.shifted);
        let signed = self.agents.iter().filter_map(|(id, agent)| Some((agent.signature()?, *id))).collect();
        let (excess, sample) = self.lockstep.close(self.cell, signed, acted)?;
        let at_ns = (self.cell + 1).saturating_mul(CELL_NS);
        Some(Found { pattern: Pattern::AnomalousCluster, at_ns, excess, sample, drift: None, goes_on: false })
    }
}
