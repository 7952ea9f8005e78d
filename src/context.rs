//! A context: a queue of requests, those that run, and the ring that their events go to.
//!
//! One lock guards all of it but the ring's reaping side. It is held for a few instructions, never
//! across a system call. What has to be done after an action and without the lock (waking,
//! signalling) is collected in [`After`].
//!
//! The way a request is carried out stays behind a seam: a carrier takes requests with
//! [`Context::take`], and gives each back with [`Context::complete`]; [`crate::pool`] is told with
//! `offer` that there are some.

use crate::abi::{IO_FEAT2_RING_SEALED, io_setup2_params, iocb2};
use crate::attr::{self, SubmitClock};
use crate::events::Events;
use crate::exec;
#[cfg(not(loom))]
use crate::libaio::{self, files::FileRef, ring::LegacyRing};
use crate::notify::Notifier;
use crate::pool::{Habit, Kick, Pool, Worker};
use crate::registry::ContextRef;
use crate::request::{
    Call, Chunk, Class, FreeList, FreeSlot, List, Record, Req, Running, Scratch, Slabs,
};
use crate::ring::{Backlog, Out, Reaped, Ring, RingMem, page_bytes};
use crate::sync::{AtomicU32, Lock, Relaxed};
use crate::sys::{NEVER, Result, Waited, futex_wait, futex_wake, monotonic_ns, poll, shielded};
use crate::wait::{Waiter, Wakes};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

const RING_BYTES_DEFAULT: u32 = 64 << 10;
const RING_BYTES_MAX: u32 = 1 << 30;
const MAX_REQUESTS_DEFAULT: u32 = 65536;
/// How long a waiter that carries requests out itself, for want of threads, sleeps between two
/// looks at requests that are not ready.
const HELP_TICK_NS: u64 = 10_000_000;
/// A caller with less time than this does not carry out its own requests while it waits.
#[cfg(not(loom))]
const HELP_AT_LEAST_NS: u64 = 50_000_000;
/// How long the end of the process waits for a context's lock.
const EXIT_PATIENCE_NS: u64 = 1_000_000_000;

pub struct Context {
    ring: Events,
    notifier: Option<Notifier>,
    pool: &'static Pool,
    max_requests: u32,
    /// Most requests that run at a time.
    limit: u32,
    /// Learned by the pool.
    pub habit: Habit,
    /// Bumped when a request ends while somebody waits for that (`State::watchers`): a futex.
    ended: AtomicU32,
    state: Lock<State>,
}

struct State {
    queue: List,
    /// What the end of the process leaves undone.
    left: List,
    running: Running,
    /// Accepted, event not yet produced.
    in_flight: u32,
    /// The pool knows that there is something in the queue.
    offered: bool,
    /// Nothing is accepted any more.
    closed: Option<Closed>,
    /// Threads that wait for requests to end.
    watchers: u32,
    /// Those in flight that the kernel would have completed within io_submit().
    at_once: u32,
    backlog: Backlog,
    slabs: Slabs,
}

/// Why a context accepts nothing any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// io_destroy2() has begun.
    Destroyed,
    /// The process is ending.
    Exiting,
}

impl State {
    fn check_open(&self) -> Result<()> {
        match self.closed {
            None => Ok(()),
            Some(Closed::Destroyed) => Err(Errno::EINVAL),
            Some(Closed::Exiting) => Err(Errno::EAGAIN),
        }
    }
}

/// What is left to do when the lock has been released.
#[must_use]
struct After {
    wakes: Wakes,
    published: bool,
    ended: bool,
    queued: bool,
    kick: Kick,
    /// The eventfd of the request.
    #[cfg(not(loom))]
    tell: Option<FileRef>,
}

impl After {
    fn new() -> After {
        After {
            wakes: Wakes::new(),
            published: false,
            ended: false,
            queued: false,
            kick: Kick::None,
            #[cfg(not(loom))]
            tell: None,
        }
    }

