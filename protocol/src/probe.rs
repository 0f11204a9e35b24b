//! Probes: the places where production code lets a simulator look, meddle and plant bugs. The lowest of the seams.
//!
//! Without the feature `probes`, which only the simulator's own build turns on, every function here is a constant and
//! the optimiser removes the call. With it, calls go to what the running thread has [`installed`](install). A probe
//! never decides anything in production, and no production binary may be built with the feature: a test looks.

use std::fmt;

/// True in the simulator's build alone.
pub const ENABLED: bool = cfg!(feature = "probes");

/// What happens at a point of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Go on.
    Go,
    /// Go on this many milliseconds later.
    Wait(u64),
    /// The machine loses power here: never go on.
    Stop,
}

/// What a simulator answers. One thread has at most one.
pub trait Probes {
    /// True where this planted bug is active.
    fn planted(&self, bug: &'static str) -> bool;
    /// A constant of the code, or what this run takes in its place. The same on all nodes of a run.
    fn knob(&self, name: &'static str, default: u64) -> u64;
    /// True where the unusual but permitted way is to be taken here.
    fn buggify(&self, name: &'static str) -> bool;
    /// This has happened: one of the things that a campaign must have seen.
    fn sometimes(&self, name: &'static str);
    /// What must always hold does not.
    fn violated(&self, name: &'static str, detail: fmt::Arguments<'_>);
    /// A fact for the invariants, as numbers in the order that the name documents.
    fn observe(&self, name: &'static str, facts: &[u64]);
    /// What happens at this point.
    fn point(&self, name: &'static str) -> Point;
}

#[cfg(feature = "probes")]
mod active {
    use std::cell::RefCell;
    use std::fmt;
    use std::rc::Rc;

    use super::{Point, Probes};

    thread_local! {
        static PROBES: RefCell<Option<Rc<dyn Probes>>> = const { RefCell::new(None) };
    }

    /// From now on this thread's probes are answered by `probes`, or by nobody.
    pub fn install(probes: Option<Rc<dyn Probes>>) {
        PROBES.with(|held| *held.borrow_mut() = probes);
    }

    fn ask<T>(default: T, question: impl FnOnce(&dyn Probes) -> T) -> T {
        let probes = PROBES.with(|held| held.borrow().clone());
        probes.map_or(default, |probes| question(&*probes))
    }

    /// [`Probes::planted`]; false where nobody answers.
    pub fn planted(bug: &'static str) -> bool {
        ask(false, |probes| probes.planted(bug))
    }

    /// [`Probes::knob`]; the default where nobody answers.
    pub fn knob(name: &'static str, default: u64) -> u64 {
        ask(default, |probes| probes.knob(name, default))
    }

    /// [`Probes::buggify`]; false where nobody answers.
    pub fn buggify(name: &'static str) -> bool {
        ask(false, |probes| probes.buggify(name))
    }

    /// [`Probes::sometimes`].
    pub fn sometimes(name: &'static str) {
        ask((), |probes| probes.sometimes(name));
    }

    /// [`Probes::violated`].
    pub fn violated(name: &'static str, detail: fmt::Arguments<'_>) {
        ask((), |probes| probes.violated(name, detail));
    }

    /// [`Probes::observe`].
    pub fn observe(name: &'static str, facts: &[u64]) {
        ask((), |probes| probes.observe(name, facts));
    }

    /// [`Probes::point`]; go on where nobody answers.
    pub fn point(name: &'static str) -> Point {
        ask(Point::Go, |probes| probes.point(name))
    }
}

#[cfg(feature = "probes")]
pub use active::{buggify, install, knob, observe, planted, point, sometimes, violated};

#[cfg(not(feature = "probes"))]
mod absent {
    use std::fmt;

    use super::Point;

    /// No planted bugs in this build.
    #[inline(always)]
    pub const fn planted(_: &'static str) -> bool {
        false
    }

    /// The default.
    #[inline(always)]
    pub const fn knob(_: &'static str, default: u64) -> u64 {
        default
    }

    /// The usual way.
    #[inline(always)]
    pub const fn buggify(_: &'static str) -> bool {
        false
    }

    /// Nobody counts.
    #[inline(always)]
    pub const fn sometimes(_: &'static str) {}

    /// Nobody is told.
    #[inline(always)]
    pub const fn violated(_: &'static str, _: fmt::Arguments<'_>) {}

    /// Nobody looks.
    #[inline(always)]
    pub const fn observe(_: &'static str, _: &[u64]) {}

    /// Go on.
    #[inline(always)]
    pub const fn point(_: &'static str) -> Point {
        Point::Go
    }
}

#[cfg(not(feature = "probes"))]
pub use absent::{buggify, knob, observe, planted, point, sometimes, violated};

/// True where a simulator wants the unusual but permitted way to be taken here; false in production.
#[macro_export]
macro_rules! buggify {
    ($name:literal) => {
        $crate::probe::buggify($name)
    };
}

/// Counts that something worth seeing has happened, where a condition holds; nothing in production.
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $name:literal) => {
        if $crate::probe::ENABLED && $condition {
            $crate::probe::sometimes($name);
        }
    };
}

/// Tells the simulator that what must always hold does not; nothing in production.
#[macro_export]
macro_rules! always {
    ($condition:expr, $name:literal, $($detail:tt)+) => {
        if $crate::probe::ENABLED && !$condition {
            $crate::probe::violated($name, format_args!($($detail)+));
        }
    };
}
