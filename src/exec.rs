//! Carrying a request out: which system calls are made, and making one.

use crate::abi::{IOCB_ATTR_LINK, IOCB2_NOP, iocb2};
use crate::attr::{self, SubmitClock};
use crate::carrier;
#[cfg(not(loom))]
use crate::interrupt;
use crate::policy::route::Route;
use crate::request::{Call, Chunk, Record, Req, Scratch, Slabs, Stage};
use crate::ring::Out;
#[cfg(not(loom))]
use crate::sys::has_flag;
use crate::sys::{Result, file_mode, file_type, poll_now, read_memory, vectors_bytes};
use crate::syscalls::{self, Class, Files};
use libc::{ECANCELED, ENOSYS, c_long};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// Whether this system call is carried. The others complete with -ENOSYS and are never made.
#[inline]
fn is_carried(call: &Call) -> bool {
    is_well_trodden(call.nr)
        || call.nr == IOCB2_NOP
        || syscalls::class(call.nr, &call.args).is_some()
}

/// Those that are carried whatever their arguments, and that most requests are: the table need not
/// be asked.
#[inline]
fn is_well_trodden(nr: u32) -> bool {
    matches!(
        c_long::from(nr),
        libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_fsync
            | libc::SYS_fdatasync
    )
}

/// What a request does while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It ends by itself, and may have a file's lock for a while.
    Transfer,
    /// It waits for what others have written.
    Sync,
    /// It may wait for somebody else.
    Long,
}

impl Manner {
    /// One that is not carried takes no time.
    #[inline]
    pub fn of(call: &Call) -> Manner {
        match c_long::from(call.nr) {
            libc::SYS_pread64 | libc::SYS_pwrite64 => Manner::Transfer,
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range => Manner::Sync,
            _ if call.nr == IOCB2_NOP => Manner::Transfer,
            _ => match syscalls::class(call.nr, &call.args) {
                Some(Class::Long) => Manner::Long,
                _ => Manner::Transfer,
            },
        }
    }

    /// Who is to carry it out.
    #[inline]
    pub fn class(self) -> Class {
        match self {
            Manner::Transfer | Manner::Sync => Class::Short,
            Manner::Long => Class::Long,
        }
    }
}

/// One of the ways below to carry a request out. (A no-op there and back: 133 ns, 150 ns if it is called
/// through a pointer.)
pub trait Execute: Copy + Fn(&mut Req, Option<u64>) {}
impl<F: Copy + Fn(&mut Req, Option<u64>)> Execute for F {}

/// Carries the request out in this thread and fills in its event. Changes errno.
/// `now` is the time, if the clock has been read just now.
pub fn execute(req: &mut Req, now: Option<u64>) {
    execute_by(req, make, now);
}

/// The same of a read through the page cache that is not to wait for a device: -EINTR if it would.
#[cfg(not(loom))]
pub fn execute_if_cached(req: &mut Req, now: Option<u64>) {
    execute_by(req, make_at_once, now);
}

/// The same in a worker that can be interrupted meanwhile.
#[cfg(not(loom))]
pub fn execute_interruptibly(req: &mut Req) {
    execute_by(req, make_interruptibly, None);
}

fn execute_by(req: &mut Req, make: fn(&Call) -> i64, now: Option<u64>) {
    req.set_stage(Stage::Begun);
    #[cfg(not(loom))]
    if let Some(call) = crate::libaio::request::call_here(req) {
        return crate::libaio::request::execute(req, || make(&call));
    }
    let call = *req.call();
    let not_made = match req.refused() {
        0 if !is_carried(&call) => -ENOSYS,
        refused => refused,
    };
    if not_made != 0 {
        return skip(req, not_made);
    }
    if req.bound().is_none() {
        carrier::settle();
        return req.set_res(make(&call));
    }
    match attr::carry_out(req, &call, make, now) {
        Ok(res) => {
            req.set_res(res);
            if req.bound().has(IOCB_ATTR_LINK) && !is_full(&call, res) {
                req.set_short();
            }
        }
        Err(errno) => skip(req, -(errno as i32)),
    }
}

/// A call that waits to be made, with the descriptor that its file has in this thread's table.
pub fn here(call: &Call) -> Call {
    #[cfg(not(loom))]
    if call.key.facts().is_some() {
        return crate::libaio::request::call_inside(call);
    }
    *call
}

/// Fills in the event of a request that is taken out before it has begun.
pub fn cancel(req: &mut Req) {
    skip(req, -ECANCELED);
}

fn skip(req: &mut Req, res: i32) {
    req.set_route(Route::NotMade);
    attr::skip(req);
    req.set_res(i64::from(res));
}

fn make(call: &Call) -> i64 {
    if call.nr == IOCB2_NOP {
        return 0;
    }
    for _ in 0..INTERRUPTIONS_MAX {
        let res = system_call(call);
        if res != -i64::from(libc::EINTR) || !may_be_made_again(call) {
            return res;
        }
    }
    -i64::from(libc::EINTR)
}

