//! A context: the queued requests, the running requests, and the ring for their events.
//!
//! One lock guards all of it, except the reaping side of the ring. It is held for a few instructions. While requests are
//! submitted, carried out and completed, no thread makes a system call under it. There are two exceptions, which look at
//! descriptors under it: a caller that helps because there are no threads, and the end of the process. Wake-ups and signals
//! are collected in [`Deferred`], and sent when the lock is released.
//!
//! A thread that carries requests out takes them with `Context::dequeue_if`, and gives each back with `Context::complete`.
//! `enqueue` tells [`crate::engine::pool`] that requests are queued. A worker makes the system call, or hands the request
//! over to the kernel (`hand_over`), and the reaper gives it back. A caller that waits can do the same in place of a worker:
//! it makes the system call (`carry_out_in_caller`), or hands over and waits for the kernel itself (`wait_in_own_queue`).
//! Requests in the kernel are in [`kernel`], a submit under way in [`batch`], a caller that waits for events in [`reap`],
//! and the end of the process in `ending`.

mod batch;
mod behaviour;
mod cancel;
mod complete;
mod deferred;
mod dispatch;
mod doorbell;
mod ending;
mod engines;
mod facts;
mod kernel;
pub mod order;
mod own_queue;
mod readiness;
mod reap;
mod serve;
mod stand_in;

use crate::policy::tuning::tuning;
pub use batch::Batch;
pub use batch::HoldFiles;
pub use behaviour::Behaviour;
use deferred::Deferred;
use doorbell::Doorbell;
pub use ending::Settling;
#[cfg(loom)]
pub use engines::OwnQueue;
pub use engines::{OwnQueues, Pool};
pub use engines::{allowed, issue};
use kernel::{KernelInFlight, OwnQueueSlot};
pub use reap::Deadline;

use crate::abi::{IO_FEAT2_RING_SEALED, io_setup2_params, iocb2};
use crate::attr::{self, SubmitClock};
use crate::policy::nesting::Nesting;
use crate::policy::route::Routes;
use crate::profiles::Profiles;
use crate::queue::order::Order;
use crate::registry::Ref;
use crate::request::{List, NO_WORKER, Record, Req, Running, Scratch, Slabs, Stage};
use crate::ring::events::Events;
use crate::ring::notify::Notifier;
use crate::ring::wait::Spin;
use crate::ring::{Backlog, Ring, RingMem, page_bytes};
use crate::sync::{AtomicBool, AtomicU32, Lock};
use crate::sys::Result;
use crate::syscall::{Call, Class};
use nix::errno::Errno;
use std::ops::Deref;
use std::os::fd::RawFd;

/// The engines that carry a context's requests out, beside its callers.
#[derive(Clone, Copy)]
pub struct Engines {
    pub pool: &'static Pool,
    pub own_queues: &'static OwnQueues,
}

/// A reference to a context. The context does not move as long as a reference exists.
pub type ContextRef = Ref<Context>;

const RING_BYTES_DEFAULT: u32 = 64 << 10;
const RING_BYTES_MAX: u32 = 1 << 30;
const MAX_REQUESTS_DEFAULT: u32 = 65536;
/// Stands for the current time if the clock was not read.
const SOON: u64 = u64::MAX;
/// The most requests that a worker carries out before it takes the lock again, and the most reads announced to a device
/// beside the first.
const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 8 };
/// If no interrupted request ends within this time, the thread that waits for them interrupts them again.
const INTERRUPT_AGAIN_NS: u64 = 20_000_000;

