//! Judges settings together and builds the typed result. Reports every contradiction, not only the first.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nethical_cluster::witness::Witness;
use nethical_cluster::world::objects::Place;
use nethical_protocol::ids::NodeId;

use super::file::{PEER_FIELDS, RawPeer, Setting};
use super::keys::{self, KEYS, Kind};
use super::region;
use super::{ConfigProblem, LogFormat, NodeConfig, PeerConfig, Severity};

/// The config, where every required setting is there; its problems are appended.
pub fn build(effective: &[Setting], raw: &[RawPeer], problems: &mut Vec<ConfigProblem>) -> Option<NodeConfig> {
    let sound = all_there(effective, problems);
    let peers = members(raw, problems);
    region_fits_residency(effective, problems);
    let config = Values { effective }.config(peers)?;
    contradictions(&config, effective, problems);
    sound.then_some(config)
}

/// True where every required setting is there and every value fits its kind.
fn all_there(effective: &[Setting], problems: &mut Vec<ConfigProblem>) -> bool {
    let mut sound = effective.iter().all(is_sound);
    for key in KEYS.iter().filter(|key| key.required) {
        if !effective.iter().any(|setting| setting.key == key) {
            let message = format!("{} is missing: {} Or set ${}.", key.path, key.meaning, key.variable());
            problems.push(ConfigProblem::of_whole(Severity::Error, message));
            sound = false;
        }
    }
    sound
}

fn is_sound(setting: &Setting) -> bool {
    keys::fault(setting.key.kind, &setting.value).is_none()
}

/// The node's own region must be one that its residency policy allows. An unset policy is judged elsewhere.
pub fn region_fits_residency(effective: &[Setting], problems: &mut Vec<ConfigProblem>) {
    let find = |path: &str| effective.iter().find(|setting| setting.key.path == path);
    let (Some(region), Some(policy)) = (find("node.region"), find("cluster.residency")) else { return };
    let Some(rule) = region::residency(&policy.value) else { return };
    if region::REGIONS.contains(&region.value.as_str()) && !rule.allows(&region.value) {
        let message =
            format!("{} keeps data in {}; this node stands in {}", rule.name, rule.regions.join(", "), region.value);
        problems.push(ConfigProblem::at(Severity::Refusal, &region.origin, message));
    }
}

fn members(raw: &[RawPeer], problems: &mut Vec<ConfigProblem>) -> Vec<PeerConfig> {
    let mut seen = BTreeSet::new();
    let mut peers: Vec<PeerConfig> = raw.iter().filter_map(|peer| member(peer, &mut seen, problems)).collect();
    peers.sort_by_key(|peer| peer.id);
    peers
}

fn member(raw: &RawPeer, seen: &mut BTreeSet<String>, problems: &mut Vec<ConfigProblem>) -> Option<PeerConfig> {
    let mut complain = |severity, origin: &_, message: String| {
        problems.push(ConfigProblem::at(severity, origin, message));
    };
    let mut sound = true;
    for name in PEER_FIELDS {
        let Some((_, value, origin)) = raw.fields.iter().find(|(field, ..)| field == name) else {
            complain(Severity::Error, &raw.origin, format!("a member lacks {name}"));
            sound = false;
            continue;
        };
        let fault = match name {
            "id" => keys::fault(Kind::Integer(1, u64::MAX), value),
            "region" => keys::fault(Kind::Region, value),
            _ => (!is_endpoint(value)).then(|| format!("{value:?} is not host:port")),
        };
        if let Some(fault) = fault {
            let severity = if name == "region" { Severity::Refusal } else { Severity::Error };
            complain(severity, origin, format!("a member's {name}: {fault}"));
            sound = false;
        } else if name != "region" && !seen.insert(format!("{name} {value}")) {
            let what = if name == "id" { "node id" } else { name };
            complain(Severity::Error, origin, format!("{what} {value} twice among the members"));
            sound = false;
        }
    }
    if !sound {
        return None;
    }
    let text = |name: &str| Some(raw.fields.iter().find(|(field, ..)| field == name)?.1.clone());
    Some(PeerConfig {
        id: NodeId(text("id")?.parse().ok()?),
        region: text("region")?,
        peer: text("peer")?,
        http: text("http")?,
        quic: text("quic")?,
    })
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn contradictions(config: &NodeConfig, effective: &[Setting], problems: &mut Vec<ConfigProblem>) {
    // A setting that is missing or faulty was reported already; what its stand-in contradicts is noise.
    let mut complain = |severity, path: &str, message: String| {
        if let Some(setting) = effective.iter().find(|setting| setting.key.path == path && is_sound(setting)) {
            problems.push(ConfigProblem::at(severity, &setting.origin, message));
        }
    };
    match config.peers.iter().find(|peer| peer.id == config.node) {
        None => {
            let message = format!("[[peers]] lists every member, this one included; node {} is not there", config.node);
            complain(Severity::Error, "node.id", message);
        }
        Some(own) if own.region != config.region => {
            let message = format!("node.region is {}, its [[peers]] entry says {}", config.region, own.region);
            complain(Severity::Error, "node.region", message);
        }
        Some(_) => {}
    }
    for peer in config.peers.iter().filter(|peer| !config.residency.allows(&peer.region)) {
        let allowed = config.residency.regions.join(", ");
        let message =
            format!("{} keeps data in {allowed}; member {} stands in {}", config.residency.name, peer.id, peer.region);
        complain(Severity::Refusal, "cluster.residency", message);
    }
    if config.replicas as usize > config.peers.len() {
        let message = format!("{} replicas need as many members; there are {}", config.replicas, config.peers.len());
        complain(Severity::Error, "cluster.replicas", message);
    }
    if config.replicas.is_multiple_of(2) {
        let message = "an even number of voters survives no more losses than one fewer would".to_owned();
        complain(Severity::Warning, "cluster.replicas", message);
    }
    if config.election_min_ms >= config.election_max_ms {
        complain(Severity::Error, "raft.election_min_ms", "election_min_ms must be below election_max_ms".to_owned());
    }
    if config.heartbeat_ms * 2 > config.election_min_ms {
        let message =
            "at least two heartbeats must fit into election_min_ms, or healthy leaders are voted out".to_owned();
        complain(Severity::Error, "raft.heartbeat_ms", message);
    }
    if config.cold.is_some() && config.cold_after_s > 0 && config.warm_after_s == 0 {
        let message = "only warm segments become cold, and audit.warm_after_s is 0: nothing is ever moved there";
        complain(Severity::Warning, "audit.cold_url", message.to_owned());
    }
    if config.quic_listen == config.peer_listen {
        complain(Severity::Error, "listen.peer", "listen.quic and listen.peer are the same address".to_owned());
    }
    if config.admin_token.is_none() && !config.http_listen.ip().is_loopback() {
        let message =
            "the HTTP door listens beyond this machine and door.admin_token is not set: administration is open";
        complain(Severity::Warning, "listen.http", message.to_owned());
    }
}

struct Values<'s> {
    effective: &'s [Setting],
}

