//! From names to slots: a frozen hash. It never changes, because ledgers, keys and snapshots are ordered by slot.

use sha2::{Digest, Sha256};

use crate::control::Placement;
use crate::ids::Slot;
use crate::limits::SLOTS;

/// The slot of an agent: of (tenant, agent), or of the tenant alone where it is placed single.
///
/// SHA-256 over `"nethical slot 1"`, then each name with its length in front (u32 little endian); the first two bytes,
/// little endian, mod 4,096.
pub fn slot_of(tenant: &str, agent: &str, placement: Placement) -> Slot {
    let mut hash = Sha256::new_with_prefix(b"nethical slot 1");
    let agent = if placement == Placement::Single { "" } else { agent };
    for name in [tenant, agent] {
        hash.update((name.len() as u32).to_le_bytes());
        hash.update(name.as_bytes());
    }
    let digest = hash.finalize();
    Slot(u16::from_le_bytes([digest[0], digest[1]]) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_pinned_for_ever() {
        assert_eq!(slot_of("airline", "gpt-4o-airline-00", Placement::Spread), Slot(PINNED[0]));
        assert_eq!(slot_of("airline", "gpt-4o-airline-01", Placement::Spread), Slot(PINNED[1]));
        assert_eq!(slot_of("airline", "whoever", Placement::Single), slot_of("airline", "", Placement::Spread));
    }

    /// Never edit: a changed number means that every stored ledger is in the wrong place.
    const PINNED: [u16; 2] = [2670, 274];

    #[test]
    fn slots_spread_evenly() {
        let mut counts = vec![0u32; SLOTS as usize];
        for agent in 0..SLOTS as u32 * 64 {
            counts[slot_of("t", &format!("agent-{agent}"), Placement::Spread).0 as usize] += 1;
        }
        let (least, most) = (counts.iter().min().expect("slots"), counts.iter().max().expect("slots"));
        assert!(*least > 30 && *most < 105, "64 expected in each, got {least}..{most}");
    }
}
