//! What the probes in production code are answered in a run: planted bugs and constants from the plan, places where a
//! machine is held up or loses its power, and everything observed, for the invariants.
//!
//! It is installed for the thread of the run. A build without the feature `probes` has no probes to answer; runs then
//! lack what depends on them and are as safe as ever.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_cluster::world::Scope;
use nethical_protocol::ids::NodeId;
use nethical_protocol::probe::{Point, Probes};

use crate::fault::Fault;
use crate::plan::Plan;
use crate::trace::{Field, Trace};
use crate::watch::Watch;
use crate::{clock::SimClock, dice};

/// Told which machine is to lose its power at this instant, and for how many milliseconds.
type Stopper = Box<dyn Fn(NodeId, u64) + Send + Sync>;

/// The meddling of one run. A clone is the same.
#[derive(Clone)]
pub struct Meddler {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SimClock,
    trace: Trace,
    planted: Option<String>,
    knobs: BTreeMap<String, u64>,
    active: Mutex<BTreeMap<u32, Active>>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
    watch: Watch,
    stopper: Mutex<Option<Stopper>>,
}

/// A fault at a place of the code.
struct Active {
    fault: Fault,
    dice: ChaCha12Rng,
    passes: u32,
}

impl Meddler {
    /// What a plan asks for, from the start on.
    pub fn new(plan: &Plan, clock: SimClock, trace: Trace, watch: Watch) -> Self {
        let (planted, knobs) = (plan.planted.clone(), plan.knobs.clone());
        let (active, seen, stopper) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { clock, trace, planted, knobs, active, seen, watch, stopper }) }
    }

    /// Whom to tell when a machine is to lose its power.
    pub fn on_stop(&self, stopper: impl Fn(NodeId, u64) + Send + Sync + 'static) {
        *self.inner.stopper.lock() = Some(Box::new(stopper));
    }

    /// Answers the probes of this thread from now on.
    pub fn install(&self) {
        #[cfg(feature = "probes")]
        nethical_protocol::probe::install(Some(std::rc::Rc::new(self.clone())));
    }

    /// Nobody answers the probes of this thread any more.
    pub fn remove(&self) {
        *self.inner.stopper.lock() = None;
        #[cfg(feature = "probes")]
        nethical_protocol::probe::install(None);
    }

    /// A fault at a place begins.
    pub fn begin(&self, seed: u64, id: u32, fault: Fault) {
        let dice = dice::fork(seed, &format!("fault {id}"));
        self.inner.active.lock().insert(id, Active { fault, dice, passes: 0 });
    }

    /// A fault at a place ends.
    pub fn end(&self, id: u32) {
        self.inner.active.lock().remove(&id);
    }

    /// What `sometimes!` has counted, the unusual ways that were taken, and the places where a machine lost its power.
    pub fn seen(&self) -> BTreeMap<&'static str, u64> {
        self.inner.seen.lock().clone()
    }

    fn event(&self, kind: &'static str, name: &'static str) {
        let what = [("what", Field::Text(name))];
        self.inner.trace.event(self.inner.clock.real(), current(), kind, &what);
    }
}

/// The node whose task runs.
fn current() -> Option<NodeId> {
    Scope::current().map(|scope| NodeId(scope.label())).filter(|node| node.0 != 0)
}

impl Probes for Meddler {
    fn planted(&self, bug: &'static str) -> bool {
        self.inner.planted.as_deref() == Some(bug)
    }

    fn knob(&self, name: &'static str, default: u64) -> u64 {
        self.inner.knobs.get(name).copied().unwrap_or(default)
    }

    fn buggify(&self, name: &'static str) -> bool {
        let mut active = self.inner.active.lock();
        let taken = active.values_mut().any(|active| match &active.fault {
            Fault::Buggify { name: wanted, permille } => wanted == name && active.dice.random_ratio(*permille, 1_000),
            _ => false,
        });
        if taken {
            *self.inner.seen.lock().entry(name).or_default() += 1;
        }
        taken
    }

    fn sometimes(&self, name: &'static str) {
        *self.inner.seen.lock().entry(name).or_default() += 1;
        self.event("sometimes", name);
    }

    fn violated(&self, name: &'static str, detail: fmt::Arguments<'_>) {
        let node = current();
        let place = node.map_or_else(|| "outside".to_owned(), |node| format!("node {node}"));
        self.inner.watch.violated(name, format!("{place}: {detail}"));
    }

    fn observe(&self, name: &'static str, facts: &[u64]) {
        let Some(node) = current() else { return };
        self.inner.trace.event(
            self.inner.clock.real(),
            Some(node),
            "observed",
            &[("what", Field::Text(name)), ("facts", Field::Nodes(facts))],
        );
        self.inner.watch.observe(node, name, facts);
    }

    fn point(&self, name: &'static str) -> Point {
        let Some(node) = current() else { return Point::Go };
        let mut active = self.inner.active.lock();
        let mut stop_for = None;
        for active in active.values_mut() {
            match &active.fault {
                Fault::StopAt { node: only, place, nth, dark_ms } if place == name && matches(*only, node) => {
                    active.passes += 1;
                    if active.passes == *nth {
                        stop_for = Some(*dark_ms);
                        break;
                    }
                }
                Fault::WaitAt { node: only, place, permille, wait_ms }
                    if place == name
                        && matches(*only, node)
                        && active.dice.random_ratio((*permille).min(1_000), 1_000) =>
                {
                    return Point::Wait(active.dice.random_range(1..=(*wait_ms).max(1)));
                }
                _ => {}
            }
        }
        drop(active);
        let Some(dark_ms) = stop_for else { return Point::Go };
        self.event("stopped-at", name);
        *self.inner.seen.lock().entry(name).or_default() += 1;
        match &*self.inner.stopper.lock() {
            Some(stopper) => {
                stopper(node, dark_ms);
                Point::Stop
            }
            None => Point::Go,
        }
    }
}

fn matches(only: u64, node: NodeId) -> bool {
    only == 0 || only == node.0
}
