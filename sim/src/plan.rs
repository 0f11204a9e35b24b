//! A run as data: the fleet, the work, and every fault with its time. Drawn from a seed, kept as JSON, shrunk, replayed.
//!
//! A fault is an interval with an end of its own, so that any of them can be taken out and the rest still makes sense;
//! its dice are forked by its number, so that taking one out never moves another. Nothing here carries a fault out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use nethical_protocol::ids::NodeId;

use crate::fault::{Entry, Fault};

mod limits;

pub use limits::{HouseSpec, SharedSpec};

/// First field of every plan. A plan of another version is refused: its faults would mean something else.
pub const FORMAT: &str = "nethical-sim-plan/1";
/// Nothing fails in the last seconds of a run.
pub const CALM: Duration = Duration::from_secs(8);
/// The shortest run in which everything finds its place, seconds.
pub const SECONDS_MIN: u64 = 30;
/// The longest run, seconds: a day.
pub const SECONDS_MAX: u64 = 86_400;
/// Faults of one plan.
pub const FAULTS_MAX: usize = 10_000;

/// What carries calls between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// Whole calls, without encryption: fast.
    #[default]
    Message,
    /// quinn and rustls over simulated datagrams.
    Quic,
}

impl Net {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Quic => "quic",
        }
    }
}

/// What runs the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// One runtime for all: fast, and time is exact.
    #[default]
    One,
    /// A runtime for each life of a node, in lock-step, dropped with the node.
    PerNode,
}

impl Runtime {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::PerNode => "per-node",
        }
    }

    fn is_one(&self) -> bool {
        *self == Self::One
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: String,
    /// Where the dice of everything that is not in the plan come from.
    pub seed: u64,
    /// What carries calls.
    #[serde(default)]
    pub net: Net,
    /// What runs the nodes.
    #[serde(default, skip_serializing_if = "Runtime::is_one")]
    pub runtime: Runtime,
    /// Length of the run before convergence is awaited, milliseconds.
    pub length_ms: u64,
    /// The machines.
    pub fleet: FleetSpec,
    /// The clients.
    pub work: WorkSpec,
    /// Constants of the code that this run changes, by name.
    #[serde(default)]
    pub knobs: BTreeMap<String, u64>,
    /// A planted bug that is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<String>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Entry>,
}

/// The machines of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetSpec {
    /// The region of each node; node ids count from 1.
    pub regions: Vec<String>,
    /// Partition groups.
    pub partitions: u32,
    /// Replicas of each partition group.
    pub replicas: usize,
    /// Between heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Least and greatest election timeout, milliseconds.
    pub election_ms: (u64, u64),
    /// One-way latency from a node (row) to a node (column), milliseconds.
    pub latency_ms: Vec<Vec<u64>>,
    /// How long a sync takes, milliseconds: from, to.
    pub sync_ms: (u64, u64),
    /// How far each node's wall clock is off at the start, milliseconds.
    pub wall_off_ms: Vec<i64>,
}

/// The clients of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkSpec {
    /// Clients at work at the same time.
    pub clients: u32,
    /// A client's pause between two requests, milliseconds: from, to.
    pub pause_ms: (u64, u64),
    /// Most actions in one call.
    pub batch_max: u32,
    /// Agents of the tenant whose agents live in all partitions.
    pub spread_agents: u32,
    /// Agents of the tenant whose agents live in one partition.
    pub single_agents: u32,
    /// Requests per second and at once of each agent of the spread tenant.
    pub pace: (u64, u64),
    /// Credits that all agents of the single tenant may spend in a day.
    pub purse: u64,
    /// Requests that all agents of the spread tenant may make together in each window, and its length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<(u64, u64)>,
    /// What else they share.
    #[serde(default, skip_serializing_if = "SharedSpec::is_nothing")]
    pub shared: SharedSpec,
    /// What else binds the single tenant.
    #[serde(default, skip_serializing_if = "HouseSpec::is_nothing")]
    pub house: HouseSpec,
    /// Of a thousand requests, how many are asked again after their answer.
    pub again_permille: u32,
    /// Of a thousand requests, how many carry something that detectors know.
    pub suspicious_permille: u32,
    /// Of a thousand requests, how many carry some kilobytes.
    #[serde(default)]
    pub large_permille: u32,
    /// Agents that do what a person must approve, at the same time; two people decide.
    #[serde(default, skip_serializing_if = "WorkSpec::asks_nobody")]
    pub approvals: u32,
    /// What administrators do.
    pub orders: Vec<Order>,
}

