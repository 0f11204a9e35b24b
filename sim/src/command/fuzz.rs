//! `fuzz`: many seeds on many threads. One line a failure, with the command that replays it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use nethical_sim::engine;
use nethical_sim::plan::Plan;
use nethical_sim::run::Report;

use crate::{FuzzArguments, Output};

/// What came of a campaign.
#[derive(Default, Serialize)]
pub struct Campaign {
    /// The version of the code.
    pub commit: String,
    /// Runs.
    pub runs: u64,
    /// Runs that showed too little.
    pub void: u64,
    /// Simulated seconds.
    pub simulated_s: f64,
    /// Seconds of CPU.
    pub cpu_s: f64,
    /// Decisions that clients were told of.
    pub decided: u64,
    /// Faults.
    pub faults: u64,
    /// Events of all traces.
    pub events: u64,
    /// Runs in which a limit refused something.
    pub limited: u64,
    /// What was seen, in how many runs.
    pub seen: BTreeMap<String, u64>,
    /// Seeds that failed, with the first violation.
    pub failures: Vec<(u64, String)>,
}

impl Campaign {
    /// Counts a run in.
    pub fn add(&mut self, report: &Report, cpu_ns: u64) {
        self.runs += 1;
        self.void += u64::from(report.is_void);
        self.simulated_s += report.seconds;
        self.cpu_s += cpu_ns as f64 / 1e9;
        self.decided += report.decided;
        self.faults += report.faults as u64;
        self.events += report.events;
        let limited = ["the rate limit refused something", "the budget ran out"];
        self.limited += u64::from(limited.iter().any(|goal| report.seen.contains_key(*goal)));
        report.seen.keys().for_each(|goal| *self.seen.entry(goal.clone()).or_default() += 1);
        if let Some(first) = report.violations.first() {
            self.failures.push((report.seed, format!("{}: {}", first.check, first.what)));
        }
    }

    /// Simulated seconds for a second of CPU.
    pub fn speed(&self) -> f64 {
        self.simulated_s / self.cpu_s.max(1e-9)
    }
}

/// Runs seeds until there are enough or the time is up. Fails where one failed.
pub fn fuzz(arguments: &FuzzArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(engine::IS_WHOLE, "{}", engine::NOT_WHOLE);
    let bar = progress(arguments.seeds, arguments.output);
    let campaign =
        sweep(arguments.from..arguments.from + arguments.seeds, arguments.jobs, arguments.until(), &bar, |seed| {
            arguments.plan(seed)
        });
    bar.finish_and_clear();
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&campaign)?),
        Output::Text => print(&campaign),
    }
    Ok(ExitCode::from(u8::from(!campaign.failures.is_empty())))
}

/// Runs the plans of some seeds, `jobs` at a time, and says of each failure how to see it again.
pub fn sweep(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    until: Option<Instant>,
    bar: &ProgressBar,
    plan_of: impl Fn(u64) -> Plan + Sync,
) -> Campaign {
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let campaign = Mutex::new(Campaign { commit: commit(), ..Campaign::default() });
    let work = || {
        while until.is_none_or(|until| now() < until) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || engine::stands_still() {
                return;
            }
            let plan = plan_of(seed);
            match engine::execute(&plan, false) {
                Ok(done) => {
                    let mut campaign = campaign.lock().expect("no worker panics");
                    campaign.add(&done.report, done.cpu_ns);
                    if let Some(first) = done.report.violations.first() {
                        let line = format!("FAILED  {}  ({}: {})", replay(&plan), first.check, shortened(&first.what));
                        bar.suspend(|| println!("{line}  commit {}", campaign.commit));
                    }
                }
                Err(error) => {
                    let mut campaign = campaign.lock().expect("no worker panics");
                    bar.suspend(|| println!("FAILED  {}  ({error:#})  commit {}", replay(&plan), campaign.commit));
                    campaign.failures.push((seed, format!("{error:#}")));
                }
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    let mut campaign = campaign.into_inner().expect("no worker panics");
    campaign.failures.sort();
    campaign
}

/// The command that runs a plan drawn from a seed again.
pub fn replay(plan: &Plan) -> String {
    let mut command = format!("nethical-sim run --seed {} --seconds {}", plan.seed, plan.length_ms / 1_000);
    if plan.net != nethical_sim::plan::Net::Message {
        command += " --net quic";
    }
    if plan.runtime != nethical_sim::plan::Runtime::One {
        command += " --runtime per-node";
    }
    plan.planted.iter().for_each(|bug| command += &format!(" --planted {bug}"));
    command
}

fn shortened(text: &str) -> String {
    const WIDTH: usize = 160;
    if text.chars().count() <= WIDTH { text.to_owned() } else { text.chars().take(WIDTH).collect::<String>() + "…" }
}

/// The commit that this program was built from, where it runs inside its repository.
pub fn commit() -> String {
    let asked = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let said = asked
        .ok()
        .filter(|done| done.status.success())
        .map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned());
    said.unwrap_or_else(|| "unknown".to_owned())
}

/// A bar with seeds a second, where somebody looks.
pub fn progress(length: u64, output: Output) -> ProgressBar {
    if output == Output::Json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    let bar = ProgressBar::new(length).with_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Real time: campaigns end by it.
#[allow(clippy::disallowed_methods, reason = "how long a campaign takes is real time")]
pub fn now() -> Instant {
    Instant::now()
}

fn print(campaign: &Campaign) {
    println!(
        "{} runs, {:.0} simulated s in {:.1} s of CPU ({:.0} simulated s a CPU s), commit {}",
        campaign.runs,
        campaign.simulated_s,
        campaign.cpu_s,
        campaign.speed(),
        campaign.commit
    );
    println!(
        "  {:.1} decisions and {:.2} faults a simulated s; limits reached in {} runs; {} void",
        campaign.decided as f64 / campaign.simulated_s.max(1.0),
        campaign.faults as f64 / campaign.simulated_s.max(1.0),
        campaign.limited,
        campaign.void
    );
    match campaign.failures.len() {
        0 => println!("  no violations"),
        failed => println!("  {failed} seeds FAILED; each line above is a command that shows one again"),
    }
}
