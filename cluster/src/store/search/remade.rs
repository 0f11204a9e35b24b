//! Makes the search index of a closed segment again, from its leaves.

use nethical_audit::segment::search::{self, Rows};
use nethical_audit::segment::warm::WarmLeaves;
use nethical_audit::segment::{Damage, ScanEnd, SegmentScan, WarmFooter, WarmHeader};

/// The index of a closed segment, from its leaves.
pub(super) fn hot_index(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut scan = SegmentScan::new(bytes).ok()?;
    match scan.finish() {
        ScanEnd::Closed | ScanEnd::Damaged { damage: Damage::Index | Damage::Footer, .. } => Some(scan.search_index()),
        _ => None,
    }
}

/// The index of a warm segment, from its leaves.
pub(super) fn warm_index(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, footer) = (WarmHeader::decode(bytes).ok()?, WarmFooter::decode_end(bytes).ok()?);
    let mut rows = Rows::default();
    for span in &footer.frames {
        let from = usize::try_from(span.offset).ok()?;
        let packed = bytes.get(from..from.checked_add(span.packed_bytes as usize)?)?;
        let leaves = WarmLeaves::unpack(packed, span, &header.dictionary).ok()?;
        for index in span.first_index..leaves.next_index() {
            rows.push(leaves.get(index)?.0);
        }
    }
    let first = header.meta.first_index;
    let is_whole = rows.len() as u64 == u64::from(footer.leaves);
    is_whole.then(|| search::encode(&rows, first, footer.frame_index(first).frames()))
}
