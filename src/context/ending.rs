//! The end of the process, as far as it concerns a context.

use super::{After, Closed, Context, State};
use crate::carrier::Interrupted;
use crate::exec;
use crate::habit;
use crate::process;
use crate::registry::ContextRef;
use crate::request::{Call, Carried, List};
use crate::seat;
use crate::sys::shielded;
use arrayvec::ArrayVec;

/// How long the end of the process waits for a context's lock.
const EXIT_PATIENCE_NS: u64 = 1_000_000_000;

impl State {
    /// Whether that thread was interrupted in the context's seat.
    fn is_attended_by(&self, thread: &Interrupted) -> bool {
        self.riders.attendant == Some(thread.thread)
    }
}

impl Context {
    /// Sees to it, at the end of the process, that what was accepted and is for files is carried
    /// out. What waits for something else would perhaps wait for ever: it ends with the process.
    /// `by`: the thread that ends it.
    pub fn drain(this: &ContextRef, by: &Interrupted) {
        // exit() may have been called by a signal handler, in a thread that has the lock: then it
        // never comes free.
        let Some(mut state) = this.state.try_lock_for(EXIT_PATIENCE_NS) else {
            return this.carry_out_left_behind();
        };
        state.closed.get_or_insert(Closed::Exiting);
        drop(state);
        Context::redo_interrupted(this, by, false);
        state = this.state.lock();
        loop {
            // In one pass: a queue may be long.
            for lane in 0..state.queues.len() {
                let mut queue = std::mem::replace(&mut state.queues[lane], List::new());
                while let Some(req) = queue.pop() {
                    if exec::is_on_file(req.call()) {
                        state.queues[lane].push(req);
                    } else {
                        state.left.push(req);
                    }
                }
            }
            drop(state);
            while Context::carry_out_here(this, |_| true) {}
            Context::wait_for_files(this, by);
            // What was held for these may have been released.
            state = this.state.lock();
            if !state.queues.iter().all(List::is_empty) {
                continue;
            }
            // What was held for those in the seat of an interrupted thread never is.
            if !state.is_attended_by(by) {
                return;
            }
            match state.take_any() {
                Some(req) => state.queues[req.manner().class() as usize].push(req),
                None => return,
            }
        }
    }

    /// Sees to it that what has been accepted and is for files is carried out, while the context
    /// stays open.
    pub fn flush(this: &ContextRef, by: &Interrupted) {
        if this.state.try_lock_for(EXIT_PATIENCE_NS).is_none() {
            return this.carry_out_left_behind();
        }
        Context::redo_interrupted(this, by, true);
        while Context::carry_out_here(this, exec::is_on_file) {}
        Context::wait_for_files(this, by);
    }

    fn wait_for_files(this: &ContextRef, by: &Interrupted) {
        let attends = this.state.lock().is_attended_by(by);
        if !attends {
            Context::drain_riders(this);
        }
        this.wait_for_end(|state| {
            !state.running.iter().any(|carried| {
                let is_here = carried.tie.address() == by.in_hand || attends && carried.is_rider();
                !is_here && exec::is_on_file(carried.call)
            })
        });
    }

    /// Carries out what has been accepted, if a signal handler ends the process that has interrupted the
    /// thread that has the lock: as far as it can be found, and is none that others carry out.
    fn carry_out_left_behind(&self) {
        // SAFETY: the lock is held for a few instructions; who still has it after a second does not go
        // on. A list that is being changed leads, at each step, from one of its requests to another.
        let state = unsafe { self.state.left_behind() };
        let mut left = state.in_flight;
        let mut carry_out = |call: &Call| {
            if exec::is_on_file(call) {
                shielded(|| exec::repeat(call));
            }
            process::progress();
            left = left.saturating_sub(1);
            left == 0
        };
        for queue in &state.queues {
            queue.search(|_, call| carry_out(call));
        }
        state.order.held.search(|_, call| carry_out(call));
        // What it had just taken cannot be told from what others have.
        let again = |one: &Carried| habit::writes(one.call) && exec::may_be_repeated(one.call);
        let mut again = state.running.iter().filter(again);
        let _ = again.any(|one| carry_out(one.call));
    }

    /// Sees to what the thread that ends the process was about to do when it was interrupted by a signal
    /// handler. Nobody knows whether it was done, so it is done once more. `goes_on`: the thread may,
    /// after all.
    fn redo_interrupted(this: &ContextRef, by: &Interrupted, goes_on: bool) {
        let mut state = this.state.lock();
        let attends = state.is_attended_by(by);
        let mine = state
            .running
            .iter()
            .find(|one| one.tie.address() == by.in_hand);
        let mine = mine.filter(|_| !goes_on).map(|one| one.tie);
        // SAFETY: it is that thread that has it, which never gets back to where it was interrupted.
        let mine = mine.map(|tie| unsafe { state.running.bereave(tie) });
        let others = state.running.iter().filter(|one| {
            let here = attends && one.is_rider() || goes_on && one.tie.address() == by.in_hand;
            here && habit::writes(one.call) && exec::may_be_repeated(one.call)
        });
        const MOST: usize = seat::EVENTS + 1;
        let others: ArrayVec<Call, MOST> = others.map(|one| *one.call).take(MOST).collect();
        drop(state);
        others
            .iter()
            .for_each(|call| shielded(|| exec::repeat(call)));
        if let Some(mut req) = mine {
            if exec::may_be_repeated(req.call()) {
                shielded(|| exec::execute(&mut req, None));
            }
            let mut after = After::ended(&mut req);
            let mut state = this.state.lock();
            Context::complete(this, &mut state, req, &mut after);
            drop(state);
            this.finish(after);
        }
    }
}
