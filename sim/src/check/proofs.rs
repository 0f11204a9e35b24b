//! The audit trail can be verified by anybody (SPEC, section 3; RFC 6962, C2SP tlog-proof and tlog-cosignature): receipts
//! that nodes gave for acknowledged decisions lead from the leaf that the client was told to a checkpoint signed by the
//! zone, which a quorum of replicas vouches for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use nethical_audit::note::{Note, VerifierKey};
use nethical_audit::proof::Proof;
use nethical_audit::tree;
use nethical_protocol::ids::{DecisionId, NodeId};

use super::{Findings, Log};

/// A receipt as a node gave it, or why it gave none.
pub struct Given {
    /// The decision.
    pub id: DecisionId,
    /// The leaf hash that the client was told.
    pub told: String,
    /// The node asked.
    pub node: NodeId,
    /// The leaf in base64, the receipt's text.
    pub answer: Result<(String, String), String>,
}

/// Receipts that prove nothing.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let judged = findings.proofs.iter().filter_map(|given| {
        let why = judge(findings, given).err()?;
        Some(format!("the receipt of {} from node {}: {why}", given.id, given.node))
    });
    judged.chain(answered(findings)).collect()
}

/// Proofs that came with the decision itself, made before anything of it was in a segment.
fn answered(findings: &Findings<'_>) -> impl Iterator<Item = String> {
    let longest = findings.longest();
    findings.history.receipts().into_iter().filter_map(move |(told, receipt)| {
        let log = longest.get(&told.id.log.group);
        let leaf = log.and_then(|log| log.leaves.get(usize::try_from(told.id.leaf_index).ok()?));
        let why = match leaf {
            Some(leaf) => proven(findings, &leaf.encode(), told.id, &told.leaf_hash, &receipt).err(),
            None => Some("its leaf is in no log".to_owned()),
        };
        why.map(|why| format!("the receipt that came with {}: {why}", told.id))
    })
}

fn judge(findings: &Findings<'_>, given: &Given) -> Result<(), String> {
    let (leaf, receipt) = given.answer.as_ref().map_err(Clone::clone)?;
    let leaf = STANDARD.decode(leaf).map_err(|error| format!("the leaf: {error}"))?;
    let proof = proven(findings, &leaf, given.id, &given.told, receipt)?;
    let cosigners = findings.cosigners.iter().map(|vkey| parsed(vkey)).collect::<Result<Vec<_>, _>>()?;
    let note = Note::parse(&proof.checkpoint).map_err(|error| error.to_string())?;
    // Where a majority of the disks was lost, those that are left are all who can.
    let holds = |log: &Log| log.leaves.len() as u64 > given.id.leaf_index;
    let logs = findings.logs.iter().filter(|((group, _), _)| *group == given.id.log.group);
    let left = logs.filter(|(_, log)| holds(log)).count();
    let (vouched, wanted) = (note.cosigned_by(&cosigners).len(), left.min(findings.plan.fleet.replicas / 2 + 1));
    match vouched >= wanted {
        true => Ok(()),
        false => Err(format!(
            "{vouched} replicas vouch for its checkpoint; {wanted} of the {left} that hold the leaf should"
        )),
    }
}

/// The receipt, taken apart, once it leads from the leaf that was told to a checkpoint that the zone signed.
fn proven(findings: &Findings<'_>, leaf: &[u8], id: DecisionId, told: &str, receipt: &str) -> Result<Proof, String> {
    if hex::encode(tree::leaf_hash(leaf)) != told {
        return Err("its leaf is not the one that was told".to_owned());
    }
    let keys = findings.keys.get(&id.log.group).into_iter().flatten();
    let keys = keys.map(|key| parsed(key)).collect::<Result<Vec<_>, _>>()?;
    let origin = keys.first().ok_or("there is no verifier key for its log")?.name().to_owned();
    let proof = Proof::parse(receipt).map_err(|error| error.to_string())?;
    if proof.index != id.leaf_index {
        return Err(format!("it is about leaf {}", proof.index));
    }
    proof.verify(leaf, &origin, &keys).map_err(|error| error.to_string())?;
    Ok(proof)
}

fn parsed(vkey: &str) -> Result<VerifierKey, String> {
    VerifierKey::parse(vkey).map_err(|error| format!("the verifier key {vkey}: {error}"))
}
