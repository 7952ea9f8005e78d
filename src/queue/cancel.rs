//! Cancelling requests, and the end of a context.

use super::{Closed, Context, ContextRef, Deferred, INTERRUPT_AGAIN_NS, State};
use crate::engine::exec;
use crate::request::List;
use crate::sys::{NEVER, Result};
use nix::errno::Errno;

impl Context {
    /// Cancels a queued request with that `data`, or interrupts a running one if possible.
    pub fn cancel(this: &ContextRef, data: u64) -> Result<()> {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let mut go = List::new();
        let mut req = state.take_queued(|queued, _| queued == data);
        if req.is_none()
            && let Some(held) = state.order.held.search(|held, _| held == data)
        {
            req = Some(state.order.take(held, &mut go));
        }
        #[cfg(not(loom))]
        let req = req.or_else(|| this.take_awaiting(&mut state, Some(data), &mut deferred));
        let Some(mut req) = req else {
            // One whose file has just become ready is on its way back to the queue, and ends when it arrives there.
            if state.running.cancel_waiting(data) {
                return Ok(());
            }
            return this.interrupt(&state, data);
        };
        exec::cancel(&mut req);
        Context::publish(this, &mut state, req, &mut deferred);
        Context::release(this, &mut state, go, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        Ok(())
    }

    /// Interrupts a running request with that `data`.
    pub(super) fn interrupt(&self, state: &State, data: u64) -> Result<()> {
        let mut result = Err(Errno::ENOENT);
        for carried in state.running.iter().filter(|carried| carried.data == data) {
            match carried.worker() {
                Some(worker) if self.pool.interrupt(worker) => return Ok(()),
                _ => result = Err(Errno::EALREADY),
            }
        }
        result
    }

    /// Interrupts all running requests that can be interrupted.
    pub(super) fn interrupt_all(&self, state: &State) {
        for worker in state.running.iter().filter_map(|carried| carried.worker()) {
            self.pool.interrupt(worker);
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
            while let Some(mut req) = state.take_any() {
                exec::cancel(&mut req);
                Context::publish(this, &mut state, req, &mut deferred);
            }
            #[cfg(not(loom))]
            while let Some(mut req) = this.take_awaiting(&mut state, None, &mut deferred) {
                exec::cancel(&mut req);
                Context::publish(this, &mut state, req, &mut deferred);
            }
            this.interrupt_all(&state);
        }
        state.backlog.waiters.take_all(&mut deferred.wakes);
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Waits until nothing is in flight. If there are no threads to carry requests out, the calling thread does.
    pub fn wait_until_idle(this: &ContextRef) {
        while this.pool.short_of_threads() && Context::carry_out_here(this, |_| true) {}
        Context::drain_kernel(this);
        // It may not have been possible yet to send a signal to one of them, so try again.
        let patience_ns = if this.behaviour.cancels_at_close && !cfg!(loom) {
            INTERRUPT_AGAIN_NS
        } else {
            NEVER
        };
        while !this.wait_for_end(patience_ns, |state| state.in_flight == 0) {
            this.interrupt_all(&this.state.lock());
        }
    }
}
