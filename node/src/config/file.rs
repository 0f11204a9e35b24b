//! Reads a TOML configuration file into settings with their lines. Knows the shape of the file, not its meaning.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind};
use super::{ConfigProblem, Origin, Severity};

/// A setting as a layer gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub key: &'static Key,
    /// The value, as text.
    pub value: String,
    /// Who says so.
    pub origin: Origin,
}

/// One `[[peers]]` entry before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPeer {
    /// The fields that are there, as text.
    pub fields: Vec<(String, String, Origin)>,
    /// Where the entry begins.
    pub origin: Origin,
}

/// What a file says.
#[derive(Debug, Clone, Default)]
pub struct FileContent {
    /// Settings in file order.
    pub settings: Vec<Setting>,
    /// Members in file order.
    pub peers: Vec<RawPeer>,
    /// What is wrong with the shape.
    pub problems: Vec<ConfigProblem>,
}

/// The fields of a `[[peers]]` entry.
pub const PEER_FIELDS: [&str; 5] = ["id", "region", "peer", "http", "quic"];

/// Reads a file's text. `path` is only used to name places.
pub fn read(path: &str, text: &str) -> FileContent {
    let mut reader = Reader { path, text, content: FileContent::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.complain(at, format!("not valid TOML: {}", error.message()));
    }
    reader.table("", table.get_ref());
    reader.content
}

struct Reader<'t> {
    path: &'t str,
    text: &'t str,
    content: FileContent,
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = 1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn complain(&mut self, at: usize, message: impl Into<String>) {
        let origin = self.origin(at);
        self.content.problems.push(ConfigProblem::at(Severity::Error, &origin, message));
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let at = name.span().start;
            match value.get_ref() {
                DeValue::Array(entries) if path == "peers" => {
                    for entry in entries.iter() {
                        self.peer(entry);
                    }
                }
                DeValue::Table(inner) if prefix.is_empty() && path != "peers" => self.table(&path, inner),
                found => match keys::key(&path) {
                    Some(key) => self.setting(key, at, found),
                    None => self.complain(at, unknown(&path)),
                },
            }
        }
    }

    fn setting(&mut self, key: &'static Key, at: usize, found: &DeValue<'_>) {
        let wanted = match key.kind {
            Kind::Integer(..) => "integer",
            Kind::Flag => "boolean",
            _ => "string",
        };
        if found.type_str() != wanted {
            return self.complain(at, format!("{} must be a TOML {wanted}, not {}", key.path, found.type_str()));
        }
        let Some(value) = scalar(found) else {
            return self.complain(at, format!("{} is not written in decimal", key.path));
        };
        let origin = self.origin(at);
        self.content.settings.push(Setting { key, value, origin });
    }

    fn peer(&mut self, entry: &Spanned<DeValue<'_>>) {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            return self.complain(at, "each entry of peers must be a table: [[peers]]");
        };
        let mut fields = Vec::new();
        for (name, value) in table {
            let at = name.span().start;
            let (name, wanted) = (name.get_ref().as_ref(), if name.get_ref() == "id" { "integer" } else { "string" });
            match scalar(value.get_ref()) {
                _ if !PEER_FIELDS.contains(&name) => {
                    self.complain(at, format!("a member has no field {name}; it has {}", PEER_FIELDS.join(", ")));
                }
                Some(text) if value.get_ref().type_str() == wanted => {
                    fields.push((name.to_owned(), text, self.origin(at)));
                }
                _ => self.complain(at, format!("{name} must be a TOML {wanted}")),
            }
        }
        let origin = self.origin(at);
        self.content.peers.push(RawPeer { fields, origin });
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn unknown(path: &str) -> String {
    match keys::nearest(path) {
        Some(near) => format!("there is no setting {path}; did you mean {near}?"),
        None => format!("there is no setting {path}; config/reference.toml lists them all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_carry_their_lines_and_every_fault_is_reported() {
        let text = "[node]\nid = 7\nregoin = \"us-east-1\"\n\n[raft]\nheartbeat_ms = \"fast\"\n\n[[peers]]\nid = 1\nport = 3\n";
        let content = read("n.toml", text);
        assert_eq!(content.settings.len(), 1);
        assert_eq!(content.settings[0].origin, Origin::File { path: "n.toml".into(), line: 2 });
        let told: Vec<String> = content.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|line| line == "n.toml:3: there is no setting node.regoin; did you mean node.region?"));
        assert!(told.iter().any(|line| line.starts_with("n.toml:6: raft.heartbeat_ms must be a TOML integer")));
        assert!(told.iter().any(|line| line.starts_with("n.toml:10: a member has no field port")));
        assert_eq!(content.peers.len(), 1);
    }

    #[test]
    fn broken_toml_is_a_problem_with_a_line() {
        let content = read("n.toml", "[node]\nid = = 3\n");
        assert!(content.problems.iter().any(|problem| problem.line == Some(2)), "{:?}", content.problems);
    }
}
