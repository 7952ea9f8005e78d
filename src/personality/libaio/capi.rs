//! libaio's ten functions, in the three versions of libaio 0.3.113: the C boundary, as [`crate::personality::aio2`] is for `aio2.h`.
//!
//! # Safety
//! All functions: pointers may have any value. A context handle is looked up and never dereferenced; other memory is checked before it
//! is read or written ([`crate::sys::user`]).
#![allow(clippy::missing_safety_doc)]

use super::abi::EVENT_BYTES;
use super::submit::{self, key_of};
use super::{BEHAVIOUR, ring_of};
use crate::personality::instance::{global, global_or_new};
use crate::queue::{Context, ContextRef, Deadline};
use crate::ring::{Out, events::Events, kernel::could_be_at};
use crate::sys::user::Reader;
use crate::sys::{CancelLater, NoCancel, Result, monotonic_ns};
use crate::syscall::{AWAIT_FILE, Call, carrier::answer};
use libc::{c_int, c_long, sigset_t, timespec};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
#[cfg(not(test))]
use std::arch::global_asm;

// Each function is exported under libaio's name and version; `@@` marks the default version, to which programs link today. `remove`:
// its name here is not exported.
#[cfg(not(test))]
global_asm!(
    ".symver aio2_libaio_io_queue_init, io_queue_init@@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_queue_run, io_queue_run@@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_queue_release, io_queue_release@@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_submit, io_submit@@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_queue_wait_1, io_queue_wait@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_cancel_1, io_cancel@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_getevents_1, io_getevents@LIBAIO_0.1, remove",
    ".symver aio2_libaio_io_setup, io_setup@@LIBAIO_0.4, remove",
    ".symver aio2_libaio_io_destroy, io_destroy@@LIBAIO_0.4, remove",
    ".symver aio2_libaio_io_queue_wait, io_queue_wait@@LIBAIO_0.4, remove",
    ".symver aio2_libaio_io_cancel, io_cancel@@LIBAIO_0.4, remove",
    ".symver aio2_libaio_io_getevents, io_getevents@@LIBAIO_0.4, remove",
    ".symver aio2_libaio_io_pgetevents, io_pgetevents@@LIBAIO_0.5, remove",
);

/// A context's address.
type Handle = usize;

fn find(ctx: Handle) -> Result<ContextRef> {
    let found = global().ok_or(Errno::EINVAL)?.registry.find_moved(
        ctx,
        || could_be_at(ctx),
        |context| ring_of(context).is_ok_and(|ring| ring.is_at(ctx)),
        |context| {
            let _ = ring_of(context).map(|ring| ring.moved(ctx));
        },
    )?;
    if !ring_of(&found)?.has_its_id() {
        return Err(Errno::EINVAL);
    }
    Ok(found)
}

fn setup(max_events: c_int, ctxp: usize) -> Result<usize> {
    let _cancel = NoCancel::new();
    let mut memory = Reader::new();
    // SAFETY: a number.
    let ctx: usize = unsafe { memory.read(ctxp)? };
    if ctx != 0 || max_events == 0 {
        return Err(Errno::EINVAL);
    }
    let global = global_or_new()?;
    let engines = global.engines(&global.libaio_pool);
    let (ring, backlog) = Events::of_kernel(max_events as u32, global.registry.new_id())?;
    let context = Context::with_ring(ring, backlog, BEHAVIOUR, engines);
    let handle = global.insert(context)?;
    memory.write(ctxp, handle).inspect_err(|_| {
        let _ = destroy(handle);
    })?;
    Ok(0)
}

fn destroy(ctx: Handle) -> Result<usize> {
    let _cancel = NoCancel::new();
    let global = global().ok_or(Errno::EINVAL)?;
    let handle = find(ctx)?.handle();
    // The kernel looks at the ring: if it was moved or unmapped, there is no context.
    let is_there = |context: &Context| ring_of(context).is_ok_and(|ring| ring.is_at(handle));
    global.remove(handle, is_there, Context::close)?;
    Ok(0)
}

