//! Making a system call: plainly, from the page cache, or interruptibly.

use super::Call;
use super::carrier;
#[cfg(not(aio2_fuzz))]
use super::interrupt;
use crate::abi::IOCB2_NOP;
use crate::sys::vectors_bytes;
use libc::c_long;
#[cfg(not(aio2_fuzz))]
use nix::errno::Errno;

pub fn make(call: &Call) -> i64 {
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

/// After this number of interruptions in a row, no signal is the cause: a file system may return EINTR on its own.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Whether an interrupted call may be repeated: in a worker, only a signal of the C library (setuid) interrupts it.
#[cfg(not(aio2_fuzz))]
fn may_be_made_again(call: &Call) -> bool {
    carrier::is_worker() && interrupt::may_be_made_again(call)
}

#[cfg(aio2_fuzz)]
fn may_be_made_again(_call: &Call) -> bool {
    false
}

/// Makes a read without waiting. If the page cache does not hold all its bytes, the result is -EINTR, as after an
/// interruption.
pub fn make_nowait(call: &Call) -> i64 {
    let [fd, at, count, offset, high, flags] = call.args;
    let nowait = libc::RWF_NOWAIT as u64;
    let buffer = [at, count];
    // For preadv2 alone it means the file's own position, from which a part that was read would be lost.
    if offset == u64::MAX {
        return -i64::from(libc::EINTR);
    }
    let args = match c_long::from(call.nr) {
        libc::SYS_pread64 => [fd, buffer.as_ptr() as u64, 1, offset, 0, nowait],
        libc::SYS_preadv => [fd, at, count, offset, 0, nowait],
        // This call sets RWF_NOWAIT itself, and the program expects its result.
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

pub fn make_interruptibly(call: &Call) -> i64 {
    match (call.nr, carrier::interruptible()) {
        (IOCB2_NOP, _) | (_, None) => make(call),
        #[cfg(aio2_fuzz)]
        (_, Some(_)) => system_call(call),
        #[cfg(not(aio2_fuzz))]
        (_, Some(target)) => interrupt::system_call(call, target),
    }
}

/// Whether a read or write that returned `res` moved all requested bytes.
pub fn is_full(call: &Call, res: i64) -> bool {
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

/// Under the fuzzer no call is made, because invented calls would harm the process.
#[cfg(aio2_fuzz)]
pub(super) fn system_call(call: &Call) -> i64 {
    let mixed = call
        .args
        .iter()
        .fold(u64::from(call.nr), |sum, arg| sum.rotate_left(7) ^ arg);
    // Results are lengths and errors.
    (mixed % 8192) as i64 - 100
}

#[cfg(not(aio2_fuzz))]
pub(super) fn system_call(call: &Call) -> i64 {
    let [a, b, c, d, e, f] = call.args;
    // SAFETY: the call does to the program only what the program may do to itself by the same call ([`super::table`]
    // has the rules). The caller keeps the memory valid that it names.
    let res = unsafe { libc::syscall(c_long::from(call.nr), a, b, c, d, e, f) };
    if res == -1 {
        -(Errno::last_raw() as i64)
    } else {
        res
    }
}

#[cfg(all(test, not(any(loom, aio2_fuzz))))]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_read_at_no_offset_is_not_tried() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mut buffer = [0u8; 8];
        let mut read_at = |offset| {
            let (fd, at) = (file.as_raw_fd() as u64, buffer.as_mut_ptr() as u64);
            let args = [fd, at, 8, offset, 0, 0];
            make_nowait(&Call::new(libc::SYS_pread64 as u32, args))
        };
        // In memory, as it is being run.
        assert_eq!(read_at(0), 8);
        assert_eq!(read_at(u64::MAX), -i64::from(libc::EINTR));
    }
}