/// So often in a row, and it is not a signal that interrupts: a file system may say so of its own accord.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Whether a call was interrupted that is nobody's to interrupt: in a worker, by a signal of the C
/// library's own (setuid).
#[cfg(not(any(loom, aio2_fuzz)))]
fn may_be_made_again(call: &Call) -> bool {
    carrier::is_worker() && interrupt::may_be_made_again(call)
}

#[cfg(any(loom, aio2_fuzz))]
fn may_be_made_again(_call: &Call) -> bool {
    false
}

/// Reads what is in the page cache, if that is all; else it is as if it had been interrupted.
#[cfg(not(loom))]
fn make_at_once(call: &Call) -> i64 {
    let [fd, at, count, offset, high, flags] = call.args;
    let nowait = libc::RWF_NOWAIT as u64;
    let buffer = [at, count];
    let args = match c_long::from(call.nr) {
        libc::SYS_pread64 => [fd, buffer.as_ptr() as u64, 1, offset, 0, nowait],
        libc::SYS_preadv => [fd, at, count, offset, 0, nowait],
        // That one asks for it itself, and for the answer.
        libc::SYS_preadv2 if flags & nowait != 0 => return make(call),
        libc::SYS_preadv2 => [fd, at, count, offset, high, flags | nowait],
        _ => return make(call),
    };
    let res = system_call(&Call::new(libc::SYS_preadv2 as u32, args));
    if is_full(call, res) {
        res
    } else {
        -i64::from(libc::EINTR)
    }
}

#[cfg(not(loom))]
fn make_interruptibly(call: &Call) -> i64 {
    match (call.nr, carrier::interruptible()) {
        (IOCB2_NOP, _) | (_, None) => make(call),
        #[cfg(aio2_fuzz)]
        (_, Some(_)) => system_call(call),
        #[cfg(not(aio2_fuzz))]
        (_, Some(target)) => interrupt::system_call(call, target),
    }
}

/// Whether a read or write that returned `res` has moved every byte that it was asked for.
fn is_full(call: &Call, res: i64) -> bool {
    let asked = match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_write | libc::SYS_pread64 | libc::SYS_pwrite64 => call.args[2],
        libc::SYS_readv
        | libc::SYS_writev
        | libc::SYS_preadv
        | libc::SYS_pwritev
        | libc::SYS_preadv2
        | libc::SYS_pwritev2 => match vectors_bytes(call.args[1], call.args[2]) {
            Ok(bytes) => bytes,
            Err(_) => return false,
        },
        _ => return true,
    };
    res >= 0 && res as u64 == asked
}

/// Whether it is a read that a device can be told of beforehand: where it is and how long, the call
/// itself says; and a long one keeps a device busy by itself.
#[cfg(not(loom))]
pub fn can_be_told_of(call: &Call) -> bool {
    const MOST: u64 = 64 << 10;
    c_long::from(call.nr) == libc::SYS_pread64 && call.args[2] <= MOST
}

/// Has the kernel begin to read what such a request is going to read. A hint, whose failure is none.
#[cfg(not(loom))]
pub fn read_ahead(req: &Req) {
    let [_, _, bytes, offset, ..] = req.call().args;
    let fd = req.fd();
    // SAFETY: integers.
    unsafe {
        libc::syscall(
            libc::SYS_fadvise64,
            fd,
            offset,
            bytes,
            libc::POSIX_FADV_WILLNEED,
        )
    };
}

/// Under the fuzzer no call is made: what it makes up would be for real.
#[cfg(aio2_fuzz)]
fn system_call(call: &Call) -> i64 {
    let mixed = call
        .args
        .iter()
        .fold(u64::from(call.nr), |sum, arg| sum.rotate_left(7) ^ arg);
    // Lengths, and errors.
    (mixed % 8192) as i64 - 100
}

#[cfg(not(aio2_fuzz))]
fn system_call(call: &Call) -> i64 {
    let [a, b, c, d, e, f] = call.args;
    // SAFETY: what is carried does to the program what the program may do to itself by the same
    // call (`syscalls` has the rules), and memory that it names is the caller's to keep valid.
    let res = unsafe { libc::syscall(c_long::from(call.nr), a, b, c, d, e, f) };
    if res == -1 {
        -(Errno::last_raw() as i64)
    } else {
        res
    }
}

/// Carries out one record in the calling thread and copies its event to `out`. Changes errno.
///
/// # Safety
/// `iocb` is aligned to 8, and as many bytes behind it are readable as it says.
pub unsafe fn issue(iocb: *const iocb2, out: &mut Out) -> Result<usize> {
    let mut scratch = Scratch::new();
    // SAFETY: the caller's promise.
    let record = unsafe {
        let bytes = (&raw const (*iocb).bytes).read_volatile() as usize;
        Record::read(iocb.cast(), bytes, &SubmitClock::alone(), &mut scratch)
            .map_err(|_| Errno::EINVAL)?
    };
    if !out.fits(record.event_bytes()) {
        return Err(Errno::ENOBUFS);
    }
    let mut slabs = Slabs::new();
    let slab = slabs.of(record.class());
    slab.add(Chunk::new(record.class(), 1).ok_or(Errno::ENOMEM)?);
    let slot = slab.free.take().ok_or(Errno::ENOMEM)?;
    let mut req = record.build(slot, &scratch);
    req.set_route(Route::InlineSubmit);
    execute(&mut req, None);
    attr::route::answer(&mut req);
    out.push(req.event());
    Ok(out.len())
}

