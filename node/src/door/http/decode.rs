//! From JSON text to an action. Two forms: AuthZEN's members (SPEC §1) and one flat line of an action log.
//!
//! Unknown fields are ignored; known fields with a value that cannot be honoured are refused. Arguments and context
//! stay text: they are bounded and checked by `submit`, never built here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::BATCH_ACTIONS_MAX;

use super::call::malformed;
use crate::door::request_id::{self, RequestId};
use crate::door::submit::{Item, refuse};

mod options;

use options::Options;

/// Tenant of requests that name none, in clusters that take it from the body.
pub const TENANT_DEFAULT: &str = "default";

/// How missing parts of the native form are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SPEC §1: `action.kind` is required.
    Native,
    /// A plain AuthZEN body: the kind defaults to `tool_call`, and the properties themselves are the arguments.
    AuthZen,
}

/// One decoded request, or its refusal under its id.
pub struct Decoded {
    /// The action or its answer.
    pub item: Item,
    /// The id under which it is answered.
    pub request_id: String,
    /// The deadline asked for, in milliseconds.
    pub deadline_ms: Option<u64>,
}

type Text = Option<String>;

#[derive(Deserialize)]
struct Body<'a> {
    request_id: Text,
    issued_at: Option<IssuedAt>,
    subject: Option<Subject>,
    #[serde(borrow)]
    action: Option<ActionPart<'a>>,
    resource: Option<Resource>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
    #[serde(default)]
    options: Option<Options>,
    // The flat form.
    tenant: Text,
    agent_id: Text,
    session: Text,
    cohort: Text,
    region: Text,
    kind: Text,
    name: Text,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject {
    id: Text,
    properties: Option<SubjectProperties>,
}

#[derive(Default, Deserialize)]
struct SubjectProperties {
    tenant: Text,
    session: Text,
    cohort: Text,
    region: Text,
}

#[derive(Deserialize)]
struct ActionPart<'a> {
    name: Text,
    kind: Text,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct ActionProperties<'a> {
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    kind: Text,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(rename = "type")]
    kind: Text,
    id: Text,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IssuedAt {
    Milliseconds(u64),
    Rfc3339(String),
}

/// Only the id, for answers to requests that could not be read any further.
#[derive(Deserialize)]
struct IdOnly {
    request_id: Option<String>,
}

/// Reads one request in either form.
pub fn decode(text: &str, dialect: Dialect) -> Decoded {
    let body = match serde_json::from_str::<Body<'_>>(text) {
        Ok(body) => body,
        Err(error) => return refused(id_in(text), malformed(&error)),
    };
    let deadline_ms = body.options.as_ref().and_then(|options| options.deadline_ms);
    let given = body.request_id.clone();
    let id = issued_at_ms(body.issued_at.as_ref()).and_then(|time| request_id::resolve(given.clone(), time));
    let id = match id {
        Ok(id) => id,
        Err(problem) => return refused(given, problem),
    };
    let request_id = id.text.clone();
    let action =
        if body.subject.is_some() || body.action.is_some() { native(body, id, dialect) } else { flat(body, id) };
    let item = action.map_err(|problem| refuse(request_id::shortened(&request_id), problem));
    Decoded { item, request_id, deadline_ms }
}

/// The items of a batch: `{"actions": […]}` or a bare array, with the batch's own deadline.
pub fn split_batch(text: &str) -> Result<(Vec<&RawValue>, Option<u64>), Problem> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        actions: Vec<&'a RawValue>,
        options: Option<Options>,
    }
    let (actions, deadline_ms) = if text.trim_start().starts_with('[') {
        (serde_json::from_str::<Vec<&RawValue>>(text).map_err(|error| malformed(&error))?, None)
    } else {
        let batch = serde_json::from_str::<Batch<'_>>(text).map_err(|error| malformed(&error))?;
        (batch.actions, batch.options.and_then(|options| options.deadline_ms))
    };
    if actions.len() > BATCH_ACTIONS_MAX {
        let detail = format!("{} actions; at most {BATCH_ACTIONS_MAX} are accepted in one batch", actions.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok((actions, deadline_ms))
}

/// The refusal of a request, under the client's id where it had one and a fresh one where not.
pub fn refused(given: Option<String>, problem: Problem) -> Decoded {
    let request_id = match given.filter(|id| !id.is_empty()) {
        Some(id) => request_id::shortened(&id).to_owned(),
        None => request_id::mint(),
    };
    Decoded { item: Err(refuse(request_id.as_str(), problem)), request_id, deadline_ms: None }
}

/// A known kind, or the problem that names the unknown one.
pub fn kind_from(word: &str) -> Result<ActionKind, Problem> {
    ActionKind::from_word(word).ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        Problem::new(Code::UnknownKind, format!("{shown:?} is not a kind of action"))
    })
}

