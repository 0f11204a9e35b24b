//! What the first segment of a log takes as a cold file, with its bodies opened, and what writing and reading it costs.

use std::path::Path;

use bytes::Bytes;
use nethical_audit::body::{self, Dictionaries, dropped};
use nethical_audit::keys::BodyKeys;
use nethical_audit::segment::SegmentScan;
use nethical_cluster::cold::{self, Body, Record, Tail};
use nethical_cluster::store::dir_of;
use nethical_protocol::ids::LogId;

use crate::prove::on_core_ns;

const KEY: [u8; 32] = [7; 32];

/// The first segment's records, closed or not.
pub fn records(folder: &Path, log: LogId, known: &Dictionaries) -> Vec<Record> {
    let file = folder.join(dir_of(log)).join(format!("{:020}.seg", 0));
    let (bytes, keys) = (std::fs::read(file).expect("a segment"), BodyKeys::new(&[9; 32], None));
    let opened = |stored: &[u8]| Body::Clear {
        head: dropped::split(stored).0.to_vec(),
        plaintext: body::open(&keys, stored, known).expect("it opens").0,
    };
    let scan = SegmentScan::new(&bytes).expect("a segment");
    scan.map(|record| Record { leaf: record.leaf.to_vec(), body: opened(record.body) }).collect()
}

/// Writes it, reads it, and tells what that took and gave. Time on a core, so that other people's load does not count.
pub fn measure(folder: &Path, log: LogId, known: &Dictionaries) {
    let records = records(folder, log, known);
    let raw = |record: &Record| match &record.body {
        Body::Clear { plaintext, .. } => record.leaf.len() + plaintext.len(),
        Body::Stored(stored) => record.leaf.len() + stored.len(),
    };
    let raw: usize = records.iter().map(raw).sum();
    let begun = on_core_ns();
    let file = Bytes::from(cold::encode(0, &records, &KEY).expect("it is encoded"));
    let (encoded, mut read) = (on_core_ns(), 0);
    cold::decode(&file, &KEY, |index, record| {
        assert_eq!(record, records[index as usize], "it comes back");
        read += 1;
    })
    .expect("it is decoded");
    let decoded = on_core_ns();
    assert_eq!(read, records.len(), "all come back");
    let each = |bytes: u64| bytes as f64 / records.len() as f64;
    let rate = |from: u64, to: u64| records.len() as f64 * 1e9 / (to - from).max(1) as f64;
    let bytes = file.len() as u64;
    println!("as a cold file, {} records: {:.1} B a record, {:.2}:1", read, each(bytes), raw as f64 / bytes as f64);
    println!("       encoding {:.0} records/s, decoding {:.0} records/s", rate(begun, encoded), rate(encoded, decoded));
    let Ok(Tail::Read(footer)) = cold::footer(&file, bytes, &KEY) else { panic!("its own footer") };
    let ranges = (0..footer.groups()).map(|group| footer.leaves_range(group));
    let leaves: u64 = ranges.map(|range| range.end - range.start).sum();
    println!("       leaves and heads alone: {:.1} B a record", each(leaves));
    let mut columns = footer.column_bytes();
    columns.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let most = columns.iter().take(12).map(|(name, bytes)| format!("{name} {:.1}", each(*bytes)));
    println!("       most of it: {}", most.collect::<Vec<_>>().join(", "));
}
