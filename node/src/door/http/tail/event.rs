//! What a tail says, and how it is written: as a server-sent event (WHATWG HTML, section 9.2) or as a JSON text frame.
//!
//! The id of an event is the cursor behind it. An event without data moves the reader's cursor and is told to nobody.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use nethical_cluster::api::EntryView;

use crate::door::http::problem::Document;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An entry.
    Entry {
        /// The cursor behind it.
        id: String,
        /// As `GET /v1/audit/entries` has it.
        entry: Box<EntryView>,
    },
    /// Which groups do not answer has changed. What they hold comes once they do.
    Incomplete {
        /// The cursor behind all that was told; it skips nothing of theirs.
        id: String,
        /// They; empty where all answer again.
        groups: Vec<u32>,
    },
    /// Nothing for a while, or where the tail begins.
    Alive {
        /// The cursor behind all that was told and passed over.
        id: String,
    },
    /// Why the tail ends.
    Problem(Box<Document>),
}

impl Event {
    /// As a server-sent event. JSON has no line ends of its own, and cursors are base64url.
    pub fn to_sse(&self) -> Bytes {
        let (name, id, data) = self.parts();
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        let text = match data {
            Some(data) => format!("{id}event: {name}\ndata: {data}\n\n"),
            None => format!(": {name}\n{id}\n"),
        };
        Bytes::from(text)
    }

    /// As the text of a WebSocket frame.
    pub fn to_json(&self) -> String {
        let (event, id, data) = self.parts();
        serde_json::to_string(&Frame { event, id, data }).expect(SERIALISES)
    }

    fn parts(&self) -> (&'static str, Option<&str>, Option<Box<RawValue>>) {
        match self {
            Self::Entry { id, entry } => ("entry", Some(id), Some(raw(entry))),
            Self::Incomplete { id, groups } => ("incomplete", Some(id), Some(raw(&Silent { groups }))),
            Self::Alive { id } => ("alive", Some(id), None),
            Self::Problem(document) => ("problem", None, Some(raw(document))),
        }
    }
}

const SERIALISES: &str = "texts, numbers and JSON values serialise";

#[derive(Serialize)]
struct Frame<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Silent<'a> {
    groups: &'a [u32],
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect(SERIALISES)
}

#[cfg(test)]
mod tests {
    use nethical_protocol::error::{Code, Problem};
    use serde_json::json;

    use super::*;
    use crate::door::scripted::entry;

    fn sse(event: &Event) -> String {
        String::from_utf8(event.to_sse().to_vec()).expect("UTF-8")
    }

    #[test]
    fn events_are_blocks_of_lines_and_json_frames() {
        let alive = Event::Alive { id: "c1".into() };
        assert_eq!(sse(&alive), ": alive\nid: c1\n\n");
        assert_eq!(alive.to_json(), r#"{"event":"alive","id":"c1"}"#);
        let incomplete = Event::Incomplete { id: "c2".into(), groups: vec![3, 7] };
        assert_eq!(sse(&incomplete), "id: c2\nevent: incomplete\ndata: {\"groups\":[3,7]}\n\n");
        let problem = Event::Problem(Box::new(Document::new(&Problem::new(Code::UnknownTenant, "t"), "r")));
        assert!(sse(&problem).starts_with("event: problem\ndata: {") && !sse(&problem).contains("id: "));
    }

    #[test]
    fn no_text_of_an_entry_breaks_out_of_its_line() {
        let mut nasty = entry(7);
        nasty.body = Some(json!({ "name": "a\n\nid: forged\r\nevent: x\u{2028}", "agent": "\0" }));
        let event = Event::Entry { id: "c".into(), entry: Box::new(nasty.clone()) };
        let text = sse(&event);
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        assert_eq!(lines.len(), 5, "{text}");
        let data = lines[2].strip_prefix("data: ").expect("data");
        assert_eq!(serde_json::from_str::<EntryView>(data).expect("an entry"), nasty);
        let frame: serde_json::Value = serde_json::from_str(&event.to_json()).expect("JSON");
        assert_eq!((&frame["event"], &frame["id"]), (&json!("entry"), &json!("c")));
        assert_eq!(frame["data"]["body"], nasty.body.unwrap_or_default());
    }
}