/// Something that an administrator does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When.
    pub at_ms: u64,
    /// What.
    pub order: OrderKind,
}

impl Order {
    /// Some rules for automatic quarantine, at some time.
    pub fn any_rules(dice: &mut ChaCha12Rng, at_ms: std::ops::Range<u64>) -> Self {
        let (count, within_s) = (dice.random_range(1..4), dice.random_range(5..40));
        let order = OrderKind::Rules { count, within_s, ttl_s: dice.random_range(1..8) };
        Self { at_ms: dice.random_range(at_ms), order }
    }
}

/// What administrators do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OrderKind {
    /// Block an agent of the spread tenant for some time.
    Quarantine {
        /// The agent's number.
        agent: u32,
        /// How long until it is released, milliseconds.
        for_ms: u64,
    },
    /// Block the whole spread tenant for some time.
    Stop {
        /// How long until it is released, milliseconds; rounded up to seconds where it lapses.
        for_ms: u64,
        /// The order ends by itself, and nobody releases anything.
        lapses: bool,
    },
    /// Change the pace of the spread tenant's agents. Never above the pace of the [`WorkSpec`].
    Pace {
        /// Requests per second.
        rate: u64,
        /// Requests at once.
        burst: u64,
    },
    /// Change the purse of the single tenant. Never above the purse of the [`WorkSpec`].
    Purse {
        /// Credits in a day.
        cap: u64,
    },
    /// Put another policy in force: the first one, or a stricter one.
    Policy {
        /// True for the stricter one.
        strict: bool,
    },
    /// Let the stricter policy decide for some agents, or end that.
    Canary {
        /// Agents of a hundred; 0 ends it.
        percent: u8,
    },
    /// Block an agent of the spread tenant, whose release needs two people.
    Guarded {
        /// The agent's number.
        agent: u32,
        /// How long until the first of them asks for the release, milliseconds.
        for_ms: u64,
    },
    /// Block the session of the agents that ask for approvals.
    HoldSession {
        /// How long until somebody asks for the release, milliseconds.
        for_ms: u64,
        /// How many must; 0 for anybody, or 2.
        approvers: u8,
    },
    /// Block the region of the agents that ask for approvals, for all tenants.
    HoldRegion {
        /// How long until somebody asks for the release, milliseconds.
        for_ms: u64,
        /// How many must; 0 for anybody, or 2.
        approvers: u8,
    },
    /// Quarantine agents of all tenants after so many blocked actions within some time.
    Rules {
        /// Violations; 0 ends the rules.
        count: u8,
        /// Within so many seconds.
        within_s: u64,
        /// How long an agent is held, seconds; 0 for ever.
        ttl_s: u64,
    },
    /// Erase what was said of an agent of the spread tenant, and watch until every key of it is gone.
    Erase {
        /// The agent's number.
        agent: u32,
    },
    /// Go through the oldest entries with their bodies, again and again.
    Read {
        /// How long, milliseconds.
        for_ms: u64,
    },
    /// Keep the spread tenant's bodies so long from now on.
    Keep {
        /// Those of routine actions, seconds.
        routine_s: u64,
        /// Those of all others, seconds.
        notable_s: u64,
    },
    /// Keep an agent of the spread tenant's records whatever their age, for some time.
    LegalHold {
        /// The agent's number.
        agent: u32,
        /// How long until the hold is lifted, milliseconds.
        for_ms: u64,
    },
    /// Turn signing keys, and watch what is published meanwhile.
    RotateKeys {
        /// How long the zone's old key signs beside the new one, seconds.
        overlap_s: u64,
        /// The node whose own key is turned; 0 for the zone's.
        node: u64,
    },
    /// Pack the spread tenant's bodies with a dictionary of its own, or with the built-in one again.
    Dictionary {
        /// True for its own.
        own: bool,
    },
}

