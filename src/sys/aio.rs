//! The kernel's AIO: its calls, and its ring.

use super::raw::raw_call;
use super::{Completions, Waited, has_call_filter, timespec};
use arrayvec::ArrayVec;
use libc::c_long;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

/// A request as io_submit(2) takes it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct KernelIocb {
    pub data: u64,
    /// It stands before `rw_flags` on little-endian machines, and no others are supported (see `abi`).
    pub key: u32,
    pub rw_flags: u32,
    pub opcode: u16,
    pub ioprio: i16,
    pub fd: u32,
    pub buf: u64,
    pub nbytes: u64,
    pub offset: i64,
    pub reserved: u64,
    pub flags: u32,
    pub resfd: u32,
}

const _: () = assert!(size_of::<KernelIocb>() == 64);

/// In an event, in place of the number of a slot: the event has none.
pub const NO_SLOT: u64 = u64::MAX;

/// The kernel adds to the eventfd in `resfd`.
pub const FLAG_RESFD: u32 = 1;

pub const PREAD: u16 = 0;
pub const PWRITE: u16 = 1;
pub const PREADV: u16 = 7;
pub const PWRITEV: u16 = 8;

/// A context of the kernel's AIO, if one with a ring of the known form can be obtained. None behind a system call filter.
pub fn new_context(events: usize) -> Option<u64> {
    let mut kernel = 0u64;
    let args = [events as u64, &raw mut kernel as u64, 0, 0, 0, 0];
    if aio_call(libc::SYS_io_setup, args) != Some(0) {
        return None;
    }
    if !Ring::at(kernel).is_known() {
        aio_call(libc::SYS_io_destroy, [kernel, 0, 0, 0, 0, 0]);
        return None;
    }
    Some(kernel)
}

/// The kernel's ring. The number of a context is the address of its ring. The kernel lets the process take events itself.
#[repr(C)]
pub struct Ring {
    _id: u32,
    size: AtomicU32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: AtomicU32,
    _compatible_features: u32,
    incompatible_features: AtomicU32,
    _header_length: u32,
}

/// The events, which follow the header of the ring.
#[repr(C)]
struct KernelEvent {
    data: AtomicU64,
    _obj: u64,
    res: AtomicI64,
    _res2: i64,
}

const _: () = assert!(size_of::<Ring>() == 32 && size_of::<KernelEvent>() == 32);

impl Ring {
    pub fn at(kernel: u64) -> &'static Ring {
        // SAFETY: the kernel has mapped the ring there, for as long as the context lives, and no context that is used here is ever
        // destroyed. All that the kernel writes to is atomic.
        unsafe { &*ptr::with_exposed_provenance(kernel as usize) }
    }

    fn is_known(&self) -> bool {
        const MAGIC: u32 = 0xa10a_10a1;
        // Relaxed: written before io_setup(2) returned.
        self.magic.load(Relaxed) == MAGIC
            && self.incompatible_features.load(Relaxed) == 0
            && self.size.load(Relaxed) != 0
    }
}

impl Completions for Ring {
    fn available(&self) -> usize {
        // Relaxed: `pop` looks again.
        let [size, head, tail] =
            [&self.size, &self.head, &self.tail].map(|word| word.load(Relaxed));
        let tail = if tail < head {
            tail.wrapping_add(size)
        } else {
            tail
        };
        tail.wrapping_sub(head) as usize
    }

    fn pop(&self) -> Option<(u64, i64)> {
        let size = self.size.load(Relaxed);
        // Relaxed: only the caller, under its lock, moves it.
        let head = self.head.load(Relaxed);
        // Acquire: pairs with the kernel's barrier before it moves the tail: the event is there.
        if head == self.tail.load(Acquire) || head >= size {
            return None;
        }
        let events = ptr::from_ref(self).wrapping_add(1).cast::<KernelEvent>();
        // SAFETY: within the ring, which has as many events behind its header as the header says.
        let event = unsafe { &*events.wrapping_add(head as usize) };
        let completion = (event.data.load(Relaxed), event.res.load(Relaxed));
        let next = if head + 1 == size { 0 } else { head + 1 };
        // Release: the kernel may write there from now on.
        self.head.store(next, Release);
        Some(completion)
    }

    fn is_refusal(&self, res: i64, nowait: bool) -> bool {
        nowait
            && [libc::EAGAIN, libc::EOPNOTSUPP]
                .map(|errno| -i64::from(errno))
                .contains(&res)
    }
}

/// How many events a context of the kernel's AIO has.
pub fn events(kernel: u64) -> usize {
    Ring::at(kernel).available()
}

/// Sleeps until a context of the kernel's AIO has an event, `ns` at most. The event stays there. None: there is a filter.
pub fn sleep(kernel: u64, ns: u64) -> Option<Waited> {
    // An address that no process can write to: as soon as there is an event, io_getevents(2) fails and leaves it in the ring, from which
    // only [`Ring::pop`] takes events.
    const NOWHERE: u64 = !0 << 12;
    let limit = timespec(ns);
    let args = [kernel, 1, 1, NOWHERE, &raw const limit as u64, 0];
    Some(match aio_call(libc::SYS_io_getevents, args)? {
        0 => Waited::TimedOut,
        count if count == -i64::from(libc::EINTR) => Waited::Interrupted,
        _ => Waited::Woken,
    })
}

/// Submits these, `MOST` at most, and returns how many the kernel has taken. None: there is a filter.
pub fn submit<const MOST: usize>(kernel: u64, iocbs: &mut [KernelIocb]) -> Option<usize> {
    let pointers: ArrayVec<*mut KernelIocb, MOST> = iocbs.iter_mut().map(ptr::from_mut).collect();
    let (count, at) = (pointers.len() as u64, pointers.as_ptr() as u64);
    let submitted = aio_call(libc::SYS_io_submit, [kernel, count, at, 0, 0, 0])?;
    Some(submitted.max(0) as usize)
}

/// Makes an event in a context of the kernel's AIO that belongs to no request, by a read of no bytes from a file of the library's own.
pub fn ring_doorbell(kernel: u64, file: RawFd) {
    let mut doorbell = [KernelIocb {
        data: NO_SLOT,
        opcode: PREAD,
        fd: file as u32,
        ..KernelIocb::default()
    }];
    submit::<1>(kernel, &mut doorbell);
}

/// Makes a call of the kernel's AIO, past any replacement of libc's functions: aio2-run answers these calls by this library. None: the call
/// is not made, because the thread has a system call filter, which may not know the call and kill the process. Nothing happens between the
/// check and the call.
fn aio_call(nr: c_long, args: [u64; 6]) -> Option<i64> {
    // SAFETY: the arguments are ours; the kernel checks the number of a context.
    (!has_call_filter()).then(|| unsafe { raw_call(nr as u32, &args) })
}
