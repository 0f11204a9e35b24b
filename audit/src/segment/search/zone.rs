//! Zone maps: least and greatest log time and risk of each frame, so that whole frames are passed over.

use crate::filter::Filter;
use crate::reader::Reader;

/// Bytes of one zone.
pub const ZONE_BYTES: usize = 20;

/// What some leaves have at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// The earliest log time, nanoseconds since 1970.
    pub first_ns: u64,
    /// The latest.
    pub last_ns: u64,
    /// The least risk; 65,535 where no leaf has one.
    pub risk_min: u16,
    /// The greatest; 0 where no leaf has one.
    pub risk_max: u16,
}

impl Zone {
    /// Of no leaves.
    pub const EMPTY: Self = Self { first_ns: u64::MAX, last_ns: 0, risk_min: u16::MAX, risk_max: 0 };

    pub(super) fn take(&mut self, at_ns: u64, risk: Option<u16>) {
        self.first_ns = self.first_ns.min(at_ns);
        self.last_ns = self.last_ns.max(at_ns);
        if let Some(risk) = risk {
            self.risk_min = self.risk_min.min(risk);
            self.risk_max = self.risk_max.max(risk);
        }
    }

    /// False where no leaf in here can match.
    pub fn admits(&self, filter: &Filter) -> bool {
        let Some((first, last)) = filter.times() else { return false };
        let (least, most) = filter.risks();
        let in_time = self.first_ns <= last && first <= self.last_ns;
        in_time && (!filter.is_about_decisions() || (self.risk_min <= most && least <= self.risk_max))
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_ns.to_le_bytes());
        out.extend_from_slice(&self.last_ns.to_le_bytes());
        out.extend_from_slice(&self.risk_min.to_le_bytes());
        out.extend_from_slice(&self.risk_max.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (first_ns, last_ns) = (reader.u64()?, reader.u64()?);
        Some(Self { first_ns, last_ns, risk_min: reader.u16()?, risk_max: reader.u16()? })
    }
}

/// Reads the zones of a segment's frames.
pub(super) fn read_all(bytes: &[u8]) -> Option<Vec<Zone>> {
    if !bytes.len().is_multiple_of(ZONE_BYTES) {
        return None;
    }
    let mut reader = Reader::new(bytes);
    (0..bytes.len() / ZONE_BYTES).map(|_| Zone::read(&mut reader)).collect()
}
