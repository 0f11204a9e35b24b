//! What OCSF 1.9.0 asks of an API Activity event, as far as we make such events, and every sort of entry held against it.
//!
//! The tables are written down from the compiled class `api_activity`, the object `metadata` and the profiles at
//! <https://schema.ocsf.io/1.9.0/classes/api_activity> and from `objects/*.json` of <https://github.com/ocsf/ocsf-schema> at 1.9.0.
//! Nothing is fetched here.

use serde_json::{Value, json};

use super::super::entries;
use super::event;

/// Attributes that must be there.
const REQUIRED: [&str; 11] = [
    "/activity_id",
    "/category_uid",
    "/class_uid",
    "/severity_id",
    "/time",
    "/type_uid",
    "/metadata/version",
    "/metadata/product",
    "/actor",
    "/api/operation",
    "/src_endpoint",
];

/// Of these one must be there, where the object is.
const ONE_OF: [(&str, &[&str]); 6] = [
    ("/actor", &["process", "user", "session", "application"]),
    ("/actor/application", &["uid", "name"]),
    ("/actor/user", &["uid", "name"]),
    ("/src_endpoint", &["ip", "uid", "name", "hostname", "svc_name", "instance_uid"]),
    ("/metadata/product", &["name", "uid"]),
    ("/policy", &["name", "uid"]),
];

/// What must be there where its object is.
const REQUIRED_WITHIN: [(&str, &str); 2] = [("/api/request", "uid"), ("/ai_agent", "uid")];

type Scale = (&'static str, &'static str, &'static [(u64, &'static str)]);

/// Numbers, the captions beside them, and which belong together. 99 goes with any words.
const SCALES: [Scale; 7] = [
    ("activity_id", "activity_name", &[(0, "Unknown"), (1, "Create"), (2, "Read"), (3, "Update"), (4, "Delete")]),
    (
        "severity_id",
        "severity",
        &[(0, "Unknown"), (1, "Informational"), (2, "Low"), (3, "Medium"), (4, "High"), (5, "Critical"), (6, "Fatal")],
    ),
    ("status_id", "status", &[(0, "Unknown"), (1, "Success"), (2, "Failure")]),
    ("action_id", "action", &[(0, "Unknown"), (1, "Allowed"), (2, "Denied"), (3, "Observed"), (4, "Modified")]),
    (
        "disposition_id",
        "disposition",
        &[(0, "Unknown"), (1, "Allowed"), (2, "Blocked"), (8, "Approved"), (24, "Access Revoked"), (25, "Rejected")],
    ),
    ("risk_level_id", "risk_level", &[(0, "Info"), (1, "Low"), (2, "Medium"), (3, "High"), (4, "Critical")]),
    ("category_uid", "category_name", &[(6, "Application Activity")]),
];

/// Attributes of the class without a profile.
const CLASS: [&str; 21] = [
    "activity_id",
    "activity_name",
    "actor",
    "api",
    "category_name",
    "category_uid",
    "class_name",
    "class_uid",
    "message",
    "metadata",
    "resources",
    "severity",
    "severity_id",
    "src_endpoint",
    "status",
    "status_code",
    "status_detail",
    "status_id",
    "time",
    "type_uid",
    "unmapped",
];

/// Attributes that a profile brings.
const PROFILES: [(&str, &[&str]); 2] = [
    (
        "security_control",
        &[
            "action",
            "action_id",
            "disposition",
            "disposition_id",
            "is_alert",
            "policy",
            "risk_level",
            "risk_level_id",
            "risk_score",
        ],
    ),
    ("ai_operation", &["ai_agent"]),
];

/// All that is wrong with an event.
fn complaints(event: &Value) -> Vec<String> {
    let missing = REQUIRED.iter().filter(|path| event.pointer(path).is_none_or(Value::is_null));
    let missing = missing.map(|path| format!("{path} is required"));
    let none_of = ONE_OF.iter().filter(|(path, names)| {
        event.pointer(path).is_some_and(|object| {
            names.iter().all(|name| object[*name].as_str().is_none_or(str::is_empty) && !object[*name].is_object())
        })
    });
    let none_of = none_of.map(|(path, names)| format!("{path} has none of {names:?}"));
    let without =
        REQUIRED_WITHIN.iter().filter(|(path, name)| event.pointer(path).is_some_and(|object| object[*name].is_null()));
    let without = without.map(|(path, name)| format!("{path} has no {name}"));
    let scales = SCALES.iter().filter(|scale| !is_on(event, scale)).map(|(id, ..)| format!("{id} is {}", event[*id]));
    missing.chain(none_of).chain(without).chain(scales).chain(classified(event)).chain(profiled(event)).collect()
}

fn is_on(event: &Value, (id, caption, scale): &Scale) -> bool {
    match (event.get(*id).map(Value::as_u64), event.get(*caption).map(Value::as_str)) {
        (None, None) => true,
        (Some(Some(99)), Some(Some(words))) => !words.is_empty(),
        (Some(Some(id)), Some(Some(words))) => scale.contains(&(id, words)),
        _ => false,
    }
}

