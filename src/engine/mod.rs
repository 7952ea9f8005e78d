//! The ways to carry requests out: in the calling thread ([`exec`]), by workers ([`pool`]), by the kernel's AIO with a thread
//! of the library's ([`kaio`]) or by the caller itself (`own_queue`). And which of them may be used: the choice, in one place.
//!
//! `AIO2_ENGINE` restricts it: with `threads`, threads of the program and of the library make every system call; with
//! `kaio`, and without the variable, the kernel's AIO takes what it is better at. It is read once, when the process
//! makes its first context, and not in a program that has more rights than its user.

pub mod exec;
#[cfg(not(loom))]
pub mod kaio;
#[cfg(not(loom))]
pub mod own_queue;
pub mod pool;

#[cfg(not(loom))]
use crate::sys::variable;
#[cfg(not(loom))]
use std::sync::OnceLock;

/// Whether requests may be handed to the kernel's AIO.
#[cfg(not(loom))]
pub fn allows_kernel_aio() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| variable(c"AIO2_ENGINE", |name| name != c"threads").unwrap_or(true))
}
