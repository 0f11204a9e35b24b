//! `coverage`: what a campaign has seen of what must be seen sometimes. What no seed shows was not tested.

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};

use nethical_protocol::probe::SOMETIMES;
use nethical_sim::check::sometimes::GOALS;
use nethical_sim::engine;

use super::fuzz::{progress, sweep};
use crate::{FuzzArguments, Output};

/// Runs seeds and counts the runs in which each goal was reached. Fails where a goal never was.
pub fn coverage(arguments: &FuzzArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(engine::IS_WHOLE, "{}", engine::NOT_WHOLE);
    let bar = progress(arguments.seeds, arguments.output);
    let seeds = arguments.from..arguments.from + arguments.seeds;
    let campaign = sweep(seeds, arguments.jobs, arguments.until(), &bar, |seed| arguments.plan(seed));
    bar.finish_and_clear();
    let goals: Vec<&str> = GOALS.into_iter().chain(SOMETIMES.iter().copied()).collect();
    let runs_of = |goal: &str| campaign.seen.get(goal).copied().unwrap_or(0);
    let missed: Vec<&str> = goals.iter().copied().filter(|goal| runs_of(goal) == 0).collect();
    match arguments.output {
        Output::Json => {
            let counts: serde_json::Map<String, serde_json::Value> =
                goals.iter().map(|goal| ((*goal).to_owned(), runs_of(goal).into())).collect();
            println!("{}", serde_json::json!({ "runs": campaign.runs, "goals": counts, "missed": missed }));
        }
        Output::Text => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(["seen in", "what must be seen sometimes"]);
            let mut sorted = goals.clone();
            sorted.sort_by_key(|goal| runs_of(goal));
            for goal in sorted {
                let share = format!("{:.1} %", runs_of(goal) as f64 * 100.0 / campaign.runs.max(1) as f64);
                table.add_row([share.as_str(), goal]);
            }
            println!("{table}");
            println!("{} of {} goals were reached in {} runs", goals.len() - missed.len(), goals.len(), campaign.runs);
        }
    }
    Ok(ExitCode::from(u8::from(!missed.is_empty())))
}
