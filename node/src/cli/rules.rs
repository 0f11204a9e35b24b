//! `nethical tenant rules, put-rules`: rules by which the cluster quarantines agents by itself.

use std::str::FromStr;

use clap::Args;
use reqwest::Method;

use nethical_protocol::control::{ControlAck, HoldEffect};
use nethical_protocol::quarantine::{QuarantineRule, QuarantineSpec, QuarantineWhen};

use super::EndpointArgs;
use super::agent::Effect;
use super::tenant::report;
use crate::output::{self, Format};

pub const HELP: &str = "A set takes the place of the one before; without a rule it ends. The action that sets a rule off is \
    itself judged under the hold, which is released as any other: `nethical agent release`.\n\n\
    Examples:\n  nethical tenant put-rules airline --finding exfiltration:500 --elevated 3\n  \
    nethical tenant put-rules --zone --violations 5:500:60 --effect restrict --ttl-s 3600\n  \
    nethical tenant put-rules airline";

#[derive(Debug, Args)]
pub struct PutRulesArgs {
    /// The tenant whose agents they bind.
    #[arg(required_unless_present = "zone", conflicts_with = "zone")]
    pub tenant: Option<String>,
    /// All tenants' agents.
    #[arg(long)]
    pub zone: bool,
    /// So many judged actions in a row with an elevated risk tier.
    #[arg(long, value_name = "ACTIONS")]
    pub elevated: Vec<u16>,
    /// So many violations of such a severity (250 to 1000) within so many seconds.
    #[arg(long, value_name = "COUNT:SEVERITY:SECONDS")]
    pub violations: Vec<Violations>,
    /// A finding of a detector with such a severity (1 to 1000).
    #[arg(long, value_name = "DETECTOR:SEVERITY")]
    pub finding: Vec<Finding>,
    /// What happens to the agent's actions.
    #[arg(long, value_enum, default_value_t = Effect::Block)]
    pub effect: Effect,
    /// Seconds until a hold lapses by itself; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub ttl_s: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(u8, u16, u64);

impl FromStr for Violations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [count, severity, within_s] = parts[..] else { return Err("write COUNT:SEVERITY:SECONDS".to_owned()) };
        Ok(Self(number(count)?, number(severity)?, number(within_s)?))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding(String, u16);

impl FromStr for Finding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, severity) = text.split_once(':').ok_or("write DETECTOR:SEVERITY")?;
        Ok(Self(name.to_owned(), number(severity)?))
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that fits here"))
}

/// Sets the rules of a tenant or the zone.
pub async fn put(args: PutRulesArgs, format: Format) -> anyhow::Result<()> {
    let spec = spec_of(&args);
    let whose = if args.zone { "all tenants".to_owned() } else { format!("tenant {}", spec.tenant) };
    let what = format!("{} rules of {whose}", spec.rules.len());
    let ack: ControlAck = args.endpoint.connect()?.send(Method::PUT, &["v1", "quarantine-rules"], &spec).await?;
    report(&ack, &what, format)
}

fn spec_of(args: &PutRulesArgs) -> QuarantineSpec {
    let elevated = args.elevated.iter().map(|actions| QuarantineWhen::Elevated { actions: *actions });
    let violations = args.violations.iter().map(|Violations(count, severity, within_s)| QuarantineWhen::Violations {
        count: *count,
        severity: *severity,
        within_s: *within_s,
    });
    let finding = args
        .finding
        .iter()
        .map(|Finding(name, severity)| QuarantineWhen::Finding { finding: name.clone(), severity: *severity });
    let effect = if args.effect == Effect::Restrict { HoldEffect::Restrict } else { HoldEffect::Block };
    let rule = |when| QuarantineRule { when, effect, ttl_s: args.ttl_s };
    let rules = finding.chain(violations).chain(elevated).map(rule).collect();
    QuarantineSpec { tenant: args.tenant.clone().unwrap_or_default(), rules }
}

/// Lists all sets.
pub async fn list(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let sets: Vec<QuarantineSpec> = endpoint.connect()?.get(&["v1", "quarantine-rules"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&sets);
    }
    let mut table = output::table(&["TENANT", "RULE", "WHEN", "EFFECT", "TTL"]);
    for set in &sets {
        let tenant = if set.tenant.is_empty() { "(all)" } else { &set.tenant };
        for (place, rule) in (1..).zip(&set.rules) {
            let effect = if rule.effect == HoldEffect::Block { "block" } else { "restrict" };
            let ttl = if rule.ttl_s == 0 { "never".to_owned() } else { format!("{} s", rule.ttl_s) };
            table.add_row([tenant.to_owned(), place.to_string(), words(&rule.when), effect.to_owned(), ttl]);
        }
    }
    output::print_table(&table, "no rules; agents are quarantined by operators only")
}

fn words(when: &QuarantineWhen) -> String {
    match when {
        QuarantineWhen::Elevated { actions } => format!("{actions} actions in a row elevated"),
        QuarantineWhen::Violations { count, severity, within_s } => {
            format!("{count} violations of {severity} or more within {within_s} s")
        }
        QuarantineWhen::Finding { finding, severity } => format!("{finding} of {severity} or more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_or_refused() {
        assert_eq!("5:500:60".parse(), Ok(Violations(5, 500, 60)));
        assert_eq!("exfiltration:500".parse(), Ok(Finding("exfiltration".into(), 500)));
        for bad in ["", "5", "5:500", "5:500:60:1", "300:500:60", "a:b:c"] {
            assert!(bad.parse::<Violations>().is_err(), "{bad}");
        }
        assert!("exfiltration".parse::<Finding>().is_err() && "x:70000".parse::<Finding>().is_err());
    }
}
