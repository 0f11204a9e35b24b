//! Holds a log that is published as C2SP tiles against the crates signed_note, tlog_tiles and sigstore-merkle.
//!
//! Nothing of Nethical is in here: it believes verifier keys and hashes, and must not believe anything that was changed on
//! the way. Prints what it has verified as JSON, or says what it does not believe.
//!
//! Run: `nethical-foreign-verifiers http://127.0.0.1:8001/log/2 LOG-VKEY [COSIGNER-VKEY ...]`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use sigstore_merkle::{hash_leaf, verify_consistency_proof, verify_inclusion_proof};
use sigstore_types::Sha256Hash;
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader, Tile, TileHashReader, TileReader, check_record, check_tree, prove_record,
    prove_tree, record_hash, stored_hash_index, tree_hash,
};

type Outcome<T> = Result<T, String>;
/// What happens to a resource on the way.
type Change = fn(&str, Vec<u8>) -> Vec<u8>;

const HEIGHT: u8 = 8;
const WIDTH: u64 = 1 << HEIGHT;
/// Records of a log that are proved, at most.
const PROVED_MAX: u64 = 97;

/// Where a log is published, and what is changed on the way. What has a width in its name is fetched once.
struct Source {
    prefix: String,
    change: Option<Change>,
    fetched: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Source {
    fn new(prefix: &str, change: Option<Change>) -> Self {
        Self { prefix: prefix.to_owned(), change, fetched: RefCell::default() }
    }

    fn once(&self, path: &str) -> Outcome<Vec<u8>> {
        if let Some(held) = self.fetched.borrow().get(path) {
            return Ok(held.clone());
        }
        let data = self.fetch(path)?;
        self.fetched.borrow_mut().insert(path.to_owned(), data.clone());
        Ok(data)
    }

    fn fetch(&self, path: &str) -> Outcome<Vec<u8>> {
        let url = self.prefix.strip_prefix("http://").ok_or("the prefix begins with http://")?;
        let (host, folder) = url.split_once('/').ok_or("the prefix names a path")?;
        let mut stream = TcpStream::connect(host).map_err(said)?;
        write!(stream, "GET /{folder}/{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").map_err(said)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(said)?;
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or("no answer")?;
        let (head, body) = (String::from_utf8_lossy(&answer[..end]), answer[end + 4..].to_vec());
        if head.split_whitespace().nth(1) != Some("200") {
            return Err(format!("{path}: {head}"));
        }
        Ok(self.change.map_or(body.clone(), |change| change(path, body)))
    }
}

impl TileReader for Source {
    fn height(&self) -> u8 {
        HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| {
            let place = place(tile.level_index(), u64::from(tile.width()));
            self.once(&format!("tile/{}/{place}", tile.level())).map_err(Error::InvalidInput)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// The number of a tile as the specification writes it.
fn place(number: u64, width: u64) -> String {
    let mut text = format!("{:03}", number % 1_000);
    let mut rest = number / 1_000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1_000);
        rest /= 1_000;
    }
    if width < WIDTH { format!("{text}.p/{width}") } else { text }
}

/// A key of type 0x04 (c2sp.org/tlog-cosignature).
struct Cosigner {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl Cosigner {
    fn new(vkey: &str) -> Outcome<Self> {
        let parts: Vec<&str> = vkey.splitn(3, '+').collect();
        let [name, id, key] = parts[..] else { return Err("not a verifier key".to_owned()) };
        let key = STANDARD.decode(key).map_err(said)?;
        let id = u32::from_str_radix(id, 16).map_err(said)?;
        let bytes: [u8; 32] = key.get(1..).and_then(|key| key.try_into().ok()).ok_or("not a key of 32 bytes")?;
        if key[0] != 4 || id != signed_note::key_id(name, &key) {
            return Err("not the key of a cosigner".to_owned());
        }
        Ok(Self { name: name.to_owned(), id, key: VerifyingKey::from_bytes(&bytes).map_err(said)? })
    }
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((at, signature)) = signature.split_first_chunk::<8>() else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        let mut message = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*at)).into_bytes();
        message.extend_from_slice(text);
        self.key.verify(&message, &signature).is_ok()
    }
}

