//! The audit trail can be verified by anybody (SPEC, section 3; RFC 6962, C2SP tlog-proof): proofs that nodes gave for
//! acknowledged decisions lead from the leaf that the client was told to a checkpoint signed by the zone.

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::note::VerifierKey;
use nethical_audit::tree;
use nethical_protocol::ids::{DecisionId, NodeId};

use super::Findings;

/// A proof as a node gave it, or why it gave none.
pub struct Given {
    /// The decision.
    pub id: DecisionId,
    /// The leaf hash that the client was told.
    pub told: String,
    /// The node asked.
    pub node: NodeId,
    /// Size of the tree, audit path in hex, signed checkpoint.
    pub answer: Result<(u64, Vec<String>, String), String>,
}

/// Proofs that prove nothing.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let judged = findings.proofs.iter().filter_map(|given| {
        let why = judge(findings, given).err()?;
        Some(format!("the proof of {} from node {}: {why}", given.id, given.node))
    });
    judged.collect()
}

fn judge(findings: &Findings<'_>, given: &Given) -> Result<(), String> {
    let (size, hashes, checkpoint) = given.answer.as_ref().map_err(Clone::clone)?;
    let key = findings.keys.get(&given.id.log.group).ok_or("there is no verifier key for its log")?;
    let key = VerifierKey::parse(key).map_err(|error| format!("the verifier key: {error}"))?;
    let origin = key.name().to_owned();
    let signed = Checkpoint::open(checkpoint, &origin, &[key]).map_err(|error| format!("the checkpoint: {error}"))?;
    let hash = |text: &String| hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let path: Option<Vec<tree::Hash>> = hashes.iter().map(hash).collect();
    let (path, leaf) = path.zip(hash(&given.told)).ok_or("a hash is not 32 bytes of hex")?;
    if signed.size != *size {
        return Err(format!("the checkpoint is of {} leaves, the proof of {size}", signed.size));
    }
    match tree::verify_inclusion(&leaf, given.id.leaf_index, *size, &path, &signed.root) {
        true => Ok(()),
        false => Err("it does not lead from the leaf that was told to the signed root".to_owned()),
    }
}
