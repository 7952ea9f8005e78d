//! A worker that carries a context's requests out.

use super::engines::Worker;
use super::{BATCH_MAX, Context, ContextRef, Deferred, State};
use crate::engine::exec;
use crate::policy::route::Route;
use crate::policy::waiting;
use crate::request::Req;
use crate::sync::{Guard, Relaxed};
use crate::syscall::{Call, Class};
use arrayvec::ArrayVec;
use std::cell::Cell;
use std::time::Duration;

impl Context {
    /// Takes the first request out of a queue, if it is `wanted`. The caller carries it out, and then completes it.
    pub(super) fn dequeue_if(
        &self,
        state: &mut State,
        class: Class,
        wanted: impl FnOnce(&Req) -> bool,
    ) -> Option<Req> {
        if !self.may_begin(state, class) {
            return None;
        }
        let req = state.queues[class as usize].pop_if(wanted)?;
        state.dequeued += 1;
        state.running.enter(&req);
        Some(req)
    }

    /// Takes finite requests from the front of the queue, as long as they are `wanted` and for the same descriptor as `first`:
    /// at most `most`, and only if `batch` has room.
    pub(super) fn dequeue_more<const N: usize>(
        &self,
        state: &mut State,
        first: &Call,
        batch: &mut ArrayVec<Req, N>,
        most: u32,
        wanted: impl Fn(&Req) -> bool,
    ) {
        let fd = first.args[0];
        for _ in 0..most.min(batch.remaining_capacity() as u32) {
            let like = |req: &Req| req.call().args[0] == fd && wanted(req);
            let Some(req) = self.dequeue_if(state, Class::Finite, like) else {
                return;
            };
            batch.push(req);
        }
    }

    /// Takes a request for a worker, unless it is left to a caller or to another worker.
    pub(super) fn dequeue_for_worker(
        this: &ContextRef,
        state: &mut State,
        worker: &Worker,
        deferred: &mut Deferred,
    ) -> Option<Req> {
        let dispatch = this.for_worker(state, worker.class());
        if dispatch.needs_lease && Context::lease(this, state, deferred) {
            return None;
        }
        let req = this.dequeue_if(state, worker.class(), |_| true)?;
        if worker.class() == Class::Indefinite {
            req.set_worker(worker.slot());
        }
        Some(req)
    }

