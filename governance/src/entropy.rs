//! Shannon entropy of what an action says, as one small number: text, encodings and filler differ by it.
//!
//! Computed by the agent's actor over the arguments as they were sent, before anything is redacted. Integers and a table;
//! the work is bounded by [`SAMPLE_BYTES`] however long the text is. It says nothing of a single action; what many agents
//! do to theirs together is told by [`crate::correlate`].

use crate::behaviour::stats::log2;

/// Bytes that are looked at: all of a shorter text, else four pieces from its beginning to its end.
pub const SAMPLE_BYTES: usize = 4_096;
/// A text of fewer bytes has none: what little it holds says more about its length.
pub const TEXT_BYTES_MIN: usize = 32;
/// Units in a bit.
pub const UNITS: u32 = 32;

const PIECES: usize = 4;
const PIECE_BYTES: usize = SAMPLE_BYTES / PIECES;
/// log2 of each count, 16 fractional bits.
static TABLE: [u32; SAMPLE_BYTES + 1] = table();

const fn table() -> [u32; SAMPLE_BYTES + 1] {
    let (mut table, mut count) = ([0; SAMPLE_BYTES + 1], 1);
    while count <= SAMPLE_BYTES {
        table[count] = log2(count as u64);
        count += 1;
    }
    table
}

/// Entropy of a text's bytes in 1/32 bit a byte, 0..=255; none for a short one (Shannon, 1948).
pub fn entropy_of(text: &str) -> Option<u8> {
    let text = text.as_bytes();
    if text.len() < TEXT_BYTES_MIN {
        return None;
    }
    let size = text.len().min(SAMPLE_BYTES);
    // In long texts four counters take turns: a letter that repeats need not wait for itself.
    let turns = if size > PIECE_BYTES { 3 } else { 0 };
    let mut counts = [0u16; 4 * 256];
    let mut count = |piece: &[u8]| {
        piece.iter().enumerate().for_each(|(at, byte)| counts[(at & turns) << 8 | usize::from(*byte)] += 1);
    };
    if text.len() <= SAMPLE_BYTES {
        count(text);
    } else {
        let rest = text.len() - PIECE_BYTES;
        (0..PIECES).map(|piece| rest / (PIECES - 1) * piece).for_each(|at| count(&text[at..at + PIECE_BYTES]));
    }
    // H = log2(n) - sum(c * log2(c)) / n, 16 fractional bits.
    let (first, others) = counts.split_at_mut(256);
    if turns > 0 {
        others.iter().enumerate().for_each(|(at, count)| first[at & 0xff] += count);
    }
    let ordered: u64 = first.iter().map(|count| u64::from(*count) * u64::from(TABLE[usize::from(*count)])).sum();
    let entropy = (size as u64 * u64::from(TABLE[size])).saturating_sub(ordered) / size as u64;
    Some(((entropy * u64::from(UNITS) + (1 << 15)) >> 16).min(255) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(text: &str) -> f64 {
        let mut counts = [0.0f64; 256];
        text.bytes().for_each(|byte| counts[usize::from(byte)] += 1.0);
        let size = text.len() as f64;
        counts.iter().filter(|count| **count > 0.0).map(|count| -(count / size) * (count / size).log2()).sum()
    }

    #[test]
    fn filler_text_and_encodings_lie_apart_and_short_texts_have_none() {
        let text =
            "Please change the booking of Mia Li to the flight on Friday and refund the difference to her card. ";
        assert_eq!(entropy_of(&"a".repeat(31)), None);
        assert_eq!(entropy_of(&"a".repeat(32)), Some(0));
        assert_eq!(entropy_of(&"ab".repeat(5_000)), Some(32));
        let ordinary = entropy_of(text).expect("long enough");
        assert!((120..150).contains(&ordinary), "{ordinary}");
        // Base64 letters in no order.
        let (mut dice, mut encoded) = (7u64, String::new());
        for _ in 0..2_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            encoded.push(char::from(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(dice >> 58) as usize],
            ));
        }
        let encoded = entropy_of(&encoded).expect("long enough");
        assert!((187..=192).contains(&encoded), "{encoded}");
    }

    #[test]
    fn what_hides_behind_a_long_beginning_counts() {
        let plain = "a".repeat(9_000);
        let hidden: String =
            plain.clone() + &(0..9_000u32).map(|at| char::from(33 + (at * 7 % 90) as u8)).collect::<String>();
        assert_eq!(entropy_of(&plain), Some(0));
        assert!(entropy_of(&hidden) > Some(80));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test measures; it asserts no time")]
    fn time_is_printed() {
        let mut texts = vec![
            ("4 KiB, one letter", "a".repeat(4_096)),
            ("64 KiB of JSON", r#"{"user_id": "mia_li_3668", "date": "2024-05-20"} "#.repeat(1_337)),
        ];
        let lines = crate::detect::measured::data_lines("airline-agent-actions.jsonl").unwrap_or_default();
        let real = lines.iter().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("an action");
            ("real", value["args"].to_string())
        });
        texts.extend(real);
        let mut times: Vec<(&str, u128)> = Vec::new();
        for (name, text) in &texts {
            let least = (0..200).map(|_| {
                let start = std::time::Instant::now();
                std::hint::black_box(entropy_of(std::hint::black_box(text)));
                start.elapsed().as_nanos()
            });
            times.push((name, least.min().unwrap_or_default()));
        }
        times[..2].iter().for_each(|(name, least)| println!("entropy of {name}: {least} ns"));
        let mut real: Vec<u128> = times[2..].iter().map(|(_, least)| *least).collect();
        real.sort_unstable();
        if let (Some(most), count) = (real.last(), real.len()) {
            let (mean, p99) = (real.iter().sum::<u128>() / count as u128, real[count * 99 / 100]);
            println!("entropy of {count} real actions: mean {mean} ns, p99 {p99} ns, most {most} ns");
        }
    }

    proptest! {
        #[test]
        fn it_is_right_to_a_unit_for_whole_texts(text in "\\PC{0,1000}") {
            match entropy_of(&text) {
                None => prop_assert!(text.len() < TEXT_BYTES_MIN),
                Some(entropy) => {
                    let right = (exact(&text) * 32.0).min(255.0);
                    prop_assert!((f64::from(entropy) - right).abs() <= 1.0, "{entropy} {right}");
                }
            }
        }
    }
}
