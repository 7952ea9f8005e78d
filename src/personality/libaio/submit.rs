//! io_submit(): the kernel's checks, in its order, and how an iocb becomes a request.

use super::abi::{
    CMD_FDSYNC, CMD_FSYNC, CMD_NOOP, CMD_POLL, CMD_PREAD, CMD_PREADV, CMD_PWRITE, CMD_PWRITEV,
    EVENT_WORDS, FLAG_IOPRIO, FLAG_RESFD, Iocb,
};
use super::eventfd::Eventfd;
use super::files::{Kind, REMEMBERED, knows_flags, look};
use super::request::{Extension, Holder, check_ioprio};
use super::stats::Path;
use super::{Shared, ring_of};
use crate::abi::IOCB2_NOP;
use crate::policy::route::Route;
use crate::queue::{Batch, Context, ContextRef};
use crate::request::{Access, Claim, Req, SizeClass};
use crate::sys::private_fd::{Making, close_here as close};
use crate::sys::user::{Reader, plausible};
use crate::sys::{Result, ready_now};
use crate::syscall::{AWAIT_FILE, Call, Key};
use arrayvec::ArrayVec;
use libc::{c_long, iovec};
use nix::errno::Errno;
use std::os::fd::RawFd;

const IOVECS_MAX: u64 = 1024;
/// The most bytes that one call reads or writes.
const BYTES_MAX: u64 = 0x7fff_f000;

const RWF_HIPRI: u32 = 1;
const RWF_APPEND: u32 = 0x10;
const RWF_NOAPPEND: u32 = 0x20;
const RWF_ATOMIC: u32 = 0x40;
const RWF_DONTCACHE: u32 = 0x80;
/// The flags that the library knows, up to RWF_NOSIGNAL. A kernel may know fewer.
const RWF_KNOWN: u32 = 0x1ff;

/// Accepts iocbs as long as they are well-formed and there is room. Returns how many.
pub fn submit(
    shared: &'static Shared,
    context: &ContextRef,
    nr: usize,
    iocbs: usize,
) -> Result<usize> {
    let nr = nr.min(ring_of(context)?.nr() as usize);
    let mut batch = Batch::reserve_up_to(context, nr)?;
    let mut one = Submit {
        shared,
        context,
        memory: Reader::new(),
        looked: ArrayVec::new(),
        path: None,
        claim: Claim::NOTHING,
        now: shared.stats.now(),
    };
    let mut done = 0;
    let mut stopped = Errno::EINVAL;
    while done < nr {
        match one.accept(&mut batch, iocbs.wrapping_add(done * 8)) {
            Ok(()) => done += 1,
            Err(errno) => {
                stopped = errno;
                break;
            }
        }
    }
    let began = one.now;
    batch.enqueue_reserved(&mut Holder::new(shared));
    shared.stats.submitted(began, done);
    if done == 0 { Err(stopped) } else { Ok(done) }
}

/// Address of an iocb's key, which is 0 once it was submitted.
pub fn key_of(iocb: usize) -> usize {
    iocb.wrapping_add(std::mem::offset_of!(Iocb, key))
}

struct Submit<'a> {
    shared: &'static Shared,
    context: &'a ContextRef,
    /// Reads the array of pointers, and the iocbs.
    memory: Reader,
    /// The descriptors that were looked at last, so that the kernel is asked only once for each.
    looked: ArrayVec<(RawFd, Kind), REMEMBERED>,
    /// The last one of a request, and its file in the statistics.
    path: Option<(RawFd, Option<&'static Path>)>,
    /// The claim of the request that is being made, by which it keeps its order with others.
    claim: Claim,
    now: u64,
}

/// The next step of an accepted request.
enum Way {
    /// It is queued.
    Queue,
    /// Its result is known already.
    Done(i64),
}

