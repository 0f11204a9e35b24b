//! Named situations with a stated outcome: what everybody who runs such a cluster asks about, as data.
//!
//! A scenario is a calm plan with its own faults, what must come of it, and what a run must have *seen* to count: a
//! scenario whose crash never happened proves nothing. A seed moves its faults a little and rolls all its dice.
//! Scenarios never look into a run; they judge its report, and no check is made looser for one of them.

use std::sync::LazyLock;

use crate::check::sometimes::CALLED_AGAIN;
use crate::plan::Plan;
use crate::run::Report;
use crate::watch::Violation;

mod approval;
mod clock;
mod cold;
mod complaint;
mod control;
mod crash;
mod dictionary;
mod disk;
mod draft;
mod erasure;
mod gray;
mod keys;
mod lease;
mod load;
mod network;
mod power;
mod retention;
mod text;
mod tier;
mod witness;

/// A named situation.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub what: &'static str,
    /// What must come of it.
    pub expected: Expected,
    /// Keys of [`Report::seen`] that must be there: proof that the run did what the scenario is named for.
    pub seen: &'static [&'static str],
    /// What else must hold.
    pub bounds: Bounds,
    build: fn(seed: u64) -> Plan,
}

/// What must come of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No check finds anything.
    Good,
    /// More is destroyed than a cluster can survive, and this check must find out.
    Violation(&'static str),
    /// More memory is lost than a group can rebuild: it must stop and say so, and nothing may be decided wrongly.
    Stopped,
}

/// Bounds on a report.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the end of the last fault until every group has a leader that decides, at most, milliseconds.
    pub healed_ms_max: u64,
    /// Least and most times that some node begins to lead some group.
    pub leader_changes: (u64, u64),
    /// Requests without an answer when the client's patience ends, at most.
    pub unanswered_max: u64,
    /// Requests that needed more than one call, at most.
    pub called_again_max: u64,
}

/// What holds for a scenario that states nothing else: patience of 20 s outlasts every fault, and healing takes seconds.
pub const USUAL: Bounds =
    Bounds { healed_ms_max: 8_000, leader_changes: (0, u64::MAX), unanswered_max: 0, called_again_max: u64::MAX };
/// What holds where whole groups cannot answer for long.
pub const LONG: Bounds = Bounds { healed_ms_max: 12_000, unanswered_max: u64::MAX, ..USUAL };

/// The checks that find out that a group has stopped; any other one finds a wrong decision.
const SAYS_STOPPED: [&str; 3] = ["liveness", "convergence", "restart"];
/// A replica that has lost its memory has no proofs to give, and only a leader opens bodies.
const HAS_NOTHING: [(&str, &str); 3] =
    [("proofs", "there is no decision"), ("erasure", "is unavailable"), ("erasure", "leader's answer")];

impl Scenario {
    /// Its plan for a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        (self.build)(seed)
    }

    /// What of a run's report is not as expected, in sentences. None for a run that is.
    pub fn judge(&self, report: &Report) -> Vec<String> {
        let mut wrong = self.expected.judge(report);
        let unseen = self.seen.iter().filter(|goal| !report.seen.contains_key(**goal));
        wrong.extend(unseen.map(|goal| format!("never seen: {goal}")));
        if self.expected == Expected::Good {
            wrong.extend(self.bounds.judge(report));
        }
        wrong
    }
}

impl Expected {
    /// In words that fit a table.
    pub fn words(&self) -> String {
        match self {
            Self::Good => "good".to_owned(),
            Self::Violation(check) => format!("violation: {check}"),
            Self::Stopped => "group stops".to_owned(),
        }
    }

    fn judge(self, report: &Report) -> Vec<String> {
        let found = |check: &str| report.violations.iter().any(|violation| violation.check == check);
        let words = |violation: &Violation| format!("{}: {}", violation.check, violation.what);
        match self {
            Self::Good => report.violations.iter().map(words).collect(),
            Self::Violation(check) if found(check) => Vec::new(),
            Self::Violation(check) => vec![format!("the check {check} did not find what must be there")],
            Self::Stopped if !found("liveness") => vec!["no group has stopped".to_owned()],
            Self::Stopped => {
                let says_stopped = |violation: &&Violation| {
                    let has_nothing =
                        |(check, what): &(&str, &str)| violation.check == *check && violation.what.contains(what);
                    SAYS_STOPPED.contains(&violation.check) || HAS_NOTHING.iter().any(has_nothing)
                };
                report.violations.iter().filter(|violation| !says_stopped(violation)).map(words).collect()
            }
        }
    }
}

