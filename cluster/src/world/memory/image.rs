//! A disk at one instant, and every disk that a crash at that instant may leave behind.

use bytes::Bytes;

use super::store::{Change, Store, Unit};

/// Un-synced units up to which every subset is tried: 2^10 disks.
const EXHAUSTIVE_UNITS_MAX: usize = 10;

/// A copy of a disk, page cache included.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) store: Store,
}

impl DiskImage {
    /// Every disk that a crash may leave: all subsets of the un-synced sectors and names, and each sector as garbage.
    /// Past ten units: all beginnings, all ends, each alone and each one missing.
    pub fn crashes(&self) -> Vec<DiskImage> {
        let units = self.store.units();
        let mut kept: Vec<Vec<Unit>> = if units.len() <= EXHAUSTIVE_UNITS_MAX {
            (0..1u32 << units.len()).map(|mask| select(&units, |number| mask & (1 << number) != 0)).collect()
        } else {
            let count = units.len();
            let beginnings = (0..=count).map(|end| select(&units, |number| number < end));
            let ends = (0..=count).map(|start| select(&units, |number| number >= start));
            let alone = (0..count).map(|only| select(&units, |number| number == only));
            let missing = (0..count).map(|lost| select(&units, |number| number != lost));
            beginnings.chain(ends).chain(alone).chain(missing).collect()
        };
        kept.extend((0..units.len()).filter_map(|number| with_garbage(&units, number)));
        kept.iter().map(|kept| DiskImage { store: self.store.resolved(kept) }).collect()
    }

    /// How many changes are not durable.
    pub fn unsynced(&self) -> usize {
        self.store.units().len()
    }
}

fn select(units: &[Unit], keep: impl Fn(usize) -> bool) -> Vec<Unit> {
    units.iter().enumerate().filter(|(number, _)| keep(*number)).map(|(_, unit)| unit.clone()).collect()
}

/// All units, one of them with its bytes inverted.
fn with_garbage(units: &[Unit], number: usize) -> Option<Vec<Unit>> {
    let mut units = units.to_vec();
    match &mut units[number] {
        Unit::Data { change: Change::Write { data, .. }, .. } => {
            *data = data.iter().map(|byte| !byte).collect::<Bytes>();
            Some(units)
        }
        _ => None,
    }
}
