//! The end of the process, for one context.

use super::order::claims::Claims;
use super::stand_in::HELP_TICK_NS;
use super::{Closed, Context, Deferred, State};
use crate::engine::exec;
use crate::engine::own_queue;
use crate::policy::route::Route;
use crate::profiles;
use crate::queue::ContextRef;
use crate::request::{Access, Carried, List, RequestRef, Stage};
use crate::sync::AtomicU32;
use crate::sys::progress;
use crate::sys::{NEVER, call_under_way, futex_wait, monotonic_ns, shielded};
use crate::syscall::{self, Call, Class, carrier::Interrupted};
use arrayvec::ArrayVec;

/// How long the end of the process waits for a context's lock. If the thread that ends the process may have been about to wake others, also
/// how long it waits for a request to end.
const EXIT_PATIENCE_NS: u64 = 1_000_000_000;

impl State {
    /// Whether that thread was interrupted in the context's own queue.
    fn is_reaper(&self, thread: &Interrupted) -> bool {
        let here = Some(thread.thread);
        self.kernel.reaper == here || self.kernel.submitter == here
    }
}

impl Context {
    /// At the end of the process, makes sure that accepted requests on files are carried out. Other requests might wait for ever, so they
    /// end with the process. `by`: the thread that ends it.
    pub fn drain(this: &ContextRef, by: &Interrupted) {
        // A signal handler in the thread that holds the lock may have called exit(): then the lock never comes free.
        let Some(mut state) = this.state.try_lock_for(EXIT_PATIENCE_NS) else {
            return this.carry_out_abandoned();
        };
        state.closed.get_or_insert(Closed::Exiting);
        drop(state);
        Context::redo_interrupted(this, by, false);
        if this.behaviour.has_claims {
            return Context::drain_by_workers(this, by);
        }
        state = this.state.lock();
        loop {
            // In one pass, because a queue may be long.
            for index in 0..state.queues.len() {
                let mut queue = std::mem::replace(&mut state.queues[index], List::new());
                while let Some(req) = queue.pop() {
                    if syscall::is_on_file(req.call()) {
                        state.queues[index].push(req);
                    } else {
                        state.abandoned.push(req);
                    }
                }
            }
            drop(state);
            while Context::carry_out_here(this, |_| true) {}
            Context::wait_for_files(this, by);
            // Requests that were held for these may have been released.
            state = this.state.lock();
            if !state.queues.iter().all(List::is_empty) {
                continue;
            }
            // Requests that were held for those in an interrupted thread's own queue are never released.
            if !state.is_reaper(by) {
                return;
            }
            match state.dequeue_any() {
                Some(req) => state.queues[req.manner().class() as usize].push(req),
                None => return,
            }
        }
    }

    /// Makes sure that accepted requests on files are carried out, while the context stays open.
    pub fn flush(this: &ContextRef, by: &Interrupted) {
        if this.state.try_lock_for(EXIT_PATIENCE_NS).is_none() {
            return this.carry_out_abandoned();
        }
        Context::redo_interrupted(this, by, true);
        if this.behaviour.has_claims {
            let count = this.state.lock().order.claims.added();
            return Context::see_to_owed(this, by, |state| state.order.claims.has_owed(count));
        }
        while Context::carry_out_here(this, syscall::is_on_file) {}
        Context::wait_for_files(this, by);
    }

    fn wait_for_files(this: &ContextRef, by: &Interrupted) {
        let reaps = this.state.lock().is_reaper(by);
        if !reaps {
            Context::drain_kernel(this);
        }
        // Also if the context's lock is free: the thread may have been interrupted after it released a lock and before it woke the worker
        // that waits for this lock. That worker may have requests that it has not begun.
        let patience_ns = if by.busy { EXIT_PATIENCE_NS } else { NEVER };
        let over = this.wait_for_end(patience_ns, |state| {
            !state.running.iter().any(|carried| {
                let is_here =
                    carried.reference.address() == by.current || reaps && carried.is_in_kernel();
                !is_here && syscall::is_on_file(carried.call)
            })
        });
        if !over {
            this.carry_out_abandoned();
        }
    }

    /// Called if a signal handler ends the process and has interrupted the thread that holds the lock: carries out the accepted requests,
    /// in any order, also requests that other threads were carrying out.
    fn carry_out_abandoned(&self) {
        // SAFETY: the lock is held for a few instructions, so a thread that still holds it after EXIT_PATIENCE_NS does not go on. We do not
        // look at the lists, which it may have been changing.
        let slabs = unsafe { &self.state.abandoned().slabs };
        slabs.each_unfinished(|stage, call| {
            let wanted = match stage {
                Stage::Accepted => syscall::is_on_file(call),
                _ => profiles::writes(call) && syscall::may_be_repeated(call),
            };
            if wanted {
                shielded(|| exec::repeat(call));
            }
            progress::made();
        });
    }

