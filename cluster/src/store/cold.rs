//! What a log's segments have to do with the cold tier: which of them are old enough for it, and which bodies leave this node
//! once they are in a cold file. The files themselves are [`crate::tier::cold`]'s.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::scrub::Pace;
use super::warm::Rewrite;
use super::*;
use crate::tier::Rule;

impl AuditStore {
    /// Warm segments that have all of their bodies here and whose newest leaf is from before `before_ns`.
    pub fn warm_before(&self, before_ns: u64) -> Vec<Aged> {
        let inner = self.inner.lock();
        let whole = self.warm_whole(&inner).filter_map(|segment| segment.aged());
        whole.filter(|segment| segment.last_ns < before_ns).collect()
    }

    /// Warm segments that have all of their bodies here and that `is_wanted` takes, by first leaf and the index behind the last.
    pub fn warm_among(&self, is_wanted: impl Fn(u64, u64) -> bool) -> Vec<(u64, u64)> {
        let inner = self.inner.lock();
        let spans = self.warm_whole(&inner).map(|segment| (segment.first(), segment.next));
        spans.filter(|(first, next)| is_wanted(*first, *next)).collect()
    }

    /// Closed segments that are whole and durable: first leaf, and the index behind the last one.
    pub fn whole_segments(&self) -> Vec<(u64, u64)> {
        let durable = self.sealed.borrow().durable;
        let inner = self.inner.lock();
        let is_whole =
            |segment: &&Arc<Closed>| segment.next <= durable && !inner.damages.contains_key(&segment.first());
        inner.closed.iter().filter(is_whole).map(|segment| (segment.first(), segment.next)).collect()
    }

    /// First leaves of segments that have bodies in a cold file alone.
    pub fn cold_segments(&self) -> BTreeSet<u64> {
        let inner = self.inner.lock();
        let is_cold = |segment: &&Arc<Closed>| segment.warm.is_some_and(|warm| warm.away > 0);
        inner.closed.iter().filter(is_cold).map(|segment| segment.first()).collect()
    }

    fn warm_whole<'a>(&self, inner: &'a Inner) -> impl Iterator<Item = &'a Arc<Closed>> {
        let durable = self.sealed.borrow().durable;
        inner.closed.iter().filter(move |segment| {
            segment.warm.is_some_and(|warm| warm.away == 0)
                && segment.next <= durable
                && !inner.damages.contains_key(&segment.first())
        })
    }

    /// Makes a warm segment anew without the bodies at these places, from its first leaf: a cold file has them, and the caller
    /// has seen that it does. Gives how many went.
    ///
    /// # Errors
    /// Why it could not be done, in words; the segment is what it was.
    pub async fn send_away(
        &self,
        first: u64,
        places: &RoaringBitmap,
        rule: &Rule,
        pace: &Pace<'_>,
    ) -> Result<u64, String> {
        let Some(target) = self.target(first).filter(|target| target.seal.warm.is_some()) else { return Ok(0) };
        let how = Rewrite { rule, away: Some(places), pace, others: None };
        self.rewrite(&target, how).await.map(|moved| moved.away)
    }
}
