//! State of a thread that executes requests, kept from one request to the next: its number, and a lent I/O priority.
//!
//! If a request gives a worker an I/O priority, the worker keeps it for the next request with the same priority, and
//! restores its own at a request without one. A program's thread (which executes requests in io_issue2() or while it
//! waits for events) restores its own at once.

use super::interrupt::Interruptible;
use crate::sys::{ErrnoGuard, gettid};
use nix::errno::Errno;
use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Not a worker, or not known to be one.
const NO_WORKER: u32 = 0;

#[derive(Clone, Copy)]
struct Carrier {
    /// A worker's thread number. Not kept for a program's thread, because it changes in a forked child.
    tid: u32,
    lent: Option<Lent>,
    /// Interrupts the worker's calls, if they can be interrupted.
    interrupt: Option<&'static Interruptible>,
}

/// A worker has the priority of a request.
#[derive(Clone, Copy)]
struct Lent {
    before: u16,
    now: u16,
}

thread_local! {
    // Without a destructor, so that nothing is registered or allocated.
    static HERE: Cell<Carrier> = const {
        Cell::new(Carrier {
            tid: NO_WORKER,
            lent: None,
            interrupt: None,
        })
    };
}

/// The current activity of a program's thread in the library. If a signal handler interrupts it here and ends the
/// process, the thread never continues.
struct Inside {
    /// It is in a library function and may hold any of the library's locks.
    busy: Cell<bool>,
    /// The address of the request that it executes for a context; 0: none.
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

/// Runs library code.
pub fn inside<T>(body: impl FnOnce() -> T) -> T {
    as_busy(true, body)
}

/// The only place where a result becomes a C return value. It restores errno.
pub fn answer(body: impl FnOnce() -> Result<usize, Errno>) -> libc::ssize_t {
    let _errno = ErrnoGuard::new();
    match inside(body) {
        Ok(value) => value as libc::ssize_t,
        Err(errno) => -(errno as libc::ssize_t),
    }
}

/// Runs code that may take long and holds none of the library's locks.
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

crate::sync::thread_local! {
    static STANDS_IN: Cell<bool> = Cell::default();
}

/// Executes requests in place of others, unless this thread already does so: then the outer call continues.
pub fn stand_in(body: impl FnOnce()) {
    if !STANDS_IN.with(|stands_in| stands_in.replace(true)) {
        body();
        STANDS_IN.with(|stands_in| stands_in.set(false));
    }
}

/// Gives access to the thread's current request. Set under the context's lock, so that a thread with the lock knows the
/// value.
pub fn with_current<T>(body: impl FnOnce(&Cell<usize>) -> T) -> T {
    INSIDE.with(|inside| body(&inside.current))
}

/// A thread that ends the process, and its state when it was interrupted.
#[derive(Clone, Copy)]
pub struct Interrupted {
    pub thread: u32,
    pub current: usize,
    /// It may hold locks.
    pub busy: bool,
}

impl Interrupted {
    /// The state of the calling thread.
    pub fn here() -> Interrupted {
        INSIDE.with(|inside| Interrupted {
            thread: thread(),
            current: inside.current.get(),
            busy: inside.busy.get(),
        })
    }
}

/// How many workers have a request's priority. If 0, a request without attributes checks nothing else. The standard
/// library's atomic even in a model, where it stays 0. Relaxed: a count, see `settle`.
static LENDING: AtomicU32 = AtomicU32::new(0);

/// From here on the calling thread is a worker.
pub fn worker_begins() {
    HERE.set(Carrier {
        tid: gettid(),
        lent: None,
        interrupt: None,
    });
}

/// The calling worker ends.
pub fn worker_ends() {
    if HERE.get().lent.is_some() {
        LENDING.fetch_sub(1, Relaxed);
    }
}

/// Sets the object that interrupts the calling thread's system calls.
pub fn set_interruptible(target: &'static Interruptible) {
    let mut here = HERE.get();
    here.interrupt = Some(target);
    HERE.set(here);
}

pub fn interruptible() -> Option<&'static Interruptible> {
    HERE.get().interrupt
}

/// Whether the calling thread is a worker.
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

/// Distinguishes the calling thread from others, nearly always. Only for hints.
pub fn thread() -> u32 {
    HERE.with(|here| (std::ptr::from_ref(here).addr() >> 3) as u32)
}

/// Called before this thread executes a request without a priority.
#[inline]
pub fn settle() {
    // Relaxed: this thread must see only its own additions, and it does.
    if LENDING.load(Relaxed) != 0 {
        give_back();
    }
}

#[cold]
fn give_back() {
    let mut here = HERE.get();
    let Some(lent) = here.lent.take() else { return };
    if lent.now != lent.before {
        // If it fails (the process lost a right), it fails for every later request, too.
        let _ = set_ioprio(THIS_THREAD, lent.before);
    }
    HERE.set(here);
    LENDING.fetch_sub(1, Relaxed);
}

/// Gives the calling thread an I/O priority for one request. Returns the priority to [`restore`] afterwards; None in a
/// worker.
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
        // Read again for each new loan, because another process may have changed it (ionice).
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
    // SAFETY: integer arguments only.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, who, thread, ioprio) };
    Errno::result(ret).map(drop)
}

/// The calling thread's priority, in a form that can be set again.
fn ioprio_now() -> u16 {
    // SAFETY: integer arguments only.
    let now = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, THIS_THREAD) };
    let now = u16::try_from(now).unwrap_or(0);
    // For a thread without a priority, older kernels return "none, level 4", which ioprio_set(2) rejects.
    if now >> CLASS_SHIFT == 0 { 0 } else { now }
}
