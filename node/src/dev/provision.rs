//! What a development cluster needs before its first start: authority, certificates, keyring, and each node's config.
//!
//! Keys and certificates are made once and kept; configs are rewritten at each start, so that ports may change.
//! Secret files are readable by their owner only. Development only: all nodes of the zone share one keyring, but for the key by
//! which each vouches for itself.
#![allow(clippy::disallowed_methods, reason = "the development cluster's folder is no node's data")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use nethical_audit::keys::{KEY_BYTES, Keyring};

use super::folder::Folder;
use super::{DevOptions, NodePlace};
use crate::certs::{self, CaFiles};
use crate::output::{Exit, stop};

/// Name and zone of every development cluster.
pub const CLUSTER: &str = "nethical-dev";
const ZONE: &str = "global";
/// The id of the first ring key.
const RING_KEY_FIRST: u32 = 1;

/// What cannot change while the folder's data lives.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    nodes: u64,
    partitions: u32,
}

/// Makes what is missing and rewrites the configs.
pub fn provision(folder: &Folder, options: &DevOptions, places: &[NodePlace]) -> anyhow::Result<()> {
    keep_shape(folder.dir(), options)?;
    let authority = authority(&folder.dir().join("ca"))?;
    let keyring = keyring(folder.dir())?;
    for place in places {
        let dir = folder.dir().join(format!("node-{}", place.id));
        std::fs::create_dir_all(dir.join("data")).with_context(|| format!("making {}", dir.display()))?;
        keep_certificate(&dir, &authority, place)?;
        keep_keyring(&dir, &keyring)?;
        replace(&dir.join("config.toml"), config(options, places, place).as_bytes())?;
    }
    Ok(())
}

/// A folder belongs to one cluster shape for ever: groups and members are in its data.
fn keep_shape(dir: &Path, options: &DevOptions) -> anyhow::Result<()> {
    let wanted = Shape { nodes: options.nodes, partitions: options.partitions };
    let path = dir.join("dev.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let found: Shape = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
            if found == wanted {
                return Ok(());
            }
            let message = format!(
                "{} holds a cluster of {} nodes and {} partitions; start it with --nodes {} --partitions {}, or name another folder with --data",
                dir.display(),
                found.nodes,
                found.partitions,
                found.nodes,
                found.partitions
            );
            Err(stop(Exit::Refused, message))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => replace(&path, &serde_json::to_vec(&wanted)?),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The development authority, made at the first start.
fn authority(dir: &Path) -> anyhow::Result<CaFiles> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    if let (Ok(cert_pem), Ok(key_pem)) = (std::fs::read_to_string(&cert_path), std::fs::read_to_string(&key_path)) {
        return Ok(CaFiles { cert_pem, key_pem });
    }
    let authority = certs::make_ca()?;
    replace(&key_path, authority.key_pem.as_bytes())?;
    replace(&cert_path, authority.cert_pem.as_bytes())?;
    Ok(authority)
}

/// Issues a node's certificate where it has none yet.
fn keep_certificate(dir: &Path, authority: &CaFiles, place: &NodePlace) -> anyhow::Result<()> {
    let (cert_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
    if cert_path.exists() && key_path.exists() {
        return Ok(());
    }
    let (cert_pem, key_pem) = certs::issue_node(authority, place.id, &[])?;
    replace(&key_path, key_pem.as_bytes())?;
    replace(&cert_path, cert_pem.as_bytes())
}

/// The zone's keys, made at the first start. They rest only in the nodes' sealed keyrings; the first node's is the
/// one that later starts read.
fn keyring(dir: &Path) -> anyhow::Result<Keyring> {
    let first = dir.join("node-1");
    match (std::fs::read(first.join("keyring")), std::fs::read_to_string(first.join("kek"))) {
        (Ok(sealed), Ok(kek)) => {
            let kek = parse_kek(&kek).with_context(|| format!("{} is damaged", first.join("kek").display()))?;
            Keyring::decode_sealed(&kek, &sealed).with_context(|| format!("{}", first.join("keyring").display()))
        }
        _ => {
            let ring_keys = BTreeMap::from([(RING_KEY_FIRST, random()?)]);
            let signing_seed = Some(random()?);
            Ok(Keyring { cluster: CLUSTER.to_owned(), ring_keys, signing_seed, cosigning_seed: None })
        }
    }
}

/// 64 hex digits, white space around them ignored.
pub fn parse_kek(text: &str) -> Option<[u8; KEY_BYTES]> {
    hex::decode(text.trim()).ok()?.try_into().ok()
}

/// Writes the keyring under a key of the node's own where the node has none yet, or one from before nodes vouched for
/// checkpoints.
fn keep_keyring(dir: &Path, zone: &Keyring) -> anyhow::Result<()> {
    let (keyring_path, kek_path) = (dir.join("keyring"), dir.join("kek"));
    let kek = match std::fs::read_to_string(&kek_path) {
        Ok(kek) => parse_kek(&kek).with_context(|| format!("{} is damaged", kek_path.display()))?,
        Err(_) => random()?,
    };
    if let Ok(sealed) = std::fs::read(&keyring_path) {
        let kept = Keyring::decode_sealed(&kek, &sealed).with_context(|| format!("{}", keyring_path.display()))?;
        // One that lacks a seed by the layout of today has had its keys turned.
        if kept.cosigning_seed.is_some() || Keyring::is_of_today(&sealed) {
            return Ok(());
        }
    }
    let keyring = Keyring { cosigning_seed: Some(random()?), ..zone.clone() };
    replace(&kek_path, hex::encode(kek).as_bytes())?;
    replace(&keyring_path, &keyring.encode_sealed(&kek, random()?))
}

fn random<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes)
}

