//! `nethical config`: every problem of a file at once, and what is in force with where it came from.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::node::NodeArgs;
use crate::config::{ConfigProblem, Layers, Severity};
use crate::output::{self, Exit, Format, stop};

/// Check and print configuration.
#[allow(clippy::large_enum_variant, reason = "parsed once a process")]
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every problem of TOML and env files at once.
    Check(CheckArgs),
    /// Show what would be in force and where each value comes from.
    #[command(after_help = "Takes what `nethical node` takes, and starts nothing.\n\n\
        Examples:\n  nethical config print --config /etc/nethical/node.toml\n  nethical config print --config node.toml -o json")]
    Print(NodeArgs),
}

/// See `nethical config check --help`.
#[derive(Debug, Args)]
#[command(after_help = "Files ending in .env are checked alone; all others must be complete node configurations.\n\
    Exits 0 where only warnings remain, 3 where a residency check refuses, 1 for other errors.\n\n\
    Examples:\n  nethical config check /etc/nethical/node.toml\n  nethical config check config/regions/*.toml config/*.env -o json")]
pub struct CheckArgs {
    /// TOML or env files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    ok: bool,
    files: usize,
    problems: Vec<ConfigProblem>,
}

/// Carries the command out.
pub fn run(command: ConfigCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(args) => check(&args, format),
        ConfigCommand::Print(args) => print(&args, format),
    }
}

/// All problems of one file, the process environment left out.
fn problems_of(path: &Path) -> Vec<ConfigProblem> {
    if path.extension().is_some_and(|extension| extension == "env") {
        return Layers::check_env_file(path);
    }
    Layers { config: Some(path.to_owned()), ..Layers::default() }.load().problems
}

fn check(args: &CheckArgs, format: Format) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for file in &args.files {
        problems.extend(problems_of(file).into_iter().map(|mut problem| {
            if problem.place.is_empty() {
                problem.place = file.display().to_string();
            }
            problem
        }));
    }
    let worst = problems.iter().map(|problem| problem.severity).max();
    let ok = worst.is_none_or(|worst| worst == Severity::Warning);
    match format {
        Format::Json => output::print_json(&CheckReport { ok, files: args.files.len(), problems })?,
        Format::Table => {
            let mut table = output::table(&["SEVERITY", "WHERE", "WHAT"]);
            for problem in &problems {
                let place = problem.line.map_or(problem.place.clone(), |line| format!("{}:{line}", problem.place));
                table.add_row([format!("{:?}", problem.severity).to_lowercase(), place, problem.message.clone()]);
            }
            output::print_table(&table, &format!("{} files, no problems", args.files.len()))?;
        }
    }
    match worst {
        Some(Severity::Refusal) => Err(stop(Exit::Refused, "a safety check refuses this configuration")),
        Some(Severity::Error) => Err(stop(Exit::Failed, "a node would not start from this configuration")),
        _ => Ok(()),
    }
}

#[derive(Debug, Serialize)]
struct Printed {
    path: &'static str,
    value: String,
    from: String,
}

fn print(args: &NodeArgs, format: Format) -> anyhow::Result<()> {
    let loaded = args.layers().load();
    let mut rows: Vec<Printed> = loaded
        .effective
        .iter()
        .map(|setting| Printed {
            path: setting.key.path,
            value: if setting.key.secret { "(set, not shown)".to_owned() } else { setting.value.clone() },
            from: setting.origin.to_string(),
        })
        .collect();
    for peer in &loaded.peers {
        let fields: Vec<String> = peer.fields.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
        rows.push(Printed { path: "peers", value: fields.join(" "), from: peer.origin.to_string() });
    }
    match format {
        Format::Json => output::print_json(&serde_json::json!({ "settings": rows, "problems": loaded.problems }))?,
        Format::Table => {
            let mut table = output::table(&["SETTING", "VALUE", "FROM"]);
            for row in &rows {
                table.add_row([row.path, &row.value, &row.from]);
            }
            output::print_table(&table, "nothing is set")?;
        }
    }
    for problem in &loaded.problems {
        output::remark(&format!("{:?}: {problem}", problem.severity).to_lowercase());
    }
    match loaded.worst() {
        Some(Severity::Refusal) => Err(stop(Exit::Refused, "a safety check refuses this configuration")),
        Some(Severity::Error) => Err(stop(Exit::Failed, "a node would not start from this configuration")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_files_and_the_reference_are_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        let mut files: Vec<PathBuf> = vec![root.join("reference.toml")];
        for region in crate::config::region::REGIONS {
            files.push(root.join(format!("regions/{region}.toml")));
            files.push(root.join(format!("{region}.env")));
        }
        for file in files {
            let bad: Vec<String> = problems_of(&file)
                .iter()
                .filter(|problem| problem.severity > Severity::Warning)
                .map(ToString::to_string)
                .collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
    }

    #[test]
    fn the_reference_explains_every_setting_with_its_default() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        let path = root.join("reference.toml");
        let loaded = Layers { config: Some(path), ..Layers::default() }.load();
        for setting in &loaded.effective {
            let origin = setting.origin.to_string();
            assert!(origin.contains("reference.toml"), "{} is not in the reference", setting.key.path);
            if let Some(default) = setting.key.default.filter(|_| setting.key.path != "cluster.bootstrap") {
                assert_eq!(setting.value, default, "{}", setting.key.path);
            }
        }
    }
}
