//! Runs a plan on a thread of its own, in a runtime whose clock is paused and whose dice are seeded.
//!
//! A fresh thread has fresh thread-locals, so a plan gives the same trace whether it is the first of its process or the
//! thousandth. Seeding a runtime's dice needs `--cfg tokio_unstable`; a build without refuses to run.

use std::cell::Cell;
use std::sync::{Once, OnceLock};

use anyhow::{Context, anyhow};
use serde_json::Value;

use nethical_governance::detect::Detectors;

use crate::order::Aside;
use crate::plan::{Plan, Runtime};
use crate::run::{Report, run};
use crate::runtimes::Lives;
use crate::trace::Trace;
use crate::watch::Violation;

/// Enough for the deepest future of an unoptimised build.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// True where this build can run plans as they are meant: seeded, and with probes that are answered.
pub const IS_WHOLE: bool = cfg!(tokio_unstable) && cfg!(feature = "probes");

/// What came of a plan.
pub struct Done {
    /// The verdict.
    pub report: Report,
    /// The events, where they were to be kept.
    pub events: Vec<Value>,
    /// CPU time of the thread, nanoseconds.
    pub cpu_ns: u64,
}

/// Runs a plan; with `keep`, its events are kept.
///
/// # Errors
/// Where the plan means nothing, or this build is not the simulator's own, or the run panicked.
pub fn execute(plan: &Plan, keep: bool) -> anyhow::Result<Done> {
    plan.check().context("the plan cannot be run")?;
    anyhow::ensure!(IS_WHOLE, NOT_WHOLE);
    detectors();
    let plan = plan.clone();
    let name = format!("seed {}", plan.seed);
    let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
    let running = thread.spawn(move || on_this_thread(&plan, keep)).context("making a thread")?;
    running.join().map_err(|panic| anyhow!("{name} panicked: {}", words_of(&*panic)))?
}

/// Detectors as each run gets a copy of them. They are compiled on a thread of their own, because a run's thread counts
/// the hash maps that it makes: it may not matter whether a run is the first of its process.
pub fn detectors() -> &'static Detectors {
    static DETECTORS: OnceLock<Detectors> = OnceLock::new();
    DETECTORS.get_or_init(|| {
        std::thread::scope(|scope| scope.spawn(Detectors::new).join()).expect("the tables are part of this program")
    })
}

/// What to do where it cannot.
pub const NOT_WHOLE: &str = "this simulator was built without `--cfg tokio_unstable` or without the feature `probes`, so its \
     runs would not follow from their seeds; run it as `just sim …`";

fn on_this_thread(plan: &Plan, keep: bool) -> anyhow::Result<Done> {
    // Taken before anything is spawned, and held until everything is dropped.
    let _aside = Aside::take(plan.runtime)?;
    let begun = cpu_ns();
    hear_panics();
    let (runtime, trace) = (runtime(plan.seed).context("making the runtime")?, Trace::new(keep));
    let lives = (plan.runtime == Runtime::PerNode).then(Lives::default);
    let running = run(plan, trace.clone(), lives.clone());
    let mut report = match lives {
        None => runtime.block_on(running),
        Some(lives) => lives.block_on(&runtime, running),
    };
    drop(runtime);
    for panic in PANICS.with(Cell::take) {
        // A core of openraft that finds itself broken is started again (ARCHITECTURE.md, 5); our own code must not panic.
        match panic.contains("/openraft-") {
            true => *report.seen.entry("a core of openraft panicked".to_owned()).or_default() += 1,
            false => report.violations.push(Violation { check: "no-panic", at_ms: 0, what: panic }),
        }
    }
    Ok(Done { report, events: trace.take_events(), cpu_ns: cpu_ns() - begun })
}

thread_local! {
    /// Where this thread's run has panicked. Tasks of a node catch their panics, so the run goes on.
    static PANICS: Cell<Vec<String>> = const { Cell::new(Vec::new()) };
}

/// Panics are noted for the report in place of being printed.
fn hear_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let mut panics = PANICS.with(Cell::take);
            panics.push(panic.to_string());
            PANICS.with(|held| held.set(panics));
        }));
    });
}

/// A runtime on this thread, whose clock is paused and whose dice are seeded.
pub fn runtime(seed: u64) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    seed_dice(&mut builder, seed);
    builder.build()
}

#[cfg(tokio_unstable)]
fn seed_dice(builder: &mut tokio::runtime::Builder, seed: u64) {
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
}

#[cfg(not(tokio_unstable))]
fn seed_dice(_: &mut tokio::runtime::Builder, _: u64) {}

/// CPU time that this thread has used.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
