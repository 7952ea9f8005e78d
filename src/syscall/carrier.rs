//! What a thread that carries requests out remembers from one request to the next: its number, and
//! whose I/O priority it has.
//!
//! A worker that a request has given a priority keeps it for the next request that asks for the
//! same, and gives it back when one comes that asks for none. A thread of the program's (it
//! carries requests out in io_issue2(), or while it waits for events) gets its own back at once.

#[cfg(not(loom))]
use super::interrupt::Interruptible;
#[cfg(not(loom))]
use crate::sys::ErrnoGuard;
use crate::sys::gettid;
use nix::errno::Errno;
use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Not a worker, or not known to be one.
const NO_WORKER: u32 = 0;

#[derive(Clone, Copy)]
struct Carrier {
    /// The worker's thread number. Of a thread of the program's none is remembered: in a forked
    /// child it is another.
    tid: u32,
    lent: Option<Lent>,
    /// What interrupts the worker's calls, if they can be.
    #[cfg(not(loom))]
    interrupt: Option<&'static Interruptible>,
}

/// A request's priority that a worker has.
#[derive(Clone, Copy)]
struct Lent {
    before: u16,
    now: u16,
}

thread_local! {
    // Without a destructor: nothing has to be registered, and so nothing is allocated.
    static HERE: Cell<Carrier> = const {
        Cell::new(Carrier {
            tid: NO_WORKER,
            lent: None,
            #[cfg(not(loom))]
            interrupt: None,
        })
    };
}

/// What a thread of the program's is doing here: a signal handler that interrupts it there may end the
/// process, and then it never comes out again.
struct Inside {
    /// It is in a function of the library's, and may have any of its locks.
    busy: Cell<bool>,
    /// The address of the request that it is carrying out for a context; 0: none.
    current: Cell<usize>,
}

thread_local! {
    static INSIDE: Inside = const {
        Inside {
            busy: Cell::new(false),
            current: Cell::new(0),
        }
    };
}

/// The body is the library's.
pub fn inside<T>(body: impl FnOnce() -> T) -> T {
    as_busy(true, body)
}

/// The one place where a result becomes what C sees, and errno what it was before.
#[cfg(not(loom))]
pub fn answer(body: impl FnOnce() -> Result<usize, Errno>) -> libc::ssize_t {
    let _errno = ErrnoGuard::new();
    match inside(body) {
        Ok(value) => value as libc::ssize_t,
        Err(errno) => -(errno as libc::ssize_t),
    }
}

/// The body may take its time, and has none of the library's locks meanwhile.
pub fn outside<T>(body: impl FnOnce() -> T) -> T {
    as_busy(false, body)
}

fn as_busy<T>(busy: bool, body: impl FnOnce() -> T) -> T {
    INSIDE.with(|inside| {
        let before = inside.busy.replace(busy);
        let value = body();
        inside.busy.set(before);
        value
    })
}

#[cfg(not(loom))]
thread_local! {
    static STANDS_IN: Cell<bool> = const { Cell::new(false) };
}

/// The body carries out what others should have, unless that is what this thread does already: then
/// it goes on with it.
#[cfg(not(loom))]
pub fn stand_in(body: impl FnOnce()) {
    if !STANDS_IN.replace(true) {
        body();
        STANDS_IN.set(false);
    }
}

/// A model has few requests, and many threads in one of the system's.
#[cfg(loom)]
pub fn stand_in(body: impl FnOnce()) {
    body();
}

/// Lets the caller say what it has in hand: under the context's lock, so that who has the lock knows.
pub fn with_current<T>(body: impl FnOnce(&Cell<usize>) -> T) -> T {
    INSIDE.with(|inside| body(&inside.current))
}

/// A thread that ends the process, and where it was interrupted for that.
#[cfg(not(loom))]
#[derive(Clone, Copy)]
pub struct Interrupted {
    pub thread: u32,
    pub current: usize,
    /// It may have locks.
    pub busy: bool,
}

#[cfg(not(loom))]
impl Interrupted {
    /// The calling thread.
    pub fn here() -> Interrupted {
        INSIDE.with(|inside| Interrupted {
            thread: thread(),
            current: inside.current.get(),
            busy: inside.busy.get(),
        })
    }
}

