//! One class of requests in the pool: the contexts that wait for a worker, and the workers.

use super::Wakeup;
use crate::engine::Served;
use crate::policy::fairness::{Facts, Limits, may_have_one_more};
use crate::sys::Result;
use crate::syscall::Class;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::ops::Range;

/// The contexts that wait and the workers of one class.
pub struct RunQueue<Q> {
    pub(super) limits: Limits,
    pub(super) contexts: VecDeque<Q>,
    /// Contexts that were taken out by a thread that stands in for a worker, and may come back.
    pub(super) standing_in: u32,
    /// Contexts wait, and a worker could not be started since they do.
    pub(super) lacks_worker: bool,
    /// Slots of sleeping workers; the one that worked last is at the end.
    pub(super) idle: Stack,
    /// Slots whose thread has ended.
    pub(super) free: Stack,
    /// Slots that have never had a thread.
    pub(super) fresh: Range<u16>,
    /// Threads, including those that are being started.
    pub(super) threads: u32,
    pub(super) starting: u32,
    /// Workers that serve a context, and those of them that hang.
    pub(super) busy: u32,
    pub(super) hung: u32,
    /// The number of [`super::WorkerPin`]s, which keep one worker alive.
    pub(super) pins: u32,
}

impl<Q> RunQueue<Q> {
    /// A run queue with those slots, all free.
    pub(super) fn new(limits: Limits, slots: Range<usize>) -> Result<RunQueue<Q>> {
        Ok(RunQueue {
            limits,
            contexts: VecDeque::new(),
            standing_in: 0,
            lacks_worker: false,
            idle: Stack::new(slots.len())?,
            free: Stack::new(slots.len())?,
            fresh: slots.start as u16..slots.end as u16,
            threads: 0,
            starting: 0,
            busy: 0,
            hung: 0,
            pins: 0,
        })
    }

    /// Takes a slot for a worker that is woken or started.
    pub(super) fn acquire_slot(&mut self) -> Option<(u16, Wakeup)> {
        if let Some(slot) = self.idle.pop() {
            return Some((slot, Wakeup::Wake(slot)));
        }
        let slot = self.free.pop().or_else(|| self.fresh.next())?;
        self.threads += 1;
        self.starting += 1;
        Some((slot, Wakeup::Start(slot)))
    }

    /// Gives back a slot whose thread has ended, or was not started.
    pub(super) fn release_slot(&mut self, slot: u16) {
        self.threads -= 1;
        self.free.push(slot);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.contexts.is_empty() || self.standing_in != 0
    }

    /// Whether a thread will come for the contexts, without another one being started. A request that may wait for ever may keep its
    /// worker.
    pub(super) fn expects_worker(&self, class: Class) -> bool {
        let kept = match class {
            Class::Finite => self.hung,
            Class::Indefinite => self.busy,
        };
        self.threads > kept
    }

    /// Threads that have been started.
    pub(super) fn living(&self) -> u32 {
        self.threads - self.starting
    }
}

impl<Q: Served> RunQueue<Q> {
    /// The position of the first context that may have one more worker.
    pub(super) fn first(&self, class: Class) -> Option<usize> {
        let may_have_beside = |own| {
            let facts = Facts {
                own,
                busy: self.busy,
                hung: self.hung,
            };
            may_have_one_more(facts, self.limits)
        };
        // If a context without workers may have none, no other may: the run queue may be long.
        if !may_have_beside(0) {
            return None;
        }
        self.contexts
            .iter()
            .position(|context| may_have_beside(context.workers(class)))
    }

    pub(super) fn first_context(&self, class: Class) -> Option<&Q> {
        self.contexts.get(self.first(class)?)
    }
}

/// Slot numbers. It has room for all of its slots.
pub struct Stack(Vec<u16>);

impl Stack {
    pub(super) fn new(most: usize) -> Result<Stack> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        Ok(Stack(slots))
    }

    pub(super) fn push(&mut self, slot: u16) {
        self.0.push(slot);
    }

    pub(super) fn pop(&mut self) -> Option<u16> {
        self.0.pop()
    }

    /// Removes that slot, wherever it is. False: it is not there.
    pub(super) fn remove(&mut self, slot: u16) -> bool {
        match self.0.iter().position(|&here| here == slot) {
            Some(at) => {
                self.0.remove(at);
                true
            }
            None => false,
        }
    }
}
