//! Counting decisions of a tenant over a window of log time, in one group, as the group's leader does it.
//!
//! Leaves alone are read: keyed ids and numbers, no body is opened. The cells are known before a leaf is looked at, so that
//! which cells there are tells nothing. Reads only, and a bounded number of leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_governance::detect;
use nethical_governance::outcome::RiskTier;
use nethical_governance::policy::rule_hash;
use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, KeyedId};
use nethical_protocol::limits::{AGGREGATE_CLOSED_AFTER_MS, AGGREGATE_LEAVES_MAX};
use nethical_protocol::privacy::{AggregateBy, EXPORT_SUBJECT, OTHER_CELL};

use crate::administer::lead_of;
use crate::control::view::Tenant;
use crate::message::{CountAnswerV1, CountAskV1};
use crate::node::Core;
use crate::replay::first_at;

/// Leaves read at once.
const READ_LEAVES: u64 = 512;
/// Width of a cell of risk scores, and how many there are; the last one takes 1,000 too.
const RISK_CELL: u16 = 100;
const RISK_CELLS: usize = 10;

/// The cells that there are, in order, whatever was decided. `named` are those of which only the caller or the bundle knows.
pub fn cells(by: AggregateBy, named: &[String]) -> Vec<String> {
    let words = |words: &mut dyn Iterator<Item = &'static str>| words.map(str::to_owned).collect();
    match by {
        AggregateBy::Verdict => words(&mut Verdict::ALL.iter().map(|verdict| verdict.as_str())),
        AggregateBy::Kind => words(&mut ActionKind::ALL.iter().map(|kind| kind.as_str())),
        AggregateBy::Tier => words(&mut RiskTier::ALL.iter().map(|tier| tier.as_str())),
        AggregateBy::Status => words(&mut AgentStatus::ALL.iter().map(|status| status.as_str())),
        AggregateBy::Risk => (0..RISK_CELLS as u16).map(risk_cell).collect(),
        AggregateBy::Detector => words(&mut detectors().map(detect::name)),
        AggregateBy::Rule | AggregateBy::Tool | AggregateBy::Cohort | AggregateBy::Region => {
            named.iter().cloned().chain([OTHER_CELL.to_owned()]).collect()
        }
    }
}

fn risk_cell(place: u16) -> String {
    let (first, last) = (place * RISK_CELL, place * RISK_CELL + RISK_CELL - 1);
    let last = if usize::from(place) + 1 == RISK_CELLS { last + 1 } else { last };
    format!("{first}-{last}")
}

/// The numbers of all detectors of this release.
fn detectors() -> impl Iterator<Item = u8> {
    (1..=u8::MAX).filter(|number| detect::number(detect::name(*number)) == Some(*number))
}

/// Adds decisions up by cell.
pub struct Counter {
    by: AggregateBy,
    tenant: KeyedId,
    exporter: KeyedId,
    /// Places of cells by what leaves have in them.
    places: BTreeMap<[u8; 16], usize>,
    counts: Vec<u64>,
    /// What each agent has added so far, and may add; no bound where the second is `None`.
    added: BTreeMap<KeyedId, u32>,
    per_agent_max: Option<u32>,
}

impl Counter {
    /// A counter of a tenant's decisions, all zero.
    pub fn new(tenant: &Tenant, by: AggregateBy, named: &[String], per_agent_max: Option<u32>) -> Self {
        let id_of = |name: &String| match by {
            AggregateBy::Tool => tenant.keys.keyed_id("tool", name).0,
            AggregateBy::Cohort => tenant.keys.keyed_id("cohort", name).0,
            AggregateBy::Region => tenant.keys.keyed_id("region", name).0,
            _ => wide(rule_hash(name)),
        };
        let by_name = named.iter().enumerate().map(|(place, name)| (id_of(name), place));
        let places = match by {
            AggregateBy::Detector => detectors().enumerate().map(|(place, number)| ([number; 16], place)).collect(),
            _ => by_name.collect(),
        };
        Self {
            by,
            tenant: tenant.id,
            exporter: tenant.keys.keyed_id("agent", EXPORT_SUBJECT),
            places,
            counts: vec![0; cells(by, named).len()],
            added: BTreeMap::new(),
            per_agent_max,
        }
    }

