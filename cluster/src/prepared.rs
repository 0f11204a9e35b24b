//! What takes milliseconds to make and belongs to no node's state: detectors, the taxonomy, and policy bundles that were parsed before.
//!
//! A bundle is parsed by whoever accepts it and again by whoever takes its event in, and by every node that one process
//! hosts; a simulator starts nodes over and over. All of it is pure, so it may be shared by nodes and outlive them: what
//! is held here shows only in speed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use nethical_governance::detect::Detectors;
use nethical_governance::policy::{Bundle, PolicyError};
use nethical_governance::taxonomy::Taxonomy;

/// Bundles that are remembered, the latest ones. Each takes about as much as its text, and a memo of up to a megabyte.
const BUNDLES_MAX: usize = 4;

/// Detectors and parsed bundles.
#[derive(Default)]
pub struct Prepared {
    /// Detectors, ready to run.
    pub detectors: Detectors,
    /// By which decisions are explained.
    pub taxonomy: Taxonomy,
    /// The latest one last.
    bundles: Mutex<VecDeque<Arc<Bundle>>>,
}

impl Prepared {
    /// With detectors that were made before.
    pub fn with(detectors: Detectors) -> Self {
        Self { detectors, taxonomy: Taxonomy::default(), bundles: Mutex::default() }
    }

    /// With a taxonomy of the operator's own.
    pub fn explained_by(taxonomy: Taxonomy) -> Self {
        Self { detectors: Detectors::default(), taxonomy, bundles: Mutex::default() }
    }

    /// The bundle of a text: the one that was made before, where its text was the same.
    ///
    /// # Errors
    /// As [`Bundle::parse`]. Errors are not remembered.
    pub fn bundle(&self, text: &str) -> Result<Arc<Bundle>, PolicyError> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if let Some(held) = self.bundles.lock().iter().find(|held| held.digest() == digest) {
            return Ok(held.clone());
        }
        // Parsed without the lock: it takes long, and two who parse the same text come to the same.
        let bundle = Arc::new(Bundle::parse(text)?);
        let mut bundles = self.bundles.lock();
        bundles.push_back(bundle.clone());
        if bundles.len() > BUNDLES_MAX {
            bundles.pop_front();
        }
        Ok(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_bundle_and_only_the_latest_are_held() {
        let prepared = Prepared::default();
        let text = |number: usize| format!("@id(\"rule-{number}\")\npermit (principal, action, resource);");
        let first = prepared.bundle(&text(0)).expect("it parses");
        assert!(Arc::ptr_eq(&first, &prepared.bundle(&text(0)).expect("it is held")));
        assert!(prepared.bundle("permit").is_err() && prepared.bundle("permit").is_err());
        for number in 1..=BUNDLES_MAX {
            assert_ne!(prepared.bundle(&text(number)).expect("it parses").digest(), first.digest());
        }
        let again = prepared.bundle(&text(0)).expect("it parses");
        assert!(!Arc::ptr_eq(&first, &again), "it gave way to later ones");
        assert_eq!(first.digest(), again.digest());
    }
}
