//! A caller who wants events: it carries requests out, or sleeps until there are some.

use super::kernel::Visit;
use super::{After, Closed, Context, State, at_once};
use crate::abi::IOCB2_NOP;
use crate::carrier;
use crate::exec::{self, Execute};
use crate::habit::{self, Now};
use crate::registry::ContextRef;
use crate::request::Req;
use crate::ring::{Out, Reaped};
use crate::sync::{Guard, Relaxed};
use crate::sys::{NEVER, Result, Shield, Waited, has_call_filter, monotonic_ns, poll};
use crate::syscalls::Class;
use crate::wait::{Alarm, Waiter};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use std::cell::{Cell, OnceCell};
use std::os::fd::{AsFd, AsRawFd};

/// How long a waiter that carries requests out itself, for want of threads, sleeps between two
/// looks at requests that are not ready.
const HELP_TICK_NS: u64 = 10_000_000;
/// For so long a caller goes on with requests that must run one after another, and that nobody else
/// will do, though it has what it came for: a call for each costs a tenth of what there is to gain. (The
/// kernel's AIO has done all of them before io_submit() returns. 4 KiB writes to ext4 on zram, 32 in flight, as
/// part of what that does: 0.94 by 50 us into the page cache and 0.95 past it, 0.95 and 0.97 so.)
const ALONE_NS: u64 = 100_000;
/// For so long it goes on beside others, too, as long as so many wait. (4 KiB reads of zram, depth 32 and
/// 128, by the caller and a worker: 630,000 a second by one for each call, 670,000 so, at 3.3 and 3.15 us
/// of processor time. At depth 8 there had better be some for the next call: 610,000, and 490,000 if
/// it goes on with the last ones.)
const BESIDE_NS: u64 = 16_000;
const MANY: u32 = 8;
/// So many looks for events in vain, and it is asked whether anybody carries requests out at all; if not
/// for so long, who looks does. A program that looks again and again may have the only processor, and
/// workers do not take it from it. (4 KiB reads bound to one processor: 6 ms each without.)
const IN_VAIN: u32 = 64;
const IN_VAIN_NS: u64 = 200_000;

impl Context {
    /// Copies events to `out` until it has `min` bytes, the next event does not fit, or the time is
    /// up. `mask` is the caller's signal mask while it waits.
    pub fn get_events(
        this: &ContextRef,
        min: usize,
        out: &mut Out,
        deadline: Deadline,
        mask: Option<&SigSet>,
    ) -> Result<usize> {
        let mut wait = Wait::begin(deadline, mask);
        loop {
            let enough = match this.ring.reap(out) {
                Reaped::Empty => out.len() >= min && !this.ring.overflowing(),
                Reaped::NoRoom => !wait.slept && out.len() != 0,
                _ => false,
            };
            let nothing = out.len() == 0;
            if nothing
                && (enough || wait.visit.until == 0)
                && wait.visit.looks_in()
                && Context::take_done(this)
            {
                continue;
            }
            if nothing && (enough || wait.visit.until == 0) && Context::help_poller(this) {
                continue;
            }
            if enough && !(nothing && (wait.interrupted || this.pool.short_of_threads())) {
                return Ok(out.len());
            }
            let mut state = this.state.lock();
            if min != 0 && wait.visit.until != 0 {
                // It may find what it wants, but would have waited.
                state.submits.unattended = 0;
            }
            let end = this.collect(&mut state, out, &wait);
            let over = end.is_some() || out.len() >= min || wait.deadline.passed();
            if !over {
                let need = (min - out.len()) as u64;
                Context::wait_for(this, state, &mut wait, need)?;
                continue;
            }
            if end.is_none() && out.len() == 0 && this.pool.short_of_threads() {
                // Who asks again and again and never waits has to help, too.
                drop(state);
                if Context::carry_out_here(this, exec::is_ready) {
                    continue;
                }
                return Ok(0);
            }
            let mut after = After::new();
            if wait.slept {
                // What we leave behind is for the next.
                this.ring.wake(&mut state.backlog, &mut after.wakes);
            }
            drop(state);
            this.finish(&mut after);
            return match end {
                Some(errno) if out.len() == 0 => Err(errno),
                _ => Ok(out.len()),
            };
        }
    }

