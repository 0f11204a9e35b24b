//! What a word is, which words a body has, and whether a body has what somebody looks for.
//!
//! The one place that says what matches: an index only names candidates, and every one of them is judged here on its opened body.
//! Pure. Whoever changes what a word is raises the version of index files ([`super::file`]): an old index would hide entries. Words are runs of letters and digits, in small letters and without accents, of up to [`WORD_BYTES_MAX`] bytes.

use std::collections::BTreeSet;

use serde_json::Value;
use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenStream,
};

use nethical_protocol::control::HoldSpec;
use nethical_protocol::limits::{TEXT_QUERY_BYTES_MAX, TEXT_QUERY_WORDS_MAX};

use crate::body::{BodyV1, WordsV1};

/// Longer runs of letters and digits are no words: keys and blobs.
pub const WORD_BYTES_MAX: usize = 64;

/// What somebody looks for. All of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextQuery {
    /// Words that must be there.
    pub words: BTreeSet<String>,
    /// With each of these some word must begin.
    pub prefixes: BTreeSet<String>,
    /// Words that must follow one another within one value.
    pub phrases: Vec<Vec<String>>,
}

impl TextQuery {
    /// Reads `refund "chargeback dispute" cust*`.
    ///
    /// # Errors
    /// In words: nothing to look for, or too much of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_QUERY_BYTES_MAX {
            return Err(format!("text has more than {TEXT_QUERY_BYTES_MAX} bytes"));
        }
        if text.matches('"').count() % 2 == 1 {
            return Err("text has a quotation mark without its fellow".to_owned());
        }
        if text.split(|letter: char| !letter.is_alphanumeric()).any(|run| run.len() > WORD_BYTES_MAX) {
            return Err(format!("a run of more than {WORD_BYTES_MAX} bytes is no word"));
        }
        let mut query = Self::default();
        for (number, part) in text.split('"').enumerate() {
            match number % 2 {
                0 => part.split_whitespace().for_each(|piece| query.take(piece, piece.ends_with('*'))),
                _ => query.take(part, false),
            }
        }
        let count = query.words.len() + query.prefixes.len();
        match count {
            0 => Err("text has no word to look for: letters or digits".to_owned()),
            _ if count > TEXT_QUERY_WORDS_MAX => Err(format!("text has more than {TEXT_QUERY_WORDS_MAX} words")),
            _ => Ok(query),
        }
    }

    /// Words that stand together, the last of which may be the beginning of one.
    fn take(&mut self, piece: &str, is_prefix: bool) {
        let mut words = words_of(piece);
        if is_prefix {
            self.prefixes.extend(words.pop());
        }
        if words.len() > 1 {
            self.phrases.push(words.clone());
        }
        self.words.extend(words);
    }

    /// True where a body has all of it.
    pub fn matches(&self, body: &BodyV1) -> bool {
        let values: Vec<Vec<String>> = values_of(body).iter().map(|value| words_of(value)).collect();
        let has = |word: &String| values.iter().flatten().any(|there| there == word);
        let begins = |prefix: &String| values.iter().flatten().any(|there| there.starts_with(prefix.as_str()));
        let follow = |phrase: &Vec<String>| values.iter().any(|value| value.windows(phrase.len()).any(|w| w == phrase));
        self.words.iter().all(has) && self.prefixes.iter().all(begins) && self.phrases.iter().all(follow)
    }
}

/// The different words of a body.
pub fn words_in(body: &BodyV1) -> BTreeSet<String> {
    values_of(body).iter().flat_map(|value| words_of(value)).collect()
}

/// The words of a text, in its order.
fn words_of(text: &str) -> Vec<String> {
    let long = RemoveLongFilter::limit(WORD_BYTES_MAX + 1);
    let words = TextAnalyzer::builder(SimpleTokenizer::default());
    let mut words = words.filter(long).filter(LowerCaser).filter(AsciiFoldingFilter).build();
    let (mut stream, mut found) = (words.token_stream(text), Vec::new());
    while stream.advance() {
        found.push(stream.token().text.clone());
    }
    found
}

/// What is looked through: the action's name and resource, all values of its arguments and its context, reasons and names that
/// people gave. Not the names of fields, nor what entries are found by anyway: agent, session, request.
fn values_of(body: &BodyV1) -> Vec<String> {
    match body {
        BodyV1::Hold(HoldSpec { reason, approver, .. }) => vec![reason.clone(), approver.clone()],
        BodyV1::Word(WordsV1 { approver, reason, .. }) => vec![approver.clone(), reason.clone()],
        BodyV1::Decision { action, .. } => {
            let mut values = vec![action.name.clone(), action.resource_type.clone(), action.resource_id.clone()];
            for json in [&action.args_json, &action.context_json] {
                match serde_json::from_str(json) {
                    Ok(value) => collect(&value, &mut values),
                    Err(_) => values.push(json.clone()),
                }
            }
            values
        }
    }
}

/// The leaves of a JSON value; its depth is bounded by its parser.
fn collect(value: &Value, values: &mut Vec<String>) {
    match value {
        Value::String(text) => values.push(text.clone()),
        Value::Number(number) => values.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, values)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, values)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(reason: &str) -> BodyV1 {
        BodyV1::Word(WordsV1 { approves: true, approver: "maria".to_owned(), reason: reason.to_owned() })
    }

    fn is_found(query: &str, reason: &str) -> bool {
        TextQuery::parse(query).expect("it reads").matches(&word(reason))
    }

    #[test]
    fn all_words_must_be_there_whatever_their_order_case_and_accents() {
        let said = "Refund of 120.50 EUR to Jürgen Müller, order A-77";
        for query in
            ["refund", "MULLER jurgen", "müller", "a-77", "120.50 maria", "ref* eur", "mull*", "\"order a 77\""]
        {
            assert!(is_found(query, said), "{query}");
        }
        for query in ["refunds", "refund dollar", "\"eur refund\"", "a-78", "xy*", "\"maria refund\""] {
            assert!(!is_found(query, said), "{query}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_reason() {
        let many = (0..=TEXT_QUERY_WORDS_MAX).map(|n| format!("w{n} ")).collect::<String>();
        let long = "x".repeat(TEXT_QUERY_BYTES_MAX + 1);
        let run = "x".repeat(WORD_BYTES_MAX + 1);
        for query in ["", "  ", "-- !", "\"open", "*", &many, &long, &run] {
            assert!(TextQuery::parse(query).is_err(), "{query:?}");
        }
    }

    #[test]
    fn a_run_that_is_too_long_is_no_word_and_values_are_not_run_together() {
        let blob = "a".repeat(WORD_BYTES_MAX + 1);
        assert!(words_in(&word(&blob)).iter().all(|word| word == "maria"));
        assert!(words_in(&word(&"a".repeat(WORD_BYTES_MAX))).len() == 2);
        let mut values = Vec::new();
        collect(&serde_json::json!({"a": ["x", {"b": 7}], "c": null, "d": true, "e": "y"}), &mut values);
        assert_eq!(values, ["x", "7", "y"]);
    }
}
