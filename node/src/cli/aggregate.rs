//! `nethical aggregate`: counts of a tenant's decisions, exact or with noise, each export decided and charged like an action.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use nethical_protocol::decision::{Decision, Verdict};
use nethical_protocol::limits::AGGREGATE_CLOSED_AFTER_MS;
use nethical_protocol::privacy::{AggregateBy, AggregateView, EPSILON_UNIT};

use super::EndpointArgs;
use super::policy::replay::{now_ns, time_ns};
use crate::output::{self, Exit, Format, exit_code, stop};

/// Between this machine's clock and a node's.
const CLOCKS_APART_MS: u64 = 1_000;

/// See `nethical aggregate --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Counts decisions of the tenant's agents, not exports. Of a tenant in mode differential every count has noise, \
    and what that costs is charged to its limits in the unit epsilon_micros before anything is drawn; a denied export \
    shows nothing and costs nothing. The same --request-id, --since and --until again give the same numbers and cost nothing more.\n\
    Exits 3 where the export was denied.\n\n\
    Examples:\n  nethical aggregate --tenant airline --by verdict --since 1h\n  \
    nethical aggregate --tenant airline --by tool --cell search_flights --cell refund --since 7d --epsilon 0.5\n  \
    nethical aggregate --tenant airline --by risk --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z -o json"
)]
pub struct AggregateArgs {
    /// Whose decisions.
    #[arg(long)]
    pub tenant: String,
    /// What they are counted by.
    #[arg(long, value_enum)]
    pub by: ByArg,
    /// A tool, cohort, region or rule to count by its name; again for each. All others count together.
    #[arg(long = "cell", value_name = "NAME")]
    pub cells: Vec<String>,
    /// From this log time on: RFC 3339, or a span back from now.
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    pub since: u64,
    /// Before this log time; 11 seconds ago where left out, since a window must be over.
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    pub until: Option<u64>,
    /// What the export may cost, of a tenant in mode differential; 0.5 where left out. More costs more and has less noise.
    #[arg(long, value_name = "EPSILON", value_parser = micros)]
    pub epsilon: Option<u64>,
    /// What one agent may add to all counts together, of a tenant in mode differential; 10 where left out. The noise grows with it.
    #[arg(long, value_name = "N")]
    pub per_agent: Option<u32>,
    /// Ask again under this id.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Claim this approval, where policy escalated the export.
    #[arg(long, value_name = "ID")]
    pub approval: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    Verdict,
    Kind,
    Tier,
    Risk,
    Status,
    Detector,
    Rule,
    Tool,
    Cohort,
    Region,
}

/// Carries the command out.
pub async fn run(args: AggregateArgs, format: Format) -> anyhow::Result<()> {
    let settled_ns = now_ns().saturating_sub((AGGREGATE_CLOSED_AFTER_MS + CLOCKS_APART_MS) * 1_000_000);
    let until = args.until.unwrap_or(settled_ns);
    if args.since >= until {
        return Err(stop(Exit::Usage, "--since must be before --until, which is 11 seconds ago at the latest"));
    }
    let request_id = args.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let mut body = json!({
        "tenant": args.tenant,
        "by": AggregateBy::ALL[args.by as usize],
        "cells": args.cells,
        "from_ns": args.since,
        "to_ns": until,
        "request_id": request_id,
        "approval": args.approval.clone().unwrap_or_default(),
    });
    if let Some(micros) = args.epsilon {
        body["epsilon_micros"] = micros.into();
    }
    if let Some(most) = args.per_agent {
        body["per_agent_max"] = most.into();
    }
    let request = args.endpoint.connect()?.request(Method::POST, &["v1", "aggregates"], &[]).body(&body);
    let window = window(args.since, until);
    let answer = request.decided().await.inspect_err(|error| {
        if exit_code(error) == Exit::Unknown as u8 {
            output::remark(&format!("ask again with --request-id {request_id} {window}"));
        }
    })?;
    match serde_json::from_value::<Decision>(answer.clone()) {
        Ok(denied) => Err(denial(&denied, &window)),
        Err(_) => print(&serde_json::from_value(answer)?, format),
    }
}

