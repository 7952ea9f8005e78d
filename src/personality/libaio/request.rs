//! What a request of this kind has beside its system call, from submit until its event.

use super::Shared;
use super::eventfd::{self, Eventfd, Told};
use super::files::{FileRef, fd_of};
use super::stats::Path;
use super::table::is_inside;
use crate::personality::instance::global;
use crate::queue::HoldFiles;
use crate::request::{Hints, Personality, Req, Tell};
use crate::sys::Result;
use crate::syscall::{Call, carrier};
use libc::iovec;
use nix::errno::Errno;
use std::alloc::{Layout, alloc, dealloc};
use std::os::fd::RawFd;
use std::ptr;

/// It lies behind the request's event. All of it is given back by `end`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extension {
    /// The program's number, which is its file's only as long as its io_submit() goes on.
    number: RawFd,
    iovec_count: u32,
    /// The file, a [`FileRef`], if others are to carry it out; else 0.
    file: usize,
    /// The library's copy of the program's vectors, or null.
    iovecs: *mut iovec,
    /// The eventfd to tell when it has completed.
    eventfd: Eventfd,
    /// I/O priority of this request alone.
    ioprio: Option<u16>,
    /// The kernel would have completed it within io_submit().
    pub at_once: bool,
    /// Who submits it may carry it out, if it is short.
    pub for_submitter: bool,
    /// CLOCK_MONOTONIC at submit, for the statistics; 0 without.
    submitted: u64,
    /// What the statistics know it by.
    path: Option<&'static Path>,
}

impl Extension {
    pub fn new(number: RawFd, submitted: u64, path: Option<&'static Path>) -> Extension {
        Extension {
            number,
            iovec_count: 0,
            file: 0,
            iovecs: ptr::null_mut(),
            eventfd: Eventfd::NONE,
            ioprio: None,
            at_once: false,
            for_submitter: false,
            submitted,
            path,
        }
    }

    /// The descriptor to use in this thread: of the library's own table, or, within the request's io_submit(), of the
    /// program's.
    pub fn fd(&self) -> RawFd {
        if self.file == 0 || !is_inside() {
            return self.number;
        }
        fd_of(self.file)
    }

    pub fn iovecs_at(&self) -> *mut iovec {
        self.iovecs
    }

    pub fn set_eventfd(&mut self, eventfd: Eventfd) {
        self.eventfd = eventfd;
    }

    /// What the core needs to know.
    pub fn hints(&self) -> Hints {
        Hints::NONE
            .at_once(self.at_once)
            .for_submitter(self.for_submitter)
            .asks_ioprio(self.ioprio.is_some())
            .is_counted(self.is_counted())
            .has_eventfd(self.eventfd.is_some())
    }

