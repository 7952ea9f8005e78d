//! The pool: one for the process. Contexts that have something queued stand in line; workers serve
//! them one after another.
//!
//! How many workers run follows what the requests do. Requests that keep the processor busy want as
//! many as there are processors, and not more; requests that wait want one each. So a worker counts
//! against the processors only as long as it is not known to wait, which is learned in two ways:
//!
//! - A request that took long is asked whether it gave up the processor (voluntary context
//!   switches), and so is now and then one that did not. The workers of a context whose requests do
//!   so ([`Habits`]) do not count.
//! - A watcher (an otherwise idle worker, there only while contexts stand in line and nobody may
//!   come) looks from time to time which workers are still at the request at which they were the
//!   last time. Those are stuck, and do not count until they move.
//!
//! A context whose caller carries its requests out itself, because it waits for them anyway, has no
//! worker woken for each: it is listed, and the watcher sees to it that nothing stays undone should
//! the caller not come.
//!
//! Requests that may wait for somebody else for as long as it takes ([`Class::Long`]: pipes,
//! sockets, locks, sleep) have workers of their own, one for each that runs, of which there may be
//! many; they count for nothing here. So they keep no disk request waiting.
//!
//! Locks: a context's lock may be held when the pool's is taken, never the other way round. Neither
//! is held across a system call.

