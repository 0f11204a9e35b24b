//! `nethical policy test`: actions with known answers, decided by a bundle without a cluster.
//!
//! Detectors, policy and composition are the cluster's own code. Limits and hold-orders are not part of a bundle and do
//! not speak here; the agent's status and risk do, as the case says. docs/policy.md describes the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use nethical_governance::detect::Detectors;
use nethical_governance::ledger::decide_alone;
use nethical_governance::outcome::RiskTier;
use nethical_governance::policy::{AgentFacts, Bundle, evaluate_action, rule_hash};
use nethical_governance::quota::band::Band;
use nethical_protocol::action::Action;
use nethical_protocol::decision::{AgentStatus, Verdict};

use super::validate;
use crate::door::http::decode::{self, Dialect};
use crate::door::submit;
use crate::output::{self, Exit, Format, stop};

/// Bytes of a file of cases.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The end of `--help`.
pub const HELP: &str = "CASES is TOML where its name ends in .toml, else one JSON object a line. The request is what \
    POST /v1/decisions takes; the agent's status and risk, the name and the rules may be left out. Every rule that is \
    listed must be among those that determined policy's verdict.\n\n\
    [[case]]\n\
    name = \"a secret in a message\"\n\
    expect = \"block\"\n\
    rules = [\"block-secrets-leaving\"]\n\
    agent = { status = \"active\", risk = 0 }\n\
    request = { kind = \"message\", name = \"send_mail\", args = { text = \"AKIAIOSFODNN7EXAMPLE\" } }\n\n\
    Exits 1 where a case fails.\n\n\
    Examples:\n  nethical policy test airline.cedar cases.toml\n  nethical policy test airline.cedar cases.ndjson -o json";

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Cedar policies.
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Actions with the verdict that is expected of each.
    #[arg(value_name = "CASES")]
    pub cases: PathBuf,
}

/// One case as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    name: String,
    expect: String,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    quota: BTreeMap<String, String>,
    request: Value,
}

/// Where the agent stands.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    #[serde(default)]
    status: AgentStatus,
    #[serde(default)]
    risk: u16,
}

/// A case that can be decided.
struct Ready {
    name: String,
    expect: Verdict,
    rules: Vec<String>,
    agent: Agent,
    /// The room under limits by id; that of others is none.
    quota: BTreeMap<String, Band>,
    action: Action,
}

/// A case that failed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Failure {
    name: String,
    expected: Verdict,
    got: Verdict,
    /// Rules that were expected and did not speak.
    missing: Vec<String>,
    /// Rules that determined policy's verdict.
    rules: Vec<String>,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    bundle: String,
    digest: String,
    cases: usize,
    passed: usize,
    failed: usize,
    failures: Vec<Failure>,
}

/// Decides every case and holds it against what is expected.
pub fn run(args: &TestArgs, format: Format) -> anyhow::Result<()> {
    let file = args.bundle.display().to_string();
    let bundle = Bundle::check(&super::read(&args.bundle)?).map_err(|problems| validate::refusal(&file, &problems))?;
    let text = super::read_within(&args.cases, FILE_BYTES_MAX)?;
    let is_toml = args.cases.extension().is_some_and(|extension| extension == "toml");
    let cases =
        read(&text, is_toml).map_err(|message| stop(Exit::Usage, format!("{}: {message}", args.cases.display())))?;
    let detectors = Detectors::default();
    let failures: Vec<Failure> = cases.iter().filter_map(|case| judge(&detectors, &bundle, case)).collect();
    let (count, failed) = (cases.len(), failures.len());
    let digest = hex::encode(bundle.digest());
    print(&Report { bundle: file, digest, cases: count, passed: count - failed, failed, failures }, format)?;
    if failed == 0 { Ok(()) } else { Err(stop(Exit::Failed, format!("{failed} of {count} cases failed"))) }
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_json(report);
    }
    let mut table = output::table(&["CASE", "EXPECTED", "GOT", "RULES", "MISSING"]);
    for failure in &report.failures {
        let (expected, got) = (failure.expected.as_str(), failure.got.as_str());
        table.add_row([&failure.name, expected, got, &failure.rules.join(", "), &failure.missing.join(", ")]);
    }
    if !table.is_empty() {
        output::print_table(&table, "")?;
    }
    output::print_line(&format!("{} cases: {} passed, {} failed", report.cases, report.passed, report.failed))
}

/// All cases of a file; the error names the first that cannot be read.
fn read(text: &str, is_toml: bool) -> Result<Vec<Ready>, String> {
    let numbered: Vec<(String, Value)> = if is_toml {
        let mut file: Value = toml::from_str(text).map_err(|error| error.to_string())?;
        let Some(Value::Array(cases)) = file.get_mut("case").map(Value::take) else {
            return Err("no [[case]] in it".to_owned());
        };
        cases.into_iter().enumerate().map(|(index, case)| (format!("case {}", index + 1), case)).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(index, line): (usize, &str)| {
            let place = format!("line {}", index + 1);
            serde_json::from_str(line).map(|case| (place.clone(), case)).map_err(|error| format!("{place}: {error}"))
        };
        lines.map(read).collect::<Result<_, _>>()?
    };
    if numbered.is_empty() {
        return Err("no cases in it".to_owned());
    }
    numbered.into_iter().map(|(place, case)| ready(&place, case).map_err(|why| format!("{place}: {why}"))).collect()
}

