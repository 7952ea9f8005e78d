//! The pool of workers. Contexts that have something queued wait in a run queue; workers serve them one after another.
//!
//! The number of workers follows the behaviour of the requests. Requests that keep the processor busy get as many workers as there are
//! processors, and not more; requests that wait get one worker each. So a worker counts against the processors unless it is known to wait.
//! The pool learns that in two ways:
//!
//! - A request that took long, and a sample of the others, is asked whether it gave up the processor (voluntary context switches). If the
//!   requests of a context do so ([`crate::profiles`]), its workers do not count.
//! - A monitor (an otherwise idle worker, which exists only while contexts wait in a run queue and perhaps no worker comes) checks from
//!   time to time which workers are still at the same request as at the last check. These are stuck, and do not count until they move.
//!
//! If a caller carries out the requests of its context itself, because it waits for them anyway, no worker is woken for each. The context
//! is leased: if the caller does not come, the monitor ensures that no request stays undone.
//!
//! Requests that may wait for somebody else without limit ([`Class::Indefinite`]: pipes, sockets, locks, sleep) have workers of their own,
//! one for each request that runs. There may be many of these, and they do not count against the processors. So such requests keep no disk
//! request waiting.
//!
//! A context gets only so many workers that some are left for others ([`crate::policy::fairness`]). While it has that many, the contexts
//! behind it in the run queue go first. If a worker stays at one request for long, it hangs: another worker is started in its place.
//!
//! If there is no worker and no thread can be started, the thread that has tried to start one stands in: it carries out the requests of the
//! contexts in the run queues that do not wait for somebody else.
//!
//! Lock order: the pool's lock may be taken under a context's lock, never the other way round. Neither is held across a system call.

mod monitor;
mod run_queue;
mod slot;
mod worker;

use crate::engine::Served;
use crate::engine::kaio::Kaio;
use crate::engine::readiness::Readiness;
use crate::policy::fairness::{FINITE_WORKERS, INDEFINITE_WORKERS};
use crate::policy::tuning::tuning;
use crate::ring::wait::Spin;
use crate::sync::{AcqRel, Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::processors;
use crate::sys::{Result, Waited, futex_wait, futex_wake, monotonic_ns};
use crate::syscall::{Class, carrier};
use nix::errno::Errno;
use run_queue::RunQueue;
use slot::{Slot, new_slots};
use std::collections::VecDeque;
pub use worker::Worker;

/// Slots of the workers for requests that end by themselves; the others follow.
const FINITE_SLOTS: usize = FINITE_WORKERS.most as usize;
const SLOTS: usize = FINITE_SLOTS + INDEFINITE_WORKERS.most as usize;

pub struct Pool<Q: 'static> {
    state: Lock<PoolState<Q>>,
    /// The slots of the workers for requests that end by themselves come first.
    slots: Box<[Slot]>,
    /// The number of contexts in each run queue.
    waiting: [AtomicU32; 2],
    /// [`PoolState::lacks_monitor`], or [`RunQueue::lacks_worker`] of either, for threads without the lock. Changed under the lock.
    lacks_threads: AtomicBool,
    processors: u32,
    start: StartWorker<Q>,
    /// See [`Pool::new`].
    call_retrier: fn(),
    /// Its workers stay awake for a moment if the next request is likely to come soon.
    spin: Option<Spin>,
    /// The kernel queue that its workers hand over to.
    pub kaio: Kaio<Q>,
    /// Where requests wait for their files after workers have tried them in vain.
    pub readiness: Readiness<Q>,
}

