//! Synthetic actions for load and for the demo: varied in kind, tool, resource and text, and the same for the same seed.
//!
//! Real agents repeat themselves little, so a generator with five phrases would flatter caches, compression and the
//! dedup window. Here 1,248 templates (tool × way of putting it) are filled with words, amounts and names; an action's
//! texts take about 500 bytes. Every tenth action holds an e-mail address, as in the older system's mix.

use serde_json::json;

use nethical_protocol::action::{Action, ActionKind, Cost};

/// How many different templates there are.
pub const TEMPLATES: u64 = (TOOLS.len() * OPENINGS.len()) as u64;
/// Bytes that an action's free text is filled up to.
const TEXT_BYTES: usize = 260;

struct Tool {
    kind: ActionKind,
    name: &'static str,
    resource: &'static str,
    field: &'static str,
}

const fn tool(kind: ActionKind, name: &'static str, resource: &'static str, field: &'static str) -> Tool {
    Tool { kind, name, resource, field }
}

use ActionKind::{CodeExecution, DataAccess, Delegation, Lifecycle, Message, ModelCall, ToolCall};

const TOOLS: [Tool; 52] = [
    tool(ToolCall, "search_direct_flight", "flight", "route"),
    tool(ToolCall, "search_connecting_flight", "flight", "route"),
    tool(ToolCall, "book_reservation", "reservation", "itinerary"),
    tool(ToolCall, "cancel_reservation", "reservation", "reason"),
    tool(ToolCall, "update_baggage", "reservation", "change"),
    tool(ToolCall, "list_airports", "directory", "filter"),
    tool(ToolCall, "issue_voucher", "voucher", "reason"),
    tool(ToolCall, "find_order", "order", "query"),
    tool(ToolCall, "change_delivery_address", "order", "address"),
    tool(ToolCall, "open_ticket", "ticket", "summary"),
    tool(ToolCall, "close_ticket", "ticket", "resolution"),
    tool(ToolCall, "escalate_ticket", "ticket", "cause"),
    tool(ToolCall, "schedule_visit", "calendar", "purpose"),
    tool(ToolCall, "read_meter", "meter", "place"),
    tool(ToolCall, "order_spare_part", "part", "description"),
    tool(ToolCall, "track_parcel", "parcel", "note"),
    tool(ToolCall, "translate_document", "document", "passage"),
    tool(ToolCall, "convert_currency", "rate", "purpose"),
    tool(ToolCall, "reserve_table", "restaurant", "wish"),
    tool(ToolCall, "set_thermostat", "device", "plan"),
    tool(Message, "reply_to_user", "conversation", "text"),
    tool(Message, "send_email", "mailbox", "body"),
    tool(Message, "post_to_channel", "channel", "text"),
    tool(Message, "notify_supervisor", "person", "text"),
    tool(Message, "answer_survey", "survey", "text"),
    tool(Message, "write_minutes", "meeting", "text"),
    tool(ModelCall, "summarise", "model", "prompt"),
    tool(ModelCall, "classify_intent", "model", "prompt"),
    tool(ModelCall, "draft_answer", "model", "prompt"),
    tool(ModelCall, "extract_fields", "model", "prompt"),
    tool(ModelCall, "embed_passage", "model", "prompt"),
    tool(ModelCall, "rerank_results", "model", "prompt"),
    tool(CodeExecution, "run_notebook_cell", "notebook", "source"),
    tool(CodeExecution, "evaluate_formula", "sheet", "source"),
    tool(CodeExecution, "render_chart", "report", "source"),
    tool(CodeExecution, "run_unit_tests", "repository", "source"),
    tool(CodeExecution, "format_table", "report", "source"),
    tool(DataAccess, "read_customer_note", "customer", "question"),
    tool(DataAccess, "read_knowledge_article", "article", "question"),
    tool(DataAccess, "list_open_orders", "order", "question"),
    tool(DataAccess, "read_price_list", "catalogue", "question"),
    tool(DataAccess, "append_case_note", "case", "note"),
    tool(DataAccess, "read_sensor_series", "sensor", "question"),
    tool(DataAccess, "query_stock_levels", "warehouse", "question"),
    tool(DataAccess, "update_contact_card", "contact", "note"),
    tool(Delegation, "ask_billing_agent", "agent", "task"),
    tool(Delegation, "ask_research_agent", "agent", "task"),
    tool(Delegation, "ask_logistics_agent", "agent", "task"),
    tool(Delegation, "hand_over_shift", "agent", "task"),
    tool(Lifecycle, "reload_tools", "self", "cause"),
    tool(Lifecycle, "extend_session", "self", "cause"),
    tool(Lifecycle, "pause_session", "self", "cause"),
];

