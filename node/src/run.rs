//! Runs one node: opens the real world's seams, starts the cluster half, opens the doors, and stops in order.
//!
//! The place where everything meets; it decides nothing. A failed disk ends the process at once, because what cannot
//! be made durable must not be acknowledged.
#![allow(clippy::disallowed_methods, reason = "the outermost layer reads files and owns the runtime")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use nethical_audit::keys::Keyring;
use nethical_cluster::api::Governor;
use nethical_cluster::governor::NodeGovernor;
use nethical_cluster::prepared::Prepared;
use nethical_cluster::replicate::group::Timing;
use nethical_cluster::shared::Options;
use nethical_cluster::world::http::HttpOutside;
use nethical_cluster::world::objects::StoreObjects;
use nethical_cluster::world::presence::PresenceTable;
use nethical_cluster::world::quic::{Ground, QuicOptions, QuicWire};
use nethical_cluster::world::real::{RealClock, RealDisk};
use nethical_cluster::world::sled::SledKv;
use nethical_cluster::world::{Clock, KeyringFile, Objects, Scope, World};
use nethical_governance::policy::default_bundle_text;
use nethical_protocol::ring::RingNode;

use crate::config::{LogFormat, NodeConfig};
use crate::keyring::SealedKeyring;
use crate::{certs, door, telemetry};

/// How long a stop waits for audit segments to be written.
const SEAL_WAIT: Duration = Duration::from_secs(5);
/// Between two rounds of folding metrics.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Runs a node until it is told to stop by SIGINT or SIGTERM.
pub fn run_node(config: NodeConfig) -> anyhow::Result<()> {
    let format = match config.log_format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::start_logging(format, &filter(&config.log_level))?;
    telemetry::start_metrics()?;
    telemetry::process::watch_storage(config.data_dir.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .thread_name("nethical")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// openraft reports every unreachable peer as a warning, several times a second; what a person must know of that is in
/// `/readyz`, so only its errors are kept unless the operator asks for more.
fn filter(level: &str) -> String {
    if level.contains("openraft") { level.to_owned() } else { format!("{level},openraft=error") }
}

/// Two workers at least: one of them may be inside an action's evaluation while the other keeps heartbeats going.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2)
}

async fn serve(config: NodeConfig) -> anyhow::Result<()> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let scope = Scope::new(seed);
    let disk = RealDisk::new(&config.data_dir).with_context(|| format!("data folder {}", config.data_dir.display()))?;
    let _lock = disk.lock().with_context(|| format!("{} is in use by another node", config.data_dir.display()))?;
    let listener =
        TcpListener::bind(config.http_listen).await.with_context(|| format!("HTTP door on {}", config.http_listen))?;
    let (keyring, file) = keyring(&config)?;
    let world = world(&config, &scope, disk, Arc::new(file))?;
    let governor =
        scope.enter(nethical_cluster::start::start(world, options(&config), keyring, Arc::new(end_process))).await;
    let governor = governor.map_err(|fault| anyhow::anyhow!("{fault}")).context("starting the cluster half")?;
    let (stopping, stop) = watch::channel(false);
    let doors = open_doors(&config, &scope, listener, &governor, stop)?;
    scope.spawn(keep_metrics(governor.clone()));
    tracing::info!(node = %config.node, region = %config.region, zone = %config.zone, http = %config.http_listen, quic = %config.quic_listen, "doors are open");
    wait_for_signal().await?;
    tracing::info!("stopping");
    stopping.send_replace(true);
    for door in doors {
        let _ = door.await;
    }
    finish(&governor).await;
    scope.kill();
    Ok(())
}

/// A disk that fails to sync ends the process: nothing after that could be acknowledged.
fn end_process(error: &std::io::Error) {
    tracing::error!(%error, "the write-ahead log cannot be synced; the process ends");
    std::process::abort();
}

fn world(config: &NodeConfig, scope: &Scope, disk: RealDisk, keyring: Arc<dyn KeyringFile>) -> anyhow::Result<World> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let (certificate_chain, key) = own_certificate(config)?;
    let mut peers = BTreeMap::new();
    for peer in config.others() {
        peers.insert(peer.id, peer.peer_addr().with_context(|| format!("peer address {}", peer.peer))?);
    }
    let quic = QuicOptions {
        node: config.node,
        ground: Ground::listen(config.peer_listen)?,
        peers,
        certificate_chain,
        key,
        ca: certs::load_certificates(&read(&config.ca_path)?)?,
        queue: Default::default(),
    };
    let wire = QuicWire::bind(scope.clone(), clock.clone(), quic)?;
    let kv = SledKv::open(&config.data_dir.join("sled"), "directory").context("the local index (it may be deleted)")?;
    let directory = Arc::new(PresenceTable::new(config.node, clock.clone()));
    let (disk, kv, prepared) = (Arc::new(disk), Arc::new(kv), Arc::new(prepared(config)?));
    let outside = Arc::new(HttpOutside::new().context("the client for witnesses")?);
    let heavy = Arc::new(nethical_cluster::world::real::Aside::default());
    let objects = objects(config, &clock)?;
    Ok(World { clock, scope: scope.clone(), wire, outside, disk, keyring, kv, directory, prepared, heavy, objects })
}

