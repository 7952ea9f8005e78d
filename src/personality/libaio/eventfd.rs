//! The eventfd of a request (IOCB_FLAG_RESFD), to which 1 is added when the request has completed.
//!
//! The kernel's AIO holds the eventfd's context and not the open file. So if the program has closed its eventfd, no epoll reports it any
//! more. The library can only hold the file. So before it adds 1, it checks that the program still has the file.

use super::files::FileRef;
use super::table::is_inside;
use crate::request::Notification;
use crate::sys::private_fd::{self, Making};
use crate::sys::{Result, add_to_eventfd, has_call_filter, is_same_file, poll_now, write_eventfd};
use crate::syscall::carrier;
use nix::errno::Errno;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;

/// A request's eventfd, until the request has ended.
#[derive(Clone, Copy)]
pub struct Eventfd {
    /// The program's number, or -1 for none.
    number: RawFd,
    nonblocking: bool,
    /// The thread that has submitted the request: `number` is in its table.
    thread: u32,
    /// The file, a [`FileRef`], if other threads may have to add to it; else 0.
    held: usize,
    /// If there is no other table, a duplicate in the program's table; else -1.
    lent: RawFd,
}

/// A request's eventfd, when the request has ended.
pub struct EndedEventfd {
    number: RawFd,
    nonblocking: bool,
    thread: u32,
    held: Option<FileRef>,
    lent: RawFd,
}

impl Drop for EndedEventfd {
    fn drop(&mut self) {
        private_fd::close(self.lent);
    }
}

impl Eventfd {
    pub const NONE: Eventfd = Eventfd {
        number: -1,
        nonblocking: false,
        thread: 0,
        held: 0,
        lent: -1,
    };

    pub fn new(number: RawFd, nonblocking: bool) -> Eventfd {
        Eventfd {
            number,
            nonblocking,
            thread: carrier::tid(),
            held: 0,
            lent: -1,
        }
    }

    pub fn is_some(&self) -> bool {
        self.number >= 0
    }

    pub fn is_held(&self) -> bool {
        self.held != 0
    }

    pub fn number(&self) -> RawFd {
        self.number
    }

    pub fn hold(&mut self, file: FileRef) {
        self.held = file.into_raw();
    }

    /// Makes one more number for it in the program's table, which stays while other threads may add to it.
    pub fn lend(&mut self) -> Result<()> {
        let _making = Making::begin();
        self.lent = private_fd::lend(self.number)?;
        Ok(())
    }

    pub fn detach(&mut self) -> Option<EndedEventfd> {
        let Eventfd {
            number,
            nonblocking,
            thread,
            held,
            lent,
        } = std::mem::replace(self, Eventfd::NONE);
        (number >= 0).then(|| EndedEventfd {
            number,
            nonblocking,
            thread,
            // SAFETY: made by `into_raw`, and taken out only here, once.
            held: (held != 0).then(|| unsafe { FileRef::from_raw(held) }),
            lent,
        })
    }
}

impl EndedEventfd {
    fn is_same(&self, other: &EndedEventfd) -> bool {
        self.number == other.number
            && match (&self.held, &other.held) {
                (Some(one), Some(two)) => one.is_same(two),
                (None, None) => self.lent < 0 && other.lent < 0,
                _ => false,
            }
    }

    fn notify(&self, events: usize) {
        let fd = match &self.held {
            Some(file) if is_inside() => {
                let own = file.fd();
                if !self.program_has(own) {
                    return;
                }
                own
            }
            _ if self.lent >= 0 => {
                if !self.program_has(self.lent) {
                    return;
                }
                self.lent
            }
            _ => self.number,
        };
        if self.nonblocking && add_to_eventfd(fd, events as u64) {
            return;
        }
        for _ in 0..events {
            // If the counter is at its maximum, a write would wait for a reader.
            if self.nonblocking || poll_now(fd, libc::POLLOUT) {
                write_eventfd(fd);
            }
        }
    }

    /// Whether the program still has the eventfd that `own` names in this thread's table. True if that cannot be found out.
    fn program_has(&self, own: RawFd) -> bool {
        // A sandbox may not allow the call.
        if !has_call_filter() && is_same_file((self.thread, self.number), (carrier::tid(), own)) {
            return true;
        }
        let Some(id) = eventfd_id(format_args!("thread-self/fdinfo/{own}")) else {
            return true;
        };
        let thread = self.thread;
        let there = |number: &dyn std::fmt::Display| {
            let path = format_args!("self/task/{thread}/fdinfo/{number}");
            eventfd_id(path) == Some(id)
        };
        if there(&self.number) {
            return true;
        }
        // The program may have it under another number.
        let Ok(all) = std::fs::read_dir(format!("/proc/self/task/{thread}/fdinfo")) else {
            return true;
        };
        let mut any = false;
        for name in all.flatten().map(|entry| entry.file_name()) {
            any = true;
            let name = name.to_string_lossy();
            if name.parse().is_ok_and(private_fd::is_lent) {
                continue;
            }
            if there(&name) {
                return true;
            }
        }
        // A thread that has ended has no descriptors.
        !any
    }
}

/// The kernel's id of an eventfd, from a file of /proc.
fn eventfd_id(path: std::fmt::Arguments) -> Option<u64> {
    let mut name = [0u8; 64];
    write!(&mut name[..63], "/proc/{path}").ok()?;
    let mut text = [0u8; 512];
    // Called by syscall(), because libc's functions are cancellation points.
    // SAFETY: a C string, and a buffer of the size given.
    let got = unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags);
        Errno::result(fd).ok()?;
        let got = libc::syscall(libc::SYS_read, fd, text.as_mut_ptr(), text.len());
        libc::syscall(libc::SYS_close, fd);
        got
    };
    let text = std::str::from_utf8(&text[..usize::try_from(got).ok()?]).ok()?;
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-id:"))?;
    id.trim().parse().ok()
}

/// Adds 1 to each eventfd, for one event.
pub fn notify(all: &[Notification]) {
    // SAFETY: `ended` of this personality has made them, of this type only.
    let all = unsafe { Notification::all::<EndedEventfd>(all) };
    for same in all.chunk_by(|one, other| one.is_same(other)) {
        same[0].notify(same.len());
    }
}

/// Releases the file that one of them holds. Called once.
pub fn give_back(notification: &mut Notification) {
    // SAFETY: as above; the caller promises to call it once.
    unsafe { ManuallyDrop::drop(notification.as_mut::<EndedEventfd>()) };
}