/// The id's own time beside it, where given: RFC 3339 or milliseconds since 1970.
fn issued_at_ms(issued_at: Option<&IssuedAt>) -> Result<Option<u64>, Problem> {
    let refuse = |detail: String| Problem::new(Code::MalformedRequest, format!("issued_at: {detail}"));
    match issued_at {
        None => Ok(None),
        Some(IssuedAt::Milliseconds(ms)) => Ok(Some(*ms)),
        Some(IssuedAt::Rfc3339(text)) => {
            let time: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| refuse(error.to_string()))?;
            u64::try_from(time.as_millisecond()).map(Some).map_err(|_| refuse("it is before 1970".to_owned()))
        }
    }
}

/// The id of a text that is not a request but may still be an object with an id.
pub fn id_in(text: &str) -> Option<String> {
    serde_json::from_str::<IdOnly>(text).ok()?.request_id
}

fn native(body: Body<'_>, id: RequestId, dialect: Dialect) -> Result<Action, Problem> {
    let subject = body.subject.ok_or_else(|| missing("subject"))?;
    let action = body.action.ok_or_else(|| missing("action"))?;
    let who = subject.properties.unwrap_or_default();
    let resource = body.resource.unwrap_or_default();
    let properties = match action.properties {
        Some(raw) => serde_json::from_str::<ActionProperties<'_>>(raw.get()).map_err(|error| malformed(&error))?,
        None => ActionProperties::default(),
    };
    let word = action.kind.or(properties.kind.filter(|_| dialect == Dialect::AuthZen));
    let kind = match (&word, dialect) {
        (Some(word), _) => kind_from(word)?,
        (None, Dialect::AuthZen) => ActionKind::ToolCall,
        (None, Dialect::Native) => return Err(missing("action.kind")),
    };
    let args = properties.args.or(action.properties.filter(|_| dialect == Dialect::AuthZen));
    finish(
        Action {
            tenant: tenant(who.tenant),
            agent: required("subject.id", subject.id)?,
            session: optional(who.session),
            cohort: optional(who.cohort),
            region: optional(who.region),
            kind,
            name: required("action.name", action.name)?,
            resource_type: optional(resource.kind),
            resource_id: optional(resource.id),
            ..blank(id, args, body.context)
        },
        body.cost,
        body.options,
    )
}

fn flat(body: Body<'_>, id: RequestId) -> Result<Action, Problem> {
    let word = body.kind.ok_or_else(|| missing("kind"))?;
    finish(
        Action {
            tenant: tenant(body.tenant),
            agent: required("agent_id", body.agent_id)?,
            session: optional(body.session),
            cohort: optional(body.cohort),
            region: optional(body.region),
            kind: kind_from(&word)?,
            name: required("name", body.name)?,
            ..blank(id, body.args, body.context)
        },
        body.cost,
        body.options,
    )
}

/// An action with nothing but its id, arguments and context.
fn blank(id: RequestId, args: Option<&RawValue>, context: Option<&RawValue>) -> Action {
    let object = |raw: Option<&RawValue>| raw.map_or("{}", RawValue::get).to_owned();
    Action {
        request_id: id.text,
        client_chosen: id.client_chosen,
        issued_at_ms: id.issued_at_ms,
        tenant: String::new(),
        agent: String::new(),
        session: String::new(),
        cohort: String::new(),
        region: String::new(),
        kind: ActionKind::ToolCall,
        name: String::new(),
        resource_type: String::new(),
        resource_id: String::new(),
        args_json: object(args),
        context_json: object(context),
        cost: Vec::new(),
        explain: false,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
    }
}

fn finish(action: Action, cost: Option<&RawValue>, options: Option<Options>) -> Result<Action, Problem> {
    options.unwrap_or_default().onto(Action { cost: costs(cost)?, ..action })
}

/// `{unit: amount}`; in order of the unit, so that one request has one form.
fn costs(raw: Option<&RawValue>) -> Result<Vec<Cost>, Problem> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let amounts = serde_json::from_str::<BTreeMap<String, Amount>>(raw.get()).map_err(|error| {
        let detail = format!("cost is an object of units and whole amounts or {{\"reserve\", \"ttl_s\"}}: {error}");
        Problem::new(Code::MalformedRequest, detail)
    })?;
    amounts.into_iter().map(|(unit, amount)| amount.cost(unit)).collect()
}

