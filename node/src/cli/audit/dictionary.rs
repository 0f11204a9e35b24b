//! `nethical audit dictionary`: dictionaries that tenants give for their own bodies, and how one is trained.
//!
//! One is trained from actions that somebody chose, never from the trail itself: what is sealed there may have to be erased one
//! day, and no erasure reaches a dictionary.
#![allow(clippy::disallowed_methods, reason = "reads and writes files of the person who runs it")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use sha2::{Digest, Sha256};

use nethical_audit::body::{self, Dictionary, SealedFor, dictionary};
use nethical_audit::keys::BodyKeys;
use nethical_cluster::api::{DictionaryView, GivenDictionary};
use nethical_cluster::body::{BodyV1, SeenV1};
use nethical_cluster::redact;
use nethical_governance::detect::{DETECTORS_VERSION, Detectors};
use nethical_governance::policy::{AgentFacts, Bundle, default_bundle_text, evaluate_action};
use nethical_protocol::action::Action;
use nethical_protocol::control::{ControlAck, Redaction};
use nethical_protocol::limits::{ACTION_BYTES_MAX, DICTIONARY_BYTES_MAX};

use crate::cli::{EndpointArgs, agent, tenant};
use crate::door::http::decode::{self, Dialect};
use crate::output::{self, Exit, Format, stop};

/// Of so many actions one is not trained on, and shows what the dictionary saves.
const KEPT_BACK: usize = 10;
/// Fewer actions tell too little.
const ACTIONS_MIN: usize = 500;
/// More take long and tell no more …
const ACTIONS_MAX: usize = 50_000;
/// … and so do more bytes of bodies.
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Train, give, list and leave dictionaries of bodies.
#[derive(Debug, Subcommand)]
pub enum DictionaryCommand {
    /// Train a dictionary from actions, and measure what it saves.
    #[command(
        after_help = "ACTIONS has one request a line, as POST /v1/decisions takes it: 500 at least, ten thousand are better (50,000 or\n\
        256 MiB are read). Made-up ids stand for those of requests, agents, sessions, cohorts and resources, the data subject is left out,\n\
        and what the detectors take for personal data or secrets is cut. One action in ten is kept back and shows the ratio.\n\n\
        Example:\n  nethical audit dictionary train bank.ndjson --out bank.zdict"
    )]
    Train(TrainArgs),
    /// Keep a dictionary for ever, and pack a tenant's bodies with it from now on.
    #[command(
        after_help = "A dictionary holds pieces of what it was trained on, in clear, on every node; no erasure reaches it, and it never goes\n\
        because bodies need it. A zone keeps 32 of them.\n\n\
        Example:\n  nethical audit dictionary give --tenant bank bank.zdict"
    )]
    Give(GiveArgs),
    /// Pack a tenant's bodies with the built-in dictionary again; what was packed before stays readable.
    #[command(after_help = "Example:\n  nethical audit dictionary leave --tenant bank")]
    Leave(LeaveArgs),
    /// All dictionaries that the zone keeps.
    #[command(after_help = "Examples:\n  nethical audit dictionary list\n  nethical audit dictionary list -o json")]
    List(EndpointArgs),
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Actions, one JSON object a line.
    #[arg(value_name = "ACTIONS")]
    pub actions: PathBuf,
    /// Where the dictionary goes; must not exist.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct GiveArgs {
    /// The dictionary, as it was trained.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The tenant whose bodies are packed with it.
    #[arg(long)]
    pub tenant: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What `audit dictionary train -o json` prints.
#[derive(Debug, Serialize)]
struct Trained {
    /// SHA-256, hex.
    digest: String,
    /// Bytes of the dictionary.
    bytes: usize,
    /// Actions that it was trained on.
    trained_on: usize,
    /// Actions that were kept back.
    measured_on: usize,
    /// Bytes of a kept back body, mean.
    body_bytes: f64,
    /// Bodies to what is stored of them, keys and tags included.
    ratio: f64,
    /// The same with the built-in dictionary.
    ratio_built_in: f64,
}

/// Carries `audit dictionary` out.
pub async fn run(command: DictionaryCommand, format: Format) -> anyhow::Result<()> {
    match command {
        DictionaryCommand::Train(args) => train(&args, format),
        DictionaryCommand::Give(args) => give(args, format).await,
        DictionaryCommand::Leave(args) => {
            let path = ["v1", "audit", "dictionaries", &args.tenant];
            let ack: ControlAck = args.endpoint.connect()?.request(Method::DELETE, &path, &[]).json().await?;
            tenant::report(&ack, &format!("built-in dictionary for {}", args.tenant), format)
        }
        DictionaryCommand::List(endpoint) => list(endpoint, format).await,
    }
}

