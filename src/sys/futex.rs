//! Sleeping on a word, and waking its sleepers.

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Woken, possibly without a reason: the caller must check again.
    Woken,
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// A deadline that never comes. With SA_RESTART, the kernel restarts a futex wait without a deadline after a signal
/// handler; it ends a wait with a deadline.
pub const NEVER: u64 = i64::MAX as u64;

#[cfg(not(loom))]
pub use kernel::{futex_wait, futex_wake};
#[cfg(loom)]
pub use model::{futex_wait, futex_wake};

/// The implementation in a loom model.
#[cfg(loom)]
mod model {
    use super::{NEVER, Waited};
    use crate::sync::{Acquire, AtomicU32};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        /// One queue for all words. A sleeper may be woken for another word, as with a real futex.
        static ref SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: u64) -> Waited {
        let sleepers = SLEEPERS.0.lock().unwrap();
        if word.load(Acquire) != expected {
            return Waited::Woken;
        }
        if deadline != NEVER {
            drop(sleepers);
            loom::thread::yield_now();
            return Waited::TimedOut;
        }
        let _sleepers = SLEEPERS.1.wait(sleepers).unwrap();
        Waited::Woken
    }

    pub fn futex_wake(_word: *const AtomicU32, _count: i32) {
        let _sleepers = SLEEPERS.0.lock().unwrap();
        SLEEPERS.1.notify_all();
    }
}

/// The kernel's, for words that are the standard library's also in a model.
pub(super) mod kernel {
    use super::super::timespec;
    use super::Waited;
    use nix::errno::Errno;
    use std::sync::atomic::AtomicU32;

    /// Sleeps while `*word` is `expected`, at most until CLOCK_MONOTONIC reaches `deadline`.
    pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: u64) -> Waited {
        let limit = timespec(deadline);
        // SAFETY: the word lives as long as the borrow, and the limit until the call returns.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                expected,
                &limit,
                std::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        match ret {
            0 => Waited::Woken,
            _ => match Errno::last() {
                Errno::ETIMEDOUT => Waited::TimedOut,
                Errno::EINTR => Waited::Interrupted,
                _ => Waited::Woken,
            },
        }
    }

    /// Wakes up to `count` sleepers on the word at this address. If the word has been freed, the kernel finds no sleeper or
    /// an unrelated one, which then wakes without a reason.
    pub fn futex_wake(word: *const AtomicU32, count: i32) {
        // SAFETY: the kernel does not dereference the address when it wakes a private futex.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                count,
            );
        }
    }
}