const OPENINGS: [&str; 24] = [
    "The customer asks about",
    "Following up on",
    "Please check again",
    "As agreed this morning, prepare",
    "Before the shift ends, look at",
    "A colleague reported trouble with",
    "We promised to settle",
    "For the monthly report, collect",
    "The second attempt concerned",
    "Nobody has answered yet about",
    "Compare with last week:",
    "In short, this is about",
    "They would rather not wait for",
    "Kindly confirm",
    "Our records disagree on",
    "The warehouse cannot find",
    "To be on the safe side, review",
    "It is time to renew",
    "Two people mentioned",
    "After the outage, restore",
    "The contract allows",
    "Without hurry, tidy up",
    "The family travels with",
    "Only for the pilot group, enable",
];

const WORDS: [&str; 96] = [
    "window",
    "seat",
    "refund",
    "schedule",
    "harbour",
    "garden",
    "invoice",
    "quarter",
    "battery",
    "cable",
    "lantern",
    "suitcase",
    "ticket",
    "station",
    "platform",
    "morning",
    "evening",
    "delivery",
    "address",
    "balcony",
    "printer",
    "archive",
    "letter",
    "meadow",
    "bridge",
    "river",
    "copper",
    "cotton",
    "paper",
    "silver",
    "amber",
    "blue",
    "green",
    "narrow",
    "wide",
    "early",
    "late",
    "second",
    "third",
    "final",
    "missing",
    "broken",
    "spare",
    "patient",
    "careful",
    "gentle",
    "steady",
    "northern",
    "southern",
    "coastal",
    "mountain",
    "village",
    "capital",
    "museum",
    "library",
    "kitchen",
    "workshop",
    "market",
    "orchard",
    "lighthouse",
    "compass",
    "ledger",
    "voucher",
    "receipt",
    "deposit",
    "balance",
    "estimate",
    "discount",
    "warranty",
    "manual",
    "sensor",
    "valve",
    "filter",
    "pump",
    "meter",
    "signal",
    "channel",
    "backup",
    "release",
    "upgrade",
    "summary",
    "answer",
    "question",
    "meeting",
    "agenda",
    "minutes",
    "reminder",
    "promise",
    "delay",
    "detour",
    "arrival",
    "departure",
    "passport",
    "visa",
    "baggage",
    "upgrade offer",
];

/// Makes actions. Cheap to copy; holds no state but its seed.
#[derive(Debug, Clone, Copy)]
pub struct Generator {
    seed: u64,
    agents: u64,
}

impl Generator {
    /// Actions for `agents` agents (at least one).
    pub fn new(seed: u64, agents: u64) -> Self {
        Self { seed, agents: agents.max(1) }
    }

    /// The agent that makes the `sequence`-th action.
    pub fn agent(&self, sequence: u64) -> String {
        format!("load-agent-{:05}", sequence % self.agents)
    }

