//! Requests that the kernel carries out.

use super::engines::{AcquiredQueue, Kaio, KernelDone, Worker};
use super::{Context, ContextRef, Deferred, State};
use crate::engine::in_flight::REAPED;
use crate::engine::{Engine, Start, kaio};
use crate::policy::batch::{Caller, Joined, Request, joins};
use crate::policy::returning::Returning;
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::profiles::{self, Looked, Now};
use crate::request::{Chain, NO_WORKER, Notification, Req, Stage, notify};
use crate::sync::Guard;
use crate::sys::{has_call_filter, monotonic_ns};
use crate::syscall::{Call, Class, carrier};
use arrayvec::ArrayVec;
use std::sync::OnceLock;

/// The context's own queue, taken when a caller first wants to wait for the kernel there. None: it can have none.
pub type OwnQueueSlot = OnceLock<Option<AcquiredQueue>>;

/// Requests that the kernel carries out in the context's own queue. As long as there are any, the monitor looks after the
/// context, and takes completions if no thread sleeps there.
#[derive(Default)]
pub struct KernelInFlight {
    /// Number of these requests.
    pub(super) count: u32,
    /// The thread that sleeps there, hands over, or takes completions.
    pub(super) reaper: Option<u32>,
    /// Whether callers come back soon after they have waited.
    pub(super) returning: Returning,
    /// The last caller had a time limit.
    pub(super) in_time: bool,
    /// The reaper sleeps.
    pub(super) asleep: bool,
    /// The descriptor for which the reaper hands writes over.
    pub(super) writes: Option<u64>,
    /// When io_submit(2) last returned to a reaper, the kernel had completed all requests: those of this call and all earlier ones.
    pub(super) waited: bool,
    /// The submitter that hands over beside the reaper.
    pub(super) submitter: Option<u32>,
    /// The submit hint. As long as it is not 0, a caller sleeps in the own queue because submitters hand over there. A sleep
    /// without a completion takes 1 away.
    pub(super) submit_hint: u32,
    /// Number of submits during which submitters do not hand over; and that number at the beginning of the last pause.
    pub(super) pause: u32,
    pub(super) last_pause: u32,
    /// How often there was a reaper, in all and up to the last tick.
    pub(super) visits: u32,
    pub(super) visits_before: u32,
}

impl State {
    /// Whether the kernel carries out requests in the context's own queue.
    pub(super) fn has_in_kernel(&self) -> bool {
        self.kernel.count != 0
    }

    /// Whether the first queued request is a write to the file for which the reaper is handing writes over. A worker that
    /// began it would wait for the same thing as the reaper, and then be in its way.
    pub(super) fn waits_for_writer(&self) -> bool {
        self.kernel.writes.is_some_and(|file| {
            let first = self.queues[Class::Finite as usize].peek();
            first.is_some_and(|call| profiles::writes(call) && call.args[0] == file)
        })
    }

    /// A caller has waited, and is about to leave the library.
    pub(super) fn note_departure(&mut self) {
        self.kernel.returning.departs(monotonic_ns());
    }

    /// A dequeued request is not carried out now. From here on it counts as not begun.
    pub(super) fn give_up(&mut self, req: &Req) {
        self.running.leave(req);
        req.set_worker(NO_WORKER);
        req.set_stage(Stage::Accepted);
    }

    pub(super) fn requeue_all(&mut self, mut requests: kaio::Batch) {
        while let Some(req) = requests.pop() {
            self.requeue(req);
        }
    }
}

/// Requests that the kernel carries out (see [`crate::engine::kaio`]).
impl Context {
    /// The facts that decide whether a request joins a batch.
    pub(super) fn facts(&self, req: &Req) -> Request {
        kaio::facts(
            req,
            Kaio::supports(req) && self.outlook(req).is_device_bound(tuning()),
        )
    }

    /// Whether a request joins the batch that this caller hands over. If so, adds it to the facts of the batch.
    pub(super) fn joins(&self, joined: &mut Option<Joined>, req: &Req, caller: Caller) -> bool {
        let next = self.facts(req);
        let yes = joins(joined.as_ref(), &next, caller);
        if yes {
            match joined {
                Some(joined) => joined.add(next),
                None => *joined = Some(Joined::of(next)),
            }
        }
        yes
    }

