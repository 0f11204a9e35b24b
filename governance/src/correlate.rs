//! Correlation across agents: what many agents of a tenant do together and one agent's profile cannot show.
//!
//! Fed with every decided action once, after it was decided; it decides nothing and an alarm only advises. Whoever hosts
//! several partitions feeds one sketch with the leaves of all of them: what it counts are sets of agents, so it matters
//! little which partition's leaves come first. Six patterns, each against what is usual:
//!
//! - *Probes under many ids*: new agents try the same deed and most are refused, or the deed itself is new.
//! - *Coordinated attack*: more agents violate at once than usual, and more than the growth of ordinary traffic explains.
//! - *Distributed reconnaissance*: several agents each run into refusals at one resource after another that they never used.
//! - *Anomalous cluster*: a minority does exactly the same in one minute, and most of the same agents in another.
//! - *Payload entropy shift*: several agents send payloads of another entropy than each of them usually does with that tool.
//! - *Risk drift*: the decisions of a cohort are scored otherwise than before; the one pattern that is not about a tenant.
//!
//! A deed is what is done to what: action, kind of action and resource. The MAC of a request's content does not do for it,
//! because the content names the agent. Nothing here knows payloads: leaves have their entropy ([`crate::entropy`]).
//!
//! Work an action is bounded by a constant, and once a minute and tenant each agent of the last quarter of an hour is
//! visited once. Integers only; no clock: log time drives it, and the same leaves in the same order give the same alarms.

use std::collections::{BTreeMap, VecDeque};

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::{ALARM_AGENTS_MAX, ALARMS_MAX, CORRELATE_TENANTS_MAX};

mod agents;
mod crowd;
mod drift;
mod filter;
mod lockstep;
mod shift;
mod tenant;
mod usual;
mod waves;

#[cfg(test)]
mod benign;
#[cfg(test)]
mod tests;

use tenant::Tenant;
use usual::Excess;

/// A minute: the grain of all windows.
const CELL_NS: u64 = 60_000_000_000;
/// Minutes without an action after which an agent is no longer looked at, and a tenant may make room.
const SILENT_CELLS: u64 = 15;
/// A leaf may be this many minutes late, and counts as of now; an older one is passed over.
const LATE_CELLS: u64 = 2;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// The same deed under many new ids.
    MultiIdProbes,
    /// Many agents violate at once.
    CoordinatedAttack,
    /// Many agents are refused at many resources that are new to them.
    DistributedReconnaissance,
    /// Some agents act in lockstep.
    AnomalousCluster,
    /// Many agents send payloads of another entropy than they usually do.
    PayloadEntropyShift,
    /// A cohort's risk scores are distributed otherwise than before.
    RiskDrift,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Pattern; 6] = [
        Pattern::MultiIdProbes,
        Pattern::CoordinatedAttack,
        Pattern::DistributedReconnaissance,
        Pattern::AnomalousCluster,
        Pattern::PayloadEntropyShift,
        Pattern::RiskDrift,
    ];

    /// The name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        [
            "multi-id-probes",
            "coordinated-attack",
            "distributed-reconnaissance",
            "anomalous-cluster",
            "payload-entropy-shift",
            "risk-drift",
        ][self as usize]
    }

    /// Seconds that are looked at together.
    pub fn window_s(self) -> u32 {
        [300, 180, 900, 600, 600, 600][self as usize]
    }

    /// Seconds after which an alarm to which nothing was added is over, and the same may begin another one.
    pub fn cooldown_s(self) -> u32 {
        if self == Pattern::RiskDrift { 300 } else { self.window_s() }
    }

    fn cells(self) -> u64 {
        u64::from(self.window_s()) / 60
    }
}

/// A decided action as it is correlated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Log time, nanoseconds since 1970.
    pub now_ns: u64,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// The action's name.
    pub tool: KeyedId,
    /// Position in `ActionKind::ALL`.
    pub kind: u8,
    /// The resource, or none.
    pub resource: KeyedId,
    /// It violated: policy blocked it, or something was found from [`crate::risk::VIOLATION_SEVERITY_MIN`] on.
    pub violates: bool,
    /// The cohort, or none, which is one as well.
    pub cohort: KeyedId,
    /// Its risk, 0..1000.
    pub risk: u16,
    /// Entropy of its payload in 1/32 bit, where it has one.
    pub entropy: Option<u8>,
}