    /// A request has been carried out: its side is given back before its event can be seen.
    fn ended(_req: &mut Req) -> After {
        #[cfg_attr(loom, allow(unused_mut))]
        let mut after = After::new();
        #[cfg(not(loom))]
        {
            after.tell = libaio::request::ended(_req);
        }
        after
    }
}

impl Context {
    /// `id` is the new context's, `params` as the caller gave them; what was made is written back.
    pub fn new(params: &mut io_setup2_params, id: u64, pool: &'static Pool) -> Result<Context> {
        if params.flags != 0 || params.reserved != [0; 4] || params.ring_bytes > RING_BYTES_MAX {
            return Err(Errno::EINVAL);
        }
        let or = |value, default| if value == 0 { default } else { value };
        let ring_bytes = or(params.ring_bytes, RING_BYTES_DEFAULT)
            .next_power_of_two()
            .max(page_bytes() as u32);
        let notifier = Notifier::new(params.eventfd)?;
        let mem = RingMem::new(ring_bytes as usize)?;
        let header_bytes = mem.header_bytes() as u32;
        let sealed = if mem.sealed { IO_FEAT2_RING_SEALED } else { 0 };
        let (ring, backlog) = Ring::new(mem, ring_bytes, crate::hooks::first_counter());
        params.ring_bytes = ring_bytes;
        params.features = attr::features() | sealed;
        ring.describe(header_bytes, params.features, id);
        Ok(Context {
            ring: Events::Ring2(ring),
            notifier,
            pool,
            max_requests: or(params.max_requests, MAX_REQUESTS_DEFAULT),
            limit: or(params.workers, u32::MAX),
            habit: Habit::new(),
            ended: AtomicU32::new(0),
            state: Lock::new(State {
                queue: List::new(),
                left: List::new(),
                running: Running::new(),
                in_flight: 0,
                offered: false,
                closed: None,
                watchers: 0,
                at_once: 0,
                backlog,
                slabs: Slabs::new(),
            }),
        })
    }

    /// The address of the program's view of the ring.
    pub fn handle(&self) -> usize {
        self.ring.view()
    }

    /// The descriptors that the context holds, for a forked child to close; -1 for none.
    pub fn fds(&self) -> [RawFd; 2] {
        [
            self.ring.ring2().map_or(-1, |ring| ring.mem().fd()),
            self.notifier.as_ref().map_or(-1, Notifier::fd),
        ]
    }

    pub fn open_ring(&self) -> Result<OwnedFd> {
        self.ring
            .ring2()
            .ok_or(Errno::EINVAL)?
            .mem()
            .open_read_only()
    }

    /// Does what was left for after the lock.
    fn finish(&self, mut after: After) {
        after.wakes.wake();
        if after.published
            && let Some(notifier) = &self.notifier
        {
            notifier.signal();
        }
        #[cfg(not(loom))]
        if let Some(eventfd) = after.tell {
            libaio::request::tell(&eventfd);
        }
        if after.ended {
            futex_wake(&self.ended, i32::MAX);
        }
        match after.kick {
            Kick::None if after.queued && self.pool.short_of_threads() => self.pool.retry(),
            kick => self.pool.perform(kick),
        }
    }

    // ---- Submitting ----

    /// Accepts the records in `nbytes` bytes at `iocbs`, as far as they are well-formed and there
    /// is room; returns their bytes.
    ///
    /// # Safety
    /// `iocbs` is aligned to 8 and `nbytes` bytes behind it are readable.
    pub unsafe fn submit(this: &ContextRef, iocbs: *const u8, nbytes: usize) -> Result<usize> {
        let mut batch = Batch::begin(this, nbytes / size_of::<iocb2>())?;
        let clock = SubmitClock::new();
        let mut scratch = Scratch::new();
        let mut done = 0;
        let mut stopped = Errno::EINVAL;
        while done < nbytes {
            // SAFETY: within the bytes that the caller vouches for, and aligned: every record so
            // far was a multiple of 8.
            let record =
                unsafe { Record::read(iocbs.add(done), nbytes - done, &clock, &mut scratch) };
            let Ok(record) = record else { break };
            let Some(slot) = batch.slot(record.class()) else {
                stopped = Errno::EAGAIN;
                break;
            };
            done += record.bytes;
            batch.requests.push(record.build(slot, &scratch));
            batch.len += 1;
        }
        let rejected = batch.enqueue()?;
        if rejected != 0 {
            stopped = Errno::EAGAIN;
        }
        if done == rejected {
            Err(stopped)
        } else {
            Ok(done - rejected)
        }
    }

