//! Reads env files and the environment: our own `NETHICAL_*` names and both dialects of the older system's ten region
//! files, so that an operator can point a node at the file that they already have.
//!
//! Each older key has an explicit meaning here: it sets something, or it names what is always on, or it is accepted
//! without effect and says what to use instead. A key that this table does not know is reported.

use super::file::Setting;
use super::keys;
use super::{ConfigProblem, Origin, Severity};

/// What an older key means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It sets this path.
    Sets(&'static str),
    /// It turns something on that cannot be turned off here.
    AlwaysOn(&'static str),
    /// It is accepted; nothing happens, for this reason.
    NoEffect(&'static str),
}

use Meaning::{AlwaysOn, NoEffect, Sets};

const REDIS: Meaning = NoEffect("there is no Redis here: quotas live in the cluster's own replicated ledger");
const LIMITS: Meaning = NoEffect("capacity is given by limits: use `nethical limit set`");
const OTLP: Meaning = NoEffect("this release exports metrics at /metrics and no OTLP");
const TIERING: Meaning =
    NoEffect("audit segments move by age: audit.warm_after_s, audit.cold_url and audit.cold_after_s");
const PRIVACY: Meaning = NoEffect("bodies are always sealed before they are replicated; privacy modes come later");
const SCORING: Meaning =
    NoEffect("detectors and risk are integers fixed per release; blending and shadow scoring come later");
const WATCHED: Meaning = NoEffect("what is usual for an agent is always watched (docs/behaviour.md)");
const TAXONOMY: Meaning = NoEffect("there always is a taxonomy; taxonomy.file names another one than the built-in");
const SIZING: Meaning = NoEffect("pools, caches and threads size themselves here");
const FAILOVER: Meaning = NoEffect("failover is by quorum among [[peers]], never by a list of other regions");

/// Both dialects. The order is that of the older system's documentation.
pub const DIALECT: &[(&str, Meaning)] = &[
    ("NETHICAL_REGION_ID", Sets("node.region")),
    ("NETHICAL_STORAGE_DIR", Sets("node.data_dir")),
    ("NETHICAL_MAX_PAYLOAD_BYTES", Sets("door.body_bytes_max")),
    ("NETHICAL_DATA_RESIDENCY_POLICY", Sets("cluster.residency")),
    ("LOG_LEVEL", Sets("log.level")),
    ("LOG_FORMAT", Sets("log.format")),
    ("NETHICAL_LOGICAL_DOMAIN", NoEffect("domains are tenants here: use `nethical tenant put`")),
    ("NETHICAL_REQUESTS_PER_SECOND", LIMITS),
    ("NETHICAL_PEAK_REQUESTS_PER_SECOND", LIMITS),
    ("NETHICAL_MAX_CONCURRENT_AGENTS", LIMITS),
    ("NETHICAL_MAX_ACTIONS_STORED", TIERING),
    ("NETHICAL_ENABLE_QUOTA", AlwaysOn("limits")),
    ("NETHICAL_ENABLE_QUARANTINE", AlwaysOn("hold-orders")),
    ("NETHICAL_ENABLE_MERKLE", AlwaysOn("the Merkle log")),
    ("NETHICAL_ENABLE_MERKLE_ANCHORING", AlwaysOn("the Merkle log")),
    ("NETHICAL_METRICS_ENABLED", AlwaysOn("/metrics")),
    ("NETHICAL_HEALTH_CHECK_ENABLED", AlwaysOn("/livez and /readyz")),
    ("NETHICAL_ENABLE_ENCRYPTION", AlwaysOn("TLS between nodes and sealing of bodies")),
    ("NETHICAL_ENABLE_OTEL", OTLP),
    ("NETHICAL_ENABLE_PERFORMANCE_OPTIMIZATION", SIZING),
    ("NETHICAL_ENABLE_ANOMALY_DETECTION", WATCHED),
    ("NETHICAL_ENABLE_SLA_MONITORING", NoEffect("latency and availability are metrics; SLA reports come later")),
    ("NETHICAL_ENABLE_COMPRESSION", TIERING),
    ("NETHICAL_COMPRESSION_LEVEL", TIERING),
    ("NETHICAL_ENABLE_ML_BLENDING", SCORING),
    ("NETHICAL_ENABLE_ML_SHADOW", SCORING),
    ("NETHICAL_ENABLE_SHADOW_MODE", SCORING),
    ("NETHICAL_ENABLE_ETHICAL_TAXONOMY", TAXONOMY),
    ("NETHICAL_ENABLE_TAXONOMY", TAXONOMY),
    ("NETHICAL_AUTO_ESCALATE_ON_BLOCK", NoEffect("escalation is a policy's @verdict(\"escalate\")")),
    ("NETHICAL_AUTO_ESCALATE_ON_LOW_CONFIDENCE", NoEffect("escalation is a policy's @verdict(\"escalate\")")),
    ("NETHICAL_ENABLE_AUTO_ESCALATION", NoEffect("escalation is a policy's @verdict(\"escalate\")")),
    ("NETHICAL_ENABLE_POLICY_DIFF", NoEffect("policies are content-addressed; compare the texts")),
    ("NETHICAL_PRIVACY_MODE", PRIVACY),
    ("NETHICAL_EPSILON", PRIVACY),
    ("NETHICAL_REDACTION_POLICY", PRIVACY),
    ("NETHICAL_ENABLE_ENHANCED_REDACTION", PRIVACY),
    ("NETHICAL_ENABLE_DIFFERENTIAL_PRIVACY", PRIVACY),
    ("NETHICAL_ENABLE_RTBF", PRIVACY),
    ("NETHICAL_ENABLE_DSR", PRIVACY),
    ("NETHICAL_ENABLE_DATA_MINIMIZATION", PRIVACY),
    ("NETHICAL_ENABLE_PIA_LOGGING", PRIVACY),
    ("NETHICAL_COMPLIANCE_REQUIREMENTS", NoEffect("compliance follows from the residency policy")),
    ("NETHICAL_RISK_DECAY_RATE", SCORING),
    ("NETHICAL_RULE_WEIGHT", SCORING),
    ("NETHICAL_ML_WEIGHT", SCORING),
    ("NETHICAL_LOW_CONFIDENCE_THRESHOLD", SCORING),
    ("NETHICAL_ANOMALY_SEQUENCE_THRESHOLD", SCORING),
    ("NETHICAL_ANOMALY_WINDOW_SIZE", SCORING),
    ("NETHICAL_HOT_STORAGE_DAYS", TIERING),
    ("NETHICAL_WARM_STORAGE_DAYS", TIERING),
    ("NETHICAL_COLD_STORAGE_DAYS", TIERING),
    ("NETHICAL_ENABLE_STORAGE_TIERING", TIERING),
    ("NETHICAL_HEALTH_CHECK_INTERVAL", NoEffect("health is computed when it is asked")),
    ("HEALTH_CHECK_INTERVAL_SECONDS", NoEffect("health is computed when it is asked")),
    ("NETHICAL_METRICS_PORT", NoEffect("metrics are served by the HTTP door")),
    ("NETHICAL_REDIS_URL", REDIS),
    ("NETHICAL_REDIS_MAX_CONNECTIONS", REDIS),
    ("NETHICAL_REDIS_TIMEOUT", REDIS),
    ("REDIS_HOST", REDIS),
    ("REDIS_PORT", REDIS),
    ("REDIS_DB", REDIS),
    ("REDIS_TTL_SECONDS", REDIS),
    ("NETHICAL_WORKER_THREADS", SIZING),
    ("NETHICAL_DB_POOL_SIZE", SIZING),
    ("NETHICAL_CACHE_SIZE_MB", SIZING),
    ("NETHICAL_BATCH_SIZE", SIZING),
    ("OTEL_EXPORTER", OTLP),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", OTLP),
    ("OTEL_SERVICE_NAME", OTLP),
    ("OTEL_RESOURCE_ATTRIBUTES", OTLP),
    ("LOG_DESTINATION", NoEffect("logs go to standard error; let the service manager keep them")),
    ("LOG_FILE", NoEffect("logs go to standard error; let the service manager keep them")),
    ("ENABLE_FAILOVER", AlwaysOn("failover")),
    ("FAILOVER_REGIONS", FAILOVER),
];

/// Variables of the command line that are no settings of a node.
const CLIENT_VARIABLES: [&str; 3] = ["NETHICAL_ENDPOINT", "NETHICAL_CA", "NETHICAL_TOKEN"];

/// What a set of variables says.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Settings, in order.
    pub settings: Vec<Setting>,
    /// Warnings, and errors of shape.
    pub problems: Vec<ConfigProblem>,
}

impl Variables {
    /// Takes one variable. Names that are neither ours nor in the dialect are reported where `strict` (env files).
    pub fn take(&mut self, name: &str, value: &str, origin: Origin, strict: bool) {
        if let Some(key) = keys::key_of_variable(name) {
            self.settings.push(Setting { key, value: value.to_owned(), origin });
            return;
        }
        let meaning = DIALECT.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
        let text = match meaning {
            Some(Sets(path)) => return self.map(path, name, value, origin),
            Some(AlwaysOn(_)) if value.eq_ignore_ascii_case("true") => return,
            Some(AlwaysOn(what)) => format!("{name} asks to turn off {what}, which is always on here"),
            Some(NoEffect(why)) => format!("{name} has no effect: {why}"),
            None if CLIENT_VARIABLES.contains(&name) => return,
            None if strict || name.starts_with("NETHICAL_") => format!("{name} is not known here and has no effect"),
            None => return,
        };
        self.problems.push(ConfigProblem::at(Severity::Warning, &origin, text));
    }

    fn map(&mut self, path: &str, name: &str, value: &str, origin: Origin) {
        let key = keys::key(path).expect("the dialect names settings of the table only; a test checks it");
        let value = if name.starts_with("LOG_") { value.to_lowercase() } else { value.to_owned() };
        self.settings.push(Setting { key, value, origin });
    }
}

/// Reads an env file: `NAME=value` lines, `#` comments, optional quotes and `export`.
pub fn read_env_file(path: &str, text: &str) -> Variables {
    let mut variables = Variables::default();
    for (index, line) in text.lines().enumerate() {
        let origin = Origin::File { path: path.to_owned(), line: index + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=') {
            Some((name, value)) => variables.take(name.trim(), unquote(value.trim()), origin, true),
            None => {
                let message = format!("{line:?} is not NAME=value");
                variables.problems.push(ConfigProblem::at(Severity::Error, &origin, message));
            }
        }
    }
    variables
}

/// Reads the process environment as given: only names of the table, of the older `NETHICAL_*` keys, and unknown
/// `NETHICAL_*` names count; `LOG_LEVEL` and `OTEL_*` of other programs are left alone.
pub fn read_environment(variables: impl Iterator<Item = (String, String)>) -> Variables {
    let mut taken = Variables::default();
    for (name, value) in variables.filter(|(name, _)| name.starts_with("NETHICAL_")) {
        let origin = Origin::Environment(name.clone());
        taken.take(&name, &value, origin, false);
    }
    taken
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_maps_to_real_settings_and_names_each_key_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, meaning) in DIALECT {
            assert!(seen.insert(name), "{name} twice");
            if let Sets(path) = meaning {
                assert!(keys::key(path).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn both_dialects_are_read_and_redis_is_ignored_with_a_warning() {
        let text = "# region\nNETHICAL_REGION_ID=eu-west-1\nexport LOG_LEVEL=\"INFO\"\nNETHICAL_ENABLE_MERKLE=true\n\
                    NETHICAL_ENABLE_QUOTA=false\nNETHICAL_REDIS_URL=redis://x\nREDIS_HOST=y\nNETHICAL_NEW_THING=1\nnonsense\n";
        let read = read_env_file("eu.env", text);
        let set: Vec<_> = read.settings.iter().map(|setting| (setting.key.path, setting.value.as_str())).collect();
        assert_eq!(set, [("node.region", "eu-west-1"), ("log.level", "info")]);
        let told: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("eu.env:5") && told[0].contains("always on"), "{told:?}");
        assert!(told[1].contains("Redis") && told[2].contains("Redis"), "{told:?}");
        assert!(told[3].contains("NETHICAL_NEW_THING is not known"), "{told:?}");
        assert_eq!(read.problems[4].severity, Severity::Error);
    }

    #[test]
    fn the_process_environment_of_other_programs_is_left_alone() {
        let pairs = [("LOG_LEVEL", "DEBUG"), ("OTEL_EXPORTER", "x"), ("NETHICAL_NODE_ID", "4"), ("NETHICAL_CA", "f")];
        let read = read_environment(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(read.settings.len(), 1);
        assert!(read.problems.is_empty(), "{:?}", read.problems);
    }
}
