use crate::attr::low;
use crate::request::ROOM_WORDS;
use crate::{Event, Id, Request, ffi};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io, mem, ptr};

/// The parameters of a context. Zeros are the defaults.
#[derive(Debug, Clone, Default)]
pub struct Builder<'fd> {
    ring_bytes: u32,
    max_requests: u32,
    workers: u32,
    eventfd: Option<BorrowedFd<'fd>>,
}

impl<'fd> Builder<'fd> {
    /// Bytes of events that the ring holds: 64 KiB by default. More events than fit are not lost.
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Most requests in flight: 65536 by default.
    pub fn max_requests(mut self, requests: u32) -> Self {
        self.max_requests = requests;
        self
    }

    /// Most worker threads for this context's requests at a time: as many as are needed by default.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// At least 1 is added to this eventfd after events have come, for a program that polls. The context keeps a duplicate.
    pub fn eventfd(mut self, eventfd: BorrowedFd<'fd>) -> Self {
        self.eventfd = Some(eventfd);
        self
    }

    /// Makes the context. Errors: those of io_setup2(3).
    pub fn build(self) -> io::Result<Context> {
        let mut params = ffi::Params {
            bytes: size_of::<ffi::Params>() as u32,
            flags: 0,
            ring_bytes: self.ring_bytes,
            max_requests: self.max_requests,
            workers: self.workers,
            eventfd: self.eventfd.map_or(-1, |fd| fd.as_raw_fd()),
            features: 0,
            reserved: [0; 4],
        };
        let mut ring = ptr::null_mut();
        // SAFETY: both are ours, and `ring` is null.
        check(unsafe { ffi::io_setup2(ffi::VERSION, &mut params, &mut ring) } as isize)?;
        Ok(Context {
            ring,
            requests: Mutex::default(),
            events: Mutex::default(),
            back: Condvar::new(),
        })
    }
}

/// Takes requests and gives an event for each. Any number of threads may use it at once.
///
/// Dropping it cancels requests that have not begun, interrupts those that can be interrupted, waits for the rest, and then drops all
/// requests with their buffers, and the events that were not taken.
pub struct Context {
    ring: *mut ffi::Ring,
    /// In flight: accepted, its event not taken. Here they are owned, whatever becomes of the context: if it is forgotten, so are they.
    requests: Mutex<HashMap<Id, Request>>,
    events: Mutex<Taken>,
    /// The one that waits in the library for events has come back.
    back: Condvar,
}

// SAFETY: any thread may call any function of the library on one context at once.
unsafe impl Send for Context {}
// SAFETY: as above; the rest has locks.
unsafe impl Sync for Context {}

/// Events that have been taken from the ring, and not yet out of here.
#[derive(Default)]
struct Taken {
    words: Vec<u64>,
    at: usize,
    end: usize,
    /// A thread waits in the library, and has the words. One alone: the event of the last request ends the wait of all.
    one_waits: bool,
}

fn check(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::from_raw_os_error(-ret as i32))
}

