//! E-mail addresses and IBANs: identifiers that have a grammar of their own.

use super::anchors::is_word;
use super::{EMAIL, IBAN, Report};

/// Bytes of the part before the `@` (RFC 5321 allows 64).
const LOCAL_BYTES_MAX: usize = 64;
/// Bytes of a domain (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 253;

/// Reports the address around the `@` at `at`; returns where to go on.
pub(super) fn email(text: &[u8], at: usize, report: &mut dyn Report) -> usize {
    let is_local = |byte: &&u8| is_word(**byte) || matches!(byte, b'.' | b'%' | b'+' | b'-' | b'\'');
    let mut start = at - text[..at].iter().rev().take(LOCAL_BYTES_MAX).take_while(is_local).count();
    while start < at && matches!(text[start], b'.' | b'\'' | b'-') {
        start += 1;
    }
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte >= 0x80 || matches!(byte, b'.' | b'-');
    let mut end = at + 1 + text[at + 1..].iter().take(DOMAIN_BYTES_MAX).take_while(is_domain).count();
    while matches!(text[end - 1], b'.' | b'-') {
        end -= 1;
    }
    let domain = &text[(at + 1).min(end)..end];
    let top = domain.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let top_is_name = (2..=24).contains(&top.len()) && !top.iter().any(u8::is_ascii_digit);
    let labels = domain.split(|byte| *byte == b'.').all(|label| !label.is_empty());
    if start < at && top_is_name && labels && top.len() < domain.len() {
        report.found(EMAIL, 150, start, end);
        return end;
    }
    at + 1
}

/// Length of an IBAN by country (ISO 13616 registry).
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24\
    FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27\
    MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25\
    SV28TL23TN24TR26UA29VA22VG24XK20";

/// Reports the IBAN whose check digits begin at `at`; returns its end.
pub(super) fn iban(text: &[u8], at: usize, report: &mut dyn Report) -> Option<usize> {
    let start = at.checked_sub(2)?;
    let country = [text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()];
    let alone = start == 0 || !is_word(text[start - 1]);
    if !alone || !country.iter().all(u8::is_ascii_uppercase) || !text.get(at + 1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let entry = IBAN_LENGTHS.as_bytes().chunks_exact(4).find(|entry| entry[..2] == country)?;
    let length = usize::from(entry[2] - b'0') * 10 + usize::from(entry[3] - b'0');
    let (mut symbols, mut count, mut end) = ([0u8; 40], 0, start);
    while count < length {
        let byte = *text.get(end)?;
        if byte.is_ascii_alphanumeric() {
            symbols[count] = byte.to_ascii_uppercase();
            count += 1;
        } else if !(matches!(byte, b' ' | b'-') && count % 4 == 0 && text[end - 1].is_ascii_alphanumeric()) {
            return None;
        }
        end += 1;
    }
    let free = !text.get(end).is_some_and(|byte| is_word(*byte));
    (free && passes_mod_97(&symbols[..length])).then(|| report.found(IBAN, 500, start, end)).map(|()| end)
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
