//! Carrying a request out: which system calls are made, and making one.

use crate::abi::{IOCB2_NOP, iocb2};
use crate::attr::{self, Step, SubmitClock};
use crate::request::{Call, Chunk, Record, Req, Scratch, Slabs};
use crate::ring::Out;
use crate::sys::{Result, poll_now, read_memory};
use libc::{ECANCELED, ENOSYS, c_long};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// Whether this system call is carried. The others complete with -ENOSYS and are never made.
fn carried(nr: u32) -> bool {
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
            | libc::SYS_sync_file_range
            | libc::SYS_fallocate
    )
}

/// Carries the request out in this thread and fills in its event. Changes errno.
pub fn execute(req: &mut Req) {
    let call = *req.call();
    #[cfg(not(loom))]
    if req.side().is_some() {
        return crate::libaio::request::execute(req, || system_call(&call));
    }
    let not_made = match req.refused() {
        0 if call.nr != IOCB2_NOP && !carried(call.nr) => -ENOSYS,
        refused => refused,
    };
    if not_made != 0 {
        return skip(req, not_made);
    }
    attr::tell(req, Step::Begins);
    let res = if call.nr == IOCB2_NOP {
        0
    } else {
        system_call(&call)
    };
    attr::tell(req, Step::Ended);
    req.set_res(res);
}

/// Fills in the event of a request that is taken out before it has begun.
pub fn cancel(req: &mut Req) {
    skip(req, -ECANCELED);
}

fn skip(req: &mut Req, res: i32) {
    attr::tell(req, Step::Skipped);
    req.set_res(i64::from(res));
}

fn system_call(call: &Call) -> i64 {
    let [a, b, c, d, e, f] = call.args;
    // SAFETY: the calls that are carried reach memory through their arguments alone, which the
    // kernel checks, and which are the caller's to keep valid (the contract).
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
        Record::read(iocb.cast(), bytes, &SubmitClock::new(), &mut scratch)
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
    execute(&mut req);
    out.push(req.event());
    Ok(out.len())
}

/// Whether a request would be done without waiting for somebody else. May say no where the answer
/// is yes.
pub fn is_ready(call: &Call) -> bool {
    let Some(fd) = descriptor(call) else {
        return true;
    };
    match c_long::from(call.nr) {
        _ if is_on_file(call) => true,
        libc::SYS_preadv2 => poll_now(fd, libc::POLLIN),
        // What a pipe takes in one piece if it takes anything.
        libc::SYS_pwritev2 => poll_now(fd, libc::POLLOUT) && is_short_write(call),
        // The others fail at once on what is no file.
        _ => true,
    }
}

/// Whether the buffers of a vector write have no more than PIPE_BUF bytes together.
fn is_short_write(call: &Call) -> bool {
    const PARTS: usize = 8;
    let parts = call.args[2] as usize;
    let mut iov = [0; PARTS * size_of::<libc::iovec>()];
    let Some(iov) = iov.get_mut(..parts.saturating_mul(size_of::<libc::iovec>())) else {
        return false;
    };
    // The write itself will say so if they are not there.
    read_memory(call.args[1] as usize, iov).is_err()
        || iov
            .chunks_exact(size_of::<libc::iovec>())
            .map(|part| usize::from_ne_bytes(std::array::from_fn(|i| part[8 + i])))
            .fold(0, usize::saturating_add)
            <= libc::PIPE_BUF
}

/// The descriptor that a request works on; None for a request that needs none.
fn descriptor(call: &Call) -> Option<RawFd> {
    (call.nr != IOCB2_NOP).then_some(call.args[0] as RawFd)
}

/// Whether it works on a regular file or a block device: it ends, sooner or later, by itself.
pub fn is_on_file(call: &Call) -> bool {
    let Some(fd) = descriptor(call) else {
        return false;
    };
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: an empty path and buffers of ours, which are valid as zeros if the calls should fail.
    let mode = unsafe {
        match libc::statx(fd, c"".as_ptr(), flags, libc::STATX_TYPE, stat.as_mut_ptr()) {
            0 => u32::from(stat.assume_init().stx_mode),
            // A sandbox that does not know the call.
            _ => {
                let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
                libc::fstat(fd, stat.as_mut_ptr());
                stat.assume_init().st_mode
            }
        }
    };
    matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFBLK)
}
