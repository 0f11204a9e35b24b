//! `scenarios`: every named situation, held against what is expected of it.
//!
//! It runs and prints; what is expected of whom is in `nethical_sim::scenario`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use nethical_sim::engine;
use nethical_sim::scenario::{self, Scenario};

use super::fuzz;
use crate::Output;

/// Reasons that a person is shown of one run; the rest follows from them.
const REASONS_SHOWN: usize = 3;
/// Characters of a reason that a person is shown.
const REASON_WIDTH: usize = 180;

/// Which scenarios to run.
#[derive(Args, Clone)]
pub struct Arguments {
    /// Only those whose names contain one of these.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say what there is and run nothing.
    #[arg(long)]
    list: bool,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds of each scenario.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What came of one scenario under all its seeds.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    what: &'static str,
    expected: String,
    as_expected: bool,
    simulated_s: f64,
    cpu_s: f64,
    /// Longest time from the end of the last fault until all groups led, milliseconds.
    healed_ms_max: u64,
    leader_changes: u64,
    decided: u64,
    /// Seeds that were not as expected, each with the command that shows it again and what was wrong.
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    seed: u64,
    replay: String,
    wrong: Vec<String>,
}

/// The scenario of a name, or an error that names those that sound alike.
pub fn find(name: &str) -> anyhow::Result<&'static Scenario> {
    scenario::named(name).ok_or_else(|| {
        let words: Vec<&str> = name.split('-').filter(|word| word.len() > 3).collect();
        let alike = scenario::all().iter().map(|known| known.name);
        let alike: Vec<&str> = alike.filter(|known| words.iter().any(|word| known.contains(word))).collect();
        let hint = if alike.is_empty() { String::new() } else { format!(" (alike: {})", alike.join(", ")) };
        anyhow::anyhow!("no scenario is called {name:?}{hint}; `nethical-sim scenarios --list` names them")
    })
}

/// Runs scenarios and prints how each went. Fails where one is not as expected.
pub fn scenarios(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let chosen: Vec<&'static Scenario> = scenario::all().iter().filter(|one| arguments.wants(one.name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no scenario's name contains {}", arguments.names.join(" or "));
    if arguments.list {
        list(&chosen, arguments.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(engine::IS_WHOLE, "{}", engine::NOT_WHOLE);
    let rows = run_all(arguments, &chosen);
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Text => print(&rows),
    }
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| !row.as_expected))))
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name.contains(wanted.as_str()))
    }
}

fn run_all(arguments: &Arguments, chosen: &[&'static Scenario]) -> Vec<Row> {
    let seeds = arguments.from..arguments.from + arguments.seeds;
    let runs: Vec<(usize, u64)> =
        (0..chosen.len()).flat_map(|place| seeds.clone().map(move |seed| (place, seed))).collect();
    let bar = progress(runs.len() as u64, arguments.output);
    let rows = Mutex::new(chosen.iter().map(|scenario| Row::of(scenario)).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((place, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = engine::execute(&chosen[*place].plan(*seed), false);
            rows.lock().expect("no worker panics")[*place].add(chosen[*place], *seed, done);
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    bar.finish_and_clear();
    rows.into_inner().expect("no worker panics")
}

impl Row {
    fn of(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name,
            what: scenario.what,
            expected: scenario.expected.words(),
            as_expected: true,
            simulated_s: 0.0,
            cpu_s: 0.0,
            healed_ms_max: 0,
            leader_changes: 0,
            decided: 0,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, scenario: &Scenario, seed: u64, done: anyhow::Result<engine::Done>) {
        let wrong = match done {
            Ok(done) => {
                self.simulated_s += done.report.seconds;
                self.cpu_s += done.cpu_ns as f64 / 1e9;
                self.healed_ms_max = self.healed_ms_max.max(done.report.healed_after_ms.unwrap_or(0));
                self.leader_changes += done.report.leader_changes;
                self.decided += done.report.decided;
                scenario.judge(&done.report)
            }
            Err(error) => vec![format!("{error:#}")],
        };
        if wrong.is_empty() {
            return;
        }
        self.as_expected = false;
        let replay = format!("nethical-sim run --scenario {} --seed {seed}", self.name);
        self.failures.push(Failure { seed, replay, wrong });
        self.failures.sort_by_key(|failure| failure.seed);
    }
}

fn list(chosen: &[&Scenario], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let rows: Vec<serde_json::Value> = chosen.iter().map(|scenario| described(scenario)).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    for scenario in chosen {
        println!("{:<34} {}", scenario.name, scenario.expected.words());
        println!("    {}", scenario.what);
    }
    println!("{} scenarios; `nethical-sim run --scenario NAME` runs one", chosen.len());
    Ok(())
}

fn described(scenario: &Scenario) -> serde_json::Value {
    serde_json::json!({
        "name": scenario.name,
        "what": scenario.what,
        "expected": scenario.expected.words(),
        "seen": scenario.seen,
    })
}

fn print(rows: &[Row]) {
    println!("{:<34} {:<24} {:<16} {:>11} {:>7}", "scenario", "expected", "outcome", "simulated s", "CPU s");
    for row in rows {
        let outcome = if row.as_expected { "as expected" } else { "NOT AS EXPECTED" };
        let (simulated_s, cpu_s) = (row.simulated_s, row.cpu_s);
        println!("{:<34} {:<24} {outcome:<16} {simulated_s:>11.1} {cpu_s:>7.2}", row.name, row.expected);
    }
    for failure in rows.iter().flat_map(|row| &row.failures) {
        println!("FAILED  {}  commit {}", failure.replay, fuzz::commit());
        failure.wrong.iter().take(REASONS_SHOWN).for_each(|wrong| println!("    {}", shortened(wrong)));
        if failure.wrong.len() > REASONS_SHOWN {
            println!("    … and {} more", failure.wrong.len() - REASONS_SHOWN);
        }
    }
    let (simulated_s, cpu_s): (f64, f64) =
        rows.iter().fold((0.0, 0.0), |(simulated, cpu), row| (simulated + row.simulated_s, cpu + row.cpu_s));
    let failed = rows.iter().filter(|row| !row.as_expected).count();
    let verdict = if failed == 0 { "all as expected".to_owned() } else { format!("{failed} NOT AS EXPECTED") };
    println!("{} scenarios, {simulated_s:.0} simulated s in {cpu_s:.1} s of CPU: {verdict}", rows.len());
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= REASON_WIDTH {
        return text.to_owned();
    }
    text.chars().take(REASON_WIDTH).collect::<String>() + "…"
}

fn progress(length: u64, output: Output) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} runs, {per_sec}, {eta} left");
    fuzz::progress(length, output).with_style(style.expect("the template is well formed"))
}