/// Nothing here panics while it holds a lock, except if memory is missing, and then the guarded data is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A context with the defaults.
    pub fn new() -> io::Result<Context> {
        Context::builder().build()
    }

    /// To choose the properties of the context.
    pub fn builder<'fd>() -> Builder<'fd> {
        Builder::default()
    }

    /// Submits the requests in their order, and returns how many were accepted: those have been removed from the front of `requests`, the
    /// rest is still there. Never waits for I/O.
    ///
    /// An error only if none was accepted: [`io::ErrorKind::WouldBlock`] if as many as the context allows are in flight (take some
    /// events first).
    pub fn submit(&self, requests: &mut Vec<Request>) -> io::Result<usize> {
        if requests.is_empty() {
            return Ok(0);
        }
        let records: Vec<u64> = requests.iter().flat_map(Request::record).copied().collect();
        let order: Vec<(Id, usize)> = requests
            .iter()
            .map(|request| (request.id(), request.record().len() * 8))
            .collect();
        // Before they are submitted: the event of the first may be taken before the call returns.
        lock(&self.requests).extend(requests.drain(..).map(|request| (request.id(), request)));
        // SAFETY: the records are complete, and what they point to is owned by the requests, which stay in the table until their event.
        let ret = check(unsafe {
            ffi::io_submit2(self.ring, records.as_ptr(), size_of_val(&records[..]))
        });
        let mut left = *ret.as_ref().unwrap_or(&0);
        let accepted = order
            .iter()
            .take_while(|(_, bytes)| left.checked_sub(*bytes).map(|rest| left = rest).is_some())
            .count();
        if accepted < order.len() {
            let mut table = lock(&self.requests);
            requests.extend(
                order[accepted..]
                    .iter()
                    .filter_map(|(id, _)| table.remove(id)),
            );
            if table.is_empty() {
                // A thread may wait for those that were not accepted, having seen them: an event of nobody's sends it back.
                let nop = Request::nop();
                // SAFETY: a complete record, which points to nothing.
                unsafe {
                    ffi::io_submit2(self.ring, nop.record().as_ptr(), size_of_val(nop.record()))
                };
            }
        }
        ret.map(|_| accepted)
    }

    /// Submits one request, and returns its name. One that is not accepted comes back with the error.
    pub fn submit_one(&self, request: Request) -> Result<Id, (io::Error, Request)> {
        let id = request.id();
        let mut one = vec![request];
        match (self.submit(&mut one), one.pop()) {
            (Err(error), Some(request)) => Err((error, request)),
            (Ok(0), Some(request)) => Err((io::ErrorKind::WouldBlock.into(), request)),
            _ => Ok(id),
        }
    }

    /// Waits for the next event: `None` if nothing is in flight, or none has come when `timeout` has passed (`None`: no limit).
    pub fn next(&self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut taken = lock(&self.events);
        loop {
            while taken.at < taken.end {
                let words = low(taken.words[taken.at]) as usize / 8;
                let event = taken.at..taken.at + words;
                taken.at += words;
                let event = &taken.words[event];
                // One of nobody's: see `submit`.
                let request = lock(&self.requests).remove(&Id(event[1]));
                if let Some(request) = request {
                    return Ok(Some(Event::new(request, event)));
                }
            }
            if lock(&self.requests).is_empty() {
                return Ok(None);
            }
            if taken.one_waits {
                taken = match left() {
                    None => self
                        .back
                        .wait(taken)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(Duration::ZERO) => return Ok(None),
                    Some(left) => {
                        self.back
                            .wait_timeout(taken, left)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                };
                continue;
            }
            taken.one_waits = true;
            let mut words = mem::take(&mut taken.words);
            drop(taken);
            words.resize(ROOM_WORDS, 0);
            let limit = left().map(|left| libc::timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: the words are ours, and as many as is said.
            let ret = unsafe {
                ffi::io_getevents2(
                    self.ring,
                    1,
                    words.as_mut_ptr(),
                    size_of_val(&words[..]),
                    limit,
                )
            };
            taken = lock(&self.events);
            (taken.words, taken.one_waits) = (words, false);
            (taken.at, taken.end) = (0, usize::try_from(ret).unwrap_or(0) / 8);
            self.back.notify_all();
            match check(ret) {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// The events of all requests in flight, as they come; ends when none is in flight. Requests may be submitted meanwhile,
    /// also by the thread that iterates.
    pub fn events(&self) -> Events<'_> {
        Events { context: self }
    }

    /// How many requests are in flight, or have an event that nobody has taken.
    pub fn in_flight(&self) -> usize {
        lock(&self.requests).len()
    }

    /// Takes a request out if it has not begun, or interrupts its system call if that may wait for somebody else; its event says how it ended.
    ///
    /// Errors: `EALREADY` if it runs and cannot be interrupted; [`io::ErrorKind::NotFound`] if it has ended, or is none of this context's.
    pub fn cancel(&self, id: Id) -> io::Result<()> {
        // SAFETY: the context is there as long as we are.
        check(unsafe { ffi::io_cancel2(self.ring, id.0) } as isize).map(drop)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nobody else has it any more. When the call returns nothing writes to the requests' buffers, which are dropped afterwards;
        // in the child of a fork it returns an error, and there nothing ever does.
        unsafe { ffi::io_destroy2(self.ring) };
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// Made by [`Context::events`].
#[derive(Debug)]
pub struct Events<'a> {
    context: &'a Context,
}

impl Iterator for Events<'_> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<io::Result<Event>> {
        self.context.next(None).transpose()
    }
}