use crate::context::Context;
use crate::exec;
use crate::habit::{Habits, LONG_NS, Now};
#[cfg(not(loom))]
use crate::interrupt::Interruptible;
#[cfg(not(loom))]
use crate::kaio::{Batch, Kaio};
use crate::processors;
use crate::registry::ContextRef;
use crate::request::Req;
use crate::sync::{AcqRel, Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::{Result, Waited, futex_wait, futex_wake, monotonic_ns};
use crate::syscalls::Class;
use crate::wait::Spin;
use nix::errno::Errno;
use std::collections::VecDeque;

/// Most workers of the process for requests that end by themselves. Past it requests wait.
pub const WORKERS_MAX: usize = if cfg!(loom) { 2 } else { 128 };
/// Most workers for those that may not.
pub const LONG_WORKERS_MAX: usize = if cfg!(loom) { 0 } else { 2048 };
/// A worker that had nothing to do for so long ends.
const IDLE_NS: u64 = 3_000_000_000;
/// How often the watcher looks: at first, and when nothing is stuck for a while.
const WATCH_NS: u64 = 1_000_000;
const WATCH_NS_MAX: u64 = 4_000_000;
/// Requests that a worker carries out for one context while others stand in line.
const TURN: u32 = 16;

pub struct Pool {
    state: Lock<PoolState>,
    /// First those of the workers for requests that end by themselves.
    slots: Box<[Slot]>,
    /// Contexts in each line.
    waiting: [AtomicU32; 2],
    /// The last attempt to start a thread failed.
    short: AtomicBool,
    processors: u32,
    start: StartWorker,
    /// Its workers stay awake for a moment when the next request is likely to come soon.
    spin: Option<Spin>,
    /// What its workers hand over to the kernel.
    #[cfg(not(loom))]
    pub kaio: Kaio,
}

/// Starts a thread that calls [`Pool::work`] with that slot.
pub type StartWorker = fn(&'static Pool, u16) -> Result<()>;

/// What belongs to one class of requests.
struct Lane {
    line: VecDeque<ContextRef>,
    /// Slots of sleeping workers, the last to have worked at the end.
    idle: Stack,
    /// Slots without a thread.
    free: Stack,
}

struct PoolState {
    short: Lane,
    long: Lane,
    /// Contexts that the watcher looks after. While there are any, there is a watcher.
    listed: VecDeque<ContextRef>,
    /// Workers that count against the processors.
    counted: u32,
    watcher: bool,
}

impl Lane {
    /// With those slots, all free.
    fn new(slots: std::ops::Range<usize>) -> Result<Lane> {
        let mut free = Stack::new(slots.len())?;
        for slot in slots.rev() {
            free.push(slot as u16);
        }
        Ok(Lane {
            line: VecDeque::new(),
            idle: Stack::new(free.0.len())?,
            free,
        })
    }

    /// Takes a slot for a worker that is to come.
    fn take(&mut self) -> Option<(u16, Kick)> {
        if let Some(slot) = self.idle.pop() {
            return Some((slot, Kick::Wake(slot)));
        }
        let slot = self.free.pop()?;
        Some((slot, Kick::Start(slot)))
    }
}

impl PoolState {
    fn lane(&mut self, class: Class) -> &mut Lane {
        match class {
            Class::Short => &mut self.short,
            Class::Long => &mut self.long,
        }
    }
}

/// Slot numbers. There is room for all that it may have to take.
struct Stack(Vec<u16>);

impl Stack {
    fn new(most: usize) -> Result<Stack> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        Ok(Stack(slots))
    }

    fn push(&mut self, slot: u16) {
        self.0.push(slot);
    }

    fn pop(&mut self) -> Option<u16> {
        self.0.pop()
    }

    /// Takes that one out, wherever it is; false if it is not there.
    fn remove(&mut self, slot: u16) -> bool {
        match self.0.iter().position(|&here| here == slot) {
            Some(at) => {
                self.0.remove(at);
                true
            }
            None => false,
        }
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
    /// What interrupts it at its request.
    #[cfg(not(loom))]
    interruptible: Interruptible,
}

fn class_of(slot: u16) -> Class {
    if usize::from(slot) < WORKERS_MAX {
        Class::Short
    } else {
        Class::Long
    }
}

const SLEEP: u32 = 0;
const WORK: u32 = 1;
const WATCH: u32 = 2;

/// Somebody who has to be woken or started, without any lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Kick {
    None,
    Wake(u16),
    Start(u16),
}

/// Those that come together under one lock: none may get lost, or its worker never comes.
pub struct Kicks {
    kicks: [Kick; KICKS_MAX],
    len: usize,
}

/// A worker for each class, twice if the lock was released in between, and a watcher.
const KICKS_MAX: usize = 8;

impl Kicks {
    pub fn new() -> Kicks {
        Kicks {
            kicks: [Kick::None; KICKS_MAX],
            len: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn add(&mut self, kick: Kick) {
        if kick != Kick::None {
            self.kicks[self.len] = kick;
            self.len += 1;
        }
    }

    /// Without any lock.
    pub fn perform(&self, pool: &'static Pool) {
        for &kick in &self.kicks[..self.len] {
            pool.perform(kick);
        }
    }
}

impl Pool {
    pub fn new(start: StartWorker) -> Result<Pool> {
        let all = WORKERS_MAX + LONG_WORKERS_MAX;
        let mut slots = Vec::new();
        slots.try_reserve_exact(all).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(all, || Slot {
            order: AtomicU32::new(SLEEP),
            begun: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            counted: AtomicBool::new(false),
            #[cfg(not(loom))]
            interruptible: Interruptible::new(),
        });
        Ok(Pool {
            state: Lock::new(PoolState {
                short: Lane::new(0..WORKERS_MAX)?,
                long: Lane::new(WORKERS_MAX..all)?,
                listed: VecDeque::new(),
                counted: 0,
                watcher: false,
            }),
            slots: slots.into_boxed_slice(),
            waiting: [AtomicU32::new(0), AtomicU32::new(0)],
            short: AtomicBool::new(false),
            processors: processors::count(),
            start,
            spin: None,
            #[cfg(not(loom))]
            kaio: Kaio::new()?,
        })
    }

    /// The same, with workers that stay awake for a moment: for requests that their callers cannot carry out.
    #[cfg(not(loom))]
    pub fn new_awake(start: StartWorker) -> Result<Pool> {
        let pool = Pool::new(start)?;
        Ok(Pool {
            // A single processor is better left to whoever is waited for.
            spin: (pool.processors > 1).then(Spin::new),
            ..pool
        })
    }

    /// Whether a thread that waits for its workers may stay awake, too.
    pub fn stays_awake(&self) -> bool {
        self.spin.is_some()
    }

    /// Makes room in the lines for that many contexts, so that `offer` does not allocate.
    pub fn reserve(&self, contexts: usize) -> Result<()> {
        let mut state = self.state.lock();
        let PoolState {
            short,
            long,
            listed,
            ..
        } = &mut *state;
        for list in [&mut short.line, &mut long.line, listed] {
            let more = contexts.saturating_sub(list.len());
            list.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// Whether threads could not be started lately: then those who wait have to help.
    pub fn short_of_threads(&self) -> bool {
        // Acquire: pairs with `perform`. Asked after listing a waiter: if it is not seen here, the
        // waiter is seen by `call_for_help`.
        self.short.load(Acquire)
    }

    /// Tries once more to start one.
    pub fn retry(&'static self) {
        // Those that may wait for ever first: nobody else can carry them out.
        for class in [Class::Long, Class::Short] {
            let kick = self.kick(&mut self.state.lock(), class);
            self.perform(kick);
        }
    }

    /// Puts a context into a line. Called under its lock.
    pub fn offer(&self, context: ContextRef, class: Class) -> Kick {
        let mut state = self.state.lock();
        state.lane(class).line.push_back(context);
        self.note_line(&mut state, class);
        self.kick(&mut state, class)
    }

    fn note_line(&self, state: &mut PoolState, class: Class) {
        let waiting = state.lane(class).line.len() as u32;
        self.waiting[class as usize].store(waiting, Relaxed);
    }

    /// Has the watcher look after a context, to which its caller will probably see itself. Called
    /// under its lock. None: there is nobody to watch.
    pub fn list(&self, context: ContextRef) -> Option<Kick> {
        let mut state = self.state.lock();
        let kick = if state.watcher {
            Kick::None
        } else {
            self.order(&mut state, Class::Short, WATCH)?
        };
        state.listed.push_back(context);
        Some(kick)
    }

    /// Takes a context out of the line and the list, before it goes away.
    pub fn forget(&self, context: &ContextRef) {
        let mut state = self.state.lock();
        let take = |list: &mut VecDeque<ContextRef>| {
            let at = list.iter().position(|here| here.is(context));
            at.and_then(|at| list.remove(at))
        };
        let forgotten = (
            take(&mut state.short.line),
            take(&mut state.long.line),
            take(&mut state.listed),
        );
        for class in [Class::Short, Class::Long] {
            self.note_line(&mut state, class);
        }
        drop(state);
        drop(forgotten);
    }

    /// How many workers may keep processors busy for that context: a caller who carries requests
    /// out counts as one. (Two workers beside it cost a sixth of the reads on a zram device with two
    /// processors, three a fourth.)
    fn processors_for(&self, context: Option<&ContextRef>) -> u32 {
        let callers = u32::from(context.is_some_and(|context| context.serves_itself()));
        self.processors.saturating_sub(callers).max(1)
    }

    /// Whether somebody should come for a line's first context, and who.
    fn kick(&self, state: &mut PoolState, class: Class) -> Kick {
        let Some(first) = state.lane(class).line.front() else {
            return Kick::None;
        };
        let waits = class == Class::Long || first.habits.waits();
        let order = if waits || state.counted < self.processors_for(state.short.line.front()) {
            WORK
        } else if !state.watcher {
            WATCH
        } else {
            return Kick::None;
        };
        self.order(state, class, order).unwrap_or(Kick::None)
    }

    /// Gives a worker that sleeps, or a new one, that order; None if there is none to be had.
    fn order(&self, state: &mut PoolState, class: Class, order: u32) -> Option<Kick> {
        let (slot, kick) = state.lane(class).take()?;
        match (order, class) {
            (WATCH, _) => state.watcher = true,
            (_, Class::Short) => {
                let waits = state.short.line.front();
                let waits = waits.is_some_and(|first| first.habits.waits());
                self.count(state, slot, !waits);
            }
            (_, Class::Long) => {}
        }
        // Release: pairs with the acquire in `sleep`.
        self.slots[usize::from(slot)].order.store(order, Release);
        Some(kick)
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
                state.lane(class_of(slot)).free.push(slot);
                drop(state);
                self.call_workers_for_listed();
                if !was_short {
                    self.call_for_help(Class::Short);
                    self.call_for_help(Class::Long);
                }
            }
        }
    }

    /// Wakes those who wait for contexts in line: they went to sleep when there seemed to be
    /// threads.
    fn call_for_help(&self, class: Class) {
        let in_line = self.state.lock().lane(class).line.len();
        for _ in 0..in_line {
            let mut state = self.state.lock();
            let line = &mut state.lane(class).line;
            let Some(context) = line.pop_front() else {
                return;
            };
            line.push_back(context.clone());
            drop(state);
            context.wake_waiters();
        }
    }

    /// Without a watcher, the list's contexts need workers at once.
    fn call_workers_for_listed(&'static self) {
        loop {
            let mut state = self.state.lock();
            if state.watcher {
                return;
            }
            let Some(context) = state.listed.pop_front() else {
                return;
            };
            drop(state);
            Context::look_after(&context, Look::Alone);
        }
    }

    fn count(&self, state: &mut PoolState, slot: u16, counts: bool) {
        let before = self.slots[usize::from(slot)].counted.swap(counts, Relaxed);
        state.counted = state.counted + u32::from(counts) - u32::from(before);
    }

    /// What the worker is to do next: serve that context; or, with None, end.
    fn next(&'static self, slot: u16) -> Option<ContextRef> {
        let class = class_of(slot);
        loop {
            let mut state = self.state.lock();
            if let Some(context) = state.lane(class).line.pop_front() {
                self.note_line(&mut state, class);
                return Some(context);
            }
            self.count(&mut state, slot, false);
            self.slots[usize::from(slot)].order.store(SLEEP, Relaxed);
            state.lane(class).idle.push(slot);
            drop(state);
            match self.sleep(slot) {
                SLEEP => return None,
                WATCH => self.watch(slot),
                _ => {}
            }
        }
    }

    /// Sleeps until there is an order, and returns it; SLEEP if there was none for a long time.
    fn sleep(&self, slot: u16) -> u32 {
        let word = &self.slots[usize::from(slot)].order;
        let began = monotonic_ns();
        let until = began + IDLE_NS;
        if let Some(spin) = &self.spin {
            // Relaxed: what is found is looked at once more below.
            spin.spin(began, || word.load(Relaxed) != SLEEP);
        }
        loop {
            // Acquire: pairs with the release in `kick`.
            match word.load(Acquire) {
                SLEEP => {}
                order => {
                    if let Some(spin) = &self.spin {
                        spin.learn(began);
                    }
                    return order;
                }
            }
            if futex_wait(word, SLEEP, until) == Waited::TimedOut {
                let mut state = self.state.lock();
                let lane = state.lane(class_of(slot));
                if lane.idle.remove(slot) {
                    lane.free.push(slot);
                    return SLEEP;
                }
                // An order is on its way.
            }
        }
    }

    /// Looks after the line and the list until they are empty or somebody has to come.
    fn watch(&'static self, slot: u16) {
        let mut tick = WATCH_NS;
        loop {
            let word = &self.slots[usize::from(slot)].order;
            futex_wait(word, WATCH, monotonic_ns() + tick);
            self.look_after_listed();
            let mut state = self.state.lock();
            let stuck = self.count_out_stuck(&mut state);
            tick = if stuck || !state.listed.is_empty() {
                WATCH_NS
            } else {
                (tick * 2).min(WATCH_NS_MAX)
            };
            let Some(first) = state.short.line.front() else {
                if state.listed.is_empty() {
                    state.watcher = false;
                    return;
                }
                continue;
            };
            if state.counted >= self.processors_for(Some(first)) {
                continue;
            }
            if !state.listed.is_empty() {
                let kick = self.kick(&mut state, Class::Short);
                drop(state);
                self.perform(kick);
                continue;
            }
            // It works now; if the line is still not empty, another watches.
            state.watcher = false;
            self.count(&mut state, slot, true);
            let kick = if state.short.line.len() > 1 {
                self.kick(&mut state, Class::Short)
            } else {
                Kick::None
            };
            drop(state);
            return self.perform(kick);
        }
    }

    /// Looks after each context of the list, and takes those off that want it no more.
    fn look_after_listed(&'static self) {
        let listed = self.state.lock().listed.len();
        for _ in 0..listed {
            let Some(context) = self.state.lock().listed.pop_front() else {
                return;
            };
            if Context::look_after(&context, Look::Again) {
                self.state.lock().listed.push_back(context);
            }
        }
    }

    /// Takes those workers out of the count that are at the same request as the last time.
    fn count_out_stuck(&self, state: &mut PoolState) -> bool {
        let mut any = false;
        for (slot, worker) in self.slots[..WORKERS_MAX].iter().enumerate() {
            let begun = worker.begun.load(Relaxed);
            if worker.seen.swap(begun, Relaxed) == begun && worker.counted.load(Relaxed) {
                self.count(state, slot as u16, false);
                any = true;
            }
        }
        any
    }

    /// Interrupts the worker at the request at which it is, if it can be. Called under the lock of
    /// the request's context, which keeps the worker from going on to another.
    #[cfg(not(loom))]
    pub fn interrupt(&self, slot: u16) -> bool {
        self.slots[usize::from(slot)].interruptible.interrupt()
    }

    #[cfg(loom)]
    pub fn interrupt(&self, _slot: u16) -> bool {
        false
    }

    /// The thread of a worker for requests that may wait.
    #[cfg(not(loom))]
    pub fn tid(&self, slot: u16) -> u32 {
        self.slots[usize::from(slot)].interruptible.tid()
    }

    /// A worker's life: what the thread that was started for this slot does.
    pub fn work(&'static self, slot: u16) {
        let mut worker = Worker {
            pool: self,
            slot,
            turn: 0,
            suspicious: false,
        };
        worker.begins();
        if worker.place().order.load(Acquire) == WATCH {
            self.watch(slot);
        }
        while let Some(context) = self.next(slot) {
            worker.turn = 0;
            if worker.class() == Class::Short {
                worker.recount(&context.habits);
            }
            Context::serve(&context, &mut worker);
        }
        worker.ends();
    }
}

/// A worker, while it serves a context.
pub struct Worker {
    pool: &'static Pool,
    slot: u16,
    /// Requests that it has carried out in this turn.
    turn: u32,
    /// The last request took long: the next one is asked whether it waits.
    suspicious: bool,
}

impl Worker {
    fn place(&self) -> &'static Slot {
        &self.pool.slots[usize::from(self.slot)]
    }

    /// What it carries out.
    pub fn class(&self) -> Class {
        class_of(self.slot)
    }

    /// By which it is known to [`Pool::interrupt`].
    pub fn slot(&self) -> u16 {
        self.slot
    }

    fn begins(&self) {
        #[cfg(not(loom))]
        if self.class() == Class::Long {
            self.place().interruptible.begins();
        }
    }

    fn ends(&self) {
        #[cfg(not(loom))]
        if self.class() == Class::Long {
            self.place().interruptible.ends();
        }
    }

    /// The request that it had is no longer found. True if it was to be interrupted; then
    /// `take_interrupt` is to be called before the next one begins. Called under the context's lock.
    pub fn was_interrupted(&self) -> bool {
        #[cfg(loom)]
        return false;
        #[cfg(not(loom))]
        self.place().interruptible.was_interrupted()
    }

    /// Takes the signal that was meant for the request before, so that the next one is not
    /// interrupted by it.
    pub fn take_interrupt(&self) {
        #[cfg(not(loom))]
        self.place().interruptible.take();
    }

    /// Carries out a request that may not end by itself.
    pub fn carry_out_long(&mut self, req: &mut Req) {
        #[cfg(not(loom))]
        {
            self.place().interruptible.prepare();
            exec::execute_interruptibly(req);
        }
        #[cfg(loom)]
        crate::exec::execute(req, None);
        self.turn += 1;
    }

    /// Hands requests of a context over to the kernel (see [`Kaio::submit`]).
    #[cfg(not(loom))]
    pub fn hand_over(
        &mut self,
        context: &ContextRef,
        kaio: &'static Kaio,
        batch: &mut Batch,
    ) -> bool {
        self.begin();
        kaio.submit(context, batch)
    }

    /// Carries out a request for which the device has been told to get ready: how long it takes says
    /// nothing of the next.
    #[cfg(not(loom))]
    pub fn carry_out_prepared(&mut self, req: &mut Req) {
        self.begin();
        exec::execute(req, None);
    }

    /// Something that the watcher would see if it did not come to an end.
    fn begin(&mut self) {
        // Relaxed: a number that the watcher compares with itself.
        let begun = &self.place().begun;
        begun.store(begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.turn += 1;
    }

    /// Carries a request of a context with these habits out, and learns from it.
    pub fn carry_out(&mut self, habits: &Habits, req: &mut Req, lonely: bool) {
        self.begin();
        let mut now = Now::read();
        let start = now.ns;
        // For what it tells of the file, which is all that is wanted here.
        habits.is_file(req.call(), lonely, &mut now);
        habits.carry_out(req, exec::execute, self.suspicious, lonely, &mut now);
        self.suspicious = now.ns - start > LONG_NS;
        self.recount(habits);
    }

    /// Whether the last request took long.
    pub fn is_suspicious(&self) -> bool {
        self.suspicious
    }

    /// Whether it should go on with the same context.
    pub fn more(&self) -> bool {
        self.turn < TURN || self.pool.waiting[self.class() as usize].load(Relaxed) == 0
    }

    /// Counts against the processors, or does not, as the habit says.
    fn recount(&self, habits: &Habits) {
        let counts = !habits.waits();
        if self.place().counted.load(Relaxed) != counts {
            self.pool
                .count(&mut self.pool.state.lock(), self.slot, counts);
        }
    }
}

/// How a listed context is looked after.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The watcher comes by, and will again.
    Again,
    /// Nobody will again: it needs workers.
    Alone,
}