pub struct Context {
    behaviour: Behaviour,
    ring: Events,
    notifier: Option<Notifier>,
    pool: &'static Pool,
    own_queues: &'static OwnQueues,
    max_requests: u32,
    /// Most requests that run at a time.
    limit: u32,
    pub profiles: Profiles,
    /// `State::prompt` has reached its limit. The pool reads this without the lock.
    serves_itself: AtomicBool,
    /// Requests were left to a caller that hands them over. It orders nothing.
    left_to_reaper: std::sync::atomic::AtomicBool,
    /// Since a caller last left that had waited, one has found its events without a wait. It orders nothing.
    served: std::sync::atomic::AtomicBool,
    /// Number of workers that serve the context, by the class of their requests. Guarded by the pool's lock. The atomics are
    /// the standard library's also in a model.
    workers: [std::sync::atomic::AtomicU32; 2],
    /// How often a caller found no event and did not wait. It orders nothing, so it is the standard library's atomic also in
    /// a model.
    empty_polls: std::sync::atomic::AtomicU32,
    /// Copies for threads without the lock: how long workers delay events, in nanoseconds (see [`Nesting`]), and
    /// [`Submits::are_polling`].
    pause_ns: std::sync::atomic::AtomicU64,
    polling: std::sync::atomic::AtomicBool,
    /// The doorbell of the last caller with a signal mask; the next one takes it.
    doorbell: Lock<Option<Box<Doorbell>>>,
    /// Spinning of callers before they sleep.
    spin: Spin,
    /// A futex. It is incremented when a request ends and `State::waiting_for_end` is not 0.
    ended: AtomicU32,
    own_queue: OwnQueueSlot,
    state: CacheAligned<Lock<State>>,
}

/// Has cache lines of its own. Otherwise a write under the lock could take away the cache line of a field that other
/// threads read without the lock.
#[repr(align(128))]
struct CacheAligned<T>(T);

impl<T> Deref for CacheAligned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

struct State {
    /// Requests that may begin, by class.
    queues: [List; 2],
    /// Requests that may not begin yet.
    order: Order,
    /// Requests that the end of the process leaves undone.
    abandoned: List,
    running: Running,
    /// Number of requests that were accepted and have no event yet.
    in_flight: u32,
    /// The context is in the pool's run queue, by class.
    enqueued: [bool; 2],
    /// The pool's monitor looks after the context.
    leased: bool,
    /// How many requests have been taken out of the queue to be carried out, in all and up to the last tick.
    dequeued: u64,
    dequeued_before: u64,
    /// The same count, and the time, when a polling caller last saw that this count had changed, or that nothing was in flight.
    dequeued_idle: u64,
    idle_since: u64,
    /// How often in a row a caller came for events right after a submit, and carried requests out itself.
    prompt: u32,
    /// How many ticks in a row have found requests queued and none taken since the tick before.
    still: u32,
    /// Workers that are handing requests over to the kernel.
    handing_over: u32,
    kernel: KernelInFlight,
    submits: Submits,
    /// The time of the last submit whose requests suit a caller (`at_submit`), or SOON.
    submitted_ns: u64,
    /// The thread that made this submit.
    submitter: u32,
    /// If set, nothing is accepted any more.
    closed: Option<Closed>,
    /// Number of threads that wait for requests to end.
    waiting_for_end: u32,
    /// Number of requests in flight that the kernel would have completed within io_submit().
    at_once: u32,
    /// Counts of the routes of ended requests.
    routes: Routes,
    backlog: Backlog,
    slabs: Slabs,
}

/// The observed submits of a context. They show whether its callers should carry requests out themselves.
#[derive(Default)]
struct Submits {
    nesting: Nesting,
    /// Number of submits since a caller last waited for events.
    without_wait: u32,
    /// Number of submits in a row after which a caller looked for events and found none; and `Context::empty_polls` at the last
    /// submit.
    polling: u32,
    empty_polls: u32,
}

impl Submits {
    /// Whether the program polls for events, and does nothing else meanwhile.
    fn are_polling(&self) -> bool {
        self.polling > tuning().without_wait
    }
}

impl Submits {
    /// Counts one more submit. `empty_polls` is `Context::empty_polls` at this time. `has_eventfd`: an eventfd tells of events, so the
    /// program does not have to poll.
    fn note(&mut self, empty_polls: u32, has_eventfd: bool) {
        let one_more = |count: u32, if_so| if if_so { count.saturating_add(1) } else { 0 };
        self.without_wait = self.without_wait.saturating_add(1);
        let polling = empty_polls != self.empty_polls && self.are_without_wait() && !has_eventfd;
        self.polling = one_more(self.polling, polling);
        self.empty_polls = empty_polls;
        let here = 0u8;
        let stack = std::hint::black_box(&raw const here).addr();
        self.nesting.note(stack, tuning());
    }

