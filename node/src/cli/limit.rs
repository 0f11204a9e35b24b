//! `nethical limit`: set, list and remove limits, and see what they have left.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;

use nethical_cluster::api::LimitUsage;
use nethical_protocol::control::{ControlAck, KeyPart, LimitKind, LimitMode, LimitSpec, Overrun, PLANS};
use nethical_protocol::decision::RESET_NEVER_S;

use super::EndpointArgs;
use super::tenant::report;
use crate::output::{self, Format};

/// Set, list and remove limits.
#[derive(Debug, Subcommand)]
pub enum LimitCommand {
    /// Set a limit; one with the same tenant and id is replaced and its counters go on.
    #[command(
        after_help = "Give one of --rate N --period-s S [--burst B], --plan standard (60 a minute) or premium (300 a\n\
        minute), --budget N --window-s S (calendar windows), --rolling N --window-s S (every window of that length), --lifetime N (never resets) and\n\
        --concurrency N (live reservations).\n\n\
        Examples:\n  nethical limit set airline per-agent --rate 60 --period-s 60 --key agent\n  \
        nethical limit set bank daily-money --budget 5000000 --window-s 86400 --unit usd_micros --key tenant\n  \
        nethical limit set bank per-day --rolling 20 --window-s 86400 --tool transfer --key agent\n  \
        nethical limit set bank trial --lifetime 1000000 --unit tokens.input --key agent --mode soft\n  \
        nethical limit set acme plan --plan standard --key tenant\n  \
        nethical limit set '*' everybody --rate 5000 --period-s 1 --burst 15000 --key zone\n  \
        nethical limit set airline refunds --budget 5 --window-s 3600 --tool issue_refund --key agent --mode shadow"
    )]
    Set(Box<SetArgs>),
    /// List limits.
    #[command(after_help = "Examples:\n  nethical limit list\n  nethical limit list --tenant airline -o json")]
    List(ListArgs),
    /// Show what a tenant's limits have left for one agent.
    #[command(after_help = "Example:\n  nethical limit usage airline gpt-4o-airline-00")]
    Usage(UsageArgs),
    /// Remove a limit with its counters.
    #[command(after_help = "Example:\n  nethical limit remove airline per-agent")]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The tenant that it binds; '*' for all tenants of the zone together (requests only).
    pub tenant: String,
    /// The limit's name, unique within the tenant.
    pub id: String,
    #[command(flatten)]
    pub kind: KindArgs,
    /// Length of the period in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub period_s: u64,
    /// Units that may come at once; the rate where left out.
    #[arg(long, value_name = "N", conflicts_with_all = ["budget", "rolling", "lifetime", "concurrency"])]
    pub burst: Option<u64>,
    /// Length of the window in seconds; 86400 is a UTC day.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub window_s: u64,
    /// What it counts: requests, or a unit of the actions' cost.
    #[arg(long, default_value = "requests")]
    pub unit: String,
    /// One counter for each combination of these.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [KeyArg::Agent])]
    pub key: Vec<KeyArg>,
    /// Refuse; or count what would have been admitted (shadow) or what goes ahead (soft).
    #[arg(long, value_enum, default_value_t = ModeArg::Enforce)]
    pub mode: ModeArg,
    /// Used beyond what was reserved: charge it and let later actions wait (debt), or report it only (cap).
    #[arg(long, value_enum, default_value_t = OverrunArg::Debt)]
    pub overrun: OverrunArg,
    /// Units of the cap or burst that are kept back for critical actions (`options.priority`).
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub reserve: u64,
    /// Only this agent.
    #[arg(long, default_value = "")]
    pub agent: String,
    /// Only this action name.
    #[arg(long, default_value = "")]
    pub tool: String,
    /// Only this cohort.
    #[arg(long, default_value = "")]
    pub cohort: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// How it counts: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct KindArgs {
    /// Units per period.
    #[arg(long, value_name = "N")]
    pub rate: Option<u64>,
    /// A plan's rate of requests.
    #[arg(long, value_enum)]
    pub plan: Option<PlanArg>,
    /// Units per calendar window.
    #[arg(long, value_name = "N")]
    pub budget: Option<u64>,
    /// Units in every window, wherever it begins.
    #[arg(long, value_name = "N")]
    pub rolling: Option<u64>,
    /// Units once and for all.
    #[arg(long, value_name = "N")]
    pub lifetime: Option<u64>,
    /// Live reservations.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanArg {
    Standard,
    Premium,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyArg {
    /// One counter for everything that the limit binds.
    Zone,
    Tenant,
    Cohort,
    Agent,
    Session,
    Tool,
    Region,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    Enforce,
    Shadow,
    Soft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverrunArg {
    Debt,
    Cap,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct UsageArgs {
    /// The tenant.
    pub tenant: String,
    /// The agent.
    pub agent: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The tenant.
    pub tenant: String,
    /// The limit's name.
    pub id: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

impl SetArgs {
    fn spec(&self) -> LimitSpec {
        LimitSpec {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            unit: self.unit.clone(),
            kind: self.kind(),
            key: self.key.iter().filter_map(|part| part.part()).collect(),
            mode: self.mode.mode(),
            overrun: match self.overrun {
                OverrunArg::Debt => Overrun::Debt,
                OverrunArg::Cap => Overrun::Cap,
            },
            reserve: self.reserve,
            agent: self.agent.clone(),
            tool: self.tool.clone(),
            cohort: self.cohort.clone(),
        }
    }

    fn kind(&self) -> LimitKind {
        let (window_s, period_s) = (self.window_s, self.period_s);
        match self.kind {
            KindArgs { rate: Some(amount), .. } => {
                LimitKind::Rate { amount, period_s, burst: self.burst.unwrap_or(amount) }
            }
            KindArgs { plan: Some(plan), .. } => PLANS[plan as usize].1,
            KindArgs { rolling: Some(cap), .. } => LimitKind::Rolling { cap, window_s },
            KindArgs { lifetime: Some(cap), .. } => LimitKind::Lifetime { cap },
            KindArgs { concurrency: Some(cap), .. } => LimitKind::Concurrency { cap },
            KindArgs { budget, .. } => LimitKind::Budget { cap: budget.unwrap_or_default(), window_s },
        }
    }
}

impl ModeArg {
    fn mode(self) -> LimitMode {
        match self {
            ModeArg::Enforce => LimitMode::Enforce,
            ModeArg::Shadow => LimitMode::Shadow,
            ModeArg::Soft => LimitMode::Soft,
        }
    }
}

impl KeyArg {
    fn part(self) -> Option<KeyPart> {
        Some(match self {
            KeyArg::Zone => return None,
            KeyArg::Tenant => KeyPart::Tenant,
            KeyArg::Cohort => KeyPart::Cohort,
            KeyArg::Agent => KeyPart::Agent,
            KeyArg::Session => KeyPart::Session,
            KeyArg::Tool => KeyPart::Tool,
            KeyArg::Region => KeyPart::Region,
        })
    }
}

/// Carries the command out.
pub async fn run(command: LimitCommand, format: Format) -> anyhow::Result<()> {
    match command {
        LimitCommand::Set(args) => {
            let ack: ControlAck = args.endpoint.connect()?.send(Method::PUT, &["v1", "limits"], &args.spec()).await?;
            report(&ack, &format!("limit {}/{}", args.tenant, args.id), format)
        }
        LimitCommand::Remove(args) => {
            let admin = args.endpoint.connect()?;
            let request = admin.request(Method::DELETE, &["v1", "limits", &args.tenant, &args.id], &[]);
            let ack: ControlAck = request.json().await?;
            report(&ack, &format!("removal of limit {}/{}", args.tenant, args.id), format)
        }
        LimitCommand::List(args) => {
            let query: Vec<_> = args.tenant.iter().map(|tenant| ("tenant", tenant.clone())).collect();
            let limits: Vec<LimitSpec> = args.endpoint.connect()?.get(&["v1", "limits"], &query).await?;
            print_limits(&limits, format)
        }
        LimitCommand::Usage(args) => {
            let query = [("tenant", args.tenant.clone()), ("agent", args.agent.clone())];
            let usage: Vec<LimitUsage> = args.endpoint.connect()?.get(&["v1", "limits", "usage"], &query).await?;
            print_usage(&usage, format)
        }
    }
}

fn describe(kind: &LimitKind) -> String {
    match kind {
        LimitKind::Rate { amount, period_s, burst } => format!("{amount} per {period_s} s, burst {burst}"),
        LimitKind::Budget { cap, window_s } => format!("{cap} in each {window_s} s"),
        LimitKind::Rolling { cap, window_s } => format!("{cap} in any {window_s} s"),
        LimitKind::Lifetime { cap } => format!("{cap} for ever"),
        LimitKind::Concurrency { cap } => format!("{cap} at once"),
    }
}

fn print_limits(limits: &[LimitSpec], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_json(&limits);
    }
    let mut table = output::table(&["TENANT", "LIMIT", "UNIT", "AMOUNT", "KEY", "ONLY", "MODE"]);
    for limit in limits {
        let key: Vec<String> = limit.key.iter().map(|part| format!("{part:?}").to_lowercase()).collect();
        let only: Vec<&str> = [&limit.agent, &limit.tool, &limit.cohort]
            .into_iter()
            .map(String::as_str)
            .filter(|t| !t.is_empty())
            .collect();
        table.add_row([
            &limit.tenant,
            &limit.id,
            &limit.unit,
            &describe(&limit.kind),
            &key.join(","),
            &only.join(" "),
            limit.mode.as_str(),
        ]);
    }
    output::print_table(&table, "no limits; set one with `nethical limit set`")
}

fn print_usage(usage: &[LimitUsage], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_json(&usage);
    }
    let mut table = output::table(&["LIMIT", "UNIT", "AMOUNT", "USED", "LEFT", "WHOLE AGAIN IN"]);
    for entry in usage {
        table.add_row([
            entry.limit.id.clone(),
            entry.limit.unit.clone(),
            describe(&entry.limit.kind),
            entry.used.to_string(),
            entry.remaining.to_string(),
            match entry.reset_s {
                RESET_NEVER_S => "never".to_owned(),
                reset_s => format!("{reset_s} s"),
            },
        ]);
    }
    output::print_table(&table, "no limit binds this tenant")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: SetArgs,
    }

    #[test]
    fn the_examples_make_the_specs_that_they_promise() {
        let line =
            Line::parse_from(["x", "airline", "per-agent", "--rate", "60", "--period-s", "60", "--key", "agent,tool"]);
        let spec = line.set.spec();
        assert_eq!(spec.kind, LimitKind::Rate { amount: 60, period_s: 60, burst: 60 });
        assert_eq!(spec.key, [KeyPart::Agent, KeyPart::Tool]);
        assert!(Line::try_parse_from(["x", "a", "b"]).is_err(), "no kind");
        assert!(Line::try_parse_from(["x", "a", "b", "--rate", "1", "--budget", "1"]).is_err(), "two kinds");
        assert!(
            Line::try_parse_from(["x", "a", "b", "--lifetime", "1", "--burst", "1"]).is_err(),
            "a burst of no rate"
        );
        for (words, kind) in [
            ("--rolling 5 --window-s 60", LimitKind::Rolling { cap: 5, window_s: 60 }),
            ("--budget 5 --window-s 60", LimitKind::Budget { cap: 5, window_s: 60 }),
            ("--concurrency 5", LimitKind::Concurrency { cap: 5 }),
            ("--lifetime 5", LimitKind::Lifetime { cap: 5 }),
        ] {
            let line = ["x", "a", "b", "--mode", "soft"].into_iter().chain(words.split(' '));
            let spec = Line::parse_from(line).set.spec();
            assert_eq!((spec.kind, spec.mode), (kind, LimitMode::Soft));
        }
    }
}
