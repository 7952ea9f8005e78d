//! Cancelling requests, and the end of a context.

use super::{Closed, Context, ContextRef, Deferred, INTERRUPT_AGAIN_NS, State};
use crate::engine::exec;
use crate::request::{Carried, List, Req};
use crate::sys::{NEVER, Result};
use crate::syscall::{AWAIT_FILE, Call};
use nix::errno::Errno;

/// A request that will be cancelled, that may begin, and that no thread carries out.
struct Idle {
    req: Req,
    /// It has waited for its file, and epoll must be told.
    has_waited: bool,
}

impl Context {
    /// Cancels a queued request that is `wanted`, or interrupts a running one if possible.
    pub fn cancel(this: &ContextRef, wanted: impl Fn(u64, &Call) -> bool) -> Result<()> {
        let mut state = this.state.lock();
        let idle = this.remove_idle(&mut state, &wanted);
        if let Some(idle) = idle {
            drop(state);
            Context::cancel_idle(this, idle);
            return Ok(());
        }
        if let Some(held) = state.order.held.search(&wanted) {
            // All under one lock: others begin, or are cancelled, because of this request.
            let mut deferred = Deferred::new();
            let mut runnable = List::new();
            let mut req = state.order.remove(held, &mut runnable);
            exec::cancel(&mut req);
            Context::publish(this, &mut state, req, &mut deferred);
            Context::release(this, &mut state, runnable, &mut deferred);
            drop(state);
            this.run_deferred(&mut deferred);
            return Ok(());
        }
        // One whose file has just become ready is on its way back to the queue, and ends when it arrives there.
        if state.running.cancel_waiting(&wanted) {
            return Ok(());
        }
        let mut result = Err(Errno::ENOENT);
        let is_wanted = |one: &Carried| wanted(one.data, one.call);
        for carried in state.running.iter().filter(is_wanted) {
            match carried.worker() {
                Some(worker) if this.pool.interrupt(worker) => return Ok(()),
                _ => result = Err(Errno::EALREADY),
            }
        }
        result
    }

    /// Takes out a request that is `wanted`, that may begin, and that no thread carries out.
    fn remove_idle(&self, state: &mut State, wanted: impl Fn(u64, &Call) -> bool) -> Option<Idle> {
        let queued = state.dequeue_wanted(&wanted);
        let has_waited = queued.is_none();
        let req = queued.or_else(|| self.remove_awaiting(state, &wanted))?;
        Some(Idle { req, has_waited })
    }

    /// Called without the lock.
    fn cancel_idle(this: &ContextRef, idle: Idle) {
        if idle.has_waited {
            // Before the request gives its file back.
            this.pool.readiness.update_epoll();
        }
        let mut req = idle.req;
        exec::cancel(&mut req);
        Context::end_by(this, req, Context::publish);
    }

    /// Cancels the requests that only wait for their files, and interrupts the threads that wait for them.
    fn cancel_waits(this: &ContextRef) {
        let is_wait = |_, call: &Call| call.nr == AWAIT_FILE;
        let mut state = this.state.lock();
        while let Some(idle) = this.remove_idle(&mut state, is_wait) {
            drop(state);
            Context::cancel_idle(this, idle);
            state = this.state.lock();
        }
        this.interrupt_all(&state, is_wait);
    }

    /// Interrupts all running requests that are `wanted` and can be interrupted.
    fn interrupt_all(&self, state: &State, wanted: impl Fn(u64, &Call) -> bool) {
        for one in state
            .running
            .iter()
            .filter(|one| wanted(one.data, one.call))
        {
            one.worker().map(|worker| self.pool.interrupt(worker));
        }
    }

    /// Ends the context, and waits for the requests in flight.
    pub fn close(this: &ContextRef) {
        Context::begin_close(this);
        Context::wait_until_idle(this);
    }

    /// From here on the context accepts nothing. Wakes its waiters. No caller can find the context any more, but callers that have found it
    /// before may still be inside.
    pub fn begin_close(this: &ContextRef) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        state.closed = Some(Closed::Destroyed);
        if this.behaviour.cancels_at_close {
            while let Some(mut req) = state.dequeue_any() {
                exec::cancel(&mut req);
                Context::publish(this, &mut state, req, &mut deferred);
            }
            while let Some(mut req) = this.remove_awaiting(&mut state, |_, _| true) {
                deferred.awaits = true;
                exec::cancel(&mut req);
                Context::publish(this, &mut state, req, &mut deferred);
            }
            this.interrupt_all(&state, |_, _| true);
        }
        state.backlog.waiters.dequeue_all(&mut deferred.wakes);
        drop(state);
        this.run_deferred(&mut deferred);
        if !this.behaviour.cancels_at_close {
            Context::cancel_waits(this);
        }
    }

    /// Waits until nothing is in flight. If there are no threads to carry requests out, the calling thread does.
    pub fn wait_until_idle(this: &ContextRef) {
        Context::help_workers(this, |_| true);
        Context::drain_kernel(this);
        // It may not have been possible yet to send a signal to one of them, so try again.
        let patience_ns = if cfg!(loom) {
            NEVER
        } else {
            INTERRUPT_AGAIN_NS
        };
        while !this.wait_for_end(patience_ns, |state| state.in_flight == 0) {
            Context::help_workers(this, |_| true);
            if this.behaviour.cancels_at_close {
                this.interrupt_all(&this.state.lock(), |_, _| true);
            } else {
                Context::cancel_waits(this);
            }
        }
    }
}
