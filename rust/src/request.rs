use crate::attr::{high, low, pair, sealed};
use crate::{Answer, Buffer, ffi};
use libc::{SYS_fdatasync, SYS_fsync, SYS_pread64, SYS_pwrite64, SYS_read, SYS_write, c_long};
use std::any::Any;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

/// Names a request in the process, from when it is made on; its [`Event`] has the same one. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(crate) u64);

/// A system call to be made, and the objects that it needs: the buffer and the file are the request's until its event.
///
/// A file is given by value: an `Arc<File>` if several requests need it, and one `clone()` for each.
pub struct Request {
    /// The record as C has it, attributes included.
    record: Vec<u64>,
    buffer: Option<Buffer>,
    /// The file, or another object that the system call uses: kept, never looked at.
    _kept: Option<Box<dyn Any + Send>>,
}

/// Next to be given out. Relaxed: only that each is another counts.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Request {
    fn new(
        nr: u32,
        args: [u64; 6],
        buffer: Option<Buffer>,
        kept: Option<Box<dyn Any + Send>>,
    ) -> Request {
        let mut record = vec![
            pair(ffi::IOCB_WORDS as u32 * 8, nr),
            NEXT.fetch_add(1, Ordering::Relaxed),
        ];
        record.extend(args);
        Request {
            record,
            buffer,
            _kept: kept,
        }
    }

    fn on_file(
        nr: c_long,
        file: impl AsFd + Send + 'static,
        buffer: Option<Buffer>,
        offset: u64,
    ) -> Request {
        let fd = file.as_fd().as_raw_fd() as u64;
        let (address, len) = buffer.as_ref().map_or((0, 0), |buffer| {
            (buffer.address() as u64, buffer.len() as u64)
        });
        Request::new(
            nr as u32,
            [fd, address, len, offset, 0, 0],
            buffer,
            Some(Box::new(file)),
        )
    }

    /// Reads into the whole buffer, from `offset` in bytes: pread(2).
    pub fn read_at(
        file: impl AsFd + Send + 'static,
        buffer: impl Into<Buffer>,
        offset: u64,
    ) -> Request {
        Request::on_file(SYS_pread64, file, Some(buffer.into()), offset)
    }

    /// Writes the whole buffer at `offset`, in bytes: pwrite(2).
    pub fn write_at(
        file: impl AsFd + Send + 'static,
        buffer: impl Into<Buffer>,
        offset: u64,
    ) -> Request {
        Request::on_file(SYS_pwrite64, file, Some(buffer.into()), offset)
    }

    /// Reads from a pipe, a socket, or the file's position: read(2).
    pub fn read(file: impl AsFd + Send + 'static, buffer: impl Into<Buffer>) -> Request {
        Request::on_file(SYS_read, file, Some(buffer.into()), 0)
    }

    /// Writes to a pipe, a socket, or at the file's position: write(2).
    pub fn write(file: impl AsFd + Send + 'static, buffer: impl Into<Buffer>) -> Request {
        Request::on_file(SYS_write, file, Some(buffer.into()), 0)
    }

    /// fsync(2).
    pub fn sync_all(file: impl AsFd + Send + 'static) -> Request {
        Request::on_file(SYS_fsync, file, None, 0)
    }

    /// fdatasync(2).
    pub fn sync_data(file: impl AsFd + Send + 'static) -> Request {
        Request::on_file(SYS_fdatasync, file, None, 0)
    }

    /// No system call. The result is 0.
    pub fn nop() -> Request {
        Request::new(ffi::NOP, [0; 6], None, None)
    }

    /// Any system call that the library carries: `nr` is its number (`libc::SYS_*`). `kept` lives until the request's event has been
    /// taken, and is dropped then: whatever `args` point to, and files.
    ///
    /// # Safety
    /// The system call is made by another thread at any time until the request's event, also after the context was dropped or the thread that
    /// submitted it has ended. The memory that it reads and writes must be there until then, untouched, whatever safe code does: owned by `kept`, or static. The
    /// call must not break guarantees on which other safe code relies, as `munmap` or a `close` of another's descriptor does.
    pub unsafe fn syscall(nr: c_long, args: [u64; 6], kept: impl Send + 'static) -> Request {
        Request::new(nr as u32, args, None, Some(Box::new(kept)))
    }

    /// The request's name.
    pub fn id(&self) -> Id {
        Id(self.record[1])
    }

    /// The buffer, if the request was not submitted after all.
    pub fn into_buffer(self) -> Option<Buffer> {
        self.buffer
    }

    fn attr(mut self, id: u16, flags: u32, payload: Option<u64>) -> Request {
        let [b0, b1] = ((ffi::ATTR_WORDS + payload.iter().len()) as u16 * 8).to_ne_bytes();
        let [i0, i1] = id.to_ne_bytes();
        self.record
            .extend([pair(u32::from_ne_bytes([b0, b1, i0, i1]), flags), 0]);
        self.record.extend(payload);
        self.record[0] = pair(self.record.len() as u32 * 8, high(self.record[0]));
        self
    }

    /// Asks when it was submitted, began and ended: [`Timing`](crate::Timing).
    pub fn timing(self) -> Request {
        self.attr(ffi::ATTR_TIMING, 0, None)
    }

    /// Asks which part of a buffered read was in the page cache: [`Cache`](crate::Cache).
    pub fn cache(self) -> Request {
        self.attr(ffi::ATTR_CACHE, 0, None)
    }

    /// Asks which thread and processor carry it out: [`Worker`](crate::Worker).
    pub fn worker(self) -> Request {
        self.attr(ffi::ATTR_WORKER, 0, None)
    }

    /// Asks which way it is carried out: [`Route`](crate::Route).
    pub fn route(self) -> Request {
        self.attr(ffi::ATTR_ROUTE, 0, None)
    }

    /// An I/O priority for this request alone, as ioprio_set(2) has it. One that is not allowed: the request fails with its error.
    pub fn io_priority(self, ioprio: u32) -> Request {
        self.attr(
            ffi::ATTR_IOPRIO,
            ffi::ATTR_F_REQUIRED,
            Some(pair(ioprio, 0)),
        )
    }

    /// If it has not begun when this time has passed, from now on, it is not made, and fails with `ETIMEDOUT`
    /// ([`io::ErrorKind::TimedOut`]).
    pub fn begin_within(self, time: Duration) -> Request {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `now` is ours; this clock is always there.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        let ns = u64::try_from(now.saturating_add(time).as_nanos()).unwrap_or(u64::MAX);
        self.attr(ffi::ATTR_DEADLINE, ffi::ATTR_F_REQUIRED, Some(ns))
    }

    /// Begins after everything that was submitted before it on its context has completed; requests that are submitted later begin after it.
    pub fn drain(self) -> Request {
        self.attr(ffi::ATTR_DRAIN, ffi::ATTR_F_REQUIRED, None)
    }

    /// The next request of the same [`submit`](crate::Context::submit) begins only after this one has succeeded in full; else it fails
    /// with `ECANCELED`. If `submit` accepts this request and not the next, the next is not linked any more: compare what it returns before
    /// the rest is submitted.
    pub fn link(self) -> Request {
        self.attr(ffi::ATTR_LINK, ffi::ATTR_F_REQUIRED, None)
    }

    /// Makes the system call at once, in the calling thread.
    pub fn run(self) -> io::Result<Event> {
        let mut room = [0u64; ROOM_WORDS];
        // SAFETY: the record is complete, and what it points to is the request's, which we keep; the event gets as much room as is said.
        let bytes =
            unsafe { ffi::io_issue2(self.record.as_ptr(), room.as_mut_ptr(), size_of_val(&room)) };
        if bytes < 0 {
            return Err(io::Error::from_raw_os_error(-bytes as i32));
        }
        Ok(Event::new(self, &room[..bytes as usize / 8]))
    }

    pub(crate) fn record(&self) -> &[u64] {
        &self.record
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id())
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}