impl Bounds {
    fn judge(&self, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        if report.is_void {
            wrong.push(format!("only {} requests were decided: the run shows too little", report.decided));
        }
        if let Some(healed_ms) = report.healed_after_ms.filter(|healed_ms| *healed_ms > self.healed_ms_max) {
            wrong.push(format!("healing took {healed_ms} ms; {} are allowed", self.healed_ms_max));
        }
        let (least, most) = self.leader_changes;
        if !(least..=most).contains(&report.leader_changes) {
            wrong.push(format!("leadership changed {} times; {least} to {most} are expected", report.leader_changes));
        }
        if report.unanswered > self.unanswered_max {
            wrong.push(format!("{} requests have no answer", report.unanswered));
        }
        let called_again = report.seen.get(CALLED_AGAIN).copied().unwrap_or_default();
        if called_again > self.called_again_max {
            wrong.push(format!("{called_again} requests needed more than one call"));
        }
        wrong
    }
}

/// All scenarios, in the order in which they are told.
pub fn all() -> &'static [Scenario] {
    static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
        let themes = [
            network::SCENARIOS,
            gray::SCENARIOS,
            power::SCENARIOS,
            crash::SCENARIOS,
            disk::SCENARIOS,
            clock::SCENARIOS,
            control::SCENARIOS,
            witness::SCENARIOS,
            load::SCENARIOS,
            lease::SCENARIOS,
            complaint::SCENARIOS,
            approval::SCENARIOS,
            erasure::SCENARIOS,
            retention::SCENARIOS,
            keys::SCENARIOS,
            dictionary::SCENARIOS,
            tier::SCENARIOS,
            cold::SCENARIOS,
            text::SCENARIOS,
        ];
        themes.concat()
    });
    &ALL
}

/// The scenario of a name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    all().iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case_and_sentences_are_sentences() {
        let mut names = BTreeSet::new();
        for Scenario { name, what, .. } in all() {
            assert!(names.insert(name), "{name} is there twice");
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(name.split('-').all(is_word), "{name}");
            assert!(name.len() <= 32, "{name} is wider than its column");
            assert!(what.ends_with('.') && !what.contains(". "), "{name}: {what}");
            assert_eq!(named(name).map(|found| found.name), Some(*name));
        }
        assert!(names.len() >= 44, "{} scenarios", names.len());
        assert!(named("no-such-thing").is_none());
    }

    #[test]
    fn every_plan_can_be_run_and_leaves_time_to_heal() {
        for scenario in all() {
            for seed in 0..20 {
                let plan = scenario.plan(seed);
                plan.check().unwrap_or_else(|error| panic!("{} seed {seed}: {error:#}", scenario.name));
                assert_eq!(plan, scenario.plan(seed), "{}", scenario.name);
                assert!(plan.healed_at() + Duration::from_secs(4) <= plan.length(), "{} seed {seed}", scenario.name);
                assert!(plan.length() <= Duration::from_secs(50), "{} is too long for a suite", scenario.name);
            }
        }
    }

    #[test]
    fn places_unusual_ways_and_constants_are_those_of_the_code() {
        use crate::fault::Fault;
        for scenario in all() {
            let plan = scenario.plan(1);
            for entry in &plan.faults {
                match &entry.fault {
                    Fault::StopAt { place, .. } | Fault::WaitAt { place, .. } => {
                        let own = tier::PLACES.iter().chain(&cold::PLACES).chain(&keys::PLACES).chain(&text::PLACES);
                        let mut places = crate::swarm::PLACES.iter().chain(own);
                        assert!(places.any(|known| known == place), "{}: {place}", scenario.name);
                    }
                    Fault::Buggify { name, .. } => {
                        assert!(crate::swarm::BUGGIFIED.contains(&name.as_str()), "{}: {name}", scenario.name);
                    }
                    _ => {}
                }
            }
            for knob in plan.knobs.keys() {
                let is_known = nethical_protocol::probe::KNOBS.iter().any(|(name, _)| name == knob);
                assert!(is_known, "{}: {knob}", scenario.name);
            }
        }
    }
}