/// The flags that name the same window again.
fn window(since: u64, until: u64) -> String {
    let time =
        |ns: u64| Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string());
    format!("--since {} --until {}", time(since), time(until))
}

fn denial(denied: &Decision, window: &str) -> anyhow::Error {
    let why: Vec<&str> = denied.reasons.iter().map(|reason| reason.detail.as_str()).collect();
    let wait = denied.retry_after_ms.map(|wait_ms| format!("; there is room in {} s", wait_ms.div_ceil(1_000)));
    let next = denied.approval.as_ref().filter(|_| denied.verdict == Verdict::Escalate).map(|approval| {
        let id = approval.id;
        format!("; after `nethical approval approve {id}` export the same with --approval {id} {window}")
    });
    let message = format!(
        "{}: nothing was exported and nothing charged: {}{}{}",
        denied.verdict.as_str(),
        why.join("; "),
        wait.unwrap_or_default(),
        next.unwrap_or_default()
    );
    stop(Exit::Refused, message)
}

fn print(view: &AggregateView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_json(view);
    }
    let by = view.by.as_str().to_uppercase();
    let mut table = match view.noise {
        None => output::table(&[&by, "DECISIONS"]),
        Some(_) => output::table(&[&by, "DECISIONS", "95 % WITHIN"]),
    };
    for cell in &view.cells {
        let mut row = vec![cell.cell.clone(), cell.count.to_string()];
        if let Some(noise) = view.noise {
            let half = i64::try_from(noise.half_width_95).unwrap_or(i64::MAX);
            row.push(format!("{} to {}", cell.count.saturating_sub(half), cell.count.saturating_add(half)));
        }
        table.add_row(row);
    }
    output::print_table(&table, "no cells")?;
    let id = view.decision.decision_id;
    let told = match view.noise {
        None => format!("exact; recorded as {id}"),
        Some(noise) => format!(
            "discrete Laplace noise of scale {}.{:03} in each cell, for ε {}; one agent adds {} at most; recorded as {id}",
            noise.scale_thousandths / 1_000,
            noise.scale_thousandths % 1_000,
            epsilon(noise.epsilon_micros),
            noise.per_agent_max,
        ),
    };
    output::remark(&told);
    for quota in view.decision.quota.iter().filter(|quota| quota.unit == EPSILON_UNIT) {
        output::remark(&format!(
            "limit {}: ε {} of {} left",
            quota.limit,
            epsilon(quota.remaining),
            epsilon(quota.cap)
        ));
    }
    Ok(())
}

/// 500_000 → `0.5`.
fn epsilon(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `0.5` → 500_000. No float is involved.
fn micros(text: &str) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err("write ε with up to six digits behind the point, such as 0.5".to_owned());
    }
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(whole)? * 1_000_000 + number(&format!("{fraction:0<6}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_is_read_and_told_without_rounding() {
        for (text, read, told) in [
            ("0.5", 500_000, "0.5"),
            ("1", 1_000_000, "1"),
            ("0.000001", 1, "0.000001"),
            ("10.25", 10_250_000, "10.25"),
        ] {
            assert_eq!(micros(text), Ok(read), "{text}");
            assert_eq!(epsilon(read), told);
        }
        for wrong in ["", ".5", "5.", "-1", "0.0000001", "1e3", "0,5", "1.2.3", "9999999"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
        assert_eq!(epsilon(0), "0");
    }

    #[test]
    fn words_of_the_command_line_are_those_of_the_protocol() {
        for (place, by) in ByArg::value_variants().iter().enumerate() {
            let word = by.to_possible_value().expect("none is hidden").get_name().to_owned();
            assert_eq!(word, AggregateBy::ALL[place].as_str());
        }
    }

    #[test]
    fn asking_again_names_the_same_window() {
        let told = window(1_000_000_001, 2_000_000_000);
        assert_eq!(told, "--since 1970-01-01T00:00:01.000000001Z --until 1970-01-01T00:00:02Z");
        assert_eq!(time_ns("1970-01-01T00:00:01.000000001Z"), Ok(1_000_000_001));
    }
}
