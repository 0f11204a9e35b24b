//! One policy of a bundle as Nethical reads it: its id and what its annotations say about the verdict.

use std::sync::Arc;

use cedar_policy::{Effect, Policy};
use nethical_protocol::decision::Verdict;
use nethical_protocol::limits::APPROVAL_TTL_S_MAX;
use sha2::{Digest, Sha256};

/// The id under which a missing permit is reported. No policy may take it.
pub const DEFAULT_DENY: &str = "default-deny";

const ID_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 512;
const OBLIGATIONS_MAX: usize = 8;
const OBLIGATION_BYTES_MAX: usize = 64;

/// A rule in words: what stands behind a rule hash in a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// `@id`.
    pub id: Arc<str>,
    /// `@reason`; empty where there is none.
    pub reason: Arc<str>,
    /// `@obligation`, split at commas.
    pub obligations: Vec<Arc<str>>,
    /// `@verdict`, or what the effect stands for.
    pub verdict: Verdict,
    /// `@approval_ttl`: seconds that an approval of what it escalates lives; 0 where it does not say.
    pub approval_ttl_s: u32,
}

impl RuleText {
    /// The rule that speaks where no permit does.
    pub(super) fn default_deny() -> Self {
        let reason = "no policy permits this action".into();
        Self { id: DEFAULT_DENY.into(), reason, obligations: Vec::new(), verdict: Verdict::Block, approval_ttl_s: 0 }
    }

    /// Reads a policy's annotations, and tells everything that is wrong with them.
    pub(super) fn read(policy: &Policy) -> (Self, Vec<Fault>) {
        let mut faults: Vec<Fault> = policy.annotations().filter_map(|(key, _)| unknown(key)).collect();
        let mut note = |fault: Result<(), Fault>| faults.extend(fault.err());
        let id = policy.annotation("id").unwrap_or_default();
        note(check_id(id));
        let reason = policy.annotation("reason").unwrap_or_default();
        note(check_reason(reason));
        let verdict = read_verdict(policy).unwrap_or_else(|fault| {
            note(Err(fault));
            Verdict::Block
        });
        let obligations = read_obligations(policy.annotation("obligation")).unwrap_or_else(|fault| {
            note(Err(fault));
            Vec::new()
        });
        if verdict == Verdict::Allow && !obligations.is_empty() {
            let message = "a permit with @obligation needs @verdict(\"restrict\")";
            note(Err(Fault::new("obligation", message, "allow obliges to nothing")));
        }
        let approval_ttl_s = read_approval_ttl(policy.annotation("approval_ttl"), verdict).unwrap_or_else(|fault| {
            note(Err(fault));
            0
        });
        (Self { id: id.into(), reason: reason.into(), obligations, verdict, approval_ttl_s }, faults)
    }

    /// What leaves call this rule: the first 8 bytes of SHA-256 of its id.
    pub fn hash(&self) -> [u8; 8] {
        rule_hash(&self.id)
    }

    /// `id: reason`, for the door.
    pub fn sentence(&self) -> String {
        if self.reason.is_empty() { self.id.to_string() } else { format!("{}: {}", self.id, self.reason) }
    }
}

/// The first 8 bytes of SHA-256 of a rule's id.
pub fn rule_hash(id: &str) -> [u8; 8] {
    let digest = Sha256::digest(id.as_bytes());
    let mut hash = [0; 8];
    hash.copy_from_slice(&digest[..8]);
    hash
}

/// What is wrong with one annotation.
pub(super) struct Fault {
    /// The annotation, without its `@`.
    pub key: String,
    pub message: String,
    pub help: String,
}

impl Fault {
    fn new(key: &str, message: impl Into<String>, help: &str) -> Self {
        Self { key: key.to_owned(), message: message.into(), help: help.to_owned() }
    }
}

fn unknown(key: &str) -> Option<Fault> {
    let is_known = ["id", "verdict", "obligation", "reason", "approval_ttl"].contains(&key);
    let known = "known are @id, @verdict, @obligation, @reason and @approval_ttl";
    (!is_known).then(|| Fault::new(key, format!("unknown annotation @{key}"), known))
}

fn check_id(id: &str) -> Result<(), Fault> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id == DEFAULT_DENY {
        let message = format!("every policy needs an @id of 1 to {ID_BYTES_MAX} bytes that is not {DEFAULT_DENY:?}");
        return Err(Fault::new("id", message, "decisions name rules by it: write @id(\"what-it-does\") in front"));
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), Fault> {
    if reason.len() > REASON_BYTES_MAX {
        let message = format!("@reason has {} bytes; at most {REASON_BYTES_MAX} are accepted", reason.len());
        return Err(Fault::new("reason", message, "one sentence for the caller is enough"));
    }
    Ok(())
}

fn read_verdict(policy: &Policy) -> Result<Verdict, Fault> {
    let fault = |word: &str, effect: &str, words: &str| {
        Fault::new("verdict", format!("@verdict({word:?}) on a {effect}: use {words}"), "verdicts are in lower case")
    };
    let of_forbid = "restrict, escalate, block or terminate";
    match (policy.effect(), policy.annotation("verdict")) {
        (Effect::Permit, None | Some("allow")) => Ok(Verdict::Allow),
        (Effect::Permit, Some("restrict")) => Ok(Verdict::Restrict),
        (Effect::Permit, Some(word)) => Err(fault(word, "permit", "allow or restrict")),
        (Effect::Forbid, None) => Ok(Verdict::Block),
        (Effect::Forbid, Some("allow")) => Err(fault("allow", "forbid", of_forbid)),
        (Effect::Forbid, Some(word)) => Verdict::from_word(word).ok_or_else(|| fault(word, "forbid", of_forbid)),
    }
}

fn read_approval_ttl(text: Option<&str>, verdict: Verdict) -> Result<u32, Fault> {
    let Some(text) = text else { return Ok(0) };
    let fault = |message: String, help: &str| Err(Fault::new("approval_ttl", message, help));
    if verdict != Verdict::Escalate {
        let message = "@approval_ttl needs @verdict(\"escalate\")".to_owned();
        return fault(message, "only what is escalated can be approved");
    }
    match text.parse::<u32>() {
        Ok(seconds) if (1..=APPROVAL_TTL_S_MAX).contains(&u64::from(seconds)) => Ok(seconds),
        _ => fault(format!("@approval_ttl holds seconds, 1 to {APPROVAL_TTL_S_MAX}"), "write @approval_ttl(\"900\")"),
    }
}

fn read_obligations(text: Option<&str>) -> Result<Vec<Arc<str>>, Fault> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let odd = parts.iter().any(|part| part.is_empty() || part.len() > OBLIGATION_BYTES_MAX);
    if odd || parts.len() > OBLIGATIONS_MAX {
        let message = format!(
            "@obligation holds 1 to {OBLIGATIONS_MAX} words of 1 to {OBLIGATION_BYTES_MAX} bytes, separated by commas"
        );
        return Err(Fault::new("obligation", message, "write @obligation(\"redact, notify\")"));
    }
    if let Some(Err(message)) = parts.iter().find_map(|part| crate::redact::obligation(part).filter(Result::is_err)) {
        return Err(Fault::new("obligation", message, "redact alone is redact:standard:mask"));
    }
    Ok(parts.into_iter().map(Into::into).collect())
}
