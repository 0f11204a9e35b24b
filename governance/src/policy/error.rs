//! Why a bundle was refused, and where: line and column, both from 1, columns in characters.

use std::fmt;

use cedar_policy::ffi::DetailedError;

use crate::normalise::boundary_before;

/// Bytes of a message; longer ones are cut.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The first thing wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// What is wrong, and what to do where that is known.
    pub message: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl PolicyError {
    /// An error at a byte offset of the bundle's text.
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..boundary_before(text, offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let mut message = message.into();
        message.truncate(boundary_before(&message, MESSAGE_BYTES_MAX));
        Self {
            message,
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// From what Cedar says; `fallback` is where to point to if it names no place.
    pub(super) fn from_cedar(text: &str, detail: &DetailedError, fallback: usize) -> Self {
        let message = match &detail.help {
            Some(help) => format!("{} ({help})", detail.message),
            None => detail.message.clone(),
        };
        let places =
            detail.source_locations.iter().chain(detail.related.iter().flat_map(|related| &related.source_locations));
        let offset = places.map(|label| label.loc.start).min().unwrap_or(fallback);
        Self::at(text, offset, message)
    }
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