/// Opens the checkpoint with the keys given: what it says, and who signed beside the log.
fn head(source: &Source, vkeys: &[String]) -> Outcome<(Checkpoint, Vec<String>)> {
    let log = StandardVerifier::new(&vkeys[0]).map_err(said)?;
    let origin = log.name().to_owned();
    let mut keys: Vec<Box<dyn Verifier>> = vec![Box::new(log)];
    for vkey in &vkeys[1..] {
        keys.push(Box::new(Cosigner::new(vkey)?));
    }
    let note = Note::from_bytes(&source.fetch("checkpoint")?).map_err(said)?;
    let (verified, _) = note.verify(&VerifierList::new(keys)).map_err(said)?;
    let names: Vec<String> = verified.iter().map(|signature| signature.name().to_owned()).collect();
    let checkpoint = Checkpoint::from_bytes(note.text()).map_err(said)?;
    if !names.contains(&origin) || checkpoint.origin() != origin {
        return Err(format!("the note is not a checkpoint of {origin}"));
    }
    Ok((checkpoint, names.into_iter().filter(|name| *name != origin).collect()))
}

/// The leaves of a tree, each held against its hash.
fn entries(source: &Source, size: u64, reader: &impl HashReader) -> Outcome<Vec<Vec<u8>>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    while (all.len() as u64) < size {
        let at = all.len() as u64;
        let width = (size - at).min(WIDTH);
        let bundle = source.fetch(&format!("tile/entries/{}", place(at / WIDTH, width)))?;
        let mut rest = bundle.as_slice();
        let indexes: Vec<u64> = (at..at + width).map(|index| stored_hash_index(0, index)).collect();
        for (index, hash) in (at..).zip(reader.read_hashes(&indexes).map_err(said)?) {
            let (length, behind) = rest.split_first_chunk::<2>().ok_or("a bundle is cut")?;
            let length = usize::from(u16::from_be_bytes(*length));
            let leaf = behind.get(..length).ok_or("a bundle is cut")?;
            if record_hash(leaf) != hash {
                return Err(format!("leaf {index} does not have its hash"));
            }
            all.push(leaf.to_vec());
            rest = &behind[length..];
        }
        if !rest.is_empty() {
            return Err("a bundle has more leaves than its name says".to_owned());
        }
    }
    Ok(all)
}

fn sigstore(hashes: &[Hash]) -> Vec<Sha256Hash> {
    hashes.iter().map(|hash| Sha256Hash::new(hash.0)).collect()
}

/// Checks all that there is of a log.
fn verify(source: &Source, vkeys: &[String]) -> Outcome<serde_json::Value> {
    let (checkpoint, cosigners) = head(source, vkeys)?;
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let reader = TileHashReader::new(size, root, source);
    if tree_hash(size, &reader).map_err(said)? != root {
        return Err("the tiles do not have the checkpoint's root".to_owned());
    }
    let leaves = entries(source, size, &reader)?;
    let mut proved = 0;
    for index in (0..size).step_by((1 + size / PROVED_MAX) as usize) {
        prove_one(&reader, (size, root), index, &leaves[index as usize])?;
        prove_prefix(&reader, (size, root), index + 1)?;
        proved += 1;
    }
    let origin = checkpoint.origin();
    Ok(serde_json::json!({ "origin": origin, "size": size, "proved": proved, "cosigners": cosigners }))
}

