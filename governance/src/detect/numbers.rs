//! Numbers that identify people or machines: cards, social security numbers, telephone numbers, addresses of hosts.
//!
//! Called only where a number begins. Every check reads a bounded number of bytes from there, so the whole is linear.
//! Order matters: what is a date is no telephone number, and what is a card is not looked at again.

use std::net::Ipv6Addr;

use super::anchors::is_word;
use super::context::{self, Said};
use super::phone::phone;
use super::{CARD, IP, PHONE, Report, SSN};

/// Digits of the longest number looked at (cards have 19 at most).
const DIGITS_MAX: usize = 19;
/// Maestro's are the shortest.
const CARD_DIGITS_MIN: usize = 12;
/// Bytes that the checks of one number read at most, with the words beside it.
const NUMBER_BYTES_MAX: usize = 256;
/// Words that may stand between `ssn` or `card` and the number.
const WORDS_BETWEEN_MAX: usize = 6;

/// Reports the number that begins at `at` (a digit, or `+` or `(` before one) and returns where to go on, after `at`.
pub(super) fn at(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    if !begins(text, at) {
        return skip_word(text, at);
    }
    report.looked(NUMBER_BYTES_MAX);
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

pub(super) fn digits_from(text: &[u8], at: usize) -> usize {
    text[at.min(text.len())..].iter().take(DIGITS_MAX + 2).take_while(|byte| byte.is_ascii_digit()).count()
}

/// True where nothing continues the number at `end`. Scripts that are written without spaces do not.
pub(super) fn ends(text: &[u8], end: usize) -> bool {
    match text.get(end) {
        Some(byte) if byte.is_ascii() => !is_word(*byte),
        Some(_) => !joins(first_char(&text[end..])),
        None => true,
    }
}

/// True where a number may begin at `at`.
pub(super) fn begins(text: &[u8], at: usize) -> bool {
    match at.checked_sub(1).map(|before| text[before]) {
        Some(byte) if byte.is_ascii() => !is_word(byte),
        Some(_) => {
            let back = (1..=4.min(at)).find(|back| text[at - back] & 0xC0 != 0x80).unwrap_or(1);
            !joins(first_char(&text[at - back..at]))
        }
        None => true,
    }
}

fn first_char(bytes: &[u8]) -> Option<char> {
    let length = (1..=4.min(bytes.len())).find(|length| std::str::from_utf8(&bytes[..*length]).is_ok())?;
    std::str::from_utf8(&bytes[..length]).ok()?.chars().next()
}

/// True for characters that make a word with the digits beside them.
fn joins(character: Option<char>) -> bool {
    character.is_some_and(|character| character.is_alphanumeric() && character < '\u{2e80}')
}

fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

/// True where the nearest telling word before `at` says that, and is near.
fn said(text: &[u8], at: usize, what: Said) -> bool {
    context::before(text, at).is_some_and(|(said, between)| said == what && between <= WORDS_BETWEEN_MAX)
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
    (ends(text, end) && !goes_on && !is_numbering(text, at)).then_some(end)
}

/// True for the numbers of versions and sections, which look like addresses.
fn is_numbering(text: &[u8], at: usize) -> bool {
    context::before(text, at).is_some_and(|(said, between)| said == Said::Numbering && between <= 2)
}

/// Reports an IPv6 address around the colon at `at`; returns where to go on.
pub(super) fn ip_v6(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    let belongs = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let start = at - text[..at].iter().rev().take(4).take_while(belongs).count();
    let end = at + text[at..].iter().take(45).take_while(belongs).count();
    report.looked(end - start);
    let alone = begins(text, start) && ends(text, end);
    let candidate = trim_end(&text[start..end]);
    if alone && tells(candidate) && std::str::from_utf8(candidate).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
        report.found(IP, 100, start, start + candidate.len());
    }
    // What follows a single colon, as in `tel:0176 …`, is for others to look at.
    if text[at + 1..end].contains(&b':') { end } else { at + 1 }
}

/// Without the punctuation of the sentence around.
fn trim_end(candidate: &[u8]) -> &[u8] {
    let candidate = candidate.strip_suffix(b".").unwrap_or(candidate);
    match candidate {
        [head @ .., b':'] if !head.ends_with(b":") => head,
        whole => whole,
    }
}

/// True where it is an address rather than a path of names: three groups, or two of which one is full or an IPv4 one.
fn tells(candidate: &[u8]) -> bool {
    let groups = || candidate.split(|byte| *byte == b':').filter(|group| !group.is_empty());
    let full = |group: &[u8]| group.len() == 4 && group.iter().any(u8::is_ascii_digit);
    let whole =
        groups().count() >= 3 || (groups().count() == 2 && groups().any(|group| full(group) || group.contains(&b'.')));
    whole && candidate.iter().any(u8::is_ascii_digit)
}

