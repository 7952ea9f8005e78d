//! A caller that wants events: it carries requests out, or sleeps until there are events.

use super::doorbell::Doorbell;
use super::own_queue::Visit;
use super::stand_in::HELP_TICK_NS;
use super::{Closed, Context, Deferred, State};
use crate::abi::IOCB2_NOP;
use crate::engine::exec;
use crate::policy::decide;
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::profiles::{self, Looked, Now};
use crate::queue::ContextRef;
use crate::request::{Execute, Req};
use crate::ring::wait::{Alarm, Waiter};
use crate::ring::{Out, Reaped};
use crate::sync::{AtomicU32, Guard, Relaxed};
use crate::sys::{
    NEVER, Result, Shield, Waited, futex_wait, has_call_filter, monotonic_ns, poll, try_box,
};
use crate::syscall::{self, Class, carrier};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use std::cell::{Cell, OnceCell};
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// The longest sleep of a waiter that no thread can wake, because there is no doorbell for it.
const LOOK_NS: u64 = 1_000_000;

impl Context {
    /// Copies events to `out` until it has `min` bytes, the next event does not fit, or the deadline has passed. `mask` is
    /// the caller's signal mask while it waits.
    pub fn get_events(
        this: &ContextRef,
        min: usize,
        out: &mut Out,
        deadline: Deadline,
        mask: Option<&SigSet>,
    ) -> Result<usize> {
        let mut wait = Wait::begin(deadline, mask);
        let may_wait_for_at_once = min == 0 && wait.visit.until != 0;
        let mut has_helped = false;
        loop {
            // Relaxed: a hint.
            if min != 0 && this.left_to_reaper.load(Relaxed) && wait.visit.may_go_first() {
                Context::hand_over_first(this, &mut wait.visit);
            }
            let enough = match this.ring.reap(out) {
                Reaped::Empty => out.len() >= min && !this.ring.overflowing(),
                Reaped::NoRoom => !wait.slept && out.len() != 0,
                _ => false,
            };
            let nothing = out.len() == 0;
            if nothing
                && (enough || wait.visit.until == 0)
                && wait.visit.looks_in()
                && Context::publish_done(this)
            {
                continue;
            }
            if nothing && (enough || wait.visit.until == 0) && Context::help_poller(this) {
                continue;
            }
            if enough && !(nothing && (wait.interrupted || this.pool.lacks_threads())) {
                wait.note_served(this, out);
                return Ok(out.len());
            }
            this.ring.bring_in(out);
            let mut state = this.state.lock();
            if min != 0 && wait.visit.until != 0 {
                // This caller waits, even if it finds its events at once.
                state.submits.without_wait = 0;
            }
            let end = this.collect(&mut state, out, &wait);
            // With the kernel's AIO there would be an event by now, or another caller would have taken it.
            wait.only_for_at_once = may_wait_for_at_once && state.at_once != 0;
            let least = min.max(wait.only_for_at_once.into());
            let over = end.is_some() || out.len() >= least || wait.deadline.passed();
            if !over {
                let need = (least - out.len()) as u64;
                Context::wait_for(this, state, &mut wait, need)?;
                continue;
            }
            if end.is_none() && out.len() == 0 && this.pool.lacks_threads() {
                // A caller that polls without waiting must also carry requests out.
                drop(state);
                if !std::mem::replace(&mut has_helped, true) {
                    Context::help_workers(this, syscall::is_ready);
                    continue;
                }
                return Ok(0);
            }
            let mut deferred = Deferred::new();
            if wait.slept {
                // The remaining events are for the next waiter.
                this.ring.wake(&mut state.backlog, &mut deferred.wakes);
            }
            wait.note_served(this, out);
            drop(state);
            this.run_deferred(&mut deferred);
            return match end {
                Some(errno) if out.len() == 0 => Err(errno),
                _ => Ok(out.len()),
            };
        }
    }

