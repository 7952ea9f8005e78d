//! What a request of this kind has beside its system call, from submit until its event.

use super::files::FileRef;
use crate::carrier;
use crate::request::Req;
use crate::sys::{Result, add_to_eventfd, poll_now, write_eventfd};
use libc::iovec;
use nix::errno::Errno;
use std::alloc::{Layout, alloc, dealloc};
use std::os::fd::RawFd;
use std::ptr;

/// It lies behind the request's event. All of it is given back by `ended`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Side {
    /// A [`FileRef`].
    file: usize,
    /// The eventfd to tell when it has completed: a [`FileRef`], or 0.
    resfd: usize,
    /// The library's copy of the program's vectors, or null.
    iovecs: *mut iovec,
    iovec_count: u32,
    /// I/O priority of this request alone.
    ioprio: Option<u16>,
    /// The kernel would have completed it within io_submit().
    pub at_once: bool,
    /// Who submits it may carry it out, if it is short.
    pub for_submitter: bool,
    /// CLOCK_MONOTONIC at submit, for the statistics; 0 without.
    submitted: u64,
}

impl Side {
    pub fn new(file: FileRef, submitted: u64) -> Side {
        Side {
            file: file.into_raw(),
            resfd: 0,
            iovecs: ptr::null_mut(),
            iovec_count: 0,
            ioprio: None,
            at_once: false,
            for_submitter: false,
            submitted,
        }
    }

    /// The descriptor to use.
    pub fn fd(&self) -> RawFd {
        // SAFETY: made by `into_raw`, and only looked at.
        unsafe { std::mem::ManuallyDrop::new(FileRef::from_raw(self.file)).fd() }
    }

    pub fn iovecs_at(&self) -> *mut iovec {
        self.iovecs
    }

    pub fn set_resfd(&mut self, resfd: FileRef) {
        self.resfd = resfd.into_raw();
    }

    pub fn has_eventfd(&self) -> bool {
        self.resfd != 0
    }

    pub fn asks_ioprio(&self) -> bool {
        self.ioprio.is_some()
    }

    /// The statistics want to know when it is carried out.
    pub fn is_counted(&self) -> bool {
        self.submitted != 0
    }

    pub fn set_ioprio(&mut self, ioprio: u16) {
        self.ioprio = Some(ioprio);
    }

    /// Tells its open file from others.
    pub fn file(&self) -> usize {
        self.file
    }

    /// Of no file.
    #[cfg(test)]
    pub fn for_test() -> Side {
        Side {
            file: 0,
            resfd: 0,
            iovecs: ptr::null_mut(),
            iovec_count: 0,
            ioprio: None,
            at_once: false,
            for_submitter: false,
            submitted: 0,
        }
    }

    /// Makes room for a copy of vectors.
    pub fn iovecs(&mut self, count: usize) -> Result<*mut iovec> {
        let layout = Layout::array::<iovec>(count).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the layout is not empty: callers have at least one.
        let at = unsafe { alloc(layout) }.cast::<iovec>();
        if at.is_null() {
            return Err(Errno::ENOMEM);
        }
        self.iovecs = at;
        self.iovec_count = count as u32;
        Ok(at)
    }

    /// Gives back what it holds; what is left is the eventfd to tell.
    pub fn end(&mut self) -> Option<FileRef> {
        // SAFETY: each was made by `into_raw`, and is taken out here, once.
        unsafe {
            if self.file != 0 {
                drop(FileRef::from_raw(std::mem::take(&mut self.file)));
            }
            if !self.iovecs.is_null()
                && let Ok(layout) = Layout::array::<iovec>(self.iovec_count as usize)
            {
                dealloc(self.iovecs.cast(), layout);
                self.iovecs = ptr::null_mut();
            }
            let resfd = std::mem::take(&mut self.resfd);
            (resfd != 0).then(|| FileRef::from_raw(resfd))
        }
    }
}

/// Carries out a request of this kind: `system_call` with the request's I/O priority.
pub fn execute(req: &mut Req, system_call: impl FnOnce() -> i64) {
    let Some(side) = req.side().copied() else {
        return;
    };
    let began = if side.is_counted() {
        crate::sys::monotonic_ns()
    } else {
        0
    };
    let before = match side.ioprio {
        // It is one that io_submit has asked the kernel about. Should the process have lost the right
        // to it since, the request goes without.
        Some(ioprio) => carrier::lend_ioprio(ioprio).unwrap_or(None),
        None => {
            carrier::settle();
            None
        }
    };
    req.set_res(system_call());
    if let Some(before) = before {
        carrier::restore(before);
    }
    count(req, began);
}

/// A request that was `began` then has its result: for the statistics, if there are any.
pub fn count(req: &Req, began: u64) {
    let Some(side) = req.side() else { return };
    // One that was interrupted will be carried out once more.
    let over = req.res() != -i64::from(libc::EINTR);
    if over && side.is_counted() && side.file != 0 {
        // SAFETY: the request's own, which it keeps: forgotten here, so that it is not given back.
        let file = std::mem::ManuallyDrop::new(unsafe { FileRef::from_raw(side.file) });
        if let Some(global) = crate::process::global() {
            let stats = &global.libaio.stats;
            stats.count(&file, req.call(), req.res(), side.submitted, began);
        }
    }
}

/// The request has its result, and nothing more is done for it. Its file is given back before its
/// event can be seen. What comes back is to be told after that.
pub fn ended(req: &mut Req) -> Option<FileRef> {
    req.side_mut()?.end()
}

/// Adds 1 to each eventfd, for one event.
pub fn tell(resfds: &[FileRef]) {
    for same in resfds.chunk_by(FileRef::is_same) {
        tell_one(&same[0], same.len());
    }
}

fn tell_one(resfd: &FileRef, events: usize) {
    let fd = resfd.fd();
    let nonblocking = resfd.kind().nonblocking;
    if nonblocking && add_to_eventfd(fd, events as u64) {
        return;
    }
    for _ in 0..events {
        // At its maximum a write would wait for somebody to read.
        if nonblocking || poll_now(fd, libc::POLLOUT) {
            write_eventfd(fd);
        }
    }
}

/// What the kernel says of a priority: asked for a process that does not exist, which is looked for
/// last.
pub fn check_ioprio(ioprio: u16) -> Result<()> {
    const NOBODY: i32 = i32::MAX;
    match carrier::set_ioprio(NOBODY, ioprio) {
        Err(errno @ (Errno::EINVAL | Errno::EPERM)) => Err(errno),
        _ => Ok(()),
    }
}
