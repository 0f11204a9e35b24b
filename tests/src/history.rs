//! A client's own record of what it was told, and the checks that compare it with the audit trail.
//!
//! The checks are functions of two lists, so that their sabotage twins can doctor either one: a check that cannot fail
//! proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use nethical_client::{Decision, ItemAnswer};

/// What a client was told about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The client's own id.
    pub request_id: String,
    /// Where the record is said to be.
    pub decision_id: String,
    /// Its leaf hash as told.
    pub leaf_hash: String,
    /// Whether the action was allowed.
    pub allowed: bool,
}

impl Told {
    /// From an answer, where it is a decision.
    pub fn of(answer: &ItemAnswer) -> Option<Self> {
        answer.result.as_ref().ok().map(Self::of_decision)
    }

    /// From a decision.
    pub fn of_decision(decision: &Decision) -> Self {
        Self {
            request_id: decision.request_id.clone(),
            decision_id: decision.decision_id.to_string(),
            leaf_hash: decision.audit.leaf_hash.clone(),
            allowed: decision.allowed,
        }
    }
}

/// Every acknowledged decision is in the trail under its id with its hash.
pub fn check_nothing_lost(told: &[Told], trail: &BTreeMap<String, String>) -> Result<(), String> {
    for one in told {
        match trail.get(&one.decision_id) {
            None => {
                return Err(format!(
                    "{} was acknowledged as {} and is not in the trail",
                    one.request_id, one.decision_id
                ));
            }
            Some(hash) if *hash != one.leaf_hash => {
                return Err(format!("{} has another leaf hash in the trail than was told", one.decision_id));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// No request was decided twice: one decision id a request, one request a decision id.
pub fn check_nothing_repeated(told: &[Told]) -> Result<(), String> {
    let mut by_request: BTreeMap<&str, &str> = BTreeMap::new();
    let mut requests: BTreeMap<&str, &str> = BTreeMap::new();
    for one in told {
        let known = by_request.insert(&one.request_id, &one.decision_id);
        if known.is_some_and(|known| known != one.decision_id) {
            return Err(format!("{} was decided twice", one.request_id));
        }
        let known = requests.insert(&one.decision_id, &one.request_id);
        if known.is_some_and(|known| known != one.request_id) {
            return Err(format!("{} answers two requests", one.decision_id));
        }
    }
    Ok(())
}

/// At most `cap` actions were admitted.
pub fn check_limit(told: &[Told], cap: usize) -> Result<(), String> {
    let admitted: BTreeSet<&str> = told.iter().filter(|one| one.allowed).map(|one| one.decision_id.as_str()).collect();
    match admitted.len() > cap {
        true => Err(format!("{} were admitted; the limit is {cap}", admitted.len())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Vec<Told> {
        (0..3)
            .map(|n| Told {
                request_id: format!("r{n}"),
                decision_id: format!("2.1.{n}"),
                leaf_hash: format!("hash{n}"),
                allowed: true,
            })
            .collect()
    }

    fn trail() -> BTreeMap<String, String> {
        told().into_iter().map(|one| (one.decision_id, one.leaf_hash)).collect()
    }

    #[test]
    fn an_honest_history_passes() {
        assert_eq!(check_nothing_lost(&told(), &trail()), Ok(()));
        assert_eq!(check_nothing_repeated(&told()), Ok(()));
        assert_eq!(check_limit(&told(), 3), Ok(()));
    }

    #[test]
    fn a_dropped_leaf_is_seen() {
        let mut trail = trail();
        trail.remove("2.1.1");
        assert!(check_nothing_lost(&told(), &trail).is_err());
    }

    #[test]
    fn an_altered_client_record_is_seen() {
        let mut told = told();
        told[2].leaf_hash = "other".to_owned();
        assert!(check_nothing_lost(&told, &trail()).is_err());
    }

    #[test]
    fn a_repeated_decision_is_seen() {
        let mut told = told();
        told.push(Told { decision_id: "2.1.9".to_owned(), ..told[0].clone() });
        assert!(check_nothing_repeated(&told).is_err());
        let mut shared = super::tests::told();
        shared[1].decision_id = shared[0].decision_id.clone();
        assert!(check_nothing_repeated(&shared).is_err());
    }

    #[test]
    fn an_exceeded_limit_is_seen() {
        assert!(check_limit(&told(), 2).is_err());
    }
}
