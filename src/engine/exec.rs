//! Carries out a request in the calling thread.

use crate::abi::{IOCB_ATTR_LINK, iocb2};
use crate::attr::{self, SubmitClock};
use crate::policy::route::Route;
use crate::request::{Chunk, Record, Req, Scratch, Slabs, Stage, personality};
use crate::ring::Out;
use crate::sys::{Result, ready_now};
use crate::syscall::{
    Call, Tried, carrier, is_carried, is_full, make, make_interruptibly, make_nowait, rest_of,
    try_nowait,
};
use libc::{ECANCELED, ENOSYS, c_short};
use nix::errno::Errno;

/// Carries out the request in this thread and fills in its event. Changes errno. `now`: the current time, if the caller has just read the
/// clock.
pub fn execute(req: &mut Req, now: Option<u64>) {
    execute_by(req, make, now);
}

/// The same for a read through the page cache that must not wait for a device: -EINTR if it would have to wait.
pub fn execute_if_cached(req: &mut Req, now: Option<u64>) {
    execute_by(req, make_nowait, now);
}

/// The same in a worker that can be interrupted meanwhile.
pub fn execute_interruptibly(req: &mut Req) {
    execute_by(req, make_interruptibly, None);
}

fn execute_by(req: &mut Req, make: fn(&Call) -> i64, now: Option<u64>) {
    let continues = req.has_begun();
    if !continues {
        req.set_moved(0);
    }
    req.set_stage(Stage::Begun);
    if let Some(personality) = req.personality() {
        return (personality.execute)(req, make);
    }
    let call = *req.call();
    if continues {
        attr::resume(req, &call);
        let moved = req.moved();
        let res = make(&rest_of(&call, moved));
        return end(req, &call, moved, res);
    }
    if let Some(res) = not_made(req, &call) {
        return skip(req, res);
    }
    if req.bound().is_none() {
        carrier::settle();
        return req.set_res(make(&call));
    }
    match attr::carry_out(req, &call, make, now) {
        Ok(res) => {
            finish(req, &call, res);
        }
        Err(errno) => skip(req, -(errno as i32)),
    }
}

/// The result of a request whose call must not be made. None: the call is made.
fn not_made(req: &Req, call: &Call) -> Option<i32> {
    match req.refused() {
        0 if !is_carried(call) => Some(-ENOSYS),
        0 => None,
        refused => Some(refused),
    }
}

/// The call of a request returned `res`.
fn finish(req: &mut Req, call: &Call, res: i64) {
    req.set_res(res);
    if req.bound().has(IOCB_ATTR_LINK) && !is_full(call, res) {
        req.set_partial();
    }
}

/// Begins a request that [may wait in the epoll](crate::request::Bound::may_wait_in_epoll), or goes on with it, and tries its call without
/// waiting. If the answer is [`Tried::Done`], the request has its result. If a part was moved, the request keeps its number of bytes, and the
/// next thread goes on with the rest.
pub fn try_to_execute(req: &mut Req) -> Tried {
    if let Some(personality) = req.personality() {
        return (personality.try_to_execute)(req);
    }
    let call = *req.call();
    if req.has_begun() {
        attr::resume(req, &call);
    } else {
        req.set_moved(0);
        req.set_stage(Stage::Begun);
        if let Some(res) = not_made(req, &call) {
            skip(req, res);
            return Tried::Done(res.into());
        }
        carrier::settle();
        if let Err(errno) = attr::begin(req, &call) {
            skip(req, -(errno as i32));
            return Tried::Done(req.res());
        }
    }
    let moved = req.moved();
    let tried = try_nowait(&rest_of(&call, moved));
    match tried {
        Tried::Done(res) => end(req, &call, moved, res),
        Tried::MayWait { moved: more } => req.set_moved(moved + more),
        Tried::Waits(..) => {}
    }
    tried
}

/// Ends a request that only waits for its file, if that is ready. This polls once, because some files report an event only once.
pub fn end_if_ready(req: &mut Req) -> bool {
    let events = match req.fd() {
        // It has not arrived.
        ..0 => Err(Errno::EBADF),
        fd => match ready_now(fd, req.call().args[1] as c_short) {
            0 => return false,
            events => Ok(events as c_short),
        },
    };
    req.ready(events)
}

/// Ends a request that [`try_to_execute`] has begun, without another call: as if that call had been interrupted.
pub fn interrupt(req: &mut Req) {
    let (call, moved) = (*req.call(), req.moved());
    end(req, &call, moved, -i64::from(libc::EINTR));
}

/// The last call of a request returned `res`, after `moved` bytes.
fn end(req: &mut Req, call: &Call, moved: u64, res: i64) {
    attr::end(req);
    let res = match moved {
        0 => res,
        // As in the kernel: the next call reports an error that comes after some bytes.
        _ => moved as i64 + res.max(0),
    };
    finish(req, call, res);
}

/// The same call, with the descriptor that its file has in this thread's table.
pub fn here(call: &Call) -> Call {
    match personality() {
        Some(personality) if call.key.facts().is_some() => (personality.call_inside)(call),
        _ => *call,
    }
}

/// Fills in the event of a request that is cancelled before it has begun, or while it waits for its file.
pub fn cancel(req: &mut Req) {
    if req.has_begun() {
        return interrupt(req);
    }
    skip(req, -ECANCELED);
    if let Some(personality) = req.personality() {
        (personality.cancelled)(req);
    }
}

fn skip(req: &mut Req, res: i32) {
    req.set_route(Route::NotMade);
    attr::skip(req);
    req.set_res(i64::from(res));
}

/// Has the kernel begin to read the bytes that this request will read. A hint: a failure does not matter.
pub fn read_ahead(req: &Req) {
    let [_, _, bytes, offset, ..] = req.call().args;
    let fd = req.fd();
    // SAFETY: integers.
    unsafe {
        libc::syscall(
            libc::SYS_fadvise64,
            fd,
            offset,
            bytes,
            libc::POSIX_FADV_WILLNEED,
        )
    };
}

/// Carries out one record in the calling thread and copies its event to `out`. Changes errno.
///
/// # Safety
/// `iocb` is aligned to 8, and as many bytes from there on are readable as it says.
pub unsafe fn issue(iocb: *const iocb2, out: &mut Out) -> Result<usize> {
    let mut scratch = Scratch::new();
    // SAFETY: the caller's promise.
    let record = unsafe {
        let bytes = (&raw const (*iocb).bytes).read_volatile() as usize;
        Record::read(
            iocb.cast(),
            bytes,
            &SubmitClock::without_queue(),
            &mut scratch,
        )
        .map_err(|_| Errno::EINVAL)?
    };
    if !out.fits(record.event_bytes()) {
        return Err(Errno::ENOBUFS);
    }
    let mut slabs = Slabs::new();
    let slab = slabs.of(record.class());
    slab.add(Chunk::new(record.class(), 1).ok_or(Errno::ENOMEM)?);
    let slot = slab.free.pop().ok_or(Errno::ENOMEM)?;
    let mut req = record.build(slot, &scratch);
    req.set_route(Route::InlineSubmit);
    execute(&mut req, None);
    attr::route::answer(&mut req);
    out.push(req.event());
    Ok(out.len())
}

pub fn repeat(call: &Call) {
    match personality() {
        Some(personality) if call.key.facts().is_some() => (personality.make_inside)(call, make),
        _ => drop(make(call)),
    }
}