    /// How many more requests may be in flight.
    fn room(&self, state: &State) -> usize {
        let room = self.ring.room(&state.backlog, state.in_flight);
        self.max_requests.saturating_sub(state.in_flight).min(room) as usize
    }

    // ---- Carrying out ----

    /// Tells the pool, unless it knows, that there is something for one more worker to do.
    fn offer(this: &ContextRef, state: &mut State, after: &mut After) {
        if !state.offered && !state.queue.is_empty() && state.running.len() < this.limit {
            state.offered = true;
            after.kick = this.pool.offer(this.clone());
        }
    }

    /// Takes a request out of the queue, to be carried out and then completed by whoever calls.
    fn take(&self, state: &mut State) -> Option<Req> {
        if state.running.len() >= self.limit {
            return None;
        }
        let req = state.queue.pop()?;
        state.running.enter(&req);
        Some(req)
    }

    /// Carries requests out, in a worker to which the pool gave this context, until there is
    /// nothing more to do for it or the worker is wanted elsewhere.
    pub fn serve(this: &ContextRef, worker: &mut Worker) {
        let mut after = After::new();
        let mut state = this.state.lock();
        state.offered = false;
        let mut next = this.take(&mut state);
        loop {
            Context::offer(this, &mut state, &mut after);
            drop(state);
            this.finish(after);
            let Some(mut req) = next else { return };
            worker.carry_out(&this.habit, || exec::execute(&mut req));
            after = After::ended(&mut req);
            state = this.state.lock();
            this.complete(&mut state, req, &mut after);
            next = if worker.more() {
                this.take(&mut state)
            } else {
                None
            };
        }
    }

    /// Publishes the event of a request that was taken.
    fn complete(&self, state: &mut State, req: Req, after: &mut After) {
        state.running.leave(&req);
        self.publish(state, req, after);
    }

    fn publish(&self, state: &mut State, req: Req, after: &mut After) {
        state.in_flight -= 1;
        #[cfg(not(loom))]
        if req.side().is_some_and(|side| side.at_once) {
            state.at_once -= 1;
        }
        self.ring
            .publish(&mut state.backlog, req, &mut state.slabs, &mut after.wakes);
        after.published = true;
        self.note_end(state, after);
    }

    /// Tells those who wait for a request to end.
    fn note_end(&self, state: &State, after: &mut After) {
        if state.watchers != 0 {
            // Relaxed: the lock orders it. They read it under the lock before they sleep.
            self.ended.fetch_add(1, Relaxed);
            after.ended = true;
        }
    }

    /// Waits until `over`, which is asked under the lock whenever a request has ended.
    fn wait_for_end(&self, mut over: impl FnMut(&State) -> bool) {
        let mut state = self.state.lock();
        state.watchers += 1;
        while !over(&state) {
            let seen = self.ended.load(Relaxed);
            drop(state);
            futex_wait(&self.ended, seen, NEVER);
            state = self.state.lock();
        }
        state.watchers -= 1;
    }

    /// Carries one queued request that `wanted` says yes to out in this thread, whatever the limit
    /// of workers. False if there is none.
    fn carry_out_here(&self, mut wanted: impl FnMut(&Call) -> bool) -> bool {
        let mut state = self.state.lock();
        let Some(mut req) = state.queue.remove_first(|_, call| wanted(call)) else {
            return false;
        };
        state.running.enter(&req);
        drop(state);
        shielded(|| exec::execute(&mut req));
        let mut after = After::ended(&mut req);
        let mut state = self.state.lock();
        self.complete(&mut state, req, &mut after);
        drop(state);
        self.finish(after);
        true
    }

