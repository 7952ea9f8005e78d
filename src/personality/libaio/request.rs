//! The extension of libaio's requests: the data that such a request has beside its system call, from submit until its event.

use super::Shared;
use super::eventfd::{self, EndedEventfd, Eventfd};
use super::files::{FileRef, REMEMBERED, fd_of};
use super::rights::SameRights;
use super::stats::Path;
use super::table::is_inside;
use crate::personality::instance::global;
use crate::policy::route::Route;
use crate::queue::HoldFiles;
use crate::request::{Hints, Notification, Personality, Req};
use crate::sys::preload;
use crate::sys::private_fd::{self, Making};
use crate::sys::{Result, file_type, has_call_filter};
use crate::syscall::{Call, Tried, carrier};
use arrayvec::ArrayVec;
use libc::{c_long, c_short, iovec};
use nix::errno::Errno;
use std::alloc::{Layout, alloc, dealloc};
use std::cell::OnceCell;
use std::os::fd::RawFd;
use std::ptr;

/// It lies behind the request's event. `end` releases all that it holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extension {
    /// The program's number. It certainly names the request's file only within its io_submit().
    number: RawFd,
    iovec_count: u32,
    /// The file, a [`FileRef`], if another thread must carry the request out; else 0.
    file: usize,
    /// The library's copy of the program's vectors, or null.
    iovecs: *mut iovec,
    /// The eventfd to which 1 is added when the request has completed.
    eventfd: Eventfd,
    /// I/O priority of this request only.
    ioprio: Option<u16>,
    /// The kernel would have completed it within io_submit().
    pub at_once: bool,
    /// The submitter may carry it out, if it is short.
    pub for_submitter: bool,
    /// It waits until its file is ready, and does nothing else.
    awaits_file: bool,
    /// If there is no other table, `number` is a duplicate in the program's.
    is_lent: bool,
    /// CLOCK_MONOTONIC at submit, for the statistics; 0 if there are none.
    submitted: u64,
    /// Its file in the statistics.
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
            awaits_file: false,
            is_lent: false,
            submitted,
            path,
        }
    }

    /// The descriptor to use in this thread: in the library's own table, or, within the request's io_submit(), in the program's.
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

    /// The facts that the core needs.
    pub fn hints(&self) -> Hints {
        Hints::NONE
            .at_once(self.at_once)
            .for_submitter(self.for_submitter)
            .asks_ioprio(self.ioprio.is_some())
            .is_counted(self.is_counted())
            .has_eventfd(self.eventfd.is_some())
            .awaits_file(self.awaits_file)
    }

    /// Holds the files of a request that waits for its file. False: there is no other table, so duplicates in the program's stand for them.
    /// As a rule, files that can be polled have no record locks, and the kernel's AIO would hold the file, too.
    pub fn hold(&mut self, shared: &'static Shared) -> Result<bool> {
        self.awaits_file = true;
        match shared.files.hold_separately(&shared.table, self.number) {
            Ok(file) => self.file = file.into_raw(),
            Err(_) if shared.table.is_refused() => {
                let _making = Making::begin();
                self.number = private_fd::lend(self.number)?;
                self.is_lent = true;
            }
            Err(errno) => return Err(errno),
        }
        if self.eventfd.is_some() {
            match shared.files.hold(&shared.table, self.eventfd.number()) {
                Ok(file) => self.eventfd.hold(file),
                Err(_) if self.is_lent => self.eventfd.lend()?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(!self.is_lent)
    }

    /// Whether the statistics need the time at which it is carried out.
    fn is_counted(&self) -> bool {
        self.submitted != 0
    }

    pub fn set_ioprio(&mut self, ioprio: u16) {
        self.ioprio = Some(ioprio);
    }

    /// Allocates memory for a copy of vectors.
    pub fn iovecs(&mut self, count: usize) -> Result<*mut iovec> {
        let layout = Layout::array::<iovec>(count).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the layout is not empty, because callers have at least one vector.
        let at = unsafe { alloc(layout) }.cast::<iovec>();
        if at.is_null() {
            return Err(Errno::ENOMEM);
        }
        self.iovecs = at;
        self.iovec_count = count as u32;
        Ok(at)
    }

    /// Releases all that it holds, except the eventfd to signal, which is returned.
    pub fn end(&mut self) -> Option<EndedEventfd> {
        // SAFETY: each was made by `into_raw` or `alloc`, and is taken out only here, once.
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
        if std::mem::take(&mut self.is_lent) {
            private_fd::close(self.number);
        }
        self.eventfd.detach()
    }
}

/// Holds the files and eventfds of one submit's requests. Most of them name the same few.
pub struct Holder {
    shared: &'static Shared,
    /// The ones that were held last, and their numbers.
    held: ArrayVec<(RawFd, FileRef), REMEMBERED>,
    rights: OnceCell<SameRights>,
}

impl Holder {
    pub fn new(shared: &'static Shared) -> Holder {
        Holder {
            shared,
            held: ArrayVec::new(),
            rights: OnceCell::new(),
        }
    }

    fn hold(&mut self, number: RawFd) -> Result<FileRef> {
        if let Some((_, file)) = self.held.iter().find(|held| held.0 == number) {
            return Ok(file.again());
        }
        let file = self.shared.files.hold(&self.shared.table, number)?;
        let again = file.again();
        if self.held.is_full() {
            self.held.remove(0);
        }
        self.held.push((number, file));
        Ok(again)
    }
}

impl HoldFiles for Holder {
    fn release(&mut self) {
        self.held.clear();
    }

    fn hold_for(&mut self, req: &mut Req) -> Result<()> {
        let Some(extension) = req.of_libaio_mut() else {
            return Ok(());
        };
        if extension.is_lent {
            return Err(Errno::EPERM);
        }
        let look = || SameRights::look(&self.shared.table);
        if !extension.awaits_file && !self.rights.get_or_init(look).is_true {
            return Err(Errno::EPERM);
        }
        if extension.eventfd.is_some() && !extension.eventfd.is_held() {
            let number = extension.eventfd.number();
            extension.eventfd.hold(self.hold(number)?);
        }
        if extension.file == 0 {
            extension.file = self.hold(extension.number)?.into_raw();
        }
        // From here on this value stands for the file.
        let place = extension.file as u64;
        req.set_file(place);
        Ok(())
    }
}

impl Req {
    fn of_libaio(&self) -> Option<&Extension> {
        // SAFETY: only requests of this personality have an extension.
        unsafe { self.extension() }
    }

    fn of_libaio_mut(&mut self) -> Option<&mut Extension> {
        // SAFETY: as above.
        unsafe { self.extension_mut() }
    }
}

/// The functions that the core calls for requests of this kind.
pub static PERSONALITY: Personality = Personality {
    fd: |req| req.of_libaio().map_or(-1, Extension::fd),
    execute,
    try_to_execute,
    ready,
    cancelled: |req| {
        // As with the kernel, a request that only waits has no events then.
        if req.awaits_file() {
            req.set_res(0);
        }
    },
    count,
    call_inside,
    make_inside,
    ended: |req| {
        req.of_libaio_mut()?
            .end()
            .map(Notification::new::<EndedEventfd>)
    },
    notify: eventfd::notify,
    give_back: eventfd::give_back,
};

/// The system call of a request of this kind, with the descriptor that its file has in this thread's table. None: the request is of
/// another kind.
fn call_here(req: &Req) -> Option<Call> {
    let mut call = *req.call();
    call.args[0] = req.of_libaio()?.fd() as u64;
    Some(call)
}

/// The same for a request whose file is held, in a thread that has the library's own table.
fn call_inside(call: &Call) -> Call {
    let mut call = *call;
    // The argument is the held file (`hold_for`), which stays held because the request has not ended.
    call.args[0] = fd_of(call.args[0] as usize) as u64;
    call
}

/// Makes the call of an abandoned request: in the library's own table if its file is held there, else with the program's descriptor,
/// because the thread in its io_submit() never goes on.
fn make_inside(call: &Call, make: fn(&Call) -> i64) {
    let is_held = call.args[0] > u64::from(u32::MAX);
    if !is_held {
        make(call);
        return;
    }
    struct Abandoned<'a>(&'a Call, fn(&Call) -> i64);
    fn job(abandoned: usize) -> Result<i64> {
        // SAFETY: the address of `abandoned` below, whose owner waits for this job.
        let Abandoned(call, make) = unsafe { &*(abandoned as *const Abandoned) };
        make(&call_inside(call));
        Ok(0)
    }
    if let Some(global) = global() {
        let abandoned = Abandoned(call, make);
        let _ = global
            .libaio
            .table
            .run(job, ptr::from_ref(&abandoned) as usize);
    }
}

