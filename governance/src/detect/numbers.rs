//! Numbers that identify people or machines: cards, social security numbers, telephone numbers, addresses of hosts.
//!
//! Called only where a number begins. Every check reads a bounded number of bytes from there, so the whole is linear.
//! Order matters: what is a date is no telephone number, and what is a card is not looked at again.

use std::net::Ipv6Addr;

use super::anchors::is_word;
use super::{CARD, IP, PHONE, Report, SSN};

/// Digits of the longest number looked at (cards have 19 at most).
const DIGITS_MAX: usize = 19;
/// Groups of the longest telephone number.
const GROUPS_MAX: usize = 6;
/// Bytes before a number in which a word may say what it is.
const CONTEXT_BYTES: usize = 28;

/// Reports the number that begins at `at` (a digit, or `+` or `(` before one) and returns where to go on, after `at`.
pub(super) fn at(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    if at > 0 && is_word(text[at - 1]) {
        return skip_word(text, at);
    }
    if text[at].is_ascii_digit() {
        for (detector, severity, check) in [(IP, 100, ip_v4 as Check), (CARD, 700, card), (SSN, 750, ssn)] {
            if let Some(end) = check(text, at) {
                report.found(detector, severity, at, end);
                return end;
            }
        }
        if let Some(end) = date(text, at) {
            return end;
        }
    }
    match phone(text, at) {
        Some(end) => {
            report.found(PHONE, 200, at, end);
            end
        }
        None if text[at].is_ascii_digit() => skip_word(text, at),
        None => at + 1,
    }
}

type Check = fn(&[u8], usize) -> Option<usize>;

fn skip_word(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| is_word(**byte)).count().max(1)
}

fn digits_from(text: &[u8], at: usize) -> usize {
    text[at.min(text.len())..].iter().take(DIGITS_MAX + 2).take_while(|byte| byte.is_ascii_digit()).count()
}

/// True where nothing continues the number at `end`.
fn ends(text: &[u8], end: usize) -> bool {
    !text.get(end).is_some_and(|byte| is_word(*byte))
}

fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

/// True where one of `words` (lower-case) stands shortly before `at`.
fn said_before(text: &[u8], at: usize, words: &[&str]) -> bool {
    let before = text[at.saturating_sub(CONTEXT_BYTES)..at].to_ascii_lowercase();
    words.iter().any(|word| before.windows(word.len()).any(|window| window == word.as_bytes()))
}

fn ip_v4(text: &[u8], at: usize) -> Option<usize> {
    if at > 0 && text[at - 1] == b'.' {
        return None;
    }
    let mut end = at;
    for octet in 0..4 {
        let count = digits_from(text, end);
        let padded = count > 1 && text[end] == b'0';
        if !(1..=3).contains(&count) || padded || value(&text[end..end + count]) > 255 {
            return None;
        }
        end += count;
        if octet < 3 {
            (text.get(end) == Some(&b'.')).then_some(())?;
            end += 1;
        }
    }
    let goes_on = text.get(end) == Some(&b'.') && text.get(end + 1).is_some_and(u8::is_ascii_digit);
    (ends(text, end) && !goes_on).then_some(end)
}

/// Reports an IPv6 address around the colon at `at`; returns where to go on.
pub(super) fn ip_v6(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    let belongs = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let start = at - text[..at].iter().rev().take(4).take_while(belongs).count();
    let end = at + text[at..].iter().take(45).take_while(belongs).count();
    let alone = (start == 0 || !is_word(text[start - 1])) && ends(text, end);
    let candidate = text[start..end].strip_suffix(b".").unwrap_or(&text[start..end]);
    let groups = candidate.split(|byte| *byte == b':').filter(|group| !group.is_empty()).count();
    let telling = groups >= 3 && candidate.iter().any(u8::is_ascii_digit);
    if alone && telling && std::str::from_utf8(candidate).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
        report.found(IP, 100, start, start + candidate.len());
    }
    end.max(at + 1)
}

/// A payment card: 13 to 19 digits of a known network, in one piece or in groups, passing Luhn's check (ISO/IEC 7812-1).
fn card(text: &[u8], at: usize) -> Option<usize> {
    let (mut digits, mut count, mut end, mut separator) = ([0u8; DIGITS_MAX], 0, at, None);
    loop {
        let byte = *text.get(end).unwrap_or(&0);
        if byte.is_ascii_digit() {
            *digits.get_mut(count)? = byte - b'0';
            count += 1;
        } else {
            let joins = matches!(byte, b' ' | b'-') && *separator.get_or_insert(byte) == byte && count >= 4;
            if !(joins && text.get(end + 1).is_some_and(u8::is_ascii_digit)) || count >= 16 {
                break;
            }
        }
        end += 1;
    }
    let digits = &digits[..count];
    (count >= 13 && ends(text, end) && is_card_network(digits) && passes_luhn(digits)).then_some(end)
}