    // ---- Reaping ----

    /// Copies events to `out` until it has `min` bytes, the next event does not fit, or the time is
    /// up. `mask` is the caller's signal mask while it waits.
    pub fn get_events(
        &self,
        min: usize,
        out: &mut Out,
        deadline: Deadline,
        mask: Option<&SigSet>,
    ) -> Result<usize> {
        // A signal that the mask lets through must come through, also if there is nothing to wait
        // for.
        let mut interrupted =
            mask.is_some_and(|mask| sleep_in_poll(None, 0, mask) == Waited::Interrupted);
        let mut sleeper: Option<Sleeper> = None;
        loop {
            let enough = match self.reap_ring(out) {
                Reaped::Empty => out.len() >= min && !self.ring.overflowing(),
                Reaped::NoRoom => sleeper.is_none() && out.len() != 0,
                _ => false,
            };
            let nothing = out.len() == 0;
            if enough && !(nothing && (interrupted || self.pool.short_of_threads())) {
                return Ok(out.len());
            }
            let mut after = After::new();
            let mut state = self.state.lock();
            let State {
                backlog,
                slabs,
                closed,
                ..
            } = &mut *state;
            let end = match self.ring.collect(backlog, slabs, out) {
                Reaped::NoRoom => Some(Errno::ENOBUFS),
                Reaped::Corrupt => {
                    self.ring.reset(backlog);
                    Some(Errno::EIO)
                }
                #[cfg(not(loom))]
                Reaped::Fault => Some(Errno::EFAULT),
                _ if *closed == Some(Closed::Destroyed) => Some(Errno::EINVAL),
                _ if interrupted => Some(Errno::EINTR),
                _ => None,
            };
            let over = end.is_some() || out.len() >= min || deadline.passed();
            if over && end.is_none() && out.len() == 0 && self.pool.short_of_threads() {
                // Who asks again and again and never waits has to help, too.
                drop(state);
                if self.carry_out_here(exec::is_ready) {
                    continue;
                }
                return Ok(0);
            }
            if !over {
                let need = (min - out.len()) as u64;
                let sleeper = match &mut sleeper {
                    Some(sleeper) => sleeper,
                    None => {
                        // Not under the lock: it may make a system call. So look again afterwards.
                        drop(state);
                        sleeper = Some(Sleeper::new(mask.is_some())?);
                        continue;
                    }
                };
                backlog.waiters.enter(&sleeper.waiter, need);
                drop(state);
                interrupted = self.sleep(sleeper, &deadline, mask) == Waited::Interrupted;
                continue;
            }
            if sleeper.is_some() {
                // We may have been woken for events that we leave behind: they are for the next.
                self.ring.wake(backlog, &mut after.wakes);
            }
            drop(state);
            self.finish(after);
            return match end {
                Some(errno) if out.len() == 0 => Err(errno),
                _ => Ok(out.len()),
            };
        }
    }

    /// Reaps without the lock, as far as it goes.
    fn reap_ring(&self, out: &mut Out) -> Reaped {
        self.ring.reap(out)
    }

    /// Sleeps until the listed waiter is woken, the time is up or a signal handler has run; then
    /// the waiter is off the list.
    fn sleep(&self, sleeper: &Sleeper, deadline: &Deadline, mask: Option<&SigSet>) -> Waited {
        let waiter = &sleeper.waiter;
        let mut until = deadline.ns();
        if self.pool.short_of_threads() {
            // Perhaps nobody else comes to carry them out.
            self.pool.retry();
            while !waiter.woken() && !deadline.passed() && self.carry_out_here(exec::is_ready) {}
            until = until.min(monotonic_ns() + HELP_TICK_NS);
        }
        let waited = match mask {
            Some(mask) => sleep_in_poll(sleeper.eventfd.as_ref(), until, mask),
            None => waiter.park(until),
        };
        if !self.state.lock().backlog.waiters.leave(waiter) {
            while !waiter.woken() {
                waiter.park(NEVER);
            }
        }
        waited
    }

