//! Keeping processes on a core of their own, so that server and clients do not take turns on one.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Does something on one core: what it starts, processes and threads, stays there. The calling thread goes back.
pub fn on_core<T>(core: Option<usize>, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let Some(core) = core else { return act() };
    let before = sched_getaffinity(None).context("cannot ask for cores")?;
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))?;
    let outcome = act();
    sched_setaffinity(None, &before).context("cannot go back to all cores")?;
    outcome
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub fn stay_on(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}
