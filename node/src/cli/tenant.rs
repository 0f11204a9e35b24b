//! `nethical tenant`: create and list tenants; rules for automatic quarantine are in [`super::rules`].

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;

use nethical_protocol::control::{ControlAck, Placement, Redaction, TenantSpec};
use nethical_protocol::model::ModelBlending;
use nethical_protocol::privacy::PrivacyMode;
use nethical_protocol::retention::{Age, RetentionClass, RetentionSpec};
use nethical_protocol::sla::SlaTargets;
use nethical_protocol::tiers::TierAges;

use super::agent::require_acknowledged;
use super::{EndpointArgs, rules};
use crate::output::{self, Format};

/// Create and list tenants, and set rules for automatic quarantine.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant, or change its settings. What is not named stays as it is.
    #[command(after_help = "Single: all agents in one partition, every limit exact, the throughput of one group.\n\
        Spread: agents over all partitions; enforced limits that span them are leased, limits in shadow\n\
        and soft mode need the agent in their key.\n\n\
        Storage redaction cuts personal data out of actions before they are sealed into the audit trail; what was sealed \
        before stays. Detectors that are off say nothing to policy and risk; redaction uses all of them. Model blending is \
        off, measured in the shadow, or enforced: then a model's score is part of the risk in the gray zone.\n\n\
        Examples:\n  nethical tenant put airline\n  nethical tenant put bank --placement single\n  \
        nethical tenant put bank --placement single --storage-redaction standard\n  \
        nethical tenant put bank --placement single --sla 99.95,150,400\n  \
        nethical tenant put bank --placement single --privacy-mode differential\n  \
        nethical tenant put bank --placement single --retention routine=30d,notable=forever\n  \
        nethical tenant put airline --text-search on\n  \
        nethical tenant put bank --placement single --tier-ages hot=1d,warm=forever\n  \
        nethical tenant put airline --detectors-off ip,phone\n  nethical tenant put airline --detectors-off ''\n  \
        nethical tenant put airline --model-blending shadow")]
    Put(PutArgs),
    /// List all tenants.
    #[command(after_help = "Example:\n  nethical tenant list -o json")]
    List(EndpointArgs),
    /// Set the rules by which agents are quarantined automatically; off without any.
    #[command(after_help = rules::HELP)]
    PutRules(rules::PutRulesArgs),
    /// List the rules for automatic quarantine.
    #[command(after_help = "Example:\n  nethical tenant rules -o json")]
    Rules(EndpointArgs),
}

