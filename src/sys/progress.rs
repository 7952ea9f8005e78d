//! That something has been done for which the end of the process may wait.

use super::{Waited, futex_wait, futex_wake};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// Bumped while the end of the process waits for something that has happened: a futex. Relaxed: only
/// whether it changes is asked, and the futex orders that.
static PROGRESS: AtomicU32 = AtomicU32::new(0);

/// Somebody waits for that. Relaxed: who misses it has done something before the wait began, or its
/// next something is seen.
static IS_AWAITED: AtomicBool = AtomicBool::new(false);

/// Something has been done.
pub fn made() {
    if IS_AWAITED.load(Relaxed) {
        PROGRESS.fetch_add(1, Relaxed);
        futex_wake(&PROGRESS, 1);
    }
}

/// From here on it is counted.
pub fn count() {
    IS_AWAITED.store(true, Relaxed);
}

pub fn so_far() -> u32 {
    PROGRESS.load(Relaxed)
}

/// Waits until there is more than was `seen`, or CLOCK_MONOTONIC is `deadline`.
pub fn wait(seen: u32, deadline: u64) -> Waited {
    futex_wait(&PROGRESS, seen, deadline)
}
