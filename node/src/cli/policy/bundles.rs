//! `nethical policy put, activate, rollback, shadow, list, remove, show`: the bundles that a cluster keeps under their digests.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;

use nethical_cluster::api::{Agreement, CanaryView, KeptPolicy, PolicyList, PolicyView, StoredPolicy, VerdictCounts};
use nethical_protocol::control::ControlAck;
use nethical_protocol::decision::Verdict;

use crate::cli::EndpointArgs;
use crate::cli::http::Admin;
use crate::cli::tenant::report;
use crate::output::{self, Exit, Format, stop};

/// Hex digits of a digest in tables: enough to tell 32 bundles apart.
const SHORT_DIGITS: usize = 12;
/// Fewer digits on the command line are more likely a slip than a name.
const PREFIX_DIGITS_MIN: usize = 4;

#[derive(Debug, Args)]
pub struct PutArgs {
    /// Cedar policies.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put it in force at once.
    #[arg(long)]
    pub activate: bool,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct DigestArgs {
    /// SHA-256 of the bundle, or the beginning of it.
    #[arg(value_name = "DIGEST")]
    pub digest: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct ActivateArgs {
    #[command(flatten)]
    pub which: DigestArgs,
    /// Only for so many agents of a hundred; the bundle in force decides for the others.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub canary: Option<u8>,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// SHA-256 of a kept bundle, or the beginning of it; the bundle in force where left out.
    #[arg(value_name = "DIGEST")]
    pub digest: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// SHA-256 of a kept bundle, or the beginning of it; `off` for none.
    #[arg(value_name = "DIGEST|off")]
    pub digest: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

pub async fn put(args: PutArgs, format: Format) -> anyhow::Result<()> {
    let (admin, text) = (args.endpoint.connect()?, super::read(&args.file)?);
    if args.activate {
        let ack: ControlAck = admin.request(Method::PUT, &["v1", "policy"], &[]).text_body(text).json().await?;
        return report(&ack, "policy", format);
    }
    let stored: StoredPolicy = admin.request(Method::POST, &["v1", "policies"], &[]).text_body(text).json().await?;
    if format == Format::Json {
        return output::print_json(&stored);
    }
    let (digest, revision) = (short(&stored.digest), stored.ack.revision);
    output::print_line(&format!("bundle {digest}: kept, not in force (control revision {revision})"))?;
    output::remark(&format!("put it in force with `nethical policy activate {digest}`"));
    Ok(())
}

pub async fn activate(args: ActivateArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.which.endpoint.connect()?;
    let digest = full(&admin, &args.which.digest).await?;
    let segments = ["v1", "policies", &digest, "activate"];
    let query: Vec<(&str, String)> =
        args.canary.iter().map(|percent| ("canary_percent", percent.to_string())).collect();
    let ack: ControlAck = admin.request(Method::POST, &segments, &query).json().await?;
    let share = args.canary.map_or_else(String::new, |percent| format!(" for {percent} % of agents"));
    report(&ack, &format!("policy {}{share}", short(&digest)), format)
}

pub async fn rollback(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let admin = endpoint.connect()?;
    let ack: ControlAck = admin.request(Method::POST, &["v1", "policy", "rollback"], &[]).json().await?;
    report(&ack, "the policy as it was", format)
}

pub async fn remove(args: DigestArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let digest = full(&admin, &args.digest).await?;
    let ack: ControlAck = admin.request(Method::DELETE, &["v1", "policies", &digest], &[]).json().await?;
    match format {
        Format::Json => output::print_json(&ack),
        Format::Table => output::print_line(&format!("bundle {}: removed", short(&digest))),
    }
}

pub async fn shadow(args: ShadowArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let digest = match args.digest.as_str() {
        "off" => None,
        digest => Some(full(&admin, digest).await?),
    };
    let body = serde_json::json!({ "digest": digest });
    let ack: ControlAck = admin.send(Method::PUT, &["v1", "policy", "shadow"], &body).await?;
    let what = digest.map_or_else(|| "no shadow".to_owned(), |digest| format!("shadow {}", short(&digest)));
    report(&ack, &what, format)
}

pub async fn list(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let list = fetch(&endpoint.connect()?).await?;
    if format == Format::Json {
        return output::print_json(&list);
    }
    let mut table = output::table(&["DIGEST", "STATE", "SINCE REVISION", "RULES", "BYTES"]);
    for KeptPolicy { digest, rules, bytes, state, since } in &list.bundles {
        table.add_row([short(digest), state, &since.to_string(), &rules.to_string(), &bytes.to_string()]);
    }
    output::print_table(&table, "no bundles yet; keep one with `nethical policy put FILE`")?;
    list.agreement.as_ref().map_or(Ok(()), print_agreement)
}

fn print_agreement(found: &Agreement) -> anyhow::Result<()> {
    let Agreement { digest, decisions, agreed, pairs } = found;
    output::print_line(&format!("\nshadow {}: agrees in {agreed} of {decisions} decisions", short(digest)))?;
    let mut table = output::table(&["IN FORCE", "SHADOW", "DECISIONS"]);
    for pair in pairs {
        table.add_row([pair.enforced.as_str(), pair.shadow.as_str(), &pair.count.to_string()]);
    }
    output::print_table(&table, "nothing was decided yet since it was set")
}

pub async fn show(args: ShowArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let view: PolicyView = match &args.digest {
        None => admin.get(&["v1", "policy"], &[]).await?,
        Some(digest) => kept(&admin, digest).await?,
    };
    if format == Format::Json {
        return output::print_json(&view);
    }
    output::remark(&format!("revision {}, {} rules, SHA-256 {}", view.revision, view.policies, view.digest));
    view.canary.as_ref().into_iter().for_each(remark_on);
    output::print_line(view.text.trim_end())
}

/// The canary beside the text, which alone goes to standard output.
fn remark_on(canary: &CanaryView) {
    let CanaryView { digest, percent, since, by_active, by_canary } = canary;
    output::remark(&format!("canary {} decides for {percent} % of agents (revision {since})", short(digest)));
    output::remark(&format!("  in force: {}", mix(by_active)));
    output::remark(&format!("  canary:   {}", mix(by_canary)));
}

/// `1200 decisions: 98.5 % allow, 1.5 % block`.
fn mix(counts: &VerdictCounts) -> String {
    let VerdictCounts { decisions, allow, restrict, escalate, block, terminate } = *counts;
    let each = Verdict::ALL.into_iter().zip([allow, restrict, escalate, block, terminate]);
    let share = |(verdict, count): (Verdict, u64)| {
        let permille = u128::from(count) * 1_000 / u128::from(decisions.max(1));
        format!("{}.{} % {}", permille / 10, permille % 10, verdict.as_str())
    };
    let shares: Vec<String> = each.filter(|(_, count)| *count > 0).map(share).collect();
    match shares.is_empty() {
        true => "no decisions yet".to_owned(),
        false => format!("{decisions} decisions: {}", shares.join(", ")),
    }
}

/// A kept bundle by its digest or the beginning of it.
pub async fn kept(admin: &Admin, digest: &str) -> anyhow::Result<PolicyView> {
    let digest = full(admin, digest).await?;
    admin.get(&["v1", "policies", &digest], &[]).await
}

async fn fetch(admin: &Admin) -> anyhow::Result<PolicyList> {
    admin.get(&["v1", "policies"], &[]).await
}

/// The whole digest that begins as given; one of 64 digits is taken at its word.
pub async fn full(admin: &Admin, given: &str) -> anyhow::Result<String> {
    if !is_digest(given) {
        let hint = format!("write at least {PREFIX_DIGITS_MIN} hex digits as `nethical policy list` shows them");
        return Err(stop(Exit::Usage, format!("{given:?} is no digest: {hint}")));
    }
    let given = given.to_ascii_lowercase();
    if given.len() == 64 {
        return Ok(given);
    }
    one_of(&fetch(admin).await?, &given)
}

fn one_of(list: &PolicyList, given: &str) -> anyhow::Result<String> {
    let mut found = list.bundles.iter().map(|bundle| &bundle.digest).filter(|digest| digest.starts_with(given));
    match (found.next(), found.next()) {
        (Some(digest), None) => Ok(digest.clone()),
        (None, _) => Err(stop(Exit::Failed, format!("no bundle begins with {given}; see `nethical policy list`"))),
        (Some(_), Some(_)) => Err(stop(Exit::Usage, format!("several bundles begin with {given}; write more digits"))),
    }
}

/// True for what can be a digest or the beginning of one.
pub fn is_digest(text: &str) -> bool {
    (PREFIX_DIGITS_MIN..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn short(digest: &str) -> &str {
    digest.get(..SHORT_DIGITS).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_mix_is_told_in_shares_of_its_decisions() {
        assert_eq!(mix(&VerdictCounts::default()), "no decisions yet");
        assert_eq!(mix(&VerdictCounts::of([985, 0, 0, 15, 0])), "1000 decisions: 98.5 % allow, 1.5 % block");
    }

    #[test]
    fn a_digest_is_named_by_a_beginning_that_fits_one_bundle() {
        let bundle = |digest: &str| KeptPolicy {
            digest: digest.to_owned(),
            rules: 1,
            bytes: 1,
            state: "stored".to_owned(),
            since: 1,
        };
        let bundles = vec![bundle("abcd11"), bundle("abcd22"), bundle("ef0011")];
        let list = PolicyList { bundles, agreement: None };
        assert_eq!(one_of(&list, "ef00").expect("one"), "ef0011");
        assert!(one_of(&list, "abcd").expect_err("two").to_string().contains("several"));
        assert!(one_of(&list, "9999").expect_err("none").to_string().contains("policy list"));
        assert!(is_digest("abcd") && !is_digest("abc") && !is_digest("file.cedar") && !is_digest(&"a".repeat(65)));
    }
}
