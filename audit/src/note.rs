//! C2SP signed notes (c2sp.org/signed-note v1.0.0) with Ed25519: text, blank line, signature lines.
//!
//! A log's key is named as its origin; cosigners have names of their own ([`cosign`]). Signatures by unknown keys are
//! ignored, so that cosigners and new algorithms can add lines; a wrong signature by a known key refuses the whole note.
//! Text is not to be believed before that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

pub mod cosign;

/// A whole note; a checkpoint with one signature takes about 200 B.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Signature lines read; the format asks verifiers to take at least 16.
pub const SIGNATURES_MAX: usize = 64;
/// Between the text and the signatures, an em dash and a space begin each line.
const SIGNATURE_START: &str = "\u{2014} ";

/// Why a note or a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the shape of a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not the shape of a verifier key.
    #[error("not a verifier key (name+id+key): {0}")]
    VerifierKey(&'static str),
    /// The name is empty or holds a space or a plus.
    #[error("{0:?} cannot be the name of a key")]
    Name(String),
    /// Nobody known signed it.
    #[error("no signature is by a known key")]
    NoKnownKey,
    /// A known key's signature is wrong.
    #[error("the signature by {0} does not fit the text")]
    WrongSignature(String),
}

/// Signs notes under one name.
pub struct Signer {
    name: String,
    key: Ed25519KeyPair,
}

/// What a key's signatures say. The type byte of key ids and verifier keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyKind {
    /// Signs the text as it is: a log's own key.
    Log = 1,
    /// Signs the text and a time (c2sp.org/tlog-cosignature): a replica or a witness.
    Cosigner = 4,
}

/// Verifies what one key signed under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: u32,
    public: [u8; 32],
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub key_id: u32,
    /// What the key's algorithm gave.
    pub bytes: Vec<u8>,
}

/// A note taken apart. Its text is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Signer {
    /// A signer from a 32-byte Ed25519 seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let key = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes is always accepted");
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name that it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that verifies what this signs.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::of(&self.name, KeyKind::Log, public_of(&self.key))
    }

    /// `text`, a blank line and one signature. The text must end in a newline and hold no other control characters.
    pub fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.line(text))
    }

    /// One signature line, to stand behind others of a note with this text.
    pub fn line(&self, text: &str) -> String {
        assert!(check_text(text).is_ok(), "notes are composed here from lines without control characters");
        let signature = self.key.sign(text.as_bytes());
        signature_line(&self.name, self.verifier_key().id, signature.as_ref())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

impl VerifierKey {
    /// From a public key.
    pub fn new(name: &str, kind: KeyKind, public: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self::of(name, kind, public))
    }

    fn of(name: &str, kind: KeyKind, public: [u8; 32]) -> Self {
        Self { name: name.to_owned(), kind, id: key_id(name, kind, &public), public }
    }

    /// From the text form `name+id+key`.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let refuse = NoteError::VerifierKey;
        let mut parts = vkey.trim_end().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("three parts with + between them are wanted"));
        };
        check_name(name)?;
        let id = <[u8; 4]>::try_from(hex::decode(id).map_err(|_| refuse("the id is not hex"))?)
            .map_err(|_| refuse("the id has not 8 digits"))?;
        let key = STANDARD.decode(key).map_err(|_| refuse("the key is not base64"))?;
        let (kind, public) = match key.split_first() {
            Some((1, public)) => (KeyKind::Log, public),
            Some((4, public)) => (KeyKind::Cosigner, public),
            _ => return Err(refuse("not an Ed25519 key of a log or a cosigner")),
        };
        let public = public.try_into().map_err(|_| refuse("the key has not 32 bytes"))?;
        let key = Self::new(name, kind, public)?;
        if key.id == u32::from_be_bytes(id) { Ok(key) } else { Err(refuse("the id does not fit name and key")) }
    }

    /// The name that its signer signs under: a log's origin, or a cosigner's own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures say.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The Ed25519 public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn fits(&self, text: &str, signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, &self.public);
        match self.kind {
            KeyKind::Log => public.verify(text.as_bytes(), signature).is_ok(),
            KeyKind::Cosigner => cosign::timed(signature).is_some_and(|(at_s, signature)| {
                public.verify(cosign::message(text, at_s).as_bytes(), signature).is_ok()
            }),
        }
    }

    fn signed(&self, signature: &Signature) -> bool {
        self.name == signature.name && self.id == signature.key_id
    }
}

impl std::fmt::Display for VerifierKey {
    /// The text form `name+id+key`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = vec![self.kind as u8];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl Signature {
    /// The line, with its newline.
    pub fn line(&self) -> String {
        signature_line(&self.name, self.key_id, &self.bytes)
    }

    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] and [`NoteError::Name`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        parse_signature(line)
    }
}

