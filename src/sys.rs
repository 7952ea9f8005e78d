//! Small system interfaces that have no good safe wrapper elsewhere: clock, futex, threads, errno.

use crate::sync::AtomicU32;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::ftruncate;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

#[cfg(not(loom))]
pub use crate::thread::spawn_detached;

pub type Result<T> = core::result::Result<T, Errno>;

/// CLOCK_MONOTONIC in nanoseconds.
#[cfg(not(loom))]
pub fn monotonic_ns() -> u64 {
    // Cannot fail: the clock exists on every kernel.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    })
}

pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Woken, or for no reason at all: look again.
    Woken,
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// The end of time: a futex wait with a limit, however far, ends when a signal handler has run,
/// while one without is restarted by the kernel if the handler was set with SA_RESTART.
pub const NEVER: u64 = i64::MAX as u64;

#[cfg(loom)]
pub use model::{futex_wait, futex_wake, monotonic_ns};

/// What a loom model cannot do for real. Time stands still.
#[cfg(loom)]
mod model {
    use super::{NEVER, Waited};
    use crate::sync::{Acquire, AtomicU32};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        /// One queue for all words: a sleeper may be woken for another's sake, as with the real
        /// one.
        static ref SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub fn monotonic_ns() -> u64 {
        0
    }

    pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: u64) -> Waited {
        let sleepers = SLEEPERS.0.lock().unwrap();
        if word.load(Acquire) != expected {
            return Waited::Woken;
        }
        if deadline != NEVER {
            drop(sleepers);
            loom::thread::yield_now();
            return Waited::TimedOut;
        }
        let _sleepers = SLEEPERS.1.wait(sleepers).unwrap();
        Waited::Woken
    }

    pub fn futex_wake(_word: *const AtomicU32, _count: i32) {
        let _sleepers = SLEEPERS.0.lock().unwrap();
        SLEEPERS.1.notify_all();
    }
}

/// Sleeps while `*word` is `expected`, until CLOCK_MONOTONIC is `deadline` at the latest.
#[cfg(not(loom))]
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: u64) -> Waited {
    let limit = timespec(deadline);
    // SAFETY: the word lives as long as the borrow, the limit until the call returns.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            &limit,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    match ret {
        0 => Waited::Woken,
        _ => match Errno::last() {
            Errno::ETIMEDOUT => Waited::TimedOut,
            Errno::EINTR => Waited::Interrupted,
            _ => Waited::Woken,
        },
    }
}

/// Wakes up to `count` sleepers on the word at this address. The word may be gone by now: the
/// kernel then finds nobody there, or a stranger, who has to bear with being woken for no reason.
#[cfg(not(loom))]
pub fn futex_wake(word: *const AtomicU32, count: i32) {
    // SAFETY: the kernel does not follow the pointer for a private futex's wake.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            count,
        );
    }
}

// libc's own versions of the next calls are cancellation points: a thread that is cancelled must
// not vanish in the middle of ours.

/// Whether one of `events` can be had from the descriptor without waiting.
pub fn poll_now(fd: RawFd, events: libc::c_short) -> bool {
    loop {
        match poll(fd, events, Some(0), None) {
            // A signal makes it say so though it does not wait.
            -1 if Errno::last() == Errno::EINTR => {}
            count => return count != 0,
        }
    }
}

/// Which of `events` can be had from the descriptor without waiting, and what is wrong with it.
#[cfg(not(loom))]
pub fn ready_now(fd: RawFd, events: libc::c_short) -> u16 {
    let mut poller = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    loop {
        match ppoll(&mut poller, Some(0), None) {
            1 => return poller.revents as u16,
            -1 if Errno::last() == Errno::EINTR => {}
            _ => return 0,
        }
    }
}

/// ppoll(2) of one descriptor (-1: none) for so many nanoseconds, with the signal mask given.
pub fn poll(
    fd: RawFd,
    events: libc::c_short,
    ns: Option<u64>,
    mask: Option<&SigSet>,
) -> libc::c_long {
    let mut poller = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    ppoll(&mut poller, ns, mask)
}

fn ppoll(poller: &mut libc::pollfd, ns: Option<u64>, mask: Option<&SigSet>) -> libc::c_long {
    let mut limit = timespec(ns.unwrap_or(0));
    let limit = if ns.is_some() {
        &raw mut limit
    } else {
        ptr::null_mut()
    };
    let mask = mask.map_or(ptr::null(), |mask| ptr::from_ref(mask.as_ref()));
    // SAFETY: one pollfd, a time and a mask of the kernel's 8 bytes, all of ours.
    unsafe { libc::syscall(libc::SYS_ppoll, ptr::from_mut(poller), 1, limit, mask, 8) }
}

