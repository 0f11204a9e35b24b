//! Leaves that say whose keys are gone for good.

use super::super::ErasedLeaf;
use super::LeafError;
use crate::reader::Reader;

/// Subjects in a leaf.
pub const ERASED_MAX: usize = 16;

pub(super) fn put(out: &mut Vec<u8>, erased: &[ErasedLeaf]) {
    check(erased).expect("apply tells of so many at most");
    out.push(erased.len() as u8);
    for ErasedLeaf { slot, tenant, subject, below } in erased {
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(&tenant.0);
        out.extend_from_slice(&subject.0);
        out.extend_from_slice(&below.to_le_bytes());
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Vec<ErasedLeaf>> {
    let one = |reader: &mut Reader<'_>| {
        let (slot, tenant, subject) = (reader.u16()?, super::read_id(reader)?, super::read_id(reader)?);
        Some(ErasedLeaf { slot, tenant, subject, below: reader.u32()? })
    };
    (0..reader.u8()?).map(|_| one(reader)).collect()
}

pub(super) fn check(erased: &[ErasedLeaf]) -> Result<(), LeafError> {
    match (erased.len(), erased.iter().all(|one| one.below > 0)) {
        (1..=ERASED_MAX, true) => Ok(()),
        (1..=ERASED_MAX, false) => Err(LeafError::Range("generation")),
        _ => Err(LeafError::List("erased")),
    }
}
