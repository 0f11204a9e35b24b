//! What is wrong with a bundle, and where: line and column, both from 1, columns in characters.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use serde::Serialize;

use crate::normalise::boundary_before;

/// Bytes of a message or a hint; longer ones are cut.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// One thing wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The `@id` of the policy, or empty where it has none.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// What to do, where that is known; else empty.
    pub help: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " ({})", self.help) }
    }
}

impl PolicyError {
    /// An error at a byte offset of the bundle's text.
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..boundary_before(text, offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            rule: String::new(),
            message: cut(message.into()),
            help: String::new(),
        }
    }

    /// From what Cedar says. Its places count from `base`; `fallback` is where to point to if it names none.
    pub(super) fn from_cedar(text: &str, detail: &DetailedError, base: usize, fallback: usize) -> Self {
        let places =
            detail.source_locations.iter().chain(detail.related.iter().flat_map(|related| &related.source_locations));
        let offset = places.map(|label| base + label.loc.start).min().unwrap_or(fallback);
        // Cedar numbers policies; ours have names, and the place is known.
        let named = detail.message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "));
        let message = named.map_or(detail.message.as_str(), |(_, message)| message);
        Self::at(text, offset, message).with_help(detail.help.clone().unwrap_or_default())
    }

    /// The same error about a rule.
    pub(super) fn of_rule(self, rule: &str) -> Self {
        Self { rule: cut(rule.to_owned()), ..self }
    }

    /// The same error with advice.
    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: cut(help.into()), ..self }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(boundary_before(&text, MESSAGE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let place = |offset| {
            let error = PolicyError::at("ab\nüc\n", offset, "m");
            (error.line, error.column)
        };
        assert_eq!([place(0), place(1), place(3), place(5), place(99)], [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]);
    }
}
