//! What an agent usually sends, by the entropy of its payloads: a mean and a spread for each of the tools that it uses most.
//!
//! A payload is held against those of the same agent with the same tool, never against a mean of all: what differs between
//! tools and between agents is no shift. A tool that is new to the agent has no usual yet and shifts nothing.

use super::Pattern;

/// Tools of an agent that are followed; the ones that it uses most.
const TOOLS: usize = 6;
/// Payloads of a tool before one is unusual, and the weight of the latest one afterwards.
const LEARNING: u8 = 12;
const WEIGHT: u8 = 32;
/// Half a bit, in 1/32 bit with 8 fractional bits: less is no shift.
const SHIFT_MIN: i32 = 16 << 8;
/// Mean absolute deviations.
const SPREADS: i32 = 4;
/// Of the last eight payloads of a tool, those that shift the same way, from which on its agent has shifted.
const SHIFTED_MIN: u32 = 5;
/// Uses that a tool has to be without, until another one may take its place.
const LIFE_MAX: u8 = 32;

/// One tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tool {
    /// Of the tool's keyed id.
    tag: u16,
    life: u8,
    count: u8,
    /// 1/32 bit with 8 fractional bits, both.
    mean: u16,
    spread: u16,
    /// The last eight payloads: a bit for each that was above, below.
    above: u8,
    below: u8,
}

/// What one agent usually sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Payloads {
    tools: [Tool; TOOLS],
    /// The minute after the latest payload that was shifted for a shifted tool; 0 for none.
    shifted: u64,
}

impl Payloads {
    /// Takes a payload in; true where it goes on with a shift.
    pub fn note(&mut self, cell: u64, tool: u64, entropy: u8) -> bool {
        let Some(tool) = self.place(tool as u16) else { return false };
        let is_shifted = tool.note(entropy);
        if is_shifted {
            self.shifted = cell + 1;
        }
        is_shifted
    }

    /// It shifted within the window.
    pub fn is_shifted(&self, cell: u64) -> bool {
        self.shifted > 0 && cell < self.shifted - 1 + Pattern::PayloadEntropyShift.cells()
    }

    /// The tool's place. One that finds none wears the least used out first.
    fn place(&mut self, tag: u16) -> Option<&mut Tool> {
        let known = self.tools.iter().position(|tool| tool.life > 0 && tool.tag == tag);
        let least = || (0..TOOLS).min_by_key(|at| self.tools[*at].life).unwrap_or_default();
        let tool = &mut self.tools[known.unwrap_or_else(least)];
        if tool.life == 0 {
            *tool = Tool { tag, ..Tool::default() };
        }
        if tool.tag != tag {
            tool.life -= 1;
            return None;
        }
        tool.life = (tool.life + 1).min(LIFE_MAX);
        Some(tool)
    }
}

impl Tool {
    fn note(&mut self, entropy: u8) -> bool {
        let value = i32::from(entropy) << 8;
        let (mean, spread) = (i32::from(self.mean), i32::from(self.spread));
        let bar = (spread * SPREADS).max(SHIFT_MIN);
        let learned = self.count >= LEARNING;
        let (above, below) = (learned && value > mean + bar, learned && value < mean - bar);
        self.above = self.above << 1 | u8::from(above);
        self.below = self.below << 1 | u8::from(below);
        self.count = (self.count + 1).min(WEIGHT);
        let weight = i32::from(self.count);
        // A leap counts as one to the bar: what lasts becomes usual in time, and a tool that is now this and now that is
        // soon known to be so.
        let value = if learned { value.clamp(mean - bar, mean + bar) } else { value };
        // The first value has no deviation from itself.
        let deviation = if weight == 1 { 0 } else { (value - mean).abs() };
        self.mean = (mean + (value - mean) / weight).clamp(0, i32::from(u16::MAX)) as u16;
        self.spread = (spread + (deviation - spread) / weight).clamp(0, i32::from(u16::MAX)) as u16;
        let same_way = if above { self.above } else { self.below };
        (above || below) && same_way.count_ones() >= SHIFTED_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(payloads: &mut Payloads, tool: u64, entropies: impl IntoIterator<Item = u8>) -> Vec<bool> {
        entropies.into_iter().map(|entropy| payloads.note(100, tool, entropy)).collect()
    }

    #[test]
    fn a_switch_of_one_tool_shows_after_five_payloads_in_either_direction() {
        for other in [190, 40] {
            let mut payloads = Payloads::default();
            for at in 0..20u8 {
                sent(&mut payloads, 1, [135 + at % 5]);
                sent(&mut payloads, 2, [60 + at % 3]);
            }
            assert_eq!(sent(&mut payloads, 1, [other; 6]), [false, false, false, false, true, true]);
            assert!(payloads.is_shifted(109) && !payloads.is_shifted(110));
            assert_eq!(sent(&mut payloads, 2, [60; 5]), [false; 5], "the other tool has not changed");
        }
    }

    #[test]
    fn a_new_tool_a_mixed_tool_and_single_payloads_are_no_shift() {
        let mut payloads = Payloads::default();
        assert_eq!(sent(&mut payloads, 1, [130; 30]), [false; 30]);
        assert_eq!(sent(&mut payloads, 2, [190; 30]), [false; 30], "a tool that is new to it");
        let mixed = (0..60).map(|at| if at % 3 == 0 { 190 } else { 130 });
        assert!(sent(&mut payloads, 3, mixed).iter().all(|shifted| !shifted), "now this, now that");
        let single = (0..80).map(|at| if at % 4 == 0 { 190 } else { 130 });
        assert!(sent(&mut payloads, 1, single).iter().all(|shifted| !shifted), "one in four");
        assert!(!payloads.is_shifted(100));
    }

    #[test]
    fn what_lasts_becomes_usual_and_only_the_tools_in_use_are_followed() {
        let mut payloads = Payloads::default();
        sent(&mut payloads, 1, [130; 30]);
        let after = sent(&mut payloads, 1, [190; 400]);
        assert!(after[4] && !after[399], "{:?}", after.iter().rposition(|shifted| *shifted));
        (0..10_000).for_each(|at| drop(sent(&mut payloads, 100 + at % 50, [(at % 256) as u8])));
        assert_eq!(size_of::<Payloads>(), 72);
    }
}
