//! Real-time policies. If a program's thread with a real-time policy polls for events without sleeping, no library
//! thread of lower priority runs on its processor, so its requests may never complete. Therefore, when such a thread
//! submits, the library's threads get a higher priority. If they are not allowed to, the thread executes its requests
//! itself.
//!
//! Nothing reports a change of policy, and asking the kernel costs a system call. The library asks where it makes a
//! system call anyway: when a submit wakes a worker, when a thread is started, and when a caller has polled without
//! success for a while. It also asks at each submit of a thread that had a real-time policy the last time.

use super::host::threads;
use super::thread;
use super::{has_call_filter, kernel_version, limit, monotonic_ns};
use libc::c_int;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};

/// The priority of the library's threads; 0: not raised. Changed under the lock of [`crate::sys::thread::Threads`].
static RAISED: AtomicI32 = AtomicI32::new(0);
/// When a thread with a real-time policy last needed it.
static ASKED_NS: AtomicU64 = AtomicU64::new(0);
/// If nobody needs the priority for this time, the library's threads give it up.
const KEPT_NS: u64 = 3_000_000_000;
/// The kernel has refused the priority. Relaxed: a hint.
static REFUSED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The calling thread had a real-time policy at the last check.
    static URGENT: Cell<bool> = const { Cell::new(false) };
}

/// The priority of a program's thread relative to the library's threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// No real-time policy: the kernel schedules all of them fairly.
    Equal,
    /// It has a real-time policy, and the library's threads have a higher priority.
    Behind,
    /// It has a real-time policy, and the library's threads do not: they may not run while it runs.
    Before,
}

/// Whether the calling thread surely has no real-time policy. Since Linux 6.12 the kernel reports a timer slack of 0
/// exactly for threads with such a policy. One prctl(2): a filter that allows the call of [`has_call_filter`] knows the
/// number.
fn is_ordinary() -> bool {
    // SAFETY: integer arguments only.
    kernel_version() >= (6, 12) && unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) > 0 }
}

/// Checks the calling thread's policy. Makes system calls.
pub fn look() -> Standing {
    if thread::is_ours() {
        return Standing::Equal;
    }
    // A filter may not know the calls below.
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

/// Whether the calling thread's policy must be checked at each submit.
pub fn is_urgent() -> bool {
    URGENT.get()
}

/// The calling thread's real-time priority; None: another policy. SCHED_DEADLINE has no number and precedes all.
fn priority_now() -> Option<c_int> {
    // SAFETY: integers and our structure, which is valid as zeros if the call fails.
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

/// Raises the library's threads above this priority. False: they are not allowed to have it.
fn raise_above(priority: c_int) -> bool {
    let now = monotonic_ns();
    // AcqRel: either `lower_if_unused` sees this store, or this thread sees the change by `lower_if_unused`.
    let before = ASKED_NS.swap(now, AcqRel);
    let is_fresh = now.saturating_sub(before) < KEPT_NS;
    if is_fresh && RAISED.load(Acquire) > priority {
        return true;
    }
    // SAFETY: integer argument only.
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

/// False: the kernel does not permit it. For a thread that has ended the result is true.
fn set(tid: u32, policy: c_int, priority: c_int) -> bool {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the kernel reads our structure.
    let ret = unsafe { libc::sched_setscheduler(tid as libc::pid_t, policy, &raw const param) };
    ret == 0 || nix::errno::Errno::last() != nix::errno::Errno::EPERM
}

/// Whether the process probably has the right to set this priority.
fn may_have(priority: c_int) -> bool {
    const CAP_SYS_NICE: u32 = 23;
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    let mut sets = [0u32; 6];
    // SAFETY: the kernel accesses our structures; if the call fails, they say that there are no capabilities.
    unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    limit(libc::RLIMIT_RTPRIO) >= priority as u64 || sets[0] & 1 << CAP_SYS_NICE != 0
}

/// The priority for a new library thread; None: it inherits its starter's.
pub fn for_new_thread() -> Option<c_int> {
    match RAISED.load(Acquire) {
        0 => None,
        priority => (is_in_use() && !has_call_filter()).then_some(priority),
    }
}

/// The kernel has refused the priority.
pub fn refuse() {
    REFUSED.store(true, Relaxed);
    RAISED.store(0, Release);
}

/// Whether the kernel has refused the priority.
pub fn is_refused() -> bool {
    REFUSED.load(Relaxed)
}

fn is_in_use() -> bool {
    monotonic_ns().saturating_sub(ASKED_NS.load(Acquire)) < KEPT_NS
}

/// Lowers the library's threads if nobody has needed the priority for a while.
pub fn lower_if_unused() {
    if RAISED.load(Relaxed) == 0 || is_in_use() || has_call_filter() {
        return;
    }
    let Some(threads) = threads() else { return };
    threads.with_all(|tids| {
        // Checked again under the lock: a thread that asked meanwhile waits for the lock, and then raises them again.
        if !is_in_use() && RAISED.swap(0, AcqRel) != 0 {
            tids.iter().for_each(|&tid| {
                set(tid, libc::SCHED_BATCH, 0);
            });
        }
    });
}

/// The calling library thread begins. If the priority was raised after it was started and before it was known, it
/// raises itself now.
pub fn catch_up(tid: u32) {
    if let Some(priority) = for_new_thread() {
        set(tid, libc::SCHED_FIFO, priority);
    }
}
