//! `nethical risk shadow`: how well other scores do beside the rules', by what all nodes have counted.

use clap::{Args, Subcommand};

use nethical_cluster::api::{ConfusionView, ScoreReport, ScorerView};

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// See how well other scores do beside the rules'.
#[derive(Debug, Subcommand)]
pub enum RiskCommand {
    /// Agreement, confusion, calibration and the promotion gate of each scorer.
    #[command(
        after_help = "Counted by each node since its process started, and never part of a decision. 'heuristic' is our own, \
        'client' is the score that callers put into the context (model_score, or features.ml_score), 'blended' is that one \
        blended with the rules' in the gray zone, for tenants with model blending in shadow or enforced.\n\
        A score of 700 and more counts as a denial, and policy's block or terminate as the truth.\n\
        Exits 10 where a node did not answer: what it counted is missing.\n\n\
        Examples:\n  nethical risk shadow\n  nethical risk shadow --tenant airline -o json"
    )]
    Shadow(ShadowArgs),
}

#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// Only this tenant's decisions.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(command: RiskCommand, format: Format) -> anyhow::Result<()> {
    let RiskCommand::Shadow(args) = command;
    let query: Vec<_> = args.tenant.map(|tenant| ("tenant", tenant)).into_iter().collect();
    let found: ScoreReport = args.endpoint.connect()?.get(&["v1", "risk", "shadow"], &query).await?;
    match format {
        Format::Json => output::print_json(&found)?,
        Format::Table => print(&found)?,
    }
    match found.awaiting.as_slice() {
        [] => Ok(()),
        nodes => Err(stop(Exit::Unhealthy, format!("nodes {nodes:?} did not answer: what they counted is missing"))),
    }
}

fn print(report: &ScoreReport) -> anyhow::Result<()> {
    let mut table = output::table(&["SCORER", "SAMPLES", "AGREES", "GRAY", "TP/FP/FN/TN", "RULES", "ECE", "GATE"]);
    table.add_rows(report.scorers.iter().map(row));
    output::print_table(&table, "nothing was counted")?;
    report.scorers.iter().filter(|scorer| scorer.samples > 0).try_for_each(print_scorer)
}

fn print_scorer(of: &ScorerView) -> anyhow::Result<()> {
    output::print_line(&format!("{}:", of.scorer))?;
    for bin in of.calibration.iter().filter(|bin| bin.samples > 0) {
        let (predicted, observed) = (percent(bin.predicted_permille), percent(bin.observed_permille));
        let from = bin.from;
        output::print_line(&format!("  score {from}+: {} samples, mean {predicted}, refused {observed}", bin.samples))?;
    }
    of.promotion.checks.iter().try_for_each(|check| {
        let mark = if check.holds { "pass" } else { "FAIL" };
        output::print_line(&format!("  {mark} {}: {}", check.name, check.detail))
    })
}

fn row(of: &ScorerView) -> [String; 8] {
    let some = |permille: u64| if of.samples == 0 { "-".to_owned() } else { percent(permille) };
    [
        of.scorer.clone(),
        of.samples.to_string(),
        some(of.agreement_permille),
        of.gray_samples.to_string(),
        four(&of.confusion),
        four(&of.baseline),
        some(of.calibration_error_permille),
        if of.promotion.passes { "pass" } else { "FAIL" }.to_owned(),
    ]
}

fn four(of: &ConfusionView) -> String {
    format!("{}/{}/{}/{}", of.true_positives, of.false_positives, of.false_negatives, of.true_negatives)
}

/// Thousandths as per cent with one digit.
fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_told_in_per_cent() {
        assert_eq!([0, 5, 731, 1_000].map(percent), ["0.0 %", "0.5 %", "73.1 %", "100.0 %"]);
    }
}
