//! The C boundary: only pointers and errno.
//!
//! Each function converts its C arguments to Rust types, calls the core, and converts the result to a value >= 0 or a negative
//! errno. There is no logic here.
//!
//! # Safety
//! For all functions: each pointer is NULL, or valid for what the function does with it. A context handle may have any value,
//! because it is looked up and never dereferenced.
#![allow(clippy::missing_safety_doc)]

use crate::abi::{IO_SETUP2_VERSION, io_context2_t, io_event2, io_setup2_params, iocb2};
use crate::personality::instance::{global, global_or_new};
use crate::queue::{Behaviour, Context, ContextRef, Deadline, issue};
use crate::request::SizeClass;
use crate::ring::{Out, Ring};
use crate::sys::private_fd::Making;
use crate::sys::{NoCancel, Result, monotonic_ns, read_memory};
use crate::syscall::carrier::{self, answer};
use libc::{c_int, sigset_t, size_t, ssize_t, timespec};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use std::mem::offset_of;
use std::os::fd::IntoRawFd;
use std::ptr;

/// How contexts of this personality behave.
const BEHAVIOUR: Behaviour = Behaviour {
    holds_files: false,
    has_claims: false,
    cancels_at_close: true,
    submit_may_fault: false,
    usual_size: SizeClass::Small,
};

/// The ring of a context, if the context belongs to this personality.
fn ring_of(context: &Context) -> Result<&Ring> {
    context.ring().ring2().ok_or(Errno::EINVAL)
}

fn find(ctx: io_context2_t) -> Result<ContextRef> {
    let found = global().ok_or(Errno::EINVAL)?.registry.find(ctx as usize)?;
    ring_of(&found)?;
    Ok(found)
}

/// Makes a context and stores its handle in `*ctx`, which must be NULL on entry.
///
/// `version` is IO_SETUP2_VERSION. `params` may be NULL for the defaults; `ring_bytes` and
/// `features` are written back to it. A context costs one descriptor (two with an eventfd), no
/// thread, and little memory until it is used.
///
/// Returns 0, or
/// -EOPNOTSUPP: another version.
/// -EFAULT: `ctx` is NULL.
/// -EINVAL: `*ctx` is not NULL; unknown flags, or reserved fields that are not 0; `params->bytes`
/// less than 4; `ring_bytes` more than 1 GiB; `eventfd` is no eventfd.
/// -E2BIG: `params` is larger than the library knows, with something in the part that it does not
/// know.
/// -EBADF: `eventfd` is not open.
/// -EMFILE, -ENFILE, -ENOMEM: out of descriptors or memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_setup2(
    version: u32,
    params: *mut io_setup2_params,
    ctx: *mut io_context2_t,
) -> c_int {
    answer(|| {
        let _cancel = NoCancel::new();
        if version != IO_SETUP2_VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        if ctx.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: `ctx` is not NULL, so it is valid.
        if !unsafe { *ctx }.is_null() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: NULL or valid.
        let (mut asked, known) = unsafe { read_params(params)? };
        let global = global_or_new()?;
        let engines = global.engines(&global.pool);
        let handle = {
            // A child that is forked meanwhile would not know the context's descriptors.
            let _making = Making::begin();
            let context = Context::new(&mut asked, global.registry.new_id(), BEHAVIOUR, engines)?;
            global.insert(context)?
        };
        // SAFETY: `ctx` as above; `params` has `known` bytes.
        unsafe {
            write_back(&asked, params, known);
            *ctx = handle as io_context2_t;
        }
        Ok(0)
    }) as c_int
}