impl OrderKind {
    /// A change of policy for all agents or a canary; the time says which of the two, so that the dice of a seed fall as
    /// they did before there were canaries.
    pub fn of_policy(strict: bool, at_ms: u64) -> Self {
        match at_ms % 2 {
            0 => Self::Policy { strict },
            _ => Self::Canary { percent: if strict { (at_ms % 100) as u8 + 1 } else { 0 } },
        }
    }
}

impl Plan {
    /// All nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        (1..=self.fleet.regions.len() as u64).map(NodeId).collect()
    }

    /// The run's length before convergence is awaited.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms)
    }

    /// When the last fault is over.
    pub fn healed_at(&self) -> Duration {
        Duration::from_millis(self.faults.iter().map(Entry::until_ms).max().unwrap_or(0))
    }

    /// True where some fault may cost a disk more than the cluster promises to survive.
    pub fn is_beyond_contract(&self) -> bool {
        self.faults.iter().any(|entry| matches!(entry.fault, Fault::LyingDisk { .. }))
    }

    /// The same plan without some faults.
    pub fn with_faults(&self, faults: Vec<Entry>) -> Self {
        Self { faults, ..self.clone() }
    }

    /// As JSON, for people and files.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is plain data") + "\n"
    }

    /// Reads a plan and refuses what no run could be made of.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text).context("it is not JSON")?;
        match value.get("format").and_then(serde_json::Value::as_str) {
            Some(FORMAT) => {}
            Some(other) => bail!("it is a plan of format {other:?}; this simulator reads {FORMAT:?}"),
            None => bail!("it has no \"format\"; plans begin with {FORMAT:?}"),
        }
        let plan: Self = serde_json::from_value(value).context("it is not a plan")?;
        plan.check()?;
        Ok(plan)
    }

    /// Reads a plan's file.
    #[allow(clippy::disallowed_methods, reason = "plans are files that a person names")]
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::from_json(&text).with_context(|| format!("{} is no plan that can be run", path.display()))
    }

    /// Refuses a plan that no run could be made of, with what is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        let length = SECONDS_MIN * 1_000..=SECONDS_MAX * 1_000;
        ensure!(length.contains(&self.length_ms), "length_ms is {}; {length:?} is possible", self.length_ms);
        self.fleet.check()?;
        self.work.check(self.length_ms)?;
        ensure!(self.faults.len() <= FAULTS_MAX, "{} faults; {FAULTS_MAX} are allowed", self.faults.len());
        let mut ids = BTreeSet::new();
        for entry in &self.faults {
            ensure!(ids.insert(entry.id), "two faults have the id {}", entry.id);
            entry.check(self).with_context(|| format!("fault {}", entry.id))?;
        }
        if let Some(bug) = &self.planted {
            let known = nethical_protocol::probe::PLANTED.iter().any(|(name, _)| name == bug);
            ensure!(known, "no planted bug is called {bug:?}; `nethical-sim mutants --list` names them");
        }
        Ok(())
    }
}

impl FleetSpec {
    fn check(&self) -> anyhow::Result<()> {
        let nodes = self.regions.len();
        ensure!((3..=9).contains(&nodes), "{nodes} nodes; 3 to 9 are possible");
        let regions: BTreeSet<&String> = self.regions.iter().collect();
        ensure!(regions.len() <= 5, "{} regions; 5 are possible", regions.len());
        ensure!((1..=64).contains(&self.partitions), "{} partitions; 1 to 64 are possible", self.partitions);
        ensure!((1..=nodes).contains(&self.replicas), "{} replicas on {nodes} nodes", self.replicas);
        let square = self.latency_ms.len() == nodes && self.latency_ms.iter().all(|row| row.len() == nodes);
        ensure!(square, "latency_ms must have a row and a column for each of the {nodes} nodes");
        ensure!(self.wall_off_ms.len() == nodes, "wall_off_ms must have a number for each of the {nodes} nodes");
        ensure!(self.sync_ms.0 <= self.sync_ms.1, "sync_ms goes from {} down to {}", self.sync_ms.0, self.sync_ms.1);
        let (least, greatest) = self.election_ms;
        let ordered = 0 < self.heartbeat_ms && self.heartbeat_ms < least && least < greatest;
        ensure!(ordered, "heartbeat_ms < election_ms[0] < election_ms[1] does not hold");
        Ok(())
    }
}