/// Reads the timeout.
fn read_timeout(timeout: *const timespec) -> Result<Deadline> {
    if timeout.is_null() {
        return Ok(Deadline::Never);
    }
    // SAFETY: plain numbers.
    let timeout: timespec = unsafe { Reader::new().read(timeout as usize)? };
    // As in the kernel: any number of nanoseconds is allowed, and a negative time never comes.
    if timeout.tv_sec >= i64::MAX / 1_000_000_000 {
        return Ok(Deadline::Never);
    }
    let ns = timeout
        .tv_sec
        .wrapping_mul(1_000_000_000)
        .wrapping_add(timeout.tv_nsec);
    Ok(match u64::try_from(ns) {
        Ok(0) => Deadline::Now,
        Err(_) => Deadline::Never,
        Ok(ns) => match monotonic_ns().saturating_add(ns) {
            late if late > i64::MAX as u64 => Deadline::Never,
            at => Deadline::At(at),
        },
    })
}

fn get_events(
    ctx: Handle,
    min_nr: c_long,
    nr: c_long,
    events: usize,
    deadline: Deadline,
    mask: Option<&SigSet>,
) -> Result<usize> {
    let context = find(ctx)?;
    // libaio looks at the ring before it asks the kernel.
    let nothing = matches!(deadline, Deadline::Now) && ring_of(&context)?.is_empty();
    if nothing && !Context::help_poller(&context) {
        return Ok(0);
    }
    if min_nr < 0 || min_nr > nr {
        return Err(Errno::EINVAL);
    }
    if nr == 0 {
        return Ok(0);
    }
    // No ring has more events than this.
    let nr = nr.min(1 << 26) as usize;
    let min = (min_nr as usize).min(nr) * EVENT_BYTES;
    let mut out = Out::unchecked(events as *mut u8, nr * EVENT_BYTES);
    let _cancel = mask.map(|_| NoCancel::new());
    Ok(Context::get_events(&context, min, &mut out, deadline, mask)? / EVENT_BYTES)
}

/// As [`answer`]. A thread that may be cancelled at any moment is cancelled after the call: until then it may hold locks.
fn answer_all(body: impl FnOnce() -> Result<usize>) -> c_int {
    let _later = CancelLater::new();
    answer(body) as c_int
}

/// How long a thread that may be cancelled at any moment waits at once.
const CANCELLABLE_NS: u64 = 50_000_000;

/// The same for a call that waits for events. `mask`: reads the caller's signal mask.
fn answer_waiting(
    ctx: Handle,
    [min_nr, nr]: [c_long; 2],
    events: usize,
    timeout: *const timespec,
    mask: impl Fn() -> Result<Option<SigSet>>,
) -> c_int {
    let mut until = None;
    let mut got = 0;
    loop {
        let later = CancelLater::new();
        let mut goes_on = false;
        let more = answer(|| {
            let mut deadline = match until {
                Some(deadline) => deadline,
                None => *until.insert(read_timeout(timeout)?),
            };
            let mut is_cut = false;
            if later.is_asynchronous {
                (deadline, is_cut) = deadline.cut(monotonic_ns() + CANCELLABLE_NS);
            }
            let [min, most] = [min_nr, nr].map(|count| count - got);
            let at = events.wrapping_add(got as usize * EVENT_BYTES);
            let count = get_events(ctx, min, most, at, deadline, mask()?.as_ref())?;
            goes_on = is_cut && (count as c_long) < min;
            Ok(count)
        }) as c_long;
        // If the thread was cancelled, it ends here.
        drop(later);
        if more < 0 && got == 0 {
            return more as c_int;
        }
        got += more.max(0);
        if more < 0 || !goes_on {
            return got as c_int;
        }
    }
}

fn cancel(ctx: Handle, iocb: usize) -> Result<usize> {
    // SAFETY: a number.
    let key: u32 = unsafe { Reader::new().read(key_of(iocb))? };
    if key != 0 {
        return Err(Errno::EINVAL);
    }
    let context = find(ctx)?;
    // As with the kernel, a read or a write cannot be cancelled.
    let is_wanted = |data, call: &Call| data == iocb as u64 && call.nr == AWAIT_FILE;
    match Context::cancel(&context, is_wanted) {
        Ok(()) => Err(Errno::EINPROGRESS),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// io_setup(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_setup(max_events: c_int, ctxp: usize) -> c_int {
    answer_all(|| setup(max_events, ctxp))
}

/// io_destroy(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_destroy(ctx: Handle) -> c_int {
    answer_all(|| destroy(ctx))
}

