//! What an entry of the trail must be to be found. Judged exactly, on the decoded leaf; indexes only narrow down.
//!
//! Pure. Names never get here: callers turn them into keyed ids and hashes first.

use nethical_protocol::ids::KeyedId;

use crate::leaf::{LeafEvent, LeafV1};

/// The greatest risk that a leaf may have.
pub const RISK_MAX: u16 = 1_000;

/// All that is set must hold. Empty: every leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The tenant.
    pub tenant: Option<KeyedId>,
    /// The agent.
    pub agent: Option<KeyedId>,
    /// The session of a decision.
    pub session: Option<KeyedId>,
    /// The action's name of a decision.
    pub tool: Option<KeyedId>,
    /// Log time, nanoseconds since 1970, from here on …
    pub from_ns: Option<u64>,
    /// … and before here.
    pub to_ns: Option<u64>,
    /// A decision's final verdict, position in `Verdict::ALL`.
    pub verdict: Option<u8>,
    /// A decision's risk, 0..=1000, from here on …
    pub risk_min: Option<u16>,
    /// … up to here, included.
    pub risk_max: Option<u16>,
    /// Among a decision's rules: first 8 bytes of SHA-256 of its id.
    pub rule: Option<[u8; 8]>,
    /// Kind byte of the leaf.
    pub kind: Option<u8>,
}

impl Filter {
    /// True where the leaf is one of those.
    pub fn matches(&self, leaf: &LeafV1) -> bool {
        let (tenant, agent) = owner_of(&leaf.event);
        self.is_time(leaf.now_ns)
            && self.kind.is_none_or(|kind| kind == leaf.event.kind_byte())
            && self.tenant.is_none_or(|wanted| wanted == tenant)
            && self.agent.is_none_or(|wanted| wanted == agent)
            && (!self.is_about_decisions() || self.matches_decision(&leaf.event))
    }

    /// True where something is asked that only decisions have.
    pub fn is_about_decisions(&self) -> bool {
        let ids = self.session.is_some() || self.tool.is_some() || self.rule.is_some();
        ids || self.verdict.is_some() || self.asks_risk()
    }

    /// True where a risk is asked.
    pub fn asks_risk(&self) -> bool {
        self.risk_min.is_some() || self.risk_max.is_some()
    }

    /// The risks asked, both ends included.
    pub fn risks(&self) -> (u16, u16) {
        (self.risk_min.unwrap_or(0), self.risk_max.unwrap_or(RISK_MAX))
    }

    /// The log times asked, both ends included; `None` where there is no such time.
    pub fn times(&self) -> Option<(u64, u64)> {
        let first = self.from_ns.unwrap_or(0);
        let last = self.to_ns.map_or(Some(u64::MAX), |to| to.checked_sub(1))?;
        (first <= last).then_some((first, last))
    }

    fn is_time(&self, now_ns: u64) -> bool {
        self.times().is_some_and(|(first, last)| (first..=last).contains(&now_ns))
    }

    fn matches_decision(&self, event: &LeafEvent) -> bool {
        let LeafEvent::Decision(found) = event else { return false };
        let (least, most) = self.risks();
        self.session.is_none_or(|wanted| wanted == found.session)
            && self.tool.is_none_or(|wanted| wanted == found.tool)
            && self.verdict.is_none_or(|wanted| wanted == found.verdict)
            && self.rule.is_none_or(|wanted| found.rules.contains(&wanted))
            && (!self.asks_risk() || (least..=most).contains(&found.risk))
    }
}

/// Tenant and agent of an event, or none.
pub fn owner_of(event: &LeafEvent) -> (KeyedId, KeyedId) {
    event.agent().map_or((KeyedId::NONE, KeyedId::NONE), |(_, tenant, agent)| (tenant, agent))
}
