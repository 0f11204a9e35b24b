//! Telephone numbers: groups of digits in a shape that only such numbers have, or in a plain one after a word that says so.
//!
//! Shapes are those of national numbering plans as people write them: `+41 44 123 45 67`, `(02) 4914 7837`, `555.123.4567x89`,
//! `0176 123456`. Eight or nine digits in a row may be anything; they count only beside words such as `call` or `fax`, and
//! never beside `order` or `zip`. Called by `numbers`, after dates, cards and hosts have been ruled out.

use super::context::{self, Said};
use super::numbers::{digits_from, ends};

/// Groups of the longest telephone number: `+33 (0)1 40 20 30 40` has seven.
const GROUPS_MAX: usize = 8;
/// ITU-T E.164.
const DIGITS_MAX: usize = 15;
/// Six are dialled in Greenland.
const DIGITS_MIN: usize = 6;
/// Words that may stand between `call` and the number.
const WORDS_BETWEEN_MAX: usize = 5;
/// Words that may stand between `order` and a number that is none to call.
const OTHER_WORDS_BETWEEN_MAX: usize = 3;

const SPACE: u8 = 1;
const DASH: u8 = 2;
const DOT: u8 = 4;
const SLASH: u8 = 8;

/// The end of the telephone number that begins at `at`, its extension included.
pub(super) fn phone(text: &[u8], at: usize) -> Option<usize> {
    let groups = Groups::read(text, at)?;
    (DIGITS_MIN..=DIGITS_MAX).contains(&groups.digits).then_some(())?;
    let (end, extended) = extension(text, groups.end)?;
    let shaped = groups.is_marked(text, at) || (extended && groups.count >= 2 && groups.digits >= 7);
    let before = if at == 0 { b' ' } else { text[at - 1] };
    if matches!(before, b'-' | b'.' | b'$' | b'+' | b'%' | b'_')
        || (before == b':' && at > 1 && text[at - 2].is_ascii_digit())
    {
        return None;
    }
    let said = context::before(text, at);
    let behind = context::after(text, end);
    let is_called = match said {
        Some((Said::Phone, words)) => words <= if groups.is_postal() { 1 } else { WORDS_BETWEEN_MAX },
        Some((_, words)) if words <= OTHER_WORDS_BETWEEN_MAX => return shaped.then_some(end),
        _ => behind == Some(Said::Phone) && !groups.is_postal(),
    };
    let is_counted = behind == Some(Said::Other);
    let digits_min = if groups.count == 1 { 7 } else { DIGITS_MIN };
    let called = is_called && !is_counted && groups.digits >= digits_min && groups.sizes() != [3, 2, 4];
    let continues = before == b' ' && at > 1 && text[at - 2].is_ascii_digit();
    let apart = !matches!(before, b'/' | b'#') && !continues;
    (called || (apart && (shaped || groups.is_national(&text[at..])))).then_some(end)
}

/// What a run of digit groups looks like.
struct Groups {
    size: [usize; GROUPS_MAX],
    count: usize,
    digits: usize,
    end: usize,
    /// Begins with `+`, bracketed or not.
    plus: bool,
    /// The group in brackets.
    bracketed: Option<usize>,
    /// Which separators stand between groups, and between which of them.
    separators: u8,
}

impl Groups {
    fn read(text: &[u8], at: usize) -> Option<Self> {
        let size = [0; GROUPS_MAX];
        let mut groups = Self { size, count: 0, digits: 0, end: at, plus: false, bracketed: None, separators: 0 };
        let mut from = at;
        if text[at] == b'+' {
            (groups.plus, from) = (true, at + 1);
        }
        while let Some(end) = groups.take(text, from) {
            groups.end = end;
            let (next, separator) = separated(text, end);
            let opens = text.get(next) == Some(&b'(') && text.get(next + 1).is_some_and(u8::is_ascii_digit);
            let goes_on = text.get(next).is_some_and(u8::is_ascii_digit) || (opens && groups.bracketed.is_none());
            let joined = separator != 0 || opens || text[end - 1] == b')';
            if !goes_on || !joined || groups.count == GROUPS_MAX {
                break;
            }
            groups.separators |= separator;
            from = next;
        }
        (groups.count > 0).then_some(groups)
    }

    /// Takes the group at `from`; returns its end.
    fn take(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let open = text.get(from) == Some(&b'(');
        let plus = open && text.get(from + 1) == Some(&b'+') && self.count == 0;
        let start = from + usize::from(open) + usize::from(plus);
        let size = digits_from(text, start);
        if size == 0 || (open && text.get(start + size) != Some(&b')')) {
            return None;
        }
        *self.size.get_mut(self.count)? = size;
        if open {
            self.bracketed = Some(self.count);
        }
        self.plus |= plus;
        (self.count, self.digits) = (self.count + 1, self.digits + size);
        Some(start + size + usize::from(open))
    }

    fn sizes(&self) -> &[usize] {
        &self.size[..self.count]
    }

    /// Written as only telephone numbers are: `+` and a country, or an area in brackets that is no year.
    fn is_marked(&self, text: &[u8], at: usize) -> bool {
        let area = self.bracketed.map_or(0, |group| self.size[group]);
        let year = self.bracketed == Some(0) && area == 4 && matches!(&text[at + 1..at + 3], b"19" | b"20");
        let bracketed = (2..=5).contains(&area) && self.count >= 2 && self.digits >= 7 && !year;
        (self.plus && self.digits >= 8) || bracketed
    }