    /// Counts a decision, where it is one of the tenant's agents.
    pub fn see(&mut self, found: &DecisionLeaf) {
        if found.tenant != self.tenant || found.agent == self.exporter {
            return;
        }
        let named = |id: [u8; 16]| self.places.get(&id).copied().unwrap_or(self.counts.len() - 1);
        let places: Vec<usize> = match self.by {
            AggregateBy::Verdict => vec![usize::from(found.verdict)],
            AggregateBy::Kind => vec![usize::from(found.action_kind)],
            AggregateBy::Tier => vec![usize::from(found.tier)],
            AggregateBy::Status => vec![usize::from(found.status)],
            AggregateBy::Risk => vec![usize::from(found.risk / RISK_CELL).min(RISK_CELLS - 1)],
            AggregateBy::Detector => {
                found.detections.iter().filter_map(|(number, _)| self.places.get(&[*number; 16]).copied()).collect()
            }
            AggregateBy::Rule => found.rules.iter().map(|rule| named(wide(*rule))).collect(),
            AggregateBy::Tool => vec![named(found.tool.0)],
            AggregateBy::Cohort => vec![named(found.cohort.0)],
            AggregateBy::Region => vec![named(found.region.0)],
        };
        let left = match self.per_agent_max {
            None => usize::MAX,
            Some(most) => {
                let added = self.added.entry(found.agent).or_default();
                let left = most.saturating_sub(*added);
                *added += left.min(places.len() as u32);
                left as usize
            }
        };
        for place in places.into_iter().take(left) {
            if let Some(count) = self.counts.get_mut(place) {
                *count += 1;
            }
        }
    }

    /// What was counted, one number a cell.
    pub fn counts(self) -> Vec<u64> {
        self.counts
    }
}

fn wide(rule: [u8; 8]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&rule);
    out
}

/// Counts, where this node leads the group.
pub async fn on_count(core: Arc<Core>, ask: CountAskV1) -> Bytes {
    let group = GroupId(ask.group);
    if let Err(hint) = lead_of(&core, group) {
        return CountAnswerV1::NotLeader(hint).to_bytes();
    }
    let answer = match count_here(&core, group, &ask).await {
        Ok(counts) => CountAnswerV1::Counts(counts),
        Err(problem) => CountAnswerV1::Problem(problem),
    };
    answer.to_bytes()
}

