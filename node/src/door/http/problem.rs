//! Problems as RFC 9457 documents. The type is a URN, so that it names no host that may go away, or one that
//! draft-ietf-httpapi-ratelimit-headers registers where it fits.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::DecisionId;

use super::call::Reply;

/// How long to wait where a problem of class retry does not say.
const RETRY_AFTER_DEFAULT_MS: u64 = 1_000;

/// Where the registered types are.
const REGISTERED: &str = "https://iana.org/assignments/http-problem-types#";

/// The type of a problem with a code.
fn kind_of(code: Code) -> String {
    match code {
        Code::Overloaded | Code::LeaseUnavailable => format!("{REGISTERED}temporary-reduced-capacity"),
        code => format!("urn:nethical:problem:{code}"),
    }
}

/// The members that make a refusal by limits a problem document: a decision whose caller prefers strict statuses.
pub fn quota_members(limits: &[&str]) -> [(&'static str, serde_json::Value); 4] {
    [
        ("type", format!("{REGISTERED}quota-exceeded").into()),
        ("title", "Quota exceeded".into()),
        ("status", 429.into()),
        ("violated-policies", limits.into()),
    ]
}

/// The members that make a denial for what an agent did a problem document. Its status is that of the verdict and not the
/// draft's 429: waiting does not help, a release does.
pub fn abnormal_members(rule: &str) -> [(&'static str, serde_json::Value); 4] {
    [
        ("type", format!("{REGISTERED}abnormal-usage-detected").into()),
        ("title", "Abnormal usage detected".into()),
        ("status", 403.into()),
        ("violated-policies", vec![rule].into()),
    ]
}

/// The document. `code`, `class`, `request_id`, `advice` and `retry_after_ms` extend RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `urn:nethical:problem:<code>`, or a registered type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// What the caller may conclude.
    pub class: Class,
    /// The id to ask under, or to report.
    pub request_id: String,
    /// What to do next.
    pub advice: String,
    /// With class retry: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The denial that is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_of: Option<DecisionId>,
}

impl Document {
    /// The document of a problem.
    pub fn new(problem: &Problem, request_id: &str) -> Self {
        let code = problem.code;
        let wait = problem.retry_after_ms.or((code.class() == Class::Retry).then_some(RETRY_AFTER_DEFAULT_MS));
        Self {
            kind: kind_of(code),
            title: title(code),
            status: code.status(),
            detail: problem.detail.clone(),
            code,
            class: code.class(),
            request_id: request_id.to_owned(),
            advice: code.advice().to_owned(),
            retry_after_ms: wait,
            repeat_of: problem.repeat_of,
        }
    }
}

/// The reply to a request that met a problem.
pub fn reply(problem: &Problem, request_id: &str) -> Reply {
    let document = Document::new(problem, request_id);
    let body = serde_json::to_vec(&document).expect("a struct of texts and numbers serialises");
    let status = StatusCode::from_u16(document.status).expect("codes have valid statuses");
    let mut reply = Reply::text("application/problem+json", body).status(status);
    if let Some(wait_ms) = document.retry_after_ms {
        reply = reply.header("retry-after", &wait_ms.div_ceil(1_000).max(1).to_string());
    }
    if problem.code == Code::Unauthenticated {
        reply = reply.header("www-authenticate", "Bearer");
    }
    reply
}

/// `too-large` → `Too large`.
fn title(code: Code) -> String {
    let words = code.as_str().replace('-', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_makes_a_document_and_retry_always_says_when() {
        for code in Code::ALL {
            let document = Document::new(&Problem::new(*code, "d"), "r");
            assert!(StatusCode::from_u16(document.status).is_ok(), "{code}");
            assert_eq!(document.retry_after_ms.is_some(), code.class() == Class::Retry, "{code}");
        }
        let document = Document::new(&Problem::new(Code::TooLarge, "d"), "r");
        assert_eq!((document.kind.as_str(), document.title.as_str()), ("urn:nethical:problem:too-large", "Too large"));
    }
}