/// A variable of the environment, if it is there and not empty. None in a program that has more rights than its
/// user (set-user-ID, file capabilities): there the environment is somebody else's.
pub fn variable(name: &CStr) -> Option<CString> {
    // SAFETY: a C string; what comes back is one, too, or null, and is copied.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null() && *value != 0).then(|| CStr::from_ptr(value).to_owned())
    }
}

/// The path of /proc at which a descriptor's file can be found, as a C string: by the calling thread, as
/// the process's first one, of which /proc/self tells, may have ended.
#[cfg(not(loom))]
pub fn fd_path(fd: RawFd) -> [u8; 32] {
    use std::io::Write;
    let mut path = [0; 32];
    // At least by one shorter than its room: a 0 stays behind it.
    let _ = write!(&mut path[..], "/proc/thread-self/fd/{fd}");
    path
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

/// Adds 1 to an eventfd.
pub fn write_eventfd(fd: RawFd) {
    add_to_eventfd(fd, 1);
}

/// Adds to an eventfd. False if it is full.
pub fn add_to_eventfd(fd: RawFd, count: u64) -> bool {
    // SAFETY: eight bytes of ours.
    unsafe { libc::syscall(libc::SYS_write, fd, &raw const count, 8) == 8 }
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

/// Gives a new file its size. One that RLIMIT_FSIZE does not allow is an error, and no signal.
pub fn set_file_size(file: &OwnedFd, bytes: usize) -> Result<()> {
    if limit(libc::RLIMIT_FSIZE) < bytes as u64 {
        return Err(Errno::EFBIG);
    }
    // Another thread may lower the limit now.
    let shield = Shield::new();
    let result = ftruncate(file, bytes as libc::off_t);
    if result == Err(Errno::EFBIG) {
        shield.take_back();
    }
    result
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

/// The type (S_IFMT of the mode) of a descriptor's file; 0 if there is none.
pub fn file_type(fd: RawFd) -> u32 {
    what_is(fd).format
}

/// What a descriptor names.
#[derive(Default)]
pub struct Named {
    /// The file type (S_IFMT); 0: it names nothing.
    pub format: u32,
    /// The block device that it is or is on.
    pub device: u64,
    pub bytes: u64,
}

pub fn what_is(fd: RawFd) -> Named {
    let Ok(file) = look_at(fd, c"".as_ptr() as u64, libc::AT_EMPTY_PATH) else {
        return Named::default();
    };
    let format = file.mode & libc::S_IFMT;
    Named {
        format,
        device: if format == libc::S_IFBLK {
            file.is
        } else {
            file.is_on
        },
        bytes: file.bytes,
    }
}

/// Whether a descriptor is open with this flag.
pub fn has_flag(fd: RawFd, flag: libc::c_int) -> bool {
    // SAFETY: integers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags != -1 && flags & flag != 0
}

/// The type and mode of a file. `path` is an address that the kernel checks.
pub fn file_mode(at: RawFd, path: u64, flags: libc::c_int) -> Result<u32> {
    look_at(at, path, flags).map(|file| file.mode)
}

struct Looks {
    mode: u32,
    /// Devices.
    is: u64,
    is_on: u64,
    bytes: u64,
}

fn look_at(at: RawFd, path: u64, flags: libc::c_int) -> Result<Looks> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let (with, what) = (
        flags | libc::AT_STATX_DONT_SYNC,
        libc::STATX_TYPE | libc::STATX_SIZE,
    );
    // SAFETY: buffers of ours, which are valid as zeros if the calls should fail; the path is the
    // program's, and the kernel's to check.
    unsafe {
        match libc::syscall(libc::SYS_statx, at, path, with, what, stat.as_mut_ptr()) {
            0 => {
                let stat = stat.assume_init();
                Ok(Looks {
                    mode: stat.stx_mode.into(),
                    is: libc::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
                    is_on: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                    bytes: stat.stx_size,
                })
            }
            _ if Errno::last() != Errno::ENOSYS && Errno::last() != Errno::EPERM => {
                Err(Errno::last())
            }
            // A sandbox that does not know the call.
            _ => {
                let mut stat = MaybeUninit::<libc::stat>::zeroed();
                let ret = libc::syscall(libc::SYS_newfstatat, at, path, stat.as_mut_ptr(), flags);
                Errno::result(ret)?;
                let stat = stat.assume_init();
                Ok(Looks {
                    mode: stat.st_mode,
                    is: stat.st_rdev,
                    is_on: stat.st_dev,
                    bytes: stat.st_size as u64,
                })
            }
        }
    }
}

/// Whether that number is at that address, where nothing may be mapped. A futex operation compares it, which
/// then has nobody to wake and nobody to move: a call that every sandbox knows.
pub fn holds(at: usize, number: u32) -> bool {
    static NOBODY: u32 = 0;
    let command = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel reads the number, or says EFAULT.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            at,
            command,
            0,
            0usize,
            &raw const NOBODY,
            number,
        ) == 0
    }
}

