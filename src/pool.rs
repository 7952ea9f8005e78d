//! The pool: one for the process. Contexts that have something queued stand in line; workers serve
//! them one after another.
//!
//! How many workers run follows what the requests do. Requests that keep the processor busy want as
//! many as there are processors, and not more; requests that wait want one each. So a worker counts
//! against the processors only as long as it is not known to wait, which is learned in two ways:
//!
//! - A request that took long is asked whether it gave up the processor (voluntary context
//!   switches). The workers of a context whose requests do so ([`Habit`]) do not count.
//! - A watcher (an otherwise idle worker, there only while contexts stand in line and nobody may
//!   come) looks from time to time which workers are still at the request at which they were the
//!   last time. Those are stuck, and do not count until they move.
//!
//! Locks: a context's lock may be held when the pool's is taken, never the other way round. Neither
//! is held across a system call.

use crate::context::Context;
use crate::registry::ContextRef;
use crate::sync::{AcqRel, Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::{
    Result, Waited, futex_wait, futex_wake, monotonic_ns, processors, voluntary_switches,
};
use nix::errno::Errno;
use std::collections::VecDeque;

/// Most workers of the process. Past it requests wait.
pub const WORKERS_MAX: usize = if cfg!(loom) { 2 } else { 128 };
/// A worker that had nothing to do for so long ends.
const IDLE_NS: u64 = 3_000_000_000;
/// A request that takes longer than this is asked whether it waited.
const LONG_NS: u64 = 20_000;
/// How often the watcher looks: at first, and when nothing is stuck for a while.
const WATCH_NS: u64 = 1_000_000;
const WATCH_NS_MAX: u64 = 4_000_000;
/// Requests that a worker carries out for one context while others stand in line.
const TURN: u32 = 16;

pub struct Pool {
    state: Lock<PoolState>,
    slots: [Slot; WORKERS_MAX],
    /// Contexts in line.
    waiting: AtomicU32,
    /// The last attempt to start a thread failed.
    short: AtomicBool,
    processors: u32,
    start: StartWorker,
}

/// Starts a thread that calls [`Pool::work`] with that slot.
pub type StartWorker = fn(&'static Pool, u8) -> Result<()>;

struct PoolState {
    line: VecDeque<ContextRef>,
    /// Slots of sleeping workers, the last to have worked at the end.
    idle: Stack,
    /// Slots without a thread.
    free: Stack,
    /// Workers that count against the processors.
    counted: u32,
    watcher: bool,
}

/// Slot numbers; the first `len` are valid.
struct Stack {
    slots: [u8; WORKERS_MAX],
    len: usize,
}

impl Stack {
    fn push(&mut self, slot: u8) {
        self.slots[self.len] = slot;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        Some(self.slots[self.len])
    }

    /// Takes that one out, wherever it is; false if it is not there.
    fn remove(&mut self, slot: u8) -> bool {
        let Some(at) = self.slots[..self.len].iter().position(|&here| here == slot) else {
            return false;
        };
        self.slots.copy_within(at + 1..self.len, at);
        self.len -= 1;
        true
    }
}

/// A worker's place.
struct Slot {
    /// What it is to do: an order. A futex.
    order: AtomicU32,
    /// Requests that it has begun.
    begun: AtomicU32,
    /// `begun` when the watcher looked the last time. Under the pool's lock, like the next.
    seen: AtomicU32,
    /// It counts against the processors.
    counted: AtomicBool,
}

const SLEEP: u32 = 0;
const WORK: u32 = 1;
const WATCH: u32 = 2;

/// Somebody who has to be woken or started, without any lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Kick {
    None,
    Wake(u8),
    Start(u8),
}

impl Pool {
    pub fn new(start: StartWorker) -> Pool {
        let mut free = Stack {
            slots: [0; WORKERS_MAX],
            len: 0,
        };
        (0..WORKERS_MAX)
            .rev()
            .for_each(|slot| free.push(slot as u8));
        let slot = || Slot {
            order: AtomicU32::new(SLEEP),
            begun: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            counted: AtomicBool::new(false),
        };
        Pool {
            state: Lock::new(PoolState {
                line: VecDeque::new(),
                idle: Stack {
                    slots: [0; WORKERS_MAX],
                    len: 0,
                },
                free,
                counted: 0,
                watcher: false,
            }),
            slots: std::array::from_fn(|_| slot()),
            waiting: AtomicU32::new(0),
            short: AtomicBool::new(false),
            processors: processors(),
            start,
        }
    }

    /// Makes room in the line for that many contexts, so that `offer` does not allocate.
    pub fn reserve(&self, contexts: usize) -> Result<()> {
        let mut state = self.state.lock();
        let more = contexts.saturating_sub(state.line.len());
        state.line.try_reserve(more).map_err(|_| Errno::ENOMEM)
    }

    /// Whether threads could not be started lately: then those who wait have to help.
    pub fn short_of_threads(&self) -> bool {
        // Acquire: pairs with `perform`. Asked after listing a waiter: if it is not seen here, the
        // waiter is seen by `call_for_help`.
        self.short.load(Acquire)
    }

    /// Tries once more to start one.
    pub fn retry(&'static self) {
        let kick = self.kick(&mut self.state.lock());
        self.perform(kick);
    }

    /// Puts a context into the line. Called under its lock.
    pub fn offer(&self, context: ContextRef) -> Kick {
        let mut state = self.state.lock();
        state.line.push_back(context);
        self.waiting.store(state.line.len() as u32, Relaxed);
        self.kick(&mut state)
    }

    /// Takes a context out of the line, before it goes away.
    pub fn forget(&self, context: &ContextRef) {
        let mut state = self.state.lock();
        let at = state.line.iter().position(|here| here.is(context));
        let forgotten = at.and_then(|at| state.line.remove(at));
        self.waiting.store(state.line.len() as u32, Relaxed);
        drop(state);
        drop(forgotten);
    }

    /// Whether somebody should come for the line's first context, and who.
    fn kick(&self, state: &mut PoolState) -> Kick {
        let Some(first) = state.line.front() else {
            return Kick::None;
        };
        let blocking = first.habit.waits();
        let order = if blocking || state.counted < self.processors {
            WORK
        } else if !state.watcher {
            WATCH
        } else {
            return Kick::None;
        };
        let (slot, kick) = match state.idle.pop() {
            Some(slot) => (slot, Kick::Wake(slot)),
            None => match state.free.pop() {
                Some(slot) => (slot, Kick::Start(slot)),
                None => return Kick::None,
            },
        };
        match order {
            WATCH => state.watcher = true,
            _ => self.count(state, slot, !blocking),
        }
        // Release: pairs with the acquire in `sleep`.
        self.slots[usize::from(slot)].order.store(order, Release);
        kick
    }

    /// Does what `kick` decided.
    pub fn perform(&'static self, kick: Kick) {
        match kick {
            Kick::None => {}
            Kick::Wake(slot) => futex_wake(&self.slots[usize::from(slot)].order, 1),
            Kick::Start(slot) => {
                let started = (self.start)(self, slot).is_ok();
                let was_short = self.short.swap(!started, AcqRel);
                if started {
                    return;
                }
                let mut state = self.state.lock();
                if self.slots[usize::from(slot)].order.swap(SLEEP, Relaxed) == WATCH {
                    state.watcher = false;
                }
                self.count(&mut state, slot, false);
                state.free.push(slot);
                let in_line = state.line.len();
                drop(state);
                if !was_short {
                    self.call_for_help(in_line);
                }
            }
        }
    }

    /// Wakes those who wait for contexts in line: they went to sleep when there seemed to be
    /// threads.
    fn call_for_help(&self, in_line: usize) {
        for _ in 0..in_line {
            let mut state = self.state.lock();
            let Some(context) = state.line.pop_front() else {
                return;
            };
            state.line.push_back(context.clone());
            drop(state);
            context.wake_waiters();
        }
    }

    fn count(&self, state: &mut PoolState, slot: u8, counts: bool) {
        let before = self.slots[usize::from(slot)].counted.swap(counts, Relaxed);
        state.counted = state.counted + u32::from(counts) - u32::from(before);
    }

    /// What the worker is to do next: serve that context; or, with None, end.
    fn next(&'static self, slot: u8) -> Option<ContextRef> {
        loop {
            let mut state = self.state.lock();
            if let Some(context) = state.line.pop_front() {
                self.waiting.store(state.line.len() as u32, Relaxed);
                return Some(context);
            }
            self.count(&mut state, slot, false);
            self.slots[usize::from(slot)].order.store(SLEEP, Relaxed);
            state.idle.push(slot);
            drop(state);
            match self.sleep(slot) {
                SLEEP => return None,
                WATCH => self.watch(slot),
                _ => {}
            }
        }
    }

    /// Sleeps until there is an order, and returns it; SLEEP if there was none for a long time.
    fn sleep(&self, slot: u8) -> u32 {
        let word = &self.slots[usize::from(slot)].order;
        let until = monotonic_ns() + IDLE_NS;
        loop {
            // Acquire: pairs with the release in `kick`.
            match word.load(Acquire) {
                SLEEP => {}
                order => return order,
            }
            if futex_wait(word, SLEEP, until) == Waited::TimedOut {
                let mut state = self.state.lock();
                if state.idle.remove(slot) {
                    state.free.push(slot);
                    return SLEEP;
                }
                // An order is on its way.
            }
        }
    }

    /// Looks after the line until it is empty or somebody has to come.
    fn watch(&'static self, slot: u8) {
        let mut tick = WATCH_NS;
        loop {
            let word = &self.slots[usize::from(slot)].order;
            futex_wait(word, WATCH, monotonic_ns() + tick);
            let mut state = self.state.lock();
            let stuck = self.count_out_stuck(&mut state);
            tick = if stuck {
                WATCH_NS
            } else {
                (tick * 2).min(WATCH_NS_MAX)
            };
            if state.line.is_empty() {
                state.watcher = false;
                return;
            }
            if state.counted < self.processors {
                // It works now; if the line is still not empty, another watches.
                state.watcher = false;
                self.count(&mut state, slot, true);
                let kick = if state.line.len() > 1 {
                    self.kick(&mut state)
                } else {
                    Kick::None
                };
                drop(state);
                return self.perform(kick);
            }
        }
    }

    /// Takes those workers out of the count that are at the same request as the last time.
    fn count_out_stuck(&self, state: &mut PoolState) -> bool {
        let mut any = false;
        for (slot, worker) in self.slots.iter().enumerate() {
            let begun = worker.begun.load(Relaxed);
            if worker.seen.swap(begun, Relaxed) == begun && worker.counted.load(Relaxed) {
                self.count(state, slot as u8, false);
                any = true;
            }
        }
        any
    }

    /// A worker's life: what the thread that was started for this slot does.
    pub fn work(&'static self, slot: u8) {
        let mut worker = Worker {
            pool: self,
            slot,
            turn: 0,
            suspicious: false,
        };
        if worker.place().order.load(Acquire) == WATCH {
            self.watch(slot);
        }
        while let Some(context) = self.next(slot) {
            worker.turn = 0;
            worker.recount(&context.habit);
            Context::serve(&context, &mut worker);
        }
    }
}

/// A worker, while it serves a context.
pub struct Worker {
    pool: &'static Pool,
    slot: u8,
    /// Requests that it has carried out in this turn.
    turn: u32,
    /// The last request took long: the next one is watched.
    suspicious: bool,
}

impl Worker {
    fn place(&self) -> &'static Slot {
        &self.pool.slots[usize::from(self.slot)]
    }

    /// Carries a request of a context with that habit out, and learns from it.
    pub fn carry_out(&mut self, habit: &Habit, request: impl FnOnce()) {
        // Relaxed: a number that the watcher compares with itself.
        let begun = &self.place().begun;
        begun.store(begun.load(Relaxed).wrapping_add(1), Relaxed);
        let before = self.suspicious.then(voluntary_switches);
        let start = monotonic_ns();
        request();
        self.suspicious = monotonic_ns() - start > LONG_NS;
        if !self.suspicious {
            habit.learn(false);
        } else if let Some(before) = before {
            habit.learn(voluntary_switches() > before);
        }
        self.turn += 1;
        self.recount(habit);
    }

    /// Whether it should go on with the same context.
    pub fn more(&self) -> bool {
        self.turn < TURN || self.pool.waiting.load(Relaxed) == 0
    }

    /// Counts against the processors, or does not, as the habit says.
    fn recount(&self, habit: &Habit) {
        let counts = !habit.waits();
        if self.place().counted.load(Relaxed) != counts {
            self.pool
                .count(&mut self.pool.state.lock(), self.slot, counts);
        }
    }
}

/// What a context's requests have lately been seen to do.
pub struct Habit(AtomicU32);

impl Habit {
    const MAX: u32 = 16;

    pub fn new() -> Habit {
        Habit(AtomicU32::new(0))
    }

    /// They give up the processor to wait, at least one in three of them.
    pub fn waits(&self) -> bool {
        self.0.load(Relaxed) >= Self::MAX / 2
    }

    /// Relaxed, and not one step: a lost lesson does no harm.
    fn learn(&self, waited: bool) {
        let score = self.0.load(Relaxed);
        let learned = if waited {
            (score + 2).min(Self::MAX)
        } else {
            score.saturating_sub(1)
        };
        if learned != score {
            self.0.store(learned, Relaxed);
        }
    }
}