    /// Called if a caller looks for events, finds none and does not wait. If the context is polled, takes completions from the own
    /// queue. If callers have polled for a while and nothing has been carried out meanwhile, carries a request out. True:
    /// there may be events.
    pub fn help_poller(this: &ContextRef) -> bool {
        let before = this.empty_polls.fetch_add(1, Relaxed);
        // Relaxed: a hint.
        if this.polling.load(Relaxed) && Context::publish_done(this) {
            return true;
        }
        if cfg!(loom) || before % tuning().sample != tuning().sample - 1 {
            return false;
        }
        let now = monotonic_ns();
        let mut state = this.state.lock();
        if state.in_flight == 0 || state.dequeued != state.dequeued_idle {
            state.dequeued_idle = state.dequeued;
            state.idle_since = now;
            return false;
        }
        let idle_ns = now - state.idle_since;
        let facts = this.queue_facts(&state);
        drop(state);
        if idle_ns > tuning().bounded_ns && !this.behaviour.callers_carry_out() {
            // A worker may need this processor.
            futex_wait(&AtomicU32::new(0), 0, now + tuning().soon_ns);
        }
        let route = decide::for_poller(idle_ns, &facts, is_before_workers, tuning());
        route.is_some() && Context::carry_out_here(this, syscall::is_ready)
    }

    /// Copies events to `out`, also those that had no room in the ring. If there will be no more, returns why.
    fn collect(&self, state: &mut State, out: &mut Out, wait: &Wait) -> Option<Errno> {
        let State {
            backlog,
            slabs,
            closed,
            ..
        } = state;
        match self.ring.collect(backlog, slabs, out) {
            Reaped::NoRoom => Some(Errno::ENOBUFS),
            Reaped::Corrupt => {
                self.ring.reset(backlog);
                Some(Errno::EIO)
            }
            Reaped::Fault => Some(Errno::EFAULT),
            _ if *closed == Some(Closed::Destroyed) => Some(Errno::EINVAL),
            _ if wait.interrupted => Some(Errno::EINTR),
            _ => None,
        }
    }

