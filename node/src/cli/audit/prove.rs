//! `nethical audit prove`: fetches a decision's receipt and believes it only once hashes and keys say so.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::cluster::ClusterLeaf;
use nethical_audit::note::{Note, VerifierKey};
use nethical_audit::proof::Proof;
use nethical_audit::tree::leaf_hash;
use nethical_cluster::api::{ClusterProofView, ReceiptView, VerifierKeys};
use nethical_protocol::ids::{DecisionId, GroupId, LogId};

use super::{EndpointArgs, LogKeys, keys_of, time};
use crate::output::{self, Exit, Format, stop};

/// Nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;

#[derive(Debug, Args)]
pub struct ProveArgs {
    /// As answered with the decision: group.era.leaf, such as 3.1.42.
    pub decision_id: DecisionId,
    /// Write the C2SP tlog-proof here, for other people's verifiers; the cluster log's beside it, with `.cluster` behind the
    /// name, where there is one.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: ProveArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let id = args.decision_id.to_string();
    let view: ReceiptView = admin.get(&["v1", "audit", "receipts", &id], &[]).await?;
    let keys: VerifierKeys = admin.get(&["v1", "audit", "keys"], &[]).await?;
    let proven = check_receipt(&view, args.decision_id, &keys)?;
    if let Some(path) = &args.save {
        save(path, &view.receipt)?;
        if let Some(cluster) = &view.cluster {
            let mut beside = path.clone().into_os_string();
            beside.push(".cluster");
            save(Path::new(&beside), &cluster.proof)?;
        }
    }
    if format == Format::Json {
        return output::print_json(&proven);
    }
    let Proven { leaf_index, tree_size, origin, leaf_hash, hashes, vouched, checkpoint, .. } = &proven;
    output::print_line(&format!(
        "decision {id} is leaf {leaf_index} of {tree_size} in {origin}\nleaf hash {leaf_hash}\n{} sibling hashes lead to \
         the signed checkpoint:\n\n{}\n",
        hashes.len(),
        checkpoint.trim_end()
    ))?;
    let mut table = output::table(&["HELD DURABLY BY", "AT"]);
    for voucher in vouched {
        table.add_row([&voucher.name, &voucher.at]);
    }
    output::print_table(&table, "no replica has vouched for the checkpoint")?;
    match &proven.cluster {
        Some(cluster) => print_cluster(cluster),
        None => output::print_line("\nthe cluster log does not cover this checkpoint yet"),
    }
}

fn print_cluster(cluster: &ProvenCluster) -> anyhow::Result<()> {
    let ProvenCluster { origin, leaf_index, tree_size, hashes, checkpoint, vouched, witnessed } = cluster;
    output::print_line(&format!(
        "\nthat checkpoint is leaf {leaf_index} of {tree_size} in {origin}\n{} sibling hashes lead to the signed \
         checkpoint:\n\n{}\n",
        hashes.len(),
        checkpoint.trim_end()
    ))?;
    let mut table = output::table(&["VOUCHED FOR BY", "AS", "AT"]);
    let rows = vouched.iter().map(|voucher| (voucher, "replica"));
    for (voucher, role) in rows.chain(witnessed.iter().map(|voucher| (voucher, "witness"))) {
        table.add_row([&voucher.name, role, &voucher.at]);
    }
    output::print_table(&table, "nobody has vouched for the cluster log's checkpoint")
}

/// What `audit prove -o json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The decision.
    pub decision_id: DecisionId,
    /// Its log.
    pub origin: String,
    /// Where it stands there, from 0.
    pub leaf_index: u64,
    /// The leaf's canonical bytes, base64.
    pub leaf: String,
    /// Leaf hash, hex.
    pub leaf_hash: String,
    /// Leaves that the checkpoint covers.
    pub tree_size: u64,
    /// Sibling hashes from the leaf up, hex.
    pub hashes: Vec<String>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Replicas that hold all of these leaves durably, by their own word.
    pub vouched: Vec<Voucher>,
    /// The same as text (c2sp.org/tlog-proof).
    pub receipt: String,
    /// That the checkpoint stands in the cluster log; absent while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ProvenCluster>,
}

/// The second step: from the checkpoint to the cluster log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvenCluster {
    /// The cluster log.
    pub origin: String,
    /// Where the checkpoint stands there, from 0.
    pub leaf_index: u64,
    /// Leaves that the cluster log's checkpoint covers.
    pub tree_size: u64,
    /// Sibling hashes from the leaf up, hex.
    pub hashes: Vec<String>,
    /// The cluster log's signed checkpoint.
    pub checkpoint: String,
    /// Replicas that hold all of the cluster log durably, by their own word.
    pub vouched: Vec<Voucher>,
    /// Witnesses that saw no other history of it, by their own word.
    pub witnessed: Vec<Voucher>,
}