/// Whether a request would be done without waiting for somebody else. May say no where the answer
/// is yes.
pub fn is_ready(call: &Call) -> bool {
    match syscalls::class(call.nr, &call.args) {
        // A no-op, or one that is refused.
        None | Some(Class::Short) => true,
        Some(Class::Long) => ends_by_itself(call) || is_ready_now(call),
    }
}

/// Whether one that may wait for somebody else has nobody to wait for, because it is about files.
fn ends_by_itself(call: &Call) -> bool {
    let fd = |arg: usize| call.args[arg] as RawFd;
    if let Some(facts) = call.key.facts() {
        return facts.file;
    }
    match syscalls::files(call.nr) {
        Files::Nothing => false,
        Files::Changes => true,
        Files::FirstArg => is_file(fd(0)),
        Files::TwoArgs => is_file(fd(0)) && is_file(fd(1)),
        Files::Opens => leads_to_file(call),
    }
}

/// Whether a read or a write can be done now, with a pipe, say.
fn is_ready_now(call: &Call) -> bool {
    let fd = call.args[0] as RawFd;
    match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => poll_now(fd, libc::POLLIN),
        // What a pipe takes in one piece if it takes anything.
        libc::SYS_write => poll_now(fd, libc::POLLOUT) && call.args[2] <= libc::PIPE_BUF as u64,
        libc::SYS_writev | libc::SYS_pwritev2 => {
            poll_now(fd, libc::POLLOUT) && is_short_write(call)
        }
        _ => false,
    }
}

/// Whether the buffers of a vector write, few of them, have no more than PIPE_BUF bytes together.
fn is_short_write(call: &Call) -> bool {
    const PARTS: u64 = 8;
    let [_, vectors, count, ..] = call.args;
    // The write itself will say so if they are not there.
    count <= PARTS
        && vectors_bytes(vectors, count).map_or(true, |bytes| bytes <= libc::PIPE_BUF as u64)
}

/// Whether it reads or writes files, or changes a file system, and so ends, sooner or later, by
/// itself: the end of the process waits for it.
pub fn is_on_file(call: &Call) -> bool {
    let counts = match syscalls::files(call.nr) {
        Files::Opens => open_flags(call) & (libc::O_CREAT | libc::O_TRUNC) != 0,
        _ => true,
    };
    counts && ends_by_itself(call) && is_carried(call)
}

/// Whether it does no harm to make a call once more that may have been made already, of the kind that
/// callers carry out (see [`crate::habit`]): what is appended would then be there twice.
#[cfg(not(loom))]
pub fn may_be_repeated(call: &Call) -> bool {
    match call.key.facts() {
        Some(facts) => !facts.appends,
        None => !has_flag(call.args[0] as RawFd, libc::O_APPEND),
    }
}

#[cfg(not(loom))]
pub fn repeat(call: &Call) {
    match call.key.facts() {
        Some(_) => crate::libaio::request::make_inside(call, make),
        None => drop(make(call)),
    }
}

/// A regular file or a block device.
fn is_file(fd: RawFd) -> bool {
    matches!(file_type(fd), libc::S_IFREG | libc::S_IFBLK)
}

/// Whether what is opened is no pipe, terminal or other thing that makes its opener wait. What is
/// not there does not.
fn leads_to_file(call: &Call) -> bool {
    let (at, path) = match c_long::from(call.nr) {
        libc::SYS_openat | libc::SYS_openat2 => (call.args[0] as RawFd, call.args[1]),
        _ => (libc::AT_FDCWD, call.args[0]),
    };
    match file_mode(at, path, 0) {
        Ok(mode) => matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP | Errno::EFAULT) => true,
        Err(_) => false,
    }
}

/// O_* of a call that opens.
fn open_flags(call: &Call) -> libc::c_int {
    match c_long::from(call.nr) {
        libc::SYS_openat => call.args[2] as libc::c_int,
        libc::SYS_openat2 => {
            let mut flags = [0; 8];
            match read_memory(call.args[2] as usize, &mut flags) {
                Ok(()) => u64::from_ne_bytes(flags) as libc::c_int,
                Err(_) => 0,
            }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.args[1] as libc::c_int,
        // creat
        _ => libc::O_CREAT | libc::O_TRUNC,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_table_carries_what_need_not_be_asked() {
        let trodden: Vec<u32> = (0..1024).filter(|&nr| is_well_trodden(nr)).collect();
        assert_eq!(trodden.len(), 8);
        for nr in trodden {
            for args in [[0; 6], [u64::MAX; 6]] {
                assert!(syscalls::class(nr, &args).is_some(), "{nr}");
            }
        }
    }
}
