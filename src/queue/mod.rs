//! A context: a queue of requests, those that run, and the ring that their events go to.
//!
//! One lock guards all of it but the ring's reaping side. It is held for a few instructions, and on
//! the way of a request never across a system call (a caller that has to help for want of threads,
//! and the end of the process, look at descriptors under it). What has to be done after an action
//! and without the lock (waking, signalling) is collected in [`Deferred`].
//!
//! The way a request is carried out stays behind a seam: a carrier takes requests with
//! `Context::take_if`, and gives each back with `Context::complete`; [`crate::engine::pool`] is told with
//! `enqueue` that there are some. There are two: workers make the system call, or hand the request to
//! the kernel's AIO (`hand_over`), whose reaper gives it back. A caller who waits does the same in
//! their place: it makes the system call (`carry_out_short`), or hands over and waits for the kernel
//! itself (`wait_in_own_queue`). What the kernel carries out is in [`kernel`], a submit under way in
//! [`batch`], one who waits for events in [`reap`], and what the end of the process needs in `ending`.

mod batch;
mod behaviour;
mod cancel;
mod complete;
mod deferred;
mod dispatch;
mod doorbell;
#[cfg(not(loom))]
mod ending;
mod engines;
mod facts;
mod kernel;
pub mod order;
mod own_queue;
#[cfg(not(loom))]
mod readiness;
mod reap;
mod serve;
mod stand_in;

use crate::policy::tuning::tuning;
pub use batch::Batch;
#[cfg(not(loom))]
pub use batch::HoldFiles;
pub use behaviour::Behaviour;
use deferred::Deferred;
use doorbell::Doorbell;
#[cfg(loom)]
pub use engines::OwnQueue;
pub use engines::{OwnQueues, Pool};
#[cfg(not(loom))]
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

/// Who carries a context's requests out, beside its callers.
#[derive(Clone, Copy)]
pub struct Engines {
    pub pool: &'static Pool,
    pub own_queues: &'static OwnQueues,
}

/// A reference to a context, which stays where it is as long as there are any.
pub type ContextRef = Ref<Context>;

const RING_BYTES_DEFAULT: u32 = 64 << 10;
const RING_BYTES_MAX: u32 = 1 << 30;
const MAX_REQUESTS_DEFAULT: u32 = 65536;
/// What stands for the time if it was not read.
const SOON: u64 = u64::MAX;
/// The most requests that a worker carries out before it takes the lock again, and the most reads that a device is told of beside the
/// first.
const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 8 };
/// Who waits for requests to end that it has interrupted does so again if none ends for so long.
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
    /// `State::prompt` is enough: for the pool.
    serves_itself: AtomicBool,
    /// Workers that serve it, by the class of what they carry out. Under the pool's lock, and of the
    /// standard library also in a model.
    workers: [std::sync::atomic::AtomicU32; 2],
    /// How often somebody has looked for events in vain. Of the standard library also in a model: a
    /// count that orders nothing.
    in_vain: std::sync::atomic::AtomicU32,
    /// For so many nanoseconds workers keep events back (see [`Nesting`]); and [`Submits::are_polled`]: for threads that do
    /// not have the lock.
    pause_ns: std::sync::atomic::AtomicU64,
    polled: std::sync::atomic::AtomicBool,
    /// What the last caller with a signal mask has slept for, for the next.
    doorbell: Lock<Option<Box<Doorbell>>>,
    /// Of callers that may not carry requests out.
    spin: Spin,
    /// Bumped when a request ends while somebody waits for that (`State::waiting_for_end`): a futex.
    ended: AtomicU32,
    /// Where its callers wait for the kernel, once one of them has wanted to; None: it cannot.
    own_queue: OwnQueueSlot,
    state: Apart<Lock<State>>,
}

/// In cache lines of its own. What is changed under the lock would else take the line of what others
/// read without it, and which that is would change with every field that is added.
#[repr(align(128))]
struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

struct State {
    /// What may begin, by its class.
    queues: [List; 2],
    /// What may not, yet.
    order: Order,
    /// What the end of the process leaves undone.
    left: List,
    running: Running,
    /// Accepted, event not yet produced.
    in_flight: u32,
    /// It is in the pool's run queues.
    enqueued: [bool; 2],
    /// The pool's monitor looks after it.
    leased: bool,
    /// Requests ever taken out of the queue to be carried out, and how many these were when the
    /// monitor looked the last time.
    taken: u64,
    taken_before: u64,
    /// The same, and when, when somebody had looked in vain and something was being done.
    taken_idle: u64,
    idle_since: u64,
    /// How often, lately, a caller came for events right after a submit, and carried requests out
    /// itself.
    prompt: u32,
    /// How often in a row the monitor has found that nothing moved, though something is queued.
    still: u32,
    /// Workers that are handing requests over to the kernel.
    handing_over: u32,
    kernel: KernelInFlight,
    submits: Submits,
    /// When requests that are all known to be fast were submitted the last time, or SOON.
    submitted_ns: u64,
    /// By which thread.
    submitter: u32,
    /// Nothing is accepted any more.
    closed: Option<Closed>,
    /// Threads that wait for requests to end.
    waiting_for_end: u32,
    /// Those in flight that the kernel would have completed within io_submit().
    at_once: u32,
    /// How those that have ended were carried out.
    routes: Routes,
    backlog: Backlog,
    slabs: Slabs,
}