/// Replaces a file whole, readable by its owner only.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A node's TOML file.
fn config(options: &DevOptions, places: &[NodePlace], own: &NodePlace) -> String {
    let replicas = places.len().min(3);
    // An even number of voters survives no more losses than one fewer.
    let replicas = if replicas == 2 { 1 } else { replicas };
    let mut text = format!(
        "# Written by `nethical dev` at each start; edits are lost.\n\
         [cluster]\nname = \"{CLUSTER}\"\nzone = \"{ZONE}\"\nresidency = \"GLOBAL_DEFAULT\"\npartitions = {}\n\
         replicas = {replicas}\nbootstrap = true\n\n\
         [node]\nid = {}\nregion = \"{}\"\ndata_dir = \"data\"\n\n\
         [listen]\nhttp = \"{}\"\nquic = \"{}\"\npeer = \"{}\"\n\n\
         [tls]\nca = \"../ca/ca.pem\"\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\n\
         [keys]\nkeyring = \"keyring\"\nkek = \"kek\"\n\n\
         [audit]\nwitnesses = {}\n\n\
         [log]\nlevel = {}\n",
        options.partitions,
        own.id,
        own.region,
        own.http,
        own.quic,
        own.peer,
        toml::Value::String(options.witnesses.clone()),
        toml::Value::String(options.log_level.clone()),
    );
    for place in places {
        let NodePlace { id, region, http, quic, peer, .. } = place;
        let peer = format!(
            "\n[[peers]]\nid = {id}\nregion = \"{region}\"\npeer = \"{peer}\"\nhttp = \"{http}\"\nquic = \"{quic}\"\n"
        );
        write!(text, "{peer}").expect("writing into memory cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use std::time::Duration;

    fn options(data: &Path, nodes: u64) -> DevOptions {
        DevOptions {
            nodes,
            data: data.to_owned(),
            http_base: 8000,
            quic_base: 9000,
            partitions: 12,
            witnesses: String::new(),
            log_level: "info,nethical=\"debug\"".into(),
            settings: Vec::new(),
            ready_wait: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_configs_pass_the_nodes_own_check_and_keys_survive_a_second_start() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free");
        let options = options(dir.path(), 3);
        let places = options.places().expect("good ports");
        provision(&folder, &options, &places).expect("provisioned");
        let before = keyring(folder.dir()).expect("kept");
        provision(&folder, &options, &places).expect("again");
        assert!(
            keyring(folder.dir()).expect("kept") == before,
            "a restart made new keys: old data would be unreadable"
        );
        let mut seeds = std::collections::BTreeSet::new();
        for place in &places {
            let node = folder.dir().join(format!("node-{}", place.id));
            let loaded = Layers { config: Some(node.join("config.toml")), ..Layers::default() }.load();
            assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
            let config = loaded.config.expect("sound");
            assert_eq!((config.node.0, config.replicas, config.partitions), (place.id, 3, 12));
            for path in [&config.ca_path, &config.cert_path, &config.key_path] {
                assert!(path.exists(), "{}", path.display());
            }
            let kek = parse_kek(&std::fs::read_to_string(&config.kek_path).expect("a kek")).expect("hex");
            let sealed = std::fs::read(&config.keyring_path).expect("a keyring");
            let keyring = Keyring::decode_sealed(&kek, &sealed).expect("opens");
            assert!(seeds.insert(keyring.cosigning_seed.expect("each vouches")), "two nodes vouch by one key");
            let zone = |keyring: Keyring| Keyring { cosigning_seed: None, ..keyring };
            assert!(zone(keyring) == zone(before.clone()), "all nodes share the zone's keys");
        }
    }

    #[test]
    fn another_shape_on_the_same_folder_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        keep_shape(dir.path(), &options(dir.path(), 3)).expect("first");
        keep_shape(dir.path(), &options(dir.path(), 3)).expect("same");
        let error = keep_shape(dir.path(), &options(dir.path(), 5)).expect_err("another");
        assert_eq!(crate::output::exit_code(&error), Exit::Refused as u8);
        assert!(error.to_string().contains("--nodes 3"), "{error}");
    }
}
