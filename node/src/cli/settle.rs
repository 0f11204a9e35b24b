//! `nethical settle`: says what an action with reserved costs used, or that it used nothing. The SDK asks again where it must.

use clap::{ArgGroup, Args};

use nethical_protocol::decision::{ActionOutcome, Settlement};
use nethical_protocol::error::{Class, Problem};
use nethical_protocol::ids::DecisionId;

use super::sender::TargetArgs;
use crate::output::{self, Exit, Format, stop};

/// See `nethical settle --help`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("outcome").required(true).args(["commit", "release"]),
    after_help = "A unit that was reserved and is not named was used as reserved. A reservation is settled once: the same \
    again is answered with its record, another outcome is refused. One that nobody settles expires.\n\
    Exits 4 where the outcome is unknown: settle again the same way.\n\n\
    Examples:\n  nethical settle 2.1.42 --commit tokens.output=812\n  nethical settle 2.1.42 --commit\n  \
    nethical settle 2.1.42 --release --protocol quic -o json"
)]
pub struct SettleArgs {
    /// The decision that reserved.
    #[arg(value_name = "DECISION")]
    pub decision: DecisionId,
    /// What was used; nothing behind it where everything was used as reserved.
    #[arg(long, value_name = "UNIT=AMOUNT", num_args = 0.., value_parser = amount)]
    pub commit: Option<Vec<(String, u64)>>,
    /// Nothing was used: give all of it back.
    #[arg(long)]
    pub release: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Carries the command out.
pub async fn run(args: SettleArgs, format: Format) -> anyhow::Result<()> {
    let outcome = match args.commit {
        Some(used) => ActionOutcome::used(used).map_err(|problem| stop(Exit::Usage, problem.detail))?,
        None => ActionOutcome::Released,
    };
    let clients = args.target.clients().await?;
    let client = clients.first().ok_or_else(|| stop(Exit::Usage, "name an endpoint"))?;
    let settlement = client.settle(args.decision, outcome).await.map_err(|problem| failure(&problem))?;
    match format {
        Format::Json => output::print_json(&settlement),
        Format::Table => print(&settlement),
    }
}

fn failure(problem: &Problem) -> anyhow::Error {
    let exit = match problem.code.class() {
        Class::Unknown => Exit::Unknown,
        Class::Retry | Class::Broken => Exit::Unhealthy,
        Class::Redirect => Exit::Refused,
        Class::Refused => Exit::Failed,
    };
    stop(exit, format!("{problem}. {}", problem.code.advice()))
}

fn print(settlement: &Settlement) -> anyhow::Result<()> {
    let before = if settlement.replayed { " before" } else { "" };
    let audit = &settlement.audit;
    let id = settlement.decision_id;
    output::print_line(&format!("{id}: {}{before}, leaf {} of {}", settlement.state, audit.leaf_index, audit.log))?;
    if settlement.quota.is_empty() {
        return Ok(());
    }
    let mut table = output::table(&["LIMIT", "UNIT", "LEFT", "OF", "UNCHARGED"]);
    for settled in &settlement.quota {
        let quota = &settled.quota;
        table.add_row([
            quota.limit.clone(),
            quota.unit.clone(),
            quota.remaining.to_string(),
            quota.cap.to_string(),
            settled.uncharged.to_string(),
        ]);
    }
    output::print_table(&table, "")
}

/// `tokens.output=812`
fn amount(text: &str) -> Result<(String, u64), String> {
    let wrong = || "write UNIT=AMOUNT, such as tokens.output=812".to_owned();
    let (unit, amount) = text.rsplit_once('=').ok_or_else(wrong)?;
    match (unit.is_empty(), amount.parse()) {
        (false, Ok(amount)) => Ok((unit.to_owned(), amount)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SettleArgs,
    }

    type Read = (Option<Vec<(String, u64)>>, bool);

    fn read(words: &[&str]) -> Result<Read, String> {
        let words = ["settle"].iter().chain(words);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok((line.args.commit, line.args.release))
    }

    #[test]
    fn an_outcome_is_committed_or_released_and_never_both_or_neither() {
        let tokens = vec![("tokens".to_owned(), 3), ("money".to_owned(), 4)];
        assert_eq!(read(&["2.1.42", "--commit", "tokens=3", "--commit", "money=4"]), Ok((Some(tokens.clone()), false)));
        assert_eq!(read(&["2.1.42", "--commit", "tokens=3", "money=4"]), Ok((Some(tokens), false)));
        assert_eq!(read(&["2.1.42", "--commit"]), Ok((Some(vec![]), false)));
        assert_eq!(read(&["2.1.42", "--release"]), Ok((None, true)));
        for wrong in [
            &["2.1.42"][..],
            &["2.1.42", "--commit", "tokens=3", "--release"],
            &["forty-two", "--release"],
            &["2.1.42", "--commit", "tokens"],
            &["2.1.42", "--commit", "=3"],
            &["2.1.42", "--commit", "tokens=-1"],
            &["--release"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