/// What an action costs of a unit: charged at once, or reserved until its outcome is told.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Charged(u64),
    Reserved { reserve: u64, ttl_s: u64 },
}

impl Amount {
    fn cost(self, unit: String) -> Result<Cost, Problem> {
        match self {
            Self::Charged(amount) => Ok(Cost::charged(unit, amount)),
            Self::Reserved { ttl_s: 0, .. } => Err(Problem::new(Code::MalformedRequest, "ttl_s must be at least 1")),
            Self::Reserved { reserve, ttl_s } => Ok(Cost { unit, amount: reserve, ttl_s }),
        }
    }
}

fn tenant(named: Text) -> String {
    named.unwrap_or_else(|| TENANT_DEFAULT.to_owned())
}

fn optional(text: Text) -> String {
    text.unwrap_or_default()
}

fn required(what: &str, text: Text) -> Result<String, Problem> {
    text.ok_or_else(|| missing(what))
}

/// The problem of a field that is not there.
pub fn missing(what: &str) -> Problem {
    Problem::new(Code::MalformedRequest, format!("{what} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str, dialect: Dialect) -> Action {
        decode(text, dialect).item.unwrap_or_else(|answer| panic!("{text}: {answer:?}"))
    }

    fn code_of(text: &str) -> Code {
        decode(text, Dialect::Native).item.expect_err(text).problem.code
    }

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    #[test]
    fn reserved_costs_are_read_and_must_agree_on_their_time() {
        let cost = |cost: &str| format!(r#"{{"agent_id":"a","kind":"message","name":"n","cost":{cost}}}"#);
        let action = accepted(&cost(r#"{"tokens":{"reserve":9,"ttl_s":60},"usd":5}"#), Dialect::Native);
        assert_eq!(action.cost, [Cost { unit: "tokens".into(), amount: 9, ttl_s: 60 }, Cost::charged("usd", 5)]);
        assert!(action.check_bounds().is_ok());
        for (bad, code) in [
            (r#"{"a":{"reserve":1,"ttl_s":60},"b":{"reserve":1,"ttl_s":61}}"#, Code::MalformedRequest),
            (r#"{"a":{"reserve":1,"ttl_s":3601}}"#, Code::TooLarge),
        ] {
            let refused = accepted(&cost(bad), Dialect::Native).check_bounds();
            assert_eq!(refused.map_err(|problem| problem.code), Err(code), "{bad}");
        }
    }

    #[test]
    fn the_native_form_is_read_in_full() {
        let text = r#"{"request_id":"017f22e2-79b0-7cc3-98c4-dc0c0c07398f","future":[1],
            "subject":{"type":"agent","id":"a\"1","properties":{"tenant":"t","session":"s","cohort":"c","region":"r","x":1}},
            "action":{"name":"refund","kind":"tool_call","properties":{"args":{"amount":1}}},
            "resource":{"type":"order","id":"o-1","properties":{}},"context":{"k":[2]},
            "cost":{"usd_micros":5,"tokens.input":7},"options":{"mode":"enforce","deadline_ms":900,"approval":"3.1.42","explain":true,"priority":"critical","receipt":"proof"}}"#;
        let decoded = decode(text, Dialect::Native);
        assert_eq!((decoded.request_id.as_str(), decoded.deadline_ms), (ID, Some(900)));
        let cost = |unit: &str, amount| Cost::charged(unit, amount);
        let expected = Action {
            request_id: ID.into(),
            client_chosen: true,
            issued_at_ms: 1_645_557_742_000,
            tenant: "t".into(),
            agent: "a\"1".into(),
            session: "s".into(),
            cohort: "c".into(),
            region: "r".into(),
            kind: ActionKind::ToolCall,
            name: "refund".into(),
            resource_type: "order".into(),
            resource_id: "o-1".into(),
            args_json: r#"{"amount":1}"#.into(),
            context_json: r#"{"k":[2]}"#.into(),
            cost: vec![cost("tokens.input", 7), cost("usd_micros", 5)],
            explain: true,
            approval: "3.1.42".into(),
            is_critical: true,
            wants_receipt: true,
        };
        assert_eq!(decoded.item, Ok(expected));
    }

    #[test]
    fn the_flat_form_is_read_and_gets_an_id() {
        let text = r#"{"tenant":"airline","agent_id":"a","session":"s","step":3,"kind":"message","name":"reply","args":{"text":"é"}}"#;
        let action = accepted(text, Dialect::Native);
        assert!(!action.client_chosen && request_id::time_in(&action.request_id).is_some());
        assert_eq!((action.tenant.as_str(), action.agent.as_str(), action.kind), ("airline", "a", ActionKind::Message));
        assert_eq!((action.args_json.as_str(), action.context_json.as_str()), (r#"{"text":"é"}"#, "{}"));
    }

    #[test]
    fn a_missing_tenant_is_the_default_and_null_is_missing() {
        let action =
            accepted(r#"{"tenant":null,"agent_id":"a","kind":"message","name":"n","args":null}"#, Dialect::Native);
        assert_eq!((action.tenant.as_str(), action.args_json.as_str()), (TENANT_DEFAULT, "{}"));
    }

    #[test]
    fn plain_authzen_bodies_get_a_kind_and_their_properties_as_arguments() {
        let text = r#"{"subject":{"type":"user","id":"a"},"action":{"name":"can_read","properties":{"method":"GET"}},"resource":{"type":"t","id":"1"}}"#;
        let action = accepted(text, Dialect::AuthZen);
        assert_eq!((action.kind, action.args_json.as_str()), (ActionKind::ToolCall, r#"{"method":"GET"}"#));
        assert_eq!(code_of(text), Code::MalformedRequest, "the native route requires the kind");
    }

    #[test]
    fn issued_at_is_read_in_both_forms() {
        for (value, expected) in [("\"2024-05-20T10:00:00Z\"", 1_716_199_200_000), ("1716199200000", 1_716_199_200_000)]
        {
            let text = format!(
                r#"{{"request_id":"order-17","issued_at":{value},"agent_id":"a","kind":"message","name":"n"}}"#
            );
            assert_eq!(accepted(&text, Dialect::Native).issued_at_ms, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_or_honoured_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "7",
            "{",
            r#"{"agent_id":"a"}"#,
            r#"{"agent_id":5,"kind":"message","name":"n"}"#,
            r#"{"agent_id":"a","agent_id":"b","kind":"message","name":"n"}"#,
            r#"{"subject":{"id":"a"}}"#,
            r#"{"action":{"name":"n","kind":"message"}}"#,
            r#"{"subject":{"id":"a"},"action":{"name":"n","kind":"message","properties":[]}}"#,
            r#"{"request_id":"order-17","agent_id":"a","kind":"message","name":"n"}"#,
            r#"{"request_id":"order-17","issued_at":"yesterday","agent_id":"a","kind":"message","name":"n"}"#,
            r#"{"request_id":"order-17","issued_at":"1969-01-01T00:00:00Z","agent_id":"a","kind":"message","name":"n"}"#,
            r#"{"request_id":"order-17","issued_at":-1,"agent_id":"a","kind":"message","name":"n"}"#,
            r#"{"agent_id":"a","kind":"message","name":"n","cost":{"usd":-1}}"#,
            r#"{"agent_id":"a","kind":"message","name":"n","cost":{"usd":1.5}}"#,
            r#"{"agent_id":"a","kind":"message","name":"n","cost":{"usd":{"reserve":1}}}"#,
            r#"{"agent_id":"a","kind":"message","name":"n","cost":{"usd":{"reserve":1,"ttl_s":0}}}"#,
            r#"{"agent_id":"a","kind":"message","name":"n","options":{"mode":"shadow"}}"#,
        ] {
            assert_eq!(code_of(text), Code::MalformedRequest, "{text}");
        }
        assert_eq!(code_of(r#"{"agent_id":"a","kind":"dance","name":"n"}"#), Code::UnknownKind);
    }

    #[test]
    fn a_refusal_keeps_the_clients_id_even_where_other_fields_are_wrong() {
        let text = format!(r#"{{"request_id":"{ID}","agent_id":5}}"#);
        assert_eq!(decode(&text, Dialect::Native).request_id, ID);
        assert_eq!(decode(r#"{"request_id":"order-17"}"#, Dialect::Native).request_id, "order-17");
    }

    #[test]
    fn batches_come_in_two_forms_and_are_bounded() {
        assert_eq!(split_batch("[{},1]").expect("bare").0.len(), 2);
        let (actions, deadline) = split_batch(r#"{"actions":[{}],"options":{"deadline_ms":7}}"#).expect("object");
        assert_eq!((actions.len(), deadline), (1, Some(7)));
        for text in ["", "{}", r#"{"actions":{}}"#, "[1,", "5"] {
            assert_eq!(split_batch(text).expect_err(text).code, Code::MalformedRequest);
        }
        let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(split_batch(&many(BATCH_ACTIONS_MAX)).is_ok());
        assert_eq!(split_batch(&many(BATCH_ACTIONS_MAX + 1)).expect_err("too many").code, Code::TooLarge);
    }
}
