#![doc = include_str!("own_queue.md")]

use super::HoldFiles;
use super::{
    Context, ContextRef, Deadline, Deferred, State,
    engines::{KernelDone, OwnQueue},
    kernel::Done,
};
use crate::engine::{Engine, Start, kaio, pool::Look};
use crate::policy::batch::Caller;
use crate::policy::decide;
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::profiles;
use crate::request::{List, OWNER_KERNEL, Req};
use crate::ring::wait::{Alarm, Waiter};
use crate::sync::{Guard, Relaxed};
use crate::sys::{NEVER, Shield, Waited, has_call_filter, monotonic_ns};
use crate::syscall::{Class, carrier};
use nix::sys::signal::SigSet;
use std::ptr::NonNull;

/// A transfer of at most this size lies in one piece on a device.
const BLOCK: u64 = 4096;
const REFUSED: u32 = 1 << 16;

/// The first and the longest pause between two looks of a thread that drains.
const DRAIN_NS: u64 = 20_000;
const DRAIN_NS_MAX: u64 = 1_000_000;

/// One call of io_getevents2(): its state that concerns the context's own queue.
pub struct Visit {
    /// The deadline: see [`Deadline::ns`].
    pub until: u64,
    /// The caller may sleep in the own queue.
    may_sleep: bool,
    /// The caller has looked for completions there.
    has_looked: bool,
    /// This call counts as one of a caller that comes.
    has_arrived: bool,
}

impl Visit {
    pub(super) fn new(deadline: &Deadline, mask: Option<&SigSet>) -> Visit {
        Visit {
            until: deadline.ns(),
            // No call changes the signal mask and begins a sleep there in one step.
            may_sleep: mask.is_none(),
            has_looked: false,
            has_arrived: false,
        }
    }

    /// Whether this caller may hand over or sleep in the own queue. If so, it counts as one that comes.
    fn enters(&mut self, context: &Context, state: &mut State) -> bool {
        if !self.may_sleep {
            return false;
        }
        // If there were other waiters, the thread that sleeps there would have to wake them.
        if !state.backlog.waiters.is_empty() || state.kernel.reaper.is_some() {
            state.kernel.returning.expect_nobody();
            return false;
        }
        if !std::mem::replace(&mut self.has_arrived, true) {
            // Relaxed: a hint.
            let was_served = context.served.load(Relaxed);
            if was_served {
                context.served.store(false, Relaxed);
            }
            let returning = &mut state.kernel.returning;
            returning.arrives(monotonic_ns(), was_served, tuning());
        }
        state.kernel.in_time = self.until != NEVER;
        true
    }

    /// Whether this caller may hand over before it takes the events that are there.
    pub(super) fn may_go_first(&self) -> bool {
        self.until == NEVER && self.may_sleep
    }

    /// The caller leaves with events, and has not slept.
    #[inline]
    pub(super) fn note_served(&self, context: &Context) {
        // Relaxed: a hint. It is written only if it changes, because other threads read in this cache line.
        if !self.has_arrived && !context.served.load(Relaxed) {
            context.served.store(true, Relaxed);
        }
    }

    /// Whether a caller that does not sleep looks for completions now: once in each call.
    pub(super) fn looks_in(&mut self) -> bool {
        !std::mem::replace(&mut self.has_looked, true)
    }
}

/// The findings of a thread that reaps in the own queue.
pub(super) struct Found {
    any: bool,
    /// How the wait ended; None: it must not wait there.
    waited: Option<Waited>,
    /// The context is leased: the monitor looks after the remaining requests.
    is_monitored: bool,
}

