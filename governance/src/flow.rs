//! Facts of an action's content that its agent's profile goes by: how large it is, under which labels it reads, whether
//! it sends outside, and the entropy of its arguments. Computed by the agent's actor; only the numbers travel in the command.
//!
//! Labels stand in the context, where the enforcement point says what the action reads: `source_labels` or `labels`, a
//! word or a list of words. Where a message goes the context may say too: `destination` is `internal` or `external`.
//! Without a word, a message goes outside, and so does what names a foreign address or URL as its recipient.

use std::borrow::Cow;

use nethical_protocol::action::{Action, ActionKind};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::behaviour::{ActionFactsV1, SENSITIVE, label_bits};
use crate::entropy::entropy_of;

/// Types of resources that lie outside, in lower case.
const OUTSIDE_TYPES: [&str; 6] = ["external_api", "external", "webhook", "url", "email", "internet"];
/// Keys under which arguments name whom they send to, in lower case.
const RECIPIENT_KEYS: [&str; 14] = [
    "to",
    "cc",
    "bcc",
    "recipient",
    "recipients",
    "email_to",
    "send_to",
    "url",
    "uri",
    "endpoint",
    "webhook",
    "webhook_url",
    "destination",
    "upload_to",
];

/// The facts of an action. A function of the action alone.
pub fn facts_of(action: &Action) -> ActionFactsV1 {
    let said = Said::of(&action.context_json);
    ActionFactsV1 {
        bytes: u32::try_from(action.args_json.len() + action.context_json.len()).unwrap_or(u32::MAX),
        labels: said.labels,
        outside: said.outside.unwrap_or_else(|| sends_outside(action)),
        entropy: entropy_of(&action.args_json),
    }
}

/// What the context says about data and their way.
struct Said {
    labels: u16,
    outside: Option<bool>,
}

#[derive(Deserialize)]
struct ContextWords<'a> {
    #[serde(borrow, default)]
    source_labels: Words<'a>,
    #[serde(borrow, default)]
    labels: Words<'a>,
    #[serde(borrow, default)]
    destination: Words<'a>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Words<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Many(#[serde(borrow)] Vec<Cow<'a, str>>),
    Other(IgnoredAny),
    #[default]
    None,
}

impl Words<'_> {
    fn labels(&self) -> u16 {
        match self {
            Self::One(word) => label_bits(word),
            Self::Many(words) => words.iter().fold(0, |bits, word| bits | label_bits(word)),
            Self::Other(_) | Self::None => 0,
        }
    }
}

impl Said {
    /// A context that speaks of labels and cannot be read counts as carrying all sensitive ones.
    fn of(context: &str) -> Self {
        // An escape may spell these words too, so a backslash is reason enough to read the context.
        if !["label", "destination", "\\"].iter().any(|word| context.contains(word)) {
            return Self { labels: 0, outside: None };
        }
        let Ok(words) = serde_json::from_str::<ContextWords<'_>>(context) else {
            return Self { labels: SENSITIVE, outside: None };
        };
        let outside = match &words.destination {
            Words::One(word) if word == "internal" => Some(false),
            Words::One(word) if word == "external" => Some(true),
            _ => None,
        };
        Self { labels: words.source_labels.labels() | words.labels.labels(), outside }
    }
}

fn sends_outside(action: &Action) -> bool {
    let args = &action.args_json;
    action.kind == ActionKind::Message
        || OUTSIDE_TYPES.iter().any(|known| known.eq_ignore_ascii_case(&action.resource_type))
        // Most arguments name no address at all, and need not be read.
        || (["@", "://", "\\"].iter().any(|sign| args.contains(sign)) && names_outsider(args))
}

/// True where a recipient in a JSON object lies outside, at any depth. Text that is not JSON may name anybody.
fn names_outsider(args_json: &str) -> bool {
    let mut reader = serde_json::Deserializer::from_str(args_json);
    reader.deserialize_any(Walk { is_recipient: false }).unwrap_or(true)
}