/// A payment card: 12 to 19 digits, in one piece or in groups, that pass Luhn's check (ISO/IEC 7812-1), are of a known
/// network, or come after a word that says so. Where groups follow that are not part of it, the longest card wins.
fn card(text: &[u8], at: usize) -> Option<usize> {
    if at > 0 && matches!(text[at - 1], b'-' | b'.') {
        return None;
    }
    let (mut digits, mut count, mut end, mut separator) = ([0u8; DIGITS_MAX], 0, at, None);
    let mut found = None;
    loop {
        let byte = *text.get(end).unwrap_or(&0);
        if byte.is_ascii_digit() {
            let Some(place) = digits.get_mut(count) else { break };
            *place = byte - b'0';
            (count, end) = (count + 1, end + 1);
            continue;
        }
        if count >= CARD_DIGITS_MIN && ends(text, end) && is_card(text, at, &digits[..count]) {
            found = Some(end);
        }
        let joins = matches!(byte, b' ' | b'-') && *separator.get_or_insert(byte) == byte && count >= 4;
        if !(joins && text.get(end + 1).is_some_and(u8::is_ascii_digit)) {
            break;
        }
        if byte == b'-' {
            // What is joined by dashes is one number: a part of it is no card.
            found = None;
        }
        end += 1;
    }
    found
}

/// Two of three are enough: the check, the network, the word. A card with a typing error is still meant as one.
fn is_card(text: &[u8], at: usize, digits: &[u8]) -> bool {
    let (passes, known) = (passes_luhn(digits), is_card_network(digits) && is_varied(digits));
    (passes && known) || ((passes || known) && said(text, at, Said::Card))
}

fn is_card_network(digits: &[u8]) -> bool {
    match (digits[0], digits.len()) {
        (4, 13 | 16 | 19) | (2 | 5, 16) => true,
        (2, 15) => digits[1..4] == [1, 3, 1],
        (1, 15) => digits[1..4] == [8, 0, 0],
        (3, 14) => matches!(digits[1], 0 | 6 | 8 | 9),
        (3, 15) => matches!(digits[1], 4 | 7),
        (3, 16) => digits[1] == 5,
        (6, 16..=19) => true,
        (5, 12..) if matches!(digits[..4], [5, 0, 1, 8] | [5, 0, 2, 0] | [5, 0, 3, 8]) => true,
        (6, 12..) if matches!(digits[..4], [6, 3, 0, 4] | [6, 7, 5, 9] | [6, 7, 6, 1..=3]) => true,
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
    sum.is_multiple_of(10) && is_varied(digits)
}

fn is_varied(digits: &[u8]) -> bool {
    digits.iter().fold(0u16, |seen, digit| seen | 1 << digit).count_ones() >= 2
}

/// A US social security number: 3-2-4 digits with dashes; with other separators or none only where a word says so.
fn ssn(text: &[u8], at: usize) -> Option<usize> {
    let (area, group, serial, end) = match digits_from(text, at) {
        9 if said(text, at, Said::Social) => (at, at + 3, at + 5, at + 9),
        3 => {
            let separator = *text.get(at + 3).filter(|byte| matches!(byte, b'-' | b' ' | b'.'))?;
            let formed = digits_from(text, at + 4) == 2 && text.get(at + 6) == Some(&separator);
            let told = if separator == b'-' { !said(text, at, Said::Licence) } else { said(text, at, Said::Social) };
            (told && formed && digits_from(text, at + 7) == 4).then_some((at, at + 4, at + 7, at + 11))?
        }
        _ => return None,
    };
    let area = value(&text[area..area + 3]);
    let issued = area != 0 && area != 666 && area < 900;
    let filled = value(&text[group..group + 2]) != 0 && value(&text[serial..serial + 4]) != 0;
    let free = at == 0 || !matches!(text[at - 1], b'-' | b'+' | b'.');
    let goes_on =
        matches!(text.get(end), Some(b'-' | b'.')) && text.get(end + 1).is_some_and(u8::is_ascii_alphanumeric);
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
    let goes_on = text.get(end) == Some(&separator) && text.get(end + 1).is_some_and(u8::is_ascii_digit);
    ((year_first || year_last) && !goes_on).then_some(())?;
    let hour = text.get(end) == Some(&b' ') && (1..=2).contains(&digits_from(text, end + 1));
    let hour_end = end + 1 + digits_from(text, end + 1);
    Some(if hour && text.get(hour_end) == Some(&b':') { hour_end } else { end })
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