    /// Whether no caller has waited for events for a while.
    fn are_without_wait(&self) -> bool {
        self.without_wait > tuning().without_wait
    }
}

/// Why a context accepts nothing any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// io_destroy2() has begun.
    Destroyed,
    /// The process is ending.
    Exiting,
}

impl State {
    fn new(backlog: Backlog, has_claims: bool) -> State {
        State {
            queues: [List::new(), List::new()],
            order: Order::new(has_claims),
            abandoned: List::new(),
            running: Running::new(),
            in_flight: 0,
            enqueued: [false; 2],
            leased: false,
            dequeued: 0,
            dequeued_before: 0,
            dequeued_idle: u64::MAX,
            idle_since: 0,
            prompt: 0,
            still: 0,
            handing_over: 0,
            kernel: KernelInFlight::default(),
            submits: Submits::default(),
            submitted_ns: 0,
            submitter: 0,
            closed: None,
            waiting_for_end: 0,
            at_once: 0,
            routes: Routes::default(),
            backlog,
            slabs: Slabs::new(),
        }
    }

    fn finite_queue(&mut self) -> &mut List {
        &mut self.queues[Class::Finite as usize]
    }

    /// Number of requests in flight that have not begun: they are queued, or an earlier request must end first.
    fn waiting(&self) -> u32 {
        let begun = self.running.len() + self.running.waiting();
        self.in_flight.saturating_sub(begun)
    }

    /// Whether `now` is soon after `submitted_ns`.
    fn is_soon(&self, now: u64) -> bool {
        now - self.submitted_ns.min(now) < tuning().hand_over_ns
    }

    /// Puts a taken request back at the front of its queue.
    fn requeue(&mut self, req: Req) {
        self.running.leave(&req);
        req.set_worker(NO_WORKER);
        req.set_stage(Stage::Accepted);
        self.finite_queue().push_front(req);
    }

    /// Takes the first queued request that is `wanted`, from any class.
    fn dequeue_wanted(&mut self, mut wanted: impl FnMut(u64, &Call) -> bool) -> Option<Req> {
        self.queues
            .iter_mut()
            .find_map(|queue| queue.remove_first(&mut wanted))
    }

    /// Takes a request that has not begun.
    fn dequeue_any(&mut self) -> Option<Req> {
        if let Some(req) = self.dequeue_wanted(|_, _| true) {
            return Some(req);
        }
        let mut runnable = List::new();
        let held = self.order.held.first()?;
        let req = self.order.remove(held, &mut runnable);
        self.enqueue_by_class(&mut runnable);
        Some(req)
    }

    /// Adds requests to the queues of their classes.
    fn enqueue_by_class(&mut self, requests: &mut List) {
        while let Some(req) = requests.pop() {
            self.queues[req.manner().class() as usize].push(req);
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.closed {
            None => Ok(()),
            Some(Closed::Destroyed) => Err(Errno::EINVAL),
            Some(Closed::Exiting) => Err(Errno::EAGAIN),
        }
    }
}

impl Context {
    /// Makes a context with the ring of io_setup2(). `id` is the new context's. `params` are the caller's; the values that are
    /// used are written back to them.
    pub fn new(
        params: &mut io_setup2_params,
        id: u64,
        behaviour: Behaviour,
        engines: Engines,
    ) -> Result<Context> {
        if params.flags != 0 || params.reserved != [0; 4] || params.ring_bytes > RING_BYTES_MAX {
            return Err(Errno::EINVAL);
        }
        let or = |value, default| if value == 0 { default } else { value };
        let ring_bytes = or(params.ring_bytes, RING_BYTES_DEFAULT)
            .next_power_of_two()
            .max(page_bytes() as u32);
        let notifier = Notifier::new(params.eventfd)?;
        let mem = RingMem::new(ring_bytes as usize)?;
        let header_bytes = mem.header_bytes() as u32;
        let sealed = if mem.sealed { IO_FEAT2_RING_SEALED } else { 0 };
        let (ring, backlog) = Ring::new(mem, ring_bytes, crate::hooks::first_counter());
        params.ring_bytes = ring_bytes;
        params.features = attr::features() | sealed;
        ring.describe(header_bytes, params.features, id);
        Ok(Context {
            notifier,
            max_requests: or(params.max_requests, MAX_REQUESTS_DEFAULT),
            limit: or(params.workers, u32::MAX),
            ..Context::with_ring(Events::Ring2(ring), backlog, behaviour, engines)
        })
    }

