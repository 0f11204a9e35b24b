//! Deeds of new agents: how many tried each, and how many of those were refused at their first try.
//!
//! A fixed number of places. A deed that finds its place taken wears the other one out first, the sooner the fewer agents
//! that one had, so that what many try stays while single deeds come and go (HeavyGuardian, KDD 2018).

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::CORRELATE_DEEDS_MAX;

use super::crowd::Crowd;
use super::filter::Filter;
use super::{Pattern, Seen};

/// 8 KiB a generation: 6,500 deeds that new agents shared.
const SHARED_WORDS: usize = 1_024;
/// 32 KiB a generation: 26,000 deeds.
const DEEDS_WORDS: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wave {
    deed: u64,
    first: u64,
    tried: Crowd,
    refused: Crowd,
    life: u64,
}

impl Wave {
    /// Agents that make it suspicious.
    fn suspects(&self, is_known: bool) -> &Crowd {
        let mostly_refused = self.refused.count() * 2 >= self.tried.count();
        if mostly_refused || is_known { &self.refused } else { &self.tried }
    }

    fn weight(&self, is_known: bool) -> u64 {
        let (refused, tried) = (self.refused.count(), self.tried.count());
        match is_known && refused * 2 < tried {
            true => 0,
            false => self.suspects(is_known).count(),
        }
    }
}

/// All waves of a tenant.
#[derive(Debug, Clone)]
pub(super) struct Waves {
    places: Vec<Option<Wave>>,
    /// Deeds of agents that are not new.
    deeds: Filter,
    /// Deeds that several new agents tried, some time ago.
    shared: Filter,
    /// The heaviest wave of this minute.
    pub heaviest: u64,
}

impl Waves {
    pub fn new() -> Self {
        Self {
            places: vec![None; CORRELATE_DEEDS_MAX],
            deeds: Filter::new(DEEDS_WORDS),
            shared: Filter::new(SHARED_WORDS),
            heaviest: 0,
        }
    }

    /// A deed of an agent that is not new.
    pub fn note_known(&mut self, seen: &Seen) {
        if !seen.violates {
            self.deeds.insert(seen.deed());
        }
    }

    /// A deed of a new agent: how many agents make it suspicious, and some of them.
    pub fn note_new(&mut self, cell: u64, seen: &Seen) -> (u64, &[KeyedId]) {
        let deed = seen.deed();
        let is_known = self.deeds.knows(deed) || self.shared.knows(deed);
        let place = &mut self.places[(deed >> 32) as usize % CORRELATE_DEEDS_MAX];
        if let Some(other) = place.as_mut().filter(|other| other.deed != deed) {
            other.life = other.life.saturating_sub(1);
            if other.life > 0 {
                return (0, &[]);
            }
            *place = None;
        }
        let (tried, refused) = (Crowd::default(), Crowd::default());
        let wave = place.get_or_insert(Wave { deed, first: cell, tried, refused, life: 1 });
        let before = wave.tried.count();
        wave.tried.add(seen.agent);
        let is_first = before < wave.tried.count();
        wave.life += u64::from(is_first);
        if seen.violates && is_first {
            wave.refused.add(seen.agent);
        }
        let weight = wave.weight(is_known);
        self.heaviest = self.heaviest.max(weight);
        (weight, wave.suspects(is_known).sample())
    }

    /// Lets waves go that are over by the minute `cell`; what several new agents did is known from then on.
    pub fn turn(&mut self, cell: u64) {
        for place in &mut self.places {
            if let Some(wave) = place.take_if(|wave| cell >= wave.first + Pattern::MultiIdProbes.cells())
                && wave.tried.count() > 1
            {
                self.shared.insert(wave.deed);
            }
        }
        self.heaviest = 0;
    }
}
