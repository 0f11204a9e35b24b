//! Whoever looks for a word finds every entry whose body has it and nothing else (SPEC, section 3), each once, whether an index
//! knows of it or not.

use std::collections::BTreeSet;

use nethical_protocol::ids::{DecisionId, NodeId};

use super::Findings;

/// What one node found for one text.
pub struct Sought {
    /// On this node.
    pub node: NodeId,
    /// What was looked for.
    pub text: String,
    /// Entries that have it, by their bodies as this node showed them before and after it was asked.
    pub there: BTreeSet<DecisionId>,
    /// Entries that had it at one of the two moments.
    pub may_be: BTreeSet<DecisionId>,
    /// Entries that were given, in order; or why there was no answer.
    pub found: Result<Vec<Told>, String>,
}

/// An entry that was given.
pub struct Told {
    /// Which.
    pub id: DecisionId,
    /// False where its body could not be opened, so that nobody can say whether it has what was looked for.
    pub is_read: bool,
}

/// Answers that are not what the bodies say.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    findings.texts.iter().filter_map(|sought| Some(format!("{sought}: {}", differs(sought)?))).collect()
}

fn differs(sought: &Sought) -> Option<String> {
    let (there, found) = match &sought.found {
        Ok(found) => (&sought.there, found),
        Err(why) => return Some(why.clone()),
    };
    let told: BTreeSet<DecisionId> = found.iter().map(|told| told.id).collect();
    if told.len() < found.len() {
        return Some("an entry was given twice".to_owned());
    }
    if let Some(missed) = there.iter().find(|id| !told.contains(id)) {
        return Some(format!("{missed} has it and was not found, {} others were", told.len()));
    }
    let other = found.iter().find(|told| told.is_read && !sought.may_be.contains(&told.id));
    other.map(|told| format!("{} was found and has it not", told.id))
}