    /// A caller looks for events, finds none and does not wait for them. It sees to what the kernel
    /// carries out for those who look; or, if callers have done so for a while, and nothing has been
    /// carried out meanwhile, it carries a request out. True: there may be events.
    pub fn help_poller(this: &ContextRef) -> bool {
        let before = this.in_vain.fetch_add(1, Relaxed);
        // Relaxed: a hint.
        if this.polled.load(Relaxed)
            && (Context::hand_over_polled(this) || Context::take_done(this))
        {
            return true;
        }
        if cfg!(loom) || before % IN_VAIN != IN_VAIN - 1 {
            return false;
        }
        let now = monotonic_ns();
        let mut state = this.state.lock();
        if state.in_flight == 0 || state.taken != state.taken_idle {
            state.taken_idle = state.taken;
            state.idle_since = now;
            return false;
        }
        let long = now - state.idle_since > IN_VAIN_NS;
        let nothing_runs = state.running.len() == 0;
        drop(state);
        // Who has a request in hand may have been kept from going on by this very thread.
        long && (is_before_workers() || nothing_runs)
            && Context::carry_out_here(this, exec::is_ready)
    }

    /// Copies events to `out`, those that had no room in the ring included; returns why there will be
    /// no more, if so.
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
            #[cfg(not(loom))]
            Reaped::Fault => Some(Errno::EFAULT),
            _ if *closed == Some(Closed::Destroyed) => Some(Errno::EINVAL),
            _ if wait.interrupted => Some(Errno::EINTR),
            _ => None,
        }
    }

    /// Brings `need` bytes of events nearer: carries requests out, or sleeps until there may be some;
    /// or finds, without the lock, what that takes.
    fn wait_for<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        wait: &mut Wait,
        need: u64,
    ) -> Result<()> {
        let until = wait.visit.until;
        if let Some(req) = this.take_short(&mut state, until) {
            Context::carry_out_waiting(this, state, req, need, until);
            return Ok(());
        }
        if this.serves_itself() && !state.short().is_empty() {
            // It was left to us, and is not for us after all.
            let mut after = After::new();
            this.set_prompt(&mut state, 0);
            Context::offer(this, &mut state, Class::Short, &mut after);
            drop(state);
            this.finish(&mut after);
            return Ok(());
        }
        let mut state = match Context::wait_in_seat(this, state, &mut wait.visit, need) {
            Ok(waited) => {
                wait.has_slept(waited);
                return Ok(());
            }
            Err(state) => state,
        };
        let Some(sleeper) = &wait.sleeper else {
            if state.submitter == carrier::thread() && state.is_soon(monotonic_ns()) {
                // A worker was quicker, by a hair: the next may be left to us.
                let prompt = state.prompt + 1;
                this.set_prompt(&mut state, prompt);
            }
            // Not under the lock: it may make a system call. So look again afterwards.
            drop(state);
            wait.sleeper = Some(Sleeper::new(wait.mask.is_some())?);
            return Ok(());
        };
        state.backlog.waiters.enter(&sleeper.waiter, need);
        drop(state);
        let waited = Context::sleep(this, sleeper, &wait.deadline, wait.mask);
        wait.has_slept(waited);
        Ok(())
    }

    /// Sleeps until the listed waiter is woken, the time is up or a signal handler has run; then
    /// the waiter is off the list.
    fn sleep(
        this: &ContextRef,
        sleeper: &Sleeper,
        deadline: &Deadline,
        mask: Option<&SigSet>,
    ) -> Waited {
        let waiter = &sleeper.waiter;
        let mut until = deadline.ns();
        if this.pool.short_of_threads() {
            // Perhaps nobody else comes to carry them out.
            this.pool.retry();
            while !waiter.woken()
                && !deadline.passed()
                && Context::carry_out_here(this, exec::is_ready)
            {}
            until = until.min(monotonic_ns() + HELP_TICK_NS);
        }
        let waited = carrier::outside(|| match mask {
            Some(mask) => sleep_in_poll(sleeper.eventfd.as_ref(), until, mask),
            None => waiter.park(until),
        });
        let mut state = this.state.lock();
        let was_listed = state.backlog.waiters.leave(waiter);
        state.note_leaving();
        drop(state);
        if !was_listed {
            waiter.wait_for_waker();
        }
        waited
    }

    /// Carries out, in a thread that waits for events or has just submitted, what it can do as fast as
    /// any worker, the first of which it has taken. Others may carry out the rest meanwhile.
    fn carry_out_short<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut req: Req,
        stint: Stint<impl Execute>,
        hand: &Cell<usize>,
    ) {
        let Stint {
            need,
            until,
            submits,
            execute,
            mut now,
        } = stint;
        let (rest, least) = if this.habits.alone(req.call()) {
            (now.ns + ALONE_NS, 0)
        } else {
            (now.ns + BESIDE_NS, MANY)
        };
        let mut shield = None;
        let mut after = After::new();
        hand.set(req.tie().address());
        loop {
            let lonely = state.running.transfers() == 1;
            drop(state);
            let is_file = this.habits.is_file(req.call(), lonely, &mut now);
            if is_file && habit::writes(req.call()) {
                shield.get_or_insert_with(Shield::new);
                now.ages();
            }
            if is_file {
                carrier::outside(|| {
                    let habits = &this.habits;
                    habits.carry_out(&mut req, execute, false, lonely, &mut now);
                });
            }
            if !is_file || req.res() == -i64::from(libc::EINTR) {
                // It is a worker's, which nothing interrupts, and which may wait.
                this.finish(&mut after);
                return Context::put_back(this, req, hand);
            }
            if let (Some(Some(shield)), true) = (&shield, req.res() == -i64::from(libc::EFBIG)) {
                shield.take_back();
            }
            let was_nop = req.call().nr == IOCB2_NOP;
            after.note_ended(&mut req);
            state = this.state.lock();
            Context::complete(this, &mut state, req, &mut after);
            if until != NEVER && now.ns < until && was_nop {
                now = Now::read();
            }
            let goes_on = now.ns < rest && state.waiting() >= least;
            let enough = this.ring.available(&state.backlog) >= need && !goes_on || now.ns >= until;
            let next = if enough {
                None
            } else {
                this.take_as(&mut state, submits, until)
            };
            if next.is_none() && !state.listed {
                Context::offer(this, &mut state, Class::Short, &mut after);
            }
            Context::offer(this, &mut state, Class::Long, &mut after);
            hand.set(next.as_ref().map_or(0, |next| next.tie().address()));
            drop(state);
            match next {
                Some(next) => req = next,
                None => return this.finish(&mut after),
            }
            // Eventfds are told together, when it is over.
            if !submits || !after.is_all_tells() {
                this.finish(&mut after);
                after = After::new();
            }
            state = this.state.lock();
        }
    }

    /// Carries requests out in a thread that waits for events, the first of which it has taken.
    pub(super) fn carry_out_waiting(
        this: &ContextRef,
        mut state: Guard<State>,
        req: Req,
        need: u64,
        until: u64,
    ) {
        carrier::with_hand(|hand| {
            let stint = Stint::of_waiter(this, &mut state, need, until);
            Context::carry_out_short(this, state, req, stint, hand);
        });
    }

    /// Carries out reads that were just submitted, by a caller who will be told of their end and waits
    /// for nothing meanwhile: what takes longer is a worker's.
    #[cfg(not(loom))]
    pub(super) fn carry_out_submitted(this: &ContextRef) {
        let filtered = OnceCell::new();
        let filtered = || *filtered.get_or_init(has_call_filter);
        let stint =
            Stint::of_submitter(|req: &mut Req, now| exec::execute_at_once(req, filtered, now));
        let mut state = this.state.lock();
        if let Some(req) = this.take_submitted(&mut state) {
            carrier::with_hand(|hand| Context::carry_out_short(this, state, req, stint, hand));
            state = this.state.lock();
        }
        let mut after = After::new();
        after.queued = true;
        Context::offer(this, &mut state, Class::Short, &mut after);
        drop(state);
        Context::finish_submit(this, &mut after);
    }

    fn take_as(&self, state: &mut State, submits: bool, until: u64) -> Option<Req> {
        #[cfg(not(loom))]
        if submits {
            return self.take_submitted(state);
        }
        debug_assert!(!submits);
        self.take_short(state, until)
    }

    /// Takes a short read that a caller who submits can carry out itself.
    #[cfg(not(loom))]
    fn take_submitted(&self, state: &mut State) -> Option<Req> {
        self.take_if(state, Class::Short, |req| {
            req.side().is_some_and(|side| side.for_submitter) && self.short(req).is_some()
        })
    }

    /// Takes a request that a caller who waits can carry out itself: one that is known to be short,
    /// or, if nothing else is under way, one that the kernel would have had done in io_submit(); or,
    /// if it waits for nothing else, whether there is a timeout included, one that is brief.
    fn take_short(&self, state: &mut State, until: u64) -> Option<Req> {
        let nothing_runs = state.running.len() == 0;
        let lone = state.in_flight == 1 && until == NEVER;
        self.take_if(state, Class::Short, |req| {
            self.short(req).is_some() || nothing_runs && at_once(req) || lone && self.is_brief(req)
        })
    }
}

