//! Lays the layers over each other: default < TOML file < env file < environment < flags. Later layers win key by key.
//!
//! Gives what is in force with its origin, and every problem found on the way, checked by [`super::check`].
#![allow(clippy::disallowed_methods, reason = "configuration files are read before there is a world to read them by")]

use std::path::{Path, PathBuf};

use super::check;
use super::dialect;
use super::file::{self, RawPeer, Setting};
use super::keys::{self, KEYS, Kind};
use super::{ConfigProblem, NodeConfig, Origin, Severity};

/// Where the layers are. `environment` is given by the caller, so that a test has its own.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The TOML file.
    pub config: Option<PathBuf>,
    /// The env file, ours or one of the older region files.
    pub env_file: Option<PathBuf>,
    /// The process environment.
    pub environment: Vec<(String, String)>,
    /// (path of the setting, value, flag as typed).
    pub flags: Vec<(String, String, String)>,
}

/// What the layers say together.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// One setting for each key that has a value, in the order of the table.
    pub effective: Vec<Setting>,
    /// Members as written.
    pub peers: Vec<RawPeer>,
    /// Everything wrong, worst last within a layer.
    pub problems: Vec<ConfigProblem>,
    /// The checked result; `None` where an error or refusal stands in the way.
    pub config: Option<NodeConfig>,
}

impl Loaded {
    /// The worst severity found, where there is any problem.
    pub fn worst(&self) -> Option<Severity> {
        self.problems.iter().map(|problem| problem.severity).max()
    }
}

impl Layers {
    /// Reads, merges and checks everything. Never stops at the first problem.
    pub fn load(&self) -> Loaded {
        let mut problems = Vec::new();
        let (mut settings, peers) = self.read(&mut problems);
        for setting in &mut settings {
            if let Some(fault) = keys::fault(setting.key.kind, &setting.value) {
                let severity = match setting.key.kind {
                    Kind::Region | Kind::Residency => Severity::Refusal,
                    _ => Severity::Error,
                };
                let message = format!("{}: {fault}", setting.key.path);
                problems.push(ConfigProblem::at(severity, &setting.origin, message));
            }
        }
        let effective = merge(settings);
        let config = check::build(&effective, &peers, &mut problems);
        let blocked = problems.iter().any(|problem| problem.severity > Severity::Warning);
        Loaded { effective, peers, problems, config: config.filter(|_| !blocked) }
    }

    /// Reads one env file alone: the values that it sets are checked, what it leaves out is no problem.
    pub fn check_env_file(path: &Path) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let layers = Layers { env_file: Some(path.to_owned()), ..Layers::default() };
        let (settings, _) = layers.read(&mut problems);
        let effective = merge(settings);
        for setting in &effective {
            if let Some(fault) = keys::fault(setting.key.kind, &setting.value) {
                let message = format!("{}: {fault}", setting.key.path);
                problems.push(ConfigProblem::at(Severity::Refusal, &setting.origin, message));
            }
        }
        check::region_fits_residency(&effective, &mut problems);
        problems
    }

    fn read(&self, problems: &mut Vec<ConfigProblem>) -> (Vec<Setting>, Vec<RawPeer>) {
        let mut settings = Vec::new();
        let mut peers = Vec::new();
        if let Some((path, text)) = self.config.as_deref().and_then(|path| text_of(path, problems)) {
            let mut content = file::read(&path, &text);
            anchor_paths(&mut content.settings, Path::new(&path));
            settings.append(&mut content.settings);
            problems.append(&mut content.problems);
            peers = content.peers;
        }
        if let Some((path, text)) = self.env_file.as_deref().and_then(|path| text_of(path, problems)) {
            let mut variables = dialect::read_env_file(&path, &text);
            settings.append(&mut variables.settings);
            problems.append(&mut variables.problems);
        }
        let mut variables = dialect::read_environment(self.environment.iter().cloned());
        settings.append(&mut variables.settings);
        problems.append(&mut variables.problems);
        for (path, value, flag) in &self.flags {
            let origin = Origin::Flag(flag.clone());
            match keys::key(path) {
                Some(key) => settings.push(Setting { key, value: value.clone(), origin }),
                None => {
                    let near = keys::nearest(path).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    let message = format!("there is no setting {path}{near}");
                    problems.push(ConfigProblem::at(Severity::Error, &origin, message));
                }
            }
        }
        (settings, peers)
    }
}

fn text_of(path: &Path, problems: &mut Vec<ConfigProblem>) -> Option<(String, String)> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Some((name, text)),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            problems.push(ConfigProblem { severity: Severity::Error, place: name, line: None, message });
            None
        }
    }
}

