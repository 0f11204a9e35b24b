//! The zone's object store: one for all nodes, elsewhere, so that no machine's death harms it. It can be away, slow and
//! doubtful, and lose or change what it holds; a put that its node does not live to see the end of happens or not.
//!
//! Chance comes from dice of the store's own, and from those of the fault that strikes it. What it answers is the truth as it
//! holds it: whether anybody believes it is for the cluster.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_cluster::world::{Clock, ObjectError, ObjectInfo, Objects, Scope, timeout};
use nethical_protocol::ids::NodeId;

use crate::clock::SimClock;
use crate::dice;
use crate::trace::{Field, Trace};

/// How long a call takes, there and back, milliseconds: from, to. Stores are slower than disks.
const LATENCY_MS: (u64, u64) = (8, 60);
/// A node does not wait for longer, as in production.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ails the store while a fault lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ailment {
    /// It is out of reach of these nodes; of all where none is named.
    Away(Vec<u64>),
    /// Its calls take so much longer.
    Slow(Duration),
    /// Of a thousand changes, so many are made and not acknowledged.
    Doubtful(u32),
}

/// What happens to one object behind everybody's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is gone.
    Lost,
    /// One byte of it is another one.
    Changed,
}

/// The store. A clone is the same one.
#[derive(Clone)]
pub struct SimStore {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SimClock,
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    objects: BTreeMap<String, Bytes>,
    ailments: BTreeMap<u32, Ailment>,
    dice: ChaCha12Rng,
}

/// What the dice say of a call before it is made, so that no other call's end can move them.
#[derive(Clone, Copy)]
struct Luck {
    /// There, and back.
    half: Duration,
    /// It arrives although its node does not live to hear of it.
    arrives: bool,
    /// Of a thousand: whether a doubtful store acknowledges it.
    doubt: u32,
}

impl SimStore {
    /// An empty store, of the run with this seed.
    pub fn new(seed: u64, clock: SimClock, trace: Trace) -> Self {
        let state =
            State { objects: BTreeMap::new(), ailments: BTreeMap::new(), dice: dice::fork(seed, "object store") };
        Self { inner: Arc::new(Inner { clock, trace, state: Mutex::new(state) }) }
    }

    /// The store as a node reaches it in one of its lives.
    pub fn attach(&self, node: NodeId, scope: Scope) -> Arc<dyn Objects> {
        Arc::new(Attached { store: self.clone(), node, scope })
    }

    /// A fault begins.
    pub fn ail(&self, fault: u32, ailment: Ailment) {
        self.inner.state.lock().ailments.insert(fault, ailment);
    }

    /// A fault is over.
    pub fn recover(&self, fault: u32) {
        self.inner.state.lock().ailments.remove(&fault);
    }

    /// Harms one of the objects whose names contain `part`; gives its name, where there was one that it could be done to.
    pub fn harm(&self, part: &str, harm: Harm, dice: &mut ChaCha12Rng) -> Option<String> {
        let mut state = self.inner.state.lock();
        let may = |(name, bytes): (&String, &Bytes)| {
            let is_meant = name.contains(part) && (harm == Harm::Lost || !bytes.is_empty());
            is_meant.then(|| name.clone())
        };
        let mut names: Vec<String> = state.objects.iter().filter_map(may).collect();
        if names.is_empty() {
            return None;
        }
        let name = names.swap_remove(dice.random_range(0..names.len()));
        match harm {
            Harm::Lost => drop(state.objects.remove(&name)),
            Harm::Changed => {
                let bytes = state.objects.get_mut(&name).expect("it was just found");
                let mut changed = bytes.to_vec();
                changed[dice.random_range(0..bytes.len())] ^= dice.random_range(1..=u8::MAX);
                *bytes = changed.into();
            }
        }
        Some(name)
    }

    /// All objects by name, for checks.
    pub fn all(&self) -> BTreeMap<String, Bytes> {
        self.inner.state.lock().objects.clone()
    }

