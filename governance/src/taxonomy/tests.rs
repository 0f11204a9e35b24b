//! The built-in taxonomy covers what can be found; scores follow the rules; broken files are refused with all their problems.

use super::*;

#[test]
fn the_built_in_taxonomy_is_sound_and_covers_nine_in_ten_violation_types() {
    let taxonomy = Taxonomy::parse(default_text()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let coverage = taxonomy.coverage();
    assert!(coverage.covered >= taxonomy.coverage_target && taxonomy.coverage_target == 900, "{coverage:?}");
    for (name, meaning) in coverage.types {
        assert!(meaning.is_some_and(|meaning| meaning.overall > 0), "{name}");
    }
}

#[test]
fn scores_are_the_worst_by_dimension_weighed_and_cut() {
    let taxonomy = Taxonomy::default();
    let meaning =
        |found: &[(&str, u16)], automated, privileged| taxonomy.meaning(found.iter().copied(), automated, privileged);
    assert_eq!(meaning(&[], true, true), None, "nothing was found");
    assert_eq!(meaning(&[("unheard of", 1_000)], true, true), None);
    let email = meaning(&[("email", 500)], false, false).expect("it is mapped");
    // 0.6 · 0.5 · 1.2 of privacy: involved, not primary.
    assert_eq!((email.scores, email.primary, email.overall), ([360, 0, 0, 0], None, 360));
    assert_eq!(taxonomy.involved(&email), [("privacy", 360)]);
    let breach = meaning(&[("exfiltration", 700), ("email", 500)], false, true).expect("it is mapped");
    // Privacy 1.0 · 0.7 · 1.2; safety (0.7 · 0.7 + 0.2) · 1.5, cut; both are high: times 1.5, cut.
    assert_eq!((breach.scores, breach.overall), ([840, 0, 0, 1_000], 1_000));
    assert_eq!(breach.primary.map(|place| DIMENSIONS[place]), Some("safety"));
    let injected = meaning(&[("injection", 1_000)], true, false).expect("it is mapped");
    assert_eq!((injected.scores, injected.overall), ([0, 950, 110, 450], 950));
    assert_eq!(injected.primary.map(|place| DIMENSIONS[place]), Some("manipulation"));
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once() {
    let broken = default_text()
        .replace("\"weight\": 1.0", "\"weight\": 11.0")
        .replace("\"email\": {\"privacy\": 0.6", "\"e-mail\": {\"privacy\": 1.6")
        .replace("\"phone\": {\"privacy\": 0.6", "\"phone\": {\"secrecy\": 0.6")
        .replace("\"coverage_target\": 0.9", "\"coverage_target\": 0.90001")
        .replace("\"automated\": {\"fairness\": 0.1}", "\"automated\": {\"fairness\": \"much\"}");
    let problems = Taxonomy::parse(&broken).expect_err("it is broken").join("\n");
    for part in [
        "dimensions.safety.weight must be 0 to 10",
        "no violation type \"e-mail\"",
        "mapping.e-mail.privacy must be 0 to 1",
        "mapping.phone: secrecy is none of",
        "mapping.phone means nothing",
        "coverage_target has more than three decimal places",
        "context.automated.fairness is no number",
    ] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
    let gone = default_text().replace("\"fairness\": {", "\"justice\": {");
    let problems = Taxonomy::parse(&gone).expect_err("a dimension is gone").join("\n");
    assert!(
        problems.contains("dimensions.fairness is missing") && problems.contains("justice is none of"),
        "{problems}"
    );
    for text in ["", "{}", "[]", &default_text()[..500]] {
        assert_eq!(Taxonomy::parse(text).expect_err("no taxonomy").len(), 1);
    }
    assert!(Taxonomy::parse(&" ".repeat(TAXONOMY_BYTES_MAX + 1)).is_err());
}
