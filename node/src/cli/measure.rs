//! What `submit` and `load` count: verdicts, failures, and latency percentiles in a histogram of bounded size.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use nethical_protocol::decision::{ItemAnswer, Verdict};
use nethical_protocol::error::Class;

/// Latencies above this are recorded as this; three significant digits below it cost about 200 KiB.
const LATENCY_MAX_US: u64 = 10 * 60 * 1_000_000;

/// Latency percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Worst seen.
    pub max: f64,
}

/// Where the record of one submitted line is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Line in the file, from 1.
    pub line: u64,
    /// The id under which it was submitted.
    pub request_id: String,
    /// Where it stands in the audit trail.
    pub decision_id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// RFC 6962 leaf hash, hex.
    pub leaf_hash: String,
}

/// What `submit -o json` prints; `load` adds to it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Actions sent.
    pub submitted: u64,
    /// Actions with a decision.
    pub decided: u64,
    /// Actions without one.
    pub failed: u64,
    /// Of those, actions that may have been decided all the same.
    pub unknown: u64,
    /// Decisions by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Failures by error code.
    pub failures: BTreeMap<String, u64>,
    /// From (intended) sending to the answer.
    pub latency_ms: Latency,
    /// One for each decided line of a file.
    pub receipts: Vec<Receipt>,
}

/// Counts answers.
#[derive(Debug)]
pub struct Tally {
    summary: Summary,
    latency_us: Histogram<u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let latency_us = Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are constant and valid");
        Self { summary: Summary::default(), latency_us }
    }

    /// Counts one answer that took `latency`.
    pub fn answer(&mut self, answer: &ItemAnswer, latency: Duration) {
        self.summary.submitted += 1;
        match &answer.result {
            Ok(decision) => {
                self.summary.decided += 1;
                *self.summary.verdicts.entry(decision.verdict.as_str().to_owned()).or_default() += 1;
                let latency_us = latency.as_micros().min(u128::from(LATENCY_MAX_US)) as u64;
                self.latency_us.saturating_record(latency_us.max(1));
            }
            Err(problem) => {
                self.summary.failed += 1;
                self.summary.unknown += u64::from(problem.code.class() == Class::Unknown);
                *self.summary.failures.entry(problem.code.as_str().to_owned()).or_default() += 1;
            }
        }
    }

    /// Keeps the receipt of a decided line.
    pub fn receipt(&mut self, line: u64, answer: &ItemAnswer) {
        if let Ok(decision) = &answer.result {
            self.summary.receipts.push(Receipt {
                line,
                request_id: decision.request_id.clone(),
                decision_id: decision.decision_id.to_string(),
                verdict: decision.verdict,
                leaf_hash: decision.audit.leaf_hash.clone(),
            });
        }
    }

    /// Takes in what another worker counted.
    pub fn merge(&mut self, other: Tally) {
        let (mine, theirs) = (&mut self.summary, other.summary);
        mine.submitted += theirs.submitted;
        mine.decided += theirs.decided;
        mine.failed += theirs.failed;
        mine.unknown += theirs.unknown;
        for (into, from) in [(&mut mine.verdicts, theirs.verdicts), (&mut mine.failures, theirs.failures)] {
            for (word, count) in from {
                *into.entry(word).or_default() += count;
            }
        }
        mine.receipts.extend(theirs.receipts);
        self.latency_us.add(&other.latency_us).expect("both histograms have the same bounds");
    }

    /// The counts with their percentiles; receipts by line.
    pub fn finish(mut self) -> Summary {
        self.summary.receipts.sort_by_key(|receipt| receipt.line);
        self.summary.latency_ms = Latency {
            p50: self.quantile_ms(0.50),
            p95: self.quantile_ms(0.95),
            p99: self.quantile_ms(0.99),
            max: self.latency_us.max() as f64 / 1_000.0,
        };
        self.summary
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// The rows that people read, as (name, value).
pub fn rows(summary: &Summary) -> Vec<(String, String)> {
    let latency = &summary.latency_ms;
    let mut rows = vec![
        ("submitted".to_owned(), summary.submitted.to_string()),
        ("decided".to_owned(), summary.decided.to_string()),
        ("failed".to_owned(), format!("{} ({} of unknown outcome)", summary.failed, summary.unknown)),
    ];
    rows.extend(summary.verdicts.iter().map(|(verdict, count)| (format!("  {verdict}"), count.to_string())));
    rows.extend(summary.failures.iter().map(|(code, count)| (format!("  {code}"), count.to_string())));
    let times = format!("{:.2} / {:.2} / {:.2} / {:.2}", latency.p50, latency.p95, latency.p99, latency.max);
    rows.push(("latency ms p50/p95/p99/max".to_owned(), times));
    rows
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use nethical_protocol::decision::{
        AgentStatus, AgentSummary, AuditPosition, Decision, Revision, Risk, legacy_word,
    };
    use nethical_protocol::error::{Code, Problem};
    use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, LogId};

    /// A decision for tests.
    pub fn decided(request_id: &str, leaf_index: u64, verdict: Verdict) -> ItemAnswer {
        let decision_id = DecisionId { log: LogId { group: GroupId(2), era: 1 }, leaf_index };
        let decision = Decision {
            request_id: request_id.to_owned(),
            decision_id,
            verdict,
            allowed: verdict.is_allowed(),
            decision: legacy_word(verdict, AgentStatus::Active).to_owned(),
            reasons: vec![],
            obligations: vec![],
            transform: None,
            risk: Risk { score: 0, tier: "low".into(), factors: vec![] },
            agent: AgentSummary { state: AgentStatus::Active, epoch: 0 },
            quota: vec![],
            retry_after_ms: None,
            revision: Revision {
                policy: ControlRevision(1),
                state: ControlRevision(1),
                bundle: String::new(),
                canary: false,
            },
            decided_at_ns: 1,
            reservation: None,
            approval: None,
            degraded: false,
            replayed: false,
            audit: AuditPosition {
                log: "t/p/2/1".into(),
                leaf_index,
                leaf_hash: format!("{leaf_index:064x}"),
                receipt: None,
            },
            ethics: None,
        };
        ItemAnswer { request_id: request_id.to_owned(), result: Ok(decision) }
    }

    /// A failure for tests.
    pub fn failed(request_id: &str, code: Code) -> ItemAnswer {
        ItemAnswer { request_id: request_id.to_owned(), result: Err(Problem::new(code, "test")) }
    }

    #[test]
    fn answers_are_counted_and_percentiles_are_in_milliseconds() {
        let mut left = Tally::new();
        for index in 1..=100 {
            left.answer(&decided("a", index, Verdict::Allow), Duration::from_millis(index));
        }
        let mut right = Tally::new();
        right.answer(&decided("b", 1, Verdict::Block), Duration::from_millis(1));
        right.answer(&failed("c", Code::OutcomeUnknown), Duration::from_secs(5));
        right.answer(&failed("d", Code::NoQuorum), Duration::from_secs(5));
        right.receipt(9, &decided("b", 1, Verdict::Block));
        left.merge(right);
        let summary = left.finish();
        assert_eq!((summary.submitted, summary.decided, summary.failed, summary.unknown), (103, 101, 2, 1));
        assert_eq!(summary.verdicts["allow"], 100);
        assert_eq!(summary.verdicts["block"], 1);
        assert!((summary.latency_ms.p50 - 50.0).abs() < 1.0, "{:?}", summary.latency_ms);
        assert!((summary.latency_ms.max - 100.0).abs() < 0.2, "{:?}", summary.latency_ms);
        assert_eq!(summary.receipts[0].decision_id, "2.1.1");
    }
}
