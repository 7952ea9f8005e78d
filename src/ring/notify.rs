//! The context's eventfd: at least 1 is added after events have been published.

use crate::sync::{AcqRel, Acquire, AtomicU32};
use crate::sys::{Result, duplicate};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub struct Notifier {
    /// A duplicate: the program may close its number and reuse it, and nothing must be written
    /// to what is there then.
    fd: OwnedFd,
    /// How many have asked for a write since nobody was writing; the first of them writes.
    asked: AtomicU32,
}

impl Notifier {
    /// None for -1.
    pub fn new(fd: RawFd) -> Result<Option<Notifier>> {
        if fd == -1 {
            return Ok(None);
        }
        if fd < 0 {
            return Err(Errno::EBADF);
        }
        // SAFETY: borrowed for the calls below, which report a descriptor that is not open.
        let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
        let flags = fcntl(theirs, FcntlArg::F_GETFL);
        if flags.is_err() || is_eventfd(fd) == Some(false) {
            // A structure of zeros asks for descriptor 0, and means none.
            return if fd == 0 {
                Ok(None)
            } else {
                Err(flags.err().unwrap_or(Errno::EINVAL))
            };
        }
        Ok(Some(Notifier {
            fd: duplicate(theirs)?,
            asked: AtomicU32::new(0),
        }))
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Adds 1, now or through a thread that is just about to: called after publishing, without a
    /// lock.
    pub fn signal(&self) {
        // AcqRel: what was published before is visible to whoever writes for us, before it writes.
        // A write that is under way may have happened already as far as a reader is concerned: it
        // is done once more.
        if self.asked.fetch_add(1, AcqRel) != 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.add_one();
            // AcqRel: as above, for those who asked meanwhile.
            match self.asked.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn add_one(&self) {
        // At the maximum a write may block (whether it does is up to the program, at any time): the
        // program has been told often enough, and we must not wait for it to read.
        if crate::sys::poll_now(self.fd(), libc::POLLOUT) {
            crate::sys::write_eventfd(self.fd());
        }
    }
}

/// None if it cannot be found out: no /proc.
fn is_eventfd(fd: RawFd) -> Option<bool> {
    use std::io::Write;
    let mut path = [0; 32];
    let _ = write!(&mut path[..], "/proc/thread-self/fd/{fd}\0");
    let mut target = [0u8; 32];
    // SAFETY: a C string, and a buffer of the size given.
    let len = unsafe {
        libc::readlink(
            path.as_ptr().cast(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    usize::try_from(len)
        .ok()
        .map(|len| target[..len].starts_with(b"anon_inode:[eventfd]"))
}