#[derive(Debug, Args)]
pub struct PutArgs {
    /// The tenant's name.
    pub tenant: String,
    /// Where its agents live; fixed at creation.
    #[arg(long, value_enum, default_value_t = PlacementArg::Spread)]
    pub placement: PlacementArg,
    /// What is cut out of its actions before they are sealed.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub storage_redaction: Option<RedactionArg>,
    /// Detectors that say nothing about its actions, separated by commas; '' for none.
    #[arg(long, value_name = "NAMES")]
    pub detectors_off: Option<String>,
    /// What it is promised: decisions in per cent of answers, then milliseconds for 95 and for 99 of 100.
    #[arg(long, value_parser = super::sla::targets, value_name = "PERCENT,P95,P99")]
    pub sla: Option<SlaTargets>,
    /// What is done with scores of its callers' models in the gray zone.
    #[arg(long, value_enum, value_name = "SETTING")]
    pub model_blending: Option<BlendingArg>,
    /// How its aggregates are exported: exact, or with noise that is charged to a limit in epsilon_micros.
    #[arg(long, value_enum, value_name = "MODE")]
    pub privacy_mode: Option<PrivacyArg>,
    /// How long bodies of a class are kept: routine, notable, administrative; 1h to 100y, or forever.
    #[arg(long, value_parser = retention, value_name = "CLASS=AGE,…")]
    pub retention: Option<RetentionSpec>,
    /// Index the words of its bodies, so that `audit query --text` finds entries by them.
    #[arg(long, value_enum, value_name = "SETTING")]
    pub text_search: Option<SwitchArg>,
    /// How old its records get in a tier before they are moved on: hot, warm; 1h to 100y, or forever. Whose bodies are warm forever,
    /// they do not leave the nodes' disks.
    #[arg(long, value_parser = tier_ages, value_name = "TIER=AGE,…")]
    pub tier_ages: Option<TierAges>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrivacyArg {
    Standard,
    Differential,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SwitchArg {
    Off,
    On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementArg {
    Spread,
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedactionArg {
    None,
    Minimal,
    Standard,
    Aggressive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BlendingArg {
    Off,
    Shadow,
    Enforce,
}

/// Carries the command out.
pub async fn run(command: TenantCommand, format: Format) -> anyhow::Result<()> {
    match command {
        TenantCommand::Put(args) => put(args, format).await,
        TenantCommand::List(endpoint) => list(endpoint, format).await,
        TenantCommand::PutRules(args) => rules::put(args, format).await,
        TenantCommand::Rules(endpoint) => rules::list(endpoint, format).await,
    }
}

async fn put(args: PutArgs, format: Format) -> anyhow::Result<()> {
    let placement = match args.placement {
        PlacementArg::Single => Placement::Single,
        PlacementArg::Spread => Placement::Spread,
    };
    let names =
        |list: &String| list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let spec = TenantSpec {
        tenant: args.tenant.clone(),
        placement,
        storage_redaction: args.storage_redaction.map(|policy| Redaction::ALL[policy as usize]),
        detectors_off: args.detectors_off.as_ref().map(names),
        sla: args.sla,
        model_blending: args.model_blending.map(|setting| ModelBlending::ALL[setting as usize]),
        privacy_mode: args.privacy_mode.map(|mode| match mode {
            PrivacyArg::Standard => PrivacyMode::Standard,
            PrivacyArg::Differential => PrivacyMode::Differential,
        }),
        retention: args.retention,
        text_search: args.text_search.map(|setting| setting == SwitchArg::On),
        tier_ages: args.tier_ages,
    };
    let ack: ControlAck = args.endpoint.connect()?.send(Method::PUT, &["v1", "tenants", &args.tenant], &spec).await?;
    report(&ack, &format!("tenant {}", args.tenant), format)
}

async fn list(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let tenants: Vec<TenantSpec> = endpoint.connect()?.get(&["v1", "tenants"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&tenants);
    }
    let mut table =
        output::table(&["TENANT", "PLACEMENT", "STORAGE REDACTION", "BLENDING", "PRIVACY", "DETECTORS OFF"]);
    for tenant in &tenants {
        let placement = if tenant.placement == Placement::Single { "single" } else { "spread" };
        let redaction = tenant.storage_redaction.unwrap_or_default().as_str();
        let off = tenant.detectors_off.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let blending = tenant.model_blending.unwrap_or_default().as_str();
        let privacy = tenant.privacy_mode.unwrap_or_default().as_str();
        table.add_row([tenant.tenant.as_str(), placement, redaction, blending, privacy, &off]);
    }
    output::print_table(&table, "no tenants yet; create one with `nethical tenant put NAME`")
}

/// `routine=30d,notable=7y`.
fn retention(text: &str) -> Result<RetentionSpec, String> {
    let mut spec = RetentionSpec::default();
    for named in named_ages(text, "CLASS") {
        let (class, age) = named?;
        let known = RetentionClass::ALL.into_iter().find(|known| known.as_str() == class);
        match known.ok_or_else(|| format!("{class:?} is none of routine, notable, administrative"))? {
            RetentionClass::Routine => spec.routine = Some(age),
            RetentionClass::Notable => spec.notable = Some(age),
            RetentionClass::Administrative => spec.administrative = Some(age),
        }
    }
    Ok(spec)
}

/// `hot=1d,warm=forever`.
fn tier_ages(text: &str) -> Result<TierAges, String> {
    let mut ages = TierAges::default();
    for named in named_ages(text, "TIER") {
        match named? {
            ("hot", age) => ages.hot = Some(age),
            ("warm", age) => ages.warm = Some(age),
            (tier, _) => return Err(format!("{tier:?} is none of hot, warm")),
        }
    }
    ages.check().map_err(|problem| problem.detail)?;
    Ok(ages)
}

/// Names with ages, separated by commas.
fn named_ages<'a>(text: &'a str, of: &'a str) -> impl Iterator<Item = Result<(&'a str, Age), String>> {
    text.split(',').map(move |part| {
        let (name, age) = part.split_once('=').ok_or_else(|| format!("{part:?} is no {of}=AGE"))?;
        let age = Age::from_words(age).ok_or_else(|| format!("{age:?} is no age: 36h, 30d, 7y, forever"))?;
        Ok((name, age))
    })
}

/// Prints the fate of a control change.
pub fn report(ack: &ControlAck, what: &str, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(ack)?,
        Format::Table if ack.awaiting.is_empty() => {
            output::print_line(&format!("{what}: in force everywhere (control revision {})", ack.revision))?;
        }
        Format::Table => output::print_line(&format!("{what}: PENDING (control revision {})", ack.revision))?,
    }
    require_acknowledged(ack)
}
