//! How large a cold file of made-up traffic is. With `NETHICAL_COLD_FILE` set to a path, one of a whole segment is written there, so
//! that other programs can be tried on it; its key is 32 times the byte 7.

use nethical_audit::body::command_id;
use nethical_cluster::cold::{Body, Record};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::made_up::Prose;
use super::traffic::Traffic;
use super::{decoded, encoded, footer_of};

/// Made-up decisions with opened bodies, as the bench of the audit trail writes them.
pub fn traffic(count: u64) -> Vec<Record> {
    let prose = Prose::of(&["docs/behaviour.md", "docs/detect.md", "docs/correlation.md", "sim/README.md"]);
    let (mut traffic, mut dice) = (Traffic::new(2), StdRng::seed_from_u64(2));
    let record = |index| {
        let plaintext = prose.body(&mut dice);
        // Nobody can foresee a commitment: it is salted.
        let mut commitment = [0; 32];
        rand::Rng::fill_bytes(&mut traffic.dice, &mut commitment);
        let leaf = traffic.leaf(index, commitment).encode();
        let head = [&[1, 0, 0, 0, 0][..], &command_id(1, 2, index)].concat();
        Record { leaf, body: Body::Clear { head, plaintext } }
    };
    (0..count).map(record).collect()
}

fn raw_bytes(records: &[Record]) -> usize {
    let bytes = |record: &Record| match &record.body {
        Body::Stored(stored) => record.leaf.len() + stored.len(),
        Body::Clear { plaintext, .. } => record.leaf.len() + plaintext.len(),
    };
    records.iter().map(bytes).sum()
}

#[test]
fn a_record_of_made_up_traffic_takes_a_fifth_and_is_taken_apart() {
    let records = traffic(8_192);
    let file = encoded(0, &records);
    let each = |bytes: u64| bytes as f64 / records.len() as f64;
    let raw = each(raw_bytes(&records) as u64);
    assert!(each(file.len() as u64) < 315.0, "{:.1} B of {raw:.1} B a record", each(file.len() as u64));
    for (name, bytes) in footer_of(&file).column_bytes() {
        let is_kept_as_it_was = ["leaf_bytes", "body_bytes", "stored_body"].contains(&name);
        assert!(!is_kept_as_it_was || each(bytes) < 0.1, "{name} has {bytes} bytes");
    }
}

/// Prints what each column of a whole segment takes, where a file of one is asked for.
#[test]
fn a_segment_column_by_column() {
    let Ok(path) = std::env::var("NETHICAL_COLD_FILE") else { return };
    let records = traffic(65_536);
    let raw = raw_bytes(&records) as f64 / records.len() as f64;
    let file = encoded(0, &records);
    assert_eq!(decoded(&file).expect("it decodes").len(), records.len());
    let each = |bytes: u64| bytes as f64 / records.len() as f64;
    let footer = footer_of(&file);
    let whole: u64 =
        (0..footer.groups()).map(|group| footer.whole_range(group).end - footer.whole_range(group).start).sum();
    let leaves: u64 =
        (0..footer.groups()).map(|group| footer.leaves_range(group).end - footer.leaves_range(group).start).sum();
    for (name, bytes) in footer.column_bytes() {
        println!("{name:24} {:8.2}", each(bytes));
    }
    println!(
        "leaves and heads {:.2}, all columns {:.2}, footer {:.2}",
        each(leaves),
        each(whole),
        each(file.len() as u64 - whole)
    );
    println!("{:.2} B a record of {raw:.1}: {:.2}:1", each(file.len() as u64), raw / each(file.len() as u64));
    std::fs::write(path, &file).expect("it is written");
}
