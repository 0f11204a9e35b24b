//! Made-up actions for tests and benches: prose is drawn word by word from documents of this project, so that no text
//! repeats and nobody's words are in it. Not for load on a cluster: `nethical load` has a generator of its own.

use std::collections::BTreeMap;
use std::path::Path;

use nethical_cluster::body::{BodyV1, SeenV1};
use nethical_governance::command::EvaluationV1;
use nethical_protocol::action::{Action, ActionKind, Cost};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde_json::{Map, Value, json};

/// Tools with the names of their arguments.
const TOOLS: [(&str, ActionKind, &[&str]); 12] = [
    ("search_flights", ActionKind::ToolCall, &["origin", "destination", "date", "cabin", "passengers"]),
    ("get_user_details", ActionKind::ToolCall, &["user_id", "fields"]),
    ("book_reservation", ActionKind::ToolCall, &["user_id", "flights", "payment_methods", "insurance"]),
    ("refund", ActionKind::ToolCall, &["order_id", "amount", "currency", "reason"]),
    ("send_email", ActionKind::Message, &["to", "subject", "body", "reply_to"]),
    ("post_message", ActionKind::Message, &["channel", "text", "thread"]),
    ("run_python", ActionKind::CodeExecution, &["code", "timeout_s", "packages"]),
    ("read_file", ActionKind::DataAccess, &["path", "offset", "limit"]),
    ("query_table", ActionKind::DataAccess, &["table", "columns", "where", "limit"]),
    ("complete", ActionKind::ModelCall, &["model", "messages", "temperature", "max_tokens"]),
    ("delegate", ActionKind::Delegation, &["to_agent", "task", "deadline", "context"]),
    ("think", ActionKind::ToolCall, &["thought"]),
];

/// Which words follow which in some documents.
pub struct Prose {
    /// Each different word once.
    words: Vec<String>,
    /// The documents, word by word.
    text: Vec<u32>,
    /// What follows each word, by its number.
    after: Vec<Vec<u32>>,
}

impl Prose {
    /// Reads documents of this project, by their paths in it.
    pub fn of(documents: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut prose = Self { words: Vec::new(), text: Vec::new(), after: Vec::new() };
        let mut numbers = BTreeMap::new();
        for document in documents {
            let text = std::fs::read_to_string(root.join(document)).expect("a document of this project");
            let words = text.split_whitespace().filter(|word| word.len() < 24);
            let read: Vec<u32> = words.map(|word| prose.number(&mut numbers, word)).collect();
            read.windows(2).for_each(|pair| prose.after[pair[0] as usize].push(pair[1]));
            prose.text.extend(read);
        }
        prose
    }

    fn number(&mut self, numbers: &mut BTreeMap<String, u32>, word: &str) -> u32 {
        *numbers.entry(word.to_owned()).or_insert_with(|| {
            self.words.push(word.to_owned());
            self.after.push(Vec::new());
            self.words.len() as u32 - 1
        })
    }

    /// So many words; one in six leaps to another place, so that no text is that of the document.
    fn text(&self, dice: &mut StdRng, words: usize) -> String {
        let mut at = *self.text.choose(dice).expect("words");
        let mut text = self.words[at as usize].clone();
        for _ in 1..words {
            let leaps = dice.random_ratio(1, 6);
            let next = Some(&self.after[at as usize]).filter(|_| !leaps).and_then(|next| next.choose(dice));
            at = *next.or_else(|| self.text.choose(dice)).expect("words");
            text.push(' ');
            text += &self.words[at as usize];
        }
        text
    }

    /// A value that an argument of that name might have.
    fn value(&self, dice: &mut StdRng, name: &str) -> Value {
        match name {
            "body" | "text" | "code" | "task" | "thought" | "messages" | "context" | "reason" => {
                let words = dice.random_range(8..90);
                self.text(dice, words).into()
            }
            "subject" | "where" | "path" => self.text(dice, 4).into(),
            "amount" | "limit" | "offset" | "max_tokens" | "timeout_s" | "passengers" => {
                dice.random_range(0..20_000).into()
            }
            "date" | "deadline" => {
                format!("2026-{:02}-{:02}", dice.random_range(1..13), dice.random_range(1..29)).into()
            }
            _ => format!("{}_{:06x}", self.text(dice, 1).to_lowercase(), dice.random_range(0..1 << 24)).into(),
        }
    }

    fn action(&self, dice: &mut StdRng) -> Action {
        let (name, kind, arguments) = TOOLS.choose(dice).expect("tools");
        let mut args: Map<String, Value> =
            arguments.iter().map(|name| ((*name).to_owned(), self.value(dice, name))).collect();
        let (intent, explain) = (dice.random_range(30..110), dice.random_range(5..40));
        args.insert("intent".to_owned(), self.text(dice, intent).into());
        let trace = format!("{:016x}{:016x}", dice.next_u64(), dice.next_u64());
        let context =
            json!({ "trace_id": trace, "step": dice.random_range(0..40), "explain": self.text(dice, explain) });
        let id = (dice.next_u32() >> 16, dice.next_u32() >> 20, dice.next_u64() >> 16);
        let one_of = |dice: &mut StdRng, names: [&str; 3]| (*names.choose(dice).expect("three")).to_owned();
        Action {
            request_id: format!(
                "01a2{:04x}-{:04x}-7{:03x}-b{:03x}-{:012x}",
                id.0,
                id.0 ^ 0x5a5a,
                id.1,
                id.1 ^ 0x3c3,
                id.2
            ),
            client_chosen: true,
            issued_at_ms: 1_795_000_000_000 + dice.random_range(0..1_000_000_000),
            tenant: one_of(dice, ["airline", "bank", "retail"]),
            agent: format!("agent-{:04}", dice.random_range(0..2_000)),
            session: format!("session-{:08x}", dice.next_u32()),
            cohort: one_of(dice, ["alpha", "beta", ""]),
            region: one_of(dice, ["us-east-1", "eu-west-1", ""]),
            kind: *kind,
            name: (*name).to_owned(),
            resource_type: "record".to_owned(),
            resource_id: format!("r-{:08}", dice.random_range(0..99_999_999)),
            args_json: Value::Object(args).to_string(),
            context_json: context.to_string(),
            cost: vec![Cost::charged("usd_micros", dice.random_range(0..5_000))],
            explain: false,
            approval: String::new(),
            is_critical: false,
            wants_receipt: false,
        }
    }

    /// A stored body of a made-up action, about 1.2 KB.
    pub fn body(&self, dice: &mut StdRng) -> Vec<u8> {
        let body = BodyV1::Decision {
            action: self.action(dice),
            evaluation: EvaluationV1::default(),
            seen: SeenV1::default(),
            shadow: None,
            detectors: 3,
            redacted: None,
        };
        body.to_bytes()
    }
}
