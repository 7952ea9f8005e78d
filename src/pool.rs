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
//! A context gets no more workers than leaves some for others ([`crate::share`]). While it has as many,
//! those behind it in line go first. A worker that is at one request for long hangs: another is started
//! in its place.
//!
//! If no thread can be started and there is none, the one who has tried it stands in: it carries out
//! what is in line, as far as that does not wait for somebody else.
//!
//! Locks: a context's lock may be held when the pool's is taken, never the other way round. Neither
//! is held across a system call.

use crate::carrier;
use crate::context::Context;
use crate::exec;
use crate::habit::{Habits, LONG_NS, Now};
#[cfg(not(loom))]
use crate::interrupt::Interruptible;
#[cfg(not(loom))]
use crate::kaio::{Batch, Kaio};
use crate::policy::route::Route;
use crate::processors;
use crate::registry::ContextRef;
use crate::request::Req;
use crate::share::{Facts, Limits, may_have_one_more};
use crate::sync::{AcqRel, Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::{Result, Waited, futex_wait, futex_wake, monotonic_ns};
use crate::syscalls::Class;
use crate::wait::Spin;
use nix::errno::Errno;
#[cfg(not(loom))]
use std::alloc::{Layout, alloc_zeroed};
use std::collections::VecDeque;
use std::ops::Range;
#[cfg(not(loom))]
use std::ptr::NonNull;

/// Workers of the process for requests that end by themselves.
const SHORT: Limits = Limits {
    alone: 128,
    together: 256,
    shared: 2048,
    part: 8,
    most: if cfg!(loom) { 2 } else { 4096 },
};
/// Workers for those that may not.
const LONG: Limits = Limits {
    alone: 2048,
    together: u32::MAX,
    shared: 4096,
    part: 1,
    most: if cfg!(loom) { 0 } else { 6144 },
};
/// Slots of the workers for requests that end by themselves; the others come behind.
const SHORT_SLOTS: usize = SHORT.most as usize;
const SLOTS: usize = SHORT_SLOTS + LONG.most as usize;
/// A worker that is at one request for so long hangs.
const HUNG_MS: u32 = 100;
/// A worker that had nothing to do for so long ends.
const IDLE_NS: u64 = 3_000_000_000;
/// How often the watcher looks: at first, and when nothing is stuck for a while.
const WATCH_NS: u64 = 1_000_000;
const WATCH_NS_MAX: u64 = 4_000_000;
/// And if those in line have as many workers as they may, for as long as nobody else comes.
const DOZE_NS_MAX: u64 = 64_000_000;
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
    limits: Limits,
    line: VecDeque<ContextRef>,
    /// Slots of sleeping workers, the last to have worked at the end.
    idle: Stack,
    /// Slots without a thread, that had one.
    free: Stack,
    /// And those that never had.
    fresh: Range<u16>,
    /// Threads that there are, with those that are being started.
    threads: u32,
    starting: u32,
    /// Workers that serve a context, and those of them that hang.
    busy: u32,
    hung: u32,
    /// Those who need one worker to stay: see [`Hold`].
    holds: u32,
}

struct PoolState {
    short: Lane,
    long: Lane,
    /// Contexts that the watcher looks after. While there are any, there is a watcher.
    listed: VecDeque<ContextRef>,
    /// Workers that count against the processors.
    counted: u32,
    watcher: bool,
    /// The slot of the watcher if it looks so seldom that who needs it has to wake it.
    dozing: Option<u16>,
}

impl Lane {
    /// With those slots, all free.
    fn new(limits: Limits, slots: Range<usize>) -> Result<Lane> {
        Ok(Lane {
            limits,
            line: VecDeque::new(),
            idle: Stack::new(slots.len())?,
            free: Stack::new(slots.len())?,
            fresh: slots.start as u16..slots.end as u16,
            threads: 0,
            starting: 0,
            busy: 0,
            hung: 0,
            holds: 0,
        })
    }

    /// Takes a slot for a worker that is to come.
    fn take(&mut self) -> Option<(u16, Kick)> {
        if let Some(slot) = self.idle.pop() {
            return Some((slot, Kick::Wake(slot)));
        }
        let slot = self.free.pop().or_else(|| self.fresh.next())?;
        self.threads += 1;
        self.starting += 1;
        Some((slot, Kick::Start(slot)))
    }