async fn count_here(core: &Core, group: GroupId, ask: &CountAskV1) -> Result<Vec<u64>, Problem> {
    let closed_ns = core.shared.world.clock.wall_ns().saturating_sub(AGGREGATE_CLOSED_AFTER_MS / 2 * 1_000_000);
    if ask.to_ns > closed_ns {
        return Err(Problem::new(Code::NotReady, "the window is not over by this node's clock").retry_after_ms(1_000));
    }
    let missing = || Problem::new(Code::NotReady, "the tenant has not reached this node yet").retry_after_ms(200);
    let tenant = core.shared.view().tenant(&ask.tenant).cloned().ok_or_else(missing)?;
    let mut counter = Counter::new(&tenant, ask.by, &ask.cells, ask.per_agent_max);
    let start = first_at(core, group, ask.from_ns).await?;
    let mut at = start;
    loop {
        // From this replica alone: it leads, so nobody knows more.
        let gone = || Problem::new(Code::NotLeader, "the replica is gone").retry_after_ms(200);
        let found = core.leaves_here(group, at, READ_LEAVES).await.ok_or_else(gone)??;
        for (bytes, _) in &found.records {
            let broken = |_| Problem::new(Code::Internal, format!("leaf {at} of group {group} does not read"));
            let leaf = LeafV1::decode(bytes).map_err(broken)?;
            if leaf.now_ns >= ask.to_ns {
                return Ok(counter.counts());
            }
            if let LeafEvent::Decision(decided) = &leaf.event {
                counter.see(decided);
            }
            at += 1;
        }
        if found.records.is_empty() {
            return match at >= found.size {
                true => Ok(counter.counts()),
                false => Err(Problem::new(Code::NotReady, "leaves are on their way here").retry_after_ms(500)),
            };
        }
        if at - start >= AGGREGATE_LEAVES_MAX {
            let detail = format!("group {group} has more than {AGGREGATE_LEAVES_MAX} leaves in the window; narrow it");
            return Err(Problem::new(Code::TooLarge, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use nethical_audit::keys::TenantKeys;
    use nethical_protocol::control::TenantSpec;

    use super::*;

    fn tenant() -> Tenant {
        Tenant { spec: TenantSpec::named("t"), keys: TenantKeys::new(&[7; 32]), id: KeyedId([1; 16]) }
    }

    fn of(agent: &str) -> DecisionLeaf {
        let keys = tenant().keys;
        DecisionLeaf {
            tenant: KeyedId([1; 16]),
            agent: keys.keyed_id("agent", agent),
            tool: keys.keyed_id("tool", "search"),
            verdict: 3,
            risk: 1_000,
            tier: 3,
            rules: vec![rule_hash("r1"), rule_hash("r9")],
            detections: vec![(detect::SSN, 900), (detect::IP, 100), (255, 1)],
            ..DecisionLeaf::default()
        }
    }

    fn counted(
        by: AggregateBy,
        named: &[&str],
        per_agent_max: Option<u32>,
        leaves: &[DecisionLeaf],
    ) -> Vec<(String, u64)> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        let mut counter = Counter::new(&tenant(), by, &named, per_agent_max);
        leaves.iter().for_each(|leaf| counter.see(leaf));
        let counts = counter.counts();
        let cells = cells(by, &named);
        assert_eq!(cells.len(), counts.len());
        cells.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    fn pair(cell: &str, count: u64) -> (String, u64) {
        (cell.to_owned(), count)
    }

    #[test]
    fn each_decision_counts_where_it_belongs() {
        let one = [of("a")];
        let of_by = |by, named: &[&str]| counted(by, named, None, &one);
        assert_eq!(of_by(AggregateBy::Verdict, &[]), [pair("block", 1)]);
        assert_eq!(of_by(AggregateBy::Kind, &[]), [pair("tool_call", 1)]);
        assert_eq!(of_by(AggregateBy::Tier, &[]), [pair("elevated", 1)]);
        assert_eq!(of_by(AggregateBy::Status, &[]), [pair("active", 1)]);
        assert_eq!(of_by(AggregateBy::Risk, &[]), [pair("900-1000", 1)]);
        assert_eq!(of_by(AggregateBy::Detector, &[]), [pair("ssn", 1), pair("ip", 1)], "255 is of a later release");
        assert_eq!(of_by(AggregateBy::Rule, &["r1", "r2"]), [pair("r1", 1), pair(OTHER_CELL, 1)]);
        assert_eq!(of_by(AggregateBy::Tool, &["search", "shell"]), [pair("search", 1)]);
        assert_eq!(of_by(AggregateBy::Cohort, &["gold"]), [pair(OTHER_CELL, 1)]);
    }

    #[test]
    fn other_tenants_and_exports_themselves_are_left_out() {
        let leaves = [of("a"), DecisionLeaf { tenant: KeyedId([2; 16]), ..of("a") }, of(EXPORT_SUBJECT)];
        assert_eq!(counted(AggregateBy::Verdict, &[], None, &leaves), [pair("block", 1)]);
    }

    /// The sensitivity that the noise is made for: one agent more changes all counts together by `per_agent_max` at most.
    #[test]
    fn one_agent_adds_no_more_than_its_bound_over_all_cells() {
        let others: Vec<DecisionLeaf> = (0..40).map(|n| of(&format!("a{}", n % 4))).collect();
        let mut with = others.clone();
        (0..100).for_each(|n| with.insert(n / 3, DecisionLeaf { verdict: (n % 5) as u8, ..of("whale") }));
        for by in [AggregateBy::Verdict, AggregateBy::Rule, AggregateBy::Detector] {
            for most in [1, 3, 8] {
                let sum = |leaves: &[DecisionLeaf]| {
                    let mut counter = Counter::new(&tenant(), by, &["r1".to_owned()], Some(most));
                    leaves.iter().for_each(|leaf| counter.see(leaf));
                    counter.counts()
                };
                let change: u64 = sum(&with).iter().zip(sum(&others)).map(|(one, other)| one.abs_diff(other)).sum();
                assert_eq!(change, u64::from(most), "{by:?} {most}");
            }
        }
    }

    #[test]
    fn numbers_beyond_the_cells_count_nowhere() {
        assert_eq!(counted(AggregateBy::Verdict, &[], None, &[DecisionLeaf { verdict: 77, ..of("a") }]), []);
    }
}
