//! The library's own descriptors of the program's files.
//!
//! They are in the program's table, where a program that closes all it finds (closefrom()) would
//! close them too. The object that aio2-run preloads keeps it from that: it asks here which they
//! are.

use crate::sys::Result;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// As high as a descriptor is, unless fs.nr_open was raised: those beyond are not protected.
const NUMBERS: usize = 1 << 20;

/// A bit for each. Relaxed throughout: a program that closes a descriptor in one thread while
/// another submits a request for it has to expect either order.
static OWN: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// The same, of numbers that the program has asked for by dup2() while they were here: what it has by a
/// fixed number it may want there again.
static AVOIDED: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// How many of the words of OWN have ever had a bit.
static USED: AtomicUsize = AtomicUsize::new(0);

fn word(words: &'static [AtomicU64], fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((words.get(fd / 64)?, 1 << (fd % 64)))
}

/// The number is not for the library any more.
pub fn avoid(fd: RawFd) {
    if let Some((word, bit)) = word(&AVOIDED, fd) {
        word.fetch_or(bit, Relaxed);
    }
}

fn is_avoided(fd: RawFd) -> bool {
    word(&AVOIDED, fd).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
}

/// The same file, with a number that is not to be avoided, if there is one.
fn move_away(mut fd: RawFd) -> RawFd {
    while is_avoided(fd) {
        // SAFETY: integers; the descriptor is the library's own.
        let next = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, fd + 1) };
        if next < 0 {
            break;
        }
        close(fd);
        fd = next;
    }
    fd
}

/// A duplicate with a high number, out of the way of a program that expects to get low ones; at the
/// lowest that is free if there is no room up there.
pub fn duplicate(number: RawFd) -> Result<RawFd> {
    const HIGH: i32 = 192;
    for least in [HIGH, 3] {
        // SAFETY: integers; reports a number that is not open.
        let dup = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, least) };
        if dup >= 0 {
            let dup = move_away(dup);
            if let Some((word, bit)) = word(&OWN, dup) {
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
    if let Some((word, bit)) = word(&OWN, fd) {
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
