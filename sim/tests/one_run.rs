//! Runs inside the test's own process, without seeded runtime dice and without probes: safety depends on neither.

use std::time::Duration;

use nethical_sim::fault::{Entry, Fault};
use nethical_sim::plan::{Net, Plan};
use nethical_sim::run::{Report, run};
use nethical_sim::swarm::{Shape, draw_within};
use nethical_sim::trace::Trace;

/// A small fleet with no fault.
fn calm(seed: u64) -> Plan {
    let shape = Shape { nodes: Some(3), partitions: Some(2), clients: Some(6), ..Shape::default() };
    draw_within(seed, 40, &shape).with_faults(Vec::new())
}

fn what(report: &Report) -> Vec<&str> {
    report.violations.iter().map(|violation| violation.check).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_finds_no_violation_whatever_the_runtime_rolls() {
    let (at_ms, nodes) = (20_000, vec![1, 2, 3]);
    let plan = calm(1_000).with_faults(vec![Entry { id: 1, at_ms, for_ms: 400, fault: Fault::Power { nodes } }]);
    let report = run(&plan, Trace::new(false), None).await;
    assert_eq!(what(&report), Vec::<&str>::new(), "{:?}", report.violations);
    assert!(report.decided > 200 && report.healed_after_ms.is_some(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_over_the_clusters_own_wire() {
    let (at_ms, nodes) = (20_000, vec![1, 2, 3]);
    let plan = calm(1_000).with_faults(vec![Entry { id: 1, at_ms, for_ms: 400, fault: Fault::Power { nodes } }]);
    let report = run(&Plan { net: Net::Quic, ..plan }, Trace::new(false), None).await;
    assert_eq!(what(&report), Vec::<&str>::new(), "{:?}", report.violations);
    assert!(report.decided > 200 && report.healed_after_ms.is_some(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn disks_that_lie_about_their_syncs_are_found_out() {
    let lie = Fault::LyingDisk { nodes: vec![1, 2, 3] };
    let plan = calm(1_000);
    assert!(plan.healed_at() <= Duration::ZERO);
    let plan = plan.with_faults(vec![Entry { id: 1, at_ms: 18_000, for_ms: 1_500, fault: lie }]);
    let report = run(&plan, Trace::new(false), None).await;
    assert!(!report.violations.is_empty(), "acknowledged decisions were lost and nothing has seen it");
}