    /// The `sequence`-th action of a tenant, without a request id: the sender gives it one when it sends.
    pub fn action(&self, tenant: &str, sequence: u64) -> Action {
        let mut dice = Dice(self.seed ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let template = dice.below(TEMPLATES);
        let tool = &TOOLS[(template % TOOLS.len() as u64) as usize];
        let opening = OPENINGS[(template / TOOLS.len() as u64) as usize];
        let mut text = dice.text(opening);
        if sequence % 10 == 9 {
            let (first, second) = (dice.word(), dice.word());
            text.push_str(&format!(" Write to {}.{}@example.org.", first.replace(' ', "-"), second.replace(' ', "-")));
        }
        let number = dice.below(1_000_000);
        let args = json!({
            tool.field: text, "reference": format!("{}-{number:06}", tool.resource), "priority": dice.below(5),
            "amount_cents": dice.below(250_000), "labels": [dice.word(), dice.word()],
        });
        let context = json!({ "channel": dice.word(), "turn": dice.below(40), "automated": dice.below(4) == 0 });
        Action {
            request_id: String::new(),
            client_chosen: true,
            issued_at_ms: 0,
            tenant: tenant.to_owned(),
            agent: self.agent(sequence),
            session: format!("session-{:03}", sequence / self.agents / 32),
            cohort: "load-test".to_owned(),
            region: String::new(),
            kind: tool.kind,
            name: tool.name.to_owned(),
            resource_type: tool.resource.to_owned(),
            resource_id: format!("{}/{number:06}", tool.resource),
            args_json: args.to_string(),
            context_json: context.to_string(),
            cost: vec![Cost::charged("tokens.input", 50 + dice.below(900))],
            explain: false,
            approval: String::new(),
            is_critical: false,
            wants_receipt: false,
        }
    }
}

/// Gives an action a fresh UUIDv7 and the time inside it.
pub fn stamp(action: &mut Action) {
    let id = uuid::Uuid::now_v7();
    let (seconds, nanoseconds) = id.get_timestamp().expect("a v7 id carries its time").to_unix();
    action.request_id = id.to_string();
    action.issued_at_ms = seconds * 1_000 + u64::from(nanoseconds / 1_000_000);
    action.client_chosen = true;
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, the same on every machine. No security.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0..bound; the bias of the remainder is below 2⁻⁴⁰ for the bounds used here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn text(&mut self, opening: &str) -> String {
        let mut text = String::with_capacity(TEXT_BYTES + 32);
        text.push_str(opening);
        while text.len() < TEXT_BYTES {
            text.push(' ');
            text.push_str(self.word());
            match self.below(12) {
                0 => text.push(','),
                1 => text.push_str(&format!(" {}", self.below(9_000))),
                2 => text.push_str(". The"),
                _ => {}
            }
        }
        text.push('.');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_a_thousand_templates_and_more_and_all_are_used() {
        const { assert!(TEMPLATES >= 1_000) };
        let generator = Generator::new(1, 10);
        let used: BTreeSet<(String, String)> = (0..40_000)
            .map(|sequence| {
                let action = generator.action("t", sequence);
                let args: serde_json::Value = serde_json::from_str(&action.args_json).expect("own JSON");
                let field = TOOLS.iter().find(|tool| tool.name == action.name).expect("own tool").field;
                let text = args[field].as_str().expect("text").to_owned();
                let opening = OPENINGS.iter().find(|opening| text.starts_with(**opening)).expect("own opening");
                (action.name, (*opening).to_owned())
            })
            .collect();
        assert_eq!(used.len() as u64, TEMPLATES);
    }

    #[test]
    fn the_same_seed_gives_the_same_actions_and_another_seed_others() {
        let (one, again, other) = (Generator::new(7, 50), Generator::new(7, 50), Generator::new(8, 50));
        assert!((0..200).all(|sequence| one.action("t", sequence) == again.action("t", sequence)));
        assert!((0..200).any(|sequence| one.action("t", sequence) != other.action("t", sequence)));
    }

    #[test]
    fn actions_are_about_five_hundred_bytes_and_inside_every_bound() {
        let generator = Generator::new(3, 100);
        let mut total = 0;
        for sequence in 0..1_000 {
            let mut action = generator.action("t", sequence);
            stamp(&mut action);
            action.check_bounds().expect("inside the bounds");
            total += action.text_bytes();
        }
        assert!((400..800).contains(&(total / 1_000)), "{} bytes on average", total / 1_000);
    }

    #[test]
    fn a_stamp_carries_its_own_time() {
        let mut action = Generator::new(1, 1).action("t", 0);
        stamp(&mut action);
        assert_eq!(action.request_id.len(), 36);
        assert!(action.issued_at_ms > 1_700_000_000_000);
    }
}
