//! Signals of the calling thread: blocking them, and consuming pending ones.

use super::timespec;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Runs `body` with all signals blocked, and consumes the signals that its writes raised in this thread (SIGPIPE,
/// SIGXFSZ). A thread must not receive signals for requests that it executes for others.
pub fn shielded<T>(body: impl FnOnce() -> T) -> T {
    shielded_by(&SigSet::all(), body)
}

/// The signals that a write can raise in its thread.
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
    consume_pending(&ours);
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    result
}

/// Runs `body`, and consumes the signals that its writes raised. All other signals are delivered and interrupt it, so
/// it may wait.
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

/// Blocks SIGXFSZ in the calling thread while it writes for others.
pub struct Shield {
    before: SigSet,
}

impl Shield {
    /// Needed even if no write exceeds the limit now: another thread may lower the limit and submit meanwhile.
    pub fn new() -> Shield {
        let mut ours = SigSet::empty();
        ours.add(Signal::SIGXFSZ);
        let mut before = SigSet::empty();
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before));
        Shield { before }
    }

    /// Consumes the signal that a write beyond the limit raised in this thread.
    pub fn consume(&self) {
        if !self.before.contains(Signal::SIGXFSZ) {
            let mut ours = SigSet::empty();
            ours.add(Signal::SIGXFSZ);
            consume_pending(&ours);
        }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

fn consume_pending(signals: &SigSet) {
    let none = timespec(0);
    // SAFETY: the kernel reads our set and time; it consumes a pending signal and does not wait.
    while unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, signals.as_ref(), 0, &none, 8) } > 0 {}
}

/// Whether the calling thread is in a signal handler on an alternate stack.
pub fn is_on_alternate_stack() -> bool {
    let mut now = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: the kernel writes to our structure, which is valid as zeros if the call fails.
    let now = unsafe {
        libc::sigaltstack(ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.ss_flags & libc::SS_ONSTACK != 0
}

/// Blocks all signals but this one (0: none) in the calling thread.
pub fn block_all_but(signal: libc::c_int) {
    // SAFETY: our set; libc rejects a number that is not a signal.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::sigdelset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// A bit for each signal that a program's thread was seen to block; it probably waits for it. Relaxed: a hint.
static BLOCKED: AtomicU64 = AtomicU64::new(0);

pub fn signal_bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// Notes that a program's thread blocks these signals.
pub fn note_blocked(set: &libc::sigset_t) {
    let real_time = || libc::SIGRTMIN()..=libc::SIGRTMAX();
    // SAFETY: an initialised set and valid signal numbers.
    let is_blocked = |&signal: &libc::c_int| unsafe { libc::sigismember(set, signal) == 1 };
    // A thread that blocks all signals waits for none of them.
    if !real_time().all(|signal| is_blocked(&signal)) {
        let blocked = real_time().filter(is_blocked).map(signal_bit).sum();
        BLOCKED.fetch_or(blocked, Relaxed);
    }
}

/// The bits of all signals that program's threads were seen to block.
pub fn seen_blocked() -> u64 {
    BLOCKED.load(Relaxed)
}
