//! The order in which a dropped runtime ends its tasks: the same in every process, whatever ran in it before.
//!
//! tokio keeps a runtime's tasks in four lists by their ids, which count through the whole process, and ends one list after
//! the other. Where runtimes are dropped in the middle of a run, the lists' order shows in what others see of the death. So
//! a run that drops runtimes on its way has the process's ids to itself, and begins at one that four divides.
//! Nothing else may depend on ids of tasks.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::Context;

use crate::plan::Runtime;

static IDS: RwLock<()> = RwLock::new(());

/// More lists than a runtime of one thread has: a power of two.
const LISTS: u64 = 64;

/// A run's right to spawn tasks in this process: beside others, or alone.
pub enum Aside {
    /// Its one runtime is dropped when its history is written: others may take ids beside it.
    Shared(#[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    /// It drops runtimes on its way.
    Alone(#[allow(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

impl Aside {
    /// Waits until a run of this kind may begin. One alone begins at the first list.
    ///
    /// # Errors
    /// Where the system gives no runtime, or tokio's ids are no numbers any more.
    pub fn take(runtime: Runtime) -> anyhow::Result<Self> {
        match runtime {
            Runtime::One => Ok(Self::Shared(IDS.read().unwrap_or_else(PoisonError::into_inner))),
            Runtime::PerNode => {
                let alone = Self::Alone(IDS.write().unwrap_or_else(PoisonError::into_inner));
                align().map(|()| alone)
            }
        }
    }
}

/// Uses ids up until the next one is the first of a list. On a thread of its own, because a run's thread counts the hash
/// maps that it makes.
fn align() -> anyhow::Result<()> {
    std::thread::scope(|scope| scope.spawn(use_up).join())
        .map_err(|_| anyhow::anyhow!("counting ids of tasks panicked"))?
}

fn use_up() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("making a runtime to count ids in")?;
    for _ in 0..LISTS {
        let id = runtime.spawn(async {}).id().to_string();
        let id: u64 = id.parse().with_context(|| format!("reading {id:?} as a task's number"))?;
        if id % LISTS == LISTS - 1 {
            return Ok(());
        }
    }
    anyhow::bail!("no task in {LISTS} had the number that was looked for")
}
