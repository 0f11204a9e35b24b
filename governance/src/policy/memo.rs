//! A small memory of results: same facts, same result.
//!
//! Direct-mapped and of fixed size, so that it needs no eviction and its behaviour does not depend on what came before,
//! except in speed. Keys are compared whole: a collision of hashes costs a miss, never a wrong result.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Mutex;

use super::PolicyResult;

/// Places. With keys of at most [`KEY_BYTES_MAX`] a full memo takes about a megabyte per bundle.
const PLACES: usize = 1_024;
/// Longer keys are not remembered.
const KEY_BYTES_MAX: usize = 512;

/// A key and its result.
type Remembered = (Box<[u8]>, PolicyResult);

#[derive(Debug)]
pub(super) struct Memo {
    places: Vec<Mutex<Option<Remembered>>>,
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::new(None)).collect() }
    }

    /// The remembered result, or that of `compute`, remembered; and whether it was remembered before.
    pub(super) fn get_or(&self, key: &[u8], compute: impl FnOnce() -> PolicyResult) -> (PolicyResult, bool) {
        if key.len() > KEY_BYTES_MAX {
            return (compute(), false);
        }
        // SipHash under fixed keys: the same place on every machine.
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let place = &self.places[hasher.finish() as usize % PLACES];
        if let Ok(held) = place.lock()
            && let Some((held_key, result)) = held.as_ref()
            && **held_key == *key
        {
            return (result.clone(), true);
        }
        let result = compute();
        if let Ok(mut held) = place.lock() {
            *held = Some((key.into(), result.clone()));
        }
        (result, false)
    }
}
