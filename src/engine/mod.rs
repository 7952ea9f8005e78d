//! The ways to carry requests out: in the calling thread ([`exec`]), by workers ([`pool`]), by io_uring or the kernel's AIO with a thread
//! of the library's ([`kaio`]), or by the kernel's AIO and the caller itself (`own_queue`). This module alone chooses which of them may be
//! used. [`Engine`] is their common interface. [`Served`] and [`Completes`] are all that they know of a context. In `readiness`, requests
//! wait for their files without a thread each.
//!
//! `AIO2_ENGINE` restricts the choice. With `threads`, threads of the program and of the library make every system call, and wait in it.
//! With `kaio` or `uring`, that kernel queue takes the requests that suit it, and the other kernel queue is never used. Without the
//! variable, both are used; if both could carry out a request, io_uring does. The variable is read once, when the process makes its first
//! context. It is ignored in a program that has more rights than its user.

pub mod exec;
pub mod in_flight;
pub mod kaio;
#[cfg(not(loom))]
pub mod own_queue;
#[cfg(loom)]
#[path = "own_queue_model.rs"]
pub mod own_queue;
pub mod pool;
pub mod readiness;

use crate::policy::route::Route;
use crate::profiles::Profiles;
use crate::request::Req;
use crate::sys::uring::Uring;
use crate::sys::{Result, Waited, aio, variable};
use crate::syscall::Class;
use arrayvec::ArrayVec;
use in_flight::Done;
use libc::c_short;
use pool::{Look, Worker};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// The owner of requests: `queue` implements this for a reference to a context. Engines are generic over it and know nothing else of it. A
/// clone is one more reference; each request in flight has one.
pub trait Completes: Clone + Send + 'static {
    /// Whether both are references to the same.
    fn is(&self, other: &Self) -> bool;

    /// Takes back requests of its own that an engine has carried out. The engine's thread calls this, without any lock.
    fn complete_all(&self, done: Done<Self>);
}

/// An owner whose requests workers carry out: it keeps them itself until a worker takes them.
pub trait Served: Completes {
    /// The profiles of its requests: they say whether its workers count against the processors.
    fn profiles(&self) -> &Profiles;

    /// Has a worker carry out requests until there are none, or another context needs the worker.
    fn serve(&self, worker: &mut Worker<Self>);

    /// The monitor looks after it. Returns whether the monitor must come again.
    fn tick(&self, look: Look) -> bool;

    /// Carries out requests that wait for nobody, in place of a worker that cannot be started. False: there was none.
    fn stand_in(&self, class: Class) -> bool;

    /// How many workers serve it. Called under the pool's lock, like `count_worker`.
    fn workers(&self, class: Class) -> u32;

    /// One more serves it, or one less.
    fn count_worker(&self, class: Class, more: bool);

    /// Whether a caller carries out its requests, and so keeps a processor busy.
    fn serves_itself(&self) -> bool;

    /// The file that this request waited for is ready, with these events; or the request cannot wait in the epoll. Called without any
    /// lock.
    fn ready(&self, req: Req, events: Result<c_short>);

    /// Wakes its waiters, because perhaps no thread carries out the requests that they wait for.
    fn wake_waiters(&self);
}

/// The result of a call of [`Engine::reap`].
pub struct Reaped<Q> {
    pub done: Done<Q>,
    /// It has taken a wake-up, which may have been meant for another thread.
    pub woken: bool,
    /// How the wait ended, if it has waited. None: it must not wait here.
    pub waited: Option<Waited>,
}

impl<Q> Reaped<Q> {
    /// No completion, and no wait.
    pub fn nothing() -> Reaped<Q> {
        Reaped {
            done: Done::new(),
            woken: false,
            waited: Some(Waited::Woken),
        }
    }
}

/// How to start a batch.
#[derive(Clone, Copy)]
pub struct Start {
    /// The route that its requests note.
    pub route: Route,
    /// The kernel must not wait meanwhile. A request for which it would have to wait comes back, and is carried out in another way.
    pub nowait: bool,
}