/// Copies memory of this process that may not be there: then it is an error.
pub fn read_memory(at: usize, to: &mut [u8]) -> Result<()> {
    // A sandbox may not know the call.
    if !has_call_filter() {
        match copy_by_kernel(at, to) {
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            other => return other,
        }
    }
    copy_readable(at, to)
}

fn copy_by_kernel(at: usize, to: &mut [u8]) -> Result<()> {
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: to.len(),
    };
    // SAFETY: the kernel writes to `to` alone, and reads the rest only if it is there.
    match unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) } {
        -1 => Err(Errno::last()),
        copied if copied as usize == to.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// The same by asking first whether it is there. A program that unmaps it in between has a race with itself.
fn copy_readable(at: usize, to: &mut [u8]) -> Result<()> {
    let end = at.checked_add(to.len()).ok_or(Errno::EFAULT)?;
    for page in (at & !(PAGE - 1)..end).step_by(PAGE) {
        // Not the address 0.
        if !readable(page + 8) {
            return Err(Errno::EFAULT);
        }
    }
    // SAFETY: readable, as far as it can be known; what is there may change meanwhile, and any bytes do.
    unsafe { ptr::copy_nonoverlapping(at as *const u8, to.as_mut_ptr(), to.len()) };
    Ok(())
}

/// The smallest page there is: what is true of one byte is true of the rest of its page.
pub const PAGE: usize = 4096;

/// Whether the page of this address can be read. rt_sigprocmask(2) reads a set before it finds that there is
/// nothing called -1 to do with it. The set is at the address, as far as the page goes: tools that look for
/// the use of undefined memory see that of the caller's record.
pub fn readable(at: usize) -> bool {
    // NULL stands for no set.
    let set = at.min((at & !(PAGE - 1)) + PAGE - 8).max(8);
    // SAFETY: the kernel reads 8 bytes, or says EFAULT; no mask is changed.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, -1, set, ptr::null_mut::<u8>(), 8) };
    ret != -1 || Errno::last() != Errno::EFAULT
}

/// The bytes of all buffers that an array of iovecs names. An error if it cannot be read, or has more
/// of them than a system call takes.
pub fn vectors_bytes(at: u64, count: u64) -> Result<u64> {
    const SIZE: usize = size_of::<libc::iovec>();
    const PARTS: usize = 16;
    const MOST: u64 = 1024;
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let mut left = count as usize;
    let mut at = at as usize;
    let mut sum = 0u64;
    while left != 0 {
        let mut parts = [0; PARTS * SIZE];
        let parts = &mut parts[..left.min(PARTS) * SIZE];
        read_memory(at, parts)?;
        for part in parts.chunks_exact(SIZE) {
            let len = u64::from_ne_bytes(std::array::from_fn(|i| part[8 + i]));
            sum = sum.saturating_add(len);
        }
        at = at.wrapping_add(parts.len());
        left -= left.min(PARTS);
    }
    Ok(sum)
}

/// A duplicate that is no standard descriptor.
pub fn duplicate(fd: BorrowedFd) -> Result<OwnedFd> {
    let fd = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: a new descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

/// Whether the descriptors of two threads, which may have a table each, name the same open file. If the kernel
/// cannot say, they do not.
#[cfg(not(loom))]
pub fn is_same_file(one: (u32, RawFd), other: (u32, RawFd)) -> bool {
    const KCMP_FILE: i32 = 0;
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_FILE, one.1, other.1) == 0 }
}

/// Whether system calls of this thread go through a filter (seccomp(2)), as far as can be found out.
/// Asked by a call that a thread has made anyway to get its name; not of /proc, because a descriptor
/// that comes and goes would be in the way of a program that counts on the lowest one.
pub fn has_call_filter() -> bool {
    // SAFETY: integers.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
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

/// Moves `value` to the heap; an error where `Box::new` would abort.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut new = try_box_uninit()?;
    new.write(value);
    // SAFETY: just written.
    Ok(unsafe { new.assume_init() })
}

/// Room on the heap for something too large to be made on a stack, which may be a small one.
pub fn try_box_uninit<T>() -> Result<Box<MaybeUninit<T>>> {
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the layout is not empty, and the one with which Box will free it; what is there may be
    // anything.
    unsafe {
        let at = std::alloc::alloc(std::alloc::Layout::new::<T>()).cast::<MaybeUninit<T>>();
        if at.is_null() {
            return Err(Errno::ENOMEM);
        }
        Ok(Box::from_raw(at))
    }
}