fn is_card_network(digits: &[u8]) -> bool {
    match (digits[0], digits.len()) {
        (4, 13 | 16 | 19) | (2 | 5, 16) => true,
        (3, 14) => matches!(digits[1], 0 | 6 | 8 | 9),
        (3, 15) => matches!(digits[1], 4 | 7),
        (3, 16) => digits[1] == 5,
        (6, 16..=19) => true,
        (5, 17..=19) => matches!(digits[1], 0 | 6..=8),
        _ => false,
    }
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = (digits.iter().rev().enumerate())
        .map(|(place, digit)| match (place % 2, u32::from(*digit) * (1 + place as u32 % 2)) {
            (1, doubled) if doubled > 9 => doubled - 9,
            (_, plain) => plain,
        })
        .sum();
    let varied = digits.iter().fold(0u16, |seen, digit| seen | 1 << digit).count_ones() >= 2;
    sum.is_multiple_of(10) && varied
}

/// A US social security number: 3-2-4 digits; without separators only where a word says so.
fn ssn(text: &[u8], at: usize) -> Option<usize> {
    let joined = digits_from(text, at);
    let (area, group, serial, end) = match joined {
        9 if said_before(text, at, &["ssn", "social security"]) => (at, at + 3, at + 5, at + 9),
        3 => {
            let separator = *text.get(at + 3).filter(|byte| matches!(byte, b'-' | b' '))?;
            let formed = digits_from(text, at + 4) == 2 && text.get(at + 6) == Some(&separator);
            (formed && digits_from(text, at + 7) == 4).then_some((at, at + 4, at + 7, at + 11))?
        }
        _ => return None,
    };
    let area = value(&text[area..area + 3]);
    let issued = area != 0 && area != 666 && area < 900;
    let filled = value(&text[group..group + 2]) != 0 && value(&text[serial..serial + 4]) != 0;
    let free = at == 0 || !matches!(text[at - 1], b'-' | b'+' | b'.');
    let goes_on = text.get(end) == Some(&b'-') && text.get(end + 1).is_some_and(|byte| is_word(*byte));
    (issued && filled && free && !goes_on && ends(text, end)).then_some(end)
}

/// The end of a date (year first or last) with the hour after it, so that neither is taken for a telephone number.
fn date(text: &[u8], at: usize) -> Option<usize> {
    let (first, mut end) = (digits_from(text, at), at);
    let mut parts = [0u32; 3];
    let separator = *text.get(at + first).filter(|byte| matches!(byte, b'-' | b'.' | b'/'))?;
    for (place, part) in parts.iter_mut().enumerate() {
        let count = digits_from(text, end);
        (1..=4).contains(&count).then_some(())?;
        *part = value(&text[end..end + count]);
        end += count;
        if place < 2 {
            (text.get(end) == Some(&separator)).then_some(())?;
            end += 1;
        }
    }
    let [a, b, c] = parts;
    let year_first = first == 4 && (1800..2200).contains(&a) && (1..=12).contains(&b) && (1..=31).contains(&c);
    let year_last =
        first <= 2 && a.min(b) <= 12 && a.max(b) <= 31 && a.min(b) >= 1 && (c < 100 || (1800..2200).contains(&c));
    (year_first || year_last).then_some(())?;
    let hour = text.get(end) == Some(&b' ') && (1..=2).contains(&digits_from(text, end + 1));
    let hour_end = end + 1 + digits_from(text, end + 1);
    Some(if hour && text.get(hour_end) == Some(&b':') { hour_end } else { end })
}

/// A telephone number: eight to fifteen digits (ITU-T E.164) in groups that only such numbers have.
fn phone(text: &[u8], at: usize) -> Option<usize> {
    let before = if at == 0 { b' ' } else { text[at - 1] };
    if matches!(before, b'-' | b'.' | b'/' | b'#' | b'$' | b'+' | b':' | b'%') {
        return None;
    }
    let groups = Groups::read(text, at)?;
    let called = || said_before(text, at, &["phone", "call", "tel", "mobile", "cell", "fax", "whatsapp", "sms"]);
    let shape = match (groups.count, groups.marked) {
        (1, true) => groups.digits >= 8 && text[at] == b'+',
        (1 | 2, false) => called() && groups.digits >= 7,
        (2, true) => true,
        _ => (groups.evenly_sized && !groups.social) || (groups.marked && groups.digits >= 9) || called(),
    };
    let digits_min = if groups.marked || groups.count <= 2 { 7 } else { 8 };
    let fits = (digits_min..=15).contains(&groups.digits) && !groups.thousands;
    (shape && fits).then_some(())?;
    extension(text, groups.end)
}

/// What a run of digit groups looks like.
struct Groups {
    count: usize,
    digits: usize,
    end: usize,
    /// Begins with `+` or has a bracketed area code.
    marked: bool,
    /// Every group has two to five digits, one of them three or more.
    evenly_sized: bool,
    /// 1 000 000 rather than a telephone number.
    thousands: bool,
    /// 3-2-4 digits: a social security number, or one that was never issued.
    social: bool,
}