/// The outcome of a request.
#[derive(Debug)]
pub struct Event {
    id: Id,
    res: i64,
    buffer: Option<Buffer>,
    returns: Vec<u64>,
}

impl Event {
    pub(crate) fn new(request: Request, event: &[u64]) -> Event {
        Event {
            id: request.id(),
            res: event[2] as i64,
            buffer: request.buffer,
            returns: event[ffi::EVENT_WORDS..].to_vec(),
        }
    }

    /// Of which request.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The value that the system call returned (for reads and writes: the number of bytes), or its error.
    pub fn result(&self) -> io::Result<usize> {
        usize::try_from(self.res).map_err(|_| io::Error::from_raw_os_error(-self.res as i32))
    }

    /// The request's buffer, if it had one: as long as it was, of which a read has filled [`result`](Event::result) bytes.
    pub fn buffer(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// Takes the buffer out, for the next request.
    pub fn into_buffer(self) -> Option<Buffer> {
        self.buffer
    }

    /// The bytes that a read has filled.
    pub fn bytes_read(&self) -> io::Result<&[u8]> {
        let len = self.result()?;
        Ok(self
            .buffer
            .as_ref()
            .map_or(&[], |buffer| &buffer[..len.min(buffer.len())]))
    }

    /// The answer to an attribute, if the request has asked for it: an error if the library, the kernel or this request has none.
    pub fn answer<A: Answer>(&self) -> Option<io::Result<A>> {
        let mut rest = &self.returns[..];
        while let [head, _cookie, ..] = rest {
            let [b0, b1, i0, i1] = low(*head).to_ne_bytes();
            let words = usize::from(u16::from_ne_bytes([b0, b1]) / 8);
            if words < ffi::ATTR_WORDS || words > rest.len() {
                return None;
            }
            if u16::from_ne_bytes([i0, i1]) == <A as sealed::Answer>::ID {
                let ret = high(*head) as i32;
                if ret < 0 {
                    return Some(Err(io::Error::from_raw_os_error(-ret)));
                }
                let mut payload = [0; 3];
                for (to, from) in payload.iter_mut().zip(&rest[ffi::ATTR_WORDS..words]) {
                    *to = *from;
                }
                return Some(Ok(A::from_payload(payload)));
            }
            rest = &rest[words..];
        }
        None
    }
}

/// Room for the largest event: of a request with as many attributes as fit, each with the largest answer.
pub(crate) const ROOM_WORDS: usize =
    ffi::EVENT_WORDS + 4096 / (ffi::ATTR_WORDS * 8) * (ffi::ATTR_WORDS + 3);
