//! What the tree and its signatures cost a decision, and how long it takes to verify everything that was written.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nethical_audit::body::Dictionaries;
use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::generations::Generations;
use nethical_audit::note::Signer;
use nethical_audit::tree::{Frontier, leaf_hash};
use nethical_audit::verify::{GroupLog, Report, Verifier};
use nethical_cluster::store::dir_of;
use nethical_cluster::world::ahead::read_ahead;
use nethical_protocol::ids::LogId;

use crate::traffic::Traffic;
use crate::{CLUSTER, SEED};

/// Decisions that the cost of a tree is measured over.
const HASHED: u64 = 200_000;
/// Decisions a second whose tree and signatures may take a tenth of a core.
const RATE: f64 = 50_000.0;

/// Time that this thread had on a core: other people's load does not count.
pub fn on_core_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts a thread's time");
    text.split_whitespace().next().and_then(|first| first.parse().ok()).expect("nanoseconds first")
}

/// Hashes leaves into a tree and signs it after every batch, as apply and its batcher do.
pub fn tree_and_signatures(log: LogId) {
    let mut traffic = Traffic::new(log.group.0);
    let leaves: Vec<Vec<u8>> = (0..HASHED).map(|index| traffic.leaf(index, [7; 32]).encode()).collect();
    let bytes: usize = leaves.iter().map(Vec::len).sum();
    println!("tree and signatures, leaves of {} B:", bytes / leaves.len());
    let origin = log.origin(CLUSTER);
    let signer = Signer::from_seed(&origin, &SEED).expect("a name");
    for batch in [16, 64, 256] {
        let (mut tree, mut signed, begun) = (Frontier::default(), 0, on_core_ns());
        for batch in leaves.chunks(batch) {
            batch.iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
            let note = Checkpoint { origin: origin.clone(), size: tree.size(), root: tree.root() }.sign(&signer);
            signed += usize::from(!note.is_empty());
        }
        let each = (on_core_ns() - begun) as f64 / HASHED as f64;
        println!(
            "  a signature every {batch:>3} decisions: {each:>5.0} ns a decision, {:.3} cores at {RATE}/s ({signed} signed)",
            each * RATE / 1e9
        );
    }
}

/// Verifies all logs, one thread for every second one; gives their reports.
pub fn verify(folder: &Path, logs: &[LogId]) -> Vec<Report> {
    let half = logs.len().div_ceil(2);
    std::thread::scope(|scope| {
        let one = |logs: &[LogId]| logs.iter().map(|log| verify_log(folder, *log)).collect::<Vec<_>>();
        let (first, second) = logs.split_at(half);
        let other = scope.spawn(move || one(second));
        let mut reports = one(first);
        reports.extend(other.join().expect("it verifies"));
        reports
    })
}

fn verify_log(folder: &Path, log: LogId) -> Report {
    let folder = folder.join(dir_of(log));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("a folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg" || extension == "warm"))
        .collect();
    files.sort();
    let names = files.iter().map(|path| path.display().to_string());
    let key = Signer::from_seed(&log.origin(CLUSTER), &SEED).expect("a name").verifier_key();
    let checkpoints = vec![std::fs::read_to_string(folder.join("checkpoint")).expect("a checkpoint")];
    let verifier = Verifier {
        cluster: CLUSTER,
        keys: &[key],
        generations: &Generations::default(),
        body_keys: None,
        dictionaries: &Dictionaries::default(),
    };
    read_ahead(&files, |contents| verifier.verify([GroupLog { log, segments: names.zip(contents), checkpoints }]))
}

/// Verifies, tells how long that took, and stops where anything does not fit.
pub fn tell(folder: &Path, logs: &[LogId], records: u64) {
    let begun = Instant::now();
    let reports = verify(folder, logs);
    let took = begun.elapsed().as_secs_f64();
    for report in &reports {
        assert!(report.ok && report.checkpoints == 1, "{report:?}");
    }
    let entries: u64 = reports.iter().map(|report| report.entries).sum();
    assert_eq!(entries, records, "every decision is there");
    println!("verified: {entries} entries of {} logs in {took:.1} s on two threads, none missing", logs.len());
}
