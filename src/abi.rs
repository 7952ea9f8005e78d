//! The types and constants that C programs see. `cbindgen` turns this file into `include/aio2.h`,
//! comments included, so the comments here are written for the C programmer.
//!
//! Nothing in this module does anything: it is the shape of the contract.
#![allow(non_camel_case_types)]

use core::mem::{offset_of, size_of};

/// The version to give to io_setup2().
pub const IO_SETUP2_VERSION: u32 = 2;

/// `iocb2.nr` of a request that makes no system call; its `res` is 0.
pub const IOCB2_NOP: u32 = 0xffff_ffff;

/// Most bytes of attributes in one request.
pub const IOCB2_ATTR_BYTES_MAX: u32 = 4096;

/// `io_ring2.magic`.
pub const IO_RING2_MAGIC: u32 = 0xa10a_10a2;

/// `io_ring2.version`.
pub const IO_RING2_VERSION: u32 = 2;

/// `io_ring2.flags`: events wait on the overflow list; call io_getevents2().
pub const IO_RING2_OVERFLOW: u32 = 1;

/// Attribute flag: refuse the request (its system call is not made) if this attribute is not
/// handled. `res` is then the `ret` of the first such attribute: -EOPNOTSUPP if it is not known,
/// -EINVAL if it is wrong or a duplicate.
pub const IOCB_ATTR_F_REQUIRED: u32 = 1;

/// Attribute: when the request was submitted, began and ended. No payload in; struct
/// iocb_timing out. It does not change how the request is carried out.
pub const IOCB_ATTR_TIMING: u16 = 1;
/// Attribute: page cache hit or miss of a buffered read. No payload in; struct iocb_cache out.
///
/// For pread64, preadv and preadv2 of a regular file or a block device that was opened without
/// O_DIRECT. For any other call, file or kernel that cannot say, `ret` is -EOPNOTSUPP. It does not
/// change how the request is carried out, with two exceptions, which would change the answer: the
/// device is not told of the read before it begins, and a thread that waits for events with a timeout
/// does not try it first.
pub const IOCB_ATTR_CACHE: u16 = 2;
/// Attribute: I/O priority of this request alone. struct iocb_ioprio in, no payload out.
///
/// A priority that there is not, or reserved bits that are set: `ret` is -EINVAL. One that the
/// process may not use: -EPERM.
pub const IOCB_ATTR_IOPRIO: u16 = 3;
/// Attribute: the latest time at which the request may begin. struct iocb_deadline in, no payload
/// out. A request that has not begun by then is not made: when its turn comes its `res` is
/// -ETIMEDOUT.
pub const IOCB_ATTR_DEADLINE: u16 = 4;
/// Attribute: begins after everything submitted before it on this context has completed, and
/// nothing submitted later begins before it has completed. No payload.
pub const IOCB_ATTR_DRAIN: u16 = 5;
/// Attribute: the next request in the same submit begins only after this one has succeeded in full
/// (`res` >= 0, and for reads and writes every byte asked for); else it and the rest of the chain
/// get -ECANCELED. If the call accepts this request and not the next, nothing is linked. No payload.
pub const IOCB_ATTR_LINK: u16 = 6;
/// Attribute: which thread and processor carried the request out. No payload in; struct
/// iocb_worker out. It does not change how the request is carried out: the thread may be one of the
/// library's, or one of the program's that submits or waits for events. If the kernel's AIO or io_uring
/// carried the request out, it is the thread that handed it over.
pub const IOCB_ATTR_WORKER: u16 = 7;
/// Attribute: which way the request was carried out. No payload in; struct iocb_route out.
pub const IOCB_ATTR_ROUTE: u16 = 8;
/// The first of the attribute numbers that are never assigned: for tests and private use.
pub const IOCB_ATTR_PRIVATE: u16 = 0x8000;