/// A replica's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Voucher {
    /// Its key's name.
    pub name: String,
    /// When, UTC.
    pub at: String,
}

/// What a receipt shows, once leaf, hashes and signature fit together and fit the decision asked for.
fn check_receipt(view: &ReceiptView, asked: DecisionId, keys: &VerifierKeys) -> anyhow::Result<Proven> {
    let leaf = STANDARD.decode(&view.leaf).context("the receipt's leaf is not base64")?;
    let (known, origin) = (LogKeys::of(keys)?, asked.log.origin(&keys.cluster));
    let refuse = |why: String| stop(Exit::Failed, format!("the receipt of {asked} does not hold: {why}"));
    let proof = Proof::parse(&view.receipt).map_err(|error| refuse(error.to_string()))?;
    if proof.index != asked.leaf_index {
        return Err(refuse(format!("it is about leaf {}", proof.index)));
    }
    let checkpoint = proof.verify(&leaf, &origin, &known.all).map_err(|error| refuse(error.to_string()))?;
    let note = Note::parse(&proof.checkpoint).map_err(|error| refuse(error.to_string()))?;
    let vouched = vouched(&note, &keys_of(&keys.all_cosigners())?);
    let cluster = view.cluster.as_ref().map(|cluster| check_cluster(cluster, &checkpoint, keys, &known));
    let cluster = cluster.transpose().map_err(|error| refuse(format!("{error:#}")))?;
    // What a retired key signed counts where the cluster log has it from when that key was in force.
    let is_current = Checkpoint::open(&proof.checkpoint, &origin, &known.in_force).is_ok();
    if !is_current && cluster.is_none() {
        return Err(refuse(
            "a retired key alone signed its checkpoint, and the cluster log does not have it".to_owned(),
        ));
    }
    Ok(Proven {
        decision_id: asked,
        origin,
        leaf_index: proof.index,
        leaf: view.leaf.clone(),
        leaf_hash: hex::encode(leaf_hash(&leaf)),
        tree_size: checkpoint.size,
        hashes: proof.hashes.iter().map(hex::encode).collect(),
        checkpoint: proof.checkpoint,
        vouched,
        receipt: view.receipt.clone(),
        cluster,
    })
}

/// Who of these vouched for a note.
fn vouched(note: &Note, keys: &[VerifierKey]) -> Vec<Voucher> {
    let found = note.cosigned_by(keys).into_iter();
    let voucher = |(key, at_s): (&VerifierKey, u64)| Voucher {
        name: key.name().to_owned(),
        at: time(at_s.saturating_mul(NANOS)),
    };
    found.map(voucher).collect()
}

/// That a partition's checkpoint, verbatim, is a leaf of the cluster log.
fn check_cluster(
    view: &ClusterProofView,
    of: &Checkpoint,
    keys: &VerifierKeys,
    known: &LogKeys,
) -> anyhow::Result<ProvenCluster> {
    let leaf = ClusterLeaf::open(&keys.cluster, view.leaf.as_bytes(), &known.all).context("the cluster log's leaf")?;
    anyhow::ensure!(leaf.checkpoint == *of, "the cluster log's leaf is another checkpoint than the receipt's");
    let newest = VerifierKey::parse(&keys.cluster_log).context("the cluster log's verifier key")?;
    let origin = newest.name().to_owned();
    let log = LogId::of_origin(&keys.cluster, &origin).filter(|log| log.group == GroupId::CONTROL);
    anyhow::ensure!(log.is_some(), "{origin} is not the origin of a cluster log");
    let proof = Proof::parse(&view.proof).context("the cluster log's proof")?;
    let signed_by = known.generations.may_have_signed(&of.origin, leaf.key_id, proof.index);
    signed_by.map_err(|why| anyhow::anyhow!("leaf {} of the cluster log: {why}", proof.index))?;
    let proven = proof.verify(view.leaf.as_bytes(), &origin, &known.in_force);
    let checkpoint = proven.context("the cluster log's proof")?;
    let note = Note::parse(&proof.checkpoint)?;
    Ok(ProvenCluster {
        origin,
        leaf_index: proof.index,
        tree_size: checkpoint.size,
        hashes: proof.hashes.iter().map(hex::encode).collect(),
        vouched: vouched(&note, &keys_of(&keys.all_cosigners())?),
        witnessed: vouched(&note, &keys_of(&keys.witnesses)?),
        checkpoint: proof.checkpoint,
    })
}

