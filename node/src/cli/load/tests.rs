//! Tests of the load generator against deciders made for them; time is tokio's paused clock where it matters.

use futures::future::BoxFuture;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ItemAnswer, Verdict};
use nethical_protocol::error::Code;

use super::*;
use crate::cli::measure::tests::{decided, failed};

/// Answers after a delay; every `fail_every`-th request fails.
struct Slow {
    delay: Duration,
    fail_every: u64,
    calls: std::sync::atomic::AtomicU64,
}

impl Decider for Slow {
    fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>> {
        let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let bad = self.fail_every > 0 && call.is_multiple_of(self.fail_every);
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let answer = |action: &Action| match bad {
                true => failed(&action.request_id, Code::NoQuorum),
                false => decided(&action.request_id, 1, Verdict::Restrict),
            };
            actions.iter().map(answer).collect()
        })
    }
}

fn slow(delay_ms: u64, fail_every: u64) -> Arc<Slow> {
    Arc::new(Slow { delay: Duration::from_millis(delay_ms), fail_every, calls: Default::default() })
}

fn plan(rps: f64, batch: u64, in_flight: usize, duration_ms: u64) -> Plan {
    Plan {
        generator: Generator::new(1, 10),
        tenant: "t".to_owned(),
        rps,
        batch,
        in_flight,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(duration_ms),
        first: 0,
    }
}

#[tokio::test]
async fn an_open_loop_counts_the_wait_of_its_own_schedule() {
    // One request in flight, 20 ms each, 200 wanted a second: the schedule falls ever further behind.
    let (summary, _) = drive(slow(20, 0), plan(200.0, 1, 1, 400), Arc::default()).await.expect("driven");
    assert!(summary.latency_ms.max > 100.0, "the queueing before sending is hidden: {:?}", summary.latency_ms);
}

#[tokio::test]
async fn the_rate_counts_actions_and_not_requests() {
    let (summary, _) = drive(slow(0, 0), plan(500.0, 10, 64, 500), Arc::default()).await.expect("driven");
    assert_eq!(summary.submitted, 250);
    assert_eq!(summary.verdicts["restrict"], 250);
}

#[tokio::test]
async fn failures_are_counted_and_noted_in_journal_and_rows() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (journal, csv) = (dir.path().join("journal"), dir.path().join("rows.csv"));
    let notes =
        Notes { journal: Some(Journal::create(&journal).expect("new")), rows: Some(Rows::create(&csv).expect("new")) };
    let notes = Arc::new(notes);
    let (summary, elapsed) = drive(slow(0, 4), plan(100.0, 1, 8, 200), notes.clone()).await.expect("driven");
    notes.rows.as_ref().expect("given").finish().expect("written");
    assert_eq!((summary.submitted, summary.failed), (20, 5));
    let report = report(summary, 100.0, elapsed);
    assert!(!report.pass && report.missed.iter().any(|line| line.contains("25.00 %")), "{:?}", report.missed);
    assert_eq!(crate::cli::journal::read(&journal).expect("own journal").len(), 40);
    let text = std::fs::read_to_string(&csv).expect("own file");
    assert!(text.starts_with("agent_id,action_id,timestamp,latency_ms,status,error,violation_detected\n"), "{text}");
    assert_eq!(text.lines().count(), 21);
    assert!(text.contains(",error,no-quorum: test,false") && text.contains(",success,,true"), "{text}");
}

#[tokio::test]
async fn a_closed_loop_keeps_its_requests_bounded() {
    let (summary, elapsed) = drive(slow(10, 0), plan(0.0, 1, 4, 200), Arc::default()).await.expect("driven");
    assert!(summary.submitted <= 4 * 22, "{}", summary.submitted);
    assert!(report(summary, 0.0, elapsed).pass);
}

#[test]
fn the_rule_is_the_older_generators() {
    let good = Latency { p50: 1.0, p95: 199.0, p99: 499.0, max: 900.0 };
    assert!(missed(&good, 100.0, 91.0, 0.009).is_empty());
    assert_eq!(missed(&Latency { p95: 200.0, ..good }, 100.0, 100.0, 0.0).len(), 1);
    assert_eq!(missed(&Latency { p99: 500.0, ..good }, 100.0, 100.0, 0.0).len(), 1);
    assert_eq!(missed(&good, 100.0, 89.0, 0.0).len(), 1);
    assert_eq!(missed(&good, 100.0, 100.0, 0.01).len(), 1);
}
