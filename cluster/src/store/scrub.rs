//! Reads closed segments again and says what has become of them. The tree and the digest in memory are the truth, the
//! file is what is tested; what is found is noted ([`super::damage`]), nothing is changed here.

use std::time::Duration;

use nethical_audit::body::dropped;
use nethical_audit::leaf::LeafV1;
use nethical_audit::segment::warm::{WARM_HEADER_BYTES, WarmCheck};
use nethical_audit::segment::{Damage as Bad, Fault, Flaw, HEADER_BYTES, SegmentCheck};
use nethical_protocol::sometimes;

use super::*;
use crate::tier::Rule;
use crate::world::Clock;

/// Bytes read behind the last frame: more than any footer has, so that a file that is too long is noticed.
const FOOTER_READ_MAX: u64 = 16 * 1024 * 1024;

/// How fast segments are read, so that decisions never wait for it.
pub struct Pace<'a> {
    /// Time.
    pub clock: &'a dyn Clock,
    /// Bytes a second, at most.
    pub bytes_per_s: u64,
}

impl Pace<'_> {
    /// Waits as long as so many bytes may take.
    pub async fn spend(&self, bytes: usize) {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_s.max(1);
        self.clock.sleep(Duration::from_nanos(nanos)).await;
    }
}

/// A closed segment as it has to be.
pub(super) struct Target {
    pub(super) seal: SegmentSeal,
    pub(super) places: Option<Arc<Places>>,
    pub(super) path: String,
    pub(super) segment: Arc<Closed>,
}

/// What is wrong with a file, in words as well.
type Found = Result<(), (Fault, String)>;

impl AuditStore {
    /// First leaves of the closed segments, in order.
    pub fn closed_segments(&self) -> Vec<u64> {
        let durable = self.sealed.borrow().durable;
        let inner = self.inner.lock();
        inner.closed.iter().filter(|segment| segment.next <= durable).map(|segment| segment.first()).collect()
    }

    /// The file of a closed segment, from the data folder, and the index behind its last leaf.
    pub fn closed_segment(&self, first: u64) -> Option<(String, u64)> {
        let inner = self.inner.lock();
        let segment = inner.closed_with(first).filter(|segment| segment.first() == first)?;
        Some((format!("{}/{}", dir_of(self.log), segment.file_name()), segment.next))
    }

    /// Reads one closed segment again, and notes it where it is damaged. Gives the bytes read and whether it is whole;
    /// `None` where there is no such segment, or it was moved meanwhile. Of dropped bodies `rule` knows whether they may be gone.
    pub async fn scrub(&self, first: u64, rule: &Rule, pace: &Pace<'_>) -> Option<(u64, bool)> {
        let target = self.target(first)?;
        let (bytes, found) = self.examine(&target, rule, pace).await;
        if !self.is_current(&target) {
            return None;
        }
        metrics::counter!(damage::SCRUBBED_BYTES_TOTAL).increment(bytes);
        match &found {
            Ok(()) => self.forget_damage(first),
            Err((fault, why)) => {
                sometimes!(true, "the scrubber found a damaged audit segment");
                self.note_fault(first, fault, why);
            }
        }
        Some((bytes, found.is_ok()))
    }

    /// None while the segment's last bytes are still on their way to the disk.
    pub(super) fn target(&self, first: u64) -> Option<Target> {
        let durable = self.sealed.borrow().durable;
        let inner = self.inner.lock();
        let segment = inner.closed_with(first).filter(|segment| segment.first() == first && segment.next <= durable)?;
        let path = format!("{}/{}", dir_of(self.log), segment.file_name());
        Some(Target { seal: inner.seal_of(segment), places: segment.places.clone(), path, segment: segment.clone() })
    }

    /// True where the segment still has the file that it had.
    pub(super) fn is_current(&self, target: &Target) -> bool {
        let inner = self.inner.lock();
        inner.closed_with(target.segment.first()).is_some_and(|held| Arc::ptr_eq(held, &target.segment))
    }

