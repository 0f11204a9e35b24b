//! Tests of the witness on a real folder, with logs that were made here.

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::note::{Note, Signer};
use nethical_audit::tree::{TileTree, leaf_hash};
use nethical_audit::witness::Submission;

use super::*;

fn signer() -> Signer {
    Signer::from_seed("demo/cluster/1", &[7; 32]).expect("a good name")
}

fn desk(dir: &std::path::Path) -> Desk {
    let folder = Folder::open(dir).expect("free");
    let cosigner = folder.cosigner(None).expect("a key");
    Desk::open(folder, cosigner, vec![signer().verifier_key()]).expect("it reads")
}

fn submission(leaves: u8, changed: Option<u8>, old: u64) -> Vec<u8> {
    let mut tree = TileTree::default();
    (0..leaves).for_each(|at| tree.append(leaf_hash(&[at, u8::from(changed == Some(at))])));
    let proof = tree.consistency_proof(old, tree.size(), &|_| None).expect("in range");
    let checkpoint = Checkpoint { origin: "demo/cluster/1".into(), size: tree.size(), root: tree.root() };
    Submission { old, proof, checkpoint: checkpoint.sign(&signer()) }.encode().into_bytes()
}

fn status(result: Result<String, DeskError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(DeskError::Refused(refusal)) => refusal.status(),
        Err(DeskError::Disk(error)) => panic!("{error}"),
    }
}

#[test]
fn a_witness_goes_on_where_it_was_and_signs_no_other_history() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = Folder::open(dir.path()).expect("free").cosigner(Some("w.example/1")).expect("a key").verifier_key();
    let line = desk(dir.path()).add_checkpoint(&submission(5, None, 0), 9).expect("new");
    let text = String::from_utf8(submission(5, None, 0)).expect("text").replacen("old 0\n\n", "", 1);
    let note = Note::parse(&(text + &line)).expect("a note");
    assert_eq!(note.cosigned_by(std::slice::from_ref(&key)), [(&key, 9)]);
    // Each desk below is a process that was started again.
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(9, None, 0), 9)), 409);
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(9, Some(2), 5), 9)), 422);
    assert!(
        std::fs::read_dir(dir.path())
            .expect("it reads")
            .any(|entry| { entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".conflict")) })
    );
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(5, Some(2), 5), 9)), 409);
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(9, None, 5), 9)), 200);
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(9, None, 9), 9)), 200);
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(5, None, 5), 9)), 409);
}

#[test]
fn a_witness_that_is_started_with_another_key_of_a_log_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(status(desk(dir.path()).add_checkpoint(&submission(5, None, 0), 9)), 200);
    let turned = Signer::from_seed("demo/cluster/1", &[8; 32]).expect("a good name");
    let by_turned = |leaves, old| {
        let body = Submission::parse(&submission(leaves, None, old)).expect("own submission");
        let checkpoint = Checkpoint::parse_unverified(&body.checkpoint).expect("own checkpoint").sign(&turned);
        Submission { checkpoint, ..body }.encode().into_bytes()
    };
    assert_eq!(status(desk(dir.path()).add_checkpoint(&by_turned(9, 5), 9)), 403, "a key that it does not know");
    let folder = Folder::open(dir.path()).expect("free");
    let cosigner = folder.cosigner(None).expect("a key");
    let both = Desk::open(folder, cosigner, vec![signer().verifier_key(), turned.verifier_key()]).expect("it reads");
    assert_eq!(status(both.add_checkpoint(&by_turned(9, 0), 9)), 409, "its memory is of the log, not of a key");
    assert_eq!(status(both.add_checkpoint(&by_turned(9, 5), 9)), 200);
    assert_eq!(status(both.add_checkpoint(&submission(12, None, 9), 9)), 200);
}

#[test]
fn a_folder_has_one_witness_one_name_and_no_memory_that_does_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("free");
    let name = |folder: &Folder, name| folder.cosigner(name).map(|cosigner| cosigner.verifier_key().name().to_owned());
    assert_eq!(name(&folder, None).expect("made"), "nethical-witness");
    assert!(name(&folder, Some("another")).is_err() && Folder::open(dir.path()).is_err());
    drop(folder);
    desk(dir.path()).add_checkpoint(&submission(5, None, 0), 9).expect("new");
    for entry in std::fs::read_dir(dir.path()).expect("it reads").flatten() {
        if entry.file_name().to_string_lossy().starts_with("log-") {
            std::fs::write(entry.path(), "rot").expect("written");
        }
    }
    let folder = Folder::open(dir.path()).expect("free");
    let cosigner = folder.cosigner(None).expect("kept");
    assert!(Desk::open(folder, cosigner, vec![signer().verifier_key()]).is_err());
}

#[test]
fn keys_of_others_than_logs_are_refused() {
    assert!(log_key(&signer().verifier_key().to_string()).is_ok());
    let dir = tempfile::tempdir().expect("a folder");
    let own = Folder::open(dir.path()).expect("free").cosigner(None).expect("a key").verifier_key();
    assert!(log_key(&own.to_string()).is_err() && log_key("x").is_err());
}