/// The parameters that this library knows, and how many of their bytes the caller has.
///
/// # Safety
/// `params` is NULL, or valid for the number of bytes in its first field.
unsafe fn read_params(params: *const io_setup2_params) -> Result<(io_setup2_params, usize)> {
    const KNOWN: usize = size_of::<io_setup2_params>();
    let mut asked = io_setup2_params {
        bytes: KNOWN as u32,
        flags: 0,
        ring_bytes: 0,
        max_requests: 0,
        workers: 0,
        eventfd: 0,
        features: 0,
        reserved: [0; 4],
    };
    if params.is_null() {
        asked.eventfd = -1;
        return Ok((asked, 0));
    }
    // SAFETY: `params` is not NULL, so the caller promises that its first field is valid.
    let bytes = unsafe { (&raw const (*params).bytes).read() } as usize;
    if bytes < size_of::<u32>() {
        return Err(Errno::EINVAL);
    }
    let known = bytes.min(KNOWN);
    // SAFETY: the caller has `bytes` bytes there, and any bits are valid parameters.
    unsafe { ptr::copy_nonoverlapping(params.cast::<u8>(), (&raw mut asked).cast(), known) };
    // By the kernel: a caller that has left `bytes` as it was has no such number of bytes there.
    let mut rest = [0; 256];
    for at in (known..bytes).step_by(rest.len()) {
        let left = (bytes - at).min(rest.len());
        let rest = &mut rest[..left];
        let is_read = read_memory((params as usize).wrapping_add(at), rest);
        if is_read.is_err() || rest.iter().any(|&byte| byte != 0) {
            return Err(Errno::E2BIG);
        }
    }
    if known < offset_of!(io_setup2_params, features) {
        // If the caller's structure has no `eventfd` yet, there is no eventfd.
        asked.eventfd = -1;
    }
    Ok((asked, known))
}

/// Writes the parameters that are used back to the caller, as far as its structure has them.
///
/// # Safety
/// `params` has `known` bytes.
unsafe fn write_back(made: &io_setup2_params, params: *mut io_setup2_params, known: usize) {
    let outputs = [
        (offset_of!(io_setup2_params, ring_bytes), size_of::<u32>()),
        (offset_of!(io_setup2_params, features), size_of::<u64>()),
    ];
    for (at, bytes) in outputs {
        let bytes = bytes.min(known.saturating_sub(at));
        // SAFETY: both structures have `known` bytes.
        unsafe {
            let from = ptr::from_ref(made).cast::<u8>().add(at);
            params
                .cast::<u8>()
                .wrapping_add(at)
                .copy_from_nonoverlapping(from, bytes);
        }
    }
}

/// Cancels queued requests, interrupts running ones if possible, waits for the rest, wakes waiters
/// with -EINVAL, and unmaps the ring.
///
/// Events that were not reaped are gone. A program that has unmapped or moved its view of the ring
/// keeps its present mappings there.
///
/// Returns 0, or
/// -EINVAL: not a live context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_destroy2(ctx: io_context2_t) -> c_int {
    answer(|| {
        let _cancel = NoCancel::new();
        let global = global().ok_or(Errno::EINVAL)?;
        find(ctx)?;
        global.remove(ctx as usize, |_| true, Context::close)?;
        Ok(0)
    }) as c_int
}

/// Submits the requests that lie one after another in `nbytes` bytes at `iocbs`; returns how many
/// bytes were accepted, always whole records. Never waits for I/O, neither for a device nor for a buffer that
/// is not in memory (of the caller's memory it reads the records alone), as long as there are threads to do
/// that. If no thread can be started, or none may run before the caller because of the caller's real-time
/// policy, it carries out itself the requests that wait for nobody else.
///
/// A malformed record, or the limit of `max_requests` in flight, ends it there: the records before it
/// are accepted. An error of the system call itself (a bad descriptor, a bad pointer) comes back in
/// the event's `res`; so does -ENOSYS for a system call that is not carried, which is never made.
///
/// Returns bytes, or
/// -EINVAL: not a live context; `iocbs` is not aligned to 8; the first record is malformed.
/// -EFAULT: `iocbs` is NULL, and `nbytes` is not 0.
/// -EAGAIN: `max_requests` are in flight; no memory for the first request; the process is ending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_submit2(
    ctx: io_context2_t,
    iocbs: *const iocb2,
    nbytes: size_t,
) -> ssize_t {
    answer(|| {
        crate::hooks::panic_at("submit");
        let context = find(ctx)?;
        if nbytes == 0 {
            return Ok(0);
        }
        check_records(iocbs)?;
        // SAFETY: aligned, and the caller has `nbytes` bytes there.
        unsafe { Context::submit(&context, iocbs.cast(), nbytes) }
    })
}

