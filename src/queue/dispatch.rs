//! Who is told that something is queued: a worker, or nobody if a caller or a worker will come for it anyway.

use super::{Context, ContextRef, Deferred, SOON, State, batch::Expected};
use crate::engine::pool::Look;
use crate::policy::tuning::tuning;
use crate::profiles::Fast;
use crate::request::{List, Req};
use crate::sync::Relaxed;
use crate::sys::monotonic_ns;
use crate::syscall::{Call, Class, carrier};

impl Context {
    /// Whether as many of the class run as another context can bear.
    pub(super) fn has_its_share(&self, state: &State, class: Class) -> bool {
        class == Class::Short
            && state.still < tuning().still
            && state.running.short() >= self.profiles.share()
    }

    /// Tells the pool, unless it knows, that there is something for one more worker to do; unless it
    /// is left to a caller that comes soon.
    pub(super) fn enqueue(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        deferred: &mut Deferred,
    ) {
        if class == Class::Long || !Context::leave_to_returning_reaper(this, state, deferred) {
            Context::enqueue_for_worker(this, state, class, deferred);
        }
    }

    pub(super) fn enqueue_for_worker(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        deferred: &mut Deferred,
    ) {
        let index = class as usize;
        if state.enqueued[index]
            || state.queues[index].is_empty()
            || state.running.len() >= this.limit
            || Context::leave_to_worker(this, state, class, deferred)
        {
            return;
        }
        // Should what runs not come to an end, the monitor has others begin beside it.
        if this.has_its_share(state, class) && Context::lease(this, state, deferred) {
            return;
        }
        state.enqueued[index] = true;
        deferred.wakeups.add(this.pool.enqueue(this.clone(), class));
    }

    /// Queues requests that may begin.
    pub(super) fn release(
        this: &ContextRef,
        state: &mut State,
        mut go: List,
        deferred: &mut Deferred,
    ) {
        if go.is_empty() {
            return;
        }
        state.enqueue_by_class(&mut go);
        Context::enqueue(this, state, Class::Short, deferred);
        Context::enqueue(this, state, Class::Long, deferred);
    }

    /// How many workers serve it. Called under the pool's lock.
    pub fn workers(&self, class: Class) -> u32 {
        // Relaxed, here and below: the lock orders it.
        self.workers[class as usize].load(Relaxed)
    }

    /// One more serves it, or one less. Called under the pool's lock.
    pub fn count_worker(&self, class: Class, more: bool) {
        let now = self.workers(class);
        let now = if more { now + 1 } else { now - 1 };
        self.workers[class as usize].store(now, Relaxed);
    }

    /// Whether its caller has been seen to carry its requests out itself.
    pub fn serves_itself(&self) -> bool {
        self.serves_itself.load(Relaxed)
    }

    pub(super) fn set_prompt(&self, state: &mut State, prompt: u32) {
        state.prompt = prompt.min(tuning().prompt_in_a_row);
        self.serves_itself
            .store(state.prompt == tuning().prompt_in_a_row, Relaxed);
    }

    /// Leaves what was queued to the caller, if it is of the kind that it can do, and the caller
    /// one who does; the monitor sees to it that nothing stays. False: a worker is wanted.
    pub(super) fn leave_to_caller(
        this: &ContextRef,
        state: &mut State,
        batch: &Expected,
        deferred: &mut Deferred,
    ) -> bool {
        if !this.callers_carry_out {
            return false;
        }
        let lone = batch.all_bounded && state.in_flight == 1 && !state.kernel.in_time;
        if !batch.all_fast && !lone {
            this.set_prompt(state, 0);
            return false;
        }
        state.submitted_ns = match batch.submitted_ns {
            None if this.serves_itself() && state.taken % tuning().clock_sample != 0 => SOON,
            when => when.unwrap_or_else(monotonic_ns),
        };
        state.submitter = carrier::thread();
        // With those that are queued already, as if they were like these.
        let ns = batch.ns / batch.len.max(1) * u64::from(state.waiting());
        // Who sleeps does not come.
        this.serves_itself()
            && state.backlog.waiters.is_empty()
            && (lone || batch.all_serial || ns <= tuning().worth_waking_ns)
            && Context::lease(this, state, deferred)
    }

    /// Has the pool's monitor look after the context; false if there is none.
    pub(super) fn lease(this: &ContextRef, state: &mut State, deferred: &mut Deferred) -> bool {
        if !state.leased
            && let Some(wakeup) = this.pool.lease(this.clone())
        {
            state.leased = true;
            deferred.wakeups.add(wakeup);
        }
        state.leased
    }

    /// What the monitor does for a leased context: should its requests not have moved since the
    /// last time, the caller is doing something else, and workers are needed. Returns whether it
    /// stays leased.
    pub fn tick(this: &ContextRef, look: Look) -> bool {
        let has_reaper = Context::tick_kernel(this, look);
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let moved = state.taken != state.taken_before;
        state.taken_before = state.taken;
        let keeps_moving = moved && look == Look::Again && state.closed.is_none();
        let stays = keeps_moving || look == Look::Again && state.has_in_kernel();
        state.leased = stays;
        if !keeps_moving && !state.short().is_empty() {
            state.still = match look {
                Look::Again => state.still.saturating_add(1),
                Look::Alone => tuning().still,
            };
            if state.is_stuck() {
                this.set_prompt(&mut state, 0);
                state.kernel.stay_behind();
                state.submits.polled = 0;
                Context::enqueue(this, &mut state, Class::Short, &mut deferred);
            }
        }
        drop(state);
        this.run_deferred(&mut deferred);
        if look == Look::Alone && !has_reaper {
            Context::drain_kernel(this);
        }
        stays
    }

    /// What is to be expected of a request that a caller can carry out as well as a worker.
    pub(super) fn fast(&self, req: &Req) -> Option<Fast> {
        self.profiles.fast(req.call())
    }

    /// Whether who submits a read may try it: it is known to be fast, or can be tried without waiting, and is not known to
    /// be in vain.
    #[cfg(not(loom))]
    pub(super) fn may_read_here(&self, call: &Call) -> bool {
        let profiles = &self.profiles;
        profiles.fast(call).is_some()
            || profiles.may_be_cached(call) && !profiles.is_device_bound_buffered(call)
    }

    /// Whether a request is one that a caller can carry out who waits for nothing else.
    pub(super) fn is_bounded(&self, req: &Req) -> bool {
        self.profiles.is_bounded(req.call())
    }
}
