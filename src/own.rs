//! The library's own descriptors of the program's files.
//!
//! They are in the program's table, where a program that closes all it finds (closefrom()) would
//! close them too. The object that aio2-run preloads keeps it from that: it asks here which they
//! are.

use crate::sys::Result;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};

/// As high as a descriptor is, unless fs.nr_open was raised: those beyond are not protected.
const NUMBERS: usize = 1 << 20;

/// A bit for each. Relaxed throughout: a program that closes a descriptor in one thread while
/// another submits a request for it has to expect either order.
static OWN: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// How many of these words have ever had a bit.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Where the library's numbers begin, so that they are out of the way of a program that expects to get
/// low ones, and above all that it has asked for by dup2() while they were here: what it has by a fixed
/// number it may want there again.
const HIGH: RawFd = 192;
static ABOVE: AtomicI32 = AtomicI32::new(HIGH);

fn word(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((OWN.get(fd / 64)?, 1 << (fd % 64)))
}

/// The number is not for the library any more, as long as there are others.
pub fn avoid(fd: RawFd) {
    ABOVE.fetch_max(fd.saturating_add(1), Relaxed);
}

/// A duplicate with a high number; at the lowest that is free if there is no room up there. (One too low
/// cannot be given back for another: to close it would drop the program's record locks.)
pub fn duplicate(number: RawFd) -> Result<RawFd> {
    for least in [ABOVE.load(Relaxed), HIGH, 3] {
        // SAFETY: integers; reports a number that is not open.
        let dup = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, least) };
        if dup >= 0 {
            if let Some((word, bit)) = word(dup) {
                word.fetch_or(bit, Relaxed);
                USED.fetch_max(dup as usize / 64 + 1, Relaxed);
            }
            return Ok(dup);
        }
        match Errno::last() {
            Errno::EINVAL | Errno::EMFILE => {}
            errno => return Err(errno),
        }
    }
    Err(Errno::EMFILE)
}

pub fn close(fd: RawFd) {
    // Before: afterwards the number may be the program's.
    if let Some((word, bit)) = word(fd) {
        word.fetch_and(!bit, Relaxed);
    }
    // libc's own is a cancellation point.
    // SAFETY: a descriptor of the library's own.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: integers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// The lowest of them that is not below `from`; -1: there is none. Safe in a signal handler.
pub extern "C" fn next(from: RawFd) -> RawFd {
    let from = from.max(0) as usize;
    // Of the first word, only those from there on.
    let mut wanted = u64::MAX << (from % 64);
    let used = &OWN[..USED.load(Relaxed)];
    for (i, word) in used.iter().enumerate().skip(from / 64) {
        let here = word.load(Relaxed) & wanted;
        if here != 0 {
            return (i * 64) as RawFd + here.trailing_zeros() as RawFd;
        }
        wanted = u64::MAX;
    }
    -1
}
