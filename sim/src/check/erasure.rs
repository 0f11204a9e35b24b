//! What was erased is read by nobody, and everything else by whoever may (ARCHITECTURE 4): after healing, the entries of
//! decisions that a client was told before their agent was erased have no body, and no other entry lacks one.

use super::Findings;

/// Bodies that are there and should not be, or the other way round.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let erased = findings.history.all_erased();
    let judged = findings.entries.iter().filter_map(|entry| {
        let is_erased = erased.contains(&entry.id);
        match entry.body_state.as_deref() {
            // That is not shown either; whether it should be is another check's.
            Some("erased" | "expired") => None,
            _ if is_erased => Some(format!("the body of {} is shown, and its agent was erased", entry.id)),
            Some(state) => Some(format!("the body of {} is {state}", entry.id)),
            None => None,
        }
    });
    judged.chain(findings.unfinished.iter().cloned()).collect()
}
