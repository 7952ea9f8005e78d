//! Real-time policies. A thread of the program's that has one and looks for events without sleeping
//! keeps its processor from every thread of ours that does not go before it, and with it the requests
//! for which it looks. So, when such a thread submits, the library's threads get a priority above its
//! own. If they may not have one, it carries its requests out itself.
//!
//! Nothing tells of a change of policy, and to ask the kernel costs a system call. It is asked where a
//! system call is made anyway: when a submit wakes a worker, when a thread is started, and when a caller
//! has looked in vain for a while; and at each submit of a thread that had such a policy the last time.

use super::host::threads;
use super::thread;
use super::{has_call_filter, limit, monotonic_ns};
use libc::c_int;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};

/// The priority that the library's threads have been given; 0: none. Changed under the lock of
/// [`crate::sys::thread::Threads`].
static RAISED: AtomicI32 = AtomicI32::new(0);
/// When a thread with a real-time policy asked for it the last time.
static ASKED_NS: AtomicU64 = AtomicU64::new(0);
/// After so long they give it back.
const KEPT_NS: u64 = 3_000_000_000;
/// The kernel has refused it.
static REFUSED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The calling thread had a real-time policy when it was asked the last time.
    static URGENT: Cell<bool> = const { Cell::new(false) };
}

/// How a thread of the program's stands to those of the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The kernel gives all of them their turn.
    Equal,
    /// It has a real-time policy, and the library's threads go before it.
    Behind,
    /// It has one, and they do not: while it runs they may never.
    Before,
}

/// The kernel's timers are exact for a thread with a real-time policy, and for no other.
static TIMERS_TELL: AtomicBool = AtomicBool::new(false);

/// Finds out whether they tell: since Linux 6.12.
pub fn prepare() {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: a structure of ours, whose strings are empty if the call should fail.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let mut numbers = name
        .release
        .split(|&byte| !(byte as u8).is_ascii_digit())
        .map(|digits| {
            digits.iter().fold(0, |sum: u32, &digit| {
                sum.wrapping_mul(10)
                    .wrapping_add(digit as u32 - u32::from(b'0'))
            })
        });
    let version = (numbers.next(), numbers.next());
    TIMERS_TELL.store(version >= (Some(6), Some(12)), Relaxed);
}

/// Whether the calling thread has no real-time policy for sure: by one system call, which has the number
/// of the one that asks for a filter.
fn is_ordinary() -> bool {
    // SAFETY: integers.
    TIMERS_TELL.load(Relaxed) && unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) > 0 }
}

/// The calling thread's. Makes system calls.
pub fn look() -> Standing {
    if thread::is_ours() {
        return Standing::Equal;
    }
    // Behind a filter no call is made that it may not know.
    if is_ordinary() || has_call_filter() {
        URGENT.set(false);
        return Standing::Equal;
    }
    let priority = priority_now();
    URGENT.set(priority.is_some());
    match priority {
        None => Standing::Equal,
        Some(priority) if raise_above(priority) => Standing::Behind,
        Some(_) => Standing::Before,
    }
}

/// Whether the calling thread has to be looked at with each submit.
pub fn is_urgent() -> bool {
    URGENT.get()
}

/// The calling thread's real-time priority; None: its policy is another. One of its own has no
/// number: no thread goes before it.
fn priority_now() -> Option<c_int> {
    // SAFETY: integers, and a structure of ours, which is valid as zeros if the call should fail.
    unsafe {
        let policy = libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK;
        match policy {
            libc::SCHED_FIFO | libc::SCHED_RR => {
                let mut param = MaybeUninit::<libc::sched_param>::zeroed();
                libc::sched_getparam(0, param.as_mut_ptr());
                Some(param.assume_init().sched_priority)
            }
            libc::SCHED_DEADLINE => Some(c_int::MAX),
            _ => None,
        }
    }
}

/// Gives the library's threads a priority above this one; false: they may not have it.
fn raise_above(priority: c_int) -> bool {
    let now = monotonic_ns();
    // AcqRel: either `lower_if_unused` sees it, or what that has changed is seen here.
    let before = ASKED_NS.swap(now, AcqRel);
    let is_fresh = now.saturating_sub(before) < KEPT_NS;
    if is_fresh && RAISED.load(Acquire) > priority {
        return true;
    }
    // SAFETY: an integer.
    let most = unsafe { libc::sched_get_priority_max(libc::SCHED_FIFO) };
    if priority >= most || REFUSED.load(Relaxed) || !may_have(priority + 1) {
        return false;
    }
    let Some(threads) = threads() else {
        return false;
    };
    threads.with_all(|tids| {
        let wanted = (priority + 1).max(RAISED.load(Relaxed));
        // Release: pairs with the acquire above and in `for_new_thread`.
        RAISED.store(wanted, Release);
        if tids.iter().any(|&tid| !set(tid, libc::SCHED_FIFO, wanted)) {
            refuse();
        }
    });
    !is_refused()
}

/// False: it may not have it. A thread that has ended needs none.
fn set(tid: u32, policy: c_int, priority: c_int) -> bool {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: a structure of ours.
    let ret = unsafe { libc::sched_setscheduler(tid as libc::pid_t, policy, &raw const param) };
    ret == 0 || nix::errno::Errno::last() != nix::errno::Errno::EPERM
}

/// Whether the process may give its threads that priority, as far as it can be told beforehand.
fn may_have(priority: c_int) -> bool {
    const CAP_SYS_NICE: u32 = 23;
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    let mut sets = [0u32; 6];
    // SAFETY: structures of ours, which say that there is none if the call should fail.
    unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    limit(libc::RLIMIT_RTPRIO) >= priority as u64 || sets[0] & 1 << CAP_SYS_NICE != 0
}

/// The priority with which a new thread of the library's begins; None: that of its starter.
pub fn for_new_thread() -> Option<c_int> {
    match RAISED.load(Acquire) {
        0 => None,
        priority => (is_in_use() && !has_call_filter()).then_some(priority),
    }
}

/// The kernel has refused to give a thread that priority.
pub fn refuse() {
    REFUSED.store(true, Relaxed);
    RAISED.store(0, Release);
}

/// Whether it has.
pub fn is_refused() -> bool {
    REFUSED.load(Relaxed)
}

fn is_in_use() -> bool {
    monotonic_ns().saturating_sub(ASKED_NS.load(Acquire)) < KEPT_NS
}

/// Takes the priority from the library's threads if nobody has needed it for a while.
pub fn lower_if_unused() {
    if RAISED.load(Relaxed) == 0 || is_in_use() || has_call_filter() {
        return;
    }
    let Some(threads) = threads() else { return };
    threads.with_all(|tids| {
        // Once more: who has asked meanwhile waits for the lock, and then raises them again.
        if !is_in_use() && RAISED.swap(0, AcqRel) != 0 {
            tids.iter().for_each(|&tid| {
                set(tid, libc::SCHED_BATCH, 0);
            });
        }
    });
}

/// The calling thread, one of the library's, begins: it may have been started before the others got
/// their priority, and not have been there yet.
pub fn catch_up(tid: u32) {
    if let Some(priority) = for_new_thread() {
        set(tid, libc::SCHED_FIFO, priority);
    }
}
