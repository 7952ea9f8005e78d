//! The processors on which the library's threads run.
//!
//! A thread inherits the processors of its starter. If a program binds a thread to one processor and polls for events
//! there, a worker would be bound to the same processor. Each request would then wait until the poller's time slice
//! ends, or for ever if the poller has a real-time policy. So a library thread that would be bound to a single
//! processor runs on the processors with which the program started.

use super::has_call_filter;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// The processors with which the program started; not set if the kernel did not report them.
static AT_LOAD: OnceLock<libc::cpu_set_t> = OnceLock::new();

extern "C" fn look() {
    if let Some(set) = current() {
        let _ = AT_LOAD.set(set);
    }
}

/// The dynamic linker calls it.
// SAFETY: the section holds pointers to functions of this type.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// The calling thread's processors.
fn current() -> Option<libc::cpu_set_t> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel writes at most the given size to our set, which is valid as zeros.
    unsafe {
        let ret = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        (ret == 0).then(|| set.assume_init())
    }
}

fn len(set: &libc::cpu_set_t) -> u32 {
    // SAFETY: the set is initialised.
    unsafe { libc::CPU_COUNT(set).max(1) as u32 }
}

/// The processors for a library thread whose starter has `here`; None: it inherits them.
fn elsewhere(here: Option<&libc::cpu_set_t>) -> Option<&'static libc::cpu_set_t> {
    let one = here.is_some_and(|set| len(set) == 1);
    AT_LOAD.get().filter(|set| one && len(set) > 1)
}

/// How many processors a library thread has that the calling thread starts.
pub fn count() -> u32 {
    let here = current();
    elsewhere(here.as_ref()).or(here.as_ref()).map_or(1, len)
}

/// Sets the attributes so that the new thread is not bound to a single processor. It must not be done after the start,
/// because a bound thread might never run. With a system call filter nothing is set: a filter that does not know the
/// call may end the process.
///
/// # Safety
/// The attributes are initialised.
pub unsafe fn choose(attr: *mut libc::pthread_attr_t) {
    if let Some(set) = elsewhere(current().as_ref()).filter(|_| !has_call_filter()) {
        // SAFETY: the caller guarantees the attributes; the set has the given size.
        unsafe { libc::pthread_attr_setaffinity_np(attr, size_of::<libc::cpu_set_t>(), set) };
    }
}

/// Sets SCHED_BATCH for the calling thread, if the program's policy is SCHED_OTHER. Then a woken worker does not
/// preempt its waker; otherwise io_submit2() waits while each woken worker starts. With a system call filter nothing is
/// set.
pub fn let_waker_go_on() {
    if has_call_filter() {
        return;
    }
    // SAFETY: integers and our structure, for which zeros are valid (no priority).
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
        }
    }
}
