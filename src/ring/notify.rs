//! The context's eventfd: after events have been published, at least 1 is added to it.

use crate::sync::{AcqRel, Acquire, AtomicU32};
use crate::sys::private_fd::Marked;
use crate::sys::{Result, duplicate, poll_now, write_eventfd};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

pub struct Notifier {
    /// A duplicate: the program may close its descriptor and reuse the number, and we must not write to the file that is there then.
    /// It may do the same with the duplicate.
    eventfd: Marked,
    /// Threads that have asked for a write since nobody was writing. The first of them writes.
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
        // SAFETY: borrowed for the calls below, which report it if the descriptor is not open.
        let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
        let flags = fcntl(theirs, FcntlArg::F_GETFL);
        if flags.is_err() || is_eventfd(fd) == Some(false) {
            // A zeroed structure has descriptor 0 and means none.
            return if fd == 0 {
                Ok(None)
            } else {
                Err(flags.err().unwrap_or(Errno::EINVAL))
            };
        }
        Ok(Some(Notifier {
            eventfd: Marked::new(duplicate(theirs)?).ok_or(Errno::ENOMEM)?,
            asked: AtomicU32::new(0),
        }))
    }

    pub fn fd(&self) -> RawFd {
        self.eventfd.number()
    }

    /// Adds 1, or leaves that to a thread that is about to write. Called after publishing, without a lock.
    pub fn signal(&self) {
        // AcqRel: pairs with the read-modify-writes of the thread that writes for us: the events that we have published are visible to it
        // before it writes. A reader may already have read its last write, so it writes once more.
        if self.asked.fetch_add(1, AcqRel) != 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.add_one();
            // AcqRel: pairs with the fetch_add of threads that have asked meanwhile, as above.
            match self.asked.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn add_one(&self) {
        // If the counter is at its maximum, a write may block (the program can change that flag at any time). The program has been
        // told then, and we must not wait until it reads.
        if let Some(eventfd) = self.eventfd.fd()
            && poll_now(eventfd.as_raw_fd(), libc::POLLOUT)
        {
            write_eventfd(eventfd.as_raw_fd());
        }
    }
}

/// Whether it is an eventfd. None without /proc.
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
