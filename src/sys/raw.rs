//! System calls by our own instructions. They bypass libc, and can be cancelled between the check of a flag and the
//! entry to the kernel.

use std::arch::global_asm;
use std::sync::atomic::AtomicU32;

// long aio2_interruptible_call(const uint32_t *flag, long nr, const uint64_t args[6]): NOT_MADE if the flag is set, or
// the signal handler has cancelled the call.
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
    "mov rax, -4096",
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
    "mov x0, #-4096",
    "ret",
    ".cfi_endproc",
    ".size aio2_interruptible_call, . - aio2_interruptible_call",
    ".popsection",
);

/// The call was not made. No system call returns this value.
pub const NOT_MADE: i64 = -4096;

unsafe extern "C" {
    fn aio2_interruptible_call(flag: *const u32, nr: i64, args: *const [u64; 6]) -> i64;
    pub static aio2_interruptible_begin: u8;
    pub static aio2_interruptible_end: u8;
    pub static aio2_interruptible_cancel: u8;
}

/// Makes the system call in any thread. The caller handles interruptions.
///
/// # Safety
/// As for the call itself.
pub unsafe fn raw_call(nr: u32, args: &[u64; 6]) -> i64 {
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    // SAFETY: the caller guarantees it.
    unsafe { call_unless(&GO_ON, nr, args) }
}

/// Makes the system call unless the flag is set: then the result is [`NOT_MADE`].
///
/// # Safety
/// As for the call itself.
pub unsafe fn call_unless(flag: &AtomicU32, nr: u32, args: &[u64; 6]) -> i64 {
    // SAFETY: the caller guarantees the call. The flag and the arguments live until it returns.
    unsafe { aio2_interruptible_call(flag.as_ptr(), i64::from(nr), args) }
}