fn check_records(iocbs: *const iocb2) -> Result<()> {
    match iocbs as usize {
        0 => Err(Errno::EFAULT),
        at if at % 8 != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Copies whole events into `nbytes` bytes at `events`, oldest first, and returns their bytes.
///
/// Waits until it has `min_bytes` (0: does not wait), until the next event does not fit, or until
/// `timeout` (relative; NULL: no limit) has passed, and returns the events that it has.
///
/// Returns bytes, or, if nothing was copied,
/// -EINVAL: not a live context, or destroyed meanwhile; `min_bytes` > `nbytes`; `timeout` is not a
/// valid time.
/// -EFAULT: `events` is NULL, and `nbytes` is not 0.
/// -ENOBUFS: the first event has more than `nbytes` bytes. It stays.
/// -EINTR: a signal handler ran.
/// -EIO: the program has written nonsense to the ring. The events that were in it are lost, later
/// ones are not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_getevents2(
    ctx: io_context2_t,
    min_bytes: size_t,
    events: *mut io_event2,
    nbytes: size_t,
    timeout: *const timespec,
) -> ssize_t {
    // SAFETY: the caller's promises are the same.
    unsafe { io_pgetevents2(ctx, min_bytes, events, nbytes, timeout, ptr::null()) }
}

/// io_getevents2() with `sigmask`, unless it is NULL, as the calling thread's signal mask while it
/// waits, as ppoll(2) does it.
///
/// Returns as io_getevents2(), and -EMFILE, -ENFILE or -ENOMEM: with `sigmask`, it needs a
/// descriptor to wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_pgetevents2(
    ctx: io_context2_t,
    min_bytes: size_t,
    events: *mut io_event2,
    nbytes: size_t,
    timeout: *const timespec,
    sigmask: *const sigset_t,
) -> ssize_t {
    answer(|| {
        let context = find(ctx)?;
        if min_bytes > nbytes {
            return Err(Errno::EINVAL);
        }
        if events.is_null() && nbytes != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: NULL or valid.
        let (timeout, mask) = unsafe { (timeout.as_ref(), sigmask.as_ref()) };
        let deadline = deadline(timeout)?;
        let _cancel = mask.map(|_| NoCancel::new());
        // SAFETY: a signal set of the caller's.
        let mask = mask.map(|mask| unsafe { SigSet::from_sigset_t_unchecked(*mask) });
        // SAFETY: the caller has `nbytes` bytes there, until we return.
        let mut out = unsafe { Out::new(events.cast(), nbytes) };
        Context::get_events(&context, min_bytes, &mut out, deadline, mask.as_ref())
    })
}

