//! Writes logs as a node's sealer does: bodies packed and sealed, frames as they fill, a sync before a segment counts.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nethical_audit::body::{self, Dictionary, SealedFor};
use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::keys::BodyKeys;
use nethical_audit::note::Signer;
use nethical_audit::segment::search::{Dimension, Part, SearchHead};
use nethical_audit::segment::{SegmentFooter, SegmentMeta, SegmentWriter};
use nethical_audit::tree::Frontier;
use nethical_cluster::store::dir_of;
use nethical_protocol::ids::LogId;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::made_up::Prose;
use crate::traffic::Traffic;
use crate::{CLUSTER, SEED};

/// The parts of a search index, as they are printed.
pub const PARTS: [&str; 9] = ["zones", "tenant", "agent", "session", "tool", "verdict", "risk", "rule", "kind"];

/// What writing took and gave; sums over logs.
#[derive(Default, Clone)]
pub struct Written {
    pub records: u64,
    pub raw_body_bytes: u64,
    pub body_bytes: u64,
    pub leaf_bytes: u64,
    pub file_bytes: u64,
    pub index_bytes: u64,
    pub part_bytes: [u64; PARTS.len()],
    /// Records of segments that were closed.
    pub closed: u64,
    /// Making indexes, tiles' roots and footers.
    pub closing: Duration,
}

impl Written {
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.raw_body_bytes += other.raw_body_bytes;
        self.body_bytes += other.body_bytes;
        self.leaf_bytes += other.leaf_bytes;
        self.file_bytes += other.file_bytes;
        self.index_bytes += other.index_bytes;
        self.part_bytes.iter_mut().zip(other.part_bytes).for_each(|(sum, part)| *sum += part);
        self.closed += other.closed;
        self.closing += other.closing;
    }

    fn note(&mut self, ending: &[u8], footer: &SegmentFooter) {
        let before = ending.len() - footer.encode().len() - footer.index.length as usize;
        let head = SearchHead::decode(&ending[before..]).expect("own index");
        self.index_bytes += u64::from(footer.index.length);
        let parts = [Part::Zones].into_iter().chain(Dimension::ALL.map(Part::Postings));
        self.part_bytes.iter_mut().zip(parts).for_each(|(sum, part)| *sum += u64::from(head.span(part).length));
    }
}

/// A segment that is being written.
struct Open {
    writer: SegmentWriter,
    file: File,
}

impl Open {
    fn create(folder: &Path, log: LogId, first: u64) -> Self {
        let (writer, header) = SegmentWriter::create(SegmentMeta::new(CLUSTER, log, first));
        let file = File::create(folder.join(writer.meta().file_name())).expect("a file");
        let mut open = Self { writer, file };
        open.append(&header);
        open
    }

    fn append(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).expect("the disk has room");
    }

    /// Ends it, and gives what its file took.
    fn close(mut self, written: &mut Written) -> u64 {
        let started = Instant::now();
        let (ending, footer) = self.writer.clone().close();
        written.closing += started.elapsed();
        written.note(&ending, &footer);
        self.append(&ending);
        self.file.sync_data().expect("it syncs");
        written.closed = self.writer.next_index();
        self.file.metadata().expect("its size").len()
    }
}

/// Writes one log of `records` decisions below `folder`, with its signed checkpoint.
pub fn log(
    folder: &Path,
    log: LogId,
    (prose, own): (&Prose, Option<&Dictionary>),
    records: u64,
    tick: &dyn Fn(),
) -> (Traffic, Written) {
    let folder = folder.join(dir_of(log));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (mut traffic, mut written) = (Traffic::new(log.group.0), Written { records, ..Written::default() });
    let (mut dice, keys) = (StdRng::seed_from_u64(u64::from(log.group.0)), BodyKeys::new(&[9; 32], None));
    let (mut tree, mut open) = (Frontier::default(), Open::create(&folder, log, 0));
    for index in 0..records {
        let raw = prose.body(&mut dice);
        let id = body::command_id(1, u64::from(log.group.0), index);
        let (body, commitment) = body::seal(&keys, SealedFor { generation: 0, person: None }, &id, &raw, own);
        let leaf = traffic.leaf(index, commitment).encode();
        tree.append(nethical_audit::tree::leaf_hash(&leaf));
        written.raw_body_bytes += raw.len() as u64;
        written.body_bytes += body.len() as u64;
        written.leaf_bytes += leaf.len() as u64;
        if let Some(frame) = open.writer.push(&leaf, &body) {
            open.append(&frame);
        }
        if open.writer.is_full() {
            let next = Open::create(&folder, log, index + 1);
            written.file_bytes += std::mem::replace(&mut open, next).close(&mut written);
        }
        tick();
    }
    let rest = open.writer.flush_frame().unwrap_or_default();
    open.append(&rest);
    open.file.sync_data().expect("it syncs");
    written.file_bytes += open.file.metadata().expect("its size").len();
    std::fs::write(folder.join("checkpoint"), signed(log, &tree)).expect("the disk has room");
    (traffic, written)
}

fn signed(log: LogId, tree: &Frontier) -> String {
    let origin = log.origin(CLUSTER);
    let signer = Signer::from_seed(&origin, &SEED).expect("a name");
    Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(&signer)
}
