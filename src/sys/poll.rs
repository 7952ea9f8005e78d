//! Whether a descriptor is ready. libc's versions of these calls are cancellation points, and a thread must not be
//! cancelled inside the library.

use super::timespec;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use std::os::fd::RawFd;
use std::ptr;

/// Whether one of `events` is available without waiting.
pub fn poll_now(fd: RawFd, events: libc::c_short) -> bool {
    loop {
        match poll(fd, events, Some(0), None) {
            // A signal causes EINTR even with a timeout of 0.
            -1 if Errno::last() == Errno::EINTR => {}
            count => return count != 0,
        }
    }
}

/// Which of `events` are available without waiting, plus error flags.
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

/// ppoll(2) of one descriptor (-1: none) for `ns` nanoseconds (None: no limit), with the given signal mask.
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
    // SAFETY: the kernel accesses one pollfd, one time and the 8 bytes of a mask; all are valid.
    unsafe { libc::syscall(libc::SYS_ppoll, ptr::from_mut(poller), 1, limit, mask, 8) }
}