/// How far risk scores of a cohort have drifted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is no baseline yet, or too little beside it.
    #[default]
    Learning,
    /// As usual.
    Steady,
    /// More than usual.
    Notice,
    /// Much more.
    Warning,
    /// Far more.
    Critical,
}

impl Level {
    /// All levels.
    pub const ALL: [Level; 5] = [Level::Learning, Level::Steady, Level::Notice, Level::Warning, Level::Critical];

    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        ["learning", "steady", "notice", "warning", "critical"][self as usize]
    }
}

/// The distribution of a cohort's risk scores, held against its baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drift {
    /// The cohort, or none.
    pub cohort: KeyedId,
    /// Log time of its first decision that was seen here, nanoseconds since 1970.
    pub since_ns: u64,
    /// Decisions in the window.
    pub samples: u64,
    /// Decisions in the baseline; older ones count for less.
    pub baseline: u64,
    /// Population stability index, thousandths.
    pub psi: u32,
    /// Kullback-Leibler divergence of the window from the baseline, thousandths of a nat.
    pub kl: u32,
    /// Jensen-Shannon distance, thousandths.
    pub js: u32,
    /// What that comes to.
    pub level: Level,
}

impl Seen {
    fn deed(&self) -> u64 {
        mix(fold(self.tool) ^ mix(fold(self.resource) ^ u64::from(self.kind)))
    }

    /// The agent at the resource.
    fn touch(&self) -> u64 {
        mix(fold(self.agent) ^ mix(fold(self.resource)))
    }
}

/// Something that agents of a tenant did together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Counted up from 0 on this node.
    pub number: u64,
    /// What it is.
    pub pattern: Pattern,
    /// The tenant.
    pub tenant: KeyedId,
    /// Agents concerned, as far as they were counted.
    pub agents: u64,
    /// Keyed ids of up to [`ALARM_AGENTS_MAX`] of them.
    pub sample: Vec<KeyedId>,
    /// 0..1000, by how far it is beyond the usual.
    pub severity: u16,
    /// Log time at which it was noticed.
    pub first_ns: u64,
    /// Log time of the latest action that belongs to it.
    pub last_ns: u64,
    /// Agents usually so concerned in a window.
    pub usual: u64,
    /// Agents from which on it was an alarm.
    pub needed: u64,
    /// Of a drift, when it was at its highest level; its number of agents is no reason, and none are usual or needed.
    pub drift: Option<Drift>,
}

/// What a tenant's state makes of an action or of the end of a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    pattern: Pattern,
    at_ns: u64,
    excess: Excess,
    sample: Vec<KeyedId>,
    drift: Option<Drift>,
    /// It was found when it was last looked for, however long ago.
    goes_on: bool,
}

/// Everything that is correlated on a node.
#[derive(Debug, Default)]
pub struct Sketch {
    tenants: BTreeMap<KeyedId, Tenant>,
    alarms: VecDeque<Alarm>,
    next_number: u64,
    newest_ns: u64,
}

impl Sketch {
    /// Takes a decided action in; gives the patterns of alarms that are new.
    pub fn note(&mut self, seen: &Seen) -> Vec<Pattern> {
        self.newest_ns = self.newest_ns.max(seen.now_ns);
        let cell = seen.now_ns / CELL_NS;
        if !self.make_room(seen.tenant, cell) {
            return Vec::new();
        }
        let tenant = self.tenants.entry(seen.tenant).or_insert_with(|| Tenant::new(cell));
        let mut found = tenant.turn(cell);
        found.extend(tenant.note(seen));
        self.tell(seen.tenant, found)
    }

    /// Ends the minutes that have passed by the newest log time, also for tenants that have been silent since.
    pub fn catch_up(&mut self) -> Vec<Pattern> {
        let cell = self.newest_ns / CELL_NS;
        let found: Vec<_> = self.tenants.iter_mut().map(|(id, tenant)| (*id, tenant.turn(cell))).collect();
        found.into_iter().flat_map(|(id, found)| self.tell(id, found)).collect()
    }

