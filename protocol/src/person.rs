//! The person whom an action is about: where a context names one. Reads and checks only.
//!
//! What is said about a person is sealed under a key of the person's own beside the agent's, so that it can be erased
//! wherever agents have spoken of them.

use serde::Deserialize;

use crate::error::{Code, Problem};
use crate::limits::DATA_SUBJECT_BYTES_MAX;

const FIELD: &str = "data_subject";

#[derive(Deserialize)]
struct Context {
    data_subject: Option<serde_json::Value>,
}

/// `data_subject` in a context; none where it is absent, null or empty.
///
/// # Errors
/// `malformed-request` for anything but a text of at most `DATA_SUBJECT_BYTES_MAX` bytes.
pub fn person_in(context_json: &str) -> Result<Option<String>, Problem> {
    // An escape may spell the name too, so a backslash is reason enough to read the context.
    if ![FIELD, "\\"].iter().any(|mark| context_json.contains(mark)) {
        return Ok(None);
    }
    let refuse = |why: String| Problem::new(Code::MalformedRequest, format!("context.{FIELD}: {why}"));
    let context: Context = serde_json::from_str(context_json).map_err(|error| refuse(error.to_string()))?;
    match context.data_subject {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(name)) if name.len() <= DATA_SUBJECT_BYTES_MAX => {
            Ok(Some(name).filter(|name| !name.is_empty()))
        }
        Some(_) => Err(refuse(format!("a text of at most {DATA_SUBJECT_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_read_by_any_spelling_and_everything_else_is_refused() {
        let named = |context: &str| person_in(context).map_err(|problem| problem.code);
        assert_eq!(named("{}"), Ok(None));
        assert_eq!(named(r#"{"data_subject":null}"#), Ok(None));
        assert_eq!(named(r#"{"data_subject":""}"#), Ok(None));
        assert_eq!(named(r#"{"data_subject":"maria"}"#), Ok(Some("maria".to_owned())));
        assert_eq!(named(r#"{"data\u005fsubject":"maria"}"#), Ok(Some("maria".to_owned())));
        assert_eq!(named(r#"{"note":"a \\ b"}"#), Ok(None));
        assert_eq!(named(r#"{"data_subject":7}"#), Err(Code::MalformedRequest));
        let long = format!(r#"{{"data_subject":"{}"}}"#, "x".repeat(DATA_SUBJECT_BYTES_MAX + 1));
        assert_eq!(named(&long), Err(Code::MalformedRequest));
    }
}
