//! One run inside the test's own process, without seeded runtime dice: safety does not depend on determinism.

use nethical_sim::run::run;
use nethical_sim::trace::Trace;

#[tokio::test(start_paused = true)]
async fn a_run_finds_no_violation_under_any_scheduling() {
    let trace = Trace::new(std::env::var_os("SIM_TRACE").is_some());
    if let Some(filter) = std::env::var_os("SIM_LOG") {
        tracing_subscriber::fmt().without_time().with_writer(std::io::stderr).with_env_filter(filter.to_string_lossy()).init();
    }
    let report = run(1_000, 60, trace.clone()).await;
    if let Some(path) = std::env::var_os("SIM_TRACE") {
        std::fs::write(path, trace.take_lines().join("\n")).unwrap();
    }
    println!("{report:#?}");
    assert_eq!(report.violations, Vec::<String>::new());
}
