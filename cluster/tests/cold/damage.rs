//! What was changed, cut or sealed under another key is refused, and never ends the process.

use bytes::Bytes;
use nethical_cluster::cold::{self, ColdError, Tail};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::size::traffic;
use super::{KEY, decoded, encoded, footer_of, part};

const CHANGED: usize = 2_000;
const CUT: usize = 200;

#[test]
fn another_key_opens_nothing() {
    let file = encoded(0, &traffic(300));
    let mut key = KEY;
    key[31] ^= 1;
    assert_eq!(cold::footer(&file, file.len() as u64, &key).err(), Some(ColdError::Key));
    assert_eq!(cold::decode(&file, &key, |_, _| {}), Err(ColdError::Key));
}

#[test]
fn changed_bytes_are_refused_unless_nothing_is_read_there() {
    let file = encoded(0, &traffic(300));
    let (as_it_was, mut dice) = (decoded(&file), StdRng::seed_from_u64(1));
    let mut refused = 0;
    for number in 0..CHANGED {
        // Evenly over the file, and every byte of its end: there stand the footer's length and the magic.
        let at = if number < 64 { file.len() - 1 - number } else { dice.random_range(0..file.len()) };
        let mut bad = file.to_vec();
        bad[at] ^= 1 << dice.random_range(0..8);
        match decoded(&bad.into()) {
            Err(_) => refused += 1,
            // Nobody reads the magic at the start.
            read => assert!(at < 4 && read == as_it_was, "byte {at} was changed and believed"),
        }
    }
    assert!(refused > CHANGED - 20, "{refused} were refused");
}

#[test]
fn lengths_that_no_tag_covers_are_held_against_what_is_there() {
    let file = encoded(0, &traffic(300));
    let footer = footer_of(&file);
    let range = footer.whole_range(0);
    // The first module starts with its length; a short one has no room for nonce and tag, a long one reaches into the next.
    for length in [0u32, 1, 11, 12, 27, 28, 1 << 20, u32::MAX] {
        let mut bad = file.to_vec();
        bad[range.start as usize..range.start as usize + 4].copy_from_slice(&length.to_le_bytes());
        let bad = Bytes::from(bad);
        assert!(footer.read_whole(0, &part(&bad, range.clone())).is_err(), "length {length}");
    }
}

#[test]
fn cut_files_and_cut_parts_are_refused() {
    let file = encoded(0, &traffic(300));
    let (footer, mut dice) = (footer_of(&file), StdRng::seed_from_u64(2));
    for _ in 0..CUT {
        let cut = dice.random_range(0..file.len());
        assert!(decoded(&file.slice(..cut)).is_err(), "cut at {cut}");
        let tail = &file[cut..];
        match cold::footer(tail, file.len() as u64, &KEY) {
            Ok(Tail::Read(_) | Tail::More(_)) => {}
            Err(error) => panic!("the last {} bytes: {error}", tail.len()),
        }
        for range in [footer.leaves_range(0), footer.whole_range(0)] {
            let short = part(&file, range.start..range.start + cut as u64 % (range.end - range.start));
            assert!(footer.read_whole(0, &short).is_err());
        }
    }
    assert!(footer.read_leaves(0, &part(&file, footer.leaves_range(0)).slice(1..)).is_err());
}

#[test]
fn columns_and_groups_that_changed_places_are_refused() {
    let file = encoded(0, &traffic(8_192 + 300));
    let footer = footer_of(&file);
    let second = part(&file, footer.whole_range(1));
    assert!(footer.read_whole(0, &second).is_err(), "another group's bytes");
    let other = encoded(0, &traffic(300));
    assert!(footer.read_whole(1, &part(&other, footer_of(&other).whole_range(0))).is_err(), "another file's");
}

#[test]
fn a_length_over_its_bound_is_refused_before_anything_is_asked_for() {
    let end = |length: u32| [&length.to_le_bytes()[..], b"PARE"].concat();
    assert!(matches!(cold::footer(&end(u32::MAX), 1 << 40, &KEY), Err(ColdError::TooLarge { .. })));
    assert!(matches!(cold::footer(&end(1_000), 1_000, &KEY), Err(ColdError::Damaged(_))), "longer than the file");
    assert_eq!(cold::footer(&end(1_000), 1_012, &KEY).ok().map(|tail| matches!(tail, Tail::More(1_008))), Some(true));
    assert!(matches!(cold::footer(&[0; 8], 1_000, &KEY), Err(ColdError::Damaged(_))), "no magic");
    assert!(matches!(cold::footer(&[], 3, &KEY), Err(ColdError::Damaged(_))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_close: bool) {
        if is_close {
            let length = (bytes.len() as u32).saturating_sub(4);
            bytes.splice(4.min(bytes.len())..4.min(bytes.len()), [0x1c, 0x1c, 0x28, 8]);
            bytes.extend_from_slice(&(length + 4).to_le_bytes());
            bytes.extend_from_slice(b"PARE");
        }
        let bytes = Bytes::from(bytes);
        prop_assert!(decoded(&bytes).is_err());
    }
}
