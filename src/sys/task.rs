//! Facts that the kernel and libc report about the calling thread and its process.

use libc::c_char;
use nix::errno::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Reads an environment variable that is set and not empty. None in a program with more rights than its user
/// (set-user-ID, file capabilities), because that user controls the environment.
pub fn variable<T>(name: &CStr, read: impl FnOnce(&CStr) -> T) -> Option<T> {
    // SAFETY: the name is a C string. The result is null or a C string, and is not kept.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null() && *value != 0).then(|| read(CStr::from_ptr(value)))
    }
}

/// The system call in which a thread of this process sleeps; None: in none, or unknown.
pub fn call_under_way(tid: u32) -> Option<u32> {
    use std::io::{Read, Write};
    let mut path = [0; 48];
    let end = path.len();
    let _ = write!(&mut path[..end], "/proc/self/task/{tid}/syscall");
    let path = std::str::from_utf8(&path).ok()?.trim_end_matches('\0');
    let mut text = [0; 24];
    let read = std::fs::File::open(path).ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?;
    // The file says "running", or the number of the call and its arguments.
    text.split(' ').next()?.parse().ok()
}

unsafe extern "C" {
    // In libc, but not declared by the crate.
    fn secure_getenv(name: *const libc::c_char) -> *mut libc::c_char;
    safe fn pthread_setcanceltype(
        kind: libc::c_int,
        before: Option<&mut libc::c_int>,
    ) -> libc::c_int;
    safe fn pthread_setcancelstate(
        state: libc::c_int,
        before: Option<&mut libc::c_int>,
    ) -> libc::c_int;
}

/// Disables cancellation of the calling thread, for libc calls that are cancellation points.
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

/// While this exists, a cancellation of the calling thread that could come at any moment (PTHREAD_CANCEL_ASYNCHRONOUS) waits. If there is
/// one, the thread ends when this is dropped.
pub struct CancelLater {
    pub is_asynchronous: bool,
}

const DEFERRED: libc::c_int = 0;
const ASYNCHRONOUS: libc::c_int = 1;

impl CancelLater {
    pub fn new() -> Self {
        let mut before = DEFERRED;
        pthread_setcanceltype(DEFERRED, Some(&mut before));
        CancelLater {
            is_asynchronous: before == ASYNCHRONOUS,
        }
    }
}

impl Drop for CancelLater {
    fn drop(&mut self) {
        if self.is_asynchronous {
            pthread_setcanceltype(ASYNCHRONOUS, None);
        }
    }
}

/// A resource limit of the process (RLIMIT_*).
pub fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: the kernel writes to our structure, which is valid as zeros if the call fails.
    unsafe {
        libc::getrlimit(resource, limit.as_mut_ptr());
        limit.assume_init().rlim_cur
    }
}

/// Restores errno: the library's functions do not change it.
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

/// Voluntary context switches of this thread so far: how often it gave up the processor in order to wait.
pub fn voluntary_switches() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes to our structure, which is valid as zeros if the call fails.
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

/// Whether a filter (seccomp(2)) checks this thread's system calls, as far as can be known. Uses prctl(2), which a
/// thread has already called to set its name. Does not read /proc: a temporary descriptor would disturb a program that
/// expects the lowest free one.
pub fn has_call_filter() -> bool {
    // SAFETY: integer arguments only.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) != 0 }
}

/// The first two numbers of the kernel's version.
pub fn kernel_version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let mut name = MaybeUninit::<libc::utsname>::zeroed();
        // SAFETY: the kernel writes to our structure, whose strings are empty if the call fails.
        let name = unsafe {
            libc::uname(name.as_mut_ptr());
            name.assume_init()
        };
        let is_other = |byte: &c_char| !(*byte as u8).is_ascii_digit();
        let mut numbers = name.release.split(is_other).map(|digits| {
            digits.iter().fold(0, |sum: u32, &digit| {
                sum.wrapping_mul(10)
                    .wrapping_add(digit as u32 - u32::from(b'0'))
            })
        });
        let mut next = || numbers.next().unwrap_or(0);
        (next(), next())
    })
}
