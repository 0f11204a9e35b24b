//! An action as the cluster handles it: what a door has decoded and bounded, whichever protocol it came by.
//!
//! The text forms are AuthZEN's subject/action/resource/context at the HTTP door; this is the flat inner form that
//! travels in frames. Nothing in here decides anything.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem};
use crate::ids::DecisionId;
use crate::limits;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// What sort of thing the agent wants to do.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, rkyv::Archive,
            rkyv::Serialize, rkyv::Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        #[rkyv(compare(PartialEq), derive(Debug, Clone, Copy))]
        pub enum ActionKind { $($(#[$doc])* $variant,)* }

        impl ActionKind {
            /// All kinds; the position is the kind's number in leaves.
            pub const ALL: &'static [ActionKind] = &[$(ActionKind::$variant,)*];

            /// The JSON word.
            pub fn as_str(self) -> &'static str { match self { $(ActionKind::$variant => $text,)* } }

            /// From the JSON word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(ActionKind::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    /// The agent calls a tool.
    ToolCall = "tool_call";
    /// The agent sends text to a person or another system.
    Message = "message";
    /// The agent calls a model.
    ModelCall = "model_call";
    /// The agent runs code.
    CodeExecution = "code_execution";
    /// The agent reads or writes data.
    DataAccess = "data_access";
    /// The agent hands work to another agent.
    Delegation = "delegation";
    /// The agent starts, stops or changes itself.
    Lifecycle = "lifecycle";
}

/// An amount of one unit, for quotas. Integers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Cost {
    /// `requests`, `tokens.input`, `usd_micros` …
    pub unit: String,
    /// How much of it; 0 asks whether there is any left and charges nothing.
    pub amount: u64,
    /// 0: charged at once. Otherwise it is reserved, for at most so many seconds until the outcome is told.
    #[serde(default, skip_serializing_if = "Cost::is_charged")]
    pub ttl_s: u64,
}

impl Cost {
    /// A cost that is charged at once.
    pub fn charged(unit: impl Into<String>, amount: u64) -> Self {
        Self { unit: unit.into(), amount, ttl_s: 0 }
    }

    fn is_charged(ttl_s: &u64) -> bool {
        *ttl_s == 0
    }
}

/// One action, decoded and bounded. Every text is UTF-8; `args_json` and `context_json` hold one JSON object each.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Action {
    /// The idempotency key.
    pub request_id: String,
    /// False where the door made the id: then a resend is a new action.
    pub client_chosen: bool,
    /// The time inside the id (UUIDv7, ULID) or stated beside it, in milliseconds since 1970.
    pub issued_at_ms: u64,
    /// The tenant, from the credential (in a development cluster from the body).
    pub tenant: String,
    /// The agent that acts.
    pub agent: String,
    /// Empty where the agent named no session.
    pub session: String,
    /// Empty where the agent belongs to no cohort.
    pub cohort: String,
    /// The region that the client says it acts in; empty for the door's own.
    pub region: String,
    /// What sort of action.
    pub kind: ActionKind,
    /// The tool, message channel, model … by name.
    pub name: String,
    /// Empty where the action touches no resource.
    pub resource_type: String,
    /// Empty where the action touches no resource.
    pub resource_id: String,
    /// The arguments: one JSON object.
    pub args_json: String,
    /// The context: one JSON object.
    pub context_json: String,
    /// Costs beside the implicit `requests: 1`.
    pub cost: Vec<Cost>,
    /// Answer with risk factors and the rules that matched.
    pub explain: bool,
    /// The decision id of the approval that the action claims; empty for none. Not part of what was approved.
    pub approval: String,
    /// It may take what limits keep back for what is critical.
    pub is_critical: bool,
    /// Answer with a proof that the decision is in the log. Not part of what is decided.
    pub wants_receipt: bool,
}

impl Action {
    /// Bytes that the action's texts take, for bounds and batching.
    pub fn text_bytes(&self) -> usize {
        [
            &self.request_id,
            &self.tenant,
            &self.agent,
            &self.session,
            &self.cohort,
            &self.region,
            &self.name,
            &self.resource_type,
            &self.resource_id,
            &self.args_json,
            &self.context_json,
            &self.approval,
        ]
        .iter()
        .map(|text| text.len())
        .sum::<usize>()
            + self.cost.iter().map(|cost| cost.unit.len() + 8).sum::<usize>()
    }

    /// Checks every bound of [`limits`]. Doors call it before anything else sees the action.
    pub fn check_bounds(&self) -> Result<(), Problem> {
        let named: [(&str, &str, usize, bool); 9] = [
            ("request_id", &self.request_id, limits::REQUEST_ID_BYTES_MAX, true),
            ("tenant", &self.tenant, limits::NAME_BYTES_MAX, true),
            ("agent_id", &self.agent, limits::NAME_BYTES_MAX, true),
            ("session", &self.session, limits::NAME_BYTES_MAX, false),
            ("cohort", &self.cohort, limits::NAME_BYTES_MAX, false),
            ("region", &self.region, limits::NAME_BYTES_MAX, false),
            ("action name", &self.name, limits::NAME_BYTES_MAX, true),
            ("resource type", &self.resource_type, limits::NAME_BYTES_MAX, false),
            ("resource id", &self.resource_id, limits::RESOURCE_BYTES_MAX, false),
        ];
        for (what, text, bytes_max, required) in named {
            if required && text.is_empty() {
                return Err(Problem::new(Code::MalformedRequest, format!("{what} is empty")));
            }
            if text.len() > bytes_max {
                let detail = format!("{what} has {} bytes; at most {bytes_max} are accepted", text.len());
                return Err(Problem::new(Code::TooLarge, detail));
            }
        }
        if self.cost.len() > limits::COSTS_PER_ACTION_MAX {
            let detail =
                format!("{} cost units; at most {} are accepted", self.cost.len(), limits::COSTS_PER_ACTION_MAX);
            return Err(Problem::new(Code::TooLarge, detail));
        }
        if self.cost.iter().any(|cost| cost.unit.is_empty() || cost.unit.len() > limits::NAME_BYTES_MAX) {
            return Err(Problem::new(Code::MalformedRequest, "a cost unit is empty or too long"));
        }
        self.check_reserved()?;
        if !self.approval.is_empty() {
            let named = self.approval.parse::<DecisionId>();
            named.map_err(|error| Problem::new(Code::MalformedRequest, format!("approval: {error}")))?;
        }
        let bytes = self.text_bytes();
        if bytes > limits::ACTION_BYTES_MAX {
            let detail = format!("the action has {bytes} bytes; at most {} are accepted", limits::ACTION_BYTES_MAX);
            return Err(Problem::new(Code::TooLarge, detail));
        }
        Ok(())
    }

    /// An action makes one reservation, which ends as a whole.
    fn check_reserved(&self) -> Result<(), Problem> {
        let mut times = self.cost.iter().map(|cost| cost.ttl_s).filter(|ttl_s| *ttl_s > 0);
        let Some(ttl_s) = times.next() else { return Ok(()) };
        if times.any(|other| other != ttl_s) {
            return Err(Problem::new(
                Code::MalformedRequest,
                "all reserved costs of an action must have the same ttl_s",
            ));
        }
        if ttl_s > limits::RESERVATION_TTL_S_MAX {
            let detail = format!("ttl_s is {ttl_s}; at most {} are accepted", limits::RESERVATION_TTL_S_MAX);
            return Err(Problem::new(Code::TooLarge, detail));
        }
        Ok(())
    }
}