/// Relative paths in a file are relative to that file, so that a folder can be moved and a service can start anywhere.
fn anchor_paths(settings: &mut [Setting], file: &Path) {
    let base = file.parent().unwrap_or(Path::new(""));
    for setting in settings.iter_mut().filter(|setting| setting.key.kind == Kind::Path && !setting.value.is_empty()) {
        setting.value = base.join(&setting.value).display().to_string();
    }
}

/// The last layer that names a key wins; keys that nobody names keep their default.
fn merge(settings: Vec<Setting>) -> Vec<Setting> {
    KEYS.iter()
        .filter_map(|key| {
            let said = settings.iter().rev().find(|setting| setting.key == key).cloned();
            let default = || Some(Setting { key, value: key.default?.to_owned(), origin: Origin::Default });
            said.or_else(default)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("temporary folder");
        path
    }

    const GOOD: &str = r#"
[cluster]
name = "test"
residency = "EU_GDPR"
[node]
id = 1
region = "eu-west-1"
data_dir = "data"
[tls]
ca = "ca.pem"
cert = "/abs/cert.pem"
key = "key.pem"
[keys]
keyring = "keyring"
kek = "kek"
[[peers]]
id = 2
region = "eu-central-1"
peer = "b:9100"
http = "b:8000"
quic = "b:9000"
[[peers]]
id = 1
region = "eu-west-1"
peer = "a:9100"
http = "a:8000"
quic = "a:9000"
[[peers]]
id = 3
region = "eu-west-1"
peer = "c:9100"
http = "c:8000"
quic = "c:9000"
"#;

    #[test]
    fn layers_win_in_their_order_and_origins_are_kept() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layers = Layers {
            config: Some(write(dir.path(), "n.toml", &format!("[log]\nlevel = \"warn\"\n{GOOD}"))),
            env_file: Some(write(dir.path(), "n.env", "LOG_LEVEL=ERROR\nNETHICAL_RAFT_HEARTBEAT_MS=150\n")),
            environment: vec![("NETHICAL_LOG_LEVEL".into(), "debug".into())],
            flags: vec![("raft.heartbeat_ms".into(), "100".into(), "--set".into())],
        };
        let loaded = layers.load();
        assert_eq!(loaded.worst(), None, "{:?}", loaded.problems);
        let config = loaded.config.expect("no problems");
        assert_eq!((config.log_level.as_str(), config.heartbeat_ms), ("debug", 100));
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.cert_path, PathBuf::from("/abs/cert.pem"));
        assert_eq!(config.peers.iter().map(|peer| peer.id.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(config.others().count(), 2);
        let level = loaded.effective.iter().find(|setting| setting.key.path == "log.level").expect("set");
        assert_eq!(level.origin, Origin::Environment("NETHICAL_LOG_LEVEL".into()));
    }

    #[test]
    fn all_problems_come_at_once_and_a_member_abroad_is_a_refusal() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let bad = GOOD
            .replace("eu-central-1", "us-east-1")
            .replace("id = 3", "id = 2")
            .replace("keyring = \"keyring\"", "keyrin = \"keyring\"");
        let layers = Layers {
            config: Some(write(dir.path(), "n.toml", &bad)),
            flags: vec![("raft.election_min_ms".into(), "5000".into(), "--set".into())],
            ..Layers::default()
        };
        let loaded = layers.load();
        assert!(loaded.config.is_none());
        let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        for wanted in ["did you mean keys.keyring", "keys.keyring is missing", "EU_GDPR", "node id 2 twice", "election"]
        {
            assert!(told.iter().any(|line| line.contains(wanted)), "{wanted:?} not in {told:#?}");
        }
        assert_eq!(loaded.worst(), Some(Severity::Refusal));
    }

    #[test]
    fn unknown_regions_and_policies_are_refusals_in_every_layer() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for text in ["NETHICAL_REGION_ID=us-west-1\n", "NETHICAL_DATA_RESIDENCY_POLICY=MARS_STRICT\n"] {
            let problems = Layers::check_env_file(&write(dir.path(), "r.env", text));
            assert!(problems.iter().any(|problem| problem.severity == Severity::Refusal), "{text}: {problems:?}");
        }
        let fine = "NETHICAL_REGION_ID=eu-west-1\nNETHICAL_DATA_RESIDENCY_POLICY=EU_GDPR\nNETHICAL_STORAGE_DIR=/d\n";
        assert!(Layers::check_env_file(&write(dir.path(), "r.env", fine)).is_empty());
        let abroad = "NETHICAL_REGION_ID=us-east-1\nNETHICAL_DATA_RESIDENCY_POLICY=EU_GDPR\n";
        let problems = Layers::check_env_file(&write(dir.path(), "r.env", abroad));
        assert_eq!(problems.iter().map(|problem| problem.severity).max(), Some(Severity::Refusal));
    }
}
