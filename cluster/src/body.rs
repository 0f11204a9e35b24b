//! What is sealed behind a leaf: the action with its typed evaluation, or the words of a hold-order.
//!
//! rkyv inside the protocol's frame, so that old bodies stay readable: kind and version are checked first.

use nethical_governance::command::EvaluationV1;
use nethical_governance::outcome::RiskTier;
use nethical_governance::policy::{AgentFacts, Bundle};
use nethical_governance::quota::band::Band;
use nethical_protocol::action::Action;
use nethical_protocol::control::{HoldSpec, Redaction};
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::frame;
use rkyv::rancor::Error;

/// Frame kind of a body.
pub const KIND_BODY: u16 = 60;

/// A body's content.
#[allow(clippy::large_enum_variant, reason = "built or read once and never kept in numbers")]
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum BodyV1 {
    /// A decision: what was asked and what was found, so that it can be evaluated again.
    Decision {
        /// As the door decoded it, or redacted.
        action: Action,
        /// As the actor found it.
        evaluation: EvaluationV1,
        /// What policy could see of the agent.
        seen: SeenV1,
        /// What the candidate in the shadow said; `None` where there was none.
        shadow: Option<ShadowV1>,
        /// Version of the detectors that looked at it.
        detectors: u16,
        /// What was cut out of the action before it was sealed; `None` where it is as the door decoded it.
        redacted: Option<RedactedV1>,
    },
    /// A hold-order with its reason.
    Hold(HoldSpec),
    /// A person's word on an approval.
    Word(WordsV1),
}

/// Who decided on an approval, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WordsV1 {
    /// Approve, or deny.
    pub approves: bool,
    /// Who says so.
    pub approver: String,
    /// Why.
    pub reason: String,
}

/// What policy could see of an agent and its limits when its action was evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SeenV1 {
    /// Where it stood.
    pub status: AgentStatus,
    /// Its risk tier.
    pub tier: RiskTier,
    /// Raised by every change of state.
    pub epoch: u64,
    /// The room under each limit that a bundle in force, the canary or the shadow names, by id.
    pub bands: Vec<(String, Band)>,
}

impl SeenV1 {
    /// The first limit that a bundle names and that nobody looked at then.
    pub fn lacks<'b>(&self, bundle: &'b Bundle) -> Option<&'b String> {
        bundle.limits_named().iter().find(|limit| self.band(limit).is_none())
    }

    /// The room under the limits that a bundle names, in its order.
    pub fn bands_for(&self, bundle: &Bundle) -> Vec<Band> {
        bundle.limits_named().iter().map(|limit| self.band(limit).unwrap_or_default()).collect()
    }

    fn band(&self, limit: &str) -> Option<Band> {
        self.bands.iter().find(|(named, _)| named == limit).map(|(_, band)| *band)
    }
}

impl From<&SeenV1> for AgentFacts {
    fn from(seen: &SeenV1) -> Self {
        Self { status: seen.status, tier: seen.tier, epoch: seen.epoch }
    }
}

/// What a redacted action does not show any more and policy has read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RedactedV1 {
    /// The tenant's storage policy at that time.
    pub policy: Redaction,
    /// The largest amount in the arguments.
    pub amount: u64,
    /// Bytes of arguments and context.
    pub bytes: u64,
    /// The resource's id was cut: policy about this resource cannot be evaluated again.
    pub resource_cut: bool,
}

/// What a candidate bundle said beside the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ShadowV1 {
    /// SHA-256 of the candidate's text.
    pub digest: [u8; 32],
    /// Its verdict.
    pub verdict: Verdict,
    /// The rules that determined it, as in an evaluation.
    pub rules: Vec<[u8; 8]>,
}

impl BodyV1 {
    /// The plaintext to seal.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, Vec::with_capacity(1_024));
        frame::encode(KIND_BODY, 0, &bytes.expect("encoding into memory cannot fail"))
    }

    /// Reads an opened body.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (header, body, _) = frame::decode(bytes).map_err(|error| error.to_string())?;
        match header.kind {
            KIND_BODY => rkyv::from_bytes::<Self, Error>(body).map_err(|error| error.to_string()),
            other => Err(format!("frame kind {other} is no body")),
        }
    }

    /// For people: the action or the hold-order as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Hold(spec) => serde_json::to_value(spec).unwrap_or_default(),
            Self::Word(words) => serde_json::to_value(words).unwrap_or_default(),
            Self::Decision { action, shadow, detectors, redacted, .. } => serde_json::json!({
                "request_id": action.request_id,
                "tenant": action.tenant,
                "agent": action.agent,
                "session": action.session,
                "cohort": action.cohort,
                "region": action.region,
                "kind": action.kind.as_str(),
                "name": action.name,
                "resource": { "type": action.resource_type, "id": action.resource_id },
                "args": serde_json::from_str::<serde_json::Value>(&action.args_json).unwrap_or_default(),
                "context": serde_json::from_str::<serde_json::Value>(&action.context_json).unwrap_or_default(),
                "cost": action.cost,
                "detectors_version": detectors,
                "redaction": redacted.map_or(Redaction::None, |redacted| redacted.policy).as_str(),
                "approval": action.approval,
                "shadow": shadow.as_ref().map(|shadow| serde_json::json!({
                    "digest": hex::encode(shadow.digest),
                    "verdict": shadow.verdict.as_str(),
                    "rules": shadow.rules.iter().map(hex::encode).collect::<Vec<_>>(),
                })),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_keeps_all_that_policy_saw_and_what_the_shadow_said() {
        let action = Action {
            request_id: "r".into(),
            client_chosen: true,
            issued_at_ms: 1,
            tenant: "t".into(),
            agent: "a".into(),
            session: String::new(),
            cohort: String::new(),
            region: String::new(),
            kind: nethical_protocol::action::ActionKind::Message,
            name: "reply".into(),
            resource_type: String::new(),
            resource_id: String::new(),
            args_json: "{}".into(),
            context_json: "{}".into(),
            cost: Vec::new(),
            explain: false,
            approval: String::new(),
            is_critical: false,
            wants_receipt: false,
        };
        let bands = vec![("daily".to_owned(), Band::Low)];
        let seen = SeenV1 { status: AgentStatus::Restricted, tier: RiskTier::High, epoch: 7, bands };
        let shadow = ShadowV1 { digest: [1; 32], verdict: Verdict::Escalate, rules: vec![[2; 8]] };
        let redacted = Some(RedactedV1 { policy: Redaction::Minimal, amount: 5, bytes: 6, resource_cut: true });
        let evaluation = EvaluationV1::default();
        let body = BodyV1::Decision { action, evaluation, seen, shadow: Some(shadow), detectors: 2, redacted };
        assert_eq!(BodyV1::from_bytes(&body.to_bytes()), Ok(body.clone()));
        assert_eq!(body.to_json()["shadow"]["verdict"], "escalate");
        assert_eq!(body.to_json()["redaction"], "minimal");
        assert!(BodyV1::from_bytes(&body.to_bytes()[..40]).is_err());
    }
}