/// The store of the cold tier. Its credentials come from the environment, under the names that its own tools have.
fn objects(config: &NodeConfig, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<Arc<dyn Objects>>> {
    let Some(place) = &config.cold else { return Ok(None) };
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let store = StoreObjects::open(place, &environment, clock.clone());
    let store = store.map_err(|why| anyhow::anyhow!(why)).context("audit.cold_url")?;
    tracing::info!(store = %place, after_s = config.cold_after_s, "old audit segments go to an object store");
    Ok(Some(Arc::new(store)))
}

fn prepared(config: &NodeConfig) -> anyhow::Result<Prepared> {
    let Some(path) = &config.taxonomy_path else { return Ok(Prepared::default()) };
    let taxonomy = crate::cli::taxonomy::read(path)?;
    tracing::info!(file = %path.display(), version = taxonomy.version, "decisions are explained by a taxonomy of your own");
    Ok(Prepared::explained_by(taxonomy))
}

fn options(config: &NodeConfig) -> Options {
    let mut nodes: Vec<RingNode> =
        config.peers.iter().map(|peer| RingNode { node: peer.id, region: peer.region.clone() }).collect();
    nodes.sort();
    Options {
        cluster: config.cluster.clone(),
        node: config.node,
        pid: std::process::id(),
        nodes,
        doors: config.peers.iter().map(|peer| (peer.id, peer.http.clone(), peer.quic.clone())).collect(),
        partitions: config.partitions,
        replicas: config.replicas as usize,
        timing: Timing {
            heartbeat_ms: config.heartbeat_ms,
            election_min_ms: config.election_min_ms,
            election_max_ms: config.election_max_ms,
        },
        bootstrap: config.bootstrap,
        open_tenants: config.admin_token.is_none(),
        warm_after_s: config.warm_after_s,
        cold_after_s: config.cold_after_s,
        promoted_bytes: config.promoted_bytes,
        witnesses: config.witnesses.clone(),
        first_policy: default_bundle_text().to_owned(),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn own_certificate(
    config: &NodeConfig,
) -> anyhow::Result<(Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>)> {
    Ok((certs::load_certificates(&read(&config.cert_path)?)?, certs::load_key(&read(&config.key_path)?)?))
}

fn keyring(config: &NodeConfig) -> anyhow::Result<(Keyring, SealedKeyring)> {
    let kek = crate::dev::parse_kek(&read(&config.kek_path)?)
        .with_context(|| format!("{} must hold 64 hex digits", config.kek_path.display()))?;
    let file = SealedKeyring::new(config.keyring_path.clone(), kek);
    let keyring = file.open()?;
    anyhow::ensure!(keyring.cluster == config.cluster, "the keyring is of cluster {:?}", keyring.cluster);
    Ok((keyring, file))
}

type Door = tokio::task::JoinHandle<()>;

fn open_doors(
    config: &NodeConfig,
    scope: &Scope,
    listener: TcpListener,
    governor: &NodeGovernor,
    stop: door::Stop,
) -> anyhow::Result<Vec<Door>> {
    let governor: Arc<dyn Governor> = Arc::new(governor.clone());
    let http = door::http::Options {
        body_bytes_max: config.body_bytes_max,
        admin_token: config.admin_token.clone(),
        ..Default::default()
    };
    let http_door = door::http::Door::new(governor.clone(), http.clone());
    let (certificates, key) = own_certificate(config)?;
    let endpoint = door::quic::bind(config.quic_listen, certificates, key)?;
    let (router, options, work_scope, stop_http) = (http_door.router(), Arc::new(http), scope.clone(), stop.clone());
    let http = scope.spawn(async move {
        if let Err(error) = door::http::serve(listener, router, options, work_scope, stop_http).await {
            tracing::error!(%error, "the HTTP door has closed");
        }
    });
    let work_scope = scope.clone();
    let quic = scope.spawn(async move {
        if let Err(error) = door::quic::serve(endpoint, Default::default(), governor, work_scope, stop).await {
            tracing::error!(%error, "the QUIC door has closed");
        }
    });
    Ok(vec![http, quic])
}

async fn keep_metrics(governor: NodeGovernor) {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        let partitions = governor.core().partitions();
        let agents: usize = partitions.iter().filter_map(|replica| replica.lead()).map(|lead| lead.actor_count()).sum();
        metrics::gauge!("nethical_active_agents").set(agents as f64);
        let stats = governor.core().wal.stats();
        metrics::gauge!("nethical_log_live_segments").set(stats.live_segments as f64);
        metrics::counter!("nethical_log_syncs_total").absolute(stats.batches);
        metrics::counter!("nethical_log_written_bytes_total").absolute(stats.written_bytes);
        nethical_cluster::sla::publish(governor.core());
        telemetry::upkeep();
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Writes what is applied to audit segments, so that a stopped node's data verifies offline as a whole.
async fn finish(governor: &NodeGovernor) {
    let stores = governor.core().audits();
    let sealing = futures::future::join_all(stores.iter().map(|store| store.finish()));
    if tokio::time::timeout(SEAL_WAIT, sealing).await.is_err() {
        tracing::warn!("not everything was sealed in time; the next start seals it from the log");
    }
}
