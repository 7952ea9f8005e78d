//! A ring of io_uring(7): its calls, and its memory.
//!
//! Only one thread submits to a ring, and it is a thread of the library's. The kernel completes a request in the thread that submitted it,
//! and interrupts the system call in which that thread waits. If a thread of the program submitted, its own system calls would end early,
//! and its requests would not complete while it waits uninterruptibly for something else. If a request has to wait, a thread of the
//! kernel's carries it out; the kernel cancels such requests when the thread that submitted them ends.
//!
//! IORING_SETUP_DEFER_TASKRUN is not used. With it, requests complete only in io_uring_enter(2), and a system call filter that comes later
//! may forbid that call.

use super::aio::{KernelIocb, PREAD, PREADV, PWRITE};
use super::private_fd::{NO_FILE, Private};
use super::raw::raw_call;
use super::{Completions, has_call_filter};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};

#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Of the completion ring: the number of lost entries, and where the entries are. Of the submission ring: flags, and the number of
    /// refused entries.
    more: [u32; 2],
    /// Of the submission ring: where the indexes of entries are.
    last: [u32; 2],
    address: u64,
}

#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread: [u32; 2],
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: Offsets,
    cq: Offsets,
}

/// A submission queue entry.
#[repr(C)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: i64,
    address: u64,
    len: u32,
    rw_flags: u32,
    data: u64,
    more: [u64; 3],
}

#[repr(C)]
struct Done {
    data: u64,
    res: i32,
    flags: u32,
}

#[repr(C)]
struct RingFd {
    offset: u32,
    reserved: u32,
    fd: u64,
}

const _: () = assert!(size_of::<Params>() == 120 && size_of::<Sqe>() == 64);
const _: () = assert!(size_of::<Done>() == 16 && size_of::<RingFd>() == 16);

/// The needed features: there is one mapping for both rings; no completion is lost; iovecs are not read any more after the submission; the
/// kernel's threads belong to the process; a thread can have a number of its own for a ring (Linux 5.18).
const NEEDED: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 9 | 1 << 12;

const SUBMIT_ALL: u32 = 1 << 7;
const COOP_TASKRUN: u32 = 1 << 8;

const REGISTER_EVENTFD_ASYNC: u64 = 7;
const REGISTER_IOWQ_MAX_WORKERS: u64 = 19;
const REGISTER_RING_FDS: u64 = 20;
const ENTER_REGISTERED_RING: u64 = 1 << 4;

const SQES_AT: i64 = 0x1000_0000;

/// The answer of a submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Submitted {
    /// All requests, or some: submit the rest once more.
    Some,
    /// The kernel does not take the rest: the thread of the ring must give it back.
    Refused,
    /// None, now or ever: there is a filter, or the ring has no number.
    Never,
}

pub struct Uring {
    /// The descriptor, until a thread adopts the ring.
    fd: Private,
    /// The number of the ring in the thread that has adopted it. NO_FILE: none.
    number: AtomicI32,
    rings: Mapping,
    entries: Mapping,
    params: Params,
}

// SAFETY: the mappings are accessed through atomics, except entries, which only one thread at a time accesses (see `push` and
// `withdraw_last`).
unsafe impl Sync for Uring {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Uring {}

impl Uring {
    /// A ring for `requests`, a power of two. It adds to this eventfd when a thread of the kernel's has completed something. None: it
    /// cannot be obtained, or there is a system call filter.
    pub fn new(requests: u32, eventfd: RawFd) -> Option<Uring> {
        let fd = Private::new();
        let Some((params, rings, entries)) = map(requests, &fd) else {
            fd.close();
            return None;
        };
        let ring = Uring {
            fd,
            number: AtomicI32::new(NO_FILE),
            rings,
            entries,
            params,
        };
        let eventfd = eventfd as u32;
        ring.register(REGISTER_EVENTFD_ASYNC, &raw const eventfd as u64, 1)?;
        // A thread of the kernel's for each request that has to wait, so that requests that hang do not keep the others from beginning. The
        // second number is of requests on other files than regular ones and block devices, and does not change.
        let mut threads = [requests, 0];
        ring.register(REGISTER_IOWQ_MAX_WORKERS, threads.as_mut_ptr() as u64, 2)?;
        for entry in 0..ring.params.sq_entries {
            let at = ring.params.sq.last[0] + entry * 4;
            ring.word(at).store(entry, Relaxed);
        }
        Some(ring)
    }

