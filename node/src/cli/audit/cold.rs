//! `nethical audit cold`: which files the cold tier has, and the key of one for other people's programs.
//!
//! It never reads the object store itself: what it prints is what the groups' leaders say.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use nethical_cluster::api::{ColdFileView, ColdKeyView, ColdList};

use super::EndpointArgs;
use super::tiers::bytes;
use crate::output::{self, Exit, Format, stop};

/// Files of the cold tier, and their keys.
#[derive(Debug, Subcommand)]
pub enum ColdCommand {
    /// List the files, group by group.
    #[command(
        after_help = "A thousand of each group at a time; --from goes on behind them. Exits 10 where a group does not \
        answer or something is\nwrong with a file.\n\n\
        Examples:\n  nethical audit cold list\n  nethical audit cold list --group 3 --from 1310720 -o json"
    )]
    List(ListArgs),
    /// Print the key that one file opens with.
    #[command(
        after_help = "Whoever has it reads every body in the file, of all tenants, for as long as they have a copy of the \
        file: erasures do not\nreach what was copied. The nodes' logs say that it was given out. It is refused while the \
        file holds bodies that are to go.\n\n\
        Examples:\n  nethical audit cold key 3 1310720\n  nethical audit cold key 3 1310720 -o json"
    )]
    Key(KeyArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this group.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<u32>,
    /// From the file that holds this entry, or comes behind it, on.
    #[arg(long, default_value_t = 0, value_name = "ENTRY", requires = "group")]
    pub from: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The file's group.
    #[arg(value_name = "GROUP")]
    pub group: u32,
    /// The file's first entry, as `audit cold list` shows it.
    #[arg(value_name = "ENTRY")]
    pub first: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(command: ColdCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ColdCommand::List(args) => list(args, format).await,
        ColdCommand::Key(args) => key(args, format).await,
    }
}

async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let group = args.group.map(|group| ("group", group.to_string()));
    let query: Vec<_> = group.into_iter().chain([("from", args.from.to_string())]).collect();
    let found: ColdList = args.endpoint.connect()?.get(&["v1", "audit", "cold"], &query).await?;
    match format {
        Format::Json => output::print_json(&found)?,
        Format::Table => print(&found)?,
    }
    if !found.awaiting.is_empty() {
        return Err(stop(Exit::Unhealthy, format!("groups {:?} did not answer", found.awaiting)));
    }
    match found.files.iter().filter(|file| !file.flaw.is_empty()).count() {
        0 => Ok(()),
        flawed => Err(stop(Exit::Unhealthy, format!("something is wrong with {flawed} files"))),
    }
}

fn print(found: &ColdList) -> anyhow::Result<()> {
    let mut table = output::table(&["GROUP", "ENTRIES", "BODIES", "SIZE", "OBJECT", "FLAW"]);
    for file in &found.files {
        table.add_row(row_of(file));
    }
    output::print_table(&table, "no segment is in the object store")?;
    for group in &found.more {
        let behind = found.files.iter().filter(|file| file.group == *group).map(|file| file.last + 1).max();
        let from = behind.unwrap_or_default();
        output::print_line(&format!("group {group} has more: --group {group} --from {from}"))?;
    }
    Ok(())
}

fn row_of(file: &ColdFileView) -> [String; 6] {
    let flaw = if file.flaw.is_empty() { "-" } else { &file.flaw };
    [
        file.group.to_string(),
        format!("{}..{}", file.first, file.last),
        file.bodies.to_string(),
        bytes(file.bytes),
        file.object.clone(),
        flaw.to_owned(),
    ]
}

async fn key(args: KeyArgs, format: Format) -> anyhow::Result<()> {
    let (group, first) = (args.group.to_string(), args.first.to_string());
    let path = ["v1", "audit", "cold", &group, &first, "key"];
    let found: ColdKeyView = args.endpoint.connect()?.send(Method::POST, &path, &json!({})).await?;
    match format {
        Format::Json => output::print_json(&found),
        Format::Table => {
            output::print_line(&format!("object  {}", found.file.object))?;
            output::print_line(&format!("key     {}", found.key))?;
            output::print_line("\nIn DuckDB, with the object's place before its name:")?;
            output::print_line("  SET disabled_optimizers = 'filter_pushdown';")?;
            output::print_line(&format!("  PRAGMA add_parquet_key('cold', '{}');", found.key))?;
            let encryption = "encryption_config = {footer_key: 'cold'}";
            output::print_line(&format!("  SELECT * FROM read_parquet('{}', {encryption});", found.file.object))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_which_entries_a_file_has_and_what_is_wrong_with_it() {
        let file = ColdFileView {
            group: 3,
            first: 65_536,
            last: 131_071,
            bodies: 65_000,
            bytes: 19_766_000,
            object: "demo/00003-1/a.parquet".to_owned(),
            flaw: String::new(),
        };
        let wanted = ["3", "65536..131071", "65000", "19.8 MB", "demo/00003-1/a.parquet", "-"];
        assert_eq!(row_of(&file), wanted.map(str::to_owned));
        let [.., flaw] = row_of(&ColdFileView { flaw: "the object is not there".to_owned(), ..file });
        assert_eq!(flaw, "the object is not there");
    }
}
