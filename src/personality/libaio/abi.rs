//! The definitions that programs for libaio or for the kernel's AIO system calls use: linux/aio_abi.h in our words.

pub use crate::ring::kernel::{EVENT_BYTES, EVENT_WORDS};
use core::mem::{offset_of, size_of};

pub const CMD_PREAD: u16 = 0;
pub const CMD_PWRITE: u16 = 1;
pub const CMD_FSYNC: u16 = 2;
pub const CMD_FDSYNC: u16 = 3;
pub const CMD_POLL: u16 = 5;
pub const CMD_NOOP: u16 = 6;
pub const CMD_PREADV: u16 = 7;
pub const CMD_PWRITEV: u16 = 8;

/// `iocb.resfd` is an eventfd to which 1 is added when the request has completed.
pub const FLAG_RESFD: u32 = 1;
/// `iocb.reqprio` is the request's I/O priority.
pub const FLAG_IOPRIO: u32 = 2;

/// struct iocb: a request. The variants of the C union for poll and vectors are views of the same fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Iocb {
    pub data: u64,
    pub key: u32,
    pub rw_flags: u32,
    pub opcode: u16,
    pub reqprio: u16,
    pub fildes: i32,
    /// The buffer, the array of iovecs, or the events to poll for.
    pub buf: u64,
    /// The number of bytes, or of iovecs.
    pub nbytes: u64,
    pub offset: i64,
    pub reserved2: u64,
    pub flags: u32,
    pub resfd: i32,
}

const _: () = {
    assert!(size_of::<Iocb>() == 64);
    assert!(offset_of!(Iocb, opcode) == 16);
    assert!(offset_of!(Iocb, buf) == 24);
    assert!(offset_of!(Iocb, reserved2) == 48);
    assert!(offset_of!(Iocb, resfd) == 60);
};