    /// The names of all objects in which these bytes stand, for checks that nothing of a thing is left anywhere.
    pub fn holding(&self, wanted: &[u8]) -> Vec<String> {
        let state = self.inner.state.lock();
        let holds = |bytes: &Bytes| !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted);
        state.objects.iter().filter(|(_, bytes)| holds(bytes)).map(|(name, _)| name.clone()).collect()
    }

    fn luck(&self) -> Luck {
        let state = &mut *self.inner.state.lock();
        let slow = state.ailments.values().map(|ailment| match ailment {
            Ailment::Slow(delay) => *delay,
            _ => Duration::ZERO,
        });
        let slow = slow.max().unwrap_or_default();
        let latency = Duration::from_millis(state.dice.random_range(LATENCY_MS.0..LATENCY_MS.1)) + slow;
        Luck { half: latency / 2, arrives: state.dice.random_bool(0.5), doubt: state.dice.random_range(0..1_000) }
    }

    fn is_away(&self, node: NodeId) -> bool {
        let away = |ailment: &Ailment| match ailment {
            Ailment::Away(nodes) => nodes.is_empty() || nodes.contains(&node.0),
            _ => false,
        };
        self.inner.state.lock().ailments.values().any(away)
    }

    fn doubts(&self, luck: Luck) -> bool {
        let doubts = |ailment: &Ailment| matches!(ailment, Ailment::Doubtful(permille) if luck.doubt < *permille);
        self.inner.state.lock().ailments.values().any(doubts)
    }

    /// Makes a change, now.
    fn apply(&self, node: NodeId, change: &Change) {
        let (kind, name) = match change {
            Change::Put(name, bytes) => {
                self.inner.state.lock().objects.insert(name.clone(), bytes.clone());
                ("object-put", name)
            }
            Change::Remove(name) => {
                self.inner.state.lock().objects.remove(name);
                ("object-removed", name)
            }
        };
        self.inner.trace.event(self.inner.clock.real(), Some(node), kind, &[("what", Field::Text(name))]);
    }
}

enum Change {
    Put(String, Bytes),
    Remove(String),
}

/// A change on its way. Dropped before it has arrived, it arrives or not, as its luck has it.
struct OnItsWay {
    store: SimStore,
    node: NodeId,
    change: Option<Change>,
    arrives: bool,
}

impl OnItsWay {
    fn arrive(&mut self) {
        if let Some(change) = self.change.take() {
            self.store.apply(self.node, &change);
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if self.arrives {
            self.arrive();
        }
    }
}

/// The store as one life of a node reaches it.
struct Attached {
    store: SimStore,
    node: NodeId,
    scope: Scope,
}

fn away() -> ObjectError {
    ObjectError::Unavailable("nobody answers".to_owned())
}

impl Attached {
    /// Looks at the objects, when the question has arrived.
    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&BTreeMap<String, Bytes>) -> Result<T, ObjectError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ObjectError>> {
        let (store, node, scope) = (self.store.clone(), self.node, self.scope.clone());
        Box::pin(async move {
            if scope.is_dead() {
                return Err(away());
            }
            let (luck, clock) = (store.luck(), store.inner.clock.clone());
            let found = timeout(&clock, PATIENCE, async {
                clock.sleep(luck.half).await;
                let found = if store.is_away(node) { Err(away()) } else { look(&store.inner.state.lock().objects) };
                clock.sleep(luck.half).await;
                if store.is_away(node) { Err(away()) } else { found }
            });
            found.await.unwrap_or_else(|| Err(away()))
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'static, Result<(), ObjectError>> {
        let (store, node, scope) = (self.store.clone(), self.node, self.scope.clone());
        Box::pin(async move {
            if scope.is_dead() {
                return Err(away());
            }
            let (luck, clock) = (store.luck(), store.inner.clock.clone());
            let done = timeout(&clock, PATIENCE, async {
                let arrives = luck.arrives && !store.is_away(node);
                let mut sent = OnItsWay { store: store.clone(), node, change: Some(change), arrives };
                clock.sleep(luck.half).await;
                if store.is_away(node) {
                    sent.arrives = false;
                } else {
                    sent.arrive();
                }
                clock.sleep(luck.half).await;
                match sent.change.is_none() && !store.is_away(node) && !store.doubts(luck) {
                    true => Ok(()),
                    false => Err(away()),
                }
            });
            done.await.unwrap_or_else(|| Err(away()))
        })
    }
}

impl Objects for Attached {
    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'static, Result<(), ObjectError>> {
        self.change(Change::Put(name.to_owned(), bytes))
    }

    fn get(&self, name: &str, range: Range<u64>) -> BoxFuture<'static, Result<Bytes, ObjectError>> {
        let name = name.to_owned();
        self.look(move |objects| {
            let bytes = objects.get(&name).ok_or(ObjectError::Missing)?;
            let end = range.end.min(bytes.len() as u64) as usize;
            Ok(bytes.slice((range.start as usize).min(end)..end))
        })
    }

    fn list(&self, folder: &str) -> BoxFuture<'static, Result<Vec<ObjectInfo>, ObjectError>> {
        let folder = match folder.trim_end_matches('/') {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        self.look(move |objects| {
            let inside = objects.iter().filter(|(name, _)| name.starts_with(&folder));
            Ok(inside.map(|(name, bytes)| ObjectInfo { name: name.clone(), bytes: bytes.len() as u64 }).collect())
        })
    }