impl Submit<'_> {
    fn accept(&mut self, batch: &mut Batch, pointer: usize) -> Result<()> {
        // SAFETY: a number.
        let at: usize = unsafe { self.memory.read(pointer)? };
        // SAFETY: plain numbers.
        let iocb: Iocb = unsafe { self.memory.read(at)? };
        if iocb.reserved2 != 0 || iocb.nbytes > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if batch.is_full() {
            return Err(Errno::EAGAIN);
        }
        let kind = self.look(iocb.fildes)?;
        let mut extension = Extension::new(iocb.fildes, self.now, self.path(iocb.fildes));
        self.claim = Claim::NOTHING;
        match self.prepare(batch, &iocb, at, kind, &mut extension) {
            Ok((call, way)) => {
                let Some(slot) = batch.slot(SizeClass::Extended) else {
                    extension.end();
                    return Err(Errno::EAGAIN);
                };
                let res = if let Way::Done(res) = way { res } else { 0 };
                let event: [u64; EVENT_WORDS] = [iocb.data, at as u64, res as u64, 0];
                let mut req = Req::build_extended(
                    slot,
                    at as u64,
                    call,
                    event,
                    (extension, extension.hints()),
                    self.claim,
                );
                match way {
                    Way::Queue => batch.queue(req),
                    Way::Done(res) => {
                        batch.count();
                        if res >= 0 {
                            req.set_route(Route::InlineSubmit);
                        }
                        Context::complete_elsewhere(self.context, req);
                    }
                }
                Ok(())
            }
            Err(errno) => {
                extension.end();
                Err(errno)
            }
        }
    }

    /// The facts about a descriptor.
    fn look(&mut self, number: RawFd) -> Result<Kind> {
        if let Some((_, kind)) = self.looked.iter().find(|looked| looked.0 == number) {
            return Ok(*kind);
        }
        let kind = look(number)?;
        if self.looked.is_full() {
            self.looked.remove(0);
        }
        self.looked.push((number, kind));
        Ok(kind)
    }

    fn path(&mut self, number: RawFd) -> Option<&'static Path> {
        match self.path {
            Some((last, path)) if last == number => path,
            _ => self.path.insert((number, self.shared.stats.path(number))).1,
        }
    }

    fn prepare(
        &mut self,
        batch: &Batch,
        iocb: &Iocb,
        at: usize,
        kind: Kind,
        extension: &mut Extension,
    ) -> Result<(Call, Way)> {
        if iocb.flags & FLAG_RESFD != 0 {
            let resfd = self.look(iocb.resfd)?;
            if !resfd.eventfd {
                return Err(Errno::EINVAL);
            }
            extension.set_eventfd(Eventfd::new(iocb.resfd, resfd.nonblocking));
        }
        // As in the kernel: after the descriptors were found, and before the operation is looked at.
        self.memory.write(key_of(at), 0u32)?;
        match iocb.opcode {
            CMD_PREAD => self.transfer(iocb, kind, extension, false, false),
            CMD_PWRITE => self.transfer(iocb, kind, extension, true, false),
            CMD_PREADV => self.transfer(iocb, kind, extension, false, true),
            CMD_PWRITEV => self.transfer(iocb, kind, extension, true, true),
            CMD_FSYNC => self.sync(iocb, kind, extension, libc::SYS_fsync),
            CMD_FDSYNC => self.sync(iocb, kind, extension, libc::SYS_fdatasync),
            CMD_POLL => self.poll(batch, iocb, kind, extension),
            CMD_NOOP => Ok((call(IOCB2_NOP.into(), kind, []), Way::Done(0))),
            _ => Err(Errno::EINVAL),
        }
    }

    fn transfer(
        &mut self,
        iocb: &Iocb,
        kind: Kind,
        extension: &mut Extension,
        writes: bool,
        vectored: bool,
    ) -> Result<(Call, Way)> {
        if iocb.flags & FLAG_IOPRIO != 0 {
            check_ioprio(iocb.reqprio)?;
            extension.set_ioprio(iocb.reqprio);
        }
        let fd = extension.fd();
        let flags = check_flags(iocb.rw_flags, fd, kind, writes)?;
        if !(if writes { kind.writes } else { kind.reads }) {
            return Err(Errno::EBADF);
        }
        if !(if writes {
            kind.can_write
        } else {
            kind.can_read
        }) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = iocb.nbytes;
        let mut count = 0;
        // A single vector is treated like a buffer.
        let mut buffer = Some(iocb.buf);
        if vectored {
            // The kernel uses only 32 bits of the count.
            count = u64::from(iocb.nbytes as u32);
            if count > IOVECS_MAX {
                return Err(Errno::EINVAL);
            }
            let count = count as usize;
            (bytes, buffer) = self.vectors(iocb.buf as usize, count, extension)?;
        } else if !plausible(iocb.buf, bytes.min(BYTES_MAX)) {
            return Err(Errno::EFAULT);
        }
        let bytes = bytes.min(BYTES_MAX);
        if iocb.offset < 0 || iocb.offset.checked_add(bytes as i64).is_none() {
            return Err(Errno::EINVAL);
        }
        if iocb.offset != 0 && kind.format == libc::S_IFSOCK {
            return Ok((
                call(IOCB2_NOP.into(), kind, []),
                Way::Done(-i64::from(libc::ESPIPE)),
            ));
        }
        let has_blocks = matches!(kind.format, libc::S_IFREG | libc::S_IFBLK);
        self.claim = if has_blocks {
            let (start, bytes) = (iocb.offset as u64, bytes as u32);
            let access = access(kind, writes, flags, start.saturating_add(u64::from(bytes)));
            Claim::of_file(kind.inode, start, bytes, access)
        } else {
            Claim::of_stream(kind.inode, writes)
        };
        extension.at_once = !kind.direct && has_blocks;
        // Past the page cache of a file system, a request may have to wait for others, even if earlier ones did not; a write through it may
        // do so anywhere.
        extension.for_submitter = if kind.direct {
            kind.format == libc::S_IFBLK && (!writes || flags == 0)
        } else {
            has_blocks && !writes
        };
        let (fd, offset) = (fd as u64, iocb.offset as u64);
        let pick = |to_read, to_write| if writes { to_write } else { to_read };
        // Use the plain calls where they suffice: a sandbox may not allow the later ones.
        let plain = flags == 0;
        if plain && let Some(buffer) = buffer {
            let call = if kind.stream {
                let nr = pick(libc::SYS_read, libc::SYS_write);
                call(nr, kind, [fd, buffer, bytes])
            } else {
                let nr = pick(libc::SYS_pread64, libc::SYS_pwrite64);
                call(nr, kind, [fd, buffer, bytes, offset])
            };
            return Ok((call, Way::Queue));
        }
        let (at, count) = match buffer {
            Some(buffer) => {
                let at = extension.iovecs(1)?;
                let one = iovec {
                    iov_base: buffer as *mut libc::c_void,
                    iov_len: bytes as usize,
                };
                // SAFETY: memory for one, just allocated.
                unsafe { at.write(one) };
                (at as u64, 1)
            }
            None => (extension.iovecs_at() as u64, count),
        };
        let call = match (plain, kind.stream) {
            (true, true) => {
                let nr = pick(libc::SYS_readv, libc::SYS_writev);
                call(nr, kind, [fd, at, count])
            }
            (true, false) => {
                let nr = pick(libc::SYS_preadv, libc::SYS_pwritev);
                call(nr, kind, [fd, at, count, offset])
            }
            (false, stream) => {
                let nr = pick(libc::SYS_preadv2, libc::SYS_pwritev2);
                let position = if stream { u64::MAX } else { offset };
                call(nr, kind, [fd, at, count, position, 0, u64::from(flags)])
            }
        };
        Ok((call, Way::Queue))
    }

    /// Copies the program's vectors. Returns their total length, and the buffer if there is just one.
    fn vectors(
        &mut self,
        at: usize,
        count: usize,
        extension: &mut Extension,
    ) -> Result<(u64, Option<u64>)> {
        if count == 0 {
            return Ok((0, Some(0)));
        }
        let mut reader = Reader::new();
        reader.check(at, count * size_of::<iovec>())?;
        let copy = if count == 1 {
            None
        } else {
            Some(extension.iovecs(count)?)
        };
        let mut total = 0u64;
        for i in 0..count {
            // SAFETY: plain numbers.
            let [base, len]: [u64; 2] = unsafe { reader.read(at + i * size_of::<iovec>())? };
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            if !plausible(base, len) {
                return Err(Errno::EFAULT);
            }
            total = total.saturating_add(len);
            let Some(copy) = copy else {
                return Ok((len, Some(base)));
            };
            let vector = iovec {
                iov_base: base as *mut libc::c_void,
                iov_len: len as usize,
            };
            // SAFETY: memory for `count`, allocated above.
            unsafe { copy.add(i).write(vector) };
        }
        // Vectors of nothing are not passed on to the file, a call for nothing is: it sends an empty datagram.
        Ok((total, (total == 0).then_some(0)))
    }

    fn sync(
        &mut self,
        iocb: &Iocb,
        kind: Kind,
        extension: &Extension,
        nr: c_long,
    ) -> Result<(Call, Way)> {
        if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
            return Err(Errno::EINVAL);
        }
        self.claim = Claim::of_file(kind.inode, 0, 0, Access::Sync);
        let fd = extension.fd();
        let has_blocks = matches!(kind.format, libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR);
        if !has_blocks || kind.format == libc::S_IFREG && !kind.can_read {
            // Most of these files cannot be synced, which the kernel reports at submit. The others have nothing to wait for.
            // SAFETY: an integer.
            if unsafe { libc::syscall(nr, fd) } == -1 && Errno::last() == Errno::EINVAL {
                return Err(Errno::EINVAL);
            }
        }
        Ok((call(nr, kind, [fd as u64]), Way::Queue))
    }

    fn poll(
        &mut self,
        batch: &Batch,
        iocb: &Iocb,
        kind: Kind,
        extension: &mut Extension,
    ) -> Result<(Call, Way)> {
        let unused = iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0;
        if iocb.buf > 0xffff || unused {
            return Err(Errno::EINVAL);
        }
        let events = match iocb.buf as u16 as i16 {
            // As for any request, errors and hang-ups count. To wait for nothing would be not to wait.
            0 => libc::POLLERR,
            events => events,
        };
        let fd = extension.fd();
        let mut ready = ready_now(fd, events);
        if ready == 0 {
            // The file's state may never change.
            ready = look_closer(fd, kind, events)?;
        }
        if ready != 0 {
            let nop = call(IOCB2_NOP.into(), kind, []);
            return Ok((nop, Way::Done(i64::from(ready))));
        }
        let is_held = extension.hold(self.shared).map_err(|_| Errno::EAGAIN)?;
        if is_held && !batch.has_indefinite_worker() {
            return Err(Errno::EAGAIN);
        }
        // A pipe reports readiness by two event bits, whichever was asked for.
        let events = match kind.format {
            libc::S_IFIFO => both_names(events),
            _ => events,
        };
        let args = [extension.fd() as u64, u64::from(events as u16)];
        Ok((call(AWAIT_FILE.into(), kind, args), Way::Queue))
    }
}

