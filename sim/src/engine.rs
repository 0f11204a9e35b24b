//! Runs a plan on a thread of its own, in a runtime whose clock is paused and whose dice are seeded.
//!
//! A fresh thread has fresh thread-locals, so a plan gives the same trace whether it is the first of its process or the
//! thousandth. Seeding a runtime's dice needs `--cfg tokio_unstable`; a build without refuses to run.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Once, OnceLock};
use std::time::Duration;

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

/// Real time in which a run that has begun must add an event. Most add thousands a second; this only ends what never will.
const STILL: Duration = Duration::from_secs(120);

/// Set once a run stands still: it holds its turn for ever.
static STOOD: AtomicBool = AtomicBool::new(false);

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
/// Where the plan means nothing, or this build is not the simulator's own, or the run panicked or stands still.
pub fn execute(plan: &Plan, keep: bool) -> anyhow::Result<Done> {
    plan.check().context("the plan cannot be run")?;
    anyhow::ensure!(IS_WHOLE, NOT_WHOLE);
    detectors();
    let (plan, trace) = (plan.clone(), Trace::new(keep));
    let name = format!("seed {}", plan.seed);
    let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
    let (watched, (alive, ended)) = (trace.clone(), mpsc::sync_channel::<()>(1));
    let running = thread.spawn(move || {
        let _alive = alive;
        on_this_thread(&plan, &trace)
    });
    let running = running.context("making a thread")?;
    wait_while_it_moves(&watched, &ended, STILL)
        .inspect_err(|_| STOOD.store(true, Ordering::Relaxed))
        .with_context(|| format!("{name} stands still"))?;
    running.join().map_err(|panic| anyhow!("{name} panicked: {}", words_of(&*panic)))?
}

/// True once some run of this process stands still: what waits for its turn behind it waits in vain.
pub fn stands_still() -> bool {
    STOOD.load(Ordering::Relaxed)
}

/// Waits until the run's thread has let go of its end of `ended`.
///
/// # Errors
/// Where the run, once begun, added no event to its trace for `still` of real time. Its thread is left where it stands.
fn wait_while_it_moves(trace: &Trace, ended: &mpsc::Receiver<()>, still: Duration) -> anyhow::Result<()> {
    let mut before = 0;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(still) {
        let now = trace.events_within(still).context("it holds its trace, and nobody else can add an event")?;
        moves(before, now, stands_still())?;
        before = now;
    }
    Ok(())
}

/// Judges a run by its events before and now. One that waits for its turn has none yet.
fn moves(before: u64, now: u64, another_stands: bool) -> anyhow::Result<()> {
    anyhow::ensure!(now > 0 || !another_stands, "it waits for its turn behind a run that stands still");
    anyhow::ensure!(
        now == 0 || now != before,
        "nothing more has happened after {now} events: two tasks may wait for one lock; run the seed alone and attach a debugger meanwhile"
    );
    Ok(())
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

fn on_this_thread(plan: &Plan, trace: &Trace) -> anyhow::Result<Done> {
    // Taken before anything is spawned, and held until everything is dropped.
    let _aside = Aside::take(plan.runtime)?;
    let begun = cpu_ns();
    hear_panics();
    let runtime = runtime(plan.seed).context("making the runtime")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_adds_no_event_stands_still_and_one_that_ended_does_not() {
        let (trace, still) = (Trace::new(false), Duration::from_millis(1));
        let (alive, ended) = mpsc::sync_channel(1);
        trace.event(Duration::ZERO, None, "begun", &[]);
        let said = wait_while_it_moves(&trace, &ended, still).expect_err("it stands still").to_string();
        assert!(said.contains("after 1 events"), "{said}");
        drop(alive);
        assert!(wait_while_it_moves(&trace, &ended, still).is_ok());
    }

    #[test]
    fn a_run_may_wait_for_its_turn_but_not_behind_one_that_stands_still() {
        assert!(moves(0, 0, false).is_ok() && moves(3, 4, true).is_ok());
        assert!(moves(0, 0, true).is_err() && moves(4, 4, false).is_err());
    }
}
