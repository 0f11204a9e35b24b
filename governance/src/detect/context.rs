//! What the words beside a number say that it is: the nearest telling word wins.
//!
//! The same digits are a telephone number after `call me on` and an order after `order no.`. Words are read backwards
//! from the number, a bounded number of bytes and words, so a text full of numbers costs no more than its length. Nothing
//! here decides that something was found; `numbers`, `phone` and `mail` do.

/// Bytes before a number in which a word may say what it is.
const BYTES_MAX: usize = 56;
/// Words before a number that are looked at.
const WORDS_MAX: usize = 8;
/// Bytes of the longest telling word.
const WORD_BYTES_MAX: usize = 16;

/// What a word says of the number beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// A telephone number.
    Phone,
    /// A payment card.
    Card,
    /// A social security number.
    Social,
    /// An international bank account number.
    Iban,
    /// The address of a host.
    Host,
    /// A numbering: of versions, of sections.
    Numbering,
    /// A driving licence.
    Licence,
    /// A number that identifies no person: an order, an amount, a postal code.
    Other,
}

/// Telling words, lower case, sorted.
const WORDS: &[(&str, Said)] = &[
    ("account", Said::Other),
    ("acct", Said::Other),
    ("amex", Said::Card),
    ("amount", Said::Other),
    ("anruf", Said::Phone),
    ("answering", Said::Phone),
    ("batch", Said::Other),
    ("booking", Said::Other),
    ("build", Said::Numbering),
    ("bytes", Said::Other),
    ("call", Said::Phone),
    ("called", Said::Phone),
    ("calling", Said::Phone),
    ("calls", Said::Phone),
    ("card", Said::Card),
    ("cards", Said::Card),
    ("carte", Said::Card),
    ("case", Said::Other),
    ("cc", Said::Card),
    ("cell", Said::Phone),
    ("cellphone", Said::Phone),
    ("cellular", Said::Phone),
    ("certificate", Said::Other),
    ("chapter", Said::Numbering),
    ("claim", Said::Other),
    ("code", Said::Other),
    ("confirmation", Said::Other),
    ("contact", Said::Phone),
    ("created", Said::Other),
    ("customer", Said::Other),
    ("date", Said::Other),
    ("desk", Said::Phone),
    ("dial", Said::Phone),
    ("dl", Said::Licence),
    ("dollars", Said::Other),
    ("driver", Said::Licence),
    ("eur", Said::Other),
    ("euros", Said::Other),
    ("extension", Said::Phone),
    ("fax", Said::Phone),
    ("firmware", Said::Numbering),
    ("flight", Said::Other),
    ("gsm", Said::Phone),
    ("handy", Said::Phone),
    ("host", Said::Host),
    ("hotline", Said::Phone),
    ("iban", Said::Iban),
    ("id", Said::Other),
    ("invoice", Said::Other),
    ("ip", Said::Host),
    ("isbn", Said::Other),
    ("item", Said::Other),
    ("items", Said::Other),
    ("kernel", Said::Numbering),
    ("km", Said::Other),
    ("landline", Said::Phone),
    ("licence", Said::Licence),
    ("license", Said::Licence),
    ("maestro", Said::Card),
    ("mastercard", Said::Card),
    ("member", Said::Other),
    ("membership", Said::Other),
    ("message", Said::Phone),
    ("messages", Said::Phone),
    ("miles", Said::Other),
    ("mob", Said::Phone),
    ("mobil", Said::Phone),
    ("mobile", Said::Phone),
    ("model", Said::Other),
    ("ms", Said::Other),
    ("m\u{f3}vil", Said::Phone),
    ("office", Said::Phone),
    ("oid", Said::Numbering),
    ("order", Said::Other),
    ("orders", Said::Other),
    ("part", Said::Other),
    ("passport", Said::Other),
    ("payment", Said::Other),
    ("people", Said::Other),
    ("phone", Said::Phone),
    ("phones", Said::Phone),
    ("pin", Said::Other),
    ("points", Said::Other),
    ("policy", Said::Other),
    ("portable", Said::Phone),
    ("postal", Said::Other),
    ("postcode", Said::Other),
    ("price", Said::Other),
    ("product", Said::Other),
    ("reach", Said::Phone),
    ("receipt", Said::Other),
    ("records", Said::Other),
    ("ref", Said::Other),
    ("reference", Said::Other),
    ("registered", Said::Phone),
    ("release", Said::Numbering),
    ("request", Said::Other),
    ("reservation", Said::Other),
    ("ring", Said::Phone),
    ("rows", Said::Other),
    ("seconds", Said::Other),
    ("section", Said::Numbering),
    ("serial", Said::Other),
    ("server", Said::Host),
    ("sku", Said::Other),
    ("sms", Said::Phone),
    ("social", Said::Social),
    ("ssn", Said::Social),
    ("step", Said::Numbering),
    ("tel", Said::Phone),
    ("telefon", Said::Phone),
    ("telefone", Said::Phone),
    ("telefono", Said::Phone),
    ("telephone", Said::Phone),
    ("tel\u{e9}fono", Said::Phone),
    ("texting", Said::Phone),
    ("ticket", Said::Other),
    ("times", Said::Other),
    ("timestamp", Said::Other),
    ("tlf", Said::Phone),
    ("tokens", Said::Other),
    ("total", Said::Other),
    ("tracking", Said::Other),
    ("transaction", Said::Other),
    ("t\u{e9}l", Said::Phone),
    ("t\u{e9}l\u{e9}phone", Said::Phone),
    ("upc", Said::Other),
    ("ups", Said::Other),
    ("usd", Said::Other),
    ("user", Said::Other),
    ("users", Said::Other),
    ("v", Said::Numbering),
    ("ver", Said::Numbering),
    ("version", Said::Numbering),
    ("viber", Said::Phone),
    ("vin", Said::Other),
    ("visa", Said::Card),
    ("whatsapp", Said::Phone),
    ("zip", Said::Other),
    ("zipcode", Said::Other),
];

