//! A stack for code that a signal handler calls, whose own stack may be too small.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::mem::MaybeUninit;
use std::ptr;

/// As large as the stack of a library thread.
const BYTES: usize = 128 << 10;

/// At the lower end of the stack.
struct Run {
    main: fn(usize),
    given: usize,
    /// The caller's signal mask.
    mask: SigSet,
    caller: MaybeUninit<libc::ucontext_t>,
    callee: MaybeUninit<libc::ucontext_t>,
}

fn set_mask(mask: &SigSet) {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
}

/// Calls `main` with `given` in this thread, on a new stack. False: there is no memory for it.
pub fn on_new_stack(main: fn(usize), given: usize) -> bool {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
    );
    // SAFETY: a mapping of its own.
    let stack = unsafe { libc::mmap(ptr::null_mut(), BYTES, prot, flags, -1, 0) };
    if stack == libc::MAP_FAILED {
        return false;
    }
    let mut mask = SigSet::empty();
    // No handler may run between the change of the stack and `disable_alternate_stack`.
    let _ = pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut mask),
    );
    let run: *mut Run = stack.cast();
    // SAFETY: `Run` is at the lower end of our mapping, and the rest of it is the stack. `enter` takes two numbers, and returns to
    // `caller`, before the mapping is given back.
    unsafe {
        run.write(Run {
            main,
            given,
            mask,
            caller: MaybeUninit::zeroed(),
            callee: MaybeUninit::zeroed(),
        });
        let caller = (&raw mut (*run).caller).cast::<libc::ucontext_t>();
        let callee = (&raw mut (*run).callee).cast::<libc::ucontext_t>();
        let is_there = libc::getcontext(callee) == 0;
        if is_there {
            (*callee).uc_stack.ss_sp = run.add(1).cast();
            (*callee).uc_stack.ss_size = BYTES - size_of::<Run>();
            (*callee).uc_link = caller;
            let enter: extern "C" fn(u32, u32) = enter;
            let enter = std::mem::transmute::<extern "C" fn(u32, u32), extern "C" fn()>(enter);
            let at = run.addr() as u64;
            libc::makecontext(callee, enter, 2, (at >> 32) as u32, at as u32);
            libc::swapcontext(caller, callee);
        }
        libc::munmap(stack, BYTES);
        set_mask(&mask);
        is_there
    }
}

extern "C" fn enter(high: u32, low: u32) {
    let run = (u64::from(high) << 32 | u64::from(low)) as *const Run;
    // SAFETY: the caller's, which waits.
    let (main, given, mask) = unsafe { ((*run).main, (*run).given, (*run).mask) };
    let before = disable_alternate_stack();
    set_mask(&mask);
    main(given);
    set_mask(&SigSet::all());
    // SAFETY: the structure is ours.
    unsafe { libc::sigaltstack(&before, ptr::null_mut()) };
}

/// From here on signal handlers run on the stack that is in use. Otherwise the kernel would start them at the beginning of the alternate
/// stack, which it does not know to be in use, and the handler's caller would be overwritten.
fn disable_alternate_stack() -> libc::stack_t {
    let none = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    let mut before = none;
    // SAFETY: both structures are ours.
    unsafe { libc::sigaltstack(&none, &mut before) };
    before
}
