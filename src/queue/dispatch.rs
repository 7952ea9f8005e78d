//! Dispatching: a worker is told that requests are queued, unless a caller or a worker comes for them anyway.

use super::{Context, ContextRef, Deferred, SOON, State};
use crate::engine::pool::Look;
use crate::policy::decide::{self, Queue, Submit};
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::request::List;
use crate::sync::Relaxed;
use crate::sys::monotonic_ns;
use crate::syscall::{Class, carrier};

impl Context {
    /// Tells the pool that there is work for one more worker, unless the pool knows it already, or a caller or a worker comes
    /// for it.
    pub(super) fn enqueue(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        deferred: &mut Deferred,
    ) {
        Context::enqueue_if(this, state, class, true, deferred);
    }

    /// Like `enqueue`, if no caller comes for the requests.
    pub(super) fn enqueue_for_worker(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        deferred: &mut Deferred,
    ) {
        Context::enqueue_if(this, state, class, false, deferred);
    }

    /// `expects_caller`: a caller may come for the requests.
    pub(super) fn enqueue_if(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        expects_caller: bool,
        deferred: &mut Deferred,
    ) {
        let index = class as usize;
        if state.queues[index].is_empty() {
            return;
        }
        let dispatch = this.queued(state, class, expects_caller);
        let is_left = dispatch.route != Some(Route::Thread)
            && (!dispatch.needs_lease || Context::lease(this, state, deferred));
        if is_left && dispatch.route == Some(Route::KernelWaiting) {
            // Relaxed: a hint.
            this.left_to_reaper.store(true, Relaxed);
        }
        if !is_left && !state.enqueued[index] {
            state.enqueued[index] = true;
            deferred.wakeups.add(this.pool.enqueue(this.clone(), class));
        }
    }

    /// Queues requests that may begin.
    pub(super) fn release(
        this: &ContextRef,
        state: &mut State,
        mut runnable: List,
        deferred: &mut Deferred,
    ) {
        if runnable.is_empty() {
            return;
        }
        state.enqueue_by_class(&mut runnable);
        deferred.queued = true;
        Context::enqueue(this, state, Class::Finite, deferred);
        Context::enqueue(this, state, Class::Indefinite, deferred);
    }

    /// Whether the context's caller has lately carried its requests out itself.
    pub fn serves_itself(&self) -> bool {
        self.serves_itself.load(Relaxed)
    }

    pub(super) fn set_prompt(&self, state: &mut State, prompt: u32) {
        state.prompt = prompt.min(tuning().prompt_in_a_row);
        self.serves_itself
            .store(state.prompt == tuning().prompt_in_a_row, Relaxed);
    }

    /// Called when requests are submitted and not queued yet. Decides whether the submitter hands them over, or whether they are
    /// left to a caller. Notes the submit, so that a caller that comes right after it is noticed.
    pub(super) fn at_submit(
        &self,
        state: &mut State,
        submit: &Submit,
        submitted_ns: Option<u64>,
    ) -> Option<Route> {
        let answer = decide::at_submit(
            submit,
            &self.queue_facts(state),
            &self.own_queue_facts(state),
            || self.profiles.wants_sample(),
            tuning(),
        );
        if answer.counts {
            state.kernel.note_submitter();
        }
        if answer.suits_caller {
            state.submitted_ns = match submitted_ns {
                None if self.serves_itself()
                    && state.dequeued % u64::from(tuning().sample) != 0 =>
                {
                    SOON
                }
                when => when.unwrap_or_else(monotonic_ns),
            };
            state.submitter = carrier::thread();
        } else if state.prompt != 0 && answer.route.is_none() {
            self.set_prompt(state, 0);
        }
        answer.route
    }

    /// Leases the context: the pool's monitor looks after it. False if there is no monitor.
    pub(super) fn lease(this: &ContextRef, state: &mut State, deferred: &mut Deferred) -> bool {
        if !state.leased
            && let Some(wakeup) = this.pool.lease(this.clone())
        {
            state.leased = true;
            deferred.wakeups.add(wakeup);
        }
        state.leased
    }

    /// The monitor's tick for a leased context. If none of its requests has been taken since the last tick, the caller is
    /// doing something else, and a worker is told. Returns whether the context stays leased.
    pub fn tick(this: &ContextRef, look: Look) -> bool {
        let has_reaper = Context::tick_kernel(this, look);
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let has_moved = state.dequeued != state.dequeued_before;
        state.dequeued_before = state.dequeued;
        let facts = Queue {
            behind_writer: state.waits_for_writer(),
            ..this.queue_facts(&state)
        };
        let is_last = look == Look::Last;
        let tick = decide::at_tick(&facts, has_moved, is_last, state.has_in_kernel(), tuning());
        state.leased = tick.stays;
        state.still = tick.still;
        if tick.route == Some(Route::Thread) {
            this.set_prompt(&mut state, 0);
            state.kernel.stay_behind();
            state.submits.polling = 0;
            Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
        }
        drop(state);
        this.run_deferred(&mut deferred);
        if look == Look::Last && !has_reaper {
            Context::drain_kernel(this);
        }
        tick.stays
    }
}