/// The access of a read or a write of a regular file or a block device that ends at `end`.
fn access(kind: Kind, writes: bool, flags: u32, end: u64) -> Access {
    let appends = kind.appends && flags & RWF_NOAPPEND == 0 || flags & RWF_APPEND != 0;
    match (writes, kind.direct) {
        (false, false) => Access::Read,
        (false, true) => Access::DirectRead,
        (true, false) if appends => Access::Append,
        (true, true) if appends => Access::DirectAppend,
        (true, false) if end > kind.size => Access::Grow,
        (true, false) => Access::Write,
        (true, true) => Access::DirectWrite,
    }
}

/// The events, and the other bits with the same meaning.
fn both_names(events: i16) -> i16 {
    let more = |one, other| if events & one != 0 { other } else { 0 };
    events | more(libc::POLLIN, libc::POLLRDNORM) | more(libc::POLLOUT, libc::POLLWRNORM)
}

/// Whether a file's state can change so that a poll makes sense: then epoll takes the file; else returns an error. The state may have
/// changed meanwhile, which some files report only once; it is returned.
fn look_closer(fd: RawFd, kind: Kind, events: i16) -> Result<u16> {
    const ALWAYS: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;
    if matches!(kind.format, 0 | libc::S_IFIFO | libc::S_IFSOCK) {
        return Ok(0);
    }
    let ours = (events | libc::POLLERR | libc::POLLHUP) as u16;
    // A file that does not support poll reports all of these.
    let seen = ready_now(fd, ALWAYS | events);
    if seen & ours != 0 || seen & ALWAYS as u16 != ALWAYS as u16 {
        return Ok(seen & ours);
    }
    let _making = Making::begin();
    // SAFETY: a flag.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let epoll = Errno::result(epoll).map_err(|_| Errno::EAGAIN)?;
    let mut event = libc::epoll_event {
        events: u32::from(events as u16),
        u64: 0,
    };
    // SAFETY: `event` is ours.
    let (added, got) = unsafe {
        let added = libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event);
        let wait = [epoll as usize, &raw mut event as usize, 1, 0, 0, 8];
        let [epoll, event, one, none, mask, size] = wait;
        // Called by syscall(), because libc's function is a cancellation point.
        let got = libc::syscall(libc::SYS_epoll_pwait, epoll, event, one, none, mask, size);
        (added, got)
    };
    close(epoll);
    match (added, got) {
        (0, 1) => Ok(event.events as u16 & ours),
        (0, _) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn call<const N: usize>(nr: c_long, kind: Kind, given: [u64; N]) -> Call {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    Call {
        key: Key::of_file(kind.format, kind.inode, kind.direct, kind.appends),
        ..Call::new(nr as u32, args)
    }
}

/// The flags for the system call, checked as the kernel checks them at submit.
fn check_flags(flags: u32, fd: RawFd, kind: Kind, writes: bool) -> Result<u32> {
    if flags == 0 {
        return Ok(0);
    }
    let not_here = flags & RWF_ATOMIC != 0 && !(writes && kind.direct)
        || flags & RWF_DONTCACHE != 0 && kind.stream;
    if flags & !RWF_KNOWN != 0 || not_here {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 {
        return Err(Errno::EINVAL);
    }
    // Ask the kernel and the file which of the later flags they know. Reads and writes know the same flags.
    let asked = flags & !(RWF_ATOMIC | RWF_APPEND | RWF_HIPRI | 6);
    if asked != 0 && kind.reads && !kind.stream && !knows_flags(fd, asked) {
        return Err(Errno::EOPNOTSUPP);
    }
    // No thread will poll for it.
    Ok(flags & !RWF_HIPRI)
}