    /// Wakes all who wait: they look again.
    pub fn wake_waiters(&self) {
        let mut after = After::new();
        self.state.lock().backlog.waiters.take_all(&mut after.wakes);
        self.finish(after);
    }

    // ---- Cancelling, ending ----

    /// Takes the oldest queued request with that `data` out.
    pub fn cancel(&self, data: u64) -> Result<()> {
        let mut after = After::new();
        let mut state = self.state.lock();
        let Some(mut req) = state.queue.remove_first(|queued, _| queued == data) else {
            let running = state.running.any(|running, _| running == data);
            return Err(if running {
                Errno::EALREADY
            } else {
                Errno::ENOENT
            });
        };
        exec::cancel(&mut req);
        self.publish(&mut state, req, &mut after);
        drop(state);
        self.finish(after);
        Ok(())
    }

    /// Cancels what is queued, wakes those who wait, and waits for what runs. Nobody can find the
    /// context any more; those who had found it before may still be inside.
    pub fn close(&self) {
        let mut after = After::new();
        let mut state = self.state.lock();
        state.closed = Some(Closed::Destroyed);
        // What io_submit() has accepted is carried out, as with the kernel.
        while self.ring.ring2().is_some()
            && let Some(mut req) = state.queue.pop()
        {
            exec::cancel(&mut req);
            self.publish(&mut state, req, &mut after);
        }
        state.backlog.waiters.take_all(&mut after.wakes);
        drop(state);
        self.finish(after);
        if self.ring.ring2().is_some() {
            self.wait_until_idle();
        }
    }

    /// Waits until nothing is in flight. If there are no threads to see to that, this one does.
    pub fn wait_until_idle(&self) {
        while self.pool.short_of_threads() && self.carry_out_here(|_| true) {}
        self.wait_for_end(|state| state.in_flight == 0);
    }

    /// Sees to it, at the end of the process, that what was accepted and is for files is carried
    /// out. What waits for something else would perhaps wait for ever: it ends with the process.
    #[cfg(not(loom))]
    pub fn drain(&self) {
        // exit() may have been called by a signal handler, in a thread that has the lock: then it
        // never comes free.
        let Some(mut state) = self.state.try_lock_for(EXIT_PATIENCE_NS) else {
            return;
        };
        state.closed.get_or_insert(Closed::Exiting);
        // In one pass: a queue may be long.
        let mut queue = std::mem::replace(&mut state.queue, List::new());
        while let Some(req) = queue.pop() {
            if exec::is_on_file(req.call()) {
                state.queue.push(req);
            } else {
                state.left.push(req);
            }
        }
        drop(state);
        while self.carry_out_here(|_| true) {}
        self.wait_for_files();
    }

    /// Sees to it that what has been accepted and is for files is carried out, while the context
    /// stays open.
    #[cfg(not(loom))]
    pub fn flush(&self) {
        while self.carry_out_here(exec::is_on_file) {}
        self.wait_for_files();
    }

    #[cfg(not(loom))]
    fn wait_for_files(&self) {
        self.wait_for_end(|state| !state.running.any(|_, call| exec::is_on_file(call)));
    }
}

/// Sleeps in ppoll(2), the one call that changes the signal mask and waits as one: until the
/// eventfd is written to, CLOCK_MONOTONIC is `until`, or a signal handler has run.
fn sleep_in_poll(eventfd: Option<&EventFd>, until: u64, mask: &SigSet) -> Waited {
    let left = if until == 0 {
        0
    } else {
        until.saturating_sub(monotonic_ns())
    };
    let fd = eventfd.map_or(-1, |fd| fd.as_fd().as_raw_fd());
    match poll(fd, libc::POLLIN, Some(left), Some(mask)) {
        0 => Waited::TimedOut,
        -1 => Waited::Interrupted,
        _ => Waited::Woken,
    }
}

/// Where one call of io_getevents2() sleeps.
struct Sleeper {
    waiter: Waiter,
    eventfd: Option<EventFd>,
}

