//! E-mail addresses and IBANs: identifiers that have a grammar of their own.

use super::anchors::is_word;
use super::context::{self, Said};
use super::numbers::{begins, ends};
use super::{EMAIL, IBAN, Report};

/// Bytes of the part before the `@` (RFC 5321 allows 64).
const LOCAL_BYTES_MAX: usize = 64;
/// Bytes of a domain (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 253;

/// Reports the address around the `@` at `at`; returns where to go on.
pub(super) fn email(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    around(text, at, at + 1, report)
}

/// The same around an `@` that is written as `%40`, as in the query of a URL.
pub(super) fn email_in_url(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    match text[at..].starts_with(b"%40") {
        true => around(text, at, at + 3, report),
        false => at + 1,
    }
}

/// An address whose local part ends at `at` and whose domain begins at `from`.
fn around(text: &[u8], at: usize, from: usize, report: &mut dyn Report) -> usize {
    let is_local = |byte: &&u8| is_word(**byte) || matches!(byte, b'.' | b'%' | b'+' | b'-' | b'\'');
    let mut start = at - text[..at].iter().rev().take(LOCAL_BYTES_MAX).take_while(is_local).count();
    if from > at + 1 {
        // Inside a URL the percent sign begins an escape, which is no part of the name.
        let escape = text[start..at].iter().rposition(|byte| *byte == b'%');
        start = escape.map_or(start, |place| (start + place + 3).min(at));
    }
    while start < at && matches!(text[start], b'.' | b'\'' | b'-') {
        start += 1;
    }
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte >= 0x80 || matches!(byte, b'.' | b'-');
    let mut end = from + text[from..].iter().take(DOMAIN_BYTES_MAX).take_while(is_domain).count();
    report.looked(end - start);
    while matches!(text[end - 1], b'.' | b'-') {
        end -= 1;
    }
    let domain = &text[from.min(end)..end];
    let top = domain.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let top_is_name = (2..=24).contains(&top.len()) && !top.iter().any(u8::is_ascii_digit);
    let labels = domain.split(|byte| *byte == b'.').all(|label| !label.is_empty());
    // `git@host:path` names a repository.
    let names = &text[start..at] == b"git" && text.get(end) == Some(&b':');
    if start < at && top_is_name && labels && top.len() < domain.len() && !names {
        report.found(EMAIL, 150, start, end);
        return end;
    }
    from
}

/// Length of an IBAN by country (ISO 13616 registry).
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24\
    FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27\
    MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25\
    SV28TL23TN24TR26UA29VA22VG24XK20";

/// Symbols of the shortest and the longest IBAN that ISO 13616 allows for.
const IBAN_SYMBOLS: std::ops::RangeInclusive<usize> = 15..=34;
/// Words that may stand between `iban` and an account number that fails its check.
const WORDS_BETWEEN_MAX: usize = 3;

/// Reports the IBAN whose check digits begin at `at`; returns its end.
///
/// One of its country's length that passes its check is certain. A generator that pays no heed to lengths still makes the
/// check right, so any other length counts where most symbols are digits. After the word `iban`, a typing error does not
/// make it less of an account number: the length is enough.
pub(super) fn iban(text: &[u8], at: usize, report: &mut dyn Report) -> Option<usize> {
    let start = at.checked_sub(2)?;
    let country = [text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()];
    let dated = text.get(at + 1).is_some_and(u8::is_ascii_digit);
    if !country.iter().all(u8::is_ascii_uppercase) || !dated || !begins(text, start) {
        return None;
    }
    let entry = IBAN_LENGTHS.as_bytes().chunks_exact(4).find(|entry| entry[..2] == country)?;
    let length = usize::from(entry[2] - b'0') * 10 + usize::from(entry[3] - b'0');
    let mut symbols = Symbols { list: [0; 34], ends: [0; 34], count: 0 };
    symbols.read(text, start);
    report.looked(symbols.count * 2);
    let passes = |count: usize| symbols.end(text, count).filter(|_| passes_mod_97(&symbols.list[..count]));
    let said =
        || context::before(text, start).is_some_and(|(said, words)| said == Said::Iban && words <= WORDS_BETWEEN_MAX);
    let (severity, end) = match passes(length) {
        Some(end) => (500, end),
        None => match IBAN_SYMBOLS.rev().find_map(|count| passes(count).filter(|_| symbols.has_digits(count))) {
            Some(end) => (450, end),
            None => (300, symbols.end(text, length).filter(|_| said())?),
        },
    };
    report.found(IBAN, severity, start, end);
    Some(end)
}

/// The letters and digits from a place on, over the separators of groups of four.
struct Symbols {
    list: [u8; 34],
    /// Where each symbol ends.
    ends: [usize; 34],
    count: usize,
}

impl Symbols {
    fn read(&mut self, text: &[u8], start: usize) {
        let mut at = start;
        while let Some(byte) = text.get(at) {
            if byte.is_ascii_alphanumeric() {
                if self.count == self.list.len() {
                    break;
                }
                (self.list[self.count], self.ends[self.count]) = (byte.to_ascii_uppercase(), at + 1);
                self.count += 1;
            } else if !(matches!(byte, b' ' | b'-')
                && self.count.is_multiple_of(4)
                && text[at - 1].is_ascii_alphanumeric())
            {
                break;
            }
            at += 1;
        }
    }

    /// Where an account number of so many symbols ends, if it can end there.
    fn end(&self, text: &[u8], count: usize) -> Option<usize> {
        let end = *self.ends.get(count.checked_sub(1)?)?;
        (count <= self.count && ends(text, end)).then_some(end)
    }

    /// True where digits are at least ten, and more than half of all.
    fn has_digits(&self, count: usize) -> bool {
        let digits = self.list[..count].iter().filter(|symbol| symbol.is_ascii_digit()).count();
        digits >= 10 && digits * 2 > count
    }
}

/// The check of ISO 7064: country and check digits moved to the end, letters as 10..35, remainder 1.
fn passes_mod_97(symbols: &[u8]) -> bool {
    let rotated = symbols[4..].iter().chain(&symbols[..4]);
    rotated.fold(0u32, |rest, symbol| match symbol {
        b'0'..=b'9' => (rest * 10 + u32::from(symbol - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    }) == 1
}

#[cfg(test)]
mod tests {
    use super::super::{Detectors, EMAIL, IBAN};

    fn found(text: &str) -> Vec<(u8, String)> {
        let findings = Detectors::new().scan(text);
        findings.spans().iter().map(|span| (span.detector, text[span.start..span.end].to_owned())).collect()
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, address) in [
            ("mail LeaVLind@superrito.com.", "LeaVLind@superrito.com"),
            ("<a.b+c%d@x-y.co.uk>", "a.b+c%d@x-y.co.uk"),
            ("jürgen@müller.de", "jürgen@müller.de"),
        ] {
            assert_eq!(found(text), vec![(EMAIL, address.to_owned())]);
        }
        for text in ["@handle", "a@b", "a@b.1", "user@.com", "x @ y.com", "@@@", "a@b..com", "@"] {
            assert_eq!(found(text), vec![], "{text:?}");
        }
    }

    #[test]
    fn account_numbers_pass_their_check() {
        for text in
            ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "NO9386011117947"]
        {
            assert_eq!(found(text), vec![(IBAN, text.to_owned())]);
        }
        for text in
            ["DE88370400440532013000", "XX89370400440532013000", "DE8937040044053201300", "DE89370400440532013000A"]
        {
            assert!(!found(text).iter().any(|(detector, _)| *detector == IBAN), "{text:?}");
        }
    }
}
