//! Atomics, locks and parking: the standard library's, or loom's in a model (`--cfg loom`), so that the models check
//! the code that ships.
//!
//! The lock is the standard library's futex mutex and not parking_lot's. parking_lot parks in a table of the process,
//! whose locks a forked child may inherit locked. A std mutex is one word, which a child simply abandons (see
//! [`crate::process`]).

#[cfg(not(loom))]
mod primitive {
    pub use std::cell::UnsafeCell;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub use std::sync::{Mutex, MutexGuard};
    pub use std::thread_local;
}

#[cfg(loom)]
mod primitive {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub use loom::sync::{Mutex, MutexGuard};
    pub use loom::thread_local;
    pub use std::cell::UnsafeCell;
}

pub use primitive::{AtomicBool, AtomicU32, AtomicU64, fence, thread_local};
use primitive::{Mutex, MutexGuard, UnsafeCell};
use std::ops::{Deref, DerefMut};
pub use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// A mutex without poisoning: a panic aborts the process, so nobody sees a broken invariant. The value is stored beside
/// the mutex, because one caller may have to read it although the mutex is never released.
pub struct Lock<T> {
    mutex: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: as for std's mutex: a `Guard` gives one thread at a time access to the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub fn new(value: T) -> Self {
        Lock {
            mutex: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// As `new`, for a static.
    #[cfg(not(loom))]
    pub const fn of(value: T) -> Self {
        Lock {
            mutex: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    pub fn lock(&self) -> Guard<'_, T> {
        let held = self.mutex.lock();
        Guard {
            _held: held.unwrap_or_else(|poisoned| poisoned.into_inner()),
            value: &self.value,
        }
    }

    /// Gives up if the lock is not released within `ns` nanoseconds.
    pub fn try_lock_for(&self, ns: u64) -> Option<Guard<'_, T>> {
        let began = Instant::now();
        loop {
            if let Ok(held) = self.mutex.try_lock() {
                return Some(Guard {
                    _held: held,
                    value: &self.value,
                });
            }
            if began.elapsed() > Duration::from_nanos(ns) {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// The guarded value, without the lock.
    ///
    /// # Safety
    /// The thread that holds the lock never continues, and its unfinished changes are harmless.
    pub unsafe fn abandoned(&self) -> &T {
        // SAFETY: the caller guarantees that nobody changes it.
        unsafe { &*self.value.get() }
    }
}

/// Access to the value of a [`Lock`], until it is dropped.
pub struct Guard<'a, T> {
    _held: MutexGuard<'a, ()>,
    value: &'a UnsafeCell<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds the mutex.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the mutex, and is borrowed as long as the value.
        unsafe { &mut *self.value.get() }
    }
}