    /// Makes one step towards `need` bytes of events: carries requests out, sleeps until there may be events, or releases the
    /// lock and prepares the sleep.
    fn wait_for<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        wait: &mut Wait<'a>,
        need: u64,
    ) -> Result<()> {
        let until = wait.visit.until;
        if let Some(req) = this.dequeue_for_caller(&mut state, until) {
            Context::carry_out_waiting(this, state, req, need, until);
            return Ok(());
        }
        if decide::gives_back(&this.queue_facts(&state)).is_some() {
            let mut deferred = Deferred::new();
            this.set_prompt(&mut state, 0);
            Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
            drop(state);
            this.run_deferred(&mut deferred);
            return Ok(());
        }
        // A caller in the own queue is woken only for events.
        let mut state = if wait.only_for_at_once {
            state
        } else {
            match Context::wait_in_own_queue(this, state, &mut wait.visit, need) {
                Ok(waited) => {
                    wait.has_slept(waited);
                    return Ok(());
                }
                Err(state) => state,
            }
        };
        let Some(sleeper) = &wait.sleeper else {
            if state.submitter == carrier::thread() && state.is_soon(monotonic_ns()) {
                // A worker was a little faster than this caller: the next request may be left to the caller.
                let prompt = state.prompt + 1;
                this.set_prompt(&mut state, prompt);
            }
            // Not under the lock, because this may make a system call. So the caller looks again afterwards.
            drop(state);
            wait.sleeper = Some(Sleeper::new(this, wait.mask.is_some()));
            return Ok(());
        };
        sleeper.waiter.set_only_for_at_once(wait.only_for_at_once);
        state.backlog.waiters.enter(&sleeper.waiter, need);
        drop(state);
        let waited = Context::sleep(this, sleeper, &wait.deadline, wait.mask);
        wait.has_slept(waited);
        Ok(())
    }

    /// Sleeps until the listed waiter is woken, the deadline has passed, or a signal handler has run. Afterwards the waiter is
    /// off the list.
    fn sleep(
        this: &ContextRef,
        sleeper: &Sleeper,
        deadline: &Deadline,
        mask: Option<&SigSet>,
    ) -> Waited {
        let waiter = &sleeper.waiter;
        let mut until = deadline.ns();
        let doorbell = sleeper.doorbell.as_deref().and_then(Doorbell::fd);
        if mask.is_some() && doorbell.is_none() {
            until = until.min(monotonic_ns() + LOOK_NS);
        }
        // Perhaps no other thread can carry them out.
        let goes_on = || !waiter.woken() && !deadline.passed();
        if Context::help_workers(this, |call| goes_on() && syscall::is_ready(call)) {
            until = until.min(monotonic_ns() + HELP_TICK_NS);
        }
        let began = monotonic_ns();
        // If a request waits for a device, another thread may need this processor.
        let spins = this.pool.stays_awake() && !this.profiles.waits();
        if spins {
            this.spin.spin(began, || waiter.woken() || began >= until);
        }
        let waited = carrier::outside(|| match mask {
            Some(mask) => sleep_in_poll(doorbell, until, mask),
            None => waiter.park(until),
        });
        let mut state = this.state.lock();
        let was_leased = state.backlog.waiters.leave(waiter);
        state.note_departure();
        drop(state);
        if !was_leased {
            waiter.wait_for_waker();
        }
        if let Some(doorbell) = &sleeper.doorbell {
            // No waker has it now.
            doorbell.clear();
        }
        if spins && waited == Waited::Woken {
            this.spin.learn(began);
        }
        waited
    }

    /// Carries out requests that the calling thread can carry out as fast as a worker. It has taken the first. Other threads may
    /// carry out the rest meanwhile.
    fn carry_out_in_caller<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut req: Req,
        budget: RunBudget<impl Execute>,
        current: &Cell<usize>,
    ) {
        let RunBudget {
            need,
            until,
            execute,
            mut now,
        } = budget;
        let (began, is_serial) = (now.ns, this.outlook(&req).is_serial(tuning()));
        let mut shield = None;
        let mut deferred = Deferred::new();
        current.set(req.reference().address());
        loop {
            let sole_in_flight = state.running.transfers() == 1;
            drop(state);
            let is_ours = match this.profiles.is_file(req.call(), sole_in_flight, &mut now) {
                Looked::File => true,
                // The request was taken because of the profiles of other files.
                Looked::NewFile => this.is_for_caller(&req, until, true),
                Looked::NoFile => false,
            };
            if is_ours && profiles::writes(req.call()) {
                shield.get_or_insert_with(Shield::new);
                now.ages();
            }
            if is_ours {
                req.set_route(Route::InlineWaiting);
                carrier::outside(|| {
                    let profiles = &this.profiles;
                    profiles.carry_out(&mut req, execute, false, sole_in_flight, &mut now);
                });
            }
            if is_ours && req.res() == -i64::from(libc::EINTR) {
                this.profiles.distrust(req.call());
            }
            if !is_ours || req.res() == -i64::from(libc::EINTR) {
                // A worker carries it out: no signal handler interrupts a worker, and a worker may wait.
                this.run_deferred(&mut deferred);
                return Context::put_back(this, req, current);
            }
            if let (Some(shield), true) = (&shield, req.res() == -i64::from(libc::EFBIG)) {
                shield.consume();
            }
            let was_nop = req.call().nr == IOCB2_NOP;
            deferred.note_ended(&mut req);
            state = this.state.lock();
            Context::complete(this, &mut state, req, &mut deferred);
            if until != NEVER && now.ns < until && was_nop {
                now = Now::read();
            }
            let has_enough = this.ring.available(&state.backlog) >= need
                && !decide::continues(is_serial, now.ns - began, state.waiting(), tuning());
            let enough = has_enough || now.ns >= until;
            let next = if enough {
                None
            } else {
                this.dequeue_for_caller(&mut state, until)
            };
            if next.is_none() && !state.leased {
                Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
            }
            Context::enqueue(this, &mut state, Class::Indefinite, &mut deferred);
            current.set(next.as_ref().map_or(0, |next| next.reference().address()));
            drop(state);
            match next {
                Some(next) => req = next,
                None => return this.run_deferred(&mut deferred),
            }
            this.run_deferred(&mut deferred);
            deferred = Deferred::new();
            state = this.state.lock();
        }
    }

    /// Carries requests out in a caller that waits for events. It has taken the first.
    pub(super) fn carry_out_waiting(
        this: &ContextRef,
        mut state: Guard<State>,
        req: Req,
        need: u64,
        until: u64,
    ) {
        let in_time = InTime::new(this, until);
        let execute = |req: &mut Req, now: Option<u64>| in_time.execute(req, now);
        carrier::with_current(|current| {
            let budget = RunBudget::of_waiter(this, &mut state, need, until, execute);
            Context::carry_out_in_caller(this, state, req, budget, current);
        });
    }

    /// Takes a request that a waiting caller can carry out itself.
    fn dequeue_for_caller(&self, state: &mut State, until: u64) -> Option<Req> {
        if !self.behaviour.callers_carry_out() {
            return None;
        }
        let is_sole = state.in_flight == 1;
        self.dequeue_if(state, Class::Finite, |req| {
            self.is_for_caller(req, until, is_sole)
        })
    }

    /// Whether a caller with the deadline `until` carries a request out. `is_sole`: no other request is in flight that this one
    /// could delay.
    fn is_for_caller(&self, req: &Req, until: u64, is_sole: bool) -> bool {
        let untouched = || req.bound().need_nothing();
        let outlook = self.outlook(req);
        decide::for_caller(&outlook, is_sole, until != NEVER, untouched, tuning()).is_some()
    }
}

