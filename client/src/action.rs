//! One line of an action log as an action: `{tenant, agent_id, session, step, kind, name, args, request_id?}`.

use serde::Deserialize;
use serde_json::value::RawValue;

use nethical_protocol::action::{Action, ActionKind};

/// Why a line is no action.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or a field is missing or of another type.
    #[error("the line is no action: {0}")]
    Json(#[from] serde_json::Error),
    /// The kind is not one of the seven.
    #[error("{0:?} is not a kind of action")]
    Kind(String),
}

/// Fields that are not listed are ignored, `step` among them: the order of lines is the order of steps.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    tenant: Option<String>,
    agent_id: String,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    cohort: Option<String>,
    #[serde(default)]
    region: Option<String>,
    kind: String,
    name: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    issued_at_ms: Option<u64>,
    #[serde(default)]
    approval: Option<String>,
    #[serde(default)]
    critical: bool,
}

/// Reads one line. A line without `request_id` gives an action without one; the client gives it one when it is sent.
pub fn from_line(line: &str) -> Result<Action, LineError> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let Some(kind) = ActionKind::from_word(&line.kind) else { return Err(LineError::Kind(line.kind)) };
    let object = |raw: Option<&RawValue>| raw.map_or("{}", RawValue::get).to_owned();
    Ok(Action {
        request_id: line.request_id.unwrap_or_default(),
        client_chosen: true,
        issued_at_ms: line.issued_at_ms.unwrap_or_default(),
        tenant: line.tenant.unwrap_or_else(|| "default".to_owned()),
        agent: line.agent_id,
        session: line.session.unwrap_or_default(),
        cohort: line.cohort.unwrap_or_default(),
        region: line.region.unwrap_or_default(),
        kind,
        name: line.name,
        resource_type: String::new(),
        resource_id: String::new(),
        args_json: object(line.args),
        context_json: object(line.context),
        cost: Vec::new(),
        explain: false,
        approval: line.approval.unwrap_or_default(),
        is_critical: line.critical,
        wants_receipt: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_airline_log_is_read() {
        let line = r#"{"tenant": "airline", "agent_id": "gpt-4o-airline-00", "session": "airline-task00-trial0", "step": 2,
            "kind": "tool_call", "name": "get_user_details", "args": {"user_id": "mia_li_3668"}}"#;
        let action = from_line(line).expect("a line of the log");
        assert_eq!((action.tenant.as_str(), action.agent.as_str()), ("airline", "gpt-4o-airline-00"));
        assert_eq!((action.kind, action.name.as_str()), (ActionKind::ToolCall, "get_user_details"));
        assert_eq!(action.args_json, r#"{"user_id": "mia_li_3668"}"#);
        assert!(action.request_id.is_empty() && action.client_chosen);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "{}", "[]", r#"{"agent_id":1,"kind":"message","name":"n"}"#] {
            assert!(matches!(from_line(line), Err(LineError::Json(_))), "{line}");
        }
        let dance = r#"{"agent_id":"a","kind":"dance","name":"n"}"#;
        assert!(matches!(from_line(dance), Err(LineError::Kind(word)) if word == "dance"));
    }
}