/// One record: both crates believe its proof, and neither a changed leaf, another place, or a proof that is cut or longer.
fn prove_one(reader: &impl HashReader, (size, root): (u64, Hash), index: u64, leaf: &[u8]) -> Outcome<()> {
    let proof = prove_record(size, index, reader).map_err(said)?;
    let holds = |proof: &Vec<Hash>, index: u64, leaf: &[u8]| {
        let tiles = check_record(proof, size, root, index, record_hash(leaf)).is_ok();
        let root = Sha256Hash::new(root.0);
        let merkle = verify_inclusion_proof(&hash_leaf(leaf), index, size, &sigstore(proof), &root).is_ok();
        (tiles, merkle)
    };
    let mut changed = leaf.to_vec();
    changed[0] ^= 1;
    let mut longer = proof.clone();
    longer.push(root);
    let refused = [
        ("a changed leaf", holds(&proof, index, &changed)),
        ("a place behind the end", holds(&proof, size, leaf)),
        ("another place", if size > 1 { holds(&proof, index ^ 1, leaf) } else { (false, false) }),
        ("a proof that is too long", holds(&longer, index, leaf)),
        ("a proof that is cut", if size > 1 { holds(&proof[1..].to_vec(), index, leaf) } else { (false, false) }),
    ];
    if let Some((what, _)) = refused.into_iter().find(|(_, believed)| *believed != (false, false)) {
        return Err(format!("{what} was believed for record {index} of {size}"));
    }
    match holds(&proof, index, leaf) {
        (true, true) => Ok(()),
        other => Err(format!("record {index} of {size} is not believed: {other:?}")),
    }
}

/// One prefix: both crates believe that the tree appends to it, and not with another root or a cut proof.
fn prove_prefix(reader: &impl HashReader, (size, root): (u64, Hash), old: u64) -> Outcome<()> {
    let old_root = tree_hash(old, reader).map_err(said)?;
    let proof = prove_tree(size, old, reader).map_err(said)?;
    let holds = |proof: &Vec<Hash>, old_root: Hash| {
        let tiles = check_tree(proof, size, root, old, old_root).is_ok();
        let (before, after) = (Sha256Hash::new(old_root.0), Sha256Hash::new(root.0));
        (tiles, verify_consistency_proof(old, size, &sigstore(proof), &before, &after).is_ok())
    };
    let mut other = old_root;
    other.0[31] ^= 1;
    if holds(&proof, other) != (false, false) {
        return Err(format!("another root of the first {old} leaves was believed"));
    }
    if !proof.is_empty() && holds(&proof[1..].to_vec(), old_root) != (false, false) {
        return Err(format!("a cut proof of the first {old} leaves was believed"));
    }
    match holds(&proof, old_root) {
        (true, true) => Ok(()),
        found => Err(format!("the first {old} of {size} leaves are not believed: {found:?}")),
    }
}

fn flipped(mut data: Vec<u8>, at: usize) -> Vec<u8> {
    if let Some(byte) = data.get_mut(at) {
        *byte ^= 1;
    }
    data
}

/// What must not be believed: each changes one thing on the way.
const TAMPERED: [(&str, Change); 4] = [
    ("a hash of the lowest tiles", |path, data| match path.starts_with("tile/0/") {
        true => flipped(data.clone(), data.len() / 2),
        false => data,
    }),
    ("the last byte of the leaves", |path, data| match path.starts_with("tile/entries/") {
        true => flipped(data.clone(), data.len().saturating_sub(1)),
        false => data,
    }),
    ("a byte of the checkpoint's root", |path, data| match path {
        "checkpoint" => {
            let lines: Vec<usize> = (0..data.len()).filter(|at| data[*at] == b'\n').collect();
            flipped(data, lines[1] + 3)
        }
        _ => data,
    }),
    ("the size in the checkpoint", |path, data| match path {
        "checkpoint" => {
            let at = data.iter().position(|byte| *byte == b'\n').map_or(0, |line| line + 1);
            [&data[..at], b"1", &data[at..]].concat()
        }
        _ => data,
    }),
];

fn run(arguments: &[String]) -> Outcome<serde_json::Value> {
    let (prefix, vkeys) = arguments.split_first().ok_or("usage: PREFIX LOG-VKEY [COSIGNER-VKEY ...]")?;
    if vkeys.is_empty() {
        return Err("usage: PREFIX LOG-VKEY [COSIGNER-VKEY ...]".to_owned());
    }
    let found = verify(&Source::new(prefix, None), vkeys)?;
    for (what, change) in TAMPERED {
        if verify(&Source::new(prefix, Some(change)), vkeys).is_ok() {
            return Err(format!("{what} was changed and nobody noticed"));
        }
    }
    Ok(found)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(found) => println!("{found}"),
        Err(why) => {
            eprintln!("not verified: {why}");
            std::process::exit(1);
        }
    }
}
