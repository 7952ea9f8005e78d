//! The doorbell of a caller that sleeps with a signal mask.

use crate::ring::wait::Wake;
use crate::sys::host::HeldFile;
use crate::sys::private_fd::{Making, Marked, is_in_first_table, is_inside};
use crate::sys::write_eventfd;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsRawFd, RawFd};

/// An eventfd that wakes a caller. It is in the descriptor table of that thread. If the threads that ring it have another
/// table, it is held there, too.
pub struct Doorbell {
    eventfd: Marked,
    held: Option<HeldFile>,
}

impl Doorbell {
    /// `is_held`: the library's threads have another descriptor table. None: out of descriptors; or the calling thread has a table of its
    /// own, in which other threads of the program cannot ring.
    pub fn new(is_held: bool) -> Option<Doorbell> {
        const STANDARD: [RawFd; 3] = [0, 1, 2];
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd = {
            let _making = Making::begin();
            Marked::duplicate(&EventFd::from_value_and_flags(0, flags).ok()?)?
        };
        if !is_in_first_table(&STANDARD) {
            return None;
        }
        let held = if is_held {
            Some(HeldFile::hold(eventfd.number()).ok()?)
        } else {
            None
        };
        Some(Doorbell { eventfd, held })
    }

    /// Its number, if the calling thread has it. The program may have closed it, and may have a file of its own there.
    pub fn fd(&self) -> Option<RawFd> {
        self.eventfd.fd().map(|fd| fd.as_raw_fd())
    }

    /// Clears it, as if it had not been rung.
    pub fn clear(&self) {
        let mut count = 0u64;
        if let Some(fd) = self.fd() {
            // SAFETY: `count` has the 8 bytes. The eventfd is non-blocking, so this does not wait.
            unsafe { libc::syscall(libc::SYS_read, fd, &raw mut count, 8) };
        }
    }
}

impl Wake for Doorbell {
    fn wake(&self) {
        if let Some(held) = self.held.as_ref().filter(|_| is_inside()) {
            return write_eventfd(held.fd());
        }
        if let Some(fd) = self.fd() {
            write_eventfd(fd);
        }
    }
}