/// Typed access. A missing or faulty value gets a stand-in, so that the others can still be judged together; `build`
/// gives no config away then.
impl Values<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let said = self.effective.iter().find(|setting| setting.key.path == path && is_sound(setting));
        said.map(|setting| setting.value.clone()).or_else(|| stand_in(keys::key(path)?))
    }

    fn parse<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    fn config(&self, peers: Vec<PeerConfig>) -> Option<NodeConfig> {
        Some(NodeConfig {
            cluster: self.text("cluster.name")?,
            node: self.parse("node.id")?,
            region: self.text("node.region")?,
            zone: self.text("cluster.zone")?,
            residency: region::residency(&self.text("cluster.residency")?)?,
            data_dir: self.path("node.data_dir")?,
            http_listen: self.parse("listen.http")?,
            quic_listen: self.parse("listen.quic")?,
            peer_listen: self.parse("listen.peer")?,
            peers,
            partitions: self.parse("cluster.partitions")?,
            replicas: self.parse("cluster.replicas")?,
            heartbeat_ms: self.parse("raft.heartbeat_ms")?,
            election_min_ms: self.parse("raft.election_min_ms")?,
            election_max_ms: self.parse("raft.election_max_ms")?,
            body_bytes_max: self.parse("door.body_bytes_max")?,
            ca_path: self.path("tls.ca")?,
            cert_path: self.path("tls.cert")?,
            key_path: self.path("tls.key")?,
            keyring_path: self.path("keys.keyring")?,
            kek_path: self.path("keys.kek")?,
            log_level: self.text("log.level")?,
            log_format: if self.text("log.format")? == "json" { LogFormat::Json } else { LogFormat::Text },
            bootstrap: self.parse("cluster.bootstrap")?,
            admin_token: self.text("door.admin_token").filter(|token| !token.is_empty()),
            witnesses: Witness::parse_list(&self.text("audit.witnesses")?).ok()?,
            warm_after_s: self.parse("audit.warm_after_s")?,
            cold: Place::parse(&self.text("audit.cold_url")?).ok(),
            cold_after_s: self.parse("audit.cold_after_s")?,
            promoted_bytes: self.parse("audit.promoted_bytes")?,
            taxonomy_path: self.path("taxonomy.file").filter(|path| !path.as_os_str().is_empty()),
        })
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }
}

fn stand_in(key: &keys::Key) -> Option<String> {
    let text = match (key.default, key.kind) {
        (Some(default), _) => default.to_owned(),
        (None, Kind::Integer(from, _)) => from.to_string(),
        (None, Kind::Residency) => "GLOBAL_DEFAULT".to_owned(),
        (None, Kind::Region) => region::REGIONS[0].to_owned(),
        (None, _) => String::new(),
    };
    Some(text)
}
