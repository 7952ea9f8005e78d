//! The library's threads: how they start, and how the process ends when the program's last thread ends, even if library
//! threads still run.
//!
//! libc ends the process when the last thread ends, and counts library threads as the program's. So each library thread
//! removes itself from libc's count while it runs. Then libc ends the process in the program's last thread, at once and
//! with exit(0), as it would without the library. glibc exports the count to debuggers under a private name since 2.34.
//! Without it, the process ends only when the library's threads end.
//!
//! Each step is one atomic addition, so exactly one thread finds the count at 0:
//!
//! - Before a thread starts, its starter adds one. The process then cannot end between here and the new thread's first
//!   step. libc adds one for the new thread, which subtracts both. If the count is then 0, the program's last thread
//!   has ended meanwhile, and the new thread ends the process in its place.
//! - When a thread ends, it adds one, which libc subtracts.
//! - If a thread finds the count at 0, the process is ending. The thread adds one that stays, so that the count does
//!   not reach 0 a second time.

use super::host::{OwnTable, own_table, threads};
use super::private_fd::{is_inside, set_inside};
use super::{Result, gettid, note_blocked, processors, rank, try_box};
use crate::sync::Lock;
use libc::{c_char, c_int, c_void};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32};

/// The stack that a library thread needs: system calls and a few frames.
const STACK_BYTES: usize = 128 << 10;
/// The largest stack size that is tried.
const STACK_BYTES_MAX: usize = 256 << 20;

/// libc's count of the threads that keep the process from ending; null: unknown.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

type MinStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize;
/// glibc's function for the part of a stack that libc uses, thread-local variables included; null: unknown.
static MIN_STACK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" {
    // In libc, but not declared by the crate.
    fn pthread_attr_setinheritsched(attr: *mut libc::pthread_attr_t, inherit: c_int) -> c_int;
    fn pthread_attr_setschedpolicy(attr: *mut libc::pthread_attr_t, policy: c_int) -> c_int;
    fn pthread_attr_setschedparam(
        attr: *mut libc::pthread_attr_t,
        param: *const libc::sched_param,
    ) -> c_int;
}

/// Looks up libc's private symbols. Called before the first thread starts, and not in a signal handler.
pub fn prepare() {
    let find = |name: &CStr, version: &CStr| {
        let [name, version]: [*const c_char; 2] = [name.as_ptr(), version.as_ptr()];
        // SAFETY: both are C strings.
        unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name, version) }
    };
    // Release: pairs with the acquires in `libc_stack_bytes` and `count`.
    MIN_STACK.store(find(c"__pthread_get_minstack", c"GLIBC_PRIVATE"), Release);
    let count: *mut AtomicU32 = find(c"__nptl_nthreads", c"GLIBC_PRIVATE").cast();
    let is_plausible = |count: &AtomicU32| (1..1 << 24).contains(&count.load(Relaxed));
    // SAFETY: null, or libc's variable, an unsigned int that libc changes by atomic operations.
    if unsafe { count.as_ref() }.is_some_and(is_plausible) {
        COUNT.store(count, Release);
    }
}

fn count() -> Option<&'static AtomicU32> {
    // SAFETY: null, or libc's variable, which lives as long as libc. Acquire: pairs with the release in `prepare`.
    unsafe { COUNT.load(Acquire).as_ref() }
}

/// Whether the calling thread is surely the only one.
pub fn is_single() -> bool {
    // Acquire: pairs with libc's own additions.
    count().is_some_and(|count| count.load(Acquire) == 1)
}

/// While it exists, the process does not end for lack of program's threads.
#[derive(Clone, Copy)]
struct Pin {
    count: Option<&'static AtomicU32>,
    /// The process was ending already, so this count stays.
    stays: bool,
}

impl Pin {
    fn new() -> Pin {
        let count = count();
        // AcqRel, here and below: pairs with libc's own additions. Only the number matters.
        let stays = count.is_some_and(|count| count.fetch_add(1, AcqRel) == 0);
        Pin { count, stays }
    }

    /// Removes the pin, and libc's count for `threads`.
    fn remove(self, threads: u32) {
        let pinned = threads + u32::from(!self.stays);
        if let Some(count) = self.count
            && count.fetch_sub(pinned, AcqRel) == pinned
        {
            end_process();
        }
    }
}

