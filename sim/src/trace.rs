//! What happened in a run, event by event, and the SHA-256 over all of them.
//!
//! Two runs of one seed must have equal events. So nothing goes in here that belongs to a process: no addresses, no
//! process ids, no actor ids, no task ids, no real time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use nethical_protocol::ids::NodeId;

/// A value of an event.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// A number.
    Number(u64),
    /// Words.
    Text(&'a str),
    /// Yes or no.
    Flag(bool),
    /// Nodes.
    Nodes(&'a [u64]),
    /// Nothing.
    None,
}

/// Bytes that are gathered before they are hashed.
const BUFFER_BYTES: usize = 32 * 1024;

/// The trace of a run. A clone is the same trace.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    digest: Sha256,
    buffer: Vec<u8>,
    events: u64,
    /// Kept only where somebody wants to read them: a run has tens of thousands.
    kept: Option<Vec<Value>>,
}

impl Trace {
    /// An empty trace; with `keep`, its events can be read afterwards.
    pub fn new(keep: bool) -> Self {
        let kept = keep.then(Vec::new);
        let buffer = Vec::with_capacity(BUFFER_BYTES + 1_024);
        Self { inner: Arc::new(Mutex::new(Inner { digest: Sha256::new(), buffer, events: 0, kept })) }
    }

    /// Adds an event: when, on which node (none for what is outside of nodes), of which kind, and what about it.
    pub fn event(&self, at: Duration, node: Option<NodeId>, kind: &'static str, fields: &[(&'static str, Field<'_>)]) {
        let mut inner = self.inner.lock();
        inner.events += 1;
        let buffer = &mut inner.buffer;
        buffer.extend_from_slice(&(at.as_nanos() as u64).to_le_bytes());
        buffer.extend_from_slice(&node.map_or(0, |node| node.0).to_le_bytes());
        put_text(buffer, kind);
        for (name, field) in fields {
            put_text(buffer, name);
            put_field(buffer, field);
        }
        if inner.buffer.len() >= BUFFER_BYTES {
            inner.flush();
        }
        if let Some(kept) = &mut inner.kept {
            kept.push(event_json(at, node, kind, fields));
        }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.inner.lock().events
    }

    /// The same, or `None` where somebody holds the trace for that long: adding an event takes microseconds.
    pub fn events_within(&self, patience: Duration) -> Option<u64> {
        self.inner.try_lock_for(patience).map(|inner| inner.events)
    }

    /// SHA-256 over all events so far, lower-case hex.
    pub fn digest(&self) -> String {
        let mut inner = self.inner.lock();
        inner.flush();
        hex::encode(inner.digest.clone().finalize())
    }

    /// The events, where they were kept.
    pub fn take_events(&self) -> Vec<Value> {
        self.inner.lock().kept.take().unwrap_or_default()
    }
}

impl Inner {
    fn flush(&mut self) {
        self.digest.update(&self.buffer);
        self.buffer.clear();
    }
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend_from_slice(&(text.len() as u32).to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
}

fn put_field(buffer: &mut Vec<u8>, field: &Field<'_>) {
    match field {
        Field::Number(number) => buffer.extend_from_slice(&number.to_le_bytes()),
        Field::Text(text) => put_text(buffer, text),
        Field::Flag(flag) => buffer.push(u8::from(*flag)),
        Field::Nodes(nodes) => nodes.iter().for_each(|node| buffer.extend_from_slice(&node.to_le_bytes())),
        Field::None => buffer.push(2),
    }
}

fn event_json(at: Duration, node: Option<NodeId>, kind: &str, fields: &[(&str, Field<'_>)]) -> Value {
    let mut event = Map::new();
    event.insert("at".to_owned(), Number::from_f64(at.as_secs_f64()).map_or(Value::Null, Value::Number));
    event.insert("node".to_owned(), node.map_or(Value::Null, |node| node.0.into()));
    event.insert("kind".to_owned(), kind.into());
    for (name, field) in fields {
        let value = match field {
            Field::Number(number) => (*number).into(),
            Field::Text(text) => (*text).into(),
            Field::Flag(flag) => (*flag).into(),
            Field::Nodes(nodes) => nodes.to_vec().into(),
            Field::None => Value::Null,
        };
        event.insert((*name).to_owned(), value);
    }
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_time_place_kind_and_fields() {
        let digest_of = |at: u64, node: u64, kind: &'static str, word: &str| {
            let trace = Trace::new(false);
            trace.event(Duration::from_millis(at), Some(NodeId(node)), kind, &[("what", Field::Text(word))]);
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
    fn events_are_kept_only_on_demand_and_look_the_same_to_the_digest() {
        let digests: Vec<String> = [false, true]
            .into_iter()
            .map(|keep| {
                let trace = Trace::new(keep);
                trace.event(Duration::from_secs(1), None, "power", &[("nodes", Field::Nodes(&[1, 2]))]);
                assert_eq!(trace.events(), 1);
                let digest = trace.digest();
                assert_eq!(trace.take_events().len(), usize::from(keep));
                digest
            })
            .collect();
        assert_eq!(digests[0], digests[1]);
    }
}
