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

use crate::profiles::Profiles;
#[cfg(not(loom))]
use crate::sys::variable;
use crate::syscall::Class;
use pool::{Look, Worker};
#[cfg(not(loom))]
use std::sync::OnceLock;

/// What requests belong to that an engine carries out: `queue` implements this for a reference to a context. Engines
/// are generic over it, and know nothing else of it. A clone is one more reference; each request in flight has one.
pub trait Completes: Clone + Send + 'static {
    /// Whether both are references to the same.
    fn is(&self, other: &Self) -> bool;

    /// Takes back what an engine has carried out, all of which is its own. The engine's thread calls this, without any lock.
    #[cfg(not(loom))]
    fn complete_all(&self, done: kaio::Done<Self>);
}

/// What workers serve: it keeps its requests itself until a worker takes them.
pub trait Served: Completes {
    /// What its requests have lately been seen to do: whether its workers count against the processors.
    fn profiles(&self) -> &Profiles;

    /// Has a worker carry out requests until there are none, or the worker is wanted elsewhere.
    fn serve(&self, worker: &mut Worker<Self>);

    /// The monitor looks after it. Returns whether it is to do so again.
    fn tick(&self, look: Look) -> bool;

    /// Carries out what waits for nobody, in place of a worker that cannot be started. False: there was nothing.
    fn stand_in(&self, class: Class) -> bool;

    /// How many workers serve it. Called under the pool's lock, as the next.
    fn workers(&self, class: Class) -> u32;

    /// One more serves it, or one less.
    fn count_worker(&self, class: Class, more: bool);

    /// Whether a caller carries its requests out, and so keeps a processor busy.
    fn serves_itself(&self) -> bool;

    /// Wakes those who wait: there may be no thread that carries out what they wait for.
    fn wake_waiters(&self);
}

/// Whether requests may be handed to the kernel's AIO.
#[cfg(not(loom))]
pub fn allows_kernel_aio() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| variable(c"AIO2_ENGINE", |name| name != c"threads").unwrap_or(true))
}
