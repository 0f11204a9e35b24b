//! What a cold file is made of: a segment's own records, with each body in the clear that may be read, once it was held against
//! its leaf. A body that nobody may read is not in it at all.

use nethical_audit::body::dropped::split;
use nethical_audit::body::{self, SealedFor, sealed_for};
use nethical_audit::leaf::LeafV1;

use super::{READ_LEAVES, Tier};
use crate::cold::{self, Body, Record};
use crate::opening::keys_for;
use crate::tier::Rule;

impl Tier<'_> {
    /// The records of a segment, with all bodies in the clear that may be read.
    pub(super) async fn own_records(&self, first: u64, next: u64) -> Result<Vec<Record>, String> {
        let rule = Rule::of(self.core, &self.replica.store);
        let (pace, mut records) = (self.pace(), Vec::with_capacity((next - first) as usize));
        let mut raw_bytes = 0u64;
        while first + (records.len() as u64) < next {
            let from = first + records.len() as u64;
            let stored = self.replica.store.read(from, READ_LEAVES.min(next - from)).await;
            let stored = stored.map_err(|error| error.to_string())?;
            if stored.is_empty() {
                return Err(format!("leaf {from} is not here"));
            }
            for (leaf, stored) in stored {
                let body = self.in_the_clear(&rule, &leaf, &stored)?;
                raw_bytes += (leaf.len() + stored.len()) as u64;
                raw_bytes += if let Body::Clear { plaintext, .. } = &body { plaintext.len() as u64 } else { 0 };
                records.push(Record { leaf, body });
            }
            if raw_bytes > cold::RAW_BYTES_MAX {
                return Err("its bodies are too many bytes for one file".to_owned());
            }
            pace.spend((READ_LEAVES * 1_024) as usize).await;
        }
        Ok(records)
    }

    /// What a file has of a body: all of it where it may be read, and nothing otherwise.
    fn in_the_clear(&self, rule: &Rule, leaf: &[u8], stored: &[u8]) -> Result<Body, String> {
        let nothing = || Ok(Body::Stored(Vec::new()));
        let Some(of) = sealed_for(stored) else { return nothing() };
        let leaf = LeafV1::decode(leaf).map_err(|error| error.to_string())?;
        if rule.may_drop(&leaf, Some(of)).is_some() {
            return nothing();
        }
        let keys = keys_for(self.core, self.replica, &leaf, of).map_err(|problem| problem.detail)?;
        let Some(keys) = keys else { return nothing() };
        let opened = body::open(&keys, stored, self.core.shared.view().dictionaries().known());
        let (plaintext, commitment) = opened.map_err(|error| format!("leaf {}: {error}", leaf.leaf_index))?;
        if commitment != leaf.body_commitment {
            return Err(format!("leaf {}: the body is not the one that the leaf commits to", leaf.leaf_index));
        }
        Ok(Body::Clear { head: split(stored).0.to_vec(), plaintext })
    }

    /// True where a body that was sealed so may still be read, by what is applied here.
    pub(super) fn may_read(&self, rule: &Rule, leaf: &LeafV1, of: SealedFor) -> bool {
        let is_held = crate::opening::has_keys(self.replica, leaf, of);
        is_held && rule.may_drop(leaf, Some(of)).is_none()
    }
}
