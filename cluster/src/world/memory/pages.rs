//! Sparse bytes: a page that holds only zeros takes no memory, and copies share their pages.
//!
//! Zero-filled log segments of many simulated nodes would not fit otherwise, and an image of a disk is taken after
//! every write when crashes are enumerated.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// The contents of a file.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    length: u64,
}

impl Pages {
    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Copies what is at `at` into `buffer`; past the end it reads zeros.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) {
        for (page, within, part) in spans(at, buffer.len()) {
            let source = self.pages.get(&page).map_or(&ZEROS, |page| page.as_ref());
            let count = part.len();
            buffer[part].copy_from_slice(&source[within..within + count]);
        }
    }

    /// As [`Pages::read`], into memory of its own.
    pub(super) fn copy(&self, at: u64, length: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(length);
        for (page, within, part) in spans(at, length) {
            let source = self.pages.get(&page).map_or(&ZEROS, |page| page.as_ref());
            buffer.extend_from_slice(&source[within..within + part.len()]);
        }
        buffer
    }

    /// Writes `data` at `at` and grows as needed.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) {
        for (page, within, part) in spans(at, data.len()) {
            let data = &data[part];
            if !self.pages.contains_key(&page) && *data == ZEROS[..data.len()] {
                continue;
            }
            let page = self.pages.entry(page).or_insert_with(|| Arc::new(ZEROS));
            Arc::make_mut(page)[within..within + data.len()].copy_from_slice(data);
        }
        self.length = self.length.max(at + data.len() as u64);
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, length: u64) {
        if length < self.length {
            let kept = (length % PAGE as u64) as usize;
            let mut tail = self.pages.split_off(&(length / PAGE as u64));
            if let (true, Some((number, mut page))) = (kept > 0, tail.pop_first())
                && number == length / PAGE as u64
            {
                Arc::make_mut(&mut page)[kept..].fill(0);
                self.pages.insert(number, page);
            }
        }
        self.length = length;
    }
}

/// The parts of a range of `length` bytes at `at`: page number, offset within the page, range within the buffer.
fn spans(at: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let position = at + done as u64;
        let within = (position % PAGE as u64) as usize;
        let part = done..length.min(done + PAGE - within);
        done = part.end;
        Some((position / PAGE as u64, within, part))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sparse_pages_equal_a_plain_vector(steps in prop::collection::vec((0u64..20_000, 0usize..9_000, any::<u8>(), any::<bool>()), 1..12)) {
            let (mut pages, mut plain) = (Pages::default(), Vec::new());
            for (at, length, byte, cut) in steps {
                if cut {
                    pages.set_len(at);
                    plain.resize(at as usize, 0);
                } else if length > 0 {
                    pages.write(at, &vec![byte % 3; length]);
                    plain.resize(plain.len().max(at as usize + length), 0);
                    plain[at as usize..at as usize + length].fill(byte % 3);
                }
                prop_assert_eq!(pages.len() as usize, plain.len());
                prop_assert_eq!(&pages.copy(0, plain.len()), &plain);
                let mut read = vec![9; plain.len()];
                pages.read(0, &mut read);
                prop_assert_eq!(&read, &plain);
            }
        }
    }
}
