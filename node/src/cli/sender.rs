//! How `submit`, `load` and the demo reach the doors: the SDK over HTTP or QUIC, behind one small trait.
//!
//! The SDK owns retries, failover between endpoints and request ids; nothing here sends twice.
#![allow(clippy::disallowed_methods, reason = "the command line reads certificate files and the environment")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures::future::BoxFuture;

use nethical_client::Client;
use nethical_protocol::action::Action;
use nethical_protocol::control::TenantSpec;
use nethical_protocol::decision::ItemAnswer;
use nethical_protocol::limits;
use nethical_protocol::status::ClusterStatus;

use super::http::Admin;
use crate::certs;
use crate::output::{Exit, stop};

/// The name that every node's certificate carries (certs.rs).
const SERVER_NAME: &str = "localhost";

/// What takes actions and answers each, in order.
pub trait Decider: Send + Sync + 'static {
    /// Decides actions that carry their request ids. Gives one answer for each; a call that failed as a whole gives
    /// its problem for each.
    fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>>;
}

/// Which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// The HTTP door.
    Http,
    /// The QUIC door.
    Quic,
}

/// Where and how to send actions.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Doors to use, in order of preference; may be repeated. http://… or quic://host:port.
    #[arg(
        long,
        env = "NETHICAL_ENDPOINT",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8001",
        value_name = "URL"
    )]
    pub endpoint: Vec<String>,
    /// Which door; with http:// endpoints the node is asked where its QUIC door is. quic:// endpoints imply quic.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// The cluster's certificate authority, PEM, for QUIC.
    #[arg(long, env = "NETHICAL_CA", default_value = "nethical-data/ca/ca.pem", value_name = "FILE")]
    pub ca: PathBuf,
    /// Administrator's bearer token, for what is created before the first action.
    #[arg(long, env = "NETHICAL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Actions in one request.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::BATCH_ACTIONS_MAX as u64))]
    pub batch: u64,
}

impl TargetArgs {
    /// The door that will be used.
    pub fn protocol(&self) -> Protocol {
        let quic = self.endpoint.iter().any(|endpoint| endpoint.starts_with("quic://"));
        self.protocol.unwrap_or(if quic { Protocol::Quic } else { Protocol::Http })
    }

    /// The first HTTP endpoint, for administration; `None` where only QUIC doors are given.
    pub fn admin(&self) -> anyhow::Result<Option<Admin>> {
        let first = self.endpoint.iter().find(|endpoint| !endpoint.starts_with("quic://"));
        first.map(|endpoint| Admin::new(endpoint, self.token.clone())).transpose()
    }

    /// Creates the tenants that are not there yet, so that a first run works. Needs an HTTP endpoint; without one the
    /// tenants must exist.
    pub async fn create_tenants(&self, tenants: impl Iterator<Item = &str>) -> anyhow::Result<()> {
        let Some(admin) = self.admin()? else { return Ok(()) };
        let there: Vec<TenantSpec> = admin.get(&["v1", "tenants"], &[]).await?;
        for tenant in tenants.filter(|tenant| !there.iter().any(|spec| spec.tenant == **tenant)) {
            let spec = TenantSpec::named(tenant);
            let ack: nethical_protocol::control::ControlAck =
                admin.send(reqwest::Method::PUT, &["v1", "tenants", tenant], &spec).await?;
            super::agent::require_acknowledged(&ack).with_context(|| format!("creating tenant {tenant}"))?;
        }
        Ok(())
    }

    /// A decider over all endpoints. Nothing is sent to a door yet, but http endpoints may be asked for QUIC doors.
    pub async fn connect(&self) -> anyhow::Result<Arc<dyn Decider>> {
        Ok(Arc::new(Turns { clients: self.clients().await?, next: AtomicUsize::new(0) }))
    }

