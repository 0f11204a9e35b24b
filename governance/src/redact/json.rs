//! Cuts in JSON: each stays inside one string or takes one whole number, so that what comes out is JSON again.
//!
//! Walks text that was found to be JSON, once, without building it: the text keeps its spaces and the order of its members.

use super::{Find, Writer};

/// Where the walk is: inside an array at a place, or inside an object at a member.
enum Level {
    Array(usize),
    /// The byte range of the member's name; none before the first.
    Object(Option<(usize, usize)>),
}

/// Cuts `finds`, which are sorted and apart, out of the writer's text.
pub(super) fn redact(writer: &mut Writer<'_, '_>, finds: &[Find]) {
    let text = writer.text;
    let bytes = text.as_bytes();
    let (mut levels, mut at, mut next, mut is_name) = (Vec::new(), 0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'{' => (is_name, _) = (true, levels.push(Level::Object(None))),
            b'[' => (is_name, _) = (false, levels.push(Level::Array(0))),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Array(place)) => *place += 1,
                _ => is_name = true,
            },
            b':' => is_name = false,
            b'"' => {
                let (start, end) = (at + 1, string_end(bytes, at + 1));
                if is_name && let Some(level) = levels.last_mut() {
                    *level = Level::Object(Some((start, end)));
                }
                let (from, to) = touching(finds, &mut next, start, end);
                // The name of a secret's member (`"password": "…"`) is no secret; its value is.
                let is_label = |find: &&Find| is_name && find.kind == "SECRET" && find.end > end;
                let cut: Vec<Find> = finds[from..to].iter().filter(|find| !is_label(find)).copied().collect();
                if !cut.is_empty() {
                    writer.piece(&cut, start..end, &pointer(text, &levels), true);
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + bytes[at..].iter().take_while(is_number).count();
                let (from, to) = touching(finds, &mut next, at, end);
                if let Some(find) = finds[from..to].first() {
                    writer.number(find, at..end, &pointer(text, &levels));
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
}

/// The place of a string's closing quote.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Which finds touch a range. Ranges come in order, so finds before it are not looked at again.
fn touching(finds: &[Find], next: &mut usize, start: usize, end: usize) -> (usize, usize) {
    while finds.get(*next).is_some_and(|find| find.end <= start) {
        *next += 1;
    }
    let count = finds[*next..].iter().take_while(|find| find.start < end).count();
    (*next, *next + count)
}

/// RFC 6901, of names as they are written.
fn pointer(text: &str, levels: &[Level]) -> String {
    let mut out = String::new();
    for level in levels {
        out.push('/');
        match level {
            Level::Array(place) => out.push_str(&place.to_string()),
            Level::Object(name) => {
                let name = name.map_or("", |(start, end)| &text[start..end]);
                out.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
        }
    }
    out
}

/// Characters of the inside of a JSON string: an escape is one, and so is a pair of surrogates.
pub(super) fn characters(text: &str) -> usize {
    let (bytes, mut at, mut count) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        let is_unicode = bytes[at] == b'\\' && bytes.get(at + 1) == Some(&b'u');
        let is_high = is_unicode
            && matches!(bytes.get(at + 2..at + 4), Some([b'd' | b'D', b'8' | b'9' | b'a'..=b'b' | b'A'..=b'B']));
        let is_pair = is_high && bytes.get(at + 6..at + 8) == Some(b"\\u");
        at += match bytes[at] {
            b'\\' if is_pair => 12,
            b'\\' if is_unicode => 6,
            b'\\' => 2,
            byte if byte < 0x80 => 1,
            byte => (byte.leading_ones() as usize).max(1),
        };
        count += 1;
    }
    count
}