/// The nearest telling word before `at`, with the number of words between; words are cut at `_` and inside `camelCase`.
pub(super) fn before(text: &[u8], at: usize) -> Option<(Said, usize)> {
    let floor = at.saturating_sub(BYTES_MAX);
    let mut end = at;
    for between in 0..WORDS_MAX {
        while end > floor && !continues_word(text[end - 1]) {
            end -= 1;
        }
        let mut start = end;
        while start > floor && continues_word(text[start - 1]) && !is_hump(text, start, end) {
            start -= 1;
        }
        let cut = start == floor && floor > 0 && continues_word(text[floor - 1]);
        if start == end || cut {
            return None;
        }
        if let Some(said) = of_word(&text[start..end]) {
            return Some((said, between));
        }
        end = start;
    }
    None
}

/// What the word after `end` says, on the same line: `555-1234 office`, `120 rows`. One that labels what follows it
/// (`mobile:`) says nothing of what precedes.
pub(super) fn after(text: &[u8], end: usize) -> Option<Said> {
    let start = end + text[end..].iter().take(2).take_while(|byte| matches!(byte, b' ' | b'-' | b'(' | b'/')).count();
    let length = text[start..].iter().take(WORD_BYTES_MAX + 1).take_while(|byte| continues_word(**byte)).count();
    let labels = text.get(start + length) == Some(&b':');
    if labels || start == end {
        return None;
    }
    of_word(&text[start..start + length])
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// True where `text[start]` is the capital that begins a word inside `camelCase`.
fn is_hump(text: &[u8], start: usize, end: usize) -> bool {
    start < end && text[start].is_ascii_uppercase() && text[start - 1].is_ascii_lowercase()
}

fn of_word(word: &[u8]) -> Option<Said> {
    let mut lower = [0; WORD_BYTES_MAX];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let at = WORDS.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some(WORDS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(WORDS.is_sorted_by(|one, other| one.0.as_bytes() < other.0.as_bytes()));
        assert!(WORDS.iter().all(|(word, _)| word.len() <= WORD_BYTES_MAX && *word == word.to_lowercase()));
        assert!(WORDS.iter().all(|(word, said)| of_word(word.as_bytes()) == Some(*said)));
    }

    #[test]
    fn the_nearest_telling_word_wins() {
        let said = |text: &str| before(text.as_bytes(), text.len());
        assert_eq!(said("please call me on "), Some((Said::Phone, 2)));
        assert_eq!(said("call about order "), Some((Said::Other, 0)));
        assert_eq!(said("order shipped, Phone: "), Some((Said::Phone, 0)));
        assert_eq!(said(r#"{"contactPhone": ""#), Some((Said::Phone, 0)));
        assert_eq!(said("client_ip="), Some((Said::Host, 0)));
        assert_eq!(said("T\u{e9}l\u{e9}phone : "), Some((Said::Phone, 0)));
        assert_eq!(said("nothing is said here of "), None);
        assert_eq!(said(&format!("call {}", "a ".repeat(40))), None);
        assert_eq!(before(b"", 0), None);
    }

    #[test]
    fn a_word_behind_speaks_for_its_own_line_only() {
        let said = |text: &str| after(text.as_bytes(), 1);
        assert_eq!(said("5 office"), Some(Said::Phone));
        assert_eq!(said("5-Fax"), Some(Said::Phone));
        assert_eq!(said("5 rows"), Some(Said::Other));
        for text in ["5\noffice", "5 mobile: 6", "5office", "5", "5 x"] {
            assert_eq!(said(text), None, "{text:?}");
        }
    }
}