    /// Takes queued requests that join the batch, as many as it has room for.
    pub(super) fn dequeue_joining(
        &self,
        state: &mut State,
        batch: &mut kaio::Batch,
        mut joined: Option<Joined>,
        caller: Caller,
    ) {
        while !batch.is_full()
            && let Some(req) = self.dequeue_if(state, Class::Finite, |req| {
                self.joins(&mut joined, req, caller)
            })
        {
            batch.push(req);
        }
    }

    /// Hands a taken request over to the kernel, together with queued requests that join it.
    pub(super) fn hand_over<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut deferred: Deferred,
        worker: &mut Worker,
        first: Req,
    ) -> (Guard<'a, State>, Deferred) {
        let call = *first.call();
        let joined = Some(Joined::of(this.facts(&first)));
        let mut batch = kaio::Batch::new();
        batch.push(first);
        this.dequeue_joining(&mut state, &mut batch, joined, Caller::WORKER);
        state.handing_over += 1;
        Context::enqueue(this, &mut state, Class::Finite, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        let refused = this.hand_over_as(&call, &mut batch, |batch| {
            let how = Start {
                route: Route::KernelThread,
                nowait: false,
            };
            worker.hand_over(|| this.pool.kaio.start(this, batch, how))
        });
        if refused {
            this.profiles.not_for_kernel(&call);
        }
        let mut state = this.state.lock();
        state.handing_over -= 1;
        state.requeue_all(batch);
        (state, Deferred::new())
    }

    /// Called by a submitter. Puts its requests into the ring of io_uring, which waits for nothing.
    pub(super) fn hand_over_to_ring(this: &ContextRef) {
        let how = Start {
            route: Route::KernelSubmit,
            nowait: true,
        };
        // Waking the ring's thread takes a system call, and this thread alone may have a filter that does not know it.
        let mut continues = !has_call_filter();
        let began = monotonic_ns();
        let mut state = this.state.lock();
        while continues {
            let mut batch = kaio::Batch::new();
            this.dequeue_joining(&mut state, &mut batch, None, Caller::WORKER);
            let Some(first) = batch.first() else { break };
            let call = *first.call();
            this.profiles.count_device_bound(batch.len() as u32);
            state.handing_over += 1;
            drop(state);
            let start = |batch: &mut kaio::Batch| this.pool.kaio.start(this, batch, how);
            if this.hand_over_as(&call, &mut batch, start) {
                this.profiles.not_for_kernel(&call);
            }
            state = this.state.lock();
            state.handing_over -= 1;
            continues = batch.is_empty();
            state.requeue_all(batch);
        }
        let mut deferred = Deferred::new();
        deferred.queued = true;
        state.kernel.returning.was_held(monotonic_ns() - began);
        // The remaining requests are for workers.
        Context::enqueue_for_worker(this, &mut state, Class::Finite, &mut deferred);
        drop(state);
        Context::run_deferred_of_submit(this, &mut deferred);
    }

    /// Hands a batch over, if `call`, its first, is still device-bound. Requests that the kernel does not take stay in
    /// the batch. True if the kernel has refused them.
    pub(super) fn hand_over_as(
        &self,
        call: &Call,
        batch: &mut kaio::Batch,
        hand_over: impl FnOnce(&mut kaio::Batch) -> bool,
    ) -> bool {
        // The program's descriptor may name another file by now.
        let is_device_bound = if self.behaviour.holds_files {
            let looked = self.profiles.is_file(call, false, &mut Now::read());
            looked != Looked::NoFile && self.profiles.outlook(call).is_device_bound(tuning())
        } else {
            self.profiles.is_device_bound_now(call)
        };
        if !is_device_bound {
            self.profiles.not_for_kernel(call);
        }
        is_device_bound && hand_over(batch)
    }

    /// Publishes the events of requests that the kernel has carried out.
    pub fn complete_all(this: &ContextRef, requests: KernelDone) {
        let mut requests = Done::of(requests);
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        Context::complete_done(this, &mut state, &mut requests, &mut deferred);
        drop(state);
        notify(&requests.notifications);
        this.run_deferred(&mut deferred);
    }

    pub(super) fn complete_done(
        this: &ContextRef,
        state: &mut State,
        requests: &mut Done,
        deferred: &mut Deferred,
    ) {
        while let Some(req) = requests.done.pop() {
            Context::complete(this, state, req, deferred);
        }
        if requests.would_wait {
            state.kernel.back_off();
        }
        if let Some(call) = requests.refused {
            this.profiles.not_for_kernel(&call);
        }
        while let Some(mut req) = requests.again.pop() {
            if req.may_be_queued() {
                state.requeue(req);
            } else {
                // Only a request of one block may not be queued, and the kernel answers for it at once: see `hand_over_in_submit`.
                req.set_res(-i64::from(libc::EAGAIN));
                Context::complete(this, state, req, deferred);
            }
        }
        // If the context has a limit of workers, other requests may have waited for these to end.
        Context::enqueue(this, state, Class::Finite, deferred);
        Context::enqueue(this, state, Class::Indefinite, deferred);
    }
}

