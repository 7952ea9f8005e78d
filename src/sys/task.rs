//! What the kernel and libc know of the calling thread and its process.

use nix::errno::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// What `read` finds in a variable of the environment, if it is there and not empty. None in a program that has more
/// rights than its user (set-user-ID, file capabilities): there the environment is somebody else's.
pub fn variable<T>(name: &CStr, read: impl FnOnce(&CStr) -> T) -> Option<T> {
    // SAFETY: a C string; what comes back is one, too, or null, and is not kept.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null() && *value != 0).then(|| read(CStr::from_ptr(value)))
    }
}

/// In which system call a thread of this process sleeps; None: in none, or nobody tells.
#[cfg(not(loom))]
pub fn call_under_way(tid: u32) -> Option<u32> {
    use std::io::{Read, Write};
    let mut path = [0; 48];
    let end = path.len();
    let _ = write!(&mut path[..end], "/proc/self/task/{tid}/syscall");
    let path = std::str::from_utf8(&path).ok()?.trim_end_matches('\0');
    let mut text = [0; 24];
    let read = std::fs::File::open(path).ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?;
    // "running", or the number and what it was called with.
    text.split(' ').next()?.parse().ok()
}

unsafe extern "C" {
    // libc has these, the crate does not.
    fn secure_getenv(name: *const libc::c_char) -> *mut libc::c_char;
    safe fn pthread_setcancelstate(
        state: libc::c_int,
        before: Option<&mut libc::c_int>,
    ) -> libc::c_int;
}

/// Keeps the calling thread from being cancelled in calls of ours that are not worth a version of
/// their own.
pub struct NoCancel(libc::c_int);

impl NoCancel {
    pub fn new() -> Self {
        const DISABLE: libc::c_int = 1;
        let mut before = 0;
        pthread_setcancelstate(DISABLE, Some(&mut before));
        NoCancel(before)
    }
}

impl Drop for NoCancel {
    fn drop(&mut self) {
        let mut ours = 0;
        pthread_setcancelstate(self.0, Some(&mut ours));
    }
}

/// What the process has to keep to: one of RLIMIT_*.
pub fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: a structure of ours, valid as zeros if the call should fail.
    unsafe {
        libc::getrlimit(resource, limit.as_mut_ptr());
        limit.assume_init().rlim_cur
    }
}

/// Keeps errno as it was: the library's calls leave it alone.
pub struct ErrnoGuard(i32);

impl ErrnoGuard {
    pub fn new() -> Self {
        ErrnoGuard(Errno::last_raw())
    }
}

impl Drop for ErrnoGuard {
    fn drop(&mut self) {
        Errno::set_raw(self.0);
    }
}

/// Voluntary context switches of this thread so far: how often it gave up the processor to wait.
pub fn voluntary_switches() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the structure is ours; zeroed is a valid value, if the call should fail.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nvcsw
    }
}

/// The calling thread's number, by a system call.
pub fn gettid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether system calls of this thread go through a filter (seccomp(2)), as far as can be found out.
/// Asked by a call that a thread has made anyway to get its name; not of /proc, because a descriptor
/// that comes and goes would be in the way of a program that counts on the lowest one.
pub fn has_call_filter() -> bool {
    // SAFETY: integers.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}
