//! DuckDB reads a cold file and finds what was written; the script is `tests/acceptance/cold.py`. Skipped, with a message, where
//! `NETHICAL_PYTHON` names no Python that has duckdb.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nethical_audit::leaf::{LeafEvent, LeafV1};
use serde_json::json;

use super::{KEY, encoded, size};

const VERDICTS: [&str; 5] = ["allow", "restrict", "escalate", "block", "terminate"];

/// A Python that has duckdb.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("NETHICAL_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let has =
        Command::new(&python).args(["-c", "import duckdb; assert int(duckdb.__version__.split('.')[0]) >= 2"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: duckdb 2 is not there; install it and name its Python in NETHICAL_PYTHON");
    None
}

#[test]
fn duckdb_finds_in_a_cold_file_what_was_written_and_refuses_a_changed_one() {
    let Some(python) = python() else { return };
    let records = size::traffic(9_000);
    let (mut risk, mut verdicts) = (0u64, BTreeMap::new());
    for record in &records {
        let leaf = LeafV1::decode(&record.leaf).expect("a leaf");
        let LeafEvent::Decision(decision) = leaf.event else { panic!("a decision") };
        risk += u64::from(decision.risk);
        *verdicts.entry(VERDICTS[usize::from(decision.verdict)]).or_insert(0u64) += 1;
    }
    verdicts.remove("allow");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("segment.parquet");
    std::fs::write(&file, encoded(700, &records_from(700, records))).expect("it is written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/acceptance/cold.py");
    let said = Command::new(python).arg(script).arg(&file).arg(STANDARD.encode(KEY)).output().expect("it runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let agents = &said["agents"];
    let wanted = json!({ "rows": 9_000, "risk": risk, "agents": agents, "first": 700, "last": 9_699, "verdicts": verdicts, "intents": 9_000 });
    assert_eq!(said, wanted);
    assert!(agents.as_u64().is_some_and(|agents| agents > 1_000), "{agents}");
}

/// The same records with other numbers.
fn records_from(first: u64, mut records: Vec<nethical_cluster::cold::Record>) -> Vec<nethical_cluster::cold::Record> {
    for (index, record) in (first..).zip(&mut records) {
        let mut leaf = LeafV1::decode(&record.leaf).expect("a leaf");
        leaf.leaf_index = index;
        record.leaf = leaf.encode();
    }
    records
}
