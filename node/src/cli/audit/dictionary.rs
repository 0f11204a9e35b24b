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
/// More take long and tell no more.
const ACTIONS_MAX: usize = 50_000;

/// Train, give, list and leave dictionaries of bodies.
#[derive(Debug, Subcommand)]
pub enum DictionaryCommand {
    /// Train a dictionary from actions, and measure what it saves.
    #[command(
        after_help = "ACTIONS has one request a line, as POST /v1/decisions takes it: 500 at least, ten thousand are better. What the \
        detectors take\nfor personal data or secrets is cut out of them first. One action in ten is kept back and shows the ratio.\n\n\
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
    let bodies = bodies_of(&args.actions)?;
    let (measured, seen): (Vec<_>, Vec<_>) = bodies.into_iter().enumerate().partition(|(at, _)| at % KEPT_BACK == 0);
    let plain = |bodies: Vec<(usize, Vec<u8>)>| bodies.into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    let (measured, seen) = (plain(measured), plain(seen));
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

/// The bodies that a node would seal of these actions under the default policy, without what detectors cut.
fn bodies_of(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let usage = |why: String| stop(Exit::Usage, format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| usage(error.to_string()))?;
    let length = file.metadata().map_err(|error| usage(error.to_string()))?.len();
    let (bar, detectors) = (output::bar(length, "reading actions"), Detectors::new());
    let bundle = Bundle::parse(default_bundle_text()).map_err(|error| usage(error.to_string()))?;
    let (mut reader, mut bodies, mut line, mut number) = (BufReader::new(file), Vec::new(), String::new(), 0);
    while bodies.len() < ACTIONS_MAX {
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
            bodies.push(body_of(&detectors, &bundle, &action));
        }
    }
    bar.finish_and_clear();
    match bodies.len() {
        few if few < ACTIONS_MIN => Err(usage(format!("{few} actions; {ACTIONS_MIN} are needed at least"))),
        _ => Ok(bodies),
    }
}

fn body_of(detectors: &Detectors, bundle: &Bundle, action: &Action) -> Vec<u8> {
    let evaluation = evaluate_action(detectors, bundle, action, AgentFacts::default(), &[]).evaluation;
    let (action, redacted) = redact::cut(detectors, Redaction::Aggressive, action);
    let (seen, detectors) = (SeenV1::default(), DETECTORS_VERSION);
    BodyV1::Decision { action, evaluation, seen, shadow: None, detectors, redacted: Some(redacted) }.to_bytes()
}