/// How a caller carries out requests while it waits for events. If it has a deadline, it reads only data in the page cache, and leaves
/// other reads to a worker.
struct InTime<'a> {
    context: &'a Context,
    is_bound: bool,
    filtered: OnceCell<bool>,
}

impl InTime<'_> {
    fn new(context: &Context, until: u64) -> InTime<'_> {
        InTime {
            context,
            is_bound: until != NEVER,
            filtered: OnceCell::new(),
        }
    }

    #[inline]
    fn execute(&self, req: &mut Req, now: Option<u64>) {
        #[cfg(not(loom))]
        if self.is_bound
            && self.context.outlook(req).may_be_cached()
            // A system call filter may not know the newer call.
            && !self.filtered.get_or_init(has_call_filter)
        {
            return exec::execute_if_cached(req, now);
        }
        exec::execute(req, now);
    }
}

/// Whether the calling thread has a real-time policy that keeps workers from its processor.
fn is_before_workers() -> bool {
    #[cfg(loom)]
    return false;
    #[cfg(not(loom))]
    {
        crate::sys::rank::look() == crate::sys::rank::Standing::Before
    }
}

/// The run budget of a caller that carries requests out.
struct RunBudget<E> {
    /// Number of bytes of events that are enough for the caller.
    need: u64,
    /// The caller's deadline.
    until: u64,
    execute: E,
    now: Now,
}

impl RunBudget<()> {
    fn of_waiter<E: Execute>(
        context: &Context,
        state: &mut State,
        need: u64,
        until: u64,
        execute: E,
    ) -> RunBudget<E> {
        let now = Now::read();
        let prompt = if state.is_soon(now.ns) {
            state.prompt + 1
        } else {
            0
        };
        context.set_prompt(state, prompt);
        RunBudget {
            need,
            until,
            execute,
            now,
        }
    }
}

