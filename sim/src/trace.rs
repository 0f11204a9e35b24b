//! What happened in a run, one line an event, and the SHA-256 over all lines.
//!
//! Two runs of one seed must have equal lines. So nothing goes in here that belongs to a process: no addresses, no
//! process ids, no actor ids, no task ids, no real time.

use std::fmt::Arguments;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use nethical_protocol::ids::NodeId;

/// The trace of a run. A clone is the same trace.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    digest: Sha256,
    events: u64,
    /// Kept only where somebody wants to read them: a run has tens of thousands.
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace; with `keep`, its lines can be read afterwards.
    pub fn new(keep: bool) -> Self {
        let lines = keep.then(Vec::new);
        Self { inner: Arc::new(Mutex::new(Inner { digest: Sha256::new(), events: 0, lines })) }
    }

    /// Adds an event: when, on which node (none for what is outside of nodes), of which kind, and what about it.
    pub fn event(&self, at: Duration, node: Option<NodeId>, kind: &str, what: Arguments<'_>) {
        let place = node.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let line = format!("{:>10.6} {place} {kind} {what}", at.as_secs_f64());
        let mut inner = self.inner.lock();
        inner.digest.update(line.as_bytes());
        inner.digest.update(b"\n");
        inner.events += 1;
        if let Some(lines) = &mut inner.lines {
            lines.push(line);
        }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.inner.lock().events
    }

    /// SHA-256 over all lines so far, lower-case hex.
    pub fn digest(&self) -> String {
        hex::encode(self.inner.lock().digest.clone().finalize())
    }

    /// The lines, where they were kept.
    pub fn take_lines(&self) -> Vec<String> {
        self.inner.lock().lines.take().unwrap_or_default()
    }
}

/// The first eight bytes of the SHA-256 of a payload: enough to tell two runs apart, short enough to read.
pub fn payload_digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_time_place_kind_and_words() {
        let digest_of = |at: u64, node: u64, kind: &str, word: &str| {
            let trace = Trace::new(false);
            trace.event(Duration::from_millis(at), Some(NodeId(node)), kind, format_args!("{word}"));
            trace.digest()
        };
        let base = digest_of(1, 1, "a", "b");
        assert_eq!(base, digest_of(1, 1, "a", "b"));
        for other in
            [digest_of(2, 1, "a", "b"), digest_of(1, 2, "a", "b"), digest_of(1, 1, "c", "b"), digest_of(1, 1, "a", "d")]
        {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn lines_are_kept_only_on_demand() {
        for keep in [false, true] {
            let trace = Trace::new(keep);
            trace.event(Duration::from_secs(1), None, "power-loss", format_args!("all"));
            assert_eq!(trace.take_lines().len(), usize::from(keep));
            assert_eq!(trace.events(), 1);
        }
    }
}
