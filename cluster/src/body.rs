//! What is sealed behind a leaf: the action with its typed evaluation, or the words of a hold-order.
//!
//! rkyv inside the protocol's frame, so that old bodies stay readable: kind and version are checked first.

use nethical_governance::command::EvaluationV1;
use nethical_protocol::action::Action;
use nethical_protocol::control::HoldSpec;
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
        /// As the door decoded it.
        action: Action,
        /// As the actor found it.
        evaluation: EvaluationV1,
    },
    /// A hold-order with its reason.
    Hold(HoldSpec),
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
            Self::Decision { action, .. } => serde_json::json!({
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
            }),
        }
    }
}
