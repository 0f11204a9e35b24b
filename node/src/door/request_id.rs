//! Request ids and the time inside them. An id's time bounds how long it is remembered (ARCHITECTURE 8).
//!
//! UUIDv7 (RFC 9562) and ULID carry milliseconds in their first 48 bits. Any other form needs its time beside it.

use uuid::Uuid;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::REQUEST_ID_BYTES_MAX;

/// An id with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// The idempotency key.
    pub text: String,
    /// False where the door made it.
    pub client_chosen: bool,
    /// Milliseconds since 1970.
    pub issued_at_ms: u64,
}

/// A fresh UUIDv7 in its usual form.
pub fn mint() -> String {
    Uuid::now_v7().to_string()
}

/// The milliseconds since 1970 inside a UUIDv7 or a ULID; nothing for other forms.
pub fn time_in(text: &str) -> Option<u64> {
    match text.len() {
        26 => ulid_ms(text),
        32 | 36 => uuid_v7_ms(text),
        _ => None,
    }
}

/// The id of a request: the client's with the time in it or beside it, or a fresh one where the client gave none.
pub fn resolve(given: Option<String>, issued_at_ms: Option<u64>) -> Result<RequestId, Problem> {
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        let text = mint();
        let issued_at_ms = time_in(&text).expect("a fresh UUIDv7 carries its time");
        return Ok(RequestId { text, client_chosen: false, issued_at_ms });
    };
    match time_in(&text).or(issued_at_ms) {
        Some(issued_at_ms) => Ok(RequestId { text, client_chosen: true, issued_at_ms }),
        None => Err(Problem::new(
            Code::MalformedRequest,
            "request_id is neither a UUIDv7 nor a ULID, so issued_at (RFC 3339 or milliseconds since 1970) is required",
        )),
    }
}

/// At most as many bytes of an id as ids may have, for answers that name one over its bound.
pub fn shortened(text: &str) -> &str {
    let mut end = REQUEST_ID_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn uuid_v7_ms(text: &str) -> Option<u64> {
    let uuid = Uuid::try_parse(text).ok()?;
    (uuid.get_version_num() == 7).then_some((uuid.as_u128() >> 80) as u64)
}

/// Crockford's base 32, most significant first; ten characters hold 50 bits, of which the first two must be zero.
fn ulid_ms(text: &str) -> Option<u64> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = text
        .bytes()
        .map(|byte| ALPHABET.iter().position(|symbol| *symbol == byte.to_ascii_uppercase()).map(|at| at as u64))
        .collect::<Option<Vec<u64>>>()?;
    (digits[0] <= 7).then(|| digits[..10].iter().fold(0, |value, digit| value << 5 | digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_v7_and_ulid_carry_their_time() {
        // RFC 9562 appendix A.6, and the example of the ULID specification.
        assert_eq!(time_in("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), Some(1_645_557_742_000));
        assert_eq!(time_in("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(1_469_922_850_259));
    }

    #[test]
    fn other_forms_carry_none() {
        for text in [
            "",
            "order-17",
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        ] {
            assert_eq!(time_in(text), None, "{text}");
        }
    }

    #[test]
    fn long_ids_are_cut_between_letters() {
        assert_eq!(shortened("order-17"), "order-17");
        assert_eq!(shortened(&format!("x{}", "é".repeat(40))).len(), REQUEST_ID_BYTES_MAX - 1);
    }

    #[test]
    fn a_missing_id_is_made_and_an_undated_one_needs_its_time() {
        let made = resolve(None, None).expect("the door makes one");
        assert!(!made.client_chosen && time_in(&made.text) == Some(made.issued_at_ms));
        assert_eq!(resolve(Some("order-17".into()), None).map_err(|p| p.code), Err(Code::MalformedRequest));
        let dated = resolve(Some("order-17".into()), Some(5)).expect("its time is beside it");
        assert_eq!(dated, RequestId { text: "order-17".into(), client_chosen: true, issued_at_ms: 5 });
        let own = resolve(Some("017F22E2-79B0-7CC3-98C4-DC0C0C07398F".into()), Some(5)).expect("its time is inside");
        assert_eq!(own.issued_at_ms, 1_645_557_742_000, "the time inside the id wins");
    }
}
