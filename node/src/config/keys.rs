//! The table of settings: path, kind, default and meaning. Files, environment, flags, `config print` and the reference
//! file are all read against this one table.

use nethical_cluster::witness::Witness;
use nethical_cluster::world::objects::Place;

use super::region;

/// What a value has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Non-empty text of at most 256 bytes.
    Text,
    /// A path; relative ones in a file are relative to that file.
    Path,
    /// `ip:port` to bind.
    Listen,
    /// An integer from..=to.
    Integer(u64, u64),
    /// `true` or `false`.
    Flag,
    /// Witnesses, `URL VKEY` with commas between them.
    Witnesses,
    /// Where an object store is; empty for none.
    Objects,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of [`region::REGIONS`].
    Region,
    /// One of [`region::POLICIES`].
    Residency,
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted path in the TOML file.
    pub path: &'static str,
    /// What it has to look like.
    pub kind: Kind,
    /// Built-in value; `None` where the operator must say, or may leave it out ([`Key::required`]).
    pub default: Option<&'static str>,
    /// True where a node cannot start without it.
    pub required: bool,
    /// True where `config print` must not show it.
    pub secret: bool,
    /// What it means, in one line.
    pub meaning: &'static str,
}

impl Key {
    /// The environment variable that sets it: `NETHICAL_` and the path in capitals.
    pub fn variable(&self) -> String {
        format!("NETHICAL_{}", self.path.replace('.', "_").to_uppercase())
    }
}

const fn set(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default: Some(default), required: false, secret: false, meaning }
}

const fn must(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, default: None, required: true, secret: false, meaning }
}

/// All settings but the list of members (`[[peers]]`), in the order of the reference file.
pub const KEYS: &[Key] = &[
    must("cluster.name", Kind::Text, "The cluster's name, in every audit log's origin. Never changes."),
    set("cluster.zone", Kind::Text, "global", "The residency zone that this cluster's members form."),
    must("cluster.residency", Kind::Residency, "Which regions the zone's data may be in. Unknown names are refused."),
    set("cluster.partitions", Kind::Integer(1, 1024), "48", "Partition groups. Fixed when the cluster is initialised."),
    set("cluster.replicas", Kind::Integer(1, 7), "3", "Voters of each group."),
    set(
        "cluster.bootstrap",
        Kind::Flag,
        "false",
        "These nodes may initialise the cluster when their folders are empty.",
    ),
    must("node.id", Kind::Integer(1, u64::MAX), "This node's id, unique for ever."),
    must("node.region", Kind::Region, "The region that this node stands in. Unknown names are refused."),
    must("node.data_dir", Kind::Path, "Log, snapshots and audit segments."),
    set("listen.http", Kind::Listen, "127.0.0.1:8000", "HTTP door."),
    set("listen.quic", Kind::Listen, "127.0.0.1:9000", "QUIC door for clients (UDP)."),
    set("listen.peer", Kind::Listen, "127.0.0.1:9100", "QUIC endpoint for other nodes (UDP, mutual TLS)."),
    set("raft.heartbeat_ms", Kind::Integer(20, 10_000), "200", "Heartbeat interval."),
    set("raft.election_min_ms", Kind::Integer(50, 60_000), "600", "Lower bound of the election timeout."),
    set(
        "raft.election_max_ms",
        Kind::Integer(60, 60_000),
        "900",
        "Upper bound of the election timeout; the leader lease.",
    ),
    set("door.body_bytes_max", Kind::Integer(1_024, 1_000_000), "262144", "The largest HTTP body accepted."),
    Key {
        secret: true,
        required: false,
        ..must("door.admin_token", Kind::Text, "Bearer token of administrators; absent leaves administration open.")
    },
    must("tls.ca", Kind::Path, "The cluster's certificate authority, PEM."),
    must("tls.cert", Kind::Path, "This node's certificate, PEM."),
    must("tls.key", Kind::Path, "This node's private key, PEM."),
    must("keys.keyring", Kind::Path, "Ring and signing keys, sealed. Back it up apart from the data."),
    must(
        "keys.kek",
        Kind::Path,
        "64 hex digits: the key under which the keyring is sealed. Keep it apart from the keyring.",
    ),
    Key {
        required: false,
        ..must(
            "taxonomy.file",
            Kind::Path,
            "The ethical taxonomy that explains decisions; absent takes the built-in one.",
        )
    },
    set(
        "audit.witnesses",
        Kind::Witnesses,
        "",
        "Who is shown the cluster log's checkpoints: `URL VKEY`, with commas between several. The same on every node.",
    ),
    set(
        "audit.warm_after_s",
        Kind::Integer(0, 1 << 40),
        "604800",
        "Audit segments whose newest entry is older than this many seconds are moved to the warm tier; 0 never moves one.",
    ),
    set(
        "audit.cold_url",
        Kind::Objects,
        "",
        "Object store of the cold tier: file:///FOLDER, s3://, gs:// or az://BUCKET/PREFIX; empty for none. The same on every node.",
    ),
    set(
        "audit.cold_after_s",
        Kind::Integer(0, 1 << 40),
        "2592000",
        "Warm segments whose newest entry is older than this many seconds are moved to audit.cold_url; 0 never moves one.",
    ),
    set(
        "audit.promoted_bytes",
        Kind::Integer(0, 1 << 50),
        "1073741824",
        "Bytes of this node's disk for parts of cold files that were read again; 0 keeps none.",
    ),
    set("log.level", Kind::Text, "info", "error, warn, info, debug, trace, or a tracing filter."),
    set("log.format", Kind::Word(&["text", "json"]), "text", "How log lines look."),
];

