//! How the kernel wakes the reaper.

use crate::sys::private_fd::Private;
use crate::sys::{Result, Waited};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// If the reaper cannot be woken any more, it looks at the ring this often.
const DEAF_NS: u64 = 1_000_000;

/// The doorbell of the reaper, which sleeps in epoll_wait(2) and reads nothing. The program may have closed these descriptors, and may have
/// its own files under their numbers.
pub struct Doorbell {
    eventfd: Private,
    /// It contains that eventfd alone, edge-triggered.
    epoll: Private,
}

impl Doorbell {
    pub const fn new() -> Doorbell {
        Doorbell {
            eventfd: Private::new(),
            epoll: Private::new(),
        }
    }

    /// Makes the descriptors. False: none can be obtained.
    pub fn open(&self) -> bool {
        let is_made = self.make().is_some();
        if !is_made {
            self.close();
        }
        is_made
    }

    fn make(&self) -> Option<()> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        self.eventfd.open(|| {
            // Never 0, so that [`Doorbell::ring`] makes the epoll report it.
            let eventfd = EventFd::from_value_and_flags(1, flags).ok()?;
            Some(OwnedFd::from(eventfd))
        })?;
        self.epoll
            .open(|| Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?.0))?;
        self.listen().ok()
    }

    /// The number of the eventfd, which may name a file of the program's by now.
    pub fn eventfd(&self) -> RawFd {
        self.eventfd.get()
    }

    /// Whether the program has closed neither descriptor.
    pub fn is_there(&self) -> bool {
        self.eventfd.is_at(self.eventfd.get()) && self.epoll.is_at(self.epoll.get())
    }

    /// Gives one of the descriptors another number. The lock of `Kaio::state` is held.
    pub fn release_number(&self, fd: RawFd) {
        let is_eventfd = fd == self.eventfd.get();
        if is_eventfd && self.is_there() {
            // Its file stays open, so the epoll would go on with this number.
            self.listen_no_more();
        }
        self.eventfd.release_number(fd);
        self.epoll.release_number(fd);
        if is_eventfd {
            let _ = self.listen();
        }
    }

    pub fn close(&self) {
        self.epoll.close();
        self.eventfd.close();
    }

    /// Wakes the thread that waits, or the next thread that is about to wait. Writes nothing, because the program may have its own files at
    /// these numbers now. False: it has, or it has closed them.
    pub fn ring(&self) -> bool {
        self.change(libc::EPOLL_CTL_MOD).is_ok()
    }

    fn listen(&self) -> Result<()> {
        self.change(libc::EPOLL_CTL_ADD)
    }

    fn listen_no_more(&self) {
        let _ = self.change(libc::EPOLL_CTL_DEL);
    }

    fn change(&self, how: libc::c_int) -> Result<()> {
        if !self.is_there() {
            return Err(Errno::EBADF);
        }
        let mut rings = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 0,
        };
        let (epoll, eventfd) = (self.epoll.get(), self.eventfd.get());
        // SAFETY: a structure of ours.
        let ret = unsafe { libc::epoll_ctl(epoll, how, eventfd, &mut rings) };
        Errno::result(ret).map(drop)
    }

    /// Waits for a completion, `ns` at most.
    pub fn wait(&self, ns: u64) -> Waited {
        let mut rung = libc::epoll_event { events: 0, u64: 0 };
        let (epoll, ms) = (self.epoll.get(), (ns / 1_000_000) as libc::c_int);
        if !self.epoll.is_at(epoll) {
            std::thread::sleep(Duration::from_nanos(DEAF_NS.min(ns)));
            return Waited::TimedOut;
        }
        // Not libc's function: it is a cancellation point.
        // SAFETY: a structure of ours.
        let count = unsafe {
            let (nr, none) = (libc::SYS_epoll_pwait, ptr::null::<libc::sigset_t>());
            // The size is a whole word: the last argument is on the stack, and all of its word is passed on.
            libc::syscall(nr, epoll, &raw mut rung, 1, ms, none, 8usize)
        };
        match count {
            0 => Waited::TimedOut,
            1.. => Waited::Woken,
            // Or the program has closed it since.
            _ => Waited::Interrupted,
        }
    }
}
