//! What the audit trail costs and what it gives, on logs of made-up traffic with bodies, in a temporary folder.
//!
//! `cargo bench -p nethical-cluster --bench audit -- [RECORDS] [own]` (`just bench audit`, `just bench audit-10m`): bytes a record by
//! what they are for, the cost of tree and signatures, a segment as a cold file and its words as an index, first pages, point reads, and a verification of
//! everything. Looks for room on the disk first. With `own`, bodies are packed with a dictionary that was trained on others like
//! them. Measures and prints; of time it asserts nothing.
#![allow(clippy::disallowed_methods, reason = "a bench is the outermost layer: it measures time and writes files")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nethical_audit::body::{Dictionaries, Dictionary};
use nethical_protocol::ids::{GroupId, LogId};

#[path = "../../tests/made_up/prose.rs"]
mod made_up;

mod cold;
mod dictionary;
mod prove;
mod questions;
mod text;
mod traffic;
mod write;

use made_up::Prose;
use traffic::Traffic;
use write::{PARTS, Written};

const CLUSTER: &str = "bench";
/// Signs checkpoints.
const SEED: [u8; 32] = [5; 32];
/// Half of them are written, and verified, by each of two threads.
const LOGS: [LogId; 4] = [log(2), log(3), log(4), log(5)];
/// Room that a record is given on the disk before anything is written; it takes about two thirds of that.
const ROOM_BYTES: u64 = 1_500;
const PROGRESS: u64 = 1_000_000;

const fn log(group: u32) -> LogId {
    LogId { group: GroupId(group), era: 1 }
}

/// Stops where the disk cannot take it.
fn look_for_room(folder: &Path, records: u64) {
    let stat = rustix::fs::statvfs(folder).expect("the file system tells");
    let (free, wanted) = (stat.f_bavail * stat.f_frsize, records * ROOM_BYTES);
    if free < wanted {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        println!("{} has {:.1} GiB free, {records} records want {:.1}", folder.display(), gib(free), gib(wanted));
        std::process::exit(2);
    }
}

/// Writes all logs, two at a time; gives the first one's traffic.
fn write_all(folder: &Path, records: u64, prose: &Prose, own: Option<&Dictionary>) -> (Traffic, Written) {
    let (done, begun) = (AtomicU64::new(0), Instant::now());
    let tick = || {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(PROGRESS) {
            eprintln!("  {done} written, {:.0}/s", done as f64 / begun.elapsed().as_secs_f64());
        }
    };
    let each = records / LOGS.len() as u64;
    let some =
        |logs: &[LogId]| logs.iter().map(|log| write::log(folder, *log, (prose, own), each, &tick)).collect::<Vec<_>>();
    let (first, second) = LOGS.split_at(LOGS.len() / 2);
    let logs = std::thread::scope(|scope| {
        let other = scope.spawn(|| some(second));
        let mut logs = some(first);
        logs.extend(other.join().expect("it writes"));
        logs
    });
    let mut sum = Written::default();
    logs.iter().for_each(|(_, written)| sum.add(written));
    println!("{} records in {:.1} s", sum.records, begun.elapsed().as_secs_f64());
    (logs.into_iter().next().expect("a log").0, sum)
}

fn tell(written: &Written) {
    let each = |bytes: u64| bytes as f64 / written.records as f64;
    let raw = written.raw_body_bytes + written.leaf_bytes;
    println!(
        "bytes a record: body {:.0}, packed and sealed {:.0}",
        each(written.raw_body_bytes),
        each(written.body_bytes)
    );
    println!(
        "       leaf {:.0}; file, with frames, tree and index: {:.0}",
        each(written.leaf_bytes),
        each(written.file_bytes)
    );
    println!(
        "       bodies {:.2}:1, everything {:.2}:1",
        written.raw_body_bytes as f64 / written.body_bytes as f64,
        raw as f64 / written.file_bytes as f64
    );
    let closed = written.closed.max(1) as f64;
    println!("index: {:.2} B a record of closed segments", written.index_bytes as f64 / closed);
    let parts =
        PARTS.iter().zip(written.part_bytes).map(|(name, bytes)| format!("{name} {:.2}", bytes as f64 / closed));
    println!("       of it: {}", parts.collect::<Vec<_>>().join(", "));
    println!("       closing segments: {:.0} records/s", closed / written.closing.as_secs_f64().max(1e-9));
}

fn main() {
    let records = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200_000u64).next_multiple_of(4);
    let folder = tempfile::tempdir().expect("a temporary folder");
    look_for_room(folder.path(), records);
    prove::tree_and_signatures(LOGS[0]);
    let prose = Prose::of(&["docs/behaviour.md", "docs/detect.md", "docs/correlation.md", "sim/README.md"]);
    let own = Arc::new(dictionary::measure(&prose));
    let mut known = Dictionaries::default();
    known.add(Arc::clone(&own));
    let own = std::env::args().any(|argument| argument == "own").then_some(&*own);
    let (traffic, written) = write_all(folder.path(), records, &prose, own);
    tell(&written);
    cold::measure(folder.path(), LOGS[0], &known);
    text::measure(folder.path(), LOGS[0], &known);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let each = records / LOGS.len() as u64;
    runtime.expect("a runtime").block_on(questions::measure(folder.path(), &LOGS, traffic, each));
    prove::tell(folder.path(), &LOGS, records);
}
