//! Whether the promises were kept, as pure functions over what the client saw and what the audit trail holds.
//!
//! Each gives one line for each broken promise, and nothing where all were kept. Each has a twin in the tests that
//! doctors a good history and expects to be caught: a checker that cannot fail shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use nethical_protocol::decision::Verdict;

/// Lines that a report shows of one promise; the rest is counted.
const LINES_MAX: usize = 5;

/// A decision that a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The id that the client chose.
    pub request_id: String,
    /// Where its record should stand.
    pub decision_id: String,
    /// What the client was told.
    pub verdict: Verdict,
    /// The leaf hash that the client was given, hex.
    pub leaf_hash: String,
}

/// A decision that the audit trail holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The id that the client chose.
    pub request_id: String,
    /// Where it stands.
    pub decision_id: String,
    /// The verdict recorded.
    pub verdict: Verdict,
    /// RFC 6962 leaf hash, hex.
    pub leaf_hash: String,
}

/// An action of an agent under quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The id that the client chose.
    pub request_id: String,
    /// When the client submitted it, on the client's own monotonic clock.
    pub submitted_ns: u64,
    /// The verdict, where one came back or is recorded.
    pub verdict: Option<Verdict>,
}

/// Every decision that a client was told stands in the audit trail exactly once, as it was told; and no request id has
/// two decisions, told or not.
pub fn told_decisions_are_recorded_once(told: &[Told], recorded: &[Recorded]) -> Vec<String> {
    let mut by_request: BTreeMap<&str, Vec<&Recorded>> = BTreeMap::new();
    for record in recorded {
        by_request.entry(&record.request_id).or_default().push(record);
    }
    let mut broken = Vec::new();
    for (request_id, records) in by_request.iter().filter(|(_, records)| records.len() > 1) {
        let places: Vec<&str> = records.iter().map(|record| record.decision_id.as_str()).collect();
        broken.push(format!("request {request_id} was executed {} times: {}", records.len(), places.join(", ")));
    }
    for told in told {
        let id = &told.request_id;
        match by_request.get(id.as_str()).and_then(|records| records.first()) {
            None => broken.push(format!("request {id} was acknowledged as {} and is not recorded", told.decision_id)),
            Some(record) if record.decision_id != told.decision_id || record.leaf_hash != told.leaf_hash => {
                broken.push(format!(
                    "request {id} was acknowledged as {}, recorded as {}",
                    told.decision_id, record.decision_id
                ));
            }
            Some(record) if record.verdict != told.verdict => {
                let (told, recorded) = (told.verdict.as_str(), record.verdict.as_str());
                broken.push(format!("request {id} was answered {told}, recorded {recorded}"));
            }
            Some(_) => {}
        }
    }
    shortened(broken)
}

/// No action that was submitted after the quarantine was acknowledged is allowed.
pub fn none_is_allowed_after(acknowledged_ns: u64, attempts: &[Attempt]) -> Vec<String> {
    let after = attempts.iter().filter(|attempt| attempt.submitted_ns > acknowledged_ns);
    let allowed = after.filter(|attempt| attempt.verdict.is_some_and(Verdict::is_allowed));
    let broken = allowed.map(|attempt| {
        let late_ms = (attempt.submitted_ns - acknowledged_ns) / 1_000_000;
        format!(
            "request {} was allowed, submitted {late_ms} ms after the quarantine was acknowledged",
            attempt.request_id
        )
    });
    shortened(broken.collect())
}

