//! The tree against published vectors and against the recursive definitions of RFC 6962, section 2.1.

use proptest::prelude::*;

use super::*;

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

fn naive_split(leaves: usize) -> usize {
    let mut split = 1;
    while split * 2 < leaves {
        split *= 2;
    }
    split
}

fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = naive_split(leaves.len());
    let (left, right) = leaves.split_at(split);
    let (mut path, sibling) =
        if index < split { (naive_path(index, left), right) } else { (naive_path(index - split, right), left) };
    path.push(naive_root(sibling));
    path
}

fn naive_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let split = naive_split(leaves.len());
    let (left, right) = leaves.split_at(split);
    let (mut proof, sibling) = if old <= split {
        (naive_subproof(old, left, whole), right)
    } else {
        (naive_subproof(old - split, right, false), left)
    };
    proof.push(naive_root(sibling));
    proof
}

fn naive_consistency(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    if old == 0 { Vec::new() } else { naive_subproof(old, leaves, true) }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count as u64).map(|n| leaf_hash(&n.to_le_bytes())).collect()
}

fn tree_of(leaves: &[Hash]) -> TileTree {
    let mut tree = TileTree::default();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree
}

fn source(leaves: &[Hash]) -> impl Fn(u64) -> Option<Vec<Hash>> + '_ {
    |tile| leaves.chunks_exact(TILE_LEAVES as usize).nth(tile as usize).map(<[Hash]>::to_vec)
}

/// The test vectors that the certificate transparency implementations share.
#[test]
fn published_roots_come_out() {
    let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::default();
    assert_eq!(hex::encode(frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (input, root) in inputs.iter().zip(roots) {
        frontier.append(leaf_hash(&hex::decode(input).expect("hex")));
        assert_eq!(hex::encode(frontier.root()), root, "after {} leaves", frontier.size());
    }
}

#[test]
fn every_root_and_inclusion_proof_up_to_300_leaves_equals_the_definition() {
    let leaves = leaves(300);
    let (tree, source) = (tree_of(&leaves), source(&leaves));
    for size in 1..=leaves.len() {
        let root = naive_root(&leaves[..size]);
        assert_eq!(tree.root_at(size as u64, &source), Ok(root));
        assert_eq!(root_of(&leaves[..size]), root);
        for index in (0..size).step_by(if size < 40 { 1 } else { 7 }) {
            let proof = tree.inclusion_proof(index as u64, size as u64, &source).expect("in range");
            assert_eq!(proof, naive_path(index, &leaves[..size]), "{index} in {size}");
            assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &root));
            assert!(!verify_inclusion(&leaves[index], index as u64 + 1, size as u64, &proof, &root));
        }
    }
}

#[test]
fn consistency_proofs_up_to_300_leaves_equal_the_definition() {
    let leaves = leaves(300);
    let (tree, source) = (tree_of(&leaves), source(&leaves));
    let roots: Vec<Hash> = (0..=leaves.len()).map(|size| naive_root(&leaves[..size])).collect();
    for new in 0..=leaves.len() {
        for old in (0..=new).step_by(if new < 40 { 1 } else { 5 }) {
            let proof = tree.consistency_proof(old as u64, new as u64, &source).expect("in range");
            assert_eq!(proof, naive_consistency(old, &leaves[..new]), "{old} to {new}");
            assert!(verify_consistency(old as u64, new as u64, &proof, &roots[old], &roots[new]));
            if old != new {
                assert!(old == 0 || !verify_consistency(old as u64, new as u64, &proof, &roots[new], &roots[new]));
                assert!(old == 0 || !verify_consistency(old as u64, new as u64, &proof, &roots[old], &roots[old]));
            }
        }
    }
}

#[test]
fn proofs_in_large_trees_equal_the_definition() {
    let leaves = leaves(70_500);
    let (tree, source) = (tree_of(&leaves), source(&leaves));
    for size in [65_535, 65_536, 65_537, 69_999, 70_144, 70_500] {
        let root = naive_root(&leaves[..size]);
        assert_eq!(tree.root_at(size as u64, &source), Ok(root));
        for index in [0, 255, 256, 65_534, size - 1] {
            let proof = tree.inclusion_proof(index as u64, size as u64, &source).expect("in range");
            assert_eq!(proof, naive_path(index, &leaves[..size]), "{index} in {size}");
            assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &root));
        }
        for old in [1, 256, 40_000, 65_535] {
            let proof = tree.consistency_proof(old as u64, size as u64, &source).expect("in range");
            assert_eq!(proof, naive_consistency(old, &leaves[..size]), "{old} to {size}");
        }
    }
}

#[test]
fn a_missing_tile_and_a_place_outside_the_tree_are_errors() {
    let leaves = leaves(600);
    let tree = tree_of(&leaves);
    assert_eq!(tree.inclusion_proof(3, 600, &|_| None), Err(TreeError::TileMissing(0)));
    assert_eq!(tree.inclusion_proof(3, 600, &|_| Some(vec![[0; 32]; 5])), Err(TreeError::TileMissing(0)));
    assert_eq!(tree.inclusion_proof(600, 600, &|_| None), Err(TreeError::OutOfRange { asked: 600, size: 600 }));
    assert_eq!(tree.inclusion_proof(0, 601, &|_| None), Err(TreeError::OutOfRange { asked: 601, size: 600 }));
    assert_eq!(tree.consistency_proof(5, 4, &|_| None), Err(TreeError::OutOfRange { asked: 5, size: 4 }));
    assert!(tree.inclusion_proof(599, 600, &|_| None).is_ok(), "the tail's tile is in memory");
}

proptest! {
    #[test]
    fn a_frontier_and_a_tile_tree_survive_being_written_down(count in 0usize..1_500, more in 0usize..300) {
        let all = leaves(count + more);
        let mut frontier = Frontier::default();
        all[..count].iter().for_each(|leaf| frontier.append(*leaf));
        let mut back = Frontier::from_hashes(frontier.size(), frontier.to_hashes()).expect("own hashes");
        let tiles = all[..count].chunks_exact(256).map(root_of);
        let mut tree = TileTree::from_tiles(tiles, &all[count / 256 * 256..count]);
        for leaf in &all[count..] {
            back.append(*leaf);
            tree.append(*leaf);
        }
        prop_assert_eq!(back.root(), naive_root(&all));
        prop_assert_eq!(&tree, &tree_of(&all));
        prop_assert!(Frontier::from_hashes(count as u64, vec![[0; 32]; 60]).is_none());
    }

    #[test]
    fn a_changed_proof_is_refused(size in 2usize..400, index in any::<prop::sample::Index>(), bit in 0usize..256, part in any::<prop::sample::Index>()) {
        let all = leaves(size);
        let (tree, source) = (tree_of(&all), source(&all));
        let index = index.index(size);
        let mut proof = tree.inclusion_proof(index as u64, size as u64, &source).expect("in range");
        let root = tree.root();
        let short = &proof[1..];
        prop_assert!(!verify_inclusion(&all[index], index as u64, size as u64, short, &root));
        let part = part.index(proof.len());
        proof[part][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_inclusion(&all[index], index as u64, size as u64, &proof, &root));
    }
}
