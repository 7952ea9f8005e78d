//! System interfaces without a good safe wrapper elsewhere, and other code that knows nothing of requests.

pub mod aio;
mod clock;
mod file;
mod futex;
pub mod host;
mod memory;
#[cfg(not(loom))]
pub mod paging;
mod poll;
pub mod preload;
pub mod private_fd;
pub mod processors;
pub mod progress;
pub mod rank;
pub mod raw;
pub mod rights;
mod signal;
mod stack;
mod task;
pub mod thread;
pub mod uring;
pub mod user;

pub use clock::{monotonic_ns, timespec};
pub use file::*;
pub use futex::{NEVER, Waited, futex_wait, futex_wake};
pub use memory::*;
pub use poll::*;
pub use signal::*;
pub use stack::on_new_stack;
pub use task::*;

use nix::errno::Errno;

/// The completions of the kernel, in memory that it shares with the process: no system call is needed to take them.
pub trait Completions {
    /// How many there are: a hint.
    fn available(&self) -> usize;

    /// Takes the first: the number by which it was given, and its result. One thread at a time does so.
    fn pop(&self) -> Option<(u64, i64)>;

    /// Whether this result means that the kernel has not carried the request out, and that a thread can. `nowait`: the request must not
    /// wait.
    fn is_refusal(&self, res: i64, nowait: bool) -> bool;
}

pub type Result<T> = core::result::Result<T, Errno>;

/// A hash of a number: similar numbers get unrelated results.
#[inline]
pub fn hash(number: u64) -> u32 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