    /// Gives a slot back that has no thread any more.
    fn give_back(&mut self, slot: u16) {
        self.threads -= 1;
        self.free.push(slot);
    }

    /// Threads that there are.
    fn living(&self) -> u32 {
        self.threads - self.starting
    }

    /// Where in line the first context stands that may have one more worker.
    fn first(&self, class: Class) -> Option<usize> {
        let may_have_beside = |own| {
            let facts = Facts {
                own,
                busy: self.busy,
                hung: self.hung,
            };
            may_have_one_more(facts, self.limits)
        };
        // If one that has none may not, none may: the line may be long.
        if !may_have_beside(0) {
            return None;
        }
        self.line
            .iter()
            .position(|context| may_have_beside(context.workers(class)))
    }

    fn first_context(&self, class: Class) -> Option<&ContextRef> {
        self.line.get(self.first(class)?)
    }
}

impl PoolState {
    /// The watcher, if there is one, looks soon.
    fn rouse(&mut self) -> Kick {
        self.dozing.take().map_or(Kick::None, Kick::Wake)
    }

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
    /// When the watcher saw for the first time that it is where it is, in milliseconds.
    since_ms: AtomicU32,
    /// It serves a context; and hangs.
    is_busy: AtomicBool,
    is_hung: AtomicBool,
    /// What interrupts it at its request.
    #[cfg(not(loom))]
    interruptible: Interruptible,
}

/// All of them, of which nothing takes memory before it is used.
#[cfg(not(loom))]
fn new_slots() -> Result<Box<[Slot]>> {
    const { assert!(SLEEP == 0) };
    let layout = Layout::array::<Slot>(SLOTS).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the layout is not empty, and the one with which Box will free it. A slot is atomic
    // integers and flags, for which zeros are valid.
    unsafe {
        let at = NonNull::new(alloc_zeroed(layout).cast::<Slot>()).ok_or(Errno::ENOMEM)?;
        Ok(Box::from_raw(
            NonNull::slice_from_raw_parts(at, SLOTS).as_ptr(),
        ))
    }
}

#[cfg(loom)]
fn new_slots() -> Result<Box<[Slot]>> {
    let new = || Slot {
        order: AtomicU32::new(SLEEP),
        begun: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        counted: AtomicBool::new(false),
        since_ms: AtomicU32::new(0),
        is_busy: AtomicBool::new(false),
        is_hung: AtomicBool::new(false),
    };
    Ok(std::iter::repeat_with(new).take(SLOTS).collect())
}