/// The setting of that path.
pub fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The setting that an environment variable sets.
pub fn key_of_variable(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable() == name)
}

/// The known path closest to a mistyped one, where one is close.
pub fn nearest(path: &str) -> Option<&'static str> {
    let leaf = |text: &'static str| text.rsplit('.').next().unwrap_or(text);
    let typed = path.rsplit('.').next().unwrap_or(path);
    KEYS.iter()
        .map(|key| (distance(path, key.path).min(distance(typed, leaf(key.path)) + 1), key.path))
        .filter(|(steps, _)| *steps <= 3)
        .min()
        .map(|(_, path)| path)
}

/// Levenshtein's distance, over bytes: names are ASCII.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, byte) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (to, other) in right.bytes().enumerate() {
            let change = diagonal + usize::from(byte != other);
            diagonal = row[to + 1];
            row[to + 1] = change.min(diagonal + 1).min(row[to] + 1);
        }
    }
    row[right.len()]
}

/// What is wrong with a value of that kind, in words that say what to write instead.
pub fn fault(kind: Kind, value: &str) -> Option<String> {
    let one_of = |what: &str, words: &[&str]| Some(format!("{value:?} is no {what}; known are {}", words.join(", ")));
    match kind {
        Kind::Text | Kind::Path if value.trim().is_empty() => Some("must not be empty".to_owned()),
        Kind::Text if value.len() > 256 => Some("has more than 256 bytes".to_owned()),
        Kind::Text | Kind::Path => None,
        Kind::Listen => value
            .parse::<std::net::SocketAddr>()
            .err()
            .map(|_| format!("{value:?} is no address to bind; write ip:port, as in 127.0.0.1:8000")),
        Kind::Integer(from, to) => match value.parse::<u64>() {
            Ok(number) if (from..=to).contains(&number) => None,
            _ if to == u64::MAX => Some(format!("{value:?} is no integer from {from} up")),
            _ => Some(format!("{value:?} is no integer from {from} to {to}")),
        },
        Kind::Witnesses => Witness::parse_list(value).err(),
        Kind::Objects if value.is_empty() => None,
        Kind::Objects => Place::parse(value).err(),
        Kind::Flag if value == "true" || value == "false" => None,
        Kind::Flag => Some(format!("{value:?} is neither true nor false")),
        Kind::Word(words) if words.contains(&value) => None,
        Kind::Word(words) => one_of("known word", words),
        Kind::Region if region::REGIONS.contains(&value) => None,
        Kind::Region => one_of("known region", &region::REGIONS),
        Kind::Residency if region::residency(value).is_some() => None,
        Kind::Residency => {
            one_of("known residency policy", &region::POLICIES.iter().map(|policy| policy.name).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_satisfy_their_own_kinds() {
        for key in KEYS {
            if let Some(value) = key.default {
                assert_eq!(fault(key.kind, value), None, "{}", key.path);
            }
        }
    }

    #[test]
    fn a_mistyped_path_finds_its_neighbour() {
        assert_eq!(nearest("node.regoin"), Some("node.region"));
        assert_eq!(nearest("data_dir"), Some("node.data_dir"));
        assert_eq!(nearest("something.else.entirely"), None);
    }

    #[test]
    fn faults_are_found() {
        for (kind, bad) in [
            (Kind::Listen, "localhost"),
            (Kind::Integer(1, 7), "8"),
            (Kind::Integer(1, 7), "-1"),
            (Kind::Flag, "yes"),
            (Kind::Region, "us-west-1"),
            (Kind::Residency, "MARS_STRICT"),
            (Kind::Text, " "),
            (Kind::Objects, "https://store.example.org/bucket"),
            (Kind::Objects, "cold"),
        ] {
            assert!(fault(kind, bad).is_some(), "{kind:?} accepted {bad:?}");
        }
    }
}