impl Sleeper {
    fn new(in_poll: bool) -> Result<Sleeper> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd = if in_poll {
            Some(EventFd::from_value_and_flags(0, flags)?)
        } else {
            None
        };
        Ok(Sleeper {
            waiter: Waiter::new(eventfd.as_ref().map(|fd| fd.as_fd().as_raw_fd())),
            eventfd,
        })
    }
}

/// When a wait is over, whatever has come.
pub enum Deadline {
    Never,
    /// It does not wait at all.
    Now,
    /// CLOCK_MONOTONIC in nanoseconds.
    At(u64),
}

impl Deadline {
    fn passed(&self) -> bool {
        match *self {
            Deadline::Never => false,
            Deadline::Now => true,
            Deadline::At(ns) => monotonic_ns() >= ns,
        }
    }

    fn ns(&self) -> u64 {
        match *self {
            Deadline::Never => NEVER,
            Deadline::Now => 0,
            Deadline::At(ns) => ns,
        }
    }
}

/// What only contexts of io_setup() need.
#[cfg(not(loom))]
impl Context {
    /// A context of the old kind, for `max_events` requests and more.
    pub fn new_legacy(max_events: u32, id: u64, pool: &'static Pool) -> Result<Context> {
        let events = libaio::ring::events_for(max_events)?;
        let ring = LegacyRing::new(events, id as u32)?;
        Ok(Context {
            ring: Events::Legacy(ring),
            notifier: None,
            pool,
            max_requests: u32::MAX,
            limit: u32::MAX,
            habit: Habit::new(),
            ended: AtomicU32::new(0),
            state: Lock::new(State {
                queue: List::new(),
                running: Running::new(),
                in_flight: 0,
                offered: false,
                closed: None,
                watchers: 0,
                at_once: 0,
                left: List::new(),
                backlog: Backlog::new(0),
                slabs: Slabs::new(),
            }),
        })
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    pub fn legacy_ring(&self) -> Result<&LegacyRing> {
        self.ring.legacy().ok_or(Errno::EINVAL)
    }

    /// How many of the next `nr` events the kernel would have had ready when io_submit() returned.
    pub fn due(&self, nr: usize) -> usize {
        let state = self.state.lock();
        let Some(ring) = self.ring.legacy().filter(|_| state.at_once != 0) else {
            return 0;
        };
        let ready = ring.available(&state.backlog) as usize / libaio::abi::EVENT_BYTES;
        nr.min(ready + state.at_once as usize)
    }

    /// A caller is about to wait for `min` bytes of events. If what it waits for has not been
    /// begun, and would have been done in its io_submit() by the kernel, it does it itself instead
    /// of sleeping until another thread has.
    pub fn help(&self, min: usize, deadline: &Deadline) {
        if let Deadline::At(ns) = *deadline
            && ns < monotonic_ns() + HELP_AT_LEAST_NS
        {
            return;
        }
        loop {
            let mut state = self.state.lock();
            let Some(ring) = self.ring.legacy() else {
                return;
            };
            if state.running.len() != 0 || ring.available(&state.backlog) >= min as u64 {
                return;
            }
            let at_once = |req: &Req| req.side().is_some_and(|side| side.at_once);
            let Some(mut req) = state.queue.pop_if(at_once) else {
                return;
            };
            state.running.enter(&req);
            drop(state);
            shielded(|| exec::execute(&mut req));
            let mut after = After::ended(&mut req);
            let mut state = self.state.lock();
            self.complete(&mut state, req, &mut after);
            drop(state);
            self.finish(after);
        }
    }

    /// Publishes a request that was in flight but not running here.
    pub fn complete_elsewhere(&self, mut req: Req) {
        let mut after = After::ended(&mut req);
        let mut state = self.state.lock();
        self.publish(&mut state, req, &mut after);
        drop(state);
        self.finish(after);
    }
}

/// A submit under way: the caller's records are read, and requests built, without the lock.
pub struct Batch<'a> {
    context: &'a ContextRef,
    /// Places for small requests that it has taken.
    small: FreeList,
    /// How many requests there was room for when it began.
    room: usize,
    requests: List,
    len: usize,
    /// Of the requests, those that the kernel would complete at once.
    #[cfg(not(loom))]
    at_once: u32,
}

