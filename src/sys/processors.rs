//! Which processors the library's threads run on, and whom they take them from.
//!
//! A thread inherits the processors of the one that starts it. A program that has bound a thread to one
//! of them, and has it look for events again and again, would find the workers bound to that very
//! processor: each request would wait until the poller's time slice is over, or for ever behind one
//! that has a real-time policy. So a thread of ours that would be bound to a single processor runs on
//! those that the program was started on.

use super::has_call_filter;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// What the program was started on; not set if the kernel did not say.
static AT_LOAD: OnceLock<libc::cpu_set_t> = OnceLock::new();

extern "C" fn look() {
    if let Some(set) = current() {
        let _ = AT_LOAD.set(set);
    }
}

/// For the dynamic linker.
// SAFETY: the section is one of pointers to such functions.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// The calling thread's.
fn current() -> Option<libc::cpu_set_t> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is ours, of the size given, and valid as zeros.
    unsafe {
        let ret = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        (ret == 0).then(|| set.assume_init())
    }
}

fn len(set: &libc::cpu_set_t) -> u32 {
    // SAFETY: a whole set.
    unsafe { libc::CPU_COUNT(set).max(1) as u32 }
}

/// Where a thread of ours that one with these processors starts is to run, if not there.
fn elsewhere(here: Option<&libc::cpu_set_t>) -> Option<&'static libc::cpu_set_t> {
    let one = here.is_some_and(|set| len(set) == 1);
    AT_LOAD.get().filter(|set| one && len(set) > 1)
}

/// How many there are for threads of ours that the calling one starts.
pub fn count() -> u32 {
    let here = current();
    elsewhere(here.as_ref()).or(here.as_ref()).map_or(1, len)
}

/// A thread that is started with these attributes is not bound to a single processor. At once: bound
/// it might never get there. Not behind a system call filter: one that does not know the call may end
/// the process.
///
/// # Safety
/// The attributes are initialised.
pub unsafe fn choose(attr: *mut libc::pthread_attr_t) {
    if let Some(set) = elsewhere(current().as_ref()).filter(|_| !has_call_filter()) {
        // SAFETY: the caller's promise, and a set of the size given.
        unsafe { libc::pthread_attr_setaffinity_np(attr, size_of::<libc::cpu_set_t>(), set) };
    }
}

/// From here on the calling thread, when it is woken, does not take the processor from its waker:
/// SCHED_BATCH, if the program's own policy is the ordinary one. Else io_submit2() waits
/// while each worker that it has woken begins. Not behind a filter, either.
#[cfg(not(loom))]
pub fn let_waker_go_on() {
    if has_call_filter() {
        return;
    }
    // SAFETY: integers, and a structure of ours for which zeros are valid: no priority.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
        }
    }
}