fn ready(place: &str, case: Value) -> Result<Ready, String> {
    let case: Case = serde_json::from_value(case).map_err(|error| error.to_string())?;
    let words = "expect is allow, restrict, escalate, block or terminate";
    let expect = Verdict::from_word(&case.expect).ok_or_else(|| format!("{words}, not {:?}", case.expect))?;
    if case.agent.risk > 1_000 {
        return Err(format!("agent.risk is 0 to 1000, not {}", case.agent.risk));
    }
    let band = |(limit, word): (String, String)| {
        let bad = || format!("quota.{limit} is none, ok, low or out, not {word:?}");
        Band::from_word(&word).ok_or_else(bad).map(|band| (limit.clone(), band))
    };
    let quota = case.quota.into_iter().map(band).collect::<Result<_, _>>()?;
    let name = if case.name.is_empty() { place.to_owned() } else { case.name };
    Ok(Ready { name, expect, rules: case.rules, agent: case.agent, quota, action: action_of(case.request)? })
}

/// The action of a request, decoded and bounded as the HTTP door does it. A request may leave its agent out.
fn action_of(mut request: Value) -> Result<Action, String> {
    if let Some(members) = request.as_object_mut()
        && !members.contains_key("subject")
    {
        members.entry("agent_id").or_insert_with(|| "agent".into());
    }
    let action = decode::decode(&request.to_string(), Dialect::Native)
        .item
        .map_err(|refusal| refusal.problem)
        .and_then(|action| submit::check(&action).map(|()| action));
    action.map_err(|problem| format!("request: {}", problem.detail))
}

/// Decides a case; `None` where everything is as expected.
fn judge(detectors: &Detectors, bundle: &Bundle, case: &Ready) -> Option<Failure> {
    let seen = AgentFacts { status: case.agent.status, tier: RiskTier::of(case.agent.risk), epoch: 0 };
    let band = |limit: &String| case.quota.get(limit).copied().unwrap_or_default();
    let bands: Vec<Band> = bundle.limits_named().iter().map(band).collect();
    let evaluation = evaluate_action(detectors, bundle, &case.action, seen, &bands).evaluation;
    let spoke = evaluation.rules.clone();
    let decided = decide_alone(evaluation, case.action.kind, case.agent.status, case.agent.risk);
    let got = decided.map_or(Verdict::Block, |decided| decided.verdict);
    let missing: Vec<String> = case.rules.iter().filter(|id| !spoke.contains(&rule_hash(id))).cloned().collect();
    if got == case.expect && missing.is_empty() {
        return None;
    }
    let rules = spoke.iter().filter_map(|rule| bundle.describe(*rule)).map(|rule| rule.id.to_string()).collect();
    Some(Failure { name: case.name.clone(), expected: case.expect, got, missing, rules })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_governance::policy::default_bundle_text;

    const CASES: &str = include_str!("../../../../docs/policy-cases.toml");

    fn failures(text: &str, is_toml: bool) -> Vec<Failure> {
        let bundle = Bundle::parse(default_bundle_text()).expect("the default bundle parses");
        let cases = read(text, is_toml).expect("the cases read");
        cases.iter().filter_map(|case| judge(&Detectors::default(), &bundle, case)).collect()
    }

    #[test]
    fn the_documented_cases_pass_under_the_default_bundle() {
        assert_eq!(failures(CASES, true), []);
    }

    #[test]
    fn a_case_fails_on_its_verdict_and_on_a_rule_that_did_not_speak() {
        let line =
            r#"{"expect":"allow","rules":["escalate-deletions"],"request":{"kind":"tool_call","name":"delete_all"}}"#;
        let found = failures(&format!("\n{line}\n"), false);
        assert_eq!((found.len(), &*found[0].name, found[0].got), (1, "line 2", Verdict::Escalate));
        assert!(found[0].missing.is_empty() && found[0].rules == ["escalate-deletions"]);
        let other = line.replace("\"allow\"", "\"escalate\"").replace("[\"escalate-deletions\"]", "[\"nothing\"]");
        assert_eq!(failures(&other, false)[0].missing, ["nothing"]);
    }

    #[test]
    fn a_case_says_what_policy_sees_of_quota() {
        let text = "@id(\"p\") permit(principal, action, resource);\n@id(\"q\") @verdict(\"escalate\") \
            forbid(principal, action, resource) when { context.quota.daily == \"out\" };";
        let bundle = Bundle::parse(text).expect("it parses");
        let line = |quota: &str| format!(r#"{{"expect":"escalate",{quota}"request":{{"kind":"message","name":"x"}}}}"#);
        let failed = |quota: &str| {
            let cases = read(&line(quota), false).expect("a case");
            judge(&Detectors::default(), &bundle, &cases[0]).is_some()
        };
        assert!(failed("") && failed(r#""quota":{"daily":"low"},"#) && !failed(r#""quota":{"daily":"out"},"#));
        assert!(
            read(&line(r#""quota":{"daily":"full"},"#), false).err().expect("refused").contains("quota.daily is none")
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place() {
        let told = |text: &str, is_toml| read(text, is_toml).err().expect("refused");
        assert!(told("{}\n", false).starts_with("line 1: "));
        assert!(told("", true).contains("[[case]]"));
        let case = |expect: &str, more: &str, kind: &str| {
            format!("[[case]]\nexpect = \"{expect}\"\n{more}\nrequest = {{ kind = \"{kind}\", name = \"x\" }}\n")
        };
        assert!(read(&case("allow", "", "tool_call"), true).is_ok());
        assert!(told(&case("ALLOW", "", "tool_call"), true).starts_with("case 1: expect is allow"));
        assert!(told(&case("allow", "", "dance"), true).contains("not a kind"));
        assert!(told(&case("allow", "expcet = 1", "tool_call"), true).contains("expcet"));
        assert!(told(&case("allow", "agent = { risk = 1001 }", "tool_call"), true).contains("0 to 1000"));
    }
}