    /// Postal codes with their second part: `78155-1234`, `04581-040`.
    fn is_postal(&self) -> bool {
        matches!(self.sizes(), [5, 3 | 4])
    }

    /// Shaped as numbers are dialled inside a country, where nothing else says what it is.
    fn is_national(&self, text: &[u8]) -> bool {
        let first = text[0];
        let zeros = text.starts_with(b"00") || self.sizes() == [3, 2, 4];
        let alike = self.separators.count_ones() == 1 && self.separators != SLASH;
        let trunk = first == b'0' && (9..=11).contains(&self.digits) && self.count >= 2 && self.separators & DOT == 0;
        let pairs = first == b'0' && self.separators == DOT && self.sizes() == [2; 5];
        let shape = match self.sizes() {
            [3, 3, 4] => alike,
            [1, 3, 3, 4] => alike && matches!(first, b'1' | b'7' | b'8'),
            [3, 3, 3, 4] => alike && first == b'0',
            [3, 3, 2, 2] | [2, 3, 2, 2] => self.separators & (DOT | SLASH) == 0,
            _ => false,
        };
        shape || pairs || (trunk && !zeros && self.separators & SLASH == 0 && self.size[0] <= 5)
    }
}

/// The byte after the separator at `at` and which it was; 0 for none. ` - ` and ` / ` separate as well.
fn separated(text: &[u8], at: usize) -> (usize, u8) {
    let of = |byte: Option<&u8>| match byte {
        Some(b' ') => SPACE,
        Some(b'-') => DASH,
        Some(b'.') => DOT,
        Some(b'/') => SLASH,
        _ => 0,
    };
    match (of(text.get(at)), of(text.get(at + 1))) {
        (SPACE, wide @ (DASH | SLASH)) if text.get(at + 2) == Some(&b' ') => (at + 3, wide),
        (0, _) => (at, 0),
        (one, _) => (at + 1, one),
    }
}

/// The end with the extension (`x751`, `ext. 12`) and whether there is one; none where something else continues it.
fn extension(text: &[u8], end: usize) -> Option<(usize, bool)> {
    let rest = &text[end..];
    let skip = usize::from(rest.first() == Some(&b' '));
    for mark in [&b"extension "[..], b"ext. ", b"ext.", b"ext ", b"ext", b"x", b"#"] {
        let marked = rest.len() >= skip + mark.len() && rest[skip..skip + mark.len()].eq_ignore_ascii_case(mark);
        let count = digits_from(rest, skip + mark.len());
        if marked && (1..=6).contains(&count) && ends(rest, skip + mark.len() + count) {
            return Some((end + skip + mark.len() + count, true));
        }
    }
    let next = text.get(end + 1).copied().unwrap_or(b' ');
    let goes_on = match text.get(end) {
        Some(b'-') => {
            next.is_ascii_digit() || (next.is_ascii_alphabetic() && context::after(text, end) != Some(Said::Phone))
        }
        Some(b'@' | b'=') => true,
        Some(b':' | b'/' | b'.' | b'%') => next.is_ascii_digit(),
        _ => false,
    };
    (ends(text, end) && !goes_on).then_some((end, false))
}

#[cfg(test)]
mod tests {
    use super::super::{Detectors, PHONE};

    fn found(text: &str) -> Vec<String> {
        let findings = Detectors::new().scan(text);
        let phones = findings.spans().iter().filter(|span| span.detector == PHONE);
        phones.map(|span| text[span.start..span.end].to_owned()).collect()
    }

    #[test]
    fn shapes_that_only_telephone_numbers_have_need_no_word() {
        for number in [
            "+41 44 123 45 67",
            "+44(0)1632 960983",
            "+33 (0)1 40 20 30 40",
            "+1-541-754-3010x123",
            "001-541-754-3010",
            "(02) 4914 7837",
            "(541)754-3010 ext. 12",
            "(+358) 401234567",
            "541-754-3010",
            "541.754.3010x89",
            "1-541-754-3010",
            "0176 1234567",
            "041 123 45 67",
            "02.64.62.52.37",
            "+61.2.1234.5678",
            "+90(312)1234567",
        ] {
            assert_eq!(found(&format!("it says {number} there")), [number]);
            assert_eq!(found(&format!("\u{201c}{number}\u{201d}")), [number]);
        }
    }

    #[test]
    fn plain_numbers_need_a_word_that_says_so() {
        for number in ["5417543010", "84 23 30", "445 6271", "9884-5744", "651 623 860", "12/345-6789", "25 470375"] {
            assert_eq!(found(&format!("it says {number} there")), Vec::<String>::new(), "{number}");
            for sentence in
                ["call me at X please", "Fax: X", "my phone number is X", "reach X office", "tel:X", "X-Fax"]
            {
                assert_eq!(found(&sentence.replace('X', number)), [number], "{sentence}");
            }
        }
    }

    #[test]
    fn numbers_that_nobody_calls_are_left_alone() {
        for text in [
            "order 541-754-3010",
            "ticket no. 0176 1234567",
            "call about order 5417543010",
            "308.271.618-08",
            "call 12345678 rows",
            "call a taxi to Rua Nova 12, 04581-040",
            "version 10.15.7.1234",
            "1 000 000 000",
            "phone 27 at 10:30",
            "77.377518, -67.015569",
            "2024 1030 5512",
            "(1998) 12345-67",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text:?}");
        }
    }
}
