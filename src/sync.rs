//! Atomics, locks and parking: the standard library's, or loom's in a model (`--cfg loom`), so that
//! the code that ships is the code that is checked.
//!
//! The lock is the standard library's futex mutex and not parking_lot's: parking_lot parks in a
//! table of the whole process, whose locks a forked child may inherit held; a std mutex is one
//! word, and a child simply abandons it (see [`crate::process`]).

#[cfg(not(loom))]
mod primitive {
    pub use std::cell::UnsafeCell;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub use std::sync::{Mutex, MutexGuard};
}

#[cfg(loom)]
mod primitive {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
    pub use loom::sync::{Mutex, MutexGuard};
    pub use std::cell::UnsafeCell;
}

pub use primitive::{AtomicBool, AtomicU32, AtomicU64, fence};
use primitive::{Mutex, MutexGuard, UnsafeCell};
use std::ops::{Deref, DerefMut};
pub use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// A mutex without poisoning: a panic aborts the process, so nobody sees a broken invariant. What it
/// guards is beside it, for the one who may have to look at it although it never comes free.
pub struct Lock<T> {
    mutex: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, through a `Guard`; as with std's.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub fn new(value: T) -> Self {
        Lock {
            mutex: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// The same for a static.
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

    /// Gives up when it has not come free for that long.
    #[cfg(not(loom))]
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

    /// What it guards, without the lock.
    ///
    /// # Safety
    /// The thread that has the lock does not go on, and what it had only half changed does no harm.
    #[cfg(not(loom))]
    pub unsafe fn abandoned(&self) -> &T {
        // SAFETY: as whoever calls promises: nobody changes it.
        unsafe { &*self.value.get() }
    }
}

/// The right to what a [`Lock`] guards, until it is dropped.
pub struct Guard<'a, T> {
    _held: MutexGuard<'a, ()>,
    value: &'a UnsafeCell<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mutex is held, by us.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the mutex is held, by us, and we are borrowed for as long as the value is.
        unsafe { &mut *self.value.get() }
    }
}