impl WorkSpec {
    fn asks_nobody(askers: &u32) -> bool {
        *askers == 0
    }

    fn check(&self, length_ms: u64) -> anyhow::Result<()> {
        ensure!((1..=200).contains(&self.clients), "{} clients; 1 to 200 are possible", self.clients);
        ensure!(self.approvals <= 50, "{} agents ask for approvals; 50 are possible", self.approvals);
        ensure!((1..=100).contains(&self.batch_max), "batch_max is {}; 1 to 100 are possible", self.batch_max);
        ensure!(
            self.pause_ms.0 <= self.pause_ms.1,
            "pause_ms goes from {} down to {}",
            self.pause_ms.0,
            self.pause_ms.1
        );
        ensure!(self.spread_agents > 0 && self.single_agents > 0, "both tenants need an agent");
        ensure!(self.pace.0 > 0 && self.pace.1 > 0 && self.purse > 0, "pace and purse must be positive");
        let fleet = self.fleet.unwrap_or((1, 1));
        ensure!(fleet.0 > 0 && fleet.1 > 0, "the fleet's budget and its window must be positive");
        for Order { at_ms, order } in &self.orders {
            ensure!(*at_ms < length_ms, "an order at {at_ms} ms is after the end of the run");
            match order {
                OrderKind::Quarantine { agent, .. }
                | OrderKind::Guarded { agent, .. }
                | OrderKind::Erase { agent }
                | OrderKind::LegalHold { agent, .. } => {
                    ensure!(*agent < self.spread_agents, "there is no agent {agent}");
                }
                OrderKind::Pace { rate, burst } => {
                    let within = (1..=self.pace.0).contains(rate) && (1..=self.pace.1).contains(burst);
                    ensure!(within, "an order sets a pace of {rate} and {burst} above {:?}", self.pace);
                }
                OrderKind::Purse { cap } => {
                    ensure!((1..=self.purse).contains(cap), "an order sets a purse of {cap} above {}", self.purse);
                }
                OrderKind::Canary { percent } => {
                    ensure!(*percent <= 100, "an order sets a canary of {percent} percent");
                }
                OrderKind::HoldSession { approvers, .. } | OrderKind::HoldRegion { approvers, .. } => {
                    ensure!([0, 2].contains(approvers), "{approvers} people release; 0 and 2 are possible");
                }
                OrderKind::Rules { count, within_s, .. } => {
                    ensure!(*count <= 10 && *within_s > 0, "an order counts {count} violations within {within_s} s");
                }
                OrderKind::Keep { routine_s, notable_s } => {
                    ensure!(*routine_s > 0 && *notable_s > 0, "an order keeps bodies for no time");
                }
                OrderKind::RotateKeys { overlap_s, .. } => {
                    ensure!(*overlap_s <= 600, "an order has two keys overlap for {overlap_s} s");
                }
                OrderKind::Read { for_ms } => ensure!(*for_ms < length_ms, "an order reads for {for_ms} ms"),
                OrderKind::Policy { .. } | OrderKind::Stop { .. } | OrderKind::Dictionary { .. } => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm;

    #[test]
    fn a_plan_survives_its_file() {
        for seed in 0..200 {
            let plan = swarm::draw(seed, 60);
            plan.check().unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
            assert_eq!(Plan::from_json(&plan.to_json()).expect("a written plan reads"), plan);
        }
    }

    #[test]
    fn what_no_run_can_be_made_of_is_refused_with_the_reason() {
        let text = swarm::draw(1, 60).to_json();
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not in the plan");
            format!("{:#}", Plan::from_json(&text.replacen(from, to, 1)).expect_err("it must be refused"))
        };
        assert!(refused("plan/1", "plan/7").contains("nethical-sim-plan/7"));
        assert!(refused("\"clients\"", "\"customers\"").contains("unknown field `customers`"));
        assert!(refused("\"length_ms\": 60000", "\"length_ms\": 5").contains("length_ms is 5"));
        assert!(format!("{:#}", Plan::from_json("{]").expect_err("not JSON")).contains("not JSON"));
        assert!(format!("{:#}", Plan::from_json("{}").expect_err("no format")).contains("has no \"format\""));
    }
}
