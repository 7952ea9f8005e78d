//! Counts progress for which the end of the process may wait.

use super::Waited;
use super::futex::kernel::{futex_wait, futex_wake};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// A futex, incremented for each step while the end of the process waits. Relaxed: only a change matters, and the futex
/// orders it.
static PROGRESS: AtomicU32 = AtomicU32::new(0);

/// The end of the process waits for progress. Relaxed: a thread that misses it made its step before the wait began, or
/// its next step is seen.
static IS_AWAITED: AtomicBool = AtomicBool::new(false);

/// One step has been made.
pub fn made() {
    if IS_AWAITED.load(Relaxed) {
        PROGRESS.fetch_add(1, Relaxed);
        futex_wake(&PROGRESS, 1);
    }
}

/// Starts counting.
pub fn count() {
    IS_AWAITED.store(true, Relaxed);
}

pub fn so_far() -> u32 {
    PROGRESS.load(Relaxed)
}

/// Waits until the count differs from `seen`, or CLOCK_MONOTONIC reaches `deadline`.
pub fn wait(seen: u32, deadline: u64) -> Waited {
    futex_wait(&PROGRESS, seen, deadline)
}