/// Where submits have come from whose requests their caller had better carry out.
#[derive(Default)]
struct Submits {
    #[cfg_attr(loom, expect(dead_code))]
    nesting: Nesting,
    /// How many of all submits there were since somebody waited for events.
    without_wait: u32,
    /// How many in a row there were after which somebody has looked for events in vain; and how often
    /// that had been done in all when there was the last one.
    polled: u32,
    in_vain: u32,
}

impl Submits {
    /// Whether somebody is going to look for events who has nothing else to do.
    fn are_polled(&self) -> bool {
        self.polled > tuning().without_wait
    }
}

#[cfg(not(loom))]
impl Submits {
    /// One more, up to which somebody has looked in vain so often. Who is `told` does not have to.
    fn note(&mut self, in_vain: u32, told: bool) {
        let one_more = |count: u32, if_so| if if_so { count.saturating_add(1) } else { 0 };
        self.without_wait = self.without_wait.saturating_add(1);
        let polled = in_vain != self.in_vain && self.are_without_wait() && !told;
        self.polled = one_more(self.polled, polled);
        self.in_vain = in_vain;
        let here = 0u8;
        let stack = std::hint::black_box(&raw const here).addr();
        self.nesting.note(stack, tuning());
    }

    /// Whether nobody has waited for events for a while.
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
            left: List::new(),
            running: Running::new(),
            in_flight: 0,
            enqueued: [false; 2],
            leased: false,
            taken: 0,
            taken_before: 0,
            taken_idle: u64::MAX,
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

    fn short(&mut self) -> &mut List {
        &mut self.queues[Class::Short as usize]
    }

    /// How many are in flight and do not run: those that wait their turn, or for an earlier one.
    fn waiting(&self) -> u32 {
        let begun = self.running.len() + self.running.waiting();
        self.in_flight.saturating_sub(begun)
    }

    /// Whether it is soon after the last submit.
    fn is_soon(&self, now: u64) -> bool {
        now - self.submitted_ns.min(now) < tuning().hand_over_ns
    }

    /// Puts a request that was taken back to where it was, at the front of its queue.
    fn requeue(&mut self, req: Req) {
        self.running.leave(&req);
        req.set_worker(NO_WORKER);
        req.set_stage(Stage::Accepted);
        self.short().push_front(req);
    }

    /// Takes the first request that is queued and that `wanted` says yes to, whatever its class.
    fn take_queued(&mut self, mut wanted: impl FnMut(u64, &Call) -> bool) -> Option<Req> {
        self.queues
            .iter_mut()
            .find_map(|queue| queue.remove_first(&mut wanted))
    }

    /// Takes a request that has not begun.
    fn take_any(&mut self) -> Option<Req> {
        if let Some(req) = self.take_queued(|_, _| true) {
            return Some(req);
        }
        let mut go = List::new();
        let held = self.order.held.first()?;
        let req = self.order.take(held, &mut go);
        self.enqueue_by_class(&mut go);
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
    /// A context with the ring of io_setup2(). `id` is the new context's, `params` as the caller gave them; what was
    /// made is written back.
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

    /// A context without limits of its own.
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
            workers: Default::default(),
            in_vain: std::sync::atomic::AtomicU32::new(0),
            pause_ns: std::sync::atomic::AtomicU64::new(0),
            polled: std::sync::atomic::AtomicBool::new(false),
            doorbell: Lock::new(None),
            spin: Spin::new(),
            ended: AtomicU32::new(0),
            own_queue: OwnQueueSlot::default(),
            state: Apart(Lock::new(State::new(backlog, behaviour.has_claims))),
        }
    }

    /// The address of the program's view of the ring.
    pub fn handle(&self) -> usize {
        self.ring.view()
    }

    /// The descriptors that the context holds, for a forked child to close; -1 for none.
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

    /// Accepts the records in `nbytes` bytes at `iocbs`, as far as they are well-formed and there
    /// is room; returns their bytes.
    ///
    /// # Safety
    /// `iocbs` is aligned to 8 and `nbytes` bytes behind it are readable.
    pub unsafe fn submit(this: &ContextRef, iocbs: *const u8, nbytes: usize) -> Result<usize> {
        let mut batch = Batch::begin(this, nbytes / size_of::<iocb2>())?;
        let clock = SubmitClock::new();
        let mut scratch = Scratch::new();
        let mut done = 0;
        let mut stopped = Errno::EINVAL;
        while done < nbytes {
            // SAFETY: within the bytes that the caller vouches for, and aligned: every record so
            // far was a multiple of 8.
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

    /// How many more requests may be in flight.
    fn room(&self, state: &State) -> usize {
        let room = self.ring.room(&state.backlog, state.in_flight);
        self.max_requests.saturating_sub(state.in_flight).min(room) as usize
    }

    #[cfg(not(loom))]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }
}
