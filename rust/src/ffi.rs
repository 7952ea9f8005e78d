//! The part of aio2.h that this crate calls. `include/aio2.h` explains each item.

use libc::{c_int, ssize_t, timespec};

pub const VERSION: u32 = 2;
pub const NOP: u32 = 0xffff_ffff;
/// Words of a request's fixed part: `bytes` and `nr`, `data`, and six arguments.
pub const IOCB_WORDS: usize = 8;
/// Words of an event's fixed part: `bytes` and `flags`, `data`, `res`.
pub const EVENT_WORDS: usize = 3;
/// Words of an attribute, and of its return, before the payload.
pub const ATTR_WORDS: usize = 2;

pub const ATTR_TIMING: u16 = 1;
pub const ATTR_CACHE: u16 = 2;
pub const ATTR_IOPRIO: u16 = 3;
pub const ATTR_DEADLINE: u16 = 4;
pub const ATTR_DRAIN: u16 = 5;
pub const ATTR_LINK: u16 = 6;
pub const ATTR_WORKER: u16 = 7;
pub const ATTR_ROUTE: u16 = 8;
pub const ATTR_F_REQUIRED: u32 = 1;

/// A context's ring, of which this crate looks at nothing.
#[repr(C)]
pub struct Ring {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct Params {
    pub bytes: u32,
    pub flags: u32,
    pub ring_bytes: u32,
    pub max_requests: u32,
    pub workers: u32,
    pub eventfd: c_int,
    pub features: u64,
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<Params>() == 64);

unsafe extern "C" {
    pub fn io_setup2(version: u32, params: *mut Params, ctx: *mut *mut Ring) -> c_int;
    pub fn io_destroy2(ctx: *mut Ring) -> c_int;
    pub fn io_submit2(ctx: *mut Ring, iocbs: *const u64, nbytes: usize) -> ssize_t;
    pub fn io_getevents2(
        ctx: *mut Ring,
        min_bytes: usize,
        events: *mut u64,
        nbytes: usize,
        timeout: *const timespec,
    ) -> ssize_t;
    pub fn io_cancel2(ctx: *mut Ring, data: u64) -> c_int;
    pub fn io_issue2(iocb: *const u64, event: *mut u64, nbytes: usize) -> ssize_t;
}