/// The program's last thread has ended. A thread that uses the program's descriptors does the rest (exit handlers,
/// flushing streams).
pub fn end_process() {
    if is_inside() && own_table().is_some_and(|table| (table.has_process_end)()) {
        return;
    }
    // SAFETY: the program's exit handlers run here and may call any function.
    unsafe {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        libc::exit(0);
    }
}

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a library thread.
pub fn is_ours() -> bool {
    IS_OURS.get()
}

/// A library thread while it runs.
struct Living {
    threads: &'static Threads,
    count: Option<&'static AtomicU32>,
    tid: u32,
    table: Option<&'static OwnTable>,
}

impl Living {
    /// The calling thread begins, and takes its start arguments.
    ///
    /// # Safety
    /// As for [`Threads::arrive`].
    unsafe fn begin(given: *mut c_void) -> Option<(Living, Start)> {
        IS_OURS.set(true);
        let tid = gettid();
        // A forked child does not inherit threads, so this process started the thread.
        let threads = threads()?;
        // SAFETY: the caller guarantees it.
        let start = unsafe { threads.arrive(given, Some(tid))? };
        if start.table.is_some() {
            set_inside();
        }
        start.pin.remove(1);
        rank::catch_up(tid);
        let count = start.pin.count;
        let living = Living {
            threads,
            count,
            tid,
            table: start.table,
        };
        Some((living, start))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        if let Some(table) = self.table {
            (table.leave)();
        }
        self.threads.leave(self.tid);
        if let Some(count) = self.count
            && count.fetch_add(1, AcqRel) == 0
        {
            // This count stays.
            count.fetch_add(1, AcqRel);
        }
    }
}

/// The library's threads in this process. The lock is taken with all signals blocked: a signal handler may end the
/// process, which may need to start a thread.
pub struct Threads(Lock<Known>);

struct Known {
    tids: Vec<u32>,
    /// The arguments of threads that are starting. A new thread gets the number of its slot, which is less than any
    /// address. If all slots are used, it gets the address of a box.
    slots: [Option<Start>; START_SLOTS],
    starting: usize,
}

const START_SLOTS: usize = 16;
/// Room for this number of threads is reserved in advance.
const TIDS: usize = 64;

impl Threads {
    pub fn new() -> Result<Threads> {
        let mut tids = Vec::new();
        tids.try_reserve_exact(TIDS).map_err(|_| Errno::ENOMEM)?;
        Ok(Threads(Lock::new(Known {
            tids,
            slots: [const { None }; START_SLOTS],
            starting: 0,
        })))
    }

    /// Prepares the start of a thread, so that the thread normally allocates and frees nothing. (Its first malloc() or
    /// free() would create an arena for it, and the remains of each start would fragment the program's heap.)
    fn prepare(&self, start: Start) -> Result<*mut c_void> {
        let mut known = self.0.lock();
        let starting = known.starting + 1;
        known
            .tids
            .try_reserve(starting)
            .map_err(|_| Errno::ENOMEM)?;
        let slot = known.slots.iter().position(Option::is_none);
        let given = match slot {
            Some(slot) => {
                known.slots[slot] = Some(start);
                ptr::without_provenance_mut(slot)
            }
            None => Box::into_raw(try_box(start)?).cast(),
        };
        known.starting = starting;
        Ok(given)
    }

    /// The new thread takes its arguments (`tid` None: it could not be started).
    ///
    /// # Safety
    /// `given` was returned by `prepare` and has not been used yet.
    unsafe fn arrive(&self, given: *mut c_void, tid: Option<u32>) -> Option<Start> {
        let mut known = self.0.lock();
        known.starting -= 1;
        known.tids.extend(tid);
        match known.slots.get_mut(given.addr()) {
            Some(slot) => slot.take(),
            // SAFETY: not a slot, so it is the address of a box; the caller guarantees the rest.
            None => Some(*unsafe { Box::from_raw(given.cast()) }),
        }
    }

    fn leave(&self, tid: u32) {
        self.0.lock().tids.retain(|&other| other != tid);
    }

    /// Runs `body` with the numbers of all library threads. None of them ends meanwhile.
    pub fn with_all<T>(&self, body: impl FnOnce(&[u32]) -> T) -> T {
        masked(|| body(&self.0.lock().tids))
    }
}