impl<'a> Batch<'a> {
    fn begin(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        let mut state = context.state.lock();
        state.check_open()?;
        let room = context.room(&state);
        let mut small = FreeList::new(Class::Small);
        small.take_from(&mut state.slabs.of(Class::Small).free, wanted.min(room));
        Ok(Batch {
            context,
            small,
            room,
            requests: List::new(),
            len: 0,
            #[cfg(not(loom))]
            at_once: 0,
        })
    }

    /// A place for one more request; None if there is no room, or no memory.
    pub fn slot(&mut self, class: Class) -> Option<FreeSlot> {
        if self.len == self.room {
            return None;
        }
        if class == Class::Small
            && let Some(slot) = self.small.take()
        {
            return Some(slot);
        }
        loop {
            let mut state = self.context.state.lock();
            let slab = state.slabs.of(class);
            if let Some(slot) = slab.free.take() {
                return Some(slot);
            }
            // The allocator may make system calls: not under the lock.
            let slots = slab.growth(1);
            drop(state);
            let chunk = Chunk::new(class, slots)?;
            self.context.state.lock().slabs.of(class).add(chunk);
        }
    }

    /// Queues what was built, as far as there still is room, and gives back what was not used.
    /// Returns the bytes of the records that were not accepted.
    fn enqueue(mut self) -> Result<usize> {
        let mut after = After::new();
        let mut rejected = 0;
        let mut state = self.context.state.lock();
        let unused = self.small.len();
        state
            .slabs
            .of(Class::Small)
            .free
            .take_from(&mut self.small, unused);
        let open = state.check_open();
        let room = if open.is_ok() {
            self.context.room(&state)
        } else {
            0
        };
        while self.len > room {
            let Some(req) = self.requests.pop_last() else {
                break;
            };
            rejected += req.record_bytes();
            state.slabs.free(req);
            self.len -= 1;
        }
        if self.len != 0 {
            state.in_flight += self.len as u32;
            self.context
                .ring
                .accepted(&mut state.backlog, self.len as u64);
            state.queue.append(&mut self.requests);
            after.queued = true;
            Context::offer(self.context, &mut state, &mut after);
        }
        drop(state);
        self.context.finish(after);
        open.map(|()| rejected)
    }
}

/// A submit of io_submit(): its places in flight are reserved at the beginning, because some of its
/// requests may complete before it is over.
#[cfg(not(loom))]
impl<'a> Batch<'a> {
    pub fn reserve_up_to(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        let mut batch = Batch::begin(context, wanted)?;
        let mut state = context.state.lock();
        batch.room = context.room(&state).min(wanted);
        state.in_flight += batch.room as u32;
        Ok(batch)
    }

    pub fn is_full(&self) -> bool {
        self.len == self.room
    }

    /// One more request, for the pool.
    pub fn queue(&mut self, req: Req) {
        self.at_once += u32::from(req.side().is_some_and(|side| side.at_once));
        self.requests.push(req);
        self.len += 1;
    }

    /// One more request, that somebody else completes.
    pub fn count(&mut self) {
        self.len += 1;
    }

    /// Queues what was built, and gives back what was not used.
    pub fn enqueue_reserved(mut self) {
        let mut after = After::new();
        let mut state = self.context.state.lock();
        let unused = self.small.len();
        state
            .slabs
            .of(Class::Small)
            .free
            .take_from(&mut self.small, unused);
        state.in_flight -= (self.room - self.len) as u32;
        state.at_once += self.at_once;
        if !self.requests.is_empty() {
            state.queue.append(&mut self.requests);
            after.queued = true;
            Context::offer(self.context, &mut state, &mut after);
        }
        self.context.note_end(&state, &mut after);
        drop(state);
        self.context.finish(after);
    }
}