    /// The alarms of a tenant or of all, oldest first.
    pub fn alarms(&self, tenant: Option<KeyedId>) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter().filter(move |alarm| tenant.is_none_or(|tenant| alarm.tenant == tenant))
    }

    /// Where the risk scores of each cohort stand, by tenant and cohort, as of the latest minute that ended.
    pub fn drifts(&self, tenant: Option<KeyedId>) -> impl Iterator<Item = (KeyedId, Drift)> {
        let tenants = self.tenants.iter().filter(move |(id, _)| tenant.is_none_or(|tenant| **id == tenant));
        tenants.flat_map(|(id, state)| state.drifts().map(|drift| (*id, drift)))
    }

    /// Agents, slots and cells that were visited so far, to be held against the number of actions.
    pub fn work(&self) -> u64 {
        self.tenants.values().map(|tenant| tenant.work).sum()
    }

    /// True where the tenant has a place. One that has been silent for long gives its own up.
    fn make_room(&mut self, tenant: KeyedId, cell: u64) -> bool {
        if self.tenants.len() < CORRELATE_TENANTS_MAX || self.tenants.contains_key(&tenant) {
            return true;
        }
        let silent = self.tenants.iter().min_by_key(|(_, tenant)| tenant.cell).map(|(id, tenant)| (*id, tenant.cell));
        match silent.filter(|(_, last)| last.saturating_add(SILENT_CELLS) < cell) {
            Some((id, _)) => self.tenants.remove(&id).is_some(),
            None => false,
        }
    }

    /// Makes alarms of what was found, or makes those longer that are still on.
    fn tell(&mut self, tenant: KeyedId, found: Vec<Found>) -> Vec<Pattern> {
        let mut new = Vec::new();
        for found in found {
            let pattern = found.pattern;
            let open = self.tenants.get_mut(&tenant).and_then(|state| *state.told(&found)?);
            match open.and_then(|number| self.open(number, &found)) {
                Some(alarm) => extend(alarm, found),
                None => {
                    self.begin(tenant, found);
                    new.push(pattern);
                }
            }
        }
        new
    }

    /// An alarm that is not yet over by the time of what was found.
    fn open(&mut self, number: u64, found: &Found) -> Option<&mut Alarm> {
        let first = self.alarms.front()?.number;
        let alarm = self.alarms.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)?;
        let until = alarm.last_ns.saturating_add(u64::from(found.pattern.cooldown_s()) * 1_000_000_000);
        (found.goes_on || found.at_ns <= until).then_some(alarm)
    }

    fn begin(&mut self, tenant: KeyedId, found: Found) {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(told) = self.tenants.get_mut(&tenant).and_then(|state| state.told(&found)) {
            *told = Some(number);
        }
        let Found { pattern, at_ns, excess, sample, drift, .. } = found;
        if self.alarms.len() >= ALARMS_MAX {
            self.alarms.pop_front();
        }
        let (agents, severity) = (excess.observed, severity(&excess));
        let (usual, needed) = (excess.usual, excess.needed);
        let (first_ns, last_ns) = (at_ns, at_ns);
        self.alarms.push_back(Alarm {
            number,
            pattern,
            tenant,
            agents,
            sample,
            severity,
            first_ns,
            last_ns,
            usual,
            needed,
            drift,
        });
    }
}

fn extend(alarm: &mut Alarm, found: Found) {
    alarm.last_ns = alarm.last_ns.max(found.at_ns);
    alarm.agents = alarm.agents.max(found.excess.observed);
    alarm.severity = alarm.severity.max(severity(&found.excess));
    if found.drift.map(|drift| drift.level) > alarm.drift.map(|drift| drift.level) {
        alarm.drift = found.drift;
    }
    for agent in found.sample {
        if alarm.sample.len() < ALARM_AGENTS_MAX && !alarm.sample.contains(&agent) {
            alarm.sample.push(agent);
        }
    }
}

/// Half of a thousand where the bar is only reached, and a hundred for each octave beyond it.
fn severity(excess: &Excess) -> u16 {
    (500 + ((u64::from(excess.beyond) * 100) >> 16)).min(1_000) as u16
}

/// A keyed id as 64 bits; it is a keyed hash already.
fn fold(id: KeyedId) -> u64 {
    let [first, second] =
        [&id.0[..8], &id.0[8..]].map(|half| half.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    mix(first ^ second.rotate_left(32))
}

/// The finisher of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
