//! Interrupting a system call that another thread is in.
//!
//! A signal does it: its handler does nothing, and the system call returns -EINTR because there was
//! one. What remains is the moment before: a signal that comes when the thread has decided to make
//! the call and has not made it yet would be lost. So the call is made by a few instructions of our
//! own, that look at a flag first; and the handler, should it find the thread between these and the
//! instruction that enters the kernel, has it go on behind, with -ECANCELED. Whoever interrupts sets
//! the flag and sends the signal: either the flag is seen, or the handler comes before the call, or
//! the kernel finds the signal in the call. (musl cancels threads like this.)
//!
//! The signal is a real-time one that the program does not use, chosen when it is first needed: the
//! highest whose action is the default. The workers that need it have it unblocked, and all other
//! threads of the library have it blocked, as every signal. Should the program set an action of its
//! own for it later, another is chosen for the calls that begin from then on; those that have begun
//! before cannot be interrupted any more.

use crate::request::Call;
use crate::sys::{Result, block_all_but};
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use nix::errno::Errno;
use std::arch::global_asm;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

// long aio2_interruptible_call(const uint32_t *flag, long nr, const uint64_t args[6]): -ECANCELED
// if the flag is set, or the handler has seen to it.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .text.aio2_interruptible_call, \"ax\", @progbits",
    ".balign 16",
    ".hidden aio2_interruptible_call",
    ".hidden aio2_interruptible_begin",
    ".hidden aio2_interruptible_end",
    ".hidden aio2_interruptible_cancel",
    ".globl aio2_interruptible_call",
    ".globl aio2_interruptible_begin",
    ".globl aio2_interruptible_end",
    ".globl aio2_interruptible_cancel",
    ".type aio2_interruptible_call, @function",
    "aio2_interruptible_call:",
    ".cfi_startproc",
    "mov rcx, rdi",
    "mov rax, rsi",
    "mov r11, rdx",
    "mov rdi, [r11]",
    "mov rsi, [r11 + 8]",
    "mov rdx, [r11 + 16]",
    "mov r10, [r11 + 24]",
    "mov r8, [r11 + 32]",
    "mov r9, [r11 + 40]",
    "aio2_interruptible_begin:",
    "cmp dword ptr [rcx], 0",
    "jne aio2_interruptible_cancel",
    "syscall",
    "aio2_interruptible_end:",
    "ret",
    "aio2_interruptible_cancel:",
    "mov rax, -125",
    "ret",
    ".cfi_endproc",
    ".size aio2_interruptible_call, . - aio2_interruptible_call",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .text.aio2_interruptible_call, \"ax\", @progbits",
    ".balign 16",
    ".hidden aio2_interruptible_call",
    ".hidden aio2_interruptible_begin",
    ".hidden aio2_interruptible_end",
    ".hidden aio2_interruptible_cancel",
    ".globl aio2_interruptible_call",
    ".globl aio2_interruptible_begin",
    ".globl aio2_interruptible_end",
    ".globl aio2_interruptible_cancel",
    ".type aio2_interruptible_call, @function",
    "aio2_interruptible_call:",
    ".cfi_startproc",
    "mov x9, x0",
    "mov x8, x1",
    "mov x10, x2",
    "ldp x0, x1, [x10]",
    "ldp x2, x3, [x10, #16]",
    "ldp x4, x5, [x10, #32]",
    "aio2_interruptible_begin:",
    "ldr w11, [x9]",
    "cbnz w11, aio2_interruptible_cancel",
    "svc #0",
    "aio2_interruptible_end:",
    "ret",
    "aio2_interruptible_cancel:",
    "mov x0, #-125",
    "ret",
    ".cfi_endproc",
    ".size aio2_interruptible_call, . - aio2_interruptible_call",
    ".popsection",
);

const _: () = assert!(libc::ECANCELED == 125);

unsafe extern "C" {
    fn aio2_interruptible_call(flag: *const u32, nr: i64, args: *const [u64; 6]) -> i64;
    static aio2_interruptible_begin: u8;
    static aio2_interruptible_end: u8;
    static aio2_interruptible_cancel: u8;
}

/// Makes the system call in a thread that need not be one whose calls can be interrupted.
pub fn raw_call(call: &Call) -> i64 {
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    system_call(call, &GO_ON)
}

/// Makes the system call, unless `flag` is set; returns what the kernel does: a result, or a negative
/// errno.
pub fn system_call(call: &Call, flag: &AtomicU32) -> i64 {
    // SAFETY: as of `exec::system_call`: what is carried is the program's own business. The flag and
    // the arguments live until the call returns.
    unsafe { aio2_interruptible_call(flag.as_ptr(), i64::from(call.nr), &call.args) }
}

extern "C" fn handler(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives the handler the context that it interrupted. In it, only the place
    // where it goes on is changed, and only from one of our instructions to another.
    unsafe {
        let mcontext = &raw mut (*context.cast::<ucontext_t>()).uc_mcontext;
        #[cfg(target_arch = "x86_64")]
        let at = &raw mut (*mcontext).gregs[libc::REG_RIP as usize];
        #[cfg(target_arch = "aarch64")]
        let at = &raw mut (*mcontext).pc;
        let begin = &raw const aio2_interruptible_begin as usize;
        let end = &raw const aio2_interruptible_end as usize;
        if (begin..end).contains(&(*at as usize)) {
            *at = &raw const aio2_interruptible_cancel as usize as _;
        }
    }
}

/// The signal that is used; 0 if there is none yet. A forked child inherits it, and the action.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The action of a signal, as far as it matters: the address of its handler.
fn action(signal: c_int) -> Option<usize> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: looks at the action, into a structure of ours.
    unsafe {
        match libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) {
            0 => Some(now.assume_init().sa_sigaction),
            _ => None,
        }
    }
}

fn is_ours(signal: c_int) -> bool {
    signal > 0 && action(signal) == Some(handler as *const () as usize)
}

/// Chooses a signal, unless there is one that is still ours. Two threads that do so at once may
/// choose the same one, which does no harm.
fn choose() -> Option<c_int> {
    let now = SIGNAL.load(Acquire);
    if is_ours(now) {
        return Some(now);
    }
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        if action(signal) != Some(libc::SIG_DFL) {
            continue;
        }
        // SAFETY: zeros are a valid action; without SA_RESTART: the call shall return.
        let ret = unsafe {
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = handler as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(signal, &new, std::ptr::null_mut())
        };
        if ret == 0 {
            SIGNAL.store(signal, Release);
            return Some(signal);
        }
    }
    None
}

/// There is no signal to be had.
pub const NONE: c_int = -1;

/// Makes sure that the calling thread, a worker that had `before`, can be interrupted by the signal
/// that comes back.
pub fn prepare(before: c_int) -> c_int {
    let signal = choose().unwrap_or(NONE);
    if signal != before {
        block_all_but(signal);
    }
    signal
}

/// Interrupts the thread, which was prepared for that signal.
pub fn send(tid: u32, signal: c_int) -> Result<()> {
    if !is_ours(signal) {
        return Err(Errno::EALREADY);
    }
    // SAFETY: integers.
    let ret = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
    Errno::result(ret).map(drop)
}

/// Takes a signal that was sent to the calling thread before now: one that is pending is delivered,
/// at the latest, when the thread comes back from the kernel.
pub fn take_pending() {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getppid) };
}