#[allow(clippy::disallowed_methods, reason = "the command line writes the file that its user named")]
fn save(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_audit::note::Signer;
    use nethical_audit::note::cosign::Cosigner;
    use nethical_audit::tree::TileTree;

    fn proven() -> (ReceiptView, DecisionId, VerifierKeys) {
        let signer = Signer::from_seed("demo/p/3/1", &[5; 32]).expect("a good name");
        let replica = Cosigner::from_seed("demo/n/2", &[6; 32]).expect("a good name");
        let mut tree = TileTree::default();
        (0..6u8).for_each(|n| tree.append(leaf_hash(&[n])));
        let checkpoint = Checkpoint { origin: "demo/p/3/1".into(), size: 6, root: tree.root() };
        let decision_id = DecisionId { log: LogId { group: GroupId(3), era: 1 }, leaf_index: 4 };
        let hashes = tree.inclusion_proof(4, 6, &|_| None).expect("in range");
        let note = checkpoint.sign(&signer) + &replica.cosign(&checkpoint.text(), 1_767_225_600);
        let receipt = Proof { extra: None, index: 4, hashes, checkpoint: note }.encode();
        let (vkeys, cosigners) = (vec![signer.verifier_key().to_string()], vec![replica.verifier_key().to_string()]);
        let above = Signer::from_seed("demo/cluster/1", &[5; 32]).expect("a good name");
        let cluster = Some(covered(&above, &replica, checkpoint.sign(&signer)));
        let view = ReceiptView { decision_id, leaf: STANDARD.encode([4]), receipt, cluster };
        let cluster_log = above.verifier_key().to_string();
        let witnesses = vec![witness().verifier_key().to_string()];
        (
            view,
            decision_id,
            VerifierKeys {
                cluster: "demo".into(),
                vkeys,
                cluster_log,
                witnesses,
                cosigners,
                ..VerifierKeys::default()
            },
        )
    }

    fn witness() -> Cosigner {
        Cosigner::from_seed("w.example/1", &[8; 32]).expect("a good name")
    }

    /// The checkpoint as the second of three leaves of the cluster log.
    fn covered(above: &Signer, replica: &Cosigner, leaf: String) -> ClusterProofView {
        let mut tree = TileTree::default();
        [b"a", leaf.as_bytes(), b"b"].into_iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
        let checkpoint = Checkpoint { origin: "demo/cluster/1".into(), size: 3, root: tree.root() };
        let lines = [replica, &witness()].map(|one| one.cosign(&checkpoint.text(), 1_767_225_601));
        let note = checkpoint.sign(above) + &lines.concat();
        let hashes = tree.inclusion_proof(1, 3, &|_| None).expect("in range");
        ClusterProofView { leaf, proof: Proof { extra: None, index: 1, hashes, checkpoint: note }.encode() }
    }

    #[test]
    fn a_true_receipt_convinces_and_every_doctored_one_does_not() {
        let (view, id, keys) = proven();
        let shown = check_receipt(&view, id, &keys).expect("a true receipt");
        assert_eq!((shown.tree_size, shown.leaf_index, shown.origin.as_str()), (6, 4, "demo/p/3/1"));
        let vouched = Voucher { name: "demo/n/2".into(), at: "2026-01-01T00:00:00.000Z".into() };
        assert_eq!(shown.vouched, [vouched]);
        let above = shown.cluster.expect("it is covered");
        assert_eq!((above.leaf_index, above.tree_size, above.origin.as_str()), (1, 3, "demo/cluster/1"));
        assert_eq!((above.vouched.len(), above.witnessed.len()), (1, 1));
        let other = DecisionId { leaf_index: 3, ..id };
        assert!(check_receipt(&view, other, &keys).is_err(), "another index");
        let doctored = ReceiptView { leaf: STANDARD.encode([5]), ..view.clone() };
        assert!(check_receipt(&doctored, id, &keys).is_err(), "another leaf");
        let doctored = ReceiptView { receipt: view.receipt.replacen("\n6\n", "\n7\n", 1), ..view.clone() };
        assert!(check_receipt(&doctored, id, &keys).is_err(), "another checkpoint");
        let foreign = VerifierKeys { vkeys: vec![], ..keys.clone() };
        assert!(check_receipt(&view, id, &foreign).is_err(), "no key");
        let cluster = view.cluster.clone().expect("it is covered");
        let moved = ClusterProofView { proof: cluster.proof.replacen("index 1", "index 0", 1), ..cluster.clone() };
        let doctored = ReceiptView { cluster: Some(moved), ..view.clone() };
        assert!(check_receipt(&doctored, id, &keys).is_err(), "another leaf of the cluster log");
        let other = cluster.leaf.replacen("\n6\n", "\n7\n", 1);
        let doctored = ReceiptView { cluster: Some(ClusterProofView { leaf: other, ..cluster }), ..view.clone() };
        assert!(check_receipt(&doctored, id, &keys).is_err(), "another checkpoint in the cluster log");
        let foreign = VerifierKeys { cluster_log: keys.vkeys[0].clone(), ..keys.clone() };
        assert!(check_receipt(&view, id, &foreign).is_err(), "a partition's key for the cluster log");
        let alone = VerifierKeys { cosigners: vec![], ..keys };
        assert_eq!(check_receipt(&view, id, &alone).expect("the log signed it").vouched, []);
    }
}