fn classified(event: &Value) -> Vec<String> {
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    let is_classified = (number("class_uid"), number("category_uid")) == (6_003, 6)
        && number("type_uid") == number("class_uid") * 100 + number("activity_id")
        && event["metadata"]["version"] == "1.9.0";
    // Milliseconds: from 2001 on, and before 2200.
    let is_timed = (1_000_000_000_000..7_300_000_000_000).contains(&number("time"));
    [(is_classified, "class, type and version do not fit"), (is_timed, "time is not in milliseconds")]
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, words)| words.to_owned())
        .collect()
}

/// Attributes that are not of the class, or of a profile that is not named.
fn profiled(event: &Value) -> Vec<String> {
    let named: Vec<&str> =
        event["metadata"]["profiles"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let unknown = named.iter().filter(|name| PROFILES.iter().all(|(known, _)| known != *name));
    let unknown = unknown.map(|name| format!("profile {name} is not in the table"));
    let brought = |key: &str| PROFILES.iter().any(|(name, keys)| named.contains(name) && keys.contains(&key));
    let strangers =
        event.as_object().expect("an object").keys().filter(|key| !CLASS.contains(&key.as_str()) && !brought(key));
    unknown.chain(strangers.map(|key| format!("{key} is not of the class and its profiles"))).collect()
}

#[test]
fn every_sort_of_entry_is_a_valid_event() {
    for entry in entries::all() {
        let event = event(&entry, "demo");
        assert_eq!(complaints(&event), Vec::<String>::new(), "{event:#}");
        assert_eq!(
            (&event["metadata"]["uid"], &event["unmapped"]["at_ns"]),
            (&json!(entry.decision_id), &json!(entry.at_ns))
        );
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let good = event(&entries::all()[3], "demo");
    for (path, bad) in [
        ("/severity_id", json!(7)),
        ("/severity", json!("High")),
        ("/type_uid", json!(600_301)),
        ("/time", json!(1_767_225_600)),
        ("/api/operation", Value::Null),
        ("/src_endpoint", json!({})),
        ("/actor", json!({ "application": {} })),
        ("/metadata/profiles", json!([])),
        ("/ai_agent", json!({})),
    ] {
        let mut event = good.clone();
        *event.pointer_mut(path).expect("it is there") = bad;
        assert!(!complaints(&event).is_empty(), "{path}");
    }
}

#[test]
fn a_block_is_denied_with_its_agent_its_tool_and_its_reasons() {
    let event = event(&entries::all()[3], "demo");
    let wanted = json!({
        "action": "Denied", "disposition": "Blocked", "status": "Failure", "status_code": "block", "severity": "Medium",
        "risk_score": 600, "risk_level": "High", "is_alert": false, "activity_name": "tool_call",
        "status_detail": "policy: no refunds on Sundays; risk: the tier is high",
        "message": "block: tool_call refund by agent-7 of airline",
        "actor": { "application": { "uid": "agent-7", "name": "agent-7", "type": "AI agent" }, "session": { "uid": "s-1" } },
        "ai_agent": { "uid": "agent-7", "instance_uid": "s-1" },
        "api": { "operation": "refund", "request": { "uid": "r-1", "data": { "args": { "amount": 5 }, "context": { "intent": "héllo" } } } },
        "resources": [{ "uid": "B-1", "type": "booking", "role_id": 1, "role": "Target" }],
        "policy": { "name": "policy bundle", "uid": "ab12", "version": "12" },
    });
    for (name, value) in wanted.as_object().expect("an object") {
        assert_eq!(&event[name], value, "{name}");
    }
    assert_eq!(event["metadata"]["tenant_uid"], "airline");
    assert_eq!(event["unmapped"]["body"], json!({ "region": "eu", "detectors_version": 2, "redaction": "none" }));
    assert_eq!(event["unmapped"]["decision"]["obligations"], json!([{ "id": "notify" }]));
}

#[test]
fn what_is_erased_says_what_the_leaf_says_and_makes_up_nothing() {
    let event = event(&entries::all()[5], "demo");
    assert_eq!(event["unmapped"]["body_state"], "erased");
    assert_eq!((&event["action"], &event["risk_level"]), (&json!("Denied"), &json!("Critical")));
    assert_eq!(
        (&event["api"], &event["src_endpoint"]),
        (&json!({ "operation": "unknown" }), &json!({ "svc_name": "unknown" }))
    );
    assert_eq!((event.get("ai_agent"), event["metadata"].get("tenant_uid")), (None, None));
}

#[test]
fn people_and_hold_orders_have_their_places() {
    let all = entries::all();
    let of = |index: u64| event(all.iter().find(|entry| entry.decision_id.leaf_index == index).expect("there"), "demo");
    assert_eq!(of(47)["actor"], json!({ "user": { "name": "Maria" } }));
    assert_eq!((&of(47)["disposition"], &of(48)["disposition"]), (&json!("Approved"), &json!("Rejected")));
    assert_eq!(of(43)["resources"], json!([{ "uid": "agent-7", "type": "agent", "role_id": 1, "role": "Target" }]));
    assert_eq!(of(43)["unmapped"]["body"]["reason"], "ticket 4711");
    assert_eq!(of(42)["actor"], json!({ "application": { "name": "nethical", "uid": "demo" } }));
}