fn deadline(timeout: Option<&timespec>) -> Result<Deadline> {
    let Some(timeout) = timeout else {
        return Ok(Deadline::Never);
    };
    match (
        u64::try_from(timeout.tv_sec),
        u64::try_from(timeout.tv_nsec),
    ) {
        (Ok(0), Ok(0)) => Ok(Deadline::Now),
        (Ok(s), Ok(ns @ ..1_000_000_000)) => {
            let ns = s
                .saturating_mul(1_000_000_000)
                .saturating_add(ns)
                .saturating_add(monotonic_ns());
            Ok(if ns > i64::MAX as u64 {
                Deadline::Never
            } else {
                Deadline::At(ns)
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Waits for one event, and copies it to `nbytes` bytes at `event`: the oldest, and no other, also if
/// more would fit.
///
/// `timeout` is relative; NULL: no limit. struct io_event2_room has room for an event with all attributes that the
/// header knows, and IO_EVENT2_ROOM() says how much room an event with some of them needs. Any number of threads
/// may wait at once, and beside io_getevents2(); each event goes to one of them.
///
/// Returns the event's bytes, or
/// 0: `timeout` has passed.
/// -ENOBUFS: the event has more than `nbytes` bytes. It stays; a call with more room gets it.
/// -EFAULT: `event` is NULL.
/// -EINVAL, -EINTR, -EIO: as io_getevents2().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_getevent2(
    ctx: io_context2_t,
    event: *mut io_event2,
    nbytes: size_t,
    timeout: *const timespec,
) -> ssize_t {
    answer(|| {
        let context = find(ctx)?;
        if event.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: NULL or valid.
        let deadline = deadline(unsafe { timeout.as_ref() })?;
        // SAFETY: the caller has `nbytes` bytes there, until we return.
        let mut out = unsafe { Out::new(event.cast(), nbytes) }.for_one();
        Context::get_events(&context, 1, &mut out, deadline, None)
    })
}

/// Takes the oldest queued request with that `data` out; it completes with `res` = -ECANCELED,
/// through the ring like any other. If none is queued, a running one is interrupted, if its system
/// call may wait for somebody else (a pipe, a socket, a lock). Then the event's `res` is the number
/// of bytes that were moved before, or -EINTR, or, if the call was not begun, -ECANCELED.
///
/// Returns 0, or
/// -EALREADY: it is running, and cannot be interrupted.
/// -ENOENT: there is none such.
/// -EINVAL: not a live context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_cancel2(ctx: io_context2_t, data: u64) -> c_int {
    answer(|| Context::cancel(&find(ctx)?, |here, _| here == data).map(|()| 0)) as c_int
}

/// Carries out one request in the calling thread, and writes its event, attribute returns included,
/// to `nbytes` bytes at `event`; returns the event's bytes.
///
/// Every attribute that makes sense there is handled; those about other requests (IOCB_ATTR_DRAIN,
/// IOCB_ATTR_LINK) are answered with -EOPNOTSUPP.
///
/// Returns bytes, or
/// -EFAULT: `iocb` or `event` is NULL.
/// -EINVAL: `iocb` is not aligned to 8, or malformed.
/// -ENOBUFS: the event would have more than `nbytes` bytes. The system call was not made.
/// -ENOMEM: no memory for the attributes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_issue2(
    iocb: *const iocb2,
    event: *mut io_event2,
    nbytes: size_t,
) -> ssize_t {
    answer(|| {
        check_records(iocb)?;
        if event.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the caller has `nbytes` bytes at `event`.
        let mut out = unsafe { Out::new(event.cast(), nbytes) };
        // SAFETY: a record of the caller's: aligned, and with the number of bytes in its head.
        carrier::outside(|| unsafe { issue(iocb, &mut out) })
    })
}

/// A new descriptor (close-on-exec) for the ring's memory, for a monitor: its holder can map it for
/// reading only. The header is at offset 0, the data area `header_bytes` behind it.
///
/// Returns the descriptor, or
/// -EINVAL: not a live context.
/// -EMFILE, -ENFILE, -ENOMEM: out of descriptors or memory.
/// -ENOENT: no /proc, and no IO_FEAT2_RING_SEALED either.
/// -EFBIG: when the context was made, RLIMIT_FSIZE did not allow a file of the ring's size: there is none.
/// -EBADF: the program has closed the descriptor that the context keeps of its ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_ring_fd2(ctx: io_context2_t) -> c_int {
    answer(|| {
        let _cancel = NoCancel::new();
        let ring = ring_of(&*find(ctx)?)?.mem().open_read_only()?;
        Ok(ring.into_raw_fd() as usize)
    }) as c_int
}