/// Whether the calling thread has a real-time policy that keeps workers from its processor.
fn is_before_workers() -> bool {
    #[cfg(loom)]
    return false;
    #[cfg(not(loom))]
    {
        crate::rank::look() == crate::rank::Standing::Before
    }
}

/// What a caller goes by who carries requests out.
struct Stint<E> {
    /// It has what it wants with so many bytes of events.
    need: u64,
    /// It is to be back by then.
    until: u64,
    /// It does not wait: it has just submitted.
    submits: bool,
    execute: E,
    now: Now,
}

impl Stint<()> {
    fn of_waiter(
        context: &Context,
        state: &mut State,
        need: u64,
        until: u64,
    ) -> Stint<impl Execute + use<>> {
        let now = Now::read();
        let prompt = if state.is_soon(now.ns) {
            state.prompt + 1
        } else {
            0
        };
        context.set_prompt(state, prompt);
        Stint {
            need,
            until,
            submits: false,
            execute: exec::execute,
            now,
        }
    }

    #[cfg(not(loom))]
    fn of_submitter<E: Execute>(execute: E) -> Stint<E> {
        let now = Now::read();
        Stint {
            need: u64::MAX,
            until: now.ns + super::AT_SUBMIT_NS,
            submits: true,
            execute,
            now,
        }
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

/// One call of io_getevents2().
struct Wait<'a> {
    deadline: Deadline,
    mask: Option<&'a SigSet>,
    visit: Visit,
    /// Where it sleeps; None: it has not, yet.
    sleeper: Option<Sleeper>,
    /// It has slept, and may have been woken for events that it leaves behind.
    slept: bool,
    /// A signal handler has run.
    interrupted: bool,
}

impl<'a> Wait<'a> {
    fn begin(deadline: Deadline, mask: Option<&'a SigSet>) -> Wait<'a> {
        // A signal that the mask lets through must come through, also if there is nothing to wait
        // for.
        let polls = |mask: &SigSet| sleep_in_poll(None, 0, mask) == Waited::Interrupted;
        Wait {
            visit: Visit::new(&deadline, mask),
            interrupted: mask.is_some_and(polls),
            deadline,
            mask,
            sleeper: None,
            slept: false,
        }
    }

    fn has_slept(&mut self, waited: Waited) {
        self.interrupted = waited == Waited::Interrupted;
        self.slept = true;
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
            waiter: Waiter::new(match &eventfd {
                None => Alarm::Futex,
                Some(fd) => Alarm::Eventfd(fd.as_fd().as_raw_fd()),
            }),
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

    pub(super) fn ns(&self) -> u64 {
        match *self {
            Deadline::Never => NEVER,
            Deadline::Now => 0,
            Deadline::At(ns) => ns,
        }
    }
}
