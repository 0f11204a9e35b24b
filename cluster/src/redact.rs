//! Redaction on a tenant's behalf: of actions before they are sealed, and of arguments that a caller is obliged to redact.
//!
//! Governance says what is cut; this gives it the tenant's settings and keys. A transform is a function of the arguments
//! that were sent and of the obligations, so a repeat of a request, which brings the same arguments, gets the same one.

use nethical_governance::detect::Detectors;
use nethical_governance::normalise::Form;
use nethical_governance::policy::Sizes;
use nethical_governance::redact::{Mode, ModeName, Redactor, obligation};
use nethical_protocol::action::Action;
use nethical_protocol::control::Redaction;
use nethical_protocol::decision::{Decision, Transform, TransformSpan};
use nethical_protocol::limits::TRANSFORM_SPANS_MAX;

use crate::body::RedactedV1;
use crate::control::view::Tenant;

/// The action as it is sealed, by the tenant's storage policy. Names and ids of who acts stay: the trail is about them.
pub fn stored(detectors: &Detectors, tenant: &Tenant, action: &Action) -> (Action, Option<RedactedV1>) {
    let policy = tenant.storage_redaction();
    if policy == Redaction::None {
        return (action.clone(), None);
    }
    let (action, redacted) = cut(detectors, policy, action);
    (action, Some(redacted))
}

/// The action without what a policy cuts, and what that changed.
pub fn cut(detectors: &Detectors, policy: Redaction, action: &Action) -> (Action, RedactedV1) {
    let redactor = Redactor::new(detectors, policy, Mode::Mask);
    let cut = |text: &str, form| redactor.redact(text, form).0.into_owned();
    let args_json = cut(&action.args_json, Form::Json);
    let context_json = cut(&action.context_json, Form::Json);
    let resource_id = cut(&action.resource_id, Form::Plain);
    let Sizes { amount, bytes } = Sizes::of(action);
    let redacted = RedactedV1 { policy, amount, bytes, resource_cut: resource_id != action.resource_id };
    (Action { args_json, context_json, resource_id, ..action.clone() }, redacted)
}

/// Adds the redacted arguments where an obligation of an action that may go ahead asks for them. Of several, the
/// policy that cuts most counts, and the mode that tells least.
pub fn oblige(detectors: &Detectors, tenant: &Tenant, args_json: &str, decision: &mut Decision) {
    let asked = decision.obligations.iter().filter_map(|found| obligation(&found.id)?.ok());
    let Some((policy, mode)) = asked.reduce(|one, other| (one.0.max(other.0), one.1.max(other.1))) else { return };
    if decision.allowed {
        decision.transform = transform(detectors, tenant, args_json, policy, mode);
    }
}

fn transform(
    detectors: &Detectors,
    tenant: &Tenant,
    args_json: &str,
    policy: Redaction,
    mode: ModeName,
) -> Option<Transform> {
    let mac = |kind: &str, value: &str| {
        let id = tenant.keys.keyed_id(&format!("redacted {kind}"), value);
        *id.0.first_chunk().expect("a keyed id has 16 bytes")
    };
    let mode = match mode {
        ModeName::Mask => Mode::Mask,
        ModeName::Hash => Mode::Hash(&mac),
        ModeName::Tokenise => Mode::Tokenise,
        ModeName::Drop => Mode::Drop,
    };
    let (value, cuts) = Redactor::new(detectors, policy, mode).redact(args_json, Form::Json);
    if cuts.is_empty() {
        return None;
    }
    let spans_omitted = cuts.len().saturating_sub(TRANSFORM_SPANS_MAX) as u64;
    let span = |cut: nethical_governance::redact::Cut| TransformSpan {
        path: cut.path,
        kind: cut.kind.to_owned(),
        start: cut.start as u64,
        end: cut.end as u64,
        with: cut.with,
    };
    let spans = cuts.into_iter().take(TRANSFORM_SPANS_MAX).map(span).collect();
    Some(Transform { path: "args".to_owned(), value: value.into_owned(), spans, spans_omitted })
}

#[cfg(test)]
mod tests {
    use nethical_audit::keys::TenantKeys;
    use nethical_protocol::control::TenantSpec;
    use nethical_protocol::ids::KeyedId;

    use super::*;

    fn tenant(policy: Redaction) -> Tenant {
        let spec = TenantSpec { storage_redaction: Some(policy), ..TenantSpec::named("t") };
        Tenant { spec, keys: TenantKeys::new(&[7; 32]), id: KeyedId([1; 16]) }
    }

    #[test]
    fn what_is_sealed_is_cut_by_the_tenants_policy_and_its_sizes_stay() {
        let action = Action {
            request_id: "r".into(),
            client_chosen: true,
            issued_at_ms: 1,
            tenant: "t".into(),
            agent: "x@y.example".into(),
            session: String::new(),
            cohort: String::new(),
            region: String::new(),
            kind: nethical_protocol::action::ActionKind::Message,
            name: "reply".into(),
            resource_type: "mailbox".into(),
            resource_id: "x@y.example".into(),
            args_json: r#"{"to":"x@y.example","ssn":"531-21-7351","amount":12}"#.into(),
            context_json: "{}".into(),
            cost: Vec::new(),
            explain: false,
            approval: String::new(),
            is_critical: false,
            wants_receipt: false,
        };
        let detectors = Detectors::new();
        assert_eq!(stored(&detectors, &tenant(Redaction::None), &action), (action.clone(), None));
        let (cut, redacted) = stored(&detectors, &tenant(Redaction::Minimal), &action);
        assert_eq!(cut.args_json, r#"{"to":"x@y.example","ssn":"[US_SSN]","amount":12}"#);
        let bytes = action.args_json.len() as u64 + 2;
        assert_eq!(redacted, Some(RedactedV1 { policy: Redaction::Minimal, amount: 12, bytes, resource_cut: false }));
        let (cut, redacted) = stored(&detectors, &tenant(Redaction::Standard), &action);
        assert_eq!((cut.resource_id.as_str(), cut.agent.as_str()), ("[EMAIL_ADDRESS]@y.example", "x@y.example"));
        assert!(redacted.is_some_and(|redacted| redacted.resource_cut));
    }

    #[test]
    fn hashes_are_keyed_by_the_tenant_and_a_bounded_number_of_cuts_is_named() {
        let detectors = Detectors::new();
        let of = |key: u8, args: &str| {
            let tenant = Tenant { keys: TenantKeys::new(&[key; 32]), ..tenant(Redaction::None) };
            transform(&detectors, &tenant, args, Redaction::Standard, ModeName::Hash)
        };
        let args = r#"{"a": "x@y.example"}"#;
        assert_eq!(of(1, args), of(1, args));
        assert_ne!(of(1, args), of(2, args));
        assert_eq!(of(1, r#"{"a": "nothing"}"#), None);
        let many = of(1, &format!(r#"{{"a": "{}"}}"#, "x@y.example ".repeat(100))).expect("there is something to cut");
        assert_eq!((many.spans.len(), many.spans_omitted), (TRANSFORM_SPANS_MAX, 100 - TRANSFORM_SPANS_MAX as u64));
        let json = serde_json::to_value(&many).expect("it is plain data");
        assert!(json["value"]["a"].is_string() && json["spans"][0]["type"] == "EMAIL_ADDRESS");
        let read: Transform = serde_json::from_value(json).expect("what was written is read");
        assert_eq!(read.spans, many.spans);
    }
}
