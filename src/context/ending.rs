//! The end of the process, as far as it concerns a context.

use super::{Closed, Context, State};
use crate::carrier::Interrupted;
use crate::exec;
use crate::habit;
use crate::process;
use crate::registry::ContextRef;
use crate::request::{Call, Carried, List, Stage};
use crate::seat;
use crate::sys::{NEVER, shielded};
use arrayvec::ArrayVec;

/// How long the end of the process waits for a context's lock; and, if the thread that ends it may have been
/// about to wake others, for a request to end.
const EXIT_PATIENCE_NS: u64 = 1_000_000_000;

impl State {
    /// Whether that thread was interrupted in the context's seat.
    fn is_attended_by(&self, thread: &Interrupted) -> bool {
        let here = Some(thread.thread);
        self.riders.attendant == here || self.riders.feeder == here
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
        // Also with the context's lock free: it may have been interrupted between giving a lock back and
        // waking the worker that waits for it, which has requests that it has not begun.
        let patience_ns = if by.busy { EXIT_PATIENCE_NS } else { NEVER };
        let over = this.wait_for_end(patience_ns, |state| {
            !state.running.iter().any(|carried| {
                let is_here = carried.tie.address() == by.in_hand || attends && carried.is_rider();
                !is_here && exec::is_on_file(carried.call)
            })
        });
        if !over {
            this.carry_out_left_behind();
        }
    }

    /// Carries out what has been accepted, if a signal handler ends the process that has interrupted the
    /// thread that has the lock: in whatever order, and what others were carrying out, too.
    fn carry_out_left_behind(&self) {
        // SAFETY: the lock is held for a few instructions; who still has it after a second does not go
        // on. What it may have been changing, the lists, is not looked at.
        let slabs = unsafe { &self.state.left_behind().slabs };
        slabs.each_left(|stage, call| {
            let wanted = match stage {
                Stage::Accepted => exec::is_on_file(call),
                _ => habit::writes(call) && exec::may_be_repeated(call),
            };
            if wanted {
                shielded(|| exec::repeat(call));
            }
            process::progress();
        });
    }

    /// Sees to what the thread that ends the process was about to do when it was interrupted by a signal
    /// handler. Nobody knows whether it was done, so it is done once more. `goes_on`: the thread may,
    /// after all.
    fn redo_interrupted(this: &ContextRef, by: &Interrupted, goes_on: bool) {
        let mut state = this.state.lock();
        let attends = state.is_attended_by(by);
        // What is done may have given its file back already.
        let can_repeat = |one: &Carried| !one.is_done() && exec::may_be_repeated(one.call);
        let in_hand = |one: &Carried| one.tie.address() == by.in_hand;
        let mine = state.running.iter().find(in_hand).filter(|_| !goes_on);
        let mine = mine.map(|one| (one.tie, can_repeat(&one)));
        // SAFETY: it is that thread that has it, which never gets back to where it was interrupted.
        let mine = mine.map(|(tie, again)| (unsafe { state.running.bereave(tie) }, again));
        let others = state.running.iter().filter(|one| {
            let here = attends && one.is_rider() || goes_on && in_hand(one);
            here && habit::writes(one.call) && can_repeat(one)
        });
        const MOST: usize = seat::EVENTS + 1;
        let others: ArrayVec<Call, MOST> = others.map(|one| *one.call).take(MOST).collect();
        drop(state);
        for call in &others {
            shielded(|| exec::repeat(call));
        }
        if let Some((mut req, again)) = mine {
            if again {
                shielded(|| exec::execute(&mut req, None));
            }
            Context::end(this, req);
        }
    }
}
