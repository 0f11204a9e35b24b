//! Where things stand in a bundle's text: statements and annotations, found without parsing.
//!
//! Knows strings and comments and nothing else of Cedar. It says where to point and never what is valid; Cedar does.

use std::ops::Range;

/// Offsets and bytes outside comments; of a string only its opening quote.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Code<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        while self.bytes[self.at..].starts_with(b"//") {
            self.at += self.bytes[self.at..].iter().take_while(|byte| **byte != b'\n').count();
        }
        let (at, byte) = (self.at, *self.bytes.get(self.at)?);
        self.at += 1;
        if byte == b'"' {
            self.skip_string();
        }
        Some((at, byte))
    }
}

impl Code<'_> {
    fn skip_string(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            self.at = (self.at + if *byte == b'\\' { 2 } else { 1 }).min(self.bytes.len());
            if *byte == b'"' {
                return;
            }
        }
    }
}

fn code(text: &str) -> Code<'_> {
    Code { bytes: text.as_bytes(), at: 0 }
}

/// The byte ranges of all statements in order: each from its first annotation or word to its semicolon, or to the end.
pub(super) fn statements(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), None);
    for (at, byte) in code(text) {
        if !byte.is_ascii_whitespace() {
            start.get_or_insert(at);
        }
        if byte == b';' {
            found.extend(start.take().map(|start| start..at + 1));
        }
    }
    found.extend(start.map(|start| start..text.len()));
    found
}

/// The offset of `@key` in a statement.
pub(super) fn annotation(statement: &str, key: &str) -> Option<usize> {
    let named = |at: usize| {
        let rest = statement[at + 1..].trim_start().strip_prefix(key)?;
        let ends = !rest.starts_with(|next: char| next == '_' || next.is_alphanumeric());
        ends.then_some(at)
    };
    code(statement).filter(|(_, byte)| *byte == b'@').find_map(|(at, _)| named(at))
}

/// The value of `@id` as it is written, also in a statement that does not parse; empty where there is none.
pub(super) fn id(statement: &str) -> &str {
    let value = || statement[annotation(statement, "id")?..].split_once('"')?.1.split_once('"');
    value().map_or("", |(value, _)| value)
}

/// The offset of the first `?` outside strings: a template's slot.
pub(super) fn slot(statement: &str) -> Option<usize> {
    code(statement).find_map(|(at, byte)| (byte == b'?').then_some(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_strings_and_comments() {
        let text = "// a; b\n@id(\"x;\\\"y\") permit(p); // c;\n  forbid(ü);\n\n half ";
        let found: Vec<&str> = statements(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["@id(\"x;\\\"y\") permit(p);", "forbid(ü);", "half "]);
    }

    #[test]
    fn annotations_are_found_outside_strings() {
        let text = "@reason(\"use @verdict(\")\n@ids(\"no\") @id(\"a b\") @verdict(\"block\") permit();";
        assert_eq!(annotation(text, "verdict").map(|at| &text[at..at + 10]), Some("@verdict(\""));
        assert_eq!(annotation(text, "verdict"), text.rfind("@verdict"));
        assert_eq!((id(text), annotation(text, "obligation")), ("a b", None));
        assert_eq!((id("permit()"), id("@id("), id("@id(\"x")), ("", "", ""));
        assert_eq!((slot("\"?\" // ?\n?x"), slot("none")), (Some(9), None));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_at_character_boundaries(text in "[@a;\"\\\\/?\nü ]{0,40}") {
            for range in statements(&text) {
                prop_assert!(text.get(range.clone()).is_some());
                let _ = (id(&text[range.clone()]), slot(&text[range]));
            }
        }
    }
}