    /// None: the kernel refuses, or there is a filter.
    fn register(&self, what: u64, given: u64, count: u64) -> Option<()> {
        let args = [self.fd.get() as u64, what, given, count, 0, 0];
        (call(libc::SYS_io_uring_register, args)? >= 0).then_some(())
    }

    /// The calling thread becomes the one that submits. From here on it names the ring by a number of its own, and the ring has no
    /// descriptor: the program cannot close it, and no child inherits it. If the kernel gives no number, nothing can be submitted.
    pub fn adopt(&self) {
        let mut ring = RingFd {
            offset: u32::MAX,
            reserved: 0,
            fd: self.fd.get() as u64,
        };
        let given = self.register(REGISTER_RING_FDS, &raw mut ring as u64, 1);
        if given.is_some() {
            // Relaxed: only this thread reads it.
            self.number.store(ring.offset as i32, Relaxed);
        }
        self.fd.close();
    }

    /// See [`Private::release_number`].
    pub fn release_number(&self, fd: RawFd) {
        self.fd.release_number(fd);
    }

    /// In a forked child: closes the descriptor.
    pub fn abandon(&self) {
        self.fd.close();
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel says where its words are, within the mapping, which lives as long as `self`. All others that write there do so
        // atomically.
        unsafe { &*self.rings.at.wrapping_add(offset as usize).cast() }
    }

    /// How many requests are queued and not yet submitted.
    pub fn queued(&self) -> u32 {
        let [head, tail] = [self.params.sq.head, self.params.sq.tail];
        // Acquire: pairs with the kernel's release after it has read an entry: from then on the entry may be overwritten.
        self.word(tail)
            .load(Relaxed)
            .wrapping_sub(self.word(head).load(Acquire))
    }

    /// Adds a request of fewer than 2^32 bytes. The caller ensures that there is room, and that no other thread adds or takes back
    /// meanwhile.
    pub fn push(&self, iocb: &KernelIocb) {
        const READ: u8 = 22;
        const WRITE: u8 = 23;
        const READV: u8 = 1;
        const WRITEV: u8 = 2;
        let entry = Sqe {
            opcode: match iocb.opcode {
                PREAD => READ,
                PWRITE => WRITE,
                PREADV => READV,
                _ => WRITEV,
            },
            flags: 0,
            ioprio: 0,
            fd: iocb.fd as i32,
            offset: iocb.offset,
            address: iocb.buf,
            len: iocb.nbytes as u32,
            rw_flags: iocb.rw_flags,
            data: iocb.data,
            more: [0; 3],
        };
        let tail = self.word(self.params.sq.tail);
        // Relaxed: only `push` and `withdraw_last` change it, one at a time.
        let at = tail.load(Relaxed);
        let entries = self.entries.at.cast::<Sqe>();
        // SAFETY: within the mapping, and the kernel does not read beyond the tail.
        unsafe {
            entries
                .add((at & (self.params.sq_entries - 1)) as usize)
                .write(entry)
        };
        // Release: the kernel, or `withdraw_last`, reads the entry after the tail.
        tail.store(at.wrapping_add(1), Release);
    }

    /// Takes back the request that was added last, unless it is submitted, and returns its data. Only the thread that submits calls this,
    /// while no other thread adds.
    pub fn withdraw_last(&self) -> Option<u64> {
        if self.queued() == 0 {
            return None;
        }
        let tail = self.word(self.params.sq.tail);
        let at = tail.load(Relaxed).wrapping_sub(1);
        let entries = self.entries.at.cast::<Sqe>().cast_const();
        // SAFETY: as in `push`, which has written it.
        let data = unsafe { (*entries.add((at & (self.params.sq_entries - 1)) as usize)).data };
        // Relaxed: the kernel reads it when this thread submits.
        tail.store(at, Relaxed);
        Some(data)
    }

