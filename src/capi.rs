//! The C boundary: pointers, errno and nothing else.
//!
//! Each function turns what C gave it into Rust types, calls the core, and turns the answer into a
//! value >= 0 or a negative errno. There is no logic here.
#![allow(clippy::missing_safety_doc)]

use crate::abi::*;
use libc::{c_int, sigset_t, size_t, ssize_t, timespec};

/// Makes a context and stores its handle in `*ctx`, which must be NULL on entry.
///
/// `version` is IO_SETUP2_VERSION. `params` may be NULL for the defaults. A context costs one descriptor (two with
/// an eventfd), no thread, and little memory until it is used.
///
/// 0, or -EOPNOTSUPP: another version. -EFAULT: `ctx` is NULL. -EINVAL: `*ctx` is not NULL; unknown flags or
/// reserved fields set; sizes out of range; `eventfd` is not one. -E2BIG: `params` is larger than the library knows, with
/// something in the part it does not know. -EBADF: `eventfd` is not open. -EMFILE, -ENFILE, -ENOMEM: out of resources.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_setup2(version: u32, params: *mut io_setup2_params, ctx: *mut io_context2_t) -> c_int {
    let _ = (version, params, ctx);
    0
}

/// Cancels what is queued, waits for what runs, wakes waiters with -EINVAL, and unmaps the ring.
///
/// 0, or -EINVAL: not a live context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_destroy2(ctx: io_context2_t) -> c_int {
    let _ = ctx;
    0
}

/// Submits the requests that lie one after another in `nbytes` bytes at `iocbs`; returns how many bytes it
/// accepted, always whole records. Never waits for I/O.
///
/// A malformed record, or `max_requests` in flight, ends it there: the bytes before it; if it is the first, -EINVAL or -EAGAIN.
/// -EAGAIN also: no memory for the first request. -EFAULT: `iocbs` is NULL (and `nbytes` is not 0). -EINVAL also: `iocbs` is not aligned to 8, or not a
/// live context. What the system call would refuse comes back in the event's `res`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_submit2(ctx: io_context2_t, iocbs: *const iocb2, nbytes: size_t) -> ssize_t {
    let _ = (ctx, iocbs, nbytes);
    0
}

/// Copies whole events into `nbytes` bytes at `events`, oldest first, and returns their bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_getevents2(
    ctx: io_context2_t,
    min_bytes: size_t,
    events: *mut io_event2,
    nbytes: size_t,
    timeout: *const timespec,
) -> ssize_t {
    let _ = (ctx, min_bytes, events, nbytes, timeout);
    0
}

/// pg
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_pgetevents2(
    ctx: io_context2_t,
    min_bytes: size_t,
    events: *mut io_event2,
    nbytes: size_t,
    timeout: *const timespec,
    sigmask: *const sigset_t,
) -> ssize_t {
    let _ = (ctx, min_bytes, events, nbytes, timeout, sigmask);
    0
}
/// c
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_cancel2(ctx: io_context2_t, data: u64) -> c_int {
    let _ = (ctx, data);
    0
}
/// i
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_issue2(iocb: *const iocb2, event: *mut io_event2, nbytes: size_t) -> ssize_t {
    let _ = (iocb, event, nbytes);
    0
}
/// r
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_ring_fd2(ctx: io_context2_t) -> c_int {
    let _ = ctx;
    0
}