/// Only requests that wait for their files are tried. A regular file may report an event only once, and epoll would ask it twice; so a
/// thread waits for it.
fn try_to_execute(req: &Req) -> Tried {
    let Some(Call { args, .. }) = call_here(req) else {
        return Tried::MayWait { moved: 0 };
    };
    let fd = args[0] as RawFd;
    if is_inside() && file_type(fd) == libc::S_IFREG {
        return Tried::MayWait { moved: 0 };
    }
    Tried::Waits(fd, args[1] as c_short)
}

fn ready(req: &mut Req, events: Result<c_short>) {
    let res = match events {
        Ok(events) => i64::from(events as u16),
        Err(Errno::EPERM) => -i64::from(libc::EINVAL),
        Err(errno @ Errno::EBADF) => -(errno as i64),
        Err(_) => -i64::from(libc::EAGAIN),
    };
    if res < 0 {
        req.set_route(Route::NotMade);
    }
    req.set_res(res);
}

/// Waits in this thread until the request's file is ready.
fn wait_for_file(req: &mut Req, call: &Call, make: fn(&Call) -> i64) {
    let [fd, events, ..] = call.args;
    let fd = fd as RawFd;
    if fd < 0 {
        // It has not arrived, and ppoll(2) would wait for nothing.
        return req.set_res(-i64::from(libc::EBADF));
    }
    let mut file = libc::pollfd {
        fd,
        events: events as c_short,
        revents: 0,
    };
    let args = [&raw mut file as u64, 1, 0, 0, 0, 0];
    match make(&Call::new(libc::SYS_ppoll as u32, args)) {
        // It was cancelled.
        ..0 => req.set_res(0),
        _ => req.set_res(i64::from(file.revents as u16)),
    }
}

