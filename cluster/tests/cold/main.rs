//! Cold files: what comes back of leaves and bodies, what is refused, and how large a file of made-up traffic is.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use bytes::Bytes;
use nethical_cluster::cold::{self, ColdError, Footer, Record, Tail};

#[path = "../made_up/prose.rs"]
mod made_up;
#[path = "../../benches/audit/traffic.rs"]
#[allow(dead_code, reason = "the bench asks for more of it")]
mod traffic;

mod damage;
mod duckdb;
mod records;
mod roundtrip;
mod size;

const KEY: [u8; 32] = [7; 32];

/// A file of records from a leaf on.
fn encoded(first_index: u64, records: &[Record]) -> Bytes {
    cold::encode(first_index, records, &KEY).expect("it is encoded").into()
}

/// Its footer, from all of it.
fn footer_of(file: &Bytes) -> Footer {
    match cold::footer(file, file.len() as u64, &KEY) {
        Ok(Tail::Read(footer)) => footer,
        other => panic!("no footer: {other:?}"),
    }
}

/// All of its records with their numbers.
fn decoded(file: &Bytes) -> Result<Vec<(u64, Record)>, ColdError> {
    let mut all = Vec::new();
    cold::decode(file, &KEY, |leaf_index, record| all.push((leaf_index, record)))?;
    Ok(all)
}

/// Some bytes of it.
fn part(file: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    file.slice(range.start as usize..range.end as usize)
}
