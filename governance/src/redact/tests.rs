//! What redaction cuts, what it leaves, and that JSON stays JSON.

use proptest::prelude::*;

use super::*;

fn detectors() -> &'static Detectors {
    static DETECTORS: std::sync::OnceLock<Detectors> = std::sync::OnceLock::new();
    DETECTORS.get_or_init(Detectors::new)
}

fn plain(policy: Redaction, mode: Mode<'_>, text: &str) -> String {
    Redactor::new(detectors(), policy, mode).redact(text, Form::Plain).0.into_owned()
}

fn json(policy: Redaction, mode: Mode<'_>, text: &str) -> (String, Vec<Cut>) {
    let (redacted, cuts) = Redactor::new(detectors(), policy, mode).redact(text, Form::Json);
    serde_json::from_str::<serde_json::Value>(&redacted).expect("JSON stays JSON");
    (redacted.into_owned(), cuts)
}

#[test]
fn policies_cut_more_and_more() {
    let text = "SSN 531-21-7351, card 4532276644577020, x@y.example, call (07) 5331 0577, at 58.74.121.78, born 12/27/1986, licence K4811951";
    let redacted = |policy| plain(policy, Mode::Mask, text);
    assert_eq!(redacted(Redaction::None), text);
    assert_eq!(
        redacted(Redaction::Minimal),
        "SSN [US_SSN], card [CREDIT_CARD:7020], x@y.example, call (07) 5331 0577, at 58.74.121.78, born 12/27/1986, licence K4811951"
    );
    assert_eq!(
        redacted(Redaction::Standard),
        "SSN [US_SSN], card [CREDIT_CARD:7020], [EMAIL_ADDRESS]@y.example, call [PHONE_NUMBER], at [IP_ADDRESS], born 12/27/1986, licence K4811951"
    );
    assert_eq!(
        redacted(Redaction::Aggressive),
        "SSN [US_SSN], card [CREDIT_CARD], [EMAIL_ADDRESS], call [PHONE_NUMBER], at [IP_ADDRESS], born [NUMBER], licence [NUMBER]"
    );
}

#[test]
fn modes_say_what_stands_in_the_place_of_a_cut() {
    let text = "from a@b.example to A@B.example and c@d.example";
    assert_eq!(plain(Redaction::Standard, Mode::Drop, text), "from  to  and ");
    assert_eq!(
        plain(Redaction::Standard, Mode::Tokenise, text),
        "from [EMAIL_ADDRESS_1] to [EMAIL_ADDRESS_1] and [EMAIL_ADDRESS_2]"
    );
    let mac = |kind: &str, value: &str| {
        assert_eq!(kind, "EMAIL_ADDRESS");
        [value.len() as u8, value.as_bytes()[0], 0, 0, 0, 0, 0, 9]
    };
    assert_eq!(
        plain(Redaction::Standard, Mode::Hash(&mac), text),
        "from [EMAIL_ADDRESS:0b61000000000009] to [EMAIL_ADDRESS:0b61000000000009] and [EMAIL_ADDRESS:0b63000000000009]"
    );
}

