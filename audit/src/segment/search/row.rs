//! What the search index knows of each leaf, gathered while a segment is written: a few numbers in a row.
//!
//! An open segment is searched in its rows; when it is closed they become its index. 48 B a leaf and 16 B for each rule
//! that a leaf names, so 3 MiB and, with one rule a decision, 1 MiB more for a full segment; 11 MiB at the most.

use nethical_protocol::ids::KeyedId;

use super::posting::Dimension;
use crate::filter::{Filter, RISK_MAX, owner_of};
use crate::leaf::{LeafEvent, LeafV1};

/// Buckets that risks fall into.
pub const RISK_BUCKETS: u16 = 32;
/// Stands for "no verdict", "no risk".
const NO_VERDICT: u8 = u8::MAX;
const NO_RISK: u16 = u16::MAX;

/// One leaf. Keys are 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    at_ns: u64,
    tenant: u64,
    agent: u64,
    session: u64,
    tool: u64,
    risk: u16,
    verdict: u8,
    kind: u8,
}

/// The leaves of a segment so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    rows: Vec<Row>,
    /// (place of the leaf in the segment, rule), in order of places.
    rules: Vec<(u32, u64)>,
}

/// The key by which the index knows a keyed id: its first 8 bytes, which are as good as random. 0 stands for none alone.
pub(super) fn key_of(id: KeyedId) -> u64 {
    if id.is_none() { 0 } else { rule_key(*id.0.first_chunk().expect("16 bytes begin with 8")) }
}

/// The same of the first bytes of a rule's hash.
pub(super) fn rule_key(rule: [u8; 8]) -> u64 {
    u64::from_be_bytes(rule).max(1)
}

/// The bucket of a risk.
pub fn bucket_of(risk: u16) -> u16 {
    // At most 1000 × 32, which fits.
    risk.min(RISK_MAX) * RISK_BUCKETS / (RISK_MAX + 1)
}

impl Rows {
    /// Takes the next leaf in. One that does not decode is found by its place alone.
    pub fn push(&mut self, leaf: &[u8]) {
        let row = match LeafV1::decode(leaf) {
            Ok(leaf) => self.row_of(&leaf),
            Err(_) => {
                let (risk, verdict) = (NO_RISK, NO_VERDICT);
                Row { at_ns: 0, tenant: 0, agent: 0, session: 0, tool: 0, risk, verdict, kind: 0 }
            }
        };
        self.rows.push(row);
    }

    /// Leaves.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True before the first leaf.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row_of(&mut self, leaf: &LeafV1) -> Row {
        let (tenant, agent) = owner_of(&leaf.event);
        let mut row = Row {
            at_ns: leaf.now_ns,
            tenant: key_of(tenant),
            agent: key_of(agent),
            session: 0,
            tool: 0,
            risk: NO_RISK,
            verdict: NO_VERDICT,
            kind: leaf.event.kind_byte(),
        };
        if let LeafEvent::Decision(found) = &leaf.event {
            (row.session, row.tool) = (key_of(found.session), key_of(found.tool));
            (row.risk, row.verdict) = (found.risk, found.verdict);
            let place = self.rows.len() as u32;
            self.rules.extend(found.rules.iter().map(|rule| (place, rule_key(*rule))));
        }
        row
    }

    /// (key, place) of each leaf that has one, sorted. A rule named twice by one leaf counts once.
    pub(super) fn pairs(&self, dimension: Dimension) -> Vec<(u64, u16)> {
        let mut pairs: Vec<(u64, u16)> = match dimension {
            Dimension::Rule => self.rules.iter().map(|(place, rule)| (*rule, *place as u16)).collect(),
            dimension => {
                let keyed = self.rows.iter().enumerate();
                let key = |(place, row): (usize, &Row)| Some((row.key(dimension)?, place as u16));
                keyed.filter_map(key).collect()
            }
        };
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Least and greatest log time and risk of some leaves; of no risk the least is above the greatest.
    pub(super) fn zone(&self, places: std::ops::Range<usize>) -> super::zone::Zone {
        let mut zone = super::zone::Zone::EMPTY;
        for row in self.rows.get(places).unwrap_or_default() {
            zone.take(row.at_ns, (row.risk != NO_RISK).then_some(row.risk));
        }
        zone
    }

    /// The places of leaves that may match, in order, before `end`. Exact but for ids, of which 8 bytes are compared.
    pub fn find(&self, filter: &Filter, places: std::ops::Range<usize>) -> Vec<u32> {
        let Some((first, last)) = filter.times() else { return Vec::new() };
        let (least, most) = filter.risks();
        let keys = [filter.tenant, filter.agent, filter.session, filter.tool].map(|id| id.map(key_of));
        let fits = |row: &Row| {
            let own = [row.tenant, row.agent, row.session, row.tool];
            (first..=last).contains(&row.at_ns)
                && keys.iter().zip(own).all(|(wanted, own)| wanted.is_none_or(|wanted| wanted == own))
                && filter.verdict.is_none_or(|verdict| verdict == row.verdict)
                && filter.kind.is_none_or(|kind| kind == row.kind)
                && (!filter.asks_risk() || (least..=most).contains(&row.risk))
                && (!filter.is_about_decisions() || row.risk != NO_RISK)
        };
        let begin = places.start;
        let rows = self.rows.get(places).unwrap_or_default();
        let found = rows.iter().enumerate().filter(|(_, row)| fits(row)).map(|(at, _)| (begin + at) as u32);
        match filter.rule {
            None => found.collect(),
            Some(rule) => found.filter(|place| self.names(*place, rule_key(rule))).collect(),
        }
    }

    fn names(&self, place: u32, rule: u64) -> bool {
        let from = self.rules.partition_point(|(at, _)| *at < place);
        self.rules[from..].iter().take_while(|(at, _)| *at == place).any(|(_, named)| *named == rule)
    }
}

impl Row {
    fn key(&self, dimension: Dimension) -> Option<u64> {
        let id = |key: u64| (key != 0).then_some(key);
        match dimension {
            Dimension::Tenant => id(self.tenant),
            Dimension::Agent => id(self.agent),
            Dimension::Session => id(self.session),
            Dimension::Tool => id(self.tool),
            Dimension::Verdict => (self.verdict != NO_VERDICT).then_some(u64::from(self.verdict)),
            Dimension::Risk => (self.risk != NO_RISK).then(|| u64::from(bucket_of(self.risk))),
            Dimension::Kind => (self.kind != 0).then_some(u64::from(self.kind)),
            Dimension::Rule => None,
        }
    }
}