    /// Makes its eventfd one that others can tell.
    pub fn hold_eventfd(&mut self, shared: &'static Shared) -> Result<()> {
        if self.eventfd.is_some() {
            match shared.files.hold(&shared.table, self.eventfd.number()) {
                Ok(file) => self.eventfd.hold(file),
                Err(_) if shared.table.is_refused() => self.eventfd.lend()?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The statistics want to know when it is carried out.
    fn is_counted(&self) -> bool {
        self.submitted != 0
    }

    pub fn set_ioprio(&mut self, ioprio: u16) {
        self.ioprio = Some(ioprio);
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
    pub fn end(&mut self) -> Option<Told> {
        // SAFETY: each was made by `into_raw` or `alloc`, and is taken out here, once.
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
        }
        self.eventfd.take()
    }
}

/// Holds the files and the eventfds of the requests of one submit, most of which name the same.
pub struct Holder {
    shared: &'static Shared,
    file: Held,
    eventfd: Held,
}

/// What was held last.
#[derive(Default)]
struct Held(Option<(RawFd, FileRef)>);

impl Held {
    fn hold(&mut self, shared: &'static Shared, number: RawFd) -> Result<FileRef> {
        if let Some((last, file)) = &self.0
            && *last == number
        {
            return Ok(file.again());
        }
        let file = shared.files.hold(&shared.table, number)?;
        let again = file.again();
        self.0 = Some((number, file));
        Ok(again)
    }
}

impl Holder {
    pub fn new(shared: &'static Shared) -> Holder {
        Holder {
            shared,
            file: Held::default(),
            eventfd: Held::default(),
        }
    }
}

impl HoldFiles for Holder {
    fn release(&mut self) {
        *self = Holder::new(self.shared);
    }

    fn hold_for(&mut self, req: &mut Req) -> Result<()> {
        let shared = self.shared;
        let Some(extension) = req.of_libaio_mut() else {
            return Ok(());
        };
        if extension.eventfd.is_some() && !extension.eventfd.is_held() {
            let number = extension.eventfd.number();
            extension.eventfd.hold(self.eventfd.hold(shared, number)?);
        }
        if extension.file == 0 {
            extension.file = self.file.hold(shared, extension.number)?.into_raw();
        }
        // From here on it stands for the file.
        let place = extension.file as u64;
        req.set_file(place);
        Ok(())
    }
}

impl Req {
    fn of_libaio(&self) -> Option<&Extension> {
        // SAFETY: what has an extension is a request of this kind.
        unsafe { self.extension() }
    }

    fn of_libaio_mut(&mut self) -> Option<&mut Extension> {
        // SAFETY: as above.
        unsafe { self.extension_mut() }
    }
}

/// What the core asks of requests of this kind.
pub static PERSONALITY: Personality = Personality {
    fd: |req| req.of_libaio().map_or(-1, Extension::fd),
    execute,
    count,
    call_inside,
    make_inside,
    ended: |req| req.of_libaio_mut()?.end().map(Tell::new::<Told>),
    tell: eventfd::tell,
    give_back: eventfd::give_back,
};

/// The system call of a request of this kind, with the descriptor that its file has in this thread's table. None: it
/// is none.
fn call_here(req: &Req) -> Option<Call> {
    let mut call = *req.call();
    call.args[0] = req.of_libaio()?.fd() as u64;
    Some(call)
}

/// The same of one whose file is held, in a thread that has the library's own table.
fn call_inside(call: &Call) -> Call {
    let mut call = *call;
    // A held file stands for itself (`hold_for`); the request is not over.
    call.args[0] = fd_of(call.args[0] as usize) as u64;
    call
}

/// Makes the call of a request that has been left behind: in the library's own table if its file is held there, else with
/// the program's descriptor, whose io_submit() does not go on.
fn make_inside(call: &Call, make: fn(&Call) -> i64) {
    let is_held = call.args[0] > u64::from(u32::MAX);
    if !is_held {
        make(call);
        return;
    }
    struct Left<'a>(&'a Call, fn(&Call) -> i64);
    fn job(left: usize) -> Result<i64> {
        // SAFETY: what is given below, by one who waits for this.
        let Left(call, make) = unsafe { &*(left as *const Left) };
        make(&call_inside(call));
        Ok(0)
    }
    if let Some(global) = global() {
        let left = Left(call, make);
        let _ = global.libaio.table.run(job, ptr::from_ref(&left) as usize);
    }
}

/// Carries out a request of this kind: the system call with the request's I/O priority.
fn execute(req: &mut Req, make: fn(&Call) -> i64) {
    let (Some(call), Some(extension)) = (call_here(req), req.of_libaio().copied()) else {
        return;
    };
    let began = if extension.is_counted() {
        crate::sys::monotonic_ns()
    } else {
        0
    };
    let before = match extension.ioprio {
        // It is one that io_submit has asked the kernel about. Should the process have lost the right
        // to it since, the request goes without.
        Some(ioprio) => carrier::lend_ioprio(ioprio).unwrap_or(None),
        None => {
            carrier::settle();
            None
        }
    };
    req.set_res(make(&call));
    if let Some(before) = before {
        carrier::restore(before);
    }
    count(req, began);
}

/// A request that was `began` then has its result: for the statistics, if there are any.
fn count(req: &Req, began: u64) {
    let Some(extension) = req.of_libaio() else {
        return;
    };
    // One that was interrupted will be carried out once more.
    let over = req.res() != -i64::from(libc::EINTR);
    if over && let Some(path) = extension.path.filter(|_| extension.is_counted()) {
        path.count(req.call(), req.res(), extension.submitted, began);
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
