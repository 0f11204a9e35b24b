//! Our words and numbers on the scales of OCSF 1.9.0. `docs/audit.md` has the same tables; a change here is a change there.
//!
//! Numbers and captions are those of the class API Activity as schema.ocsf.io publishes it.

use nethical_cluster::api::EntryView;
use nethical_protocol::decision::{Decision, Verdict};

/// `99` on every scale: the caption then holds a word of ours.
pub const OTHER: u64 = 99;

/// A number of a scale with the word that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caption {
    /// The number.
    pub id: u64,
    /// Its word in the schema, or ours where the number is [`OTHER`].
    pub caption: &'static str,
}

const fn of(id: u64, caption: &'static str) -> Caption {
    Caption { id, caption }
}

/// `severity_id`: the higher one of what the verdict and what the risk call for; by kind where nothing was decided.
pub fn severity(entry: &EntryView) -> Caption {
    match &entry.decision {
        Some(decision) => severity_of(decision),
        None => match entry.kind.as_str() {
            "hold-placed" => of(3, "Medium"),
            "denials-repeated" => of(2, "Low"),
            _ => of(1, "Informational"),
        },
    }
}

fn severity_of(decision: &Decision) -> Caption {
    let by_verdict = match decision.verdict {
        Verdict::Allow => of(1, "Informational"),
        Verdict::Restrict => of(2, "Low"),
        Verdict::Escalate | Verdict::Block => of(3, "Medium"),
        Verdict::Terminate => of(4, "High"),
    };
    let by_risk = match decision.risk.score {
        0..500 => of(1, "Informational"),
        500..750 => of(3, "Medium"),
        750.. => of(4, "High"),
    };
    by_verdict.max(by_risk)
}

/// `is_alert`: severity High.
pub fn is_alert(decision: &Decision) -> bool {
    severity_of(decision).id >= 4
}

/// `risk_level_id` of a risk of 0..=1000, in the bands of our risk tiers.
pub fn risk_level(score: u16) -> Caption {
    match score {
        0 => of(0, "Info"),
        1..250 => of(1, "Low"),
        250..500 => of(2, "Medium"),
        500..750 => of(3, "High"),
        750.. => of(4, "Critical"),
    }
}

/// `action_id` and `disposition_id` of a verdict.
pub fn outcome(verdict: Verdict) -> (Caption, Caption) {
    let (allowed, denied) = (of(1, "Allowed"), of(2, "Denied"));
    match verdict {
        Verdict::Allow => (allowed, of(1, "Allowed")),
        Verdict::Restrict => (allowed, of(OTHER, "restrict")),
        Verdict::Escalate => (denied, of(OTHER, "escalate")),
        Verdict::Block => (denied, of(2, "Blocked")),
        Verdict::Terminate => (denied, of(24, "Access Revoked")),
    }
}

/// `action_id` and `disposition_id` of a person's word on an approval; none for every other entry.
pub fn approval(entry: &EntryView) -> Option<(Caption, Caption)> {
    let approves = entry.body.as_ref().filter(|_| entry.kind == "approval-decided")?.get("approves")?.as_bool()?;
    Some(match approves {
        true => (of(1, "Allowed"), of(8, "Approved")),
        false => (of(2, "Denied"), of(25, "Rejected")),
    })
}

/// `status_id`: whether the agent's call was let through. What else is recorded has happened.
pub fn status(entry: &EntryView) -> Caption {
    match entry.decision.as_ref().map(|decision| decision.verdict) {
        None | Some(Verdict::Allow | Verdict::Restrict) => of(1, "Success"),
        Some(Verdict::Escalate) => of(OTHER, "escalate"),
        Some(Verdict::Block | Verdict::Terminate) => of(2, "Failure"),
    }
}