    fn remove(&self, name: &str) -> BoxFuture<'static, Result<(), ObjectError>> {
        self.change(Change::Remove(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn store(seed: u64) -> (SimStore, Arc<dyn Objects>) {
        let store = SimStore::new(seed, SimClock::begin(), Trace::new(false));
        let objects = store.attach(NodeId(1), Scope::new([0; 32]));
        (store, objects)
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_what_it_is_given_for_all_nodes_and_lists_it_in_order() {
        let (store, one) = store(1);
        let other = store.attach(NodeId(2), Scope::new([1; 32]));
        for name in ["b/2", "b/10", "bb/1", "a"] {
            one.put(name, Bytes::from_static(b"bytes")).await.unwrap();
        }
        let names = |listed: Vec<ObjectInfo>| listed.into_iter().map(|object| object.name).collect::<Vec<_>>();
        assert_eq!(names(other.list("b").await.unwrap()), ["b/10", "b/2"]);
        assert_eq!(names(other.list("").await.unwrap()), ["a", "b/10", "b/2", "bb/1"]);
        for (range, expected) in [(0..5, "bytes"), (1..3, "yt"), (3..9, "es"), (5..9, ""), (9..12, "")] {
            assert_eq!(other.get("a", range).await.unwrap(), expected);
        }
        other.remove("a").await.unwrap();
        other.remove("a").await.unwrap();
        assert_eq!(one.get("a", 0..1).await, Err(ObjectError::Missing));
        assert_eq!(store.holding(b"yte").len(), 3);
        assert!(store.holding(b"bites").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_does_not_live_to_hear_of_happens_or_not_and_alike_each_time() {
        let fates = |seed| {
            let (store, objects) = store(seed);
            for number in 0..40 {
                // Polled once, so that it is on its way, and dropped.
                assert!(objects.put(&format!("{number}"), Bytes::new()).now_or_never().is_none());
            }
            store.all().into_keys().collect::<Vec<_>>()
        };
        let happened = fates(7).len();
        assert!((5..35).contains(&happened), "{happened} of 40");
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_away_from_whom_a_fault_says_until_the_fault_is_over() {
        let (store, one) = store(2);
        let other = store.attach(NodeId(2), Scope::new([1; 32]));
        store.ail(5, Ailment::Away(vec![1]));
        assert_eq!(one.put("a", Bytes::new()).await, Err(away()));
        other.put("b", Bytes::new()).await.unwrap();
        assert_eq!(one.list("").await, Err(away()));
        store.recover(5);
        assert_eq!(one.list("").await.unwrap().len(), 1);
        store.ail(6, Ailment::Away(Vec::new()));
        assert_eq!(other.get("b", 0..1).await, Err(away()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_takes_its_time_and_patience_ends() {
        let (store, objects) = store(3);
        let slow = |seconds| store.ail(1, Ailment::Slow(Duration::from_secs(seconds)));
        slow(5);
        let begun = store.inner.clock.real();
        objects.put("a", Bytes::new()).await.unwrap();
        assert_eq!((store.inner.clock.real() - begun).as_secs(), 5);
        slow(600);
        let begun = store.inner.clock.real();
        assert_eq!(objects.get("a", 0..1).await, Err(away()));
        assert_eq!((store.inner.clock.real() - begun).as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubtful_store_does_what_it_does_not_acknowledge() {
        let (store, objects) = store(4);
        store.ail(1, Ailment::Doubtful(1_000));
        assert_eq!(objects.put("a", Bytes::from_static(b"x")).await, Err(away()));
        assert_eq!(objects.get("a", 0..1).await.unwrap(), "x");
        assert_eq!(objects.remove("a").await, Err(away()));
        assert!(store.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn objects_are_harmed_one_at_a_time_and_of_the_kind_that_is_meant() {
        let (store, objects) = store(5);
        for name in ["seg/1", "seg/2", "empty"] {
            let bytes = Bytes::from_static(if name == "empty" { b"" } else { b"0123456789" });
            objects.put(name, bytes).await.unwrap();
        }
        let mut dice = dice::fork(5, "fault 1");
        assert_eq!(store.harm("empty", Harm::Changed, &mut dice), None);
        assert_eq!(store.harm("nothing", Harm::Lost, &mut dice), None);
        let changed = store.harm("seg", Harm::Changed, &mut dice).unwrap();
        let after = store.all().remove(&changed).unwrap();
        assert_eq!(after.iter().zip(b"0123456789").filter(|(is, was)| is != was).count(), 1);
        let lost = store.harm("seg", Harm::Lost, &mut dice).unwrap();
        assert!(!store.all().contains_key(&lost) && store.all().len() == 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handle_of_a_dead_node_reaches_nothing() {
        let (store, _) = store(6);
        let scope = Scope::new([2; 32]);
        let objects = store.attach(NodeId(3), scope.clone());
        scope.kill();
        assert_eq!(objects.put("a", Bytes::new()).await, Err(away()));
        assert!(store.all().is_empty());
    }
}
