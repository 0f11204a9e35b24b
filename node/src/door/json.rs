//! Bounds of JSON text that are checked before anything is built from it: nesting, and being one object.
//!
//! Does not validate JSON beyond that; serde_json does, without building values where nobody needs them.

use serde::de::IgnoredAny;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::JSON_DEPTH_MAX;

/// How deep the brackets outside of texts nest. Meaningless for text that is not JSON, but never wrong for JSON.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Refuses text nested deeper than `depth_max`; `what` names it in the answer.
pub fn check_depth(what: &str, text: &str, depth_max: usize) -> Result<(), Problem> {
    let found = depth(text);
    if found <= depth_max {
        return Ok(());
    }
    Err(Problem::new(Code::TooLarge, format!("{what} nests {found} levels deep; at most {depth_max} are accepted")))
}

/// Checks that `text` is one JSON object within the bounds, without building it.
pub fn check_object(what: &str, text: &str) -> Result<(), Problem> {
    check_depth(what, text, JSON_DEPTH_MAX)?;
    if !text.trim_start().starts_with('{') {
        return Err(Problem::new(Code::MalformedRequest, format!("{what} is not a JSON object")));
    }
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| Problem::new(Code::MalformedRequest, format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_and_not_texts() {
        for (text, expected) in [("1", 0), ("{}", 1), (r#"{"a":[{"b":1}]}"#, 3), (r#"{"a":"[[[[\"[["}"#, 1)] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn only_whole_objects_within_the_depth_pass() {
        assert!(check_object("args", r#" {"a": [1, 2.5, null]} "#).is_ok());
        for text in ["", "[]", "1", "{", r#"{"a":}"#, "{} {}", "{\"a\":1}x"] {
            assert_eq!(check_object("args", text).map_err(|p| p.code), Err(Code::MalformedRequest), "{text}");
        }
        let nest = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(check_object("args", &nest(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(check_object("args", &nest(JSON_DEPTH_MAX + 1)).map_err(|p| p.code), Err(Code::TooLarge));
    }
}
