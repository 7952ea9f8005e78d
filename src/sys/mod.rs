//! System interfaces without a good safe wrapper elsewhere, and other code that knows nothing of requests.

pub mod aio;
mod clock;
mod file;
mod futex;
#[cfg(not(loom))]
pub mod host;
mod memory;
mod poll;
#[cfg(not(loom))]
pub mod private_fd;
pub mod processors;
#[cfg(not(loom))]
pub mod progress;
#[cfg(not(loom))]
pub mod rank;
pub mod raw;
mod signal;
mod task;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
pub mod user;

pub use clock::{monotonic_ns, timespec};
pub use file::*;
pub use futex::{NEVER, Waited, futex_wait, futex_wake};
pub use memory::*;
pub use poll::*;
pub use signal::*;
pub use task::*;

use nix::errno::Errno;

pub type Result<T> = core::result::Result<T, Errno>;

/// A hash of a number: similar numbers get unrelated results.
#[inline]
pub fn spread(number: u64) -> u32 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