/// Feature: IOCB_ATTR_TIMING is handled. Bits 1 to 31 of the features stand for the attribute of
/// that number; an attribute whose bit is clear gets `ret` = -EOPNOTSUPP.
pub const IO_FEAT2_ATTR_TIMING: u64 = 0x2;
/// Feature: IOCB_ATTR_CACHE is handled.
pub const IO_FEAT2_ATTR_CACHE: u64 = 0x4;
/// Feature: IOCB_ATTR_IOPRIO is handled.
pub const IO_FEAT2_ATTR_IOPRIO: u64 = 0x8;
/// Feature: IOCB_ATTR_DEADLINE is handled.
pub const IO_FEAT2_ATTR_DEADLINE: u64 = 0x10;
/// Feature: IOCB_ATTR_DRAIN is handled.
pub const IO_FEAT2_ATTR_DRAIN: u64 = 0x20;
/// Feature: IOCB_ATTR_LINK is handled.
pub const IO_FEAT2_ATTR_LINK: u64 = 0x40;
/// Feature: IOCB_ATTR_WORKER is handled.
pub const IO_FEAT2_ATTR_WORKER: u64 = 0x80;
/// Feature: IOCB_ATTR_ROUTE is handled.
pub const IO_FEAT2_ATTR_ROUTE: u64 = 0x100;
/// Feature: the descriptor that io_ring_fd2() gives can be mapped for reading only (the memory is
/// sealed against new writers; Linux 5.1 or later).
pub const IO_FEAT2_RING_SEALED: u64 = 0x1_0000_0000;

/// A request: 64 bytes, then attributes (struct iocb_attr records, one after another).
///
/// Aligned to 8 bytes. It is copied at submit: the caller may reuse it at once. The memory that
/// `args` point to must stay valid, and descriptors open, until the request's event arrives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb2 {
    /// The whole record, attributes included; a multiple of 8, from 64 to 64 + 4096.
    pub bytes: u32,
    /// System call number (SYS_pread64 ...), or IOCB2_NOP.
    pub nr: u32,
    /// Given back in io_event2.data.
    pub data: u64,
    /// The system call's arguments.
    pub args: [u64; 6],
}

/// An attribute of a request: 16 bytes, then the attribute's own payload.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_attr {
    /// The whole attribute; a multiple of 8, at least 16.
    pub bytes: u16,
    /// IOCB_ATTR_*.
    pub id: u16,
    /// IOCB_ATTR_F_*. An unknown bit on a known attribute: the attribute's `ret` is -EINVAL.
    pub flags: u32,
    /// Given back in the return.
    pub cookie: u64,
}

/// A completion: 24 bytes, then attribute returns (struct iocb_attr_ret records), in the order of
/// the request's attributes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct io_event2 {
    /// The whole record; a multiple of 8.
    pub bytes: u32,
    /// 0; bits may be added: ignore those you don't know.
    pub flags: u32,
    /// From the request.
    pub data: u64,
    /// What the system call returned, or -errno.
    pub res: i64,
}

/// The answer to an attribute: 16 bytes, then the return's own payload.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_attr_ret {
    /// The whole return; a multiple of 8.
    pub bytes: u16,
    /// The attribute's id.
    pub id: u16,
    /// 0: handled, payload valid. -EOPNOTSUPP: not known or not handled here. Other -errno: it
    /// could not be handled. A payload that follows a `ret` other than 0 is zeros.
    pub ret: i32,
    /// From the attribute.
    pub cookie: u64,
}

/// Payload of IOCB_ATTR_TIMING's return: CLOCK_MONOTONIC, in nanoseconds.
///
/// For a request whose system call was not made (cancelled, refused), `start_ns` and `end_ns` are
/// both the time at which it was completed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_timing {
    /// When the request was submitted.
    pub submit_ns: u64,
    /// When its system call began; or, if the kernel's AIO or io_uring carried it out, when it was handed over.
    pub start_ns: u64,
    /// When its system call returned; or when it was taken back from the kernel's AIO or io_uring.
    pub end_ns: u64,
}

