//! One policy of a bundle as Nethical reads it: its id and what its annotations say about the verdict.

use std::sync::Arc;

use cedar_policy::{Effect, Policy};
use nethical_protocol::decision::Verdict;
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
}

impl RuleText {
    /// The rule that speaks where no permit does.
    pub(super) fn default_deny() -> Self {
        let reason = "no policy permits this action".into();
        Self { id: DEFAULT_DENY.into(), reason, obligations: Vec::new(), verdict: Verdict::Block }
    }

    /// Reads a policy's annotations. The error is for the policy's author.
    pub(super) fn read(policy: &Policy) -> Result<Self, String> {
        for (key, _) in policy.annotations() {
            if !["id", "verdict", "obligation", "reason"].contains(&key) {
                return Err(format!("unknown annotation @{key}; known are @id, @verdict, @obligation and @reason"));
            }
        }
        let id = policy.annotation("id").unwrap_or_default();
        if id.is_empty() || id.len() > ID_BYTES_MAX || id == DEFAULT_DENY {
            return Err(format!("every policy needs an @id of 1 to {ID_BYTES_MAX} bytes that is not {DEFAULT_DENY:?}"));
        }
        let reason = policy.annotation("reason").unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX {
            return Err(format!("@reason has {} bytes; at most {REASON_BYTES_MAX} are accepted", reason.len()));
        }
        let verdict = read_verdict(policy)?;
        let obligations = read_obligations(policy.annotation("obligation"))?;
        if verdict == Verdict::Allow && !obligations.is_empty() {
            return Err("a permit with @obligation needs @verdict(\"restrict\")".to_owned());
        }
        Ok(Self { id: id.into(), reason: reason.into(), obligations, verdict })
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

fn read_verdict(policy: &Policy) -> Result<Verdict, String> {
    match (policy.effect(), policy.annotation("verdict")) {
        (Effect::Permit, None | Some("allow")) => Ok(Verdict::Allow),
        (Effect::Permit, Some("restrict")) => Ok(Verdict::Restrict),
        (Effect::Forbid, None) => Ok(Verdict::Block),
        (Effect::Forbid, Some(word)) if word != "allow" => Verdict::from_word(word)
            .ok_or_else(|| format!("@verdict({word:?}) on a forbid: use restrict, escalate, block or terminate")),
        (Effect::Permit, Some(word)) => Err(format!("@verdict({word:?}) on a permit: use allow or restrict")),
        (Effect::Forbid, Some(word)) => {
            Err(format!("@verdict({word:?}) on a forbid: use restrict, escalate, block or terminate"))
        }
    }
}

fn read_obligations(text: Option<&str>) -> Result<Vec<Arc<str>>, String> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let odd = parts.iter().any(|part| part.is_empty() || part.len() > OBLIGATION_BYTES_MAX);
    if odd || parts.len() > OBLIGATIONS_MAX {
        return Err(format!(
            "@obligation holds 1 to {OBLIGATIONS_MAX} words of 1 to {OBLIGATION_BYTES_MAX} bytes, separated by commas"
        ));
    }
    Ok(parts.into_iter().map(Into::into).collect())
}