    /// One client for each endpoint, which prefers that endpoint and asks the others after it; never none.
    pub async fn clients(&self) -> anyhow::Result<Vec<Client>> {
        let mut builder = Client::builder();
        let endpoints = match self.protocol() {
            Protocol::Http => self.endpoint.clone(),
            Protocol::Quic => {
                let authority = certs::load_certificates(&read_ca(&self.ca)?)?;
                builder = builder.protocol(nethical_client::Protocol::Quic).authority(SERVER_NAME, authority);
                self.quic_doors().await?
            }
        };
        let turns = (0..endpoints.len()).map(|first| {
            let mut turned = endpoints.clone();
            turned.rotate_left(first);
            let built = builder.clone().endpoints(turned).build();
            built.map_err(|error| stop(Exit::Usage, format!("{error}; write http://host:port or quic://host:port")))
        });
        turns.collect()
    }

    /// The QUIC doors behind the endpoints: `quic://` ones as given, for `http://` ones what the node says of itself.
    async fn quic_doors(&self) -> anyhow::Result<Vec<String>> {
        let mut doors = Vec::new();
        for endpoint in &self.endpoint {
            if let Some(door) = endpoint.strip_prefix("quic://") {
                doors.push(resolve(door.trim_end_matches('/')).await?);
                continue;
            }
            let admin = Admin::new(endpoint, self.token.clone())?;
            let status: ClusterStatus = admin.get(&["v1", "status"], &[]).await?;
            let door = quic_door_of(&admin.address(), &status);
            let hint = || format!("{endpoint} does not say where its QUIC door is; name it as quic://host:port");
            doors.push(resolve(&door.with_context(hint)?).await?);
        }
        Ok(doors)
    }
}

/// The first address of `host:port`.
async fn resolve(door: &str) -> anyhow::Result<String> {
    let mut addresses = tokio::net::lookup_host(door)
        .await
        .map_err(|error| stop(Exit::Usage, format!("quic://{door}: {error}; write quic://host:port")))?;
    Ok(addresses.next().with_context(|| format!("{door} has no address"))?.to_string())
}

/// One client for each endpoint, which prefers that endpoint; calls take turns, so that all doors share the work.
struct Turns {
    clients: Vec<Client>,
    next: AtomicUsize,
}

impl Decider for Turns {
    fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        Box::pin(self.clients[turn].decide(actions))
    }
}

/// The QUIC door of the node whose HTTP door is `address`; where several listen behind one name, the only node.
fn quic_door_of(address: &str, status: &ClusterStatus) -> Option<String> {
    let bare = |text: &str| text.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let own = status.nodes.iter().find(|node| bare(&node.http) == bare(address));
    let node = own.or_else(|| if status.nodes.len() == 1 { status.nodes.first() } else { None })?;
    Some(node.quic.trim_start_matches("quic://").to_owned())
}

fn read_ca(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let hint = "name the cluster's CA with --ca; `nethical dev` writes it to DIR/ca/ca.pem";
        stop(
            Exit::Usage,
            format!("QUIC needs the cluster's certificate authority: {}: {error}; {hint}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_protocol::status::NodeStatus;

    fn node(id: u64, http: &str, quic: &str) -> NodeStatus {
        let (region, http, quic) = (String::new(), http.to_owned(), quic.to_owned());
        NodeStatus { id, region, http, quic, pid: None, ready: true, leader_of: vec![] }
    }

    #[test]
    fn the_quic_door_is_that_of_the_same_node() {
        let nodes =
            vec![node(1, "127.0.0.1:8001", "127.0.0.1:9001"), node(2, "http://127.0.0.1:8002", "127.0.0.1:9002")];
        let status = ClusterStatus { nodes, groups: vec![] };
        assert_eq!(quic_door_of("127.0.0.1:8002", &status).as_deref(), Some("127.0.0.1:9002"));
        assert_eq!(quic_door_of("localhost:8001", &status).as_deref(), Some("127.0.0.1:9001"));
        assert_eq!(quic_door_of("127.0.0.1:8009", &status), None);
    }
}