impl Groups {
    fn read(text: &[u8], at: usize) -> Option<Self> {
        let mut sizes = [0usize; GROUPS_MAX];
        let (mut count, mut end, mut spaced) = (0, at, true);
        let mut marked = text[at] == b'+';
        end += usize::from(marked);
        loop {
            let open = text.get(end) == Some(&b'(');
            let size = digits_from(text, end + usize::from(open));
            let closed = !open || text.get(end + 1 + size) == Some(&b')');
            if size == 0 || !closed {
                break;
            }
            *sizes.get_mut(count)? = size;
            count += 1;
            end += size + 2 * usize::from(open);
            marked |= open;
            let separator = text.get(end).filter(|byte| matches!(byte, b' ' | b'-' | b'.')).copied();
            let next = end + usize::from(separator.is_some());
            let goes_on = text.get(next).is_some_and(|byte| byte.is_ascii_digit() || *byte == b'(');
            if !goes_on || (separator.is_none() && !open && text[next] != b'(') {
                break;
            }
            spaced &= matches!(separator, Some(b' ' | b'.'));
            end = next;
        }
        // A separator that was read before something that is no group is not part of the number.
        while end > at && !text[end - 1].is_ascii_digit() && text[end - 1] != b')' {
            end -= 1;
        }
        let sizes = &sizes[..count];
        let thousands = spaced && !marked && count > 1 && sizes[1..].iter().all(|size| *size == 3) && text[at] != b'0';
        let evenly_sized = sizes.iter().all(|size| (2..=5).contains(size)) && sizes.iter().any(|size| *size >= 3)
            || (count >= 4 && sizes[0] == 1 && sizes[1..].iter().all(|size| (2..=4).contains(size)));
        let digits = sizes.iter().sum();
        (count > 0).then_some(Self { count, digits, end, marked, evenly_sized, thousands, social: sizes == [3, 2, 4] })
    }
}

/// The end of a telephone number with its extension (`x751`, `ext. 12`); none where something else continues it.
fn extension(text: &[u8], end: usize) -> Option<usize> {
    let rest = &text[end..];
    let skip = usize::from(rest.first() == Some(&b' '));
    for mark in [&b"ext. "[..], b"ext.", b"ext ", b"x"] {
        let marked = rest.len() >= skip + mark.len() && rest[skip..skip + mark.len()].eq_ignore_ascii_case(mark);
        let count = digits_from(rest, skip + mark.len());
        if marked && (1..=6).contains(&count) && ends(rest, skip + mark.len() + count) {
            return Some(end + skip + mark.len() + count);
        }
    }
    let next = text.get(end + 1).is_some_and(|byte| is_word(*byte));
    let goes_on = matches!(text.get(end), Some(b'-' | b':' | b'/' | b'.' | b'@')) && next;
    (ends(text, end) && !goes_on).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::{CARD, Detectors, IP, PHONE, SSN};

    fn found(text: &str) -> Vec<(u8, String)> {
        let findings = Detectors::new().scan(text);
        findings.spans().iter().map(|span| (span.detector, text[span.start..span.end].to_owned())).collect()
    }

    #[test]
    fn numbers_are_told_apart() {
        let cases: &[(&str, u8, &str)] = &[
            ("card 4532276644577020.", CARD, "4532276644577020"),
            ("card 4111-1111-1111-1111", CARD, "4111-1111-1111-1111"),
            ("amex 3782 822463 10005 ok", CARD, "3782 822463 10005"),
            ("ssn 531-21-7351", SSN, "531-21-7351"),
            ("my SSN is 531217351", SSN, "531217351"),
            ("from 58.74.121.78:8080", IP, "58.74.121.78"),
            ("host 2001:db8::8a2e:370:7334 down", IP, "2001:db8::8a2e:370:7334"),
            ("call (07) 5331 0577?", PHONE, "(07) 5331 0577"),
            ("call (96) 627-277 now", PHONE, "(96) 627-277"),
            ("986.291.2294x751", PHONE, "986.291.2294x751"),
            ("+1-944-435-4352x04732", PHONE, "+1-944-435-4352x04732"),
            ("+4915123456789", PHONE, "+4915123456789"),
            ("tel 5551234567", PHONE, "5551234567"),
        ];
        for (text, detector, span) in cases {
            assert_eq!(found(text), vec![(*detector, (*span).to_owned())], "{text:?}");
        }
    }

    #[test]
    fn numbers_that_identify_nobody_are_left_alone() {
        for text in [
            "2024-05-20 06:00:00",
            "20.05.2024 17:30",
            "05/20/2024",
            "HAT136 HAT039",
            "152 + 103 = 255",
            "1 000 000",
            "12,000,000",
            "$250.50",
            "4111111111111112",
            "credit_card_4421486",
            "certificate_7504069",
            "v1.2.3.4",
            "1.2.3.4.5",
            "999.1.1.1",
            "000-12-3456",
            "550e8400-e29b-41d4-a716-446655440000",
            "3... 2... 1...",
            "std::net::Ipv6Addr",
            "12:30:45",
            "1732170000000",
            "ZIP 11164",
            "120000000 rows",
        ] {
            assert_eq!(found(text), vec![], "{text:?}");
        }
    }
}
