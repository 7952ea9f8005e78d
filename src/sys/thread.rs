//! The library's threads: how one is started, and that the end of the program's threads is the end of
//! the process, however many of ours there are.
//!
//! libc ends the process when the last thread has ended, and takes ours for some of the program's. So
//! that they are not, each of ours takes itself out of libc's count while it runs: then libc ends the
//! process in the program's last thread, as it would without us, with exit(0) and at once. This needs
//! that count, which glibc shows to debuggers under a private name since 2.34; without it the
//! process ends when ours do.
//!
//! The steps, of which each is one atomic addition, so that exactly one thread finds the count at 0:
//!
//! - Before a thread is started, the starter adds one, which keeps the process from ending between
//!   here and the new thread's first step. libc adds one for the new thread, which takes both back. If
//!   nothing is left then, the program's last thread has ended meanwhile, and the new one ends the
//!   process in its place.
//! - At its end a thread adds one, which libc takes back.
//! - Whoever finds the count at 0 finds the process ending. It adds one that stays, so that the count
//!   never gets there a second time.

use super::host::{own_table, threads};
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

/// What a thread of ours needs of its stack: system calls and a few frames.
const STACK_BYTES: usize = 128 << 10;
/// The largest stack that is tried.
const STACK_BYTES_MAX: usize = 256 << 20;

/// libc's count of the threads that keep the process from ending; null: it has none that we know.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

type MinStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize;
/// glibc's function that says how much of its stack a thread has to give to libc, thread-local
/// variables included; null: there is none.
static MIN_STACK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" {
    // libc has it, the crate does not.
    fn pthread_attr_setinheritsched(attr: *mut libc::pthread_attr_t, inherit: c_int) -> c_int;
    fn pthread_attr_setschedpolicy(attr: *mut libc::pthread_attr_t, policy: c_int) -> c_int;
    fn pthread_attr_setschedparam(
        attr: *mut libc::pthread_attr_t,
        param: *const libc::sched_param,
    ) -> c_int;
}

/// Looks for what libc has, before the first thread is started: not in a signal handler.
pub fn prepare() {
    let find = |name: &CStr, version: &CStr| {
        let [name, version]: [*const c_char; 2] = [name.as_ptr(), version.as_ptr()];
        // SAFETY: C strings.
        unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name, version) }
    };
    // Release: pairs with the acquire of whoever uses them.
    MIN_STACK.store(find(c"__pthread_get_minstack", c"GLIBC_PRIVATE"), Release);
    let count: *mut AtomicU32 = find(c"__nptl_nthreads", c"GLIBC_PRIVATE").cast();
    let is_plausible = |count: &AtomicU32| (1..1 << 24).contains(&count.load(Relaxed));
    // SAFETY: null, or libc's variable, an unsigned int that it changes by atomic operations.
    if unsafe { count.as_ref() }.is_some_and(is_plausible) {
        COUNT.store(count, Release);
    }
    rank::prepare();
}

fn count() -> Option<&'static AtomicU32> {
    // SAFETY: null, or libc's variable, which stays as long as libc does.
    unsafe { COUNT.load(Acquire).as_ref() }
}

/// While this is there, the process does not end because the program has no threads left.
#[derive(Clone, Copy)]
struct Pin {
    count: Option<&'static AtomicU32>,
    /// It was ending already: this stays.
    stays: bool,
}

impl Pin {
    fn new() -> Pin {
        let count = count();
        // AcqRel, here and below: with libc's own additions. Only the number counts.
        let stays = count.is_some_and(|count| count.fetch_add(1, AcqRel) == 0);
        Pin { count, stays }
    }

    /// Takes it away, and with it what libc has added for `threads`.
    fn take_back(self, threads: u32) {
        let pinned = threads + u32::from(!self.stays);
        if let Some(count) = self.count
            && count.fetch_sub(pinned, AcqRel) == pinned
        {
            end_process();
        }
    }
}

/// The program's last thread has ended. What is left to be done (the program's handlers, its streams) is done by a
/// thread that has the program's descriptors.
pub fn end_process() {
    if is_inside() && own_table().is_some_and(|table| (table.has_process_end)()) {
        return;
    }
    // SAFETY: the program's handlers may run here now; they may use any function.
    unsafe {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        libc::exit(0);
    }
}

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one of the library's.
pub fn is_ours() -> bool {
    IS_OURS.get()
}

/// A thread of the library's, as long as it lives.
struct Living {
    threads: &'static Threads,
    count: Option<&'static AtomicU32>,
    tid: u32,
}

impl Living {
    /// The calling thread begins. It takes what it was given.
    ///
    /// # Safety
    /// As for [`Threads::arrive`].
    unsafe fn begin(given: *mut c_void) -> Option<(Living, Start)> {
        IS_OURS.set(true);
        let tid = gettid();
        // A child does not inherit threads: this is the process that has started this one.
        let threads = threads()?;
        // SAFETY: the caller's promise.
        let start = unsafe { threads.arrive(given, Some(tid))? };
        if start.is_inside {
            set_inside();
        }
        start.pin.take_back(1);
        rank::catch_up(tid);
        let count = start.pin.count;
        let living = Living {
            threads,
            count,
            tid,
        };
        Some((living, start))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.threads.leave(self.tid);
        if let Some(count) = self.count
            && count.fetch_add(1, AcqRel) == 0
        {
            // That one stays.
            count.fetch_add(1, AcqRel);
        }
    }
}