fn class_of(slot: u16) -> Class {
    if usize::from(slot) < SHORT_SLOTS {
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
        Ok(Pool {
            state: Lock::new(PoolState {
                short: Lane::new(SHORT, 0..SHORT_SLOTS)?,
                long: Lane::new(LONG, SHORT_SLOTS..SLOTS)?,
                listed: VecDeque::new(),
                counted: 0,
                watcher: false,
                dozing: None,
            }),
            slots: new_slots()?,
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
            state.rouse()
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
        let lane = match class {
            Class::Short => &state.short,
            Class::Long => &state.long,
        };
        if lane.line.is_empty() {
            return Kick::None;
        }
        let first = lane.first_context(class);
        let wants_worker = first.is_some_and(|first| {
            let waits = class == Class::Long || first.habits.waits();
            waits || state.counted < self.processors_for(Some(first))
        });
        let order = if wants_worker {
            WORK
        } else if class == Class::Short && !state.watcher {
            WATCH
        } else {
            // One of the others comes when it is done, or the watcher finds that it hangs.
            return state.rouse();
        };
        self.order(state, class, order).unwrap_or(Kick::None)
    }

    /// Gives a worker that sleeps, or a new one, that order; None if there is none to be had.
    fn order(&self, state: &mut PoolState, class: Class, order: u32) -> Option<Kick> {
        let (slot, kick) = state.lane(class).take()?;
        match (order, class) {
            (WATCH, _) => state.watcher = true,
            (_, Class::Short) => {
                let first = state.short.first_context(class);
                let waits = first.is_some_and(|first| first.habits.waits());
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
            Kick::Wake(slot) => self.wake(slot),
            Kick::Start(slot) => self.start(slot),
        }
    }

    fn wake(&self, slot: u16) {
        futex_wake(&self.slots[usize::from(slot)].order, 1);
    }

    /// Starts a worker in a slot that was taken for it.
    fn start(&'static self, slot: u16) {
        let started = (self.start)(self, slot).is_ok();
        let was_short = self.short.swap(!started, AcqRel);
        let mut state = self.state.lock();
        let lane = state.lane(class_of(slot));
        lane.starting -= 1;
        if started {
            return;
        }
        lane.give_back(slot);
        if self.slots[usize::from(slot)].order.swap(SLEEP, Relaxed) == WATCH {
            state.watcher = false;
        }
        self.count(&mut state, slot, false);
        drop(state);
        if !was_short {
            self.call_for_help(Class::Short);
            self.call_for_help(Class::Long);
        }
        carrier::stand_in(|| {
            // One request may let another begin, of the other class, too.
            let mut more = true;
            while more {
                more = self.call_workers_for_listed();
                more |= self.stand_in(Class::Short);
                more |= self.stand_in(Class::Long);
            }
        });
    }

    /// Carries out what is in line if there is nobody else to do it, as far as it waits for nobody.
    /// Whoever comes into line later cannot start a worker, either, and does the same. False: there was
    /// nothing.
    fn stand_in(&'static self, class: Class) -> bool {
        let mut any = false;
        let mut left = self.state.lock().lane(class).line.len();
        while left != 0 {
            let mut state = self.state.lock();
            let lane = state.lane(class);
            if lane.threads != 0 {
                break;
            }
            let Some(context) = lane.line.pop_front() else {
                break;
            };
            self.note_line(&mut state, class);
            drop(state);
            any |= Context::stand_in(&context, class);
            left -= 1;
        }
        any
    }

    /// Puts a context into a line for the next attempt to start a worker. Called under its lock.
    pub fn line_up(&self, context: ContextRef, class: Class) {
        let mut state = self.state.lock();
        state.lane(class).line.push_back(context);
        self.note_line(&mut state, class);
    }

    /// Makes sure that there is a worker for requests of that class, which does not end as long as
    /// what comes back is there. None: there is none, and none can be started.
    #[cfg(not(loom))]
    pub fn ensure_worker(&'static self, class: Class) -> Option<Hold> {
        let mut state = self.state.lock();
        let lane = state.lane(class);
        lane.holds += 1;
        let hold = Hold { pool: self, class };
        if lane.living() != 0 {
            return Some(hold);
        }
        let Some((slot, Kick::Start(_))) = lane.take() else {
            drop(state);
            return None;
        };
        // Release: as in `order`.
        self.slots[usize::from(slot)].order.store(WORK, Release);
        drop(state);
        self.start(slot);
        let is_there = self.state.lock().lane(class).living() != 0;
        is_there.then_some(hold)
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

    /// Without a watcher, the list's contexts need workers at once. False: there were none.
    fn call_workers_for_listed(&'static self) -> bool {
        let mut any = false;
        loop {
            let mut state = self.state.lock();
            if state.watcher {
                return any;
            }
            let Some(context) = state.listed.pop_front() else {
                return any;
            };
            drop(state);
            Context::look_after(&context, Look::Alone);
            any = true;
        }
    }

    fn count(&self, state: &mut PoolState, slot: u16, counts: bool) {
        let before = self.slots[usize::from(slot)].counted.swap(counts, Relaxed);
        state.counted = state.counted + u32::from(counts) - u32::from(before);
    }

    /// What the worker is to do next: serve that context; or, with None, end. It has served `before`.
    fn next(&'static self, slot: u16, mut before: Option<ContextRef>) -> Option<ContextRef> {
        let class = class_of(slot);
        let place = &self.slots[usize::from(slot)];
        #[cfg(not(loom))]
        crate::rank::lower_if_unused();
        loop {
            let mut state = self.state.lock();
            let lane = state.lane(class);
            if let Some(before) = &before {
                before.count_worker(class, false);
                lane.busy -= 1;
                lane.hung -= u32::from(place.is_hung.swap(false, Relaxed));
                place.is_busy.store(false, Relaxed);
            }
            if let Some(first) = lane.first(class)
                && let Some(context) = lane.line.remove(first)
            {
                context.count_worker(class, true);
                lane.busy += 1;
                place.is_busy.store(true, Relaxed);
                // For the watcher it has moved.
                let begun = place.begun.load(Relaxed);
                place.seen.store(begun.wrapping_sub(1), Relaxed);
                self.note_line(&mut state, class);
                drop(state);
                return Some(context);
            }
            self.count(&mut state, slot, false);
            // Those in line have as many as they may: somebody has to see whether that changes.
            let watches = class == Class::Short && !state.short.line.is_empty() && !state.watcher;
            if watches {
                state.watcher = true;
                place.order.store(WATCH, Relaxed);
            } else {
                place.order.store(SLEEP, Relaxed);
                state.lane(class).idle.push(slot);
            }
            drop(state);
            // Perhaps the last to have it.
            before = None;
            if watches {
                self.watch(slot);
                continue;
            }
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
        let mut until = began + IDLE_NS;
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
                if lane.holds != 0 && lane.living() == 1 {
                    until = monotonic_ns() + IDLE_NS;
                    continue;
                }
                if lane.idle.remove(slot) {
                    lane.give_back(slot);
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
            state.dozing = None;
            let stuck = self.look_at_workers(&mut state);
            let longer = tick * 2;
            tick = if stuck || !state.listed.is_empty() {
                WATCH_NS
            } else {
                longer.min(WATCH_NS_MAX)
            };
            let Some(first) = state.short.first_context(Class::Short) else {
                if !state.listed.is_empty() {
                    continue;
                }
                if state.short.line.is_empty() {
                    state.watcher = false;
                    return;
                }
                if !stuck {
                    tick = longer.min(DOZE_NS_MAX);
                    state.dozing = Some(slot);
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

    /// Takes those workers out of the count that are at the same request as the last time, and finds
    /// out which hang.
    fn look_at_workers(&self, state: &mut PoolState) -> bool {
        let now_ms = (monotonic_ns() / 1_000_000) as u32;
        let mut any = false;
        let used = usize::from(state.short.fresh.start);
        for (slot, worker) in self.slots[..used].iter().enumerate() {
            let begun = worker.begun.load(Relaxed);
            let moved = worker.seen.swap(begun, Relaxed) != begun;
            if !moved && worker.counted.load(Relaxed) {
                self.count(state, slot as u16, false);
                any = true;
            }
            if moved {
                worker.since_ms.store(now_ms, Relaxed);
            }
            let stays_ms = now_ms.wrapping_sub(worker.since_ms.load(Relaxed));
            let hangs = worker.is_busy.load(Relaxed) && stays_ms >= HUNG_MS;
            let hung = worker.is_hung.swap(hangs, Relaxed);
            state.short.hung = state.short.hung + u32::from(hangs) - u32::from(hung);
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
        let mut before = None;
        while let Some(context) = self.next(slot, before) {
            worker.turn = 0;
            if worker.class() == Class::Short {
                worker.recount(&context.habits);
            }
            Context::serve(&context, &mut worker);
            before = Some(context);
        }
        worker.ends();
    }
}

/// As long as this is there, a worker of that class is.
#[must_use]
pub struct Hold {
    pool: &'static Pool,
    class: Class,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pool.state.lock().lane(self.class).holds -= 1;
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
        req.set_route(Route::Thread);
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
        req.set_route(Route::Thread);
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
        req.set_route(Route::Thread);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    static STARTED: AtomicU32 = AtomicU32::new(0);

    fn start(pool: &'static Pool, slot: u16) -> Result<()> {
        STARTED.fetch_add(1, Relaxed);
        std::thread::spawn(move || pool.work(slot));
        Ok(())
    }

    fn no_thread(_: &'static Pool, _: u16) -> Result<()> {
        Err(Errno::EAGAIN)
    }

    #[test]
    fn a_worker_is_there_or_can_be_started() {
        let pool: &Pool = Box::leak(Box::new(Pool::new(start).unwrap()));
        for _ in 0..3 {
            assert!(pool.ensure_worker(Class::Short).is_some());
            assert_eq!(STARTED.load(Relaxed), 1);
        }
        assert!(pool.ensure_worker(Class::Long).is_some());
        assert_eq!(STARTED.load(Relaxed), 2);
    }

    #[test]
    fn or_there_is_none() {
        let pool: &Pool = Box::leak(Box::new(Pool::new(no_thread).unwrap()));
        for _ in 0..3 {
            assert!(pool.ensure_worker(Class::Short).is_none());
            assert!(pool.ensure_worker(Class::Long).is_none());
        }
        let state = pool.state.lock();
        assert_eq!(state.short.threads + state.long.threads, 0);
        assert_eq!(state.short.holds + state.long.holds, 0);
    }
}