/// Starts a thread that calls [`Pool::work`] with that slot.
pub type StartWorker<Q> = fn(&'static Pool<Q>, u16) -> Result<()>;

struct PoolState<Q> {
    finite: RunQueue<Q>,
    indefinite: RunQueue<Q>,
    /// Contexts that the monitor looks after. While there are any, there is a monitor.
    leased: VecDeque<Q>,
    /// Workers that count against the processors.
    counted: u32,
    monitor: bool,
    /// A monitor could not be started, and no worker has come since that could be it.
    lacks_monitor: bool,
    /// The slot of the monitor, if it looks so rarely that it must be woken when it is needed.
    dozing: Option<u16>,
}

impl<Q> PoolState<Q> {
    /// Makes the monitor, if there is one, look soon.
    fn rouse(&mut self) -> Wakeup {
        self.dozing.take().map_or(Wakeup::None, Wakeup::Wake)
    }

    fn run_queue(&mut self, class: Class) -> &mut RunQueue<Q> {
        match class {
            Class::Finite => &mut self.finite,
            Class::Indefinite => &mut self.indefinite,
        }
    }
}

fn class_of(slot: u16) -> Class {
    if usize::from(slot) < FINITE_SLOTS {
        Class::Finite
    } else {
        Class::Indefinite
    }
}

const SLEEP: u32 = 0;
const WORK: u32 = 1;
const MONITOR: u32 = 2;

/// A worker that must be woken or started, without any lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Wakeup {
    None,
    Wake(u16),
    Start(u16),
}

/// The wake-ups that are collected under one lock. None may get lost: its worker would never come.
pub struct Wakeups {
    wakeups: [Wakeup; WAKEUPS_MAX],
    len: usize,
}

/// One worker for each class, twice if the lock was released in between, and a monitor.
const WAKEUPS_MAX: usize = 8;

