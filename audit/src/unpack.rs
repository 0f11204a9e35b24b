//! Unpacks zstd frames with a prepared dictionary, all of a thread's with one context. Knows nothing of what is in them.
//!
//! A context takes about 160 KB, which the allocator would get from the system and give back each time: with a new one for each
//! frame, a kilobyte's body takes several times as long, and 16 KiB of leaves twice as long.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, DDict, get_frame_content_size};

thread_local! {
    /// What was unpacked before has no bearing on what comes next.
    static CONTEXT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// What a frame holds. None where it does not say how many bytes these are, where they are more than `bytes_max`, or where it is
/// not what was packed with this dictionary.
pub(crate) fn unpack(packed: &[u8], dictionary: &DDict<'_>, bytes_max: usize) -> Option<Vec<u8>> {
    let size = get_frame_content_size(packed).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= bytes_max)?;
    let mut unpacked = Vec::with_capacity(size);
    CONTEXT.with_borrow_mut(|context| {
        if context.is_none() {
            *context = DCtx::try_create();
        }
        // Each frame begins anew, whatever became of the one before.
        context.as_mut()?.decompress_using_ddict(&mut unpacked, packed, dictionary).ok()
    })?;
    Some(unpacked)
}

#[cfg(test)]
mod tests {
    use zstd::bulk::Compressor;

    use super::*;

    #[test]
    fn a_frame_that_does_not_read_spoils_none_after_it_and_no_dictionary_is_taken_for_another() {
        let words = |first: u8| (0..2_000u32).map(|at| first.wrapping_add((at * at / 7) as u8)).collect::<Vec<_>>();
        let (one, other) = (words(1), words(90));
        let (reads_one, reads_other) = (DDict::create(&one), DDict::create(&other));
        let mut packer = Compressor::with_dictionary(3, &one).unwrap();
        let (text, mut packed) = (one[300..1_500].to_vec(), packer.compress(&one[300..1_500]).unwrap());
        assert!(packed.len() < text.len() / 4, "it needs its dictionary");
        for _ in 0..2 {
            assert_eq!(unpack(&packed, &reads_one, 1_200), Some(text.clone()));
            assert_ne!(unpack(&packed, &reads_other, 1_200), Some(text.clone()));
            assert_eq!(unpack(&packed, &reads_one, 1_199), None, "it has more");
            assert_eq!(unpack(&packed[..packed.len() - 3], &reads_one, 1_200), None);
            assert_eq!(unpack(b"no frame", &reads_one, 1_200), None);
        }
        packed.truncate(6);
        assert_eq!(unpack(&packed, &reads_one, 1_200), None);
    }
}