/// The arguments of a new thread.
struct Start {
    name: &'static CStr,
    main: fn(usize),
    given: usize,
    pin: Pin,
    /// The library's own descriptor table, if its starter uses that: then so does the new thread, which is counted there.
    table: Option<&'static OwnTable>,
}

extern "C" fn thread_main(given: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` prepared it for this thread only.
    if let Some((_living, start)) = unsafe { Living::begin(given) } {
        // SAFETY: names this thread.
        unsafe { libc::prctl(libc::PR_SET_NAME, start.name.as_ptr()) };
        (start.main)(start.given);
    }
    ptr::null_mut()
}

/// Starts a detached thread of this name, with all signals blocked, that calls `main` with `given`.
pub fn spawn(name: &'static CStr, main: fn(usize), given: usize) -> Result<()> {
    let threads = threads().ok_or(Errno::EAGAIN)?;
    let pin = Pin::new();
    let table = own_table().filter(|_| is_inside());
    if let Some(table) = table {
        (table.enter)();
    }
    let start = Start {
        name,
        main,
        given,
        pin,
        table,
    };
    // The new thread inherits the mask, so a signal handler of the program never runs in it.
    let started = masked(|| {
        let given = threads.prepare(start)?;
        match create(given) {
            0 => Ok(()),
            error => {
                // SAFETY: no thread has received it.
                unsafe { threads.arrive(given, None) };
                Err(Errno::from_raw(error))
            }
        }
    });
    if started.is_err() {
        if let Some(table) = table {
            (table.leave)();
        }
        pin.remove(0);
    }
    started
}

/// Runs `body` with all signals blocked. libc excludes its internal signals (setuid, cancellation) from a full set.
fn masked<T>(body: impl FnOnce() -> T) -> T {
    let (all, mut before) = (SigSet::all(), SigSet::empty());
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before));
    if !is_ours() {
        note_blocked(before.as_ref());
    }
    let result = body();
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    result
}

/// Creates the thread. Returns the result of pthread_create().
fn create(start: *mut c_void) -> c_int {
    rank::look();
    let priority = rank::for_new_thread();
    match try_create(start, priority) {
        // The process has no right to this priority.
        libc::EPERM if priority.is_some() => {
            rank::refuse();
            try_create(start, None)
        }
        error => error,
    }
}

fn try_create(start: *mut c_void, priority: Option<c_int>) -> c_int {
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised before use and destroyed afterwards; `thread_main` takes `start`.
    unsafe {
        let attr = attr.as_mut_ptr();
        let error = libc::pthread_attr_init(attr);
        if error != 0 {
            return error;
        }
        libc::pthread_attr_setdetachstate(attr, libc::PTHREAD_CREATE_DETACHED);
        processors::choose(attr);
        if let Some(priority) = priority {
            set_priority(attr, priority);
        }
        let mut bytes = STACK_BYTES + libc_stack_bytes(attr);
        let error = loop {
            libc::pthread_attr_setstacksize(attr, bytes);
            let error = libc::pthread_create(thread.as_mut_ptr(), attr, thread_main, start);
            // The stack was too small, though it should not be.
            if error != libc::EINVAL || bytes >= STACK_BYTES_MAX {
                break error;
            }
            bytes *= 2;
        };
        libc::pthread_attr_destroy(attr);
        error
    }
}

/// # Safety
/// The attributes are initialised.
unsafe fn set_priority(attr: *mut libc::pthread_attr_t, priority: c_int) {
    const EXPLICIT: c_int = 1;
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the caller guarantees the attributes; the structure is ours.
    unsafe {
        pthread_attr_setinheritsched(attr, EXPLICIT);
        pthread_attr_setschedpolicy(attr, libc::SCHED_FIFO);
        pthread_attr_setschedparam(attr, &raw const param);
    }
}

/// How much of a stack libc uses, the program's thread-local variables included.
///
/// # Safety
/// The attributes are initialised.
unsafe fn libc_stack_bytes(attr: *const libc::pthread_attr_t) -> usize {
    let min_stack = MIN_STACK.load(Acquire);
    // SAFETY: the pointer is glibc's function of this type; the caller guarantees the attributes.
    unsafe {
        if min_stack.is_null() {
            libc::sysconf(libc::_SC_THREAD_STACK_MIN).max(0) as usize
        } else {
            mem::transmute::<*mut c_void, MinStack>(min_stack)(attr)
        }
    }
}
