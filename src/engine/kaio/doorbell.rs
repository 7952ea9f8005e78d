//! How the kernel wakes the reaper.

use crate::sys::private_fd::{self, Making, NO_FILE};
use crate::sys::{Result, Waited};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// If the reaper cannot be woken any more, it looks at the ring this often.
const DEAF_NS: u64 = 1_000_000;

/// The doorbell of the reaper. The reaper sleeps in epoll_wait(2) and reads nothing: the program may have closed these descriptors and may
/// use their numbers for its own files, from which nothing must be read.
pub struct Doorbell {
    pub eventfd: AtomicI32,
    /// It contains that eventfd alone, edge-triggered.
    epoll: AtomicI32,
}

impl Doorbell {
    pub const fn new() -> Doorbell {
        Doorbell {
            eventfd: AtomicI32::new(NO_FILE),
            epoll: AtomicI32::new(NO_FILE),
        }
    }

    /// Makes the descriptors. False: none can be obtained.
    pub fn open(&self) -> bool {
        let _making = Making::here();
        let make = || -> Result<(RawFd, RawFd)> {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            // Never 0, so that [`Doorbell::ring`] makes the epoll report it.
            let eventfd = EventFd::from_value_and_flags(1, flags)?;
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let eventfd = private_fd::duplicate(eventfd.as_fd().as_raw_fd())?;
            let made = private_fd::duplicate(epoll.0.as_raw_fd()).and_then(|epoll| {
                listen(epoll, eventfd)
                    .map(|()| epoll)
                    .inspect_err(|_| private_fd::close(epoll))
            });
            made.map(|epoll| (eventfd, epoll))
                .inspect_err(|_| private_fd::close(eventfd))
        };
        let made = make();
        if let Ok((eventfd, epoll)) = made {
            // Relaxed, like all here: numbers. Each user has since taken the lock of `Kaio::state`.
            self.eventfd.store(eventfd, Relaxed);
            self.epoll.store(epoll, Relaxed);
        }
        made.is_ok()
    }

    /// Gives one of the descriptors another number. The lock of `Kaio::state` is held.
    pub fn release_number(&self, fd: RawFd) {
        let (eventfd, epoll) = (self.eventfd.load(Relaxed), self.epoll.load(Relaxed));
        if fd == eventfd {
            let new = private_fd::duplicate(eventfd).unwrap_or(NO_FILE);
            if new != NO_FILE && listen(epoll, new).is_ok() {
                listen_no_more(epoll, eventfd);
            }
            self.eventfd.store(new, Relaxed);
            private_fd::close(eventfd);
        } else if fd == epoll {
            let new = private_fd::duplicate(epoll).unwrap_or(NO_FILE);
            self.epoll.store(new, Relaxed);
            private_fd::close(epoll);
        }
    }

    /// Closes the descriptors. If the program has closed them, their numbers may name files of the program's now, and stay open.
    pub fn close(&self) {
        let _making = Making::here();
        let [eventfd, epoll] = [&self.eventfd, &self.epoll].map(|fd| fd.swap(NO_FILE, Relaxed));
        if eventfd == NO_FILE {
            return;
        }
        // If both are still the library's, the epoll contains the eventfd.
        match listen(epoll, eventfd) {
            Err(Errno::EEXIST) => {
                private_fd::close(epoll);
                private_fd::close(eventfd);
            }
            Err(_) => {}
            Ok(()) => listen_no_more(epoll, eventfd),
        }
    }

    /// Wakes the thread that waits, or the next thread that is about to wait. Writes nothing, because the program may have its own files at
    /// these numbers now. False: it has, or it has closed them.
    pub fn ring(&self) -> bool {
        let (epoll, eventfd) = (self.epoll.load(Relaxed), self.eventfd.load(Relaxed));
        change(epoll, libc::EPOLL_CTL_MOD, eventfd).is_ok()
    }

    /// Waits for a completion, `ns` at most.
    pub fn wait(&self, ns: u64) -> Waited {
        let mut rung = libc::epoll_event { events: 0, u64: 0 };
        let (epoll, ms) = (self.epoll.load(Relaxed), (ns / 1_000_000) as libc::c_int);
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
            _ if Errno::last() == Errno::EINTR => Waited::Interrupted,
            _ => {
                // The program has closed it.
                std::thread::sleep(Duration::from_nanos(DEAF_NS.min(ns)));
                Waited::TimedOut
            }
        }
    }
}

fn listen(epoll: RawFd, eventfd: RawFd) -> Result<()> {
    change(epoll, libc::EPOLL_CTL_ADD, eventfd)
}

fn change(epoll: RawFd, how: libc::c_int, eventfd: RawFd) -> Result<()> {
    let mut rings = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET) as u32,
        u64: 0,
    };
    // SAFETY: a structure of ours.
    let ret = unsafe { libc::epoll_ctl(epoll, how, eventfd, &mut rings) };
    Errno::result(ret).map(drop)
}

fn listen_no_more(epoll: RawFd, eventfd: RawFd) {
    // SAFETY: integers.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, eventfd, ptr::null_mut()) };
}
