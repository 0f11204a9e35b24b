//! `mutants`: every planted bug must be found by a check, within so many seeds, and the same seeds without the bug are clean.
//!
//! What counts is an invariant or the oracle over clients' records: that a node ended, did not heal or panicked does not.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use nethical_protocol::probe::PLANTED;
use nethical_sim::engine;
use nethical_sim::plan::Plan;
use nethical_sim::run::Report;

use super::fuzz::{now, progress};
use crate::{MutantArguments, Output};

/// Checks that say that something went wrong and not what: no detection.
const NOT_COUNTED: [&str; 7] = ["no-panic", "no-exit", "no-leak", "liveness", "convergence", "restart", "furnish"];

/// What came of one planted bug.
#[derive(Debug, Clone, Serialize)]
struct Verdict {
    bug: &'static str,
    /// The seed that found it.
    seed: Option<u64>,
    /// The check, and what it found.
    check: Option<String>,
    what: Option<String>,
    /// Seeds run.
    runs: u64,
    /// Seeds among them that were found bad without the bug: they do not count.
    unclean: Vec<u64>,
    seconds: f64,
}

/// Looks for every planted bug. Fails where one is not found.
pub fn mutants(arguments: &MutantArguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        PLANTED.iter().for_each(|(bug, what)| println!("{bug:<30} {what}"));
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(engine::IS_WHOLE, "{}", engine::NOT_WHOLE);
    if let Some(bug) = &arguments.bug {
        let known = PLANTED.iter().any(|(name, _)| name == bug);
        anyhow::ensure!(known, "no planted bug is called {bug:?}; `mutants --list` names them");
    }
    let wanted =
        PLANTED.iter().map(|(bug, _)| *bug).filter(|bug| arguments.bug.as_deref().is_none_or(|only| only == *bug));
    let bugs: Vec<&'static str> = wanted.collect();
    let bar = progress(bugs.len() as u64, arguments.output);
    let clean = Clean::default();
    let mut verdicts = Vec::new();
    for bug in bugs {
        bar.set_message(bug);
        verdicts.push(look_for(bug, arguments, &clean)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&verdicts)?),
        Output::Text => print(&verdicts),
    }
    Ok(ExitCode::from(u8::from(verdicts.iter().any(|verdict| verdict.seed.is_none()))))
}

/// What seeds do without any bug: run once, used for all bugs.
#[derive(Default)]
struct Clean {
    seeds: Mutex<BTreeMap<u64, bool>>,
}

impl Clean {
    fn is_clean(&self, plan: &Plan) -> bool {
        if let Some(known) = self.seeds.lock().expect("no worker panics").get(&plan.seed) {
            return *known;
        }
        let plan = Plan { planted: None, ..plan.clone() };
        let is_clean = engine::execute(&plan, false).is_ok_and(|done| done.report.violations.is_empty());
        self.seeds.lock().expect("no worker panics").insert(plan.seed, is_clean);
        is_clean
    }
}

fn look_for(bug: &'static str, arguments: &MutantArguments, clean: &Clean) -> anyhow::Result<Verdict> {
    let begun = now();
    let (next, runs, is_found) = (AtomicU64::new(arguments.from), AtomicU64::new(0), AtomicBool::new(false));
    let found: Mutex<Option<(u64, String, String)>> = Mutex::new(None);
    let unclean: Mutex<Vec<u64>> = Mutex::default();
    let work = || {
        while !is_found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.from + arguments.seeds {
                return;
            }
            let plan = nethical_sim::swarm::draw(seed, arguments.seconds);
            let planted = Plan { planted: Some(bug.to_owned()), ..plan.clone() };
            runs.fetch_add(1, Ordering::Relaxed);
            // A bug that ends the whole run is no detection either.
            let Ok(done) = engine::execute(&planted, false) else { continue };
            let Some((check, what)) = detection(&done.report) else { continue };
            if !clean.is_clean(&plan) {
                unclean.lock().expect("no worker panics").push(seed);
                continue;
            }
            is_found.store(true, Ordering::Relaxed);
            let mut found = found.lock().expect("no worker panics");
            if found.as_ref().is_none_or(|(earlier, ..)| seed < *earlier) {
                *found = Some((seed, check, what));
            }
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    let found = found.into_inner().expect("no worker panics");
    let (seed, check, what) = match found {
        Some((seed, check, what)) => (Some(seed), Some(check), Some(what)),
        None => (None, None, None),
    };
    let unclean = unclean.into_inner().expect("no worker panics");
    let seconds = now().duration_since(begun).as_secs_f64();
    Ok(Verdict { bug, seed, check, what, runs: runs.into_inner(), unclean, seconds })
}

fn detection(report: &Report) -> Option<(String, String)> {
    let counted = report.violations.iter().find(|violation| !NOT_COUNTED.contains(&violation.check));
    counted.map(|violation| (violation.check.to_owned(), violation.what.clone()))
}

fn print(verdicts: &[Verdict]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["planted bug", "found by", "seed", "runs", "s", "what was found"]);
    for verdict in verdicts {
        let what: String = verdict.what.as_deref().unwrap_or("NOT FOUND").chars().take(120).collect();
        let seed = verdict.seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        let check = verdict.check.as_deref().unwrap_or("-");
        let (runs, seconds) = (verdict.runs.to_string(), format!("{:.0}", verdict.seconds));
        table.add_row([verdict.bug, check, &seed, &runs, &seconds, &what]);
    }
    println!("{table}");
    let found = verdicts.iter().filter(|verdict| verdict.seed.is_some()).count();
    println!("{found} of {} planted bugs were found by a check; the same seeds are clean without them", verdicts.len());
}