/// The actions of `spender` (by request id) that the audit trail holds as allowed are at most `limit`.
pub fn admissions_stay_within(limit: u64, spender: &BTreeSet<String>, recorded: &[Recorded]) -> Vec<String> {
    let own = recorded.iter().filter(|record| spender.contains(&record.request_id));
    let admitted = own.filter(|record| record.verdict.is_allowed()).count() as u64;
    if admitted <= limit {
        Vec::new()
    } else {
        vec![format!("{admitted} actions were admitted under a limit of {limit}")]
    }
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES_MAX);
    if more > 0 {
        lines.truncate(LINES_MAX);
        lines.push(format!("… and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> (Vec<Told>, Vec<Recorded>) {
        let told = |n: u64| Told {
            request_id: format!("r{n}"),
            decision_id: format!("2.1.{n}"),
            verdict: Verdict::Allow,
            leaf_hash: format!("h{n}"),
        };
        let record = |n: u64| Recorded {
            request_id: format!("r{n}"),
            decision_id: format!("2.1.{n}"),
            verdict: Verdict::Allow,
            leaf_hash: format!("h{n}"),
        };
        // The last record was decided and its answer lost: that is allowed.
        ((0..10).map(told).collect(), (0..11).map(record).collect())
    }

    #[test]
    fn a_true_history_breaks_no_promise() {
        let (told, recorded) = history();
        assert_eq!(told_decisions_are_recorded_once(&told, &recorded), Vec::<String>::new());
    }

    #[test]
    fn sabotage_a_lost_decision_is_found() {
        let (told, mut recorded) = history();
        recorded.remove(4);
        assert!(told_decisions_are_recorded_once(&told, &recorded)[0].contains("r4 was acknowledged"));
    }

    #[test]
    fn sabotage_a_second_execution_is_found_even_where_nobody_was_told() {
        let (told, mut recorded) = history();
        let again = Recorded { decision_id: "5.1.3".into(), ..recorded[10].clone() };
        recorded.push(again);
        assert!(told_decisions_are_recorded_once(&told, &recorded)[0].contains("r10 was executed 2 times"));
    }

    #[test]
    fn sabotage_a_record_that_says_something_else_is_found() {
        let (told, recorded) = history();
        let doctored = |change: fn(&mut Recorded)| {
            let mut recorded = recorded.clone();
            change(&mut recorded[3]);
            told_decisions_are_recorded_once(&told, &recorded)
        };
        assert!(doctored(|record| record.verdict = Verdict::Block)[0].contains("answered allow, recorded block"));
        assert!(doctored(|record| record.decision_id = "2.1.99".into())[0].contains("recorded as 2.1.99"));
        assert_eq!(doctored(|record| record.leaf_hash = "other".into()).len(), 1);
    }

    fn attempts() -> Vec<Attempt> {
        let attempt = |n: u64, verdict| Attempt { request_id: format!("r{n}"), submitted_ns: n * 1_000_000, verdict };
        vec![
            attempt(1, Some(Verdict::Allow)),
            attempt(6, Some(Verdict::Block)),
            attempt(7, None),
            attempt(8, Some(Verdict::Terminate)),
        ]
    }

    #[test]
    fn an_enforced_quarantine_breaks_no_promise() {
        assert!(none_is_allowed_after(5_000_000, &attempts()).is_empty());
    }

    #[test]
    fn sabotage_an_action_allowed_after_the_acknowledgement_is_found() {
        for verdict in [Verdict::Allow, Verdict::Restrict] {
            let mut attempts = attempts();
            attempts[3].verdict = Some(verdict);
            let broken = none_is_allowed_after(5_000_000, &attempts);
            assert_eq!(broken, ["request r8 was allowed, submitted 3 ms after the quarantine was acknowledged"]);
        }
    }

    #[test]
    fn an_exhausted_quota_breaks_no_promise() {
        let (_, mut recorded) = history();
        recorded.iter_mut().skip(4).for_each(|record| record.verdict = Verdict::Block);
        let spender: BTreeSet<String> = recorded.iter().map(|record| record.request_id.clone()).collect();
        assert!(admissions_stay_within(4, &spender, &recorded).is_empty());
    }

    #[test]
    fn sabotage_one_admission_too_many_is_found() {
        let (_, recorded) = history();
        let spender: BTreeSet<String> = ["r1", "r2", "r3"].map(str::to_owned).into();
        assert!(admissions_stay_within(3, &spender, &recorded).is_empty());
        assert_eq!(admissions_stay_within(2, &spender, &recorded), ["3 actions were admitted under a limit of 2"]);
    }

    #[test]
    fn long_lists_are_shortened_and_counted() {
        let (told, _) = history();
        let broken = told_decisions_are_recorded_once(&told, &[]);
        assert_eq!(broken.len(), LINES_MAX + 1);
        assert_eq!(broken[LINES_MAX], "… and 5 more");
    }
}