    /// Bytes that do not read, for whatever reason, are damage: a disk that answers a read with an error has lost them.
    async fn examine(&self, target: &Target, rule: &Rule, pace: &Pace<'_>) -> (u64, Found) {
        let (first, last) = (target.seal.meta.first_index, target.seal.next_index() - 1);
        let all = |flaw, why| (0, Err((Fault { first, last, flaw }, why)));
        let file = match self.open_closed(&target.segment).await {
            Ok(Some(file)) => file,
            Ok(None) => return (0, Ok(())),
            Err(error) => return all(Flaw::Header, format!("the file does not open: {error}")),
        };
        let Some(places) = target.places.as_deref() else {
            return all(Flaw::Bytes(Bad::Footer), Bad::Footer.to_string());
        };
        let (bytes, found) = match &places.warm {
            None => examine_hot(&*file, target, places, pace).await,
            Some(warm) => examine_warm(&*file, target, (places, warm), rule, pace).await,
        };
        (bytes, found.map_err(|fault| (fault, fault.flaw.to_string())))
    }
}

async fn examine_hot(file: &dyn File, target: &Target, places: &Places, pace: &Pace<'_>) -> (u64, Result<(), Fault>) {
    let header = file.read_at(0, HEADER_BYTES).await.unwrap_or_default();
    let mut check = SegmentCheck::begin(&target.seal, &header);
    let mut bytes = header.len() as u64;
    for (span, next) in places.index.spans() {
        let frame = file.read_at(span.offset, span.length as usize).await.unwrap_or_default();
        check.frame(&span, next, &frame);
        bytes += frame.len() as u64;
        pace.spend(frame.len()).await;
    }
    let behind = read_behind(file, places).await;
    pace.spend(behind.len()).await;
    (bytes + behind.len() as u64, check.finish(&behind))
}

async fn examine_warm(
    file: &dyn File,
    target: &Target,
    (places, warm): (&Places, &Warm),
    rule: &Rule,
    pace: &Pace<'_>,
) -> (u64, Result<(), Fault>) {
    let header = file.read_at(0, WARM_HEADER_BYTES).await.unwrap_or_default();
    let mut check = WarmCheck::begin(&target.seal, &warm.footer, &header);
    let (mut bytes, mut unexplained) = (header.len() as u64, None);
    for (span, next) in places.index.spans() {
        let frame = file.read_at(span.offset, span.length as usize).await.unwrap_or_default();
        check.frame(&span, next, &frame, |index, leaf, stored| {
            if !may_be_stored(rule, leaf, stored) {
                unexplained.get_or_insert(index);
            }
        });
        bytes += frame.len() as u64;
        pace.spend(frame.len()).await;
    }
    let behind = read_behind(file, places).await;
    pace.spend(behind.len()).await;
    let found = check.finish(&behind).map(drop);
    let found = found.and_then(|()| match unexplained {
        Some(index) if rule.is_current() => Err(Fault { first: index, last: index, flaw: Flaw::Dropped }),
        _ => Ok(()),
    });
    (bytes + behind.len() as u64, found)
}

/// False for what stays of a body that, by what is applied here, may not be gone.
pub(super) fn may_be_stored(rule: &Rule, leaf: &[u8], stored: &[u8]) -> bool {
    let Some(gone) = dropped(stored) else { return true };
    LeafV1::decode(leaf).is_ok_and(|leaf| rule.permits(&leaf, gone.sealed_for(), gone.reason))
}

async fn read_behind(file: &dyn File, places: &Places) -> Bytes {
    let frames_end = places.index.frames_end();
    let rest = file.len().await.unwrap_or_default().saturating_sub(frames_end);
    file.read_at(frames_end, rest.min(FOOTER_READ_MAX) as usize).await.unwrap_or_default()
}