#[derive(Clone, Copy)]
struct Walk {
    is_recipient: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for Walk {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.is_recipient && is_outside(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let mut outside = false;
        while let Some(item) = items.next_element_seed(self)? {
            outside |= item;
        }
        Ok(outside)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<bool, A::Error> {
        let mut outside = false;
        while let Some(key) = fields.next_key::<Cow<'de, str>>()? {
            let named = RECIPIENT_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&key));
            outside |= fields.next_value_seed(Walk { is_recipient: self.is_recipient || named })?;
        }
        Ok(outside)
    }
}

/// True for an e-mail address or a URL whose host is not one of this network.
fn is_outside(recipient: &str) -> bool {
    let host = match (recipient.split_once("://"), recipient.rsplit_once('@')) {
        (Some((_, rest)), _) => rest.split(['/', '?', '#']).next().unwrap_or(rest),
        (None, Some((_, host))) => host,
        (None, None) => return false,
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':').trim_matches(['<', '>', ' ']);
    let host = host.to_ascii_lowercase();
    let inside = ["localhost", "127.", "10.", "192.168.", "[::1]"];
    let private =
        inside.iter().any(|start| host.starts_with(start) && (start.ends_with('.') || host.len() == start.len()));
    let named = [".local", ".internal", ".localhost"].iter().any(|end| host.ends_with(end));
    !(private || named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::action;

    fn facts(kind: ActionKind, args: &str, context: &str) -> ActionFactsV1 {
        let mut action = action(kind, "tool", args);
        action.context_json = context.to_owned();
        facts_of(&action)
    }

    #[test]
    fn labels_are_read_from_the_context_whatever_their_form() {
        let bits = |context: &str| facts(ActionKind::DataAccess, "{}", context).labels;
        assert_eq!(bits(r#"{"source_labels": ["confidential", "PII", "unheard of"]}"#), 0b1_0001);
        assert_eq!(bits(r#"{"labels": "Secret"}"#), 0b10);
        assert_eq!(bits(r#"{"\u006cabels": "secret", "source_labels": ["pci"]}"#), 0b100_0010);
        assert_eq!(bits(r#"{"labels": {"a": 1}, "note": "label"}"#), 0);
        assert_eq!(bits("labels: secret"), SENSITIVE, "what cannot be read may be anything");
        assert_eq!(bits(r#"{"automated": true}"#), 0);
    }

    #[test]
    fn a_recipient_outside_is_found_at_any_depth_and_one_inside_is_not() {
        let outside = |args: &str| facts(ActionKind::ToolCall, args, "{}").outside;
        for args in [
            r#"{"to": "eve@example.org"}"#,
            r#"{"to": "a@corp.internal", "to": "eve@example.org"}"#,
            r#"{"message": {"Recipients": ["a@corp.internal", "eve@example.org"]}}"#,
            r#"{"url": "https://example.org/x?to=a@corp.internal"}"#,
            r#"{"webhook": "https://10.example.org@evil.example:8443/"}"#,
            r#"{"\u0074o": "eve\u0040example.org"}"#,
            "not json @",
        ] {
            assert!(outside(args), "{args}");
        }
        for args in [
            "{}",
            r#"{"note": "write to eve@example.org"}"#,
            r#"{"to": "a@corp.internal"}"#,
            r#"{"to": "the printer", "note": "@"}"#,
            r#"{"url": "http://localhost:8080/x"}"#,
            r#"{"url": "http://10.0.0.7/x"}"#,
        ] {
            assert!(!outside(args), "{args}");
        }
    }

    #[test]
    fn a_message_goes_outside_unless_the_context_says_otherwise() {
        assert!(facts(ActionKind::Message, "{}", "{}").outside);
        assert!(!facts(ActionKind::Message, "{}", r#"{"destination": "internal"}"#).outside);
        assert!(facts(ActionKind::ToolCall, "{}", r#"{"destination": "external"}"#).outside);
        let mut call = action(ActionKind::ToolCall, "tool", "{}");
        call.resource_type = "External_API".to_owned();
        assert!(facts_of(&call).outside);
    }
}
