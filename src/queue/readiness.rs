//! Requests that wait for their files to become ready, without a thread each: see [`crate::engine::readiness`].
//!
//! A worker tries a request without waiting. If the request would wait, it stays in the list of running requests, because it
//! has begun; but no thread carries it out, and it does not count there. When its file is ready, it is queued once more, or ends if it has
//! only waited. A thread that cancels it takes it out of the epoll.

use super::engines::Worker;
use super::{Closed, Context, ContextRef, Deferred, State};
use crate::engine::exec;
use crate::policy::route::Route;
use crate::policy::waiting::would_wait;
use crate::request::{NO_WORKER, Req};
use crate::sync::Guard;
use crate::sys::Result;
use crate::syscall::{Call, Class, Tried};
use libc::c_short;
use nix::errno::Errno;
use std::os::fd::RawFd;

impl Context {
    /// Tries a request that may wait for somebody else, without waiting. If it returns a request, the worker must carry out the
    /// rest of it.
    pub(super) fn try_indefinite<'a>(
        this: &'a ContextRef,
        state: Guard<'a, State>,
        mut deferred: Deferred,
        worker: &mut Worker,
        mut req: Req,
    ) -> (Guard<'a, State>, Deferred, Option<Req>) {
        drop(state);
        this.run_deferred(&mut deferred);
        let mut deferred = Deferred::new();
        let file = match worker.try_to_carry_out(&mut req) {
            Tried::Done(_) => {
                deferred.note_ended(&mut req);
                None
            }
            Tried::Waits(fd, events)
                if would_wait(&this.patient(&req)) == Route::Readiness
                    && this.pool.readiness.prepare(fd) =>
            {
                Some((fd, events))
            }
            Tried::Waits(..) | Tried::MayWait { .. } => {
                // It waits in this thread from here on, perhaps for long. The next one for its file may go on.
                this.note_awaited(&req, &mut deferred);
                req.set_awaited(None);
                return (this.state.lock(), deferred, Some(req));
            }
        };
        let mut state = this.state.lock();
        let is_interrupted = worker.was_interrupted();
        if let Some((fd, events)) = file {
            let is_over = is_interrupted || state.closed == Some(Closed::Destroyed);
            if !is_over {
                match Context::leave_in_epoll(this, &mut state, req, fd, events, &mut deferred) {
                    // If the context has a limit of workers, a request of the other class may have waited for this one.
                    Ok(()) => Context::enqueue(this, &mut state, Class::Finite, &mut deferred),
                    Err(mut req) => {
                        req.set_route(Route::Thread);
                        return (state, deferred, Some(req));
                    }
                }
                return (state, deferred, None);
            }
            // Nobody interrupts the worker for it again.
            state.running.leave(&req);
            drop(state);
            exec::cancel(&mut req);
            deferred.note_ended(&mut req);
            state = this.state.lock();
            Context::publish(this, &mut state, req, &mut deferred);
        } else {
            Context::complete(this, &mut state, req, &mut deferred);
        }
        if is_interrupted {
            drop(state);
            worker.consume_interrupt();
            state = this.state.lock();
        }
        Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
        (state, deferred, None)
    }

    /// A running request waits for its file from here on. If there is no room, it comes back.
    fn leave_in_epoll(
        this: &ContextRef,
        state: &mut State,
        mut req: Req,
        fd: RawFd,
        events: c_short,
        deferred: &mut Deferred,
    ) -> core::result::Result<(), Req> {
        req.set_route(Route::Readiness);
        let reference = req.reference();
        this.pool.readiness.insert(this, req, fd, events)?;
        state.running.begin_waiting(reference);
        deferred.awaits = true;
        Ok(())
    }

    /// Has a request that only waits for its file wait in the epoll. For a submitter whose descriptor no other thread can use.
    pub(super) fn wait_here(this: &ContextRef, mut req: Req) {
        let mut deferred = Deferred::new();
        if let Tried::Waits(fd, events) = exec::try_to_execute(&mut req)
            && this.pool.readiness.prepare(fd)
        {
            let mut state = this.state.lock();
            if state.closed.is_none() {
                state.running.enter(&req);
                match Context::leave_in_epoll(this, &mut state, req, fd, events, &mut deferred) {
                    Ok(()) => {
                        drop(state);
                        return this.run_deferred(&mut deferred);
                    }
                    Err(back) => req = back,
                }
                state.running.leave(&req);
            }
        }
        req.ready(Err(Errno::EAGAIN));
        Context::end_by(this, req, Context::publish);
    }

    /// The file for which a request waits has become ready, or the request cannot wait for it in the epoll. Afterwards the caller tells
    /// epoll of the changes.
    pub fn ready(this: &ContextRef, mut req: Req, events: Result<c_short>) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let is_cancelled = state.running.end_waiting(&req);
        req.set_worker(NO_WORKER);
        let cancels = state.closed == Some(Closed::Destroyed) && this.behaviour.cancels_at_close;
        if is_cancelled || cancels {
            exec::cancel(&mut req);
        } else if !req.ready(events) {
            let facts = this.queue_facts(&state);
            if facts.in_flight > facts.limit
                && let Some(number) = req.awaited()
            {
                // It may have to wait for others of its context. The next request for this file, perhaps another context's, does not.
                this.pool.readiness.ended(number);
            }
            state.queues[Class::Indefinite as usize].push(req);
            deferred.queued = true;
            Context::enqueue(this, &mut state, Class::Indefinite, &mut deferred);
            drop(state);
            return this.run_deferred(&mut deferred);
        }
        drop(state);
        Context::end_by(this, req, Context::publish);
    }

    /// Takes back a request that waits for its file and is `wanted`. Then epoll must be told.
    pub(super) fn remove_awaiting(
        &self,
        state: &mut State,
        wanted: impl Fn(u64, &Call) -> bool,
    ) -> Option<Req> {
        let req = {
            let mut all = state
                .running
                .iter()
                .filter(|one| wanted(one.data, one.call));
            let readiness = &self.pool.readiness;
            all.find_map(|one| readiness.remove(one.awaited()?, one.reference))?
        };
        state.running.end_waiting(&req);
        Some(req)
    }

    /// A request ends. The next one that waits for the same file has its turn.
    #[inline]
    pub(super) fn note_awaited(&self, req: &Req, deferred: &mut Deferred) {
        if let Some(number) = req.awaited() {
            deferred.awaits |= self.pool.readiness.ended(number);
        }
    }
}
