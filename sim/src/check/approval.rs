//! What policy escalates is done only with a person's approval (SPEC, G3; ARCHITECTURE.md 2: judged at one position): an
//! allowed action that policy escalated names an approval that was opened and approved at lower leaf indexes of the same
//! log, for the same action under the same policy, unused and unexpired. A word counts once, and what was acknowledged is
//! there.

use std::collections::BTreeMap;

use nethical_audit::leaf::{ApprovalLeaf, LeafEvent, reason};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{DecisionId, GroupId, LogId};

use super::{Findings, Log, Recorded};

const APPROVED: u8 = 1;
const DENIED: u8 = 2;
const EXPIRED: u8 = 3;

/// An approval as the log before some leaf has it.
struct Known<'a> {
    opened: Recorded<'a>,
    until_ns: u64,
    /// What was said of it.
    word: Option<u8>,
    is_expired: bool,
    is_used: bool,
}

type All<'a> = BTreeMap<u64, Known<'a>>;

/// Approvals that counted and must not have, or did not and must have.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let (mut found, mut words) = (Vec::new(), BTreeMap::new());
    for (group, log) in findings.longest() {
        found.extend(in_log(findings, group, log, &mut words));
    }
    for (id, approves) in findings.history.words() {
        let said = if approves { APPROVED } else { DENIED };
        if words.get(&id) != Some(&said) {
            found.push(format!("{id}: word {said} was acknowledged, and the log has {:?}", words.get(&id)));
        }
    }
    found
}

fn in_log(findings: &Findings<'_>, group: GroupId, log: &Log, words: &mut BTreeMap<DecisionId, u8>) -> Vec<String> {
    let (mut all, mut found) = (All::new(), Vec::new());
    let mut decisions = findings.decisions(log).peekable();
    for leaf in &log.leaves {
        let wrong = match &leaf.event {
            LeafEvent::Decision(_) => {
                let decision = decisions.next_if(|recorded| recorded.leaf.leaf_index == leaf.leaf_index);
                decision.and_then(|recorded| judge(&mut all, recorded))
            }
            LeafEvent::ApprovalDecided(word) => {
                let id = DecisionId { log: LogId { group, era: leaf.era }, leaf_index: word.decision };
                if word.state != EXPIRED {
                    words.insert(id, word.state);
                }
                hear(&mut all, word, leaf.now_ns)
            }
            _ => None,
        };
        found.extend(wrong.map(|what| format!("group {group} leaf {}: {what}", leaf.leaf_index)));
    }
    found
}

/// Takes a word or an expiry in.
fn hear(all: &mut All<'_>, word: &ApprovalLeaf, now_ns: u64) -> Option<String> {
    let decision = word.decision;
    let Some(known) = all.get_mut(&decision) else {
        return Some(format!("a word on {decision}, which opened nothing"));
    };
    let is_due = now_ns >= known.until_ns;
    let fits = match word.state {
        EXPIRED => !known.is_expired && !known.is_used && known.word != Some(DENIED) && is_due,
        _ => known.word.is_none() && !known.is_expired && !is_due,
    };
    match word.state {
        EXPIRED => known.is_expired = true,
        state => known.word = Some(state),
    }
    (!fits).then(|| format!("approval {decision} becomes {} out of turn", word.state))
}

/// Takes a decision in: what it opens, and what it uses.
fn judge<'a>(all: &mut All<'a>, recorded: Recorded<'a>) -> Option<String> {
    let decision = recorded.decision;
    let number = |kind: u8| decision.reasons.iter().find(|(found, _)| *found == kind).map(|(_, number)| *number);
    let is_allowed = decision.verdict <= Verdict::Restrict as u8;
    if let Some(until_ns) = number(reason::APPROVAL_OPENED) {
        let (word, is_expired, is_used) = (None, false, false);
        all.insert(recorded.leaf.leaf_index, Known { opened: recorded, until_ns, word, is_expired, is_used });
    }
    let escalated = decision.policy_verdict == Verdict::Escalate as u8;
    match number(reason::APPROVED) {
        None if escalated && is_allowed => Some("it is allowed, policy escalates it, and it names no approval".into()),
        None => None,
        Some(named) if !is_allowed => Some(format!("it is denied and uses approval {named}")),
        Some(named) => match all.get_mut(&named) {
            None => Some(format!("it uses approval {named}, which was never opened here")),
            Some(known) => {
                let why = unfit(known, &recorded);
                known.is_used = true;
                why.map(|why| format!("it uses approval {named}, which {why}"))
            }
        },
    }
}

/// Why an approval must not have counted.
fn unfit(known: &Known<'_>, recorded: &Recorded<'_>) -> Option<&'static str> {
    let (opened, used) = (known.opened.decision, recorded.decision);
    let ids = |leaf: &nethical_audit::leaf::DecisionLeaf| {
        [leaf.tenant, leaf.agent, leaf.session, leaf.cohort, leaf.tool, leaf.region, leaf.resource]
    };
    let content = |recorded: &Recorded<'_>| recorded.operation.map(|operation| operation.content.clone());
    let same = ids(opened) == ids(used) && opened.action_kind == used.action_kind && opened.costs == used.costs;
    match known {
        _ if known.word != Some(APPROVED) => Some("was not approved"),
        _ if known.is_used => Some("was used before"),
        _ if known.is_expired || recorded.leaf.now_ns >= known.until_ns => Some("had expired"),
        _ if !same || content(&known.opened) != content(recorded) => Some("is for another action"),
        _ if opened.policy_rev != used.policy_rev => Some("was opened under another policy"),
        _ => None,
    }
}
