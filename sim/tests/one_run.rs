//! One run inside the test's own process, without seeded runtime dice: safety does not depend on determinism.

use nethical_sim::plan::Plan;
use nethical_sim::run::run;
use nethical_sim::trace::Trace;

#[tokio::test(start_paused = true)]
async fn a_run_finds_no_violation_whatever_the_runtime_rolls() {
    let report = run(1_000, Plan::draw(1_000, 60), Trace::new(false)).await;
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.unseen, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn disks_that_lie_about_their_syncs_are_found_out() {
    let report = run(1_000, Plan::draw(1_000, 40).with_lying_disks(), Trace::new(false)).await;
    assert!(!report.violations.is_empty(), "acknowledged decisions were lost and the oracle has not seen it");
}