impl Note {
    /// Takes a note apart.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let refuse = NoteError::Malformed;
        if note.len() > NOTE_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        check_text(note)?;
        let split = note.rfind("\n\n").ok_or(refuse("there is no blank line"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let signatures =
            lines.lines().take(SIGNATURES_MAX + 1).map(parse_signature).collect::<Result<Vec<_>, NoteError>>()?;
        match signatures.len() {
            0 => Err(refuse("there is no signature")),
            1..=SIGNATURES_MAX => Ok(Self { text: text.to_owned(), signatures }),
            _ => Err(refuse("there are too many signatures")),
        }
    }

    /// The text, once at least one of `keys` signed it and no known key's signature is wrong.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<&str, NoteError> {
        let mut known = 0;
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.signed(signature)) else { continue };
            if !key.fits(&self.text, &signature.bytes) {
                return Err(NoteError::WrongSignature(signature.name.clone()));
            }
            known += 1;
        }
        if known == 0 { Err(NoteError::NoKnownKey) } else { Ok(&self.text) }
    }

    /// The note with no other signature lines than those of `key`, as its signer wrote it; `None` where it has none.
    pub fn only(&self, key: &VerifierKey) -> Option<String> {
        let own = self.signatures.iter().find(|signature| key.signed(signature))?;
        Some(format!("{}\n{}", self.text, own.line()))
    }

    /// The text, whoever signed it. For choosing keys and for showing, never for believing.
    pub fn text_unverified(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

/// First four bytes, big endian, of SHA-256(name ‖ newline ‖ type ‖ public key).
fn key_id(name: &str, kind: KeyKind, public: &[u8; 32]) -> u32 {
    let hash = Sha256::new_with_prefix(name).chain_update([b'\n', kind as u8]).chain_update(public).finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn public_of(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
}

fn signature_line(name: &str, key_id: u32, signature: &[u8]) -> String {
    let mut bytes = key_id.to_be_bytes().to_vec();
    bytes.extend_from_slice(signature);
    format!("{SIGNATURE_START}{name} {}\n", STANDARD.encode(bytes))
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let refused = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ');
    if refused { Err(NoteError::Name(name.chars().take(80).collect())) } else { Ok(()) }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("it does not end in a newline"));
    }
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Malformed("it holds control characters"));
    }
    Ok(())
}

fn parse_signature(line: &str) -> Result<Signature, NoteError> {
    let refuse = || NoteError::Malformed("a signature line is not \"\u{2014} name base64\"");
    let (name, encoded) =
        line.strip_prefix(SIGNATURE_START).and_then(|rest| rest.split_once(' ')).ok_or_else(refuse)?;
    check_name(name)?;
    let decoded = STANDARD.decode(encoded).map_err(|_| refuse())?;
    let (id, bytes) = decoded.split_first_chunk::<4>().filter(|(_, bytes)| !bytes.is_empty()).ok_or_else(refuse)?;
    Ok(Signature { name: name.to_owned(), key_id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of Go's golang.org/x/mod/sumdb/note: a key, a text and a signature that others made.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your \
        problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotp\
        RZb6KE6RyyBwJnAM=\n";

    fn signer() -> Signer {
        Signer::from_seed("demo/p/2/1", &[7; 32]).expect("a good name")
    }

    #[test]
    fn a_note_made_by_the_go_implementation_verifies() {
        let key = VerifierKey::parse(GO_KEY).expect("their key");
        assert_eq!(key.to_string(), GO_KEY);
        let note = Note::parse(GO_NOTE).expect("their note");
        assert!(note.verify(&[key]).expect("their signature").starts_with("If you think"));
    }

    #[test]
    fn signing_is_pinned_and_reads_back() {
        let signed = signer().sign("demo/p/2/1\n5\nroot\n");
        let key = signer().verifier_key();
        assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key.clone()));
        assert_eq!(
            Note::parse(&signed).expect("own note").verify(std::slice::from_ref(&key)),
            Ok("demo/p/2/1\n5\nroot\n")
        );
        assert_eq!(key.to_string(), PINNED_KEY);
    }

    const PINNED_KEY: &str = "demo/p/2/1+1ea134a7+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

    #[test]
    fn unknown_keys_are_ignored_and_known_ones_must_fit() {
        let (ours, other) = (signer(), Signer::from_seed("other", &[8; 32]).expect("a good name"));
        let signed = ours.sign("text\n");
        let both = signed.clone() + other.sign("text\n").lines().last().expect("a signature") + "\n";
        let note = Note::parse(&both).expect("two signatures");
        assert_eq!(note.signatures().len(), 2);
        assert!(note.verify(&[ours.verifier_key()]).is_ok());
        assert!(note.verify(&[other.verifier_key()]).is_ok());
        assert_eq!(note.verify(&[]), Err(NoteError::NoKnownKey));
        let forged = Note::parse(&signed.replace("text", "test")).expect("still a note");
        assert_eq!(forged.verify(&[ours.verifier_key()]), Err(NoteError::WrongSignature("demo/p/2/1".into())));
        let wrong = Signer::from_seed("demo/p/2/1", &[9; 32]).expect("a good name").verifier_key();
        assert_eq!(note.verify(&[wrong]), Err(NoteError::NoKnownKey));
    }

    #[test]
    fn malformed_notes_and_keys_are_refused() {
        let signed = signer().sign("text\n");
        for bad in ["", "\n", "text\n", "text\n\n", "text\n\n\u{2014} a AAAA\n", "text\n\n- name AAAAAAAA\n"] {
            assert!(Note::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Note::parse(signed.trim_end()).is_err());
        assert!(Note::parse(&signed.replace("text", "te\txt")).is_err());
        let key = signer().verifier_key().to_string();
        for bad in [key.replace("+A", "+B"), key.replace("demo", "domo"), key.replace('+', " "), "a+b".into()] {
            assert!(VerifierKey::parse(&bad).is_err(), "{bad:?}");
        }
        assert!(Signer::from_seed("has space", &[7; 32]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\PC\n+ \u{2014}]{0,80}") {
            let _ = Note::parse(&text);
            let _ = VerifierKey::parse(&text);
        }
    }
}
