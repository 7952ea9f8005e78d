//! Completing requests, and waiting until requests have completed.

use super::stand_in::HELP_TICK_NS;
use super::{BATCH_MAX, Context, ContextRef, Deferred, State};
use crate::attr;
use crate::engine::exec;
use crate::policy::route::Routes;
use crate::request::{List, Req};
use crate::sync::Relaxed;
use crate::sys::{NEVER, Waited, futex_wait, monotonic_ns, progress};
use crate::syscall::{self, carrier};
use arrayvec::ArrayVec;

impl Context {
    /// Publishes the event of a request that was taken.
    pub(super) fn complete(
        this: &ContextRef,
        state: &mut State,
        req: Req,
        deferred: &mut Deferred,
    ) {
        state.running.leave(&req);
        state.still = 0;
        Context::publish(this, state, req, deferred);
    }

    /// Publishes the events of a request that is on no list any more, and of the requests that must be cancelled with it.
    pub(super) fn publish(this: &ContextRef, state: &mut State, req: Req, deferred: &mut Deferred) {
        let mut runnable = List::new();
        let mut next = Some(req);
        let had_at_once = state.at_once != 0;
        while let Some(mut req) = next {
            state.routes.count(req.route());
            attr::route::answer(&mut req);
            this.note_awaited(&req, deferred);
            state.in_flight -= 1;
            state.at_once -= u32::from(req.at_once());
            next = state.order.ended(&req, &mut runnable);
            this.ring.publish(
                &mut state.backlog,
                req,
                &mut state.slabs,
                &mut deferred.wakes,
            );
            if let Some(req) = &mut next {
                exec::cancel(req);
            }
        }
        if had_at_once && state.at_once == 0 {
            let State { backlog, .. } = state;
            backlog
                .waiters
                .dequeue_only_for_at_once(&mut deferred.wakes);
        }
        deferred.published = true;
        this.note_end(state, deferred);
        Context::release(this, state, runnable, deferred);
    }

    /// How its requests were carried out so far. None: the lock did not come free in that time.
    pub fn routes(&self, patience_ns: u64) -> Option<Routes> {
        Some(self.state.try_lock_for(patience_ns)?.routes)
    }

    /// Tells threads that wait until a request has ended.
    pub(super) fn note_end(&self, state: &State, deferred: &mut Deferred) {
        if state.waiting_for_end != 0 {
            // Relaxed: the lock orders it. Waiting threads read it under the lock before they sleep.
            self.ended.fetch_add(1, Relaxed);
            deferred.ended = true;
        }
    }

    /// Waits until `over`, which is called under the lock whenever a request has ended. False: no request has ended for `patience_ns`.
    pub(super) fn wait_for_end(
        &self,
        patience_ns: u64,
        mut over: impl FnMut(&mut State) -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        state.waiting_for_end += 1;
        let mut is_over = over(&mut state);
        let mut in_time = true;
        while !is_over && in_time {
            let seen = self.ended.load(Relaxed);
            drop(state);
            let until = match patience_ns {
                NEVER => NEVER,
                ns => monotonic_ns() + ns,
            };
            let waited = carrier::outside(|| futex_wait(&self.ended, seen, until));
            progress::made();
            state = self.state.lock();
            is_over = over(&mut state);
            in_time = waited != Waited::TimedOut;
        }
        state.waiting_for_end -= 1;
        is_over
    }

    /// Publishes the event of one request that was taken, and does the deferred work.
    pub(super) fn end(this: &ContextRef, req: Req) {
        Context::end_by(this, req, Context::complete);
    }

    pub(super) fn end_by(
        this: &ContextRef,
        mut req: Req,
        publish: impl FnOnce(&ContextRef, &mut State, Req, &mut Deferred),
    ) {
        let mut deferred = Deferred::new();
        deferred.note_ended(&mut req);
        let mut state = this.state.lock();
        publish(this, &mut state, req, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Wakes all waiters, so that they look again.
    pub fn wake_waiters(&self) {
        let mut deferred = Deferred::new();
        self.state
            .lock()
            .backlog
            .waiters
            .dequeue_all(&mut deferred.wakes);
        self.run_deferred(&mut deferred);
    }
}

/// For submits that reserve their places ([`super::Batch::reserve_up_to`]).
impl Context {
    /// Publishes requests that the submitter has carried out itself.
    pub(super) fn publish_all(this: &ContextRef, done: &mut ArrayVec<Req, BATCH_MAX>) {
        if done.is_empty() {
            return;
        }
        let mut deferred = Deferred::new();
        for req in done.iter_mut() {
            deferred.note_ended(req);
        }
        let mut state = this.state.lock();
        for req in done.drain(..) {
            Context::publish(this, &mut state, req, &mut deferred);
        }
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Waits until no request in flight must come before `req`.
    pub(super) fn wait_to_begin(this: &ContextRef, req: &Req) {
        loop {
            Context::help_workers(this, syscall::is_ready);
            if this.wait_for_end(HELP_TICK_NS, |state| state.order.claims.begin(req)) {
                return;
            }
        }
    }

    /// Publishes a request that was in flight but not in `running`.
    pub fn complete_elsewhere(this: &ContextRef, req: Req) {
        Context::end_by(this, req, Context::publish);
    }
}