/// Callers that hand over to the kernel and wait for it themselves (see [`crate::engine::own_queue`]).
impl Context {
    pub(super) fn own_queue(&self) -> Option<&'static OwnQueue> {
        Some(self.own_queue.get()?.as_ref()?.own_queue())
    }

    /// The same; takes one if there is none yet. Not under the lock.
    pub(super) fn own_queue_or_new(&self) -> Option<&'static OwnQueue> {
        let own_queues = || self.own_queues.acquire();
        Some(self.own_queue.get_or_init(own_queues).as_ref()?.own_queue())
    }

    /// Hands queued requests over to the kernel, or sleeps until the kernel has completed something, another thread wakes the
    /// caller, or the time is up. Err: it did neither, and the caller has to sleep elsewhere.
    pub(super) fn wait_in_own_queue<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        visit: &mut Visit,
        need: u64,
    ) -> core::result::Result<Waited, Guard<'a, State>> {
        if !visit.enters(this, &mut state) {
            return Err(state);
        }
        let mut deferred = Deferred::new();
        let handed_over =
            Context::hand_over_left(this, state, &mut deferred, Some((visit.until, need)));
        let Err(mut state) = handed_over else {
            return Ok(Waited::Woken);
        };
        // Requests may have been left to this caller that it cannot hand over. If there is no room, it comes back for them.
        let is_full = this.own_queue_facts(&state).is_full;
        Context::enqueue_if(this, &mut state, Class::Finite, is_full, &mut deferred);
        if this.own_queue_facts(&state).has_sleeper() {
            if this.own_queue.get().is_none() {
                drop(state);
                this.run_deferred(&mut deferred);
                this.own_queue_or_new();
                return Ok(Waited::Woken);
            }
            if let Some(own_queue) = this.own_queue() {
                let until = visit.until;
                let waited =
                    Context::sleep_in_own_queue(this, state, deferred, own_queue, until, need);
                // There is a system call filter, perhaps for this thread alone. The monitor looks after the requests in the kernel.
                visit.may_sleep = waited.is_some();
                return Ok(waited.unwrap_or(Waited::Woken));
            }
        }
        if deferred.is_nothing() {
            return Err(state);
        }
        drop(state);
        this.run_deferred(&mut deferred);
        Ok(Waited::Woken)
    }

    /// Called before a caller takes events that are there already. Hands over the requests that were left to it: so the device works while
    /// the caller handles these events.
    pub(super) fn hand_over_first(this: &ContextRef, visit: &mut Visit) {
        // Relaxed: a hint.
        this.left_to_reaper.store(false, Relaxed);
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let first = this.first(&state.queues[Class::Finite as usize]);
        if decide::may_go_first(&first) && visit.enters(this, &mut state) {
            let _ = Context::hand_over_left(this, state, &mut deferred, None);
        }
        this.run_deferred(&mut deferred);
    }

    /// Hands over the requests that were left to this caller; or, if the caller `waits` until a time and for a number of events, carries
    /// out the first request as a sample. Err: neither.
    fn hand_over_left<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        deferred: &mut Deferred,
        waits: Option<(u64, u64)>,
    ) -> core::result::Result<(), Guard<'a, State>> {
        let route_of_first = |state: &State, is_sample| {
            let first = || this.first(&state.queues[Class::Finite as usize]);
            decide::for_reaper(&this.queue_facts(state), first, is_sample, tuning())
        };
        let mut route = route_of_first(&state, false);
        if route.is_none() {
            return Err(state);
        }
        if this.own_queue.get().is_none() {
            drop(state);
            this.own_queue_or_new();
            return Ok(());
        }
        let mut sample = None;
        if this.profiles.wants_sample() {
            route = route_of_first(&state, true);
            if route.is_none() {
                // The sample is a worker's. This caller hands over what is behind it.
                sample = state.queues[Class::Finite as usize].pop();
                route = route_of_first(&state, false);
            }
        }
        if route == Some(Route::InlineWaiting)
            && let Some((until, need)) = waits
            && let Some(req) = this.dequeue_if(&mut state, Class::Finite, OwnQueue::supports)
        {
            this.profiles.count_device_bound(1);
            Context::carry_out_waiting(this, state, req, need, until);
            this.state.lock().note_departure();
            return Ok(());
        }
        let own_queue = this.own_queue().filter(|_| route.is_some());
        let batch = own_queue.and_then(|_| {
            Context::dequeue_for_own_queue(this, &mut state, deferred, Caller::OWN_QUEUE)
        });
        if let Some(sample) = sample {
            state.queues[Class::Finite as usize].push_front(sample);
            Context::enqueue(this, &mut state, Class::Finite, deferred);
        }
        let (Some(own_queue), Some(batch)) = (own_queue, batch) else {
            return Err(state);
        };
        let deferred = std::mem::replace(deferred, Deferred::new());
        Context::hand_over_as_reaper(this, state, deferred, own_queue, batch);
        Ok(())
    }

    /// Takes requests that this caller may hand over in the own queue. They are leased first.
    pub(super) fn dequeue_for_own_queue(
        this: &ContextRef,
        state: &mut State,
        deferred: &mut Deferred,
        caller: Caller,
    ) -> Option<kaio::Batch> {
        let own = this.own_queue_facts(state);
        if !own.admits_batch(this.pool.lacks_threads()) || !Context::lease(this, state, deferred) {
            return None;
        }
        let mut batch = kaio::Batch::new();
        this.dequeue_joining(state, &mut batch, None, caller);
        if !this.profiles.wants_sample() {
            this.profiles.count_device_bound(batch.len() as u32);
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Hands over, in a caller that then comes for the completions.
    pub(super) fn hand_over_as_reaper(
        this: &ContextRef,
        mut state: Guard<State>,
        deferred: Deferred,
        own_queue: &'static OwnQueue,
        batch: kaio::Batch,
    ) {
        let call = *batch[0].call();
        state.kernel.begin_reaping();
        state.kernel.writes = profiles::writes(&call).then_some(call.args[0]);
        let (mut state, refused) =
            Context::hand_over_to_own_queue(this, state, deferred, own_queue, batch, false);
        state.kernel.reaper = None;
        state.kernel.writes = None;
        state.kernel.waited = own_queue.has_done_all();
        state.note_departure();
        let is_monitored = state.leased;
        drop(state);
        if refused {
            this.profiles.not_for_kernel(&call);
        }
        if !is_monitored {
            Context::monitor_kernel(this);
        }
    }

    /// Hands a batch over, and queues the requests again that the kernel does not take. Returns whether the kernel has refused requests.
    /// `nowait`: see [`Start`].
    pub(super) fn hand_over_to_own_queue<'a>(
        this: &'a ContextRef,
        state: Guard<'a, State>,
        deferred: Deferred,
        own_queue: &'static OwnQueue,
        batch: kaio::Batch,
        nowait: bool,
    ) -> (Guard<'a, State>, bool) {
        let (mut state, refused, left) =
            Context::hand_over_batch(this, state, deferred, own_queue, batch, nowait);
        state.requeue_all(left);
        (state, refused)
    }

    /// The same, but returns the requests that the kernel does not take.
    pub(super) fn hand_over_batch<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut deferred: Deferred,
        own_queue: &'static OwnQueue,
        mut batch: kaio::Batch,
        nowait: bool,
    ) -> (Guard<'a, State>, bool, kaio::Batch) {
        let call = *batch[0].call();
        // Counted before the kernel has them, so that the monitor stays.
        state.kernel.count += batch.len() as u32;
        batch.iter().for_each(|req| req.set_worker(OWNER_KERNEL));
        drop(state);
        this.run_deferred(&mut deferred);
        let shield = kaio::direction(&call).needs_shield().then(Shield::new);
        // The kernel's io_submit() also waits for page faults.
        let may_fault = this.behaviour.submit_may_fault;
        let is_ready = |req: &Req| may_fault || own_queue.has_buffer_of(req.call());
        let would_wait = nowait && !batch.iter().all(is_ready);
        let route = if nowait {
            // A submitter must not wait.
            Route::KernelSubmit
        } else {
            Route::KernelWaiting
        };
        let how = Start { route, nowait };
        let refused = !would_wait
            && this.hand_over_as(&call, &mut batch, |batch| own_queue.start(this, batch, how));
        if let Some(shield) = shield {
            shield.consume();
        }
        let mut state = this.state.lock();
        state.kernel.count -= batch.len() as u32;
        if would_wait {
            state.kernel.back_off();
        }
        (state, refused, batch)
    }

    pub(super) fn sleep_in_own_queue(
        this: &ContextRef,
        mut state: Guard<State>,
        deferred: Deferred,
        own_queue: &'static OwnQueue,
        until: u64,
        need: u64,
    ) -> Option<Waited> {
        let waiter = Waiter::new(Alarm::Elsewhere(NonNull::from(own_queue)));
        state.backlog.waiters.enter(&waiter, need);
        let found = Context::reap_own_queue(this, state, deferred, own_queue, until, Some(&waiter));
        if !found.is_monitored {
            Context::monitor_kernel(this);
        }
        found.waited
    }

    /// Publishes the requests that the kernel has completed in the own queue. Waits for the first completion, at the longest until `until`.
    /// The caller must ensure that the rest is watched, because other threads may have relied on it.
    pub(super) fn reap_own_queue(
        this: &ContextRef,
        mut state: Guard<State>,
        mut deferred: Deferred,
        own_queue: &'static OwnQueue,
        until: u64,
        waiter: Option<&Waiter>,
    ) -> Found {
        let reaps = state.kernel.reaper.is_none();
        if reaps {
            state.kernel.begin_reaping();
            state.kernel.asleep = waiter.is_some();
        }
        drop(state);
        this.run_deferred(&mut deferred);
        let reaped = carrier::outside(|| own_queue.reap(until));
        let waited = reaped.waited;
        // None of these requests has an eventfd.
        let mut done = Done::of(reaped.done);
        let any = done.count != 0;
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        if reaps {
            state.kernel.reaper = None;
            state.kernel.asleep = false;
        }
        // The wake-up was meant for the thread that sleeps there, and may not have reached it.
        let wakes_sleeper = reaped.woken && state.kernel.asleep;
        let was_leased = waiter.is_none_or(|waiter| state.backlog.waiters.leave(waiter));
        state.kernel.count -= done.count;
        Context::complete_done(this, &mut state, &mut done, &mut deferred);
        if waiter.is_some() {
            let idle = waited == Some(Waited::TimedOut) && monotonic_ns() < until;
            state.kernel.submit_hint = match state.kernel.submit_hint {
                submit_hint if submit_hint == 0 || idle => 0,
                _ if any => tuning().in_a_row.into(),
                submit_hint => submit_hint - 1,
            };
            state.note_departure();
        }
        let is_monitored = state.leased;
        drop(state);
        this.run_deferred(&mut deferred);
        if wakes_sleeper {
            Engine::wake(own_queue);
        }
        if let Some(waiter) = waiter
            && !was_leased
        {
            waiter.wait_for_waker();
        }
        Found {
            any,
            waited,
            is_monitored,
        }
    }

    /// Called by a submitter. Hands its requests over, except those for which the kernel would have to wait, for a device or for
    /// memory.
    pub(super) fn hand_over_submitted(this: &ContextRef) {
        let own_queue = this.own_queue();
        let mut deferred = Deferred::new();
        deferred.queued = true;
        let mut state = this.state.lock();
        while let Some(own_queue) =
            own_queue.filter(|_| this.own_queue_facts(&state).admits_submitter(tuning()))
            && let Some(batch) =
                Context::dequeue_for_own_queue(this, &mut state, &mut deferred, Caller::SUBMITTER)
        {
            state.kernel.submitter = Some(carrier::thread());
            let refused;
            (state, refused) =
                Context::hand_over_to_own_queue(this, state, deferred, own_queue, batch, true);
            deferred = Deferred::new();
            state.kernel.submitter = None;
            if refused {
                state.kernel.pause = REFUSED;
            }
        }
        // The remaining requests are for workers.
        Context::enqueue_for_worker(this, &mut state, Class::Finite, &mut deferred);
        let is_monitored = state.leased;
        drop(state);
        Context::run_deferred_of_submit(this, &mut deferred);
        if !is_monitored {
            Context::monitor_kernel(this);
        }
    }

    /// Hands over requests at the front of the list, within their submit: so the kernel takes the files by the program's
    /// descriptors. The kernel must not wait for anything. If it would have to wait for a request of one block, that request
    /// comes back at once and stays in the list. A part of a larger request may be under way by then, so its file is held.
    // Not inlined: it needs a larger stack than all other ways of a submit.
    #[inline(never)]
    pub(super) fn hand_over_in_submit(
        this: &ContextRef,
        holder: &mut impl HoldFiles,
        requests: &mut List,
    ) {
        let Some(own_queue) = this.own_queue_or_new().filter(|_| !has_call_filter()) else {
            return;
        };
        let began = monotonic_ns();
        let mut back = List::new();
        let mut continues = true;
        while continues && let Some(batch) = this.batch_for_own_queue(requests, holder) {
            let mut deferred = Deferred::new();
            let mut state = this.state.lock();
            let (facts, own) = (this.queue_facts(&state), this.own_queue_facts(&state));
            if !decide::is_free(&facts, &own, this.pool.lacks_threads())
                || !Context::lease(this, &mut state, &mut deferred)
            {
                batch.into_iter().for_each(|req| back.push(req));
                drop(state);
                this.run_deferred(&mut deferred);
                break;
            }
            state.kernel.begin_reaping();
            for req in &batch {
                state.running.enter(req);
            }
            state.dequeued += batch.len() as u64;
            this.profiles.count_device_bound(batch.len() as u32);
            let (mut state, refused, left) =
                Context::hand_over_batch(this, state, deferred, own_queue, batch, true);
            for req in left {
                state.give_up(&req);
                back.push(req);
            }
            drop(state);
            // Now, because no other thread takes completions yet.
            let mut done = Done::of(if own_queue.has_done() {
                own_queue.reap(0).done
            } else {
                KernelDone::new()
            });
            let mut deferred = Deferred::new();
            let mut state = this.state.lock();
            state.kernel.reaper = None;
            state.kernel.count -= done.count;
            while let Some(req) = done.again.pop() {
                state.give_up(&req);
                back.push(req);
            }
            continues = !done.would_wait && !refused;
            if continues {
                state.kernel.last_pause /= 2;
            }
            if refused {
                state.kernel.pause = REFUSED;
            }
            Context::complete_done(this, &mut state, &mut done, &mut deferred);
            drop(state);
            this.run_deferred(&mut deferred);
        }
        back.append(requests);
        *requests = back;
        let held_ns = monotonic_ns() - began;
        this.state.lock().kernel.returning.was_held(held_ns);
        Context::monitor_kernel(this);
    }

    /// Whether a request can be handed over in the own queue.
    pub(super) fn is_for_own_queue(&self, req: &Req) -> bool {
        self.joins(&mut None, req, Caller::OWN_QUEUE)
    }

    /// Takes requests that the kernel will carry out together.
    pub(super) fn batch_for_own_queue(
        &self,
        requests: &mut List,
        holder: &mut impl HoldFiles,
    ) -> Option<kaio::Batch> {
        let mut batch = kaio::Batch::new();
        let mut joined = None;
        while !batch.is_full()
            && let Some(next) =
                requests.pop_if(|req| self.joins(&mut joined, req, Caller::OWN_QUEUE))
        {
            batch.push(next);
        }
        for req in &mut batch {
            let is_one_block = req.call().plain_bytes().is_some_and(|bytes| bytes <= BLOCK);
            if is_one_block || holder.hold_for(req).is_err() {
                req.set_no_merge();
            }
        }
        holder.release();
        (!batch.is_empty()).then_some(batch)
    }

    /// Publishes the requests that the kernel has completed in the own queue, without waiting. False if there was nothing.
    pub(super) fn publish_done(this: &ContextRef) -> bool {
        let found = Context::find_done(this);
        if found.as_ref().is_some_and(|found| !found.is_monitored) {
            Context::monitor_kernel(this);
        }
        found.is_some_and(|found| found.any)
    }

    /// The same. The caller must ensure that the rest is watched.
    fn find_done(this: &ContextRef) -> Option<Found> {
        let own_queue = this.own_queue().filter(|own_queue| own_queue.has_done())?;
        let state = this.state.lock();
        (!this.is_handing_over(&state))
            .then(|| Context::reap_own_queue(this, state, Deferred::new(), own_queue, 0, None))
    }

    /// Whether a thread is in the own queue that must be the first to see the completions (see `hand_over_in_submit`).
    pub(super) fn is_handing_over(&self, state: &State) -> bool {
        !self.behaviour.callers_carry_out() && state.kernel.reaper.is_some()
    }

    /// Waits until the kernel carries out nothing in the own queue, and publishes all completions. It does not sleep in the
    /// kernel's AIO, because a system call filter may forbid that.
    pub(super) fn drain_kernel(this: &ContextRef) {
        let mut pause = DRAIN_NS;
        while let Some(own_queue) = this.own_queue()
            && !own_queue.is_unused()
        {
            if Context::find_done(this).is_some_and(|found| found.any) {
                pause = DRAIN_NS;
                continue;
            }
            carrier::outside(|| own_queue.pause(pause));
            pause = (pause * 2).min(DRAIN_NS_MAX);
        }
    }

    /// Ensures that the requests in the own queue are watched: by a lease or a reaper, or else drains.
    pub(super) fn monitor_kernel(this: &ContextRef) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let is_monitored = !state.has_in_kernel()
            || state.kernel.reaper.is_some()
            || Context::lease(this, &mut state, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        if !is_monitored {
            Context::drain_kernel(this);
        }
    }

    /// The monitor's tick for the requests in the own queue. If there is a reaper, does nothing and returns true: the reaper
    /// notices by itself if the context is not leased any more.
    pub(super) fn tick_kernel(this: &ContextRef, look: Look) -> bool {
        let mut state = this.state.lock();
        let kernel = &mut state.kernel;
        let has_reaper = kernel.reaper.is_some();
        let was_visited = kernel.visits != kernel.visits_before;
        kernel.visits_before = kernel.visits;
        drop(state);
        if !has_reaper && !was_visited && look == Look::Again && Context::publish_done(this) {
            let kernel = &mut this.state.lock().kernel;
            kernel.returning.is_late(tuning());
            // `publish_done` has counted as a visit.
            kernel.visits_before = kernel.visits;
        }
        has_reaper
    }
}

/// The beginning and the end of models.
#[cfg(loom)]
impl Context {
    /// From now on the context expects callers to come back, hand over, and sleep in the own queue. Returns the own queue.
    pub fn expect_reaper(&self) -> Option<&'static OwnQueue> {
        let own_queue = self.own_queue_or_new();
        let kernel = &mut self.state.lock().kernel;
        kernel.returning.expect(tuning());
        kernel.submit_hint = tuning().in_a_row.into();
        own_queue
    }

    pub fn is_reaper_asleep(&self) -> bool {
        self.state.lock().kernel.asleep
    }

    /// Waits until other threads have published every event.
    pub fn wait_for_others(&self) {
        self.wait_for_end(NEVER, |state| state.in_flight == 0);
    }
}
