//! A runtime for each life of a node, in lock-step: a second opinion on runs in which all nodes share one.
//!
//! A node's death drops its runtime with everything in it: nothing of a node outlives it, whoever spawned it, and a run
//! whose verdict hung on a task that did would come out otherwise. It is slower, and time
//! passes in ticks of a millisecond: what one node does shows to another in the tick after, so histories differ from
//! those of one runtime. The same plan still gives the same history.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use nethical_protocol::ids::NodeId;

use crate::clock::{self, Aligned};
use crate::engine;

/// Between two turns of all nodes: the grain of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// The runtimes of nodes that live. A clone is the same.
#[derive(Clone, Default)]
pub struct Lives {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    living: BTreeMap<NodeId, Life>,
    /// Runtimes of the dead: no runtime can be dropped from inside of another one.
    dead: Vec<Life>,
}

struct Life {
    runtime: Arc<Runtime>,
    aligned: Aligned,
}

impl Lives {
    /// Does `work` in a new runtime of a node: what it spawns runs there.
    ///
    /// # Errors
    /// Where the system gives no runtime.
    pub fn begin<T>(&self, node: NodeId, seed: u64, work: impl FnOnce() -> T) -> std::io::Result<T> {
        let there = clock::now();
        let runtime = Arc::new(engine::runtime(seed)?);
        let guard = runtime.enter();
        let aligned = Aligned { here: now_here(), there };
        let done = aligned.during(work);
        drop(guard);
        self.end(node);
        self.inner.lock().living.insert(node, Life { runtime, aligned });
        Ok(done)
    }

    /// A node died. Its runtime gets no more turns.
    pub fn end(&self, node: NodeId) {
        let mut inner = self.inner.lock();
        if let Some(life) = inner.living.remove(&node) {
            inner.dead.push(life);
        }
    }

    /// Runs `main` in a runtime of its own to its end, and all nodes beside it, tick by tick.
    pub fn block_on<T>(&self, runtime: &Runtime, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let mut tick = runtime.block_on(async { now_here() });
        loop {
            tick += TICK;
            let done = runtime.block_on(async {
                tokio::select! {
                    biased;
                    done = &mut main => Some(done),
                    () = tokio::time::sleep_until(tick) => None,
                }
            });
            if let Some(done) = done {
                self.bury();
                return done;
            }
            self.turn(tick);
            self.bury();
        }
    }

    /// Every node runs until `tick`.
    fn turn(&self, tick: Instant) {
        let living = self.inner.lock().living.keys().copied().collect::<Vec<_>>();
        for node in living {
            let Some((runtime, aligned)) =
                self.inner.lock().living.get(&node).map(|life| (life.runtime.clone(), life.aligned))
            else {
                continue;
            };
            aligned.during(|| runtime.block_on(sleep_until(aligned, tick)));
        }
    }

    /// Drops the runtimes of the dead, outside of any other and without the lock, since tasks may end their own things.
    fn bury(&self) {
        let dead = std::mem::take(&mut self.inner.lock().dead);
        drop(dead);
    }
}

async fn sleep_until(aligned: Aligned, tick: Instant) {
    tokio::time::sleep_until(aligned.of(tick)).await;
}

/// Now, on the clock of the runtime that runs.
#[allow(clippy::disallowed_methods, reason = "this file aligns the clocks of runtimes")]
fn now_here() -> Instant {
    Instant::now()
}
