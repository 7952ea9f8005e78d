//! Atomics, locks and parking: the standard library's, or loom's in a model (`--cfg loom`), so that
//! the code that ships is the code that is checked.
//!
//! The lock is the standard library's futex mutex and not parking_lot's: parking_lot parks in a
//! table of the whole process, whose locks a forked child may inherit held; a std mutex is one
//! word, and a child simply abandons it (see [`crate::process`]).

#[cfg(not(loom))]
mod primitive {
    pub use std::sync::MutexGuard as Guard;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub type RawMutex<T> = std::sync::Mutex<T>;
}

#[cfg(loom)]
mod primitive {
    pub use loom::sync::MutexGuard as Guard;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub type RawMutex<T> = loom::sync::Mutex<T>;
}

pub use primitive::{AtomicBool, AtomicU32, AtomicU64, Guard, fence};
pub use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A mutex without poisoning: a panic aborts the process, so nobody sees a broken invariant.
pub struct Lock<T>(primitive::RawMutex<T>);

impl<T> Lock<T> {
    pub fn new(value: T) -> Self {
        Lock(primitive::RawMutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives up when it has not come free for that long.
    #[cfg(not(loom))]
    pub fn try_lock_for(&self, ns: u64) -> Option<Guard<'_, T>> {
        let deadline = crate::sys::monotonic_ns() + ns;
        loop {
            if let Ok(guard) = self.0.try_lock() {
                return Some(guard);
            }
            if crate::sys::monotonic_ns() > deadline {
                return None;
            }
            std::thread::yield_now();
        }
    }
}
