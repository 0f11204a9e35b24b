//! `options` of a request: what the caller asks of the decision itself. Checked here, carried out elsewhere.

use serde::Deserialize;

use nethical_protocol::action::Action;
use nethical_protocol::error::{Code, Problem};

/// How much the action matters; critical ones may take what limits keep back for them.
#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Priority {
    Normal,
    Critical,
}

/// What the caller asks of the decision itself.
#[derive(Default, Deserialize)]
pub struct Options {
    mode: Option<String>,
    /// Milliseconds that the caller waits.
    pub deadline_ms: Option<u64>,
    #[serde(default)]
    explain: bool,
    #[serde(default)]
    approval: String,
    priority: Option<Priority>,
    receipt: Option<Receipt>,
}

/// What the answer shows of the decision's place in the log. The place itself is always there: it is the decision's id.
#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Receipt {
    None,
    Position,
    Proof,
}

impl Options {
    /// The action with what they ask for.
    pub fn onto(self, action: Action) -> Result<Action, Problem> {
        if let Some(mode) = self.mode.as_deref().filter(|mode| *mode != "enforce") {
            let shown: String = mode.chars().take(40).collect();
            let detail = format!("options.mode {shown:?}: only \"enforce\" is offered");
            return Err(Problem::new(Code::MalformedRequest, detail));
        }
        Ok(Action {
            explain: self.explain,
            approval: self.approval,
            is_critical: self.priority == Some(Priority::Critical),
            wants_receipt: self.receipt == Some(Receipt::Proof),
            ..action
        })
    }
}
