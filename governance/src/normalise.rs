//! Text as detectors see it: escapes resolved, invisible characters gone, look-alikes folded.
//!
//! Every span found in the normalised text can be led back to the bytes of the source, so that redaction cuts the
//! original. NFKC is therefore applied character by character: composition across characters is left out, and loose
//! combining marks are dropped, since both only serve to hide words from detectors. ASCII text is borrowed as it is.
//! It must not judge anything; `detect` does. It stands in the actor's step of the sentence, before a command exists.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{IsNormalized, is_nfkc_quick};

/// How the source writes its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// JSON text: a backslash escape stands for the character that it names.
    Json,
}

/// Normalised text with a way back to its source.
#[derive(Debug)]
pub struct Normalised<'a> {
    text: Cow<'a, str>,
    /// For every byte of `text` the offset in the source of the character that it came from, then the source's length.
    /// Empty where `text` is the source itself.
    origins: Vec<u32>,
    invisible_count: usize,
}

impl<'a> Normalised<'a> {
    /// Normalises `source`. The result has at most four times as many bytes, and 64.
    pub fn of(source: &'a str, form: Form) -> Self {
        let escapes = form == Form::Json && source.as_bytes().contains(&b'\\');
        if !escapes && source.is_ascii() && !source.bytes().any(is_odd_control) {
            return Self { text: Cow::Borrowed(source), origins: Vec::new(), invisible_count: 0 };
        }
        let mut writer = Writer::new(source.len());
        let mut offset = 0;
        let plain = |byte: &&u8| byte.is_ascii() && !is_odd_control(**byte) && !(escapes && **byte == b'\\');
        loop {
            let run = source.as_bytes()[offset..].iter().take_while(plain).count();
            writer.keep_run(&source[offset..offset + run], offset);
            offset += run;
            let Some(character) = source[offset..].chars().next() else { break };
            let (meant, bytes) = match character {
                '\\' if escapes => resolve_escape(&source[offset..]),
                other => (other, other.len_utf8()),
            };
            writer.push(meant, offset);
            offset += bytes;
        }
        writer.origins.push(source.len() as u32);
        Self { text: Cow::Owned(writer.text), origins: writer.origins, invisible_count: writer.invisible_count }
    }

    /// The normalised text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Characters that were dropped or revealed because nobody can see them.
    pub fn invisible_count(&self) -> usize {
        self.invisible_count
    }

    /// The source's byte range from which the range `start..end` of the normalised text came: whole characters only.
    pub fn origin(&self, start: usize, end: usize) -> (usize, usize) {
        let Some(last) = self.origins.len().checked_sub(1) else { return (start, end) };
        let (start, end) = (start.min(last), end.min(last));
        let from = self.origins[start];
        let taken = self.origins[end.saturating_sub(1).max(start)];
        let to = self.origins[end..].iter().copied().find(|origin| *origin > taken);
        (from as usize, to.unwrap_or(self.origins[last]) as usize)
    }
}

/// The last character boundary at or before `at`.
pub(crate) fn boundary_before(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    at - (0..4).find(|back| text.is_char_boundary(at.saturating_sub(*back))).unwrap_or(0).min(at)
}

/// The first character boundary at or after `at`.
pub(crate) fn boundary_after(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    at + (0..4).find(|ahead| text.is_char_boundary(at + ahead)).unwrap_or(0)
}

struct Writer {
    text: String,
    origins: Vec<u32>,
    invisible_count: usize,
    bytes_max: usize,
}

impl Writer {
    fn new(source_bytes: usize) -> Self {
        Self {
            text: String::with_capacity(source_bytes),
            origins: Vec::with_capacity(source_bytes + 1),
            invisible_count: 0,
            bytes_max: source_bytes * 4 + 64,
        }
    }

    fn push(&mut self, character: char, origin: usize) {
        if let Some(tagged) = tag_character(character) {
            self.invisible_count += 1;
            return self.keep(tagged, origin);
        }
        if is_invisible(character) {
            self.invisible_count += 1;
            return;
        }
        if character.is_ascii() {
            return self.keep(character, origin);
        }
        if is_combining_mark(character) {
            return;
        }
        let folded = fold_look_alike(character);
        let full = self.text.len() + 40 > self.bytes_max;
        if full || is_nfkc_quick(std::iter::once(folded)) == IsNormalized::Yes {
            return self.keep(folded, origin);
        }
        for part in std::iter::once(folded).nfkc().filter(|part| !is_combining_mark(*part)) {
            self.keep(part, origin);
        }
    }

    /// Keeps ASCII as it is.
    fn keep_run(&mut self, run: &str, origin: usize) {
        self.text.push_str(run);
        self.origins.extend(origin as u32..(origin + run.len()) as u32);
    }

    fn keep(&mut self, character: char, origin: usize) {
        self.text.push(character);
        self.origins.resize(self.text.len(), origin as u32);
    }
}

/// The character that a JSON escape at the start of `source` names, and the escape's length in bytes. A broken escape
/// is its backslash.
fn resolve_escape(source: &str) -> (char, usize) {
    let bytes = source.as_bytes();
    match bytes.get(1) {
        Some(b'n' | b'r') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'b' | b'f') => (' ', 2),
        Some(b'"') => ('"', 2),
        Some(b'\\') => ('\\', 2),
        Some(b'/') => ('/', 2),
        Some(b'u') => resolve_unicode_escape(bytes).unwrap_or(('\\', 1)),
        _ => ('\\', 1),
    }
}