#[test]
fn json_keeps_its_shape_and_cuts_say_where_they_are() {
    let source = r#"{ "to": ["\u00e9 \ud83d\ude00 a@b.example", 4532276644577020], "a/b": {"ssn 531-21-7351": "é \"531-21-7351\""}, "n": 12 }"#;
    let (redacted, cuts) = json(Redaction::Standard, Mode::Mask, source);
    assert_eq!(
        redacted,
        r#"{ "to": ["\u00e9 \ud83d\ude00 [EMAIL_ADDRESS]@b.example", "[CREDIT_CARD:7020]"], "a/b": {"ssn [US_SSN]": "é \"[US_SSN]\""}, "n": 12 }"#
    );
    let places: Vec<(&str, usize, usize)> = cuts.iter().map(|cut| (cut.path.as_str(), cut.start, cut.end)).collect();
    assert_eq!(
        places,
        [("/to/0", 4, 15), ("/to/1", 0, 16), ("/a~1b/ssn 531-21-7351", 4, 15), ("/a~1b/ssn 531-21-7351", 3, 14)]
    );
    assert_eq!(json(Redaction::Standard, Mode::Drop, r#"{"n": 4532276644577020}"#).0, r#"{"n": null}"#);
}

#[test]
fn secrets_go_whole_and_their_names_stay() {
    assert_eq!(
        json(Redaction::Minimal, Mode::Mask, r#"{"password": "correct-horse-9", "n": 1}"#).0,
        r#"{"password": "[SECRET]", "n": 1}"#
    );
    assert_eq!(plain(Redaction::Minimal, Mode::Mask, "set password=hunter22abc now"), "set password=[SECRET] now");
    let long = format!("Bearer {}.tail", "a1".repeat(400));
    assert_eq!(plain(Redaction::Minimal, Mode::Mask, &long), "[SECRET]");
    let key = "see -----BEGIN RSA PRIVATE KEY-----\nMIIEabc+/=\nxyz\n-----END RSA PRIVATE KEY----- here";
    assert_eq!(plain(Redaction::Minimal, Mode::Mask, key), "see [SECRET] here");
    assert_eq!(plain(Redaction::Minimal, Mode::Mask, &key[..50]), "see [SECRET]");
    let (inside, _) =
        json(Redaction::Minimal, Mode::Mask, r#"{"k": "-----BEGIN PRIVATE KEY-----\nMIIE", "n": "stays"}"#);
    assert!(!inside.contains("MIIE"), "{inside}");
}

#[test]
fn more_finds_than_a_scan_names_are_all_cut_and_what_was_not_seen_goes_too() {
    let many = "x@y.example ".repeat(5_000);
    assert_eq!(plain(Redaction::Standard, Mode::Drop, &many), " ".repeat(5_000));
    let dense = format!("{} password=hunter22abc", "rm a ".repeat(3_000));
    assert_eq!(plain(Redaction::Minimal, Mode::Mask, &dense), "[UNREAD]");
    let dense = serde_json::json!({ "a": dense }).to_string();
    assert_eq!(json(Redaction::Minimal, Mode::Mask, &dense).0, r#"{"redacted":"[UNREAD]"}"#);
}

#[test]
fn overlapping_finds_are_one_cut_under_the_worst_name() {
    let find = |start, end, severity, kind| Find { start, end, severity, kind };
    let apart = merged(vec![find(0, 5, 1, "A"), find(3, 9, 7, "B"), find(4, 6, 2, "C"), find(9, 10, 1, "D")]);
    assert_eq!(apart, [find(0, 9, 7, "B"), find(9, 10, 1, "D")]);
}

#[test]
fn obligations_are_read_or_refused() {
    assert_eq!(obligation("redact"), Some(Ok((Redaction::Standard, ModeName::Mask))));
    assert_eq!(obligation("redact:minimal"), Some(Ok((Redaction::Minimal, ModeName::Mask))));
    assert_eq!(obligation("redact:aggressive:drop"), Some(Ok((Redaction::Aggressive, ModeName::Drop))));
    assert!(obligation("redact-logs").is_none() && obligation("notify").is_none());
    for wrong in ["redact:", "redact:none", "redact:all", "redact:minimal:", "redact:minimal:shred"] {
        assert!(obligation(wrong).is_some_and(|read| read.is_err()), "{wrong}");
    }
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[0-9 ().+/-]{0,24}",
        Just("mail x@y.example".to_owned()),
        Just("SSN 531-21-7351".to_owned()),
        Just("password=hunter22abc".to_owned()),
        Just("\"\\\u{200b}4532276644577020".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----\n".to_owned()),
    ];
    let leaf = prop_oneof![
        text.clone().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            proptest::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_stays_json_and_certain_finds_are_gone(value in value(), pretty: bool, aggressive: bool, mode in 0u8..3) {
        let source = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("a value");
        let policy = if aggressive { Redaction::Aggressive } else { Redaction::Standard };
        let mode = [Mode::Mask, Mode::Tokenise, Mode::Drop][usize::from(mode)];
        let (redacted, cuts) = Redactor::new(detectors(), policy, mode).redact(&source, Form::Json);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&redacted).is_ok(), "{source} became {redacted}");
        for gone in ["x@y", "531-21-7351", "hunter22abc"] {
            prop_assert!(!redacted.contains(gone), "{source} became {redacted}");
        }
        prop_assert!(cuts.is_empty() == (redacted == source));
        prop_assert!(redacted.len() <= source.len() * 8 + 64);
    }

    #[test]
    fn plain_text_without_finds_is_borrowed_and_cuts_lie_inside(text in "\\PC{0,80}|[0-9a-z@. -]{0,80}") {
        let (redacted, cuts) = Redactor::new(detectors(), Redaction::Aggressive, Mode::Mask).redact(&text, Form::Plain);
        let characters = text.chars().count();
        prop_assert!(cuts.iter().all(|cut| cut.start < cut.end && cut.end <= characters));
        prop_assert!(!cuts.is_empty() || redacted == text);
    }
}
