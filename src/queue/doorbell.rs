//! What a caller with a signal mask sleeps for.

use crate::ring::wait::Wake;
use crate::sys::write_eventfd;
#[cfg(not(loom))]
use crate::sys::{host::HeldFile, private_fd::is_inside};
use nix::sys::eventfd::EventFd;
use std::os::fd::{AsFd, AsRawFd};

/// An eventfd that a caller sleeps for. It is in the table of that thread; where others have another table, it is
/// held there, too.
pub struct Doorbell {
    pub eventfd: EventFd,
    #[cfg(not(loom))]
    pub held: Option<HeldFile>,
}

impl Doorbell {
    /// It has not been rung.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes of ours. It does not wait.
        unsafe {
            let fd = self.eventfd.as_fd().as_raw_fd();
            libc::syscall(libc::SYS_read, fd, &raw mut count, 8);
        }
    }
}

impl Wake for Doorbell {
    fn wake(&self) {
        #[cfg(not(loom))]
        if let Some(held) = self.held.as_ref().filter(|_| is_inside()) {
            return write_eventfd(held.fd());
        }
        write_eventfd(self.eventfd.as_fd().as_raw_fd());
    }
}
