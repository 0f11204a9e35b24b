//! `nethical audit key rotate`: give the zone's logs or one node a new key, and wait until it is in force.
#![allow(clippy::disallowed_methods, reason = "a command at a person's terminal: no simulator runs it")]

use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;

use nethical_cluster::api::{RotateSpec, VerifierKeys, ZoneKeyView};

use super::super::EndpointArgs;
use crate::output::{Exit, Format, stop};

/// How long the answer may take: a node's own key is stored there before the control group is asked.
const ASK_PATIENCE: Duration = Duration::from_secs(12);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shown below `--help`.
pub const EXAMPLES: &str = "The zone's key: every node is given a new one, then both sign each checkpoint for a week, or as long as --overlap says.\n\
    Who knows the old verifier key goes on meanwhile, and learns the new one: nethical audit key vkey. Then the old one is\n\
    destroyed on every node; nodes that are down are named and destroy it when they are back. A node's own key is replaced at\n\
    once and never leaves it. Verifier keys of all generations stay known, so old checkpoints and receipts go on to verify.\n\n\
    Examples:\n  nethical audit key rotate --reason yearly\n  \
    nethical audit key rotate --overlap 30d\n  \
    nethical audit key rotate --now --reason 'the key has leaked'    (no overlap; ends one that is under way)\n  \
    nethical audit key rotate --node 2";

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// How long the old key signs beside the new one: 90s, 30m, 12h, 7d [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with_all = ["now", "node"])]
    pub overlap: Option<u64>,
    /// No overlap; where two keys sign already, the old one ends.
    #[arg(long, conflicts_with = "node")]
    pub now: bool,
    /// The key by which this node vouches, in place of the zone's.
    #[arg(long, value_name = "NODE")]
    pub node: Option<u64>,
    /// Seconds to wait until the new key signs; with --now until the old one is destroyed everywhere.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: RotateArgs, format: Format) -> anyhow::Result<()> {
    let overlap_s = if args.now { Some(0) } else { args.overlap };
    let spec = RotateSpec { reason: args.reason, overlap_s, node: args.node };
    let client = args.endpoint.connect()?;
    let asked = client.request(Method::POST, &["v1", "audit", "keys", "rotate"], &[]).body(&spec);
    let mut keys: VerifierKeys = asked.within(ASK_PATIENCE).json().await?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let until = Instant::now() + Duration::from_secs(args.wait);
    while let Some(open) = open(&keys, args.now).filter(|_| Instant::now() < until) {
        bar.set_message(super::pending(open).unwrap_or_default());
        bar.tick();
        tokio::time::sleep(LOOK_EVERY).await;
        keys = client.get(&["v1", "audit", "keys"], &[]).await?;
    }
    bar.finish_and_clear();
    super::list(&keys, format)?;
    match open(&keys, args.now) {
        Some(open) if args.wait > 0 => {
            let words = super::pending(open).unwrap_or_default();
            Err(stop(Exit::Unhealthy, format!("{words}; look again: nethical audit key list")))
        }
        _ => Ok(()),
    }
}

/// The generation that is not where it was to be: in force, or with `now` gone.
fn open(keys: &VerifierKeys, now: bool) -> Option<&ZoneKeyView> {
    let is_open = |view: &&ZoneKeyView| match view.state.as_str() {
        "turning" => true,
        "overlapping" | "retiring" => now,
        _ => false,
    };
    keys.signing.iter().find(is_open)
}

/// Seconds, or a number with `s`, `m`, `h` or `d` behind it.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    let refuse = || "a number with s, m, h or d behind it, such as 12h".to_owned();
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(
            [seconds("90"), seconds("90s"), seconds("2m"), seconds("12h"), seconds("7d")].map(Result::ok),
            [Some(90), Some(90), Some(120), Some(43_200), Some(604_800)]
        );
        for bad in ["", "d", "7w", "-1d", "1.5h", "99999999999999999d", "7 d", "7ä"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