/// A way other than threads to carry requests out: its callers start them and do not wait for them. There is one value for a pool, or one
/// for a context as long as the context has it. None is ever freed.
///
/// | | [`kaio::Kaio`] | [`own_queue::OwnQueue`] |
/// | --- | --- | --- |
/// | `supports` | plain reads and writes at an offset | the same |
/// | `room` | of the pool; none while the reaper is being started, or if it cannot be | of the context |
/// | `start` | io_submit(2), or the reaper's io_uring_enter(2); starts the reaper | io_submit(2) |
/// | `reap` | takes from the ring; blocks in epoll_wait(2), the reaper alone | takes from the ring; blocks in io_getevents(2), one caller at a time |
/// | `wake` | makes the reaper look at its eventfd again | has the kernel complete a read of no bytes there |
/// | `abandon` | closes its descriptors | nothing: [`own_queue::OwnQueues`] has the descriptors |
///
/// Threads ([`pool::Pool`]) take requests from their owner themselves, when they choose to ([`Served::serve`]). So no batch is handed to
/// them: `enqueue` starts whatever the owner has, `room` is without limit, nobody reaps, and a child inherits nothing of them.
pub trait Engine<Q> {
    /// Whether it can carry out a request at all. `policy` decides whether it does.
    fn supports(req: &Req) -> bool;

    /// How many more requests it takes now: a hint.
    fn room(&self) -> usize;

    /// Starts requests of this owner, all of which are for one file and go in one direction, by as many calls as needed. Requests that are
    /// not taken stay in the batch. True: one of them was refused, and others like it will be, too. It may wait for the file, for its
    /// device or for memory, unless `how` forbids it.
    fn start<const N: usize>(
        &'static self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> bool;

    /// Takes completions. If there is none, it blocks until there is one, until somebody wakes it, or until CLOCK_MONOTONIC is `until`;
    /// with 0 it does not block. It may come back sooner with nothing.
    fn reap(&self, until: u64) -> Reaped<Q>;

    /// Wakes the thread that blocks in `reap`, or keeps the next one from blocking. A thread that does not block may take this wake-up.
    /// Then the thread that blocks may go on blocking, and must be woken once more.
    fn wake(&self);

    /// In a forked child, which has nothing in flight: gives back inherited descriptors. Takes no lock.
    fn abandon(&self);
}

/// The engines that may be used beside threads.
#[derive(Clone, Copy)]
pub struct Allowed {
    pub kernel_aio: bool,
    pub io_uring: bool,
}

/// AIO2_ENGINE, as it was at the first call of this function.
pub fn allowed() -> Allowed {
    static ALLOWED: OnceLock<Allowed> = OnceLock::new();
    let read = |name: &CStr| Allowed {
        kernel_aio: name != c"threads" && name != c"uring",
        io_uring: name != c"threads" && name != c"kaio",
    };
    let all = Allowed {
        kernel_aio: true,
        io_uring: true,
    };
    *ALLOWED.get_or_init(|| variable(c"AIO2_ENGINE", read).unwrap_or(all))
}

/// Whether requests may wait in queues of the kernel: of io_uring, of its AIO, or in an epoll for their files.
pub fn allows_kernel_queues() -> bool {
    let Allowed {
        kernel_aio,
        io_uring,
    } = allowed();
    kernel_aio || io_uring
}

/// A context of the kernel's AIO, if it is allowed and one can be obtained (see [`aio::new_context`]). Without one, the engine that has
/// asked takes nothing, and threads carry out its requests.
pub fn new_kernel_context(events: usize) -> Option<u64> {
    allowed().kernel_aio.then(|| aio::new_context(events))?
}

/// The same for a ring (see [`Uring::new`]).
pub fn new_ring(requests: u32, eventfd: RawFd) -> Option<Uring> {
    let may = allowed().io_uring && !crate::hooks::has_no_ring();
    may.then(|| Uring::new(requests, eventfd))?
}
