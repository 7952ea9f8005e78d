//! Signals of the calling thread: kept away, and taken back.

use super::timespec;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
#[cfg(not(loom))]
use std::mem::MaybeUninit;
#[cfg(not(loom))]
use std::ptr;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::Ordering::Relaxed;

/// Runs `body` with all signals blocked, and takes back those that it has brought upon this thread
/// by writing (to a pipe that nobody reads, beyond a limit): what a thread does for others must not
/// harm it.
pub fn shielded<T>(body: impl FnOnce() -> T) -> T {
    shielded_by(&SigSet::all(), body)
}

/// What a write can bring upon its thread.
const OWN: [Signal; 2] = [Signal::SIGPIPE, Signal::SIGXFSZ];

fn shielded_by<T>(blocked: &SigSet, body: impl FnOnce() -> T) -> T {
    let mut before = SigSet::empty();
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(blocked), Some(&mut before));
    let pending = pending_signals();
    let result = body();
    let mut ours = SigSet::empty();
    for signal in OWN {
        if !pending.contains(signal) {
            ours.add(signal);
        }
    }
    take_pending(&ours);
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    result
}

/// Runs `body` such that the signals which it brings upon this thread by writing do not come: those are taken
/// back. All others do, and interrupt it: it may wait.
#[cfg(not(loom))]
pub fn unharmed<T>(body: impl FnOnce() -> T) -> T {
    shielded_by(&SigSet::from_iter(OWN), body)
}

fn pending_signals() -> SigSet {
    let mut set = SigSet::empty();
    // SAFETY: the kernel writes 8 bytes of the set; the rest is empty.
    unsafe {
        let mut raw = *set.as_ref();
        if libc::syscall(libc::SYS_rt_sigpending, &raw mut raw, 8) == 0 {
            set = SigSet::from_sigset_t_unchecked(raw);
        }
    }
    set
}

/// Keeps SIGXFSZ from the calling thread while it writes in place of others.
pub struct Shield {
    before: SigSet,
}

impl Shield {
    /// Also where no file can be too large: another thread may lower the limit, and submit, while this one writes.
    pub fn new() -> Shield {
        let mut ours = SigSet::empty();
        ours.add(Signal::SIGXFSZ);
        let mut before = SigSet::empty();
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before));
        Shield { before }
    }

    /// Takes back the signal that a write which was too large has brought upon this thread.
    pub fn take_back(&self) {
        if !self.before.contains(Signal::SIGXFSZ) {
            let mut ours = SigSet::empty();
            ours.add(Signal::SIGXFSZ);
            take_pending(&ours);
        }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

fn take_pending(signals: &SigSet) {
    let none = timespec(0);
    // SAFETY: a set and a time of ours; it takes what is pending and does not wait.
    while unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, signals.as_ref(), 0, &none, 8) } > 0 {}
}

/// Whether this is a signal handler on a stack of its own.
#[cfg(not(loom))]
pub fn is_on_alternate_stack() -> bool {
    let mut now = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: a structure of ours, valid as zeros if the call should fail.
    let now = unsafe {
        libc::sigaltstack(ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.ss_flags & libc::SS_ONSTACK != 0
}

/// Blocks all signals but this one (0: none) in the calling thread.
#[cfg(not(loom))]
pub fn block_all_but(signal: libc::c_int) {
    // SAFETY: a set of ours; a number that is no signal's is refused.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::sigdelset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// A bit for each signal that a thread of the program's has been seen to block: probably it waits for it.
/// Relaxed: a hint.
#[cfg(not(loom))]
static BLOCKED: AtomicU64 = AtomicU64::new(0);

#[cfg(not(loom))]
pub fn signal_bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// A thread of the program's has these blocked.
#[cfg(not(loom))]
pub fn note_blocked(set: &libc::sigset_t) {
    let real_time = || libc::SIGRTMIN()..=libc::SIGRTMAX();
    // SAFETY: a set; signals.
    let is_blocked = |&signal: &libc::c_int| unsafe { libc::sigismember(set, signal) == 1 };
    // One that blocks all waits for none of them.
    if !real_time().all(|signal| is_blocked(&signal)) {
        let blocked = real_time().filter(is_blocked).map(signal_bit).sum();
        BLOCKED.fetch_or(blocked, Relaxed);
    }
}

/// The bits of those that threads of the program's have been seen to block.
#[cfg(not(loom))]
pub fn seen_blocked() -> u64 {
    BLOCKED.load(Relaxed)
}