async fn give(args: GiveArgs, format: Format) -> anyhow::Result<()> {
    let usage = |why: String| stop(Exit::Usage, format!("{}: {why}", args.file.display()));
    let file = std::fs::File::open(&args.file).map_err(|error| usage(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(DICTIONARY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| usage(error.to_string()))?;
    Dictionary::read(&bytes).map_err(|error| usage(error.to_string()))?;
    let path = ["v1", "audit", "dictionaries", &args.tenant];
    let request = args.endpoint.connect()?.request(Method::PUT, &path, &[]);
    let given: GivenDictionary = request.text_body(STANDARD.encode(&bytes)).json().await?;
    if format == Format::Json {
        output::print_json(&given)?;
        return agent::require_acknowledged(&given.ack);
    }
    let what = format!("dictionary {} for {}", short(&given.digest), args.tenant);
    tenant::report(&given.ack, &what, format)
}

async fn list(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let found: Vec<DictionaryView> = endpoint.connect()?.get(&["v1", "audit", "dictionaries"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&found);
    }
    let mut table = output::table(&["DICTIONARY", "GIVEN BY", "KIB", "SINCE REVISION", "PACKS BODIES OF"]);
    for view in found {
        let packs = if view.packs.is_empty() { "nobody now".to_owned() } else { view.packs.join(", ") };
        let kib = view.bytes.div_ceil(1_024).to_string();
        table.add_row([short(&view.digest), view.tenant, kib, view.since.to_string(), packs]);
    }
    output::print_table(&table, "all bodies are packed with the built-in dictionary")
}

fn short(digest: &str) -> String {
    digest.chars().take(16).collect()
}

fn train(args: &TrainArgs, format: Format) -> anyhow::Result<()> {
    let Bodies { seen, measured, .. } = Bodies::read(&args.actions)?;
    let few = |error: std::io::Error| stop(Exit::Usage, format!("the actions are too few or too much alike: {error}"));
    let bytes = dictionary::train(&seen, DICTIONARY_BYTES_MAX).map_err(few)?;
    let own = Dictionary::read(&bytes)?;
    write_new(&args.out, &bytes)?;
    let raw: usize = measured.iter().map(Vec::len).sum();
    let ratio = |own: Option<&Dictionary>| raw as f64 / stored_bytes(&measured, own) as f64;
    let trained = Trained {
        digest: hex::encode(own.digest()),
        bytes: bytes.len(),
        trained_on: seen.len(),
        measured_on: measured.len(),
        body_bytes: raw as f64 / measured.len() as f64,
        ratio: ratio(Some(&own)),
        ratio_built_in: ratio(None),
    };
    if format == Format::Json {
        return output::print_json(&trained);
    }
    output::print_line(&format!(
        "{}: {} KiB, trained on {} actions; {} others of {:.0} B are stored {:.2}:1 (built-in dictionary: {:.2}:1)",
        args.out.display(),
        trained.bytes.div_ceil(1_024),
        trained.trained_on,
        trained.measured_on,
        trained.body_bytes,
        trained.ratio,
        trained.ratio_built_in,
    ))?;
    output::remark(
        "it holds pieces of these actions in clear; `nethical audit dictionary give` puts it on every node for ever",
    );
    Ok(())
}

/// Bytes that bodies take sealed.
fn stored_bytes(bodies: &[Vec<u8>], own: Option<&Dictionary>) -> usize {
    let (keys, sealed_for) = (BodyKeys::new(&[0; 32], None), SealedFor { generation: 0, person: None });
    bodies.iter().map(|body| body::seal(&keys, sealed_for, &body::command_id(0, 0, 0), body, own).0.len()).sum()
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file =
        std::fs::File::create_new(path).map_err(|error| stop(Exit::Usage, format!("{}: {error}", path.display())))?;
    std::io::Write::write_all(&mut file, bytes)?;
    Ok(file.sync_all()?)
}

/// Bodies as a node would seal them under the default policy.
#[derive(Default)]
struct Bodies {
    /// To train on: without what names somebody.
    seen: Vec<Vec<u8>>,
    /// To measure on: as they are.
    measured: Vec<Vec<u8>>,
    bytes: usize,
}

impl Bodies {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let usage = |why: String| stop(Exit::Usage, format!("{}: {why}", path.display()));
        let file = std::fs::File::open(path).map_err(|error| usage(error.to_string()))?;
        let length = file.metadata().map_err(|error| usage(error.to_string()))?.len();
        let (bar, detectors) = (output::bar(length, "reading actions"), Detectors::new());
        let bundle = Bundle::parse(default_bundle_text()).map_err(|error| usage(error.to_string()))?;
        let (mut reader, mut bodies, mut line, mut number) = (BufReader::new(file), Self::default(), String::new(), 0);
        while bodies.len() < ACTIONS_MAX && bodies.bytes < BODIES_BYTES_MAX {
            line.clear();
            number += 1;
            // A line that has no end within the bound is refused by its JSON.
            let read = reader.by_ref().take(4 * ACTION_BYTES_MAX as u64).read_line(&mut line);
            match read.map_err(|error| usage(format!("line {number}: {error}")))? {
                0 => break,
                bytes => bar.inc(bytes as u64),
            }
            if !line.trim().is_empty() {
                let decoded = decode::decode(line.trim(), Dialect::Native).item;
                let action = decoded.map_err(|refused| usage(format!("line {number}: {}", refused.problem.detail)))?;
                bodies.add(&detectors, &bundle, action);
            }
        }
        bar.finish_and_clear();
        match bodies.len() {
            few if few < ACTIONS_MIN => Err(usage(format!("{few} actions; {ACTIONS_MIN} are needed at least"))),
            _ => Ok(bodies),
        }
    }

    fn len(&self) -> usize {
        self.seen.len() + self.measured.len()
    }

    fn add(&mut self, detectors: &Detectors, bundle: &Bundle, action: Action) {
        let number = self.len();
        let (of, action, redacted) = match number.is_multiple_of(KEPT_BACK) {
            true => (&mut self.measured, action, None),
            false => {
                let (cut, redacted) = redact::cut(detectors, Redaction::Aggressive, &unnamed(action, number));
                (&mut self.seen, cut, Some(redacted))
            }
        };
        let evaluation = evaluate_action(detectors, bundle, &action, AgentFacts::default(), &[]).evaluation;
        let (seen, detectors) = (SeenV1::default(), DETECTORS_VERSION);
        let body = BodyV1::Decision { action, evaluation, seen, shadow: None, detectors, redacted }.to_bytes();
        self.bytes += body.len();
        of.push(body);
    }
}

/// The action with made-up ids in place of those of its request, of who acts and of what it is about, and without the person
/// whom it is about: names that many lines have are what a dictionary would keep.
fn unnamed(action: Action, number: usize) -> Action {
    let made_up = |field: &str, text: &str| {
        let digits = hex::encode(Sha256::digest(format!("{field} {number}")));
        digits.chars().cycle().take(text.len()).collect::<String>()
    };
    let context = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&action.context_json);
    let context_json = context.map_or_else(
        |_| String::new(),
        |mut context| {
            context.remove("data_subject");
            serde_json::Value::Object(context).to_string()
        },
    );
    Action {
        request_id: made_up("request", &action.request_id),
        agent: made_up("agent", &action.agent),
        session: made_up("session", &action.session),
        cohort: made_up("cohort", &action.cohort),
        approval: made_up("approval", &action.approval),
        resource_id: made_up("resource", &action.resource_id),
        context_json,
        ..action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_remembers_nobody_whom_actions_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, named) = (dir.path().join("actions.ndjson"), "marker-of-somebody");
        let line = |number: usize| {
            let text =
                format!("the refund of order {} was asked for because the parcel number {number} was late", number * 7);
            serde_json::json!({
                "tenant": "bank", "agent_id": named, "session": named, "cohort": named, "kind": "message", "name": "reply",
                "args": { "text": text, "mail": "marker-of-somebody@bank.example" },
                "context": { "data_subject": named, "step": number },
            })
        };
        let lines: Vec<String> = (0..ACTIONS_MIN + 100).map(|number| line(number).to_string()).collect();
        std::fs::write(&path, lines.join("\n")).expect("written");
        let bodies = Bodies::read(&path).expect("actions");
        assert_eq!((bodies.measured.len(), bodies.len()), ((ACTIONS_MIN + 100) / KEPT_BACK, ACTIONS_MIN + 100));
        let trained = dictionary::train(&bodies.seen, DICTIONARY_BYTES_MAX).expect("it trains");
        let holds = |words: &str| trained.windows(words.len()).any(|part| part == words.as_bytes());
        assert!(holds("parcel number"), "the search itself works");
        assert!(!holds(named), "it remembers who acted, or whom an action was about");
        let is_measured_as_it_is = bodies.measured[0].windows(named.len()).any(|part| part == named.as_bytes());
        assert!(is_measured_as_it_is);
    }

    #[test]
    fn too_few_actions_and_lines_that_are_none_are_refused_with_their_place() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("actions.ndjson");
        let refused = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Bodies::read(&path).err().expect("it is refused").to_string()
        };
        assert!(refused("\n\n").contains("0 actions"));
        assert!(refused("\n{\"tenant\": 1}").contains("line 2"));
    }
}