impl Wakeups {
    pub fn new() -> Wakeups {
        Wakeups {
            wakeups: [Wakeup::None; WAKEUPS_MAX],
            len: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn add(&mut self, wakeup: Wakeup) {
        if wakeup != Wakeup::None {
            self.wakeups[self.len] = wakeup;
            self.len += 1;
        }
    }

    /// Without any lock. `tell`: see [`Pool::perform`].
    pub fn perform<Q: Served>(&self, pool: &'static Pool<Q>, tell: impl Fn()) {
        for &wakeup in &self.wakeups[..self.len] {
            pool.perform(wakeup, &tell);
        }
    }
}

impl<Q: Served> Pool<Q> {
    /// `has_held`: the requests hold their files, and their callers cannot carry them out. Then the workers stay awake for a moment.
    /// `call_retrier` is called without any lock: if another thread can, it calls `retry` from time to time as long as it `lacks_workers`.
    pub fn new(start: StartWorker<Q>, has_held: bool, call_retrier: fn()) -> Result<Pool<Q>> {
        let processors = processors::count();
        Ok(Pool {
            state: Lock::new(PoolState {
                finite: RunQueue::new(FINITE_WORKERS, 0..FINITE_SLOTS)?,
                indefinite: RunQueue::new(INDEFINITE_WORKERS, FINITE_SLOTS..SLOTS)?,
                leased: VecDeque::new(),
                counted: 0,
                monitor: false,
                lacks_monitor: false,
                dozing: None,
            }),
            slots: new_slots()?,
            waiting: [AtomicU32::new(0), AtomicU32::new(0)],
            lacks_threads: AtomicBool::new(false),
            processors,
            start,
            call_retrier,
            // A single processor is left to the thread that is waited for.
            spin: (has_held && processors > 1).then(Spin::new),
            kaio: Kaio::new(has_held)?,
            readiness: Readiness::new(has_held),
        })
    }

    /// Whether a thread that waits for its workers may also stay awake.
    pub fn stays_awake(&self) -> bool {
        self.spin.is_some()
    }

    /// Makes room in the run queues for that many contexts, so that `enqueue` does not allocate.
    pub fn reserve(&self, contexts: usize) -> Result<()> {
        let mut state = self.state.lock();
        let PoolState {
            finite,
            indefinite,
            leased,
            ..
        } = &mut *state;
        for list in [&mut finite.contexts, &mut indefinite.contexts, leased] {
            let more = contexts.saturating_sub(list.len());
            list.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// Whether a thread could not be started that is needed: then threads that wait for events must help.
    pub fn lacks_threads(&self) -> bool {
        // Acquire: pairs with `note_lack`. The caller asks this after it has listed its waiter: if it does not see the lack here, the
        // thread that could not start a worker sees the waiter.
        self.lacks_threads.load(Acquire)
    }

    /// Whether contexts wait for a worker that could not be started.
    pub fn lacks_workers(&self) -> bool {
        let lacks =
            |state: &PoolState<Q>| state.finite.lacks_worker || state.indefinite.lacks_worker;
        self.lacks_threads() && lacks(&self.state.lock())
    }

    /// A worker of that class could not be started (`fails`), or fewer contexts wait for one. True: threads are lacking from now on.
    fn note_lack(&self, state: &mut PoolState<Q>, class: Class, fails: bool) -> bool {
        let run_queue = state.run_queue(class);
        run_queue.lacks_worker = run_queue.has_waiting() && (fails || run_queue.lacks_worker);
        let lacks =
            state.lacks_monitor || state.finite.lacks_worker || state.indefinite.lacks_worker;
        // AcqRel: pairs with `lacks_threads`.
        !self.lacks_threads.swap(lacks, AcqRel) && lacks
    }

    /// Tries once more to start a worker. Called while threads are lacking.
    pub fn retry(&'static self) {
        // First the class that may wait for ever: no other thread can carry out its requests.
        for class in [Class::Indefinite, Class::Finite] {
            let mut state = self.state.lock();
            if !state.monitor {
                self.look_at_workers(&mut state);
            }
            let wakeup = self.wakeup(&mut state, class);
            drop(state);
            // The waiters know it.
            self.perform(wakeup, &|| {});
        }
    }

    /// Puts a context into a run queue. Called under its lock.
    pub fn enqueue(&self, context: Q, class: Class) -> Wakeup {
        let mut state = self.state.lock();
        state.run_queue(class).contexts.push_back(context);
        self.note_waiting(&mut state, class);
        self.wakeup(&mut state, class)
    }

    fn note_waiting(&self, state: &mut PoolState<Q>, class: Class) {
        let waiting = state.run_queue(class).contexts.len() as u32;
        self.waiting[class as usize].store(waiting, Relaxed);
    }

    /// Has the monitor look after a context whose caller will probably come for its requests. Called under the context's lock. None: there
    /// can be no monitor.
    pub fn lease(&self, context: Q) -> Option<Wakeup> {
        let mut state = self.state.lock();
        let wakeup = if state.monitor {
            state.rouse()
        } else {
            self.command(&mut state, Class::Finite, MONITOR)?
        };
        state.leased.push_back(context);
        Some(wakeup)
    }

    /// Removes a context from the run queues and the leases, before it goes away.
    pub fn forget(&self, context: &Q) {
        let mut state = self.state.lock();
        let remove = |list: &mut VecDeque<Q>| {
            let at = list.iter().position(|here| here.is(context));
            at.and_then(|at| list.remove(at))
        };
        let forgotten = (
            remove(&mut state.finite.contexts),
            remove(&mut state.indefinite.contexts),
            remove(&mut state.leased),
        );
        for class in [Class::Finite, Class::Indefinite] {
            self.note_waiting(&mut state, class);
            self.note_lack(&mut state, class, false);
        }
        drop(state);
        drop(forgotten);
    }

    /// How many workers may keep processors busy for that context. A caller that carries out requests counts as one.
    fn processors_for(&self, context: Option<&Q>) -> u32 {
        let callers = u32::from(context.is_some_and(Q::serves_itself));
        self.processors.saturating_sub(callers).max(1)
    }

    /// Whether a worker or the monitor should come for a run queue's first context, and which.
    fn wakeup(&self, state: &mut PoolState<Q>, class: Class) -> Wakeup {
        let run_queue = match class {
            Class::Finite => &state.finite,
            Class::Indefinite => &state.indefinite,
        };
        if run_queue.contexts.is_empty() {
            return Wakeup::None;
        }
        let first = run_queue.first_context(class);
        let wants_worker = first.is_some_and(|first| {
            let waits = class == Class::Indefinite || first.profiles().waits();
            waits || state.counted < self.processors_for(Some(first))
        });
        let command = if wants_worker {
            WORK
        } else if class == Class::Finite && !state.monitor {
            MONITOR
        } else {
            // One of the other workers comes when it is done, or the monitor finds that it hangs.
            return state.rouse();
        };
        self.command(state, class, command).unwrap_or(Wakeup::None)
    }

    /// Gives that command to a sleeping worker, or to a new one. None: there is none, and no slot for a new one.
    fn command(&self, state: &mut PoolState<Q>, class: Class, command: u32) -> Option<Wakeup> {
        let (slot, wakeup) = state.run_queue(class).acquire_slot()?;
        match (command, class) {
            (MONITOR, _) => state.monitor = true,
            (_, Class::Finite) => {
                let first = state.finite.first_context(class);
                let waits = first.is_some_and(|first| first.profiles().waits());
                self.count(state, slot, !waits);
            }
            (_, Class::Indefinite) => {}
        }
        // Release: pairs with the acquire in `sleep`.
        self.slots[usize::from(slot)]
            .command
            .store(command, Release);
        Some(wakeup)
    }

    /// Wakes or starts the worker of a wake-up. If it cannot be started, first calls `tell`, which wakes waiters that may not know that
    /// they must help.
    pub fn perform(&'static self, wakeup: Wakeup, tell: &dyn Fn()) {
        match wakeup {
            Wakeup::None => {}
            Wakeup::Wake(slot) => self.wake(slot),
            Wakeup::Start(slot) => _ = self.start(slot, tell),
        }
    }

    fn wake(&self, slot: u16) {
        futex_wake(&self.slots[usize::from(slot)].command, 1);
    }

    /// Starts a worker in a slot that was taken for it. False: that failed.
    fn start(&'static self, slot: u16, tell: &dyn Fn()) -> bool {
        let started = (self.start)(self, slot).is_ok();
        let mut state = self.state.lock();
        let run_queue = state.run_queue(class_of(slot));
        run_queue.starting -= 1;
        if started {
            return true;
        }
        run_queue.release_slot(slot);
        let command = self.slots[usize::from(slot)].command.swap(SLEEP, Relaxed);
        if command == MONITOR {
            state.monitor = false;
            state.lacks_monitor = true;
        }
        let lack_begins = self.note_lack(&mut state, class_of(slot), true);
        self.count(&mut state, slot, false);
        drop(state);
        if lack_begins {
            self.call_for_help(Class::Finite);
            self.call_for_help(Class::Indefinite);
        }
        if command == WORK {
            tell();
        }
        carrier::stand_in(|| {
            // One request may let another one begin, also of the other class.
            let mut more = true;
            while more {
                more = self.call_workers_for_leased();
                more |= self.stand_in(Class::Finite);
                more |= self.stand_in(Class::Indefinite);
            }
            if self.lacks_workers() {
                (self.call_retrier)();
            }
        });
        false
    }

    /// If no worker will come, carries out the requests of the contexts in the run queue that wait for nobody. A thread that enqueues a
    /// context later cannot start a worker either, and does the same. False: there was nothing.
    fn stand_in(&'static self, class: Class) -> bool {
        let mut any = false;
        let mut left = self.state.lock().run_queue(class).contexts.len();
        while left != 0 {
            let mut state = self.state.lock();
            let run_queue = state.run_queue(class);
            if run_queue.expects_worker(class) {
                break;
            }
            let Some(context) = run_queue.contexts.pop_front() else {
                break;
            };
            run_queue.standing_in += 1;
            self.note_waiting(&mut state, class);
            drop(state);
            any |= context.stand_in(class);
            let mut state = self.state.lock();
            state.run_queue(class).standing_in -= 1;
            self.note_lack(&mut state, class, false);
            left -= 1;
        }
        any
    }

    /// Puts a context into a run queue for the next attempt to start a worker. Called under its lock.
    pub fn requeue(&self, context: Q, class: Class) {
        let mut state = self.state.lock();
        state.run_queue(class).contexts.push_back(context);
        self.note_waiting(&mut state, class);
    }

    /// Makes sure that there is a worker for requests of that class, which does not end as long as the returned value exists. Requests that
    /// may wait for ever need a worker each. None: there is none, and none can be started.
    pub fn ensure_worker(&'static self, class: Class) -> Option<WorkerPin<Q>> {
        let mut state = self.state.lock();
        let run_queue = state.run_queue(class);
        run_queue.pins += 1;
        let hold = WorkerPin { pool: self, class };
        let is_short = class == Class::Indefinite && run_queue.lacks_worker;
        if run_queue.living() != 0 && !is_short {
            return Some(hold);
        }
        let acquired = run_queue.acquire_slot();
        if let Some((slot, _)) = acquired {
            // Release: as in `command`.
            self.slots[usize::from(slot)].command.store(WORK, Release);
        }
        drop(state);
        let is_there = match acquired {
            None => false,
            Some((slot, Wakeup::Start(_))) => self.start(slot, &|| {}),
            Some((slot, _)) => {
                self.wake(slot);
                true
            }
        };
        is_there.then_some(hold)
    }

    /// Wakes the waiters of contexts in the run queue: they went to sleep when there seemed to be threads.
    fn call_for_help(&self, class: Class) {
        let in_queue = self.state.lock().run_queue(class).contexts.len();
        for _ in 0..in_queue {
            let mut state = self.state.lock();
            let line = &mut state.run_queue(class).contexts;
            let Some(context) = line.pop_front() else {
                return;
            };
            line.push_back(context.clone());
            drop(state);
            context.wake_waiters();
        }
    }

    /// Without a monitor, leased contexts need workers at once. False: there were none.
    fn call_workers_for_leased(&'static self) -> bool {
        let mut any = false;
        loop {
            let mut state = self.state.lock();
            if state.monitor {
                return any;
            }
            let Some(context) = state.leased.pop_front() else {
                return any;
            };
            drop(state);
            context.tick(Look::Last);
            any = true;
        }
    }

    fn count(&self, state: &mut PoolState<Q>, slot: u16, counts: bool) {
        let before = self.slots[usize::from(slot)].counted.swap(counts, Relaxed);
        state.counted = state.counted + u32::from(counts) - u32::from(before);
    }

    /// The worker's next context. None: the worker must end. `before`: the context that it has just served.
    fn next(&'static self, slot: u16, mut before: Option<Q>) -> Option<Q> {
        let class = class_of(slot);
        let own = &self.slots[usize::from(slot)];
        #[cfg(not(loom))]
        crate::sys::rank::lower_if_unused();
        loop {
            let mut state = self.state.lock();
            let run_queue = state.run_queue(class);
            if let Some(before) = &before {
                before.count_worker(class, false);
                run_queue.busy -= 1;
                run_queue.hung -= u32::from(own.is_hung.swap(false, Relaxed));
                own.is_busy.store(false, Relaxed);
            }
            if let Some(first) = run_queue.first(class)
                && let Some(context) = run_queue.contexts.remove(first)
            {
                context.count_worker(class, true);
                run_queue.busy += 1;
                own.is_busy.store(true, Relaxed);
                // So the monitor sees that it has moved.
                let begun = own.begun.load(Relaxed);
                own.seen.store(begun.wrapping_sub(1), Relaxed);
                self.note_waiting(&mut state, class);
                if self.lacks_threads.load(Relaxed) {
                    state.lacks_monitor &= class == Class::Indefinite;
                    self.note_lack(&mut state, class, false);
                }
                drop(state);
                return Some(context);
            }
            self.count(&mut state, slot, false);
            // If contexts stay in the run queue, they have as many workers as they may. A monitor must notice when that changes.
            let watches =
                class == Class::Finite && !state.finite.contexts.is_empty() && !state.monitor;
            if watches {
                state.monitor = true;
                own.command.store(MONITOR, Relaxed);
            } else {
                own.command.store(SLEEP, Relaxed);
                state.run_queue(class).idle.push(slot);
            }
            drop(state);
            // This may be the last reference to it.
            before = None;
            if watches {
                self.monitor(slot);
                continue;
            }
            match self.sleep(slot) {
                SLEEP => return None,
                MONITOR => self.monitor(slot),
                _ => {}
            }
        }
    }

    /// Sleeps until there is a command, and returns it. SLEEP: there was none for a long time.
    fn sleep(&self, slot: u16) -> u32 {
        let word = &self.slots[usize::from(slot)].command;
        let began = monotonic_ns();
        let mut until = began + tuning().idle_ns;
        if let Some(spin) = &self.spin {
            // Relaxed: the command is read again below.
            spin.spin(began, || word.load(Relaxed) != SLEEP);
        }
        loop {
            // Acquire: pairs with the release in `command` and `ensure_worker`.
            match word.load(Acquire) {
                SLEEP => {}
                command => {
                    if let Some(spin) = &self.spin {
                        spin.learn(began);
                    }
                    return command;
                }
            }
            if futex_wait(word, SLEEP, until) == Waited::TimedOut {
                let mut state = self.state.lock();
                let run_queue = state.run_queue(class_of(slot));
                if run_queue.pins != 0 && run_queue.living() == 1 {
                    until = monotonic_ns() + tuning().idle_ns;
                    continue;
                }
                if run_queue.idle.remove(slot) {
                    run_queue.release_slot(slot);
                    return SLEEP;
                }
                // A command is on its way.
            }
        }
    }

    /// Interrupts the worker at its current request, if that can be interrupted. Called under the lock of the request's context, which
    /// keeps the worker from going on to another request.
    pub fn interrupt(&self, slot: u16) -> bool {
        self.slots[usize::from(slot)].interruptible.interrupt()
    }

    /// The thread of a worker for requests that may wait.
    pub fn tid(&self, slot: u16) -> u32 {
        self.slots[usize::from(slot)].interruptible.tid()
    }

    /// The main loop of a worker, in the thread that was started for this slot.
    pub fn work(&'static self, slot: u16) {
        let mut worker = Worker {
            pool: self,
            slot,
            turn: 0,
            last_ns: 0,
        };
        worker.begins();
        if worker.state().command.load(Acquire) == MONITOR {
            self.monitor(slot);
        }
        let mut before = None;
        while let Some(context) = self.next(slot, before) {
            worker.turn = 0;
            if worker.class() == Class::Finite {
                worker.recount(context.profiles());
            }
            context.serve(&mut worker);
            before = Some(context);
        }
        worker.ends();
    }
}

/// While this exists, a worker of that class exists.
#[must_use]
pub struct WorkerPin<Q: 'static> {
    pool: &'static Pool<Q>,
    class: Class,
}

impl<Q: 'static> Drop for WorkerPin<Q> {
    fn drop(&mut self) {
        self.pool.state.lock().run_queue(self.class).pins -= 1;
    }
}

/// How a leased context is looked after.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The monitor looks, and will look again.
    Again,
    /// No look follows: the context needs workers.
    Last,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::queue::Pool;
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
        let pool: &Pool = Box::leak(Box::new(Pool::new(start, false, || {}).unwrap()));
        for _ in 0..3 {
            assert!(pool.ensure_worker(Class::Finite).is_some());
            assert_eq!(STARTED.load(Relaxed), 1);
        }
        assert!(pool.ensure_worker(Class::Indefinite).is_some());
        assert_eq!(STARTED.load(Relaxed), 2);
    }

    #[test]
    fn or_there_is_none() {
        let pool: &Pool = Box::leak(Box::new(Pool::new(no_thread, false, || {}).unwrap()));
        for _ in 0..3 {
            assert!(pool.ensure_worker(Class::Finite).is_none());
            assert!(pool.ensure_worker(Class::Indefinite).is_none());
        }
        let state = pool.state.lock();
        assert_eq!(state.finite.threads + state.indefinite.threads, 0);
        assert_eq!(state.finite.pins + state.indefinite.pins, 0);
    }
}