    /// Makes a context without limits of its own.
    pub fn with_ring(
        ring: Events,
        backlog: Backlog,
        behaviour: Behaviour,
        engines: Engines,
    ) -> Context {
        Context {
            behaviour,
            ring,
            notifier: None,
            pool: engines.pool,
            own_queues: engines.own_queues,
            max_requests: u32::MAX,
            limit: u32::MAX,
            profiles: Profiles::new(),
            serves_itself: AtomicBool::new(false),
            left_to_reaper: std::sync::atomic::AtomicBool::new(false),
            served: std::sync::atomic::AtomicBool::new(false),
            workers: Default::default(),
            empty_polls: std::sync::atomic::AtomicU32::new(0),
            pause_ns: std::sync::atomic::AtomicU64::new(0),
            polling: std::sync::atomic::AtomicBool::new(false),
            doorbell: Lock::new(None),
            spin: Spin::new(),
            ended: AtomicU32::new(0),
            own_queue: OwnQueueSlot::default(),
            state: CacheAligned(Lock::new(State::new(backlog, behaviour.has_claims))),
        }
    }

    /// The address of the program's view of the ring.
    pub fn handle(&self) -> usize {
        self.ring.view()
    }

    /// The context's descriptors, which a forked child closes; -1 stands for none.
    pub fn fds(&self) -> [RawFd; 2] {
        [
            self.ring.fd(),
            self.notifier.as_ref().map_or(-1, Notifier::fd),
        ]
    }

    pub fn ring(&self) -> &Events {
        &self.ring
    }

    pub fn pool(&self) -> &'static Pool {
        self.pool
    }

    /// Accepts the records in `nbytes` bytes at `iocbs` until one is malformed or there is no more room. Returns the bytes of
    /// the accepted records.
    ///
    /// # Safety
    /// `iocbs` is aligned to 8, and `nbytes` bytes from there on are readable.
    pub unsafe fn submit(this: &ContextRef, iocbs: *const u8, nbytes: usize) -> Result<usize> {
        let mut batch = Batch::begin(this, nbytes / size_of::<iocb2>())?;
        let clock = SubmitClock::new();
        let mut scratch = Scratch::new();
        let mut done = 0;
        let mut stopped = Errno::EINVAL;
        while done < nbytes {
            // SAFETY: the caller promises `nbytes` readable bytes, and `done` is less. It is aligned to 8, because `iocbs` is, and
            // the size of every record is a multiple of 8.
            let record =
                unsafe { Record::read(iocbs.add(done), nbytes - done, &clock, &mut scratch) };
            let Ok(record) = record else { break };
            let Some(slot) = batch.slot(record.class()) else {
                stopped = Errno::EAGAIN;
                break;
            };
            done += record.bytes;
            batch.push(record.build(slot, &scratch));
        }
        batch.submitted_ns = clock.if_read();
        let rejected = batch.enqueue()?;
        if rejected != 0 {
            stopped = Errno::EAGAIN;
        }
        if done == rejected {
            Err(stopped)
        } else {
            Ok(done - rejected)
        }
    }

    /// Number of requests for which there is room in flight.
    fn room(&self, state: &State) -> usize {
        let room = self.ring.room(&state.backlog, state.in_flight);
        self.max_requests.saturating_sub(state.in_flight).min(room) as usize
    }
}
