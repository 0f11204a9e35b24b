//! Node-scoped tasks and dice: everything that a node spawns dies when its scope is killed.
//!
//! One process may host many nodes (the simulator does), so nothing may outlive its node by accident. A task knows
//! its scope through a task-local, which is how openraft's own tasks are caught too.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

tokio::task_local! {
    static CURRENT: Scope;
}

/// A node's tasks and dice. Cheap to clone; all clones are one scope.
#[derive(Clone)]
pub struct Scope {
    inner: Arc<Inner>,
}

struct Inner {
    label: u64,
    /// Where its tasks run: the runtime in which it was made, whoever spawns.
    runtime: Option<Handle>,
    dead: AtomicBool,
    next: AtomicU64,
    /// By the order of their spawning; without a handle while the runtime has not yet given one.
    tasks: Mutex<BTreeMap<u64, Option<AbortHandle>>>,
    hooks: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    dice: Mutex<ChaCha12Rng>,
}

impl Scope {
    /// A scope whose dice start from `seed`: from the operating system in production, from the plan in simulation. Its
    /// tasks run on the runtime in which it is made; made outside of any, on that of whoever spawns.
    pub fn new(seed: [u8; 32]) -> Self {
        Self::labelled(seed, 0)
    }

    /// The same with a number by which a simulator recognises whose scope it is.
    pub fn labelled(seed: [u8; 32], label: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                label,
                runtime: Handle::try_current().ok(),
                dead: AtomicBool::new(false),
                next: AtomicU64::new(0),
                tasks: Mutex::new(BTreeMap::new()),
                hooks: Mutex::new(Vec::new()),
                dice: Mutex::new(ChaCha12Rng::from_seed(seed)),
            }),
        }
    }

    /// The scope of the running task, where it has one.
    pub fn current() -> Option<Scope> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The number that it was made with; 0 for none.
    pub fn label(&self) -> u64 {
        self.inner.label
    }

    /// Runs `work` in this scope's context without spawning it.
    pub async fn enter<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// Spawns a task that ends with the scope at the latest.
    #[allow(clippy::disallowed_methods, reason = "this is the seam that owns spawning")]
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let work: Pin<Box<dyn Future<Output = F::Output> + Send>> = Box::pin(work);
        let guard = Forget { scope: self.clone(), id };
        // Its place is taken first and filled only where it still is: a task may end before its handle is here, and a runtime
        // that has shut down drops it within the call, so nothing may be locked meanwhile.
        self.inner.tasks.lock().insert(id, None);
        let work = CURRENT.scope(self.clone(), async move {
            let _guard = guard;
            work.await
        });
        let handle = match &self.inner.runtime {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        };
        if let Some(place) = self.inner.tasks.lock().get_mut(&id) {
            *place = Some(handle.abort_handle());
        }
        if self.is_dead() {
            handle.abort();
        }
        handle
    }

    /// Runs `hook` when the scope is killed; at once where it is dead already.
    pub fn on_kill(&self, hook: impl FnOnce() + Send + 'static) {
        if self.is_dead() {
            hook();
        } else {
            self.inner.hooks.lock().push(Box::new(hook));
        }
    }

    /// Ends every task of the scope, in the order in which they were spawned, and makes its handles dead.
    pub fn kill(&self) {
        self.inner.dead.store(true, Ordering::SeqCst);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        tasks.into_values().flatten().for_each(|task| task.abort());
        let hooks = std::mem::take(&mut *self.inner.hooks.lock());
        hooks.into_iter().for_each(|hook| hook());
    }

    /// True after [`Scope::kill`].
    pub fn is_dead(&self) -> bool {
        self.inner.dead.load(Ordering::SeqCst)
    }

    /// Tasks that have not ended.
    pub fn task_count(&self) -> usize {
        self.inner.tasks.lock().len()
    }

    /// Fresh dice, independent of other forks; the order of forks decides the stream.
    pub fn fork_dice(&self) -> ChaCha12Rng {
        let mut seed = [0; 32];
        self.inner.dice.lock().fill_bytes(&mut seed);
        ChaCha12Rng::from_seed(seed)
    }

    /// Fills `bytes` from the scope's dice. For keys in production the seed must come from the operating system.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.inner.dice.lock().fill_bytes(bytes);
    }
}

/// Takes a finished task out of the scope's table.
struct Forget {
    scope: Scope,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.scope.inner.tasks.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn killing_a_scope_ends_its_tasks_and_their_children() {
        let scope = Scope::new([1; 32]);
        let (tx, mut rx) = tokio::sync::mpsc::channel::<()>(1);
        scope.spawn(async move {
            let inner = Scope::current().expect("a spawned task knows its scope");
            inner.spawn(async move {
                let _held = tx;
                std::future::pending::<()>().await
            });
            std::future::pending::<()>().await
        });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(scope.task_count(), 2);
        scope.kill();
        assert_eq!(rx.recv().await, None, "the child was dropped with the scope");
    }

    /// A node's runtime is gone while somebody still holds its scope: the simulator's seed 8 with a runtime for each node.
    #[test]
    fn a_task_for_a_runtime_that_is_gone_is_dropped_and_leaves_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let scope = {
            let _entered = runtime.enter();
            Scope::new([1; 32])
        };
        drop(runtime);
        let held = std::sync::Arc::new(());
        let (task, inner) = (held.clone(), scope.clone());
        // What a task holds may itself spawn when it is dropped.
        let last = Last(inner);
        let ended = scope.spawn(async move { drop((task, last)) });
        assert!(ended.is_finished());
        assert_eq!((scope.task_count(), Arc::strong_count(&held)), (0, 1));
    }

    struct Last(Scope);

    impl Drop for Last {
        fn drop(&mut self) {
            self.0.spawn(async {});
        }
    }
}