    /// Puts a taken request back at the front of its queue, for a worker.
    pub(super) fn put_back(this: &ContextRef, req: Req, current: &Cell<usize>) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        current.set(0);
        this.set_prompt(&mut state, 0);
        state.requeue(req);
        Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Carries requests out, in a worker to which the pool gave this context, until none is left for this worker, or
    /// the pool needs it elsewhere.
    pub fn serve(this: &ContextRef, worker: &mut Worker) {
        let class = worker.class();
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        state.enqueued[class as usize] = false;
        let mut next = Context::dequeue_for_worker(this, &mut state, worker, &mut deferred);
        loop {
            let Some(req) = next else {
                drop(state);
                return this.run_deferred(&mut deferred);
            };
            let req = if class == Class::Indefinite && waiting::is_tried(&this.patient(&req)) {
                let left;
                (state, deferred, left) =
                    Context::try_indefinite(this, state, deferred, worker, req);
                let Some(left) = left else {
                    next = Context::dequeue_next(this, &mut state, worker, &mut deferred);
                    continue;
                };
                left
            } else {
                req
            };
            let mut more = 0;
            if class == Class::Finite {
                let dequeued = this.dequeued_by_worker(&state, &req, worker);
                if dequeued.route == Route::KernelThread {
                    (state, deferred) = Context::hand_over(this, state, deferred, worker, req);
                    next = Context::dequeue_next(this, &mut state, worker, &mut deferred);
                    continue;
                }
                if let Some(most) = dequeued.ahead {
                    (state, deferred) =
                        Context::read_ahead(this, state, deferred, worker, req, most);
                    next = Context::dequeue_next(this, &mut state, worker, &mut deferred);
                    continue;
                }
                more = dequeued.more;
            }
            let mut batch = ArrayVec::<Req, BATCH_MAX>::new();
            let first = *req.call();
            batch.push(req);
            this.dequeue_more(&mut state, &first, &mut batch, more, |req| {
                this.joins_fast(req)
            });
            let sole_in_flight = state.running.transfers() as usize == batch.len();
            Context::enqueue(this, &mut state, class, &mut deferred);
            drop(state);
            this.run_deferred(&mut deferred);
            deferred = Deferred::new();
            let mut done = 0;
            while done < batch.len() && (done == 0 || !worker.is_suspicious()) {
                let req = &mut batch[done];
                match class {
                    Class::Finite => worker.carry_out(&this.profiles, req, sole_in_flight),
                    Class::Indefinite => worker.carry_out_indefinite(req),
                }
                deferred.note_ended(req);
                done += 1;
            }
            this.let_unwind();
            state = this.state.lock();
            while batch.len() > done {
                // The last request took long: other workers may begin these sooner.
                if let Some(req) = batch.pop() {
                    state.requeue(req);
                }
            }
            for req in batch {
                Context::complete(this, &mut state, req, &mut deferred);
            }
            if worker.was_interrupted() {
                drop(state);
                worker.consume_interrupt();
                state = this.state.lock();
            }
            // If the context has a limit of workers, a request of the other class may have waited for this one to end.
            Context::enqueue(this, &mut state, class.other(), &mut deferred);
            next = Context::dequeue_next(this, &mut state, worker, &mut deferred);
        }
    }

    /// Called before events are published. If submits nest, publishes later, so that the program finds no event and returns
    /// (see `policy::nesting`).
    pub(super) fn let_unwind(&self) {
        match self.pause_ns.load(Relaxed) {
            0 => {}
            pause_ns => std::thread::sleep(Duration::from_nanos(pause_ns)),
        }
    }

    /// Takes another request for a worker, unless the pool needs the worker elsewhere.
    pub(super) fn dequeue_next(
        this: &ContextRef,
        state: &mut State,
        worker: &Worker,
        deferred: &mut Deferred,
    ) -> Option<Req> {
        if worker.more() {
            Context::dequeue_for_worker(this, state, worker, deferred)
        } else {
            Context::enqueue(this, state, worker.class(), deferred);
            None
        }
    }
}

/// Reads through the page cache that wait for a device.
impl Context {
    /// Carries out several reads: announces all of them to the device, and only then waits for the first. So fewer threads
    /// keep the device as busy, and when the first read has ended, the others often need not wait.
    pub(super) fn read_ahead<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut deferred: Deferred,
        worker: &mut Worker,
        first: Req,
        most: u32,
    ) -> (Guard<'a, State>, Deferred) {
        let mut rest = ArrayVec::<Req, BATCH_MAX>::new();
        this.dequeue_more(&mut state, first.call(), &mut rest, most, |req| {
            req.bound().need_nothing() && this.is_announced(req.call())
        });
        Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        for req in &rest {
            exec::read_ahead(req);
        }
        let mut rest = rest.into_iter();
        let mut req = first;
        worker.carry_out(&this.profiles, &mut req, false);
        loop {
            let mut deferred = Deferred::new();
            deferred.note_ended(&mut req);
            let mut state = this.state.lock();
            Context::complete(this, &mut state, req, &mut deferred);
            // If the context has a limit of workers, a request of the other class may have waited for this one to end.
            Context::enqueue(this, &mut state, Class::Indefinite, &mut deferred);
            req = match rest.next() {
                Some(next) => next,
                None => return (state, deferred),
            };
            drop(state);
            this.run_deferred(&mut deferred);
            worker.carry_out_prepared(&mut req);
        }
    }
}