/// How many workers have a request's priority. As long as there are none, a request without
/// attributes looks at this alone. Of the standard library also in a model, where it stays 0.
static LENDING: AtomicU32 = AtomicU32::new(0);

/// The calling thread is a worker from here on.
#[cfg(not(loom))]
pub fn worker_begins() {
    HERE.set(Carrier {
        tid: gettid(),
        lent: None,
        interrupt: None,
    });
}

/// The calling thread, a worker, ends.
#[cfg(not(loom))]
pub fn worker_ends() {
    if HERE.get().lent.is_some() {
        LENDING.fetch_sub(1, Relaxed);
    }
}

/// The calling thread's system calls are interrupted by this.
#[cfg(not(loom))]
pub fn set_interruptible(target: &'static Interruptible) {
    let mut here = HERE.get();
    here.interrupt = Some(target);
    HERE.set(here);
}

#[cfg(not(loom))]
pub fn interruptible() -> Option<&'static Interruptible> {
    HERE.get().interrupt
}

/// Whether the calling thread is a worker.
#[cfg(not(loom))]
pub fn is_worker() -> bool {
    HERE.get().tid != NO_WORKER
}

/// The calling thread's number.
pub fn tid() -> u32 {
    match HERE.get().tid {
        NO_WORKER => gettid(),
        tid => tid,
    }
}

/// Tells the calling thread from others, nearly always: for hints.
pub fn thread() -> u32 {
    HERE.with(|here| (std::ptr::from_ref(here).addr() >> 3) as u32)
}

/// A request without a priority of its own is about to be carried out in this thread.
#[inline]
pub fn settle() {
    // Relaxed: what this thread itself has added it sees, and that is all it needs.
    if LENDING.load(Relaxed) != 0 {
        give_back();
    }
}

#[cold]
fn give_back() {
    let mut here = HERE.get();
    let Some(lent) = here.lent.take() else { return };
    if lent.now != lent.before {
        // Should it fail (the process has lost a right), it would fail for every request to come.
        let _ = set_ioprio(THIS_THREAD, lent.before);
    }
    HERE.set(here);
    LENDING.fetch_sub(1, Relaxed);
}

/// Gives the calling thread an I/O priority for one request. What comes back is what to
/// [`restore`] afterwards: nothing in a worker.
pub fn lend_ioprio(ioprio: u16) -> Result<Option<u16>, Errno> {
    let mut here = HERE.get();
    if here.tid == NO_WORKER {
        let before = ioprio_now();
        set_ioprio(THIS_THREAD, ioprio)?;
        return Ok(Some(before));
    }
    let lent = match here.lent {
        Some(lent) if lent.now == ioprio => return Ok(None),
        Some(lent) => lent,
        // Looked up each time it is borrowed anew: somebody may have changed it (ionice).
        None => {
            let now = ioprio_now();
            Lent { before: now, now }
        }
    };
    if lent.now != ioprio {
        set_ioprio(THIS_THREAD, ioprio)?;
    }
    if here.lent.is_none() {
        LENDING.fetch_add(1, Relaxed);
    }
    here.lent = Some(Lent {
        now: ioprio,
        ..lent
    });
    HERE.set(here);
    Ok(None)
}

/// Undoes [`lend_ioprio`].
pub fn restore(before: u16) {
    let _ = set_ioprio(THIS_THREAD, before);
}

const IOPRIO_WHO_PROCESS: i32 = 1;
const THIS_THREAD: i32 = 0;
const CLASS_SHIFT: u32 = 13;

/// ioprio_set(2) for the thread of that number.
pub fn set_ioprio(thread: i32, ioprio: u16) -> Result<(), Errno> {
    let (who, ioprio) = (IOPRIO_WHO_PROCESS, u32::from(ioprio));
    // SAFETY: integers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, who, thread, ioprio) };
    Errno::result(ret).map(drop)
}

/// The calling thread's priority, so that it can be set again.
fn ioprio_now() -> u16 {
    // SAFETY: integers.
    let now = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, THIS_THREAD) };
    let now = u16::try_from(now).unwrap_or(0);
    // Older kernels say of a thread that has none that it has "none, level 4", and do not take
    // that back.
    if now >> CLASS_SHIFT == 0 { 0 } else { now }
}