fn resolve_unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = std::str::from_utf8(bytes.get(at + 2..at + 6)?).ok()?;
        let marked =
            bytes[at] == b'\\' && bytes[at + 1] == b'u' && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        marked.then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let high = unit(0)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 6));
    }
    match unit(6) {
        Some(low) if (0xDC00..0xE000).contains(&low) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}

/// Control characters that no honest text holds.
fn is_odd_control(byte: u8) -> bool {
    (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f
}

fn is_invisible(character: char) -> bool {
    match character {
        '\0'..='\u{7f}' => is_odd_control(character as u8),
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{3164}' => true,
        '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e01ef}' => true,
        _ => false,
    }
}

/// Tag characters are an invisible copy of ASCII, used to smuggle instructions past readers: what they spell is kept.
fn tag_character(character: char) -> Option<char> {
    let code = character as u32;
    (0xE0020..=0xE007E).contains(&code).then(|| char::from((code - 0xE0000) as u8))
}

/// Cyrillic and Greek letters that look like Latin ones (Unicode TR 39, the commonest), dashes of all lengths, and the
/// digits of scripts in which people write numbers from left to right as well.
fn fold_look_alike(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{660}'..='\u{669}' => digit(character, '\u{660}'),
        '\u{6f0}'..='\u{6f9}' => digit(character, '\u{6f0}'),
        '\u{966}'..='\u{96f}' => digit(character, '\u{966}'),
        'а' | 'α' => 'a',
        'А' | 'Α' => 'A',
        'В' | 'Β' => 'B',
        'с' | 'ϲ' => 'c',
        'С' => 'C',
        'ԁ' => 'd',
        'е' | 'ε' => 'e',
        'Е' | 'Ε' => 'E',
        'һ' => 'h',
        'Н' | 'Η' => 'H',
        'і' | 'ι' | 'ı' => 'i',
        'І' | 'Ι' => 'I',
        'ј' => 'j',
        'К' | 'Κ' => 'K',
        'М' | 'Μ' => 'M',
        'Ν' => 'N',
        'о' | 'ο' => 'o',
        'О' | 'Ο' => 'O',
        'р' | 'ρ' => 'p',
        'Р' | 'Ρ' => 'P',
        'ѕ' => 's',
        'Ѕ' => 'S',
        'Т' | 'Τ' => 'T',
        'υ' => 'u',
        'ѵ' | 'ν' => 'v',
        'х' | 'χ' => 'x',
        'Х' | 'Χ' => 'X',
        'у' => 'y',
        'У' | 'Υ' => 'Y',
        'Ζ' => 'Z',
        other => other,
    }
}

fn digit(character: char, zero: char) -> char {
    char::from(b'0' + (character as u32 - zero as u32) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(source: &str) -> String {
        Normalised::of(source, Form::Plain).text().to_owned()
    }

    #[test]
    fn boundaries_are_those_of_characters() {
        let text = "a日😀";
        let before: Vec<usize> = (0..=9).map(|at| boundary_before(text, at)).collect();
        let after: Vec<usize> = (0..=9).map(|at| boundary_after(text, at)).collect();
        assert_eq!(before, [0, 1, 1, 1, 4, 4, 4, 4, 8, 8]);
        assert_eq!(after, [0, 1, 4, 4, 4, 8, 8, 8, 8, 8]);
    }

    #[test]
    fn ascii_is_borrowed() {
        let normalised = Normalised::of("plain\n text", Form::Plain);
        assert!(matches!(normalised.text, Cow::Borrowed(_)));
        assert_eq!(normalised.origin(2, 5), (2, 5));
    }

    #[test]
    fn disguises_fall_away() {
        assert_eq!(plain("ig\u{200b}nore"), "ignore");
        assert_eq!(plain("ｉｇｎｏｒｅ"), "ignore");
        assert_eq!(plain("іgnоrе"), "ignore");
        assert_eq!(plain("i\u{336}g\u{336}nore"), "ignore");
        assert_eq!(plain("ig\u{0}nore"), "ignore");
        assert_eq!(plain("\u{661}\u{6f2}\u{969}\u{2013}\u{2011}4"), "123--4");
        assert_eq!(plain("\u{e0069}\u{e0067}"), "ig");
        assert_eq!(Normalised::of(r"\u0069gnore\nall \ud83d\ude00", Form::Json).text(), "ignore\nall 😀");
        assert_eq!(Normalised::of(r"broken \u12 \ud800 \", Form::Json).text(), "broken \\u12 \u{fffd} \\");
    }

    #[test]
    fn spans_lead_back_to_the_source() {
        let source = "é ig\u{200b}nore ㎏!";
        let normalised = Normalised::of(source, Form::Plain);
        let at = normalised.text().find("ignore").expect("the word is there");
        let (start, end) = normalised.origin(at, at + 6);
        assert_eq!(&source[start..end], "ig\u{200b}nore");
        let at = normalised.text().find("kg").expect("the unit is there");
        let (start, end) = normalised.origin(at, at + 1);
        assert_eq!(&source[start..end], "㎏");
    }

    proptest! {
        #[test]
        fn every_origin_is_a_range_of_whole_characters(source in "\\PC{0,60}|[\\\\u0-9a-f\"]{0,40}", json: bool) {
            let form = if json { Form::Json } else { Form::Plain };
            let normalised = Normalised::of(&source, form);
            prop_assert!(normalised.text().len() <= source.len() * 4 + 64);
            let cuts: Vec<usize> = normalised.text().char_indices().map(|(at, _)| at).collect();
            for (start, end) in cuts.iter().zip(cuts.iter().skip(1)) {
                let (from, to) = normalised.origin(*start, *end);
                prop_assert!(from < to && source.get(from..to).is_some(), "{from}..{to} of {source:?}");
            }
        }
    }
}