/// The library's threads in this process. The lock is taken with all signals blocked: a signal handler may
/// end the process, which may need another thread.
pub struct Threads(Lock<Known>);

struct Known {
    tids: Vec<u32>,
    /// What those are given that are being started: by the number of the place, which is less than any
    /// address. If there are more, the others are given an address.
    places: [Option<Start>; PLACES],
    starting: usize,
}

const PLACES: usize = 16;
/// So many threads there may be before there has to be memory for more.
const TIDS: usize = 64;

impl Threads {
    pub fn new() -> Result<Threads> {
        let mut tids = Vec::new();
        tids.try_reserve_exact(TIDS).map_err(|_| Errno::ENOMEM)?;
        Ok(Threads(Lock::new(Known {
            tids,
            places: [const { None }; PLACES],
            starting: 0,
        })))
    }

    /// A thread is about to be started: sees to it that it normally has to allocate and to free nothing.
    /// (Its first call of malloc() or free() would give it an arena of its own; and what stays of
    /// each start would lie between what the program frees.)
    fn prepare(&self, start: Start) -> Result<*mut c_void> {
        let mut known = self.0.lock();
        let starting = known.starting + 1;
        known
            .tids
            .try_reserve(starting)
            .map_err(|_| Errno::ENOMEM)?;
        let place = known.places.iter().position(Option::is_none);
        let given = match place {
            Some(place) => {
                known.places[place] = Some(start);
                ptr::without_provenance_mut(place)
            }
            None => Box::into_raw(try_box(start)?).cast(),
        };
        known.starting = starting;
        Ok(given)
    }

    /// The thread of that number has come and takes what it was given (None: it could not be started).
    ///
    /// # Safety
    /// `given` is what `prepare` has returned, and this is the first time.
    unsafe fn arrive(&self, given: *mut c_void, tid: Option<u32>) -> Option<Start> {
        let mut known = self.0.lock();
        known.starting -= 1;
        known.tids.extend(tid);
        match known.places.get_mut(given.addr()) {
            Some(place) => place.take(),
            // SAFETY: then it is the address of one; the caller's promise.
            None => Some(*unsafe { Box::from_raw(given.cast()) }),
        }
    }

    fn leave(&self, tid: u32) {
        self.0.lock().tids.retain(|&other| other != tid);
    }

    /// Does that with the numbers of all, of which none ends meanwhile.
    pub fn with_all<T>(&self, body: impl FnOnce(&[u32]) -> T) -> T {
        masked(|| body(&self.0.lock().tids))
    }
}

type Entry = extern "C" fn(*mut c_void) -> *mut c_void;

/// What a new thread is given.
struct Start {
    entry: Entry,
    arg: *mut c_void,
    pin: Pin,
    /// It has the descriptor table of the thread that starts it, which is the library's own.
    is_inside: bool,
}

// SAFETY: the argument is the new thread's.
unsafe impl Send for Start {}

extern "C" fn thread_main(given: *mut c_void) -> *mut c_void {
    // SAFETY: what `spawn_detached` has prepared, for this thread alone.
    match unsafe { Living::begin(given) } {
        Some((_living, start)) => (start.entry)(start.arg),
        None => ptr::null_mut(),
    }
}

/// Starts a detached thread with all signals blocked.
///
/// # Safety
/// `arg` must be what `entry` expects, and stay valid for as long as the thread uses it.
pub unsafe fn spawn_detached(entry: Entry, arg: *mut c_void) -> Result<()> {
    let threads = threads().ok_or(Errno::EAGAIN)?;
    let pin = Pin::new();
    let start = Start {
        entry,
        arg,
        pin,
        is_inside: is_inside(),
    };
    // The new thread inherits the mask: at no time can a signal handler of the program's run there.
    let started = masked(|| {
        let given = threads.prepare(start)?;
        match create(given) {
            0 => Ok(()),
            error => {
                // SAFETY: no thread has got it.
                unsafe { threads.arrive(given, None) };
                Err(Errno::from_raw(error))
            }
        }
    });
    if started.is_err() {
        pin.take_back(0);
    }
    started
}

/// Runs `body` with all signals blocked. libc leaves its internal ones (setuid, cancellation) out of a
/// full set.
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

/// Creates the thread; returns what pthread_create() does.
fn create(start: *mut c_void) -> c_int {
    rank::look();
    let priority = rank::for_new_thread();
    match try_create(start, priority) {
        // It may not have that one.
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
    // SAFETY: the attributes are initialised before they are used and destroyed after; `thread_main`
    // takes what it is given.
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
            // Too small, though it should not be.
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
    // SAFETY: the caller's promise, and a structure of ours.
    unsafe {
        pthread_attr_setinheritsched(attr, EXPLICIT);
        pthread_attr_setschedpolicy(attr, libc::SCHED_FIFO);
        pthread_attr_setschedparam(attr, &raw const param);
    }
}

/// How much of its stack a thread has to give to libc: the program's thread-local variables are
/// there.
///
/// # Safety
/// The attributes are initialised.
unsafe fn libc_stack_bytes(attr: *const libc::pthread_attr_t) -> usize {
    let min_stack = MIN_STACK.load(Acquire);
    // SAFETY: that function; the caller's promise; and a number.
    unsafe {
        if min_stack.is_null() {
            libc::sysconf(libc::_SC_THREAD_STACK_MIN).max(0) as usize
        } else {
            mem::transmute::<*mut c_void, MinStack>(min_stack)(attr)
        }
    }
}