    /// Does the work that the thread that ends the process was about to do when a signal handler interrupted it. It is not known whether it
    /// was done, so it is done again. `may_continue`: the thread may continue after all.
    fn redo_interrupted(this: &ContextRef, by: &Interrupted, may_continue: bool) {
        let mut state = this.state.lock();
        let reaps = state.is_reaper(by);
        // A request that is done may have given its file back already.
        let can_repeat = |one: &Carried| !one.is_done() && syscall::may_be_repeated(one.call);
        let current = |one: &Carried| one.reference.address() == by.current;
        let mine = state.running.iter().find(current).filter(|_| !may_continue);
        let mine = mine.map(|one| (one.reference, can_repeat(&one)));
        // SAFETY: the interrupted thread has it, and never gets back to where it was interrupted.
        let mine =
            mine.map(|(reference, again)| (unsafe { state.running.recover(reference) }, again));
        let others = state.running.iter().filter(|one| {
            let here = reaps && one.is_in_kernel() || may_continue && current(one);
            here && profiles::writes(one.call) && can_repeat(one)
        });
        const MOST: usize = own_queue::EVENTS + 1;
        let others: ArrayVec<Call, MOST> = others.map(|one| *one.call).take(MOST).collect();
        drop(state);
        for call in &others {
            shielded(|| exec::repeat(call));
        }
        if let Some((mut req, again)) = mine {
            if again {
                req.set_route(Route::InlineStandIn);
                shielded(|| exec::execute(&mut req, None));
            }
            Context::end(this, req);
        }
    }
}

/// How long a fork waits for a write to a pipe or the like, if it cannot find out whether the write waits for a reader; and how often it
/// looks whether it does.
const STREAM_PATIENCE_NS: u64 = 1_000_000_000;
const STREAM_TICK_NS: u64 = 2_000_000;

/// How long a fork waits for other threads if it may hold locks that they wait for; and how often it looks.
const INSIDE_PATIENCE_NS: u64 = 100_000_000;
const INSIDE_TICK_NS: u64 = 200_000;

/// Which requests settle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    All,
    /// Those on files.
    Files,
    /// Those on the file that their claims call so.
    File(u64),
}

impl State {
    /// Whether a request is in flight that must not be lost when the process ends.
    fn owes(&self) -> bool {
        let is_owed = |reference: RequestRef| reference.claim().access.is_owed();
        self.order.claims.has_owed(u64::MAX)
            || self.running.iter().any(|one| is_owed(one.reference))
            || self.queues.iter().any(|queue| queue.any(is_owed))
    }
}

/// Contexts whose requests have claims. A claim says whether its request is owed; workers, which have the files, carry it out, and the
/// thread that forks or ends the process waits for them.
impl Context {
    /// At the end of the process, makes sure that accepted requests are carried out, including writes to pipes and the like, because the
    /// kernel's io_submit() would have waited for them. Requests that wait for somebody else's data end with the process.
    fn drain_by_workers(this: &ContextRef, by: &Interrupted) {
        let mut state = this.state.lock();
        for class in [Class::Finite, Class::Indefinite] {
            // In one pass, because a queue may be long.
            let mut queue = std::mem::replace(&mut state.queues[class as usize], List::new());
            while let Some(req) = queue.pop() {
                if req.reference().claim().access.is_owed() {
                    state.queues[class as usize].push(req);
                } else {
                    state.abandoned.push(req);
                }
            }
        }
        drop(state);
        Context::see_to_owed(this, by, State::owes);
    }

    /// Waits until no request is `owed` any more.
    fn see_to_owed(this: &ContextRef, by: &Interrupted, owed: impl Fn(&State) -> bool) {
        let state = this.state.lock();
        // The interrupted thread may have been carrying some requests out.
        let reaps = state.is_reaper(by);
        let is_here =
            |one: &Carried| one.reference.address() == by.current || reaps && one.is_in_kernel();
        let bounded = by.busy || state.running.iter().any(|one| is_here(&one));
        drop(state);
        if !reaps {
            Context::drain_kernel(this);
        }
        if !Context::wait_for_workers(this, bounded, owed) {
            this.carry_out_abandoned();
        } else if by.busy {
            this.carry_out_unbegun();
        }
    }

    /// The thread that ends the process has interrupted a submit: carries out requests that it has accepted and not yet queued.
    fn carry_out_unbegun(&self) {
        const MOST: usize = 256;
        let mut calls = ArrayVec::<Call, MOST>::new();
        let state = self.state.lock();
        state.slabs.each_unfinished(|stage, call| {
            let wanted = stage == Stage::Accepted && syscall::is_on_file(call) && !calls.is_full();
            if wanted {
                calls.push(*call);
            }
        });
        drop(state);
        for call in &calls {
            shielded(|| exec::repeat(call));
            progress::made();
        }
    }

