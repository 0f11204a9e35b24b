//! Reads closed segments again and says what has become of them. The tree and the digest in memory are the truth, the
//! file is what is tested; what is found is noted ([`super::damage`]), nothing is changed here.

use std::time::Duration;

use nethical_audit::segment::{Damage as Bad, Fault, Flaw, HEADER_BYTES, SegmentCheck};
use nethical_protocol::sometimes;

use super::*;
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
    pub(super) async fn spend(&self, bytes: usize) {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_s.max(1);
        self.clock.sleep(Duration::from_nanos(nanos)).await;
    }
}

/// A closed segment as it has to be.
pub(super) struct Target {
    pub(super) seal: SegmentSeal,
    pub(super) places: Option<Arc<Places>>,
    pub(super) path: String,
}

impl AuditStore {
    /// First leaves of the closed segments, in order.
    pub fn closed_segments(&self) -> Vec<u64> {
        let durable = self.sealed.borrow().durable;
        let inner = self.inner.lock();
        inner.closed.iter().filter(|segment| segment.next <= durable).map(|segment| segment.first()).collect()
    }

    /// Reads one closed segment again, and notes it where it is damaged. Gives the bytes read and whether it is whole;
    /// `None` where there is no such segment.
    pub async fn scrub(&self, first: u64, pace: &Pace<'_>) -> Option<(u64, bool)> {
        let target = self.target(first)?;
        let (bytes, found) = self.examine(&target, pace).await;
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
        let path = format!("{}/{}", dir_of(self.log), segment.meta.file_name());
        Some(Target { seal: inner.seal_of(segment), places: segment.places.clone(), path })
    }

    /// Bytes that do not read, for whatever reason, are damage: a disk that answers a read with an error has lost them.
    async fn examine(&self, target: &Target, pace: &Pace<'_>) -> (u64, Result<(), (Fault, String)>) {
        let (first, last) = (target.seal.meta.first_index, target.seal.next_index() - 1);
        let all = |flaw, why| (0, Err((Fault { first, last, flaw }, why)));
        let file = match self.disk.open(&target.path, false).await {
            Ok(file) => file,
            Err(error) => return all(Flaw::Header, format!("the file does not open: {error}")),
        };
        let Some(index) = target.places.as_ref().map(|places| &places.index) else {
            return all(Flaw::Bytes(Bad::Footer), Bad::Footer.to_string());
        };
        let header = file.read_at(0, HEADER_BYTES).await.unwrap_or_default();
        let mut check = SegmentCheck::begin(&target.seal, &header);
        let mut bytes = header.len() as u64;
        for (span, next) in index.spans() {
            let frame = file.read_at(span.offset, span.length as usize).await.unwrap_or_default();
            check.frame(&span, next, &frame);
            bytes += frame.len() as u64;
            pace.spend(frame.len()).await;
        }
        let rest = file.len().await.unwrap_or_default().saturating_sub(index.frames_end());
        let footer = file.read_at(index.frames_end(), rest.min(FOOTER_READ_MAX) as usize).await.unwrap_or_default();
        pace.spend(footer.len()).await;
        let found = check.finish(&footer).map_err(|fault| (fault, fault.flaw.to_string()));
        (bytes + footer.len() as u64, found)
    }
}