    /// Submits `count` of the queued requests. Nothing happens between the check for a filter and the call.
    pub fn submit(&self, count: u32) -> Submitted {
        let ring = self.number.load(Relaxed);
        if ring == NO_FILE {
            return Submitted::Never;
        }
        let args = [
            ring as u64,
            u64::from(count),
            0,
            ENTER_REGISTERED_RING,
            0,
            0,
        ];
        let refused = |errno| -i64::from(errno);
        match call(libc::SYS_io_uring_enter, args) {
            None => Submitted::Never,
            Some(1..) => Submitted::Some,
            Some(error) if error == refused(libc::EINTR) => Submitted::Some,
            Some(error)
                if [libc::EBADF, libc::EOPNOTSUPP, libc::EINVAL]
                    .map(refused)
                    .contains(&error) =>
            {
                Submitted::Never
            }
            Some(_) => Submitted::Refused,
        }
    }
}

/// Makes a ring, with the flags that the kernel knows, and maps it.
fn map(requests: u32, fd: &Private) -> Option<(Params, Mapping, Mapping)> {
    let mut params = Params::default();
    fd.open(|| {
        [SUBMIT_ALL | COOP_TASKRUN, 0]
            .into_iter()
            .find_map(|flags| {
                params = Params {
                    flags,
                    ..Params::default()
                };
                let args = [u64::from(requests), &raw mut params as u64, 0, 0, 0, 0];
                let fd = call(libc::SYS_io_uring_setup, args)?;
                // SAFETY: nobody else has the new descriptor.
                (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
            })
    })?;
    if params.features & NEEDED != NEEDED {
        return None;
    }
    let (ours, done) = (params.sq_entries as usize, params.cq_entries as usize);
    let bytes = (params.sq.last[0] as usize + ours * size_of::<u32>())
        .max(params.cq.more[1] as usize + done * size_of::<Done>());
    let rings = Mapping::new(fd.get(), bytes, 0)?;
    let entries = Mapping::new(fd.get(), ours * size_of::<Sqe>(), SQES_AT)?;
    Some((params, rings, entries))
}

impl Completions for Uring {
    fn available(&self) -> usize {
        let [head, tail] = [self.params.cq.head, self.params.cq.tail];
        // Relaxed: `pop` looks again.
        let [head, tail] = [head, tail].map(|at| self.word(at).load(Relaxed));
        tail.wrapping_sub(head) as usize
    }

    fn pop(&self) -> Option<(u64, i64)> {
        let head = self.word(self.params.cq.head);
        // Relaxed: only the caller, under its lock, moves it.
        let at = head.load(Relaxed);
        // Acquire: pairs with the kernel's release: the entry is there.
        if at == self.word(self.params.cq.tail).load(Acquire) {
            return None;
        }
        let done = self.rings.at.wrapping_add(self.params.cq.more[1] as usize);
        let done = done.cast::<Done>().cast_const();
        let index = (at & (self.params.cq_entries - 1)) as usize;
        // SAFETY: within the mapping, and the kernel does not write there before the head has moved.
        let Done { data, res, .. } = unsafe { done.wrapping_add(index).read() };
        // Release: the kernel may write there from now on.
        head.store(at.wrapping_add(1), Release);
        Some((data, i64::from(res)))
    }

    /// ECANCELED: the thread that submitted it has ended. For the other errors, the system call gives a better answer.
    fn is_refusal(&self, res: i64, _nowait: bool) -> bool {
        use libc::{EAGAIN, EBADF, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP};
        [EAGAIN, EBADF, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP]
            .map(|errno| -i64::from(errno))
            .contains(&res)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.fd.close();
    }
}

/// A mapping of the ring. A forked child does not have it.
struct Mapping {
    at: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(fd: RawFd, bytes: usize, offset: i64) -> Option<Mapping> {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        );
        // SAFETY: a new mapping.
        unsafe {
            let at = libc::mmap(ptr::null_mut(), bytes, prot, flags, fd, offset);
            if at == libc::MAP_FAILED {
                return None;
            }
            libc::madvise(at, bytes, libc::MADV_DONTFORK);
            Some(Mapping {
                at: at.cast(),
                bytes,
            })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses it any more.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}

/// Makes the call past any replacement of libc's functions, as in [`super::aio`]. None: there is a filter.
fn call(nr: libc::c_long, args: [u64; 6]) -> Option<i64> {
    // SAFETY: the arguments are ours.
    (!has_call_filter()).then(|| unsafe { raw_call(nr as u32, &args) })
}
