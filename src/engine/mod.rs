//! The ways to carry requests out: in the calling thread ([`exec`]), by workers ([`pool`]), by io_uring or the kernel's AIO with a thread
//! of the library's ([`kaio`]) or by the kernel's AIO and the caller itself (`own_queue`). And which of them may be used: the choice, in one place.
//! What they have in common is [`Engine`]; what they know of a context is [`Served`] and [`Completes`]. In `readiness` requests wait
//! for their files, without a thread each.
//!
//! `AIO2_ENGINE` restricts it: with `threads`, threads of the program and of the library make every system call, and wait in it; with
//! `kaio` and `uring`, one of the kernel's two queues takes what it is better at, and never the other; without it, both do, io_uring before
//! the kernel's AIO where both could. It is read once, when the process makes its first context, and not in a program that has more rights than its user.

pub mod exec;
pub mod in_flight;
pub mod kaio;
#[cfg(not(loom))]
pub mod own_queue;
#[cfg(loom)]
#[path = "own_queue_model.rs"]
pub mod own_queue;
pub mod pool;
#[cfg(not(loom))]
pub mod readiness;

use crate::policy::route::Route;
use crate::profiles::Profiles;
use crate::request::Req;
#[cfg(not(loom))]
use crate::sys::uring::Uring;
use crate::sys::{Waited, aio, variable};
use crate::syscall::Class;
use arrayvec::ArrayVec;
use in_flight::Done;
use pool::{Look, Worker};
use std::ffi::CStr;
#[cfg(not(loom))]
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// What requests belong to that an engine carries out: `queue` implements this for a reference to a context. Engines
/// are generic over it, and know nothing else of it. A clone is one more reference; each request in flight has one.
pub trait Completes: Clone + Send + 'static {
    /// Whether both are references to the same.
    fn is(&self, other: &Self) -> bool;

    /// Takes back what an engine has carried out, all of which is its own. The engine's thread calls this, without any lock.
    fn complete_all(&self, done: Done<Self>);
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

    /// A request's file has become ready for which it waited.
    #[cfg(not(loom))]
    fn ready(&self, req: Req);

    /// Wakes those who wait: there may be no thread that carries out what they wait for.
    fn wake_waiters(&self);
}

/// What has been found by who reaps.
pub struct Reaped<Q> {
    pub done: Done<Q>,
    /// It has taken a wake-up, which may have been meant for another.
    pub woken: bool,
    /// How the wait ended, if it has waited; None: it must not wait here.
    pub waited: Option<Waited>,
}

impl<Q> Reaped<Q> {
    /// Nothing, without a wait.
    pub fn nothing() -> Reaped<Q> {
        Reaped {
            done: Done::new(),
            woken: false,
            waited: Some(Waited::Woken),
        }
    }
}

/// How a batch is to be started.
#[derive(Clone, Copy)]
pub struct Start {
    /// What its requests note.
    pub route: Route,
    /// The kernel is to wait for nothing meanwhile. What it would have to wait for comes back, to be carried out otherwise.
    pub nowait: bool,
}

/// A way to carry requests out that its callers start and do not wait for: another than threads. There is one value of each for
/// the process, or for a context as long as it has one, and none is ever freed.
///
/// | | [`kaio::Kaio`] | [`own_queue::OwnQueue`] |
/// | --- | --- | --- |
/// | `takes` | plain reads and writes at an offset | the same |
/// | `room` | of the process; none while the reaper is being started, or if it cannot be | of the context |
/// | `start` | io_submit(2), or the reaper's io_uring_enter(2); starts the reaper | io_submit(2) |
/// | `reap` | takes from the ring; blocks in epoll_wait(2), the reaper alone | takes from the ring; blocks in io_getevents(2), one caller at a time |
/// | `wake` | has that look again at its eventfd | has the kernel complete a read of no bytes there |
/// | `abandon` | closes that | nothing: [`own_queue::OwnQueues`] has the descriptors |
///
/// Threads ([`pool::Pool`]) take requests from their owner by themselves, and when they want to ([`Served::serve`]). So nothing is taken out
/// of a batch for them: `enqueue` starts whatever the owner has, `room` is without limit, nobody reaps, and a child inherits nothing of them.
pub trait Engine<Q> {
    /// Whether it can carry a request out at all. Whether it is to is for `policy` to say.
    fn takes(req: &Req) -> bool;

    /// How many more requests it would take now: a hint.
    fn room(&self) -> usize;

    /// Starts requests of this owner, all of which are for one file and go in one direction, by as many calls as that takes. Those that
    /// are not taken stay in the batch. True: for one of them it was tried in vain, and will be for others like it. It can wait for the file,
    /// for its device or for memory, unless it is not to.
    fn start<const N: usize>(
        &'static self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> bool;

    /// Takes what has been done. If that is nothing, it blocks until something is, somebody wakes it, or CLOCK_MONOTONIC is `until`;
    /// 0: it does not. It may come back sooner with nothing.
    fn reap(&self, until: u64) -> Reaped<Q>;

    /// Wakes whoever blocks in `reap`, or keeps the next who would from it. If one that does not block takes that, the one that does may go on
    /// to: it has to be woken once more.
    fn wake(&self);

    /// In a forked child, which has none of what it had in flight: gives back descriptors that were inherited. Takes no lock.
    fn abandon(&self);
}

/// What may be used beside threads.
#[derive(Clone, Copy)]
pub struct Allowed {
    pub kernel_aio: bool,
    pub io_uring: bool,
}

/// AIO2_ENGINE, as it was when this was called first.
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

/// Whether requests may wait for their files in an epoll.
#[cfg(not(loom))]
pub fn allows_readiness() -> bool {
    let Allowed {
        kernel_aio,
        io_uring,
    } = allowed();
    kernel_aio || io_uring
}

/// A context of the kernel's AIO, if it may be used and one can be had (see [`aio::new_context`]). Without one, the engine that has asked takes
/// nothing, and threads carry out what it would have taken.
pub fn new_kernel_context(events: usize) -> Option<u64> {
    allowed().kernel_aio.then(|| aio::new_context(events))?
}

/// The same of a ring (see [`Uring::new`]).
#[cfg(not(loom))]
pub fn new_ring(requests: u32, eventfd: RawFd) -> Option<Uring> {
    let may = allowed().io_uring && !crate::hooks::has_no_ring();
    may.then(|| Uring::new(requests, eventfd))?
}