    /// Has workers carry out queued requests until none is `owed`. False: it is `bounded`, and no request has ended for a while.
    fn wait_for_workers(this: &ContextRef, bounded: bool, owed: impl Fn(&State) -> bool) -> bool {
        loop {
            Context::call_workers(this);
            let lacks_threads = Context::help_workers(this, syscall::is_ready);
            let tick = if lacks_threads {
                HELP_TICK_NS
            } else {
                EXIT_PATIENCE_NS
            };
            if this.wait_for_end(tick, |state| !owed(state)) {
                return true;
            }
            if bounded && !lacks_threads {
                return false;
            }
        }
    }

    /// Makes sure that no queued request is left to a caller.
    fn call_workers(this: &ContextRef) {
        let mut deferred = Deferred::new();
        deferred.queued = true;
        let mut state = this.state.lock();
        this.set_prompt(&mut state, 0);
        state.kernel.returning.expect_nobody();
        state.submits.polling = 0;
        for class in [Class::Finite, Class::Indefinite] {
            Context::enqueue_for_worker(this, &mut state, class, &mut deferred);
        }
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Before a fork, waits until accepted requests have been carried out that the kernel would have carried out within io_submit(): as
    /// soon as there is a child, the process may end without exit(), as a daemon's parent does. But a write to a pipe or the like must not
    /// delay the fork for ever, because the child may be its reader. The same before the program closes a file or changes its flags, for
    /// requests on files alone.
    pub fn settle(this: &ContextRef, by: &Interrupted, which: Settling) {
        if !this.behaviour.has_claims {
            return;
        }
        if by.busy || by.current != 0 {
            return this.settle_inside(by.current);
        }
        let state = this.state.lock();
        let claims = &state.order.claims;
        let count = claims.added();
        let owed = |claims: &Claims| match which {
            Settling::File(what) => claims.has_at_once_on(count, what),
            _ => claims.has_at_once(count, false),
        };
        let (files, streams) = (
            owed(claims),
            which == Settling::All && claims.has_at_once(count, true),
        );
        drop(state);
        if files {
            Context::wait_for_workers(this, false, |state| owed(&state.order.claims));
        }
        if streams {
            Context::settle_streams(this, count);
        }
    }

    /// The same in a thread that a signal handler has interrupted in the library. The thread may hold any of its locks, or a request
    /// `current`, so this only waits while other threads make progress.
    fn settle_inside(&self, current: usize) {
        let mut count = None;
        let mut last = (u32::MAX, monotonic_ns());
        while monotonic_ns() - last.1 < INSIDE_PATIENCE_NS {
            let Some(state) = self.state.try_lock_for(INSIDE_TICK_NS) else {
                continue;
            };
            let claims = &state.order.claims;
            let count = *count.get_or_insert(claims.added());
            if !claims.has_others(count, current) {
                return;
            }
            if state.in_flight != last.0 {
                last = (state.in_flight, monotonic_ns());
            }
            drop(state);
            futex_wait(&AtomicU32::new(0), 0, monotonic_ns() + INSIDE_TICK_NS);
        }
    }

    fn settle_streams(this: &ContextRef, count: u64) {
        Context::call_workers(this);
        let over = |state: &mut State| !state.order.claims.has_at_once(count, true);
        let mut since = monotonic_ns();
        let mut left = u32::MAX;
        while !this.wait_for_end(STREAM_TICK_NS, over) {
            let now = monotonic_ns();
            let in_flight = this.state.lock().in_flight;
            if in_flight < left {
                (left, since) = (in_flight, now);
            } else if now - since > STREAM_PATIENCE_NS || this.waits_for_readers() {
                return;
            }
        }
    }

    /// Whether every write to a pipe or the like that may begin has begun, and waits for a reader.
    fn waits_for_readers(&self) -> bool {
        let writes = |reference: RequestRef| reference.claim().access == Access::StreamWrite;
        const MOST: usize = 16;
        let mut calls = ArrayVec::<(u32, u32), MOST>::new();
        let state = self.state.lock();
        if state.queues.iter().any(|queue| queue.any(writes)) {
            return false;
        }
        for one in state.running.iter().filter(|one| writes(one.reference)) {
            let Some(worker) = one.worker().filter(|_| !calls.is_full()) else {
                return false;
            };
            calls.push((self.pool.tid(worker), one.call.nr));
        }
        drop(state);
        let waits = |&(tid, nr): &(u32, u32)| call_under_way(tid) == Some(nr);
        !calls.is_empty() && calls.iter().all(waits)
    }
}
