//! Tests of the witness protocol, with trees that were made here.

use super::*;
use crate::note::Signer;
use crate::note::cosign::Cosigner;
use crate::tree::{TileTree, leaf_hash};

const ORIGIN: &str = "demo/cluster/1";

fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).expect("a good name")
}

fn tree(leaves: u64, changed: Option<u64>) -> TileTree {
    let mut tree = TileTree::default();
    (0..leaves).for_each(|at| tree.append(leaf_hash(&[at as u8, u8::from(changed == Some(at))])));
    tree
}

fn checkpoint(tree: &TileTree) -> Checkpoint {
    Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() }
}

fn submission(tree: &TileTree, old: u64) -> Submission {
    let proof = tree.consistency_proof(old, tree.size(), &|_| None).expect("in range");
    Submission { old, proof, checkpoint: checkpoint(tree).sign(&signer()) }
}

fn decide(submission: &Submission, seen: Seen) -> Result<Seen, Refusal> {
    let checkpoint = trusted(submission, &[signer().verifier_key()])?;
    judge(submission, &checkpoint, seen)
}

fn seen(tree: &TileTree) -> Seen {
    Seen { size: tree.size(), root: tree.root() }
}

#[test]
fn a_submission_reads_back_as_written() {
    let sent = submission(&tree(9, None), 5);
    assert!(sent.encode().starts_with("old 5\n"));
    assert_eq!(Submission::parse(sent.encode().as_bytes()), Ok(sent));
    let text = submission(&tree(9, None), 5).encode();
    for bad in [
        text.replacen("old 5", "old 05", 1),
        text.replacen("old 5", "new 5", 1),
        text.replacen("old 5\n", "old 5\nAAAA\n", 1),
        text.replacen("old 5\n", &format!("old 5\n{}", format!("{}\n", STANDARD.encode([0; 32])).repeat(64)), 1),
        text.replacen("\n\n", "\n", 2),
    ] {
        assert_eq!(Submission::parse(bad.as_bytes()).map_err(|refusal| refusal.status()), Err(400), "{bad}");
    }
    assert!(Submission::parse(&[0xff]).is_err() && Submission::parse(&vec![b'\n'; 70_000]).is_err());
}

#[test]
fn what_extends_is_let_pass_also_for_a_second_time() {
    let (five, nine) = (tree(5, None), tree(9, None));
    assert_eq!(decide(&submission(&five, 0), Seen::nothing()), Ok(seen(&five)));
    assert_eq!(decide(&submission(&nine, 5), seen(&five)), Ok(seen(&nine)));
    assert_eq!(decide(&submission(&nine, 9), seen(&nine)), Ok(seen(&nine)));
}

#[test]
fn refusals_are_those_of_the_specification() {
    let (five, nine) = (tree(5, None), tree(9, None));
    assert_eq!(decide(&submission(&nine, 0), seen(&five)), Err(Refusal::Conflict { size: 5 }), "another old size");
    assert_eq!(decide(&submission(&five, 5), seen(&nine)), Err(Refusal::Conflict { size: 9 }), "a smaller tree");
    let other = tree(9, Some(2));
    assert_eq!(decide(&submission(&other, 9), seen(&nine)), Err(Refusal::Conflict { size: 9 }), "another root");
    assert_eq!(decide(&submission(&other, 5), seen(&five)), Err(Refusal::Inconsistent), "another history");
    let above = Submission { old: 10, ..submission(&nine, 5) };
    assert_eq!(decide(&above, Seen { size: 10, ..seen(&nine) }).map_err(|refusal| refusal.status()), Err(400));
    let proof = vec![[0; 32]];
    let needless = Submission { proof, ..submission(&five, 0) };
    assert_eq!(decide(&needless, Seen::nothing()), Err(Refusal::Inconsistent), "a proof from nothing is empty");
    let sent = submission(&nine, 5);
    let stranger = Signer::from_seed("other/cluster/1", &[7; 32]).expect("a good name").verifier_key();
    assert_eq!(trusted(&sent, &[stranger]).map_err(|refusal| refusal.status()), Err(404));
    let forger = Signer::from_seed(ORIGIN, &[8; 32]).expect("a good name").verifier_key();
    assert_eq!(trusted(&sent, &[forger]), Err(Refusal::NotSigned));
    assert_eq!(Refusal::Conflict { size: 9 }.answer(), (SIZE_TYPE, "9\n".to_owned()));
    assert_eq!((size_of(b"9\n"), size_of(b"9"), size_of(b"09\n"), size_of(b"")), (Some(9), None, None, None));
}

#[test]
fn only_lines_of_the_known_witness_for_this_checkpoint_are_kept() {
    let witness = Cosigner::from_seed("witness.example/w", &[3; 32]).expect("a good name");
    let stranger = Cosigner::from_seed("witness.example/x", &[4; 32]).expect("a good name");
    let nine = checkpoint(&tree(9, None));
    let (note, key) = (nine.sign(&signer()), witness.verifier_key());
    let line = witness.cosign(&nine.text(), 1);
    let answer = stranger.cosign(&nine.text(), 1) + &line;
    assert_eq!(lines_of(answer.as_bytes(), &note, &key), Some(line));
    let of_another = witness.cosign(&checkpoint(&tree(8, None)).text(), 1);
    assert_eq!(lines_of(of_another.as_bytes(), &note, &key), None);
    assert_eq!(lines_of(b"ok", &note, &key), None);
    assert_eq!(lines_of(b"", &note, &key), None);
}
