//! Requests that wait for their files to become ready, without a thread each: see [`crate::engine::readiness`].
//!
//! A worker tries a request without waiting. If the request would wait, it stays in the list of running requests, because it
//! has begun; but no thread carries it out, and it does not count there. When its file is ready, it is queued once more. A
//! thread that cancels it takes it out of the epoll.

use super::engines::Worker;
use super::{Closed, Context, ContextRef, Deferred, State};
use crate::engine::exec;
use crate::policy::route::Route;
use crate::policy::waiting::would_wait;
use crate::request::{NO_WORKER, Req};
use crate::sync::Guard;
use crate::syscall::{Class, Tried};

impl Context {
    /// Tries a request that may wait for somebody else, without waiting. If it returns a request, the worker must carry out the
    /// rest of it: the number says how many bytes have been moved already.
    pub(super) fn try_long<'a>(
        this: &'a ContextRef,
        state: Guard<'a, State>,
        mut deferred: Deferred,
        worker: &mut Worker,
        mut req: Req,
    ) -> (Guard<'a, State>, Deferred, Option<(Req, u64)>) {
        drop(state);
        this.run_deferred(&mut deferred);
        let mut deferred = Deferred::new();
        let file = match worker.try_to_carry_out(&mut req) {
            Tried::Done(_) => {
                deferred.note_ended(&mut req);
                None
            }
            Tried::Waits(fd, way)
                if would_wait(&this.patient(&req)) == Route::Readiness
                    && this.pool.readiness.prepare(fd) =>
            {
                Some((fd, way))
            }
            Tried::Waits(..) => return (this.state.lock(), deferred, Some((req, 0))),
            Tried::MayWait { moved } => return (this.state.lock(), deferred, Some((req, moved))),
        };
        let mut state = this.state.lock();
        let mut is_interrupted = worker.was_interrupted();
        if let Some((fd, way)) = file {
            // The end of a context interrupts workers, so this request stays with its worker.
            if state.closed.is_some() && !is_interrupted {
                return (state, deferred, Some((req, 0)));
            }
            if is_interrupted {
                exec::cancel(&mut req);
            } else {
                req.set_route(Route::Readiness);
                let reference = req.reference();
                match this.pool.readiness.insert(this, req, fd, way) {
                    Ok(()) => {
                        state.running.begin_waiting(reference);
                        deferred.awaits = true;
                    }
                    Err(mut req) => {
                        req.set_route(Route::Thread);
                        return (state, deferred, Some((req, 0)));
                    }
                }
                // If the context has a limit of workers, a request of the other class may have waited for this one.
                Context::enqueue(this, &mut state, Class::Short, &mut deferred);
                return (state, deferred, None);
            }
        }
        Context::complete(this, &mut state, req, &mut deferred);
        while is_interrupted {
            drop(state);
            worker.take_interrupt();
            state = this.state.lock();
            is_interrupted = false;
        }
        Context::enqueue(this, &mut state, Class::Short, &mut deferred);
        (state, deferred, None)
    }

    /// The file for which a request waits has become ready. Afterwards the caller tells epoll what has changed.
    pub fn ready(this: &ContextRef, mut req: Req) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let is_cancelled = state.running.end_waiting(&req);
        req.set_worker(NO_WORKER);
        let cancels = state.closed == Some(Closed::Destroyed) && this.behaviour.cancels_at_close;
        if is_cancelled || cancels {
            exec::cancel(&mut req);
            Context::publish(this, &mut state, req, &mut deferred);
        } else {
            let facts = this.queue_facts(&state);
            if facts.in_flight > facts.limit
                && let Some(number) = req.awaited()
            {
                // It may have to wait for others of its context. The next request for this file, perhaps another context's, does not.
                this.pool.readiness.ended(number);
            }
            state.queues[Class::Long as usize].push(req);
            Context::enqueue(this, &mut state, Class::Long, &mut deferred);
        }
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Takes back a request that waits for its file: if `data` is given, one with this `data`.
    pub(super) fn take_awaiting(
        &self,
        state: &mut State,
        data: Option<u64>,
        deferred: &mut Deferred,
    ) -> Option<Req> {
        let wanted = |here: u64| data.is_none_or(|data| data == here);
        let req = {
            let mut all = state.running.iter().filter(|one| wanted(one.data));
            let readiness = &self.pool.readiness;
            all.find_map(|one| readiness.take(one.awaited()?, one.reference))?
        };
        state.running.end_waiting(&req);
        deferred.awaits = true;
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