/// io_submit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_submit(ctx: Handle, nr: c_long, iocbs: usize) -> c_int {
    answer_all(|| {
        let nr = usize::try_from(nr).map_err(|_| Errno::EINVAL)?;
        let context = find(ctx)?;
        if nr == 0 {
            return Ok(0);
        }
        let global = global().ok_or(Errno::EINVAL)?;
        submit::submit(&global.libaio, &context, nr, iocbs)
    })
}

/// io_getevents(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_getevents(
    ctx: Handle,
    min_nr: c_long,
    nr: c_long,
    events: usize,
    timeout: *const timespec,
) -> c_int {
    answer_waiting(ctx, [min_nr, nr], events, timeout, || Ok(None))
}

/// io_pgetevents(2), with the mask as in ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_pgetevents(
    ctx: Handle,
    min_nr: c_long,
    nr: c_long,
    events: usize,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    answer_waiting(ctx, [min_nr, nr], events, timeout, || {
        if mask.is_null() {
            return Ok(None);
        }
        // The kernel's part of a set is 8 bytes.
        // SAFETY: a number.
        let bits: u64 = unsafe { Reader::new().read(mask as usize)? };
        Ok(Some(signals(bits)))
    })
}

fn signals(bits: u64) -> SigSet {
    // SAFETY: zeros are an empty set. The kernel uses its first 8 bytes.
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        (&raw mut set).cast::<u64>().write(bits);
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// io_cancel(2). The event comes through the ring; `event` is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_cancel(ctx: Handle, iocb: usize, _event: usize) -> c_int {
    answer_all(|| cancel(ctx, iocb))
}

/// Makes a context for `max_events` requests. `*ctxp` need not be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_queue_init(max_events: c_int, ctxp: usize) -> c_int {
    answer_all(|| {
        if max_events <= 0 {
            return Err(Errno::EINVAL);
        }
        Reader::new().write(ctxp, 0usize)?;
        setup(max_events, ctxp)
    })
}

/// Destroys a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_queue_release(ctx: Handle) -> c_int {
    answer_all(|| destroy(ctx))
}

/// Calls the callback of each event that there is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_queue_run(ctx: Handle) -> c_int {
    type Callback = unsafe extern "C" fn(Handle, u64, c_long, c_long);
    loop {
        let mut event = [0u64; EVENT_BYTES / 8];
        let at = event.as_mut_ptr() as usize;
        let got = answer_all(|| get_events(ctx, 0, 1, at, Deadline::Now, None));
        if got != 1 {
            return got;
        }
        // SAFETY: io_set_callback() has stored it there; it is the program's own function.
        unsafe {
            let callback = std::mem::transmute::<usize, Callback>(event[0] as usize);
            callback(ctx, event[1], event[2] as c_long, event[3] as c_long);
        }
    }
}

/// Despite its name it does not wait, and never has since the kernel has AIO. It takes no event and needs none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_queue_wait(ctx: Handle, timeout: *const timespec) -> c_int {
    answer_waiting(ctx, [0, 0], 0, timeout, || Ok(None))
}

/// The version of libaio 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_queue_wait_1(
    ctx: Handle,
    timeout: *const timespec,
) -> c_int {
    answer_waiting(ctx, [0, 0], 0, timeout, || Ok(None))
}

/// The version of libaio 0.1, without an argument for the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_cancel_1(ctx: Handle, iocb: usize) -> c_int {
    answer_all(|| cancel(ctx, iocb))
}

/// The version of libaio 0.1, which waits for one event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio2_libaio_io_getevents_1(
    ctx: Handle,
    nr: c_long,
    events: usize,
    timeout: *const timespec,
) -> c_int {
    answer_waiting(ctx, [1, nr], events, timeout, || Ok(None))
}