/// Sleeps in ppoll(2), because it changes the signal mask and waits in one step: until the eventfd is written to,
/// CLOCK_MONOTONIC is `until`, or a signal handler has run.
fn sleep_in_poll(doorbell: Option<RawFd>, until: u64, mask: &SigSet) -> Waited {
    let left = if until == 0 {
        0
    } else {
        until.saturating_sub(monotonic_ns())
    };
    match poll(doorbell.unwrap_or(-1), libc::POLLIN, Some(left), Some(mask)) {
        0 => Waited::TimedOut,
        -1 => Waited::Interrupted,
        _ => Waited::Woken,
    }
}

/// One call of io_getevents2().
struct Wait<'a> {
    deadline: Deadline,
    mask: Option<&'a SigSet>,
    visit: Visit,
    /// The caller asked for no event. It waits for one only as long as requests are in flight that the kernel would have
    /// completed within io_submit().
    only_for_at_once: bool,
    /// Where it sleeps; None: it has not slept yet.
    sleeper: Option<Sleeper<'a>>,
    /// It has slept, and may have been woken for events that it does not take.
    slept: bool,
    /// A signal handler has run.
    interrupted: bool,
}

impl<'a> Wait<'a> {
    fn begin(deadline: Deadline, mask: Option<&'a SigSet>) -> Wait<'a> {
        // A signal that the mask does not block must be delivered, also if there is nothing to wait for.
        let polls = |mask: &SigSet| sleep_in_poll(None, 0, mask) == Waited::Interrupted;
        Wait {
            visit: Visit::new(&deadline, mask),
            only_for_at_once: false,
            interrupted: mask.is_some_and(polls),
            deadline,
            mask,
            sleeper: None,
            slept: false,
        }
    }

    /// The caller leaves. Notes if it has found events without a wait.
    #[inline]
    fn note_served(&self, context: &Context, out: &Out) {
        if !self.slept && out.len() != 0 {
            self.visit.note_served(context);
        }
    }

    fn has_slept(&mut self, waited: Waited) {
        self.interrupted = waited == Waited::Interrupted;
        self.slept = true;
    }
}

/// Where one call of io_getevents2() sleeps.
struct Sleeper<'a> {
    waiter: Waiter,
    /// Only with a signal mask.
    doorbell: Option<Box<Doorbell>>,
    context: &'a Context,
}

impl Sleeper<'_> {
    fn new(context: &Context, in_poll: bool) -> Sleeper<'_> {
        let doorbell = if in_poll { context.doorbell() } else { None };
        let alarm = doorbell.as_deref().map_or(Alarm::Futex, |doorbell| {
            Alarm::Elsewhere(NonNull::from(doorbell))
        });
        Sleeper {
            waiter: Waiter::new(alarm),
            doorbell,
            context,
        }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let mut spare = self.context.doorbell.lock();
        if spare.is_none() {
            *spare = self.doorbell.take();
        }
    }
}

impl Context {
    /// The doorbell for a caller with a signal mask, if there can be one.
    fn doorbell(&self) -> Option<Box<Doorbell>> {
        // It may be in another thread's table.
        let spare = self.doorbell.lock().take_if(|spare| spare.fd().is_some());
        spare.or_else(|| try_box(Doorbell::new(!self.behaviour.callers_carry_out())?).ok())
    }
}

/// The time at which a wait ends, even without events.
#[derive(Clone, Copy)]
pub enum Deadline {
    Never,
    /// The caller does not wait at all.
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

    /// The same, but no later than that time. True: that is sooner.
    pub fn cut(self, latest_ns: u64) -> (Deadline, bool) {
        let is_later = match self {
            Deadline::Never => true,
            Deadline::Now => false,
            Deadline::At(ns) => ns > latest_ns,
        };
        let cut = if is_later {
            Deadline::At(latest_ns)
        } else {
            self
        };
        (cut, is_later)
    }

    pub(super) fn ns(&self) -> u64 {
        match *self {
            Deadline::Never => NEVER,
            Deadline::Now => 0,
            Deadline::At(ns) => ns,
        }
    }
}
