//! The doorbell of a caller that sleeps with a signal mask.

use crate::ring::wait::Wake;
use crate::sys::{host::HeldFile, private_fd::is_inside, write_eventfd};
use nix::sys::eventfd::EventFd;
use std::os::fd::{AsFd, AsRawFd};

/// An eventfd that wakes a caller. It is in the descriptor table of that thread. If the threads that ring it have another
/// table, it is held there, too.
pub struct Doorbell {
    pub eventfd: EventFd,
    pub held: Option<HeldFile>,
}

impl Doorbell {
    /// Clears it, as if it had not been rung.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: `count` has the 8 bytes. The eventfd is non-blocking, so this does not wait.
        unsafe {
            let fd = self.eventfd.as_fd().as_raw_fd();
            libc::syscall(libc::SYS_read, fd, &raw mut count, 8);
        }
    }
}

impl Wake for Doorbell {
    fn wake(&self) {
        if let Some(held) = self.held.as_ref().filter(|_| is_inside()) {
            return write_eventfd(held.fd());
        }
        write_eventfd(self.eventfd.as_fd().as_raw_fd());
    }
}