/// Payload of IOCB_ATTR_CACHE's return.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_cache {
    /// 1: the whole request was served without waiting for the device. 0: it was not.
    pub hit: u32,
    /// Zero.
    pub reserved: u32,
    /// Of the bytes asked for, those that were in the page cache before the request began. May be
    /// less than the request read although it was a hit: a hole need not be in the cache.
    pub bytes_cached: u64,
    /// The bytes that the request asked for, also if the file ends before.
    pub bytes_asked: u64,
}

/// Payload of IOCB_ATTR_IOPRIO.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_ioprio {
    /// As for ioprio_set(2): the class in bits 13 to 15, the level in the lower ones.
    pub ioprio: u32,
    /// Zero.
    pub reserved: u32,
}

/// Payload of IOCB_ATTR_DEADLINE.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_deadline {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub ns: u64,
}

/// Payload of IOCB_ATTR_WORKER's return. For a request whose system call was not made (cancelled,
/// refused) `ret` is -ECANCELED, as it is for IOCB_ATTR_CACHE.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_worker {
    /// The thread (gettid(2)).
    pub tid: u32,
    /// The processor on which the system call began.
    pub cpu: u32,
}

/// `iocb_route.route`: the system call was not made: the request was cancelled, refused, or too
/// late. A no-op is carried out like any other request.
pub const IOCB_ROUTE_NOT_MADE: u32 = 0;
/// `iocb_route.route`: a thread of the program carried the request out, within a call of the library.
pub const IOCB_ROUTE_INLINE: u32 = 1;
/// `iocb_route.route`: a worker thread carried the request out.
pub const IOCB_ROUTE_THREAD: u32 = 2;
/// `iocb_route.route`: the request was handed over to the kernel's AIO.
pub const IOCB_ROUTE_KERNEL_AIO: u32 = 3;
/// `iocb_route.route`: the request was handed over to io_uring.
pub const IOCB_ROUTE_IO_URING: u32 = 4;
/// `iocb_route.route`: the request waited until its file (a pipe, a socket, an eventfd) was ready,
/// without a thread of its own, and a worker thread then carried it out; or it was interrupted
/// while it waited.
pub const IOCB_ROUTE_READINESS: u32 = 5;

/// `iocb_route.flags`: the kernel carried the request out together with others that follow each
/// other in the same file, as one read or write.
pub const IOCB_ROUTE_F_MERGED: u32 = 1;

/// Payload of IOCB_ATTR_ROUTE's return. `ret` is 0 for every request, also for one whose system
/// call was not made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct iocb_route {
    /// IOCB_ROUTE_*; values may be added.
    pub route: u32,
    /// IOCB_ROUTE_F_*; bits may be added: ignore those you don't know.
    pub flags: u32,
}

/// The header of the shared ring. The data area begins `header_bytes` after it.
///
/// A program reads it, and writes `head` (through io_ring2_reap()) and nothing else. If it writes
/// elsewhere, it can lose its own events; nothing more happens.
#[repr(C)]
pub struct io_ring2 {
    /// IO_RING2_MAGIC.
    pub magic: u32,
    /// IO_RING2_VERSION.
    pub version: u32,
    /// The data area begins this far from the header.
    pub header_bytes: u32,
    /// Size of the data area, a power of two.
    pub ring_bytes: u32,
    /// IO_FEAT2_*: the features of this library and kernel.
    pub features: u64,
    /// Unique in the process, never reused.
    pub id: u64,
    /// Zero.
    pub reserved0: [u64; 4],
    /// Bytes ever published, free-running, wraps at 2^32. Written by the library.
    pub tail: u32,
    /// IO_RING2_OVERFLOW. Written by the library.
    pub flags: u32,
    /// Requests ever accepted. Written by the library.
    pub submitted: u64,
    /// Events ever produced, the overflow list's included. Written by the library.
    pub completed: u64,
    /// Events that ever took the overflow list. Written by the library.
    pub overflowed: u64,
    /// Zero.
    pub reserved1: [u64; 4],
    /// Bytes ever reaped, free-running. Written by every reaper.
    pub head: u32,
    /// Zero, as is the rest up to header_bytes.
    pub reserved2: u32,
}

/// A context: the address of the ring's mapping in this process.
pub type io_context2_t = *mut io_ring2;