/// Requests that the kernel has carried out, and requests that must be carried out once more.
pub(super) struct Done {
    pub(super) done: Chain,
    /// In reverse order.
    pub(super) again: Chain,
    /// Number of requests in both chains.
    pub(super) count: u32,
    /// A request for which the kernel must not wait came back, not carried out.
    pub(super) would_wait: bool,
    /// A request that the kernel has refused, although it was allowed to wait.
    pub(super) refused: Option<Call>,
    /// The part of completed requests that is told after the lock is released.
    pub(super) notifications: ArrayVec<Notification, REAPED>,
}

impl Done {
    /// Sorts the requests. For those that the kernel has carried out, does the same as [`Deferred::note_ended`].
    pub(super) fn of(requests: KernelDone) -> Done {
        let mut all = Done {
            done: Chain::new(),
            again: Chain::new(),
            count: 0,
            would_wait: false,
            refused: None,
            notifications: ArrayVec::new(),
        };
        for one in requests {
            let (nowait, is_refused) = (one.nowait, one.is_refused);
            one.settle(|req| {
                all.count += 1;
                match req {
                    Ok(mut req) => {
                        all.notifications.extend(req.ended());
                        all.done.push(req);
                    }
                    Err(req) => {
                        all.would_wait |= nowait;
                        if is_refused && !nowait {
                            all.refused = Some(*req.call());
                        }
                        all.again.push_front(req);
                    }
                }
            });
        }
        all
    }
}

impl KernelInFlight {
    /// The calling thread is the reaper from now on.
    pub(super) fn begin_reaping(&mut self) {
        self.reaper = Some(carrier::thread());
        self.visits = self.visits.wrapping_add(1);
    }

    /// The kernel would have had to wait for a device or for the program's memory. So submitters do not hand over for a while:
    /// the more often this happens, the longer the pause.
    pub(super) fn back_off(&mut self) {
        self.last_pause = (self.last_pause * 2).clamp(1, tuning().sample);
        self.pause = self.last_pause;
    }

    /// A caller has not come for requests that were left to it. This does not count if a caller is handing over.
    pub(super) fn stay_behind(&mut self) {
        if self.reaper.is_none() {
            self.returning.is_late(tuning());
        }
    }

    /// Counts a submit whose requests the submitter could have handed over.
    pub(super) fn pause_passes(&mut self) {
        self.pause = self.pause.saturating_sub(1);
    }

    /// The same beside a caller that sleeps. From now on callers sleep in the own queue.
    pub(super) fn note_submitter(&mut self) {
        self.submit_hint = tuning().in_a_row.into();
        self.pause_passes();
    }

    /// Whether callers come back soon.
    pub(super) fn have_returning_reaper(&self) -> bool {
        self.returning.is_expected(tuning())
    }
}