const NOT_SUPPORTED: i64 = -(libc::EOPNOTSUPP as i64);

/// The same write, which appends or not as it did when it was submitted. None: nothing has to be kept. `one`: room for its buffer.
fn as_submitted(call: &Call, one: &mut iovec) -> Option<Call> {
    // Within io_submit() the flags are those still.
    let is_past_cache = call.key.facts().is_some_and(|facts| facts.direct);
    if !is_inside() || preload::sees_flags() && !is_past_cache {
        return None;
    }
    let flag = call.append_flag();
    // A filter may not know the call.
    if flag == 0 || has_call_filter() {
        return None;
    }
    let [fd, at, count, offset, high, flags] = call.args;
    let args = if c_long::from(call.nr) == libc::SYS_pwrite64 {
        one.iov_base = at as *mut libc::c_void;
        one.iov_len = count as usize;
        [fd, ptr::from_mut(one) as u64, 1, offset, 0, flag.into()]
    } else {
        [fd, at, count, offset, high, flags | u64::from(flag)]
    };
    Some(Call {
        nr: libc::SYS_pwritev2 as u32,
        args,
        ..*call
    })
}

/// Carries out a request of this kind: makes the system call with the request's I/O priority.
fn execute(req: &mut Req, make: fn(&Call) -> i64) {
    let (Some(call), Some(extension)) = (call_here(req), req.of_libaio().copied()) else {
        return;
    };
    if extension.awaits_file {
        return wait_for_file(req, &call, make);
    }
    let began = if extension.is_counted() {
        crate::sys::monotonic_ns()
    } else {
        0
    };
    let before = match extension.ioprio {
        // At io_submit() the kernel allowed this priority. If the process has lost the right since, the request goes without it.
        Some(ioprio) => carrier::lend_ioprio(ioprio).unwrap_or(None),
        None => {
            carrier::settle();
            None
        }
    };
    let mut one = iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let res = match as_submitted(&call, &mut one).map(|call| make(&call)) {
        // The file does not know any flag.
        None | Some(NOT_SUPPORTED) => make(&call),
        Some(res) => res,
    };
    req.set_res(res);
    if let Some(before) = before {
        carrier::restore(before);
    }
    count(req, began);
}

/// Counts a request that has its result, if there are statistics. `began`: when its call began.
fn count(req: &Req, began: u64) {
    let Some(extension) = req.of_libaio() else {
        return;
    };
    // If it was interrupted, it will be carried out once more.
    let over = req.res() != -i64::from(libc::EINTR);
    if over && let Some(path) = extension.path.filter(|_| extension.is_counted()) {
        path.count(req.call(), req.res(), extension.submitted, began);
    }
}

/// Asks the kernel whether it allows a priority. The process in question does not exist, but the kernel looks for that last.
pub fn check_ioprio(ioprio: u16) -> Result<()> {
    const NOBODY: i32 = i32::MAX;
    match carrier::set_ioprio(NOBODY, ioprio) {
        Err(errno @ (Errno::EINVAL | Errno::EPERM)) => Err(errno),
        _ => Ok(()),
    }
}