/// The parameters of io_setup2(). It writes `ring_bytes` and `features`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct io_setup2_params {
    /// In: sizeof(struct io_setup2_params) as the caller knows it (at least 4, else -EINVAL).
    pub bytes: u32,
    /// In: none defined yet; an unknown bit: -EINVAL.
    pub flags: u32,
    /// In: bytes of events the ring holds; 0 = 64 KiB; at most 1 GiB, else -EINVAL. Out: the size
    /// that was made, a power of two, at least a page.
    pub ring_bytes: u32,
    /// In: most requests in flight (accepted, their event not yet produced); 0 = 65536. The size
    /// of the ring does not limit it.
    pub max_requests: u32,
    /// In: most worker threads for this context's requests at a time; 0 = automatic.
    pub workers: u32,
    /// In: at least 1 is added to this eventfd after events have been published; -1 = none. The
    /// library keeps a duplicate: the caller may close its own. Not open: -EBADF. Not an eventfd:
    /// -EINVAL; but 0 where descriptor 0 is no eventfd means none, so that a zeroed structure
    /// works.
    pub eventfd: i32,
    /// Out: IO_FEAT2_*.
    pub features: u64,
    /// In: zero, else -EINVAL.
    pub reserved: [u64; 4],
}

const _: () = {
    assert!(size_of::<iocb2>() == 64);
    assert!(offset_of!(iocb2, nr) == 4);
    assert!(offset_of!(iocb2, data) == 8);
    assert!(offset_of!(iocb2, args) == 16);
    assert!(size_of::<iocb_attr>() == 16);
    assert!(offset_of!(iocb_attr, id) == 2);
    assert!(offset_of!(iocb_attr, flags) == 4);
    assert!(offset_of!(iocb_attr, cookie) == 8);
    assert!(size_of::<io_event2>() == 24);
    assert!(offset_of!(io_event2, flags) == 4);
    assert!(offset_of!(io_event2, data) == 8);
    assert!(offset_of!(io_event2, res) == 16);
    assert!(size_of::<iocb_attr_ret>() == 16);
    assert!(offset_of!(iocb_attr_ret, id) == 2);
    assert!(offset_of!(iocb_attr_ret, ret) == 4);
    assert!(offset_of!(iocb_attr_ret, cookie) == 8);
    assert!(size_of::<iocb_timing>() == 24);
    assert!(size_of::<iocb_cache>() == 24);
    assert!(offset_of!(iocb_cache, bytes_cached) == 8);
    assert!(offset_of!(iocb_cache, bytes_asked) == 16);
    assert!(size_of::<iocb_ioprio>() == 8);
    assert!(size_of::<iocb_deadline>() == 8);
    assert!(size_of::<iocb_worker>() == 8);
    assert!(offset_of!(iocb_worker, cpu) == 4);
    assert!(size_of::<iocb_route>() == 8);
    assert!(offset_of!(iocb_route, flags) == 4);
    assert!(size_of::<io_setup2_params>() == 64);
    assert!(offset_of!(io_setup2_params, ring_bytes) == 8);
    assert!(offset_of!(io_setup2_params, max_requests) == 12);
    assert!(offset_of!(io_setup2_params, workers) == 16);
    assert!(offset_of!(io_setup2_params, eventfd) == 20);
    assert!(offset_of!(io_setup2_params, features) == 24);
    assert!(offset_of!(io_setup2_params, reserved) == 32);
    assert!(offset_of!(io_ring2, ring_bytes) == 12);
    assert!(offset_of!(io_ring2, features) == 16);
    assert!(offset_of!(io_ring2, id) == 24);
    assert!(offset_of!(io_ring2, tail) == 64);
    assert!(offset_of!(io_ring2, flags) == 68);
    assert!(offset_of!(io_ring2, submitted) == 72);
    assert!(offset_of!(io_ring2, completed) == 80);
    assert!(offset_of!(io_ring2, overflowed) == 88);
    assert!(offset_of!(io_ring2, head) == 128);
};
