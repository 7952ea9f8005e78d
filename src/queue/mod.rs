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
mod doorbell;
#[cfg(not(loom))]
mod ending;
#[cfg(not(loom))]
mod kernel;
#[cfg(loom)]
#[path = "kernel_model.rs"]
mod kernel;
pub mod order;
mod reap;

pub use batch::Batch;
use batch::Expected;
use doorbell::Doorbell;
use kernel::{KernelInFlight, OwnQueueSlot};
pub use reap::Deadline;

use crate::abi::{IO_FEAT2_RING_SEALED, io_setup2_params, iocb2};
use crate::attr::{self, SubmitClock};
use crate::engine::exec;
#[cfg(not(loom))]
use crate::engine::own_queue::OwnQueues;
use crate::engine::pool::{Look, Pool, Wakeups, Worker};
#[cfg(not(loom))]
use crate::personality::libaio::{self, eventfd::Told};
use crate::policy::nesting::Nesting;
use crate::policy::route::{Route, Routes};
#[cfg(not(loom))]
use crate::policy::tuning::NESTING;
use crate::profiles::{Fast, Profiles};
use crate::queue::order::Order;
#[cfg(not(loom))]
use crate::queue::order::claims::Marks;
use crate::registry::Ref;
use crate::request::{Class as Size, List, NO_WORKER, Record, Req, Running, Scratch, Slabs, Stage};
use crate::ring::events::Events;
#[cfg(not(loom))]
use crate::ring::legacy::{self, LegacyRing};
use crate::ring::notify::Notifier;
use crate::ring::wait::{Spin, Wakes};
use crate::ring::{Backlog, Ring, RingMem, page_bytes};
use crate::sync::{AtomicBool, AtomicU32, Guard, Lock, Relaxed};
#[cfg(not(loom))]
use crate::sys::progress;
#[cfg(not(loom))]
use crate::sys::rank::{self, Standing};
use crate::sys::{NEVER, Result, Waited, futex_wait, futex_wake, monotonic_ns, shielded};
use crate::syscall::{self, Call, Class, carrier};
use arrayvec::ArrayVec;
use nix::errno::Errno;
use std::cell::Cell;
use std::ops::Deref;
use std::os::fd::{OwnedFd, RawFd};
#[cfg(not(loom))]
use std::time::Duration;

/// Who carries a context's requests out, beside its callers.
#[derive(Clone, Copy)]
pub struct Engines {
    pub pool: &'static Pool,
    #[cfg(not(loom))]
    pub own_queues: &'static OwnQueues,
}

/// A reference to a context, which stays where it is as long as there are any.
pub type ContextRef = Ref<Context>;

const RING_BYTES_DEFAULT: u32 = 64 << 10;
const RING_BYTES_MAX: u32 = 1 << 30;
const MAX_REQUESTS_DEFAULT: u32 = 65536;
/// A caller who comes for events so soon after a submit would only have waited for them.
const PROMPT_NS: u64 = 20_000;
/// So often in a row the monitor (once in a millisecond) finds that nothing moves before others begin
/// beside requests that are as many as another context can bear: a device that has to be shared often
/// pauses for one millisecond. (All 256 at once then: p99 of the other's single reads on virtio
/// 1,700 us; 330 us so, both with 16 in place of SHARE.)
const STILL_LONG: u32 = 8;
/// So many times in a row, and no worker is woken for requests that the caller can see to.
const PROMPT_IN_A_ROW: u32 = if cfg!(loom) { 1 } else { 2 };
/// From then on the clock is read for it one time in this many. (A no-op: 205 ns with a reading each
/// time, 186 so.)
const LOOK: u64 = 8;
/// What stands for the time if it was not read.
const SOON: u64 = u64::MAX;
/// Requests that take less than this together are not worth waking a worker for, which takes
/// microseconds here and there.
const WORTH_NS: u64 = 16_000;
/// For so long a caller of io_submit() carries out what it has submitted. (Reads from the page cache and
/// an eventfd, one at a time: 16,000 a second by a worker, 178,000 by the caller; by 16, 330,000 and
/// 430,000. Of zram: 14,000 and 153,000; by 8, 150,000 and 290,000; by 64, with a worker beside,
/// 400,000 and 700,000.)
#[cfg(not(loom))]
const AT_SUBMIT_NS: u64 = 40_000;
/// If no eventfd tells of them, then if so many times in a row nobody has waited for events after a submit:
/// the program looks for them, perhaps in the ring. (One read of zram at a time and looking until it is
/// there: 61,000 a second by a worker.)
const WITHOUT_WAIT: u32 = 32;
/// Requests that are known to be fast, and that a worker carries out before it takes the lock
/// again. (4 KiB reads on zram, by the caller and a worker: 660,000 a second one at a time, 720,000
/// by 4, 745,000 by 8.)
const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 8 };
/// But not more than are done in this time: their events come later for it. (4 KiB writes to zram,
/// 8 us each: 209,000 a second one at a time, 214,000.)
const BATCH_NS: u32 = 64_000;
/// Who waits for requests to end that it has interrupted does so again if none ends for so long.
const INTERRUPT_AGAIN_NS: u64 = 20_000_000;
/// Reads that will wait for a device, and that it is told of at once, beside the first.
#[cfg(not(loom))]
const READS: usize = 8;
pub struct Context {
    ring: Events,
    notifier: Option<Notifier>,
    pool: &'static Pool,
    #[cfg(not(loom))]
    own_queues: &'static OwnQueues,
    max_requests: u32,
    /// Most requests that run at a time.
    limit: u32,
    /// A caller that waits may carry requests out: they may use the program's descriptors at any time.
    callers_carry_out: bool,
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
/// read without it, and which that is would change with every field that is added. (4 KiB reads of
/// zram by the caller and a worker: 677,000 a second, 688,000 so.)
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
        self.polled > WITHOUT_WAIT
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
        self.nesting.note(stack, &NESTING);
    }

    /// Whether nobody has waited for events for a while.
    fn are_without_wait(&self) -> bool {
        self.without_wait > WITHOUT_WAIT
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
    fn new(backlog: Backlog) -> State {
        State {
            queues: [List::new(), List::new()],
            order: Order::new(),
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
        self.in_flight.saturating_sub(self.running.len())
    }

    /// Whether what runs does not come to an end, so that others had better begin beside it.
    fn is_stuck(&self) -> bool {
        self.still != 0 && (self.still >= STILL_LONG || !self.waits_for_writer())
    }

    /// Whether it is soon after the last submit.
    fn is_soon(&self, now: u64) -> bool {
        now - self.submitted_ns.min(now) < PROMPT_NS
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

/// What is left to do when the lock has been released.
#[must_use]
struct Deferred {
    wakes: Wakes,
    published: bool,
    ended: bool,
    queued: bool,
    wakeups: Wakeups,
    /// The eventfds of requests.
    #[cfg(not(loom))]
    tells: ArrayVec<Told, BATCH_MAX>,
}

impl Deferred {
    fn new() -> Deferred {
        Deferred {
            wakes: Wakes::new(),
            published: false,
            ended: false,
            queued: false,
            wakeups: Wakeups::new(),
            #[cfg(not(loom))]
            tells: ArrayVec::new(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.wakeups.is_empty()
    }

    /// A request, one of [`BATCH_MAX`] at most, has been carried out: its extension is given back before its event
    /// can be seen.
    fn note_ended(&mut self, _req: &mut Req) {
        #[cfg(not(loom))]
        if let Some(eventfd) = libaio::request::ended(_req) {
            self.tells.push(eventfd);
        }
    }
}

impl Context {
    /// `id` is the new context's, `params` as the caller gave them; what was made is written back.
    pub fn new(params: &mut io_setup2_params, id: u64, engines: Engines) -> Result<Context> {
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
            callers_carry_out: true,
            ..Context::unlimited(Events::Ring2(ring), backlog, engines)
        })
    }

    fn unlimited(ring: Events, backlog: Backlog, engines: Engines) -> Context {
        Context {
            ring,
            notifier: None,
            pool: engines.pool,
            #[cfg(not(loom))]
            own_queues: engines.own_queues,
            max_requests: u32::MAX,
            limit: u32::MAX,
            callers_carry_out: false,
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
            state: Apart(Lock::new(State::new(backlog))),
        }
    }

    /// The address of the program's view of the ring.
    pub fn handle(&self) -> usize {
        self.ring.view()
    }

    /// The descriptors that the context holds, for a forked child to close; -1 for none.
    pub fn fds(&self) -> [RawFd; 2] {
        [
            self.ring.ring2().map_or(-1, |ring| ring.mem().fd()),
            self.notifier.as_ref().map_or(-1, Notifier::fd),
        ]
    }

    pub fn open_ring(&self) -> Result<OwnedFd> {
        self.ring
            .ring2()
            .ok_or(Errno::EINVAL)?
            .mem()
            .open_read_only()
    }

    /// Does what was left for after the lock; it is of no use any more then. By reference, as requests and
    /// batches are: what was just written byte by byte is slow to be copied in wider pieces. (A no-op there
    /// and back: 158 ns, 129 without such copies.)
    fn run_deferred(&self, deferred: &mut Deferred) {
        deferred.wakes.wake();
        if deferred.published
            && let Some(notifier) = &self.notifier
        {
            notifier.signal();
        }
        #[cfg(not(loom))]
        libaio::eventfd::tell(&deferred.tells);
        if deferred.ended {
            futex_wake(&self.ended, i32::MAX);
        }
        if deferred.queued && deferred.wakeups.is_empty() && self.pool.short_of_threads() {
            self.pool.retry();
        }
        deferred.wakeups.perform(self.pool);
    }

    /// The same for who submits. If a worker that is woken for it may never get this thread's processor,
    /// it carries out what it has submitted.
    fn run_deferred_of_submit(this: &ContextRef, deferred: &mut Deferred) {
        #[cfg(not(loom))]
        let is_before = {
            let looks = !deferred.wakeups.is_empty() || rank::is_urgent();
            let standing = if looks { rank::look() } else { Standing::Equal };
            move || match standing {
                Standing::Equal => false,
                Standing::Behind => rank::is_refused(),
                Standing::Before => true,
            }
        };
        this.run_deferred(deferred);
        #[cfg(not(loom))]
        if is_before() {
            while Context::carry_out_here(this, syscall::is_ready) {}
        }
    }

    // ---- Submitting ----

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
        batch.expected.submitted_ns = clock.if_read();
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

    // ---- Carrying out ----

    /// Whether as many of the class run as another context can bear.
    fn has_its_share(&self, state: &State, class: Class) -> bool {
        class == Class::Short
            && state.still < STILL_LONG
            && state.running.short() >= self.profiles.share()
    }

    /// Tells the pool, unless it knows, that there is something for one more worker to do; unless it
    /// is left to a caller that comes soon.
    fn enqueue(this: &ContextRef, state: &mut State, class: Class, deferred: &mut Deferred) {
        if class == Class::Long || !Context::leave_to_returning_reaper(this, state, deferred) {
            Context::enqueue_for_worker(this, state, class, deferred);
        }
    }

    fn enqueue_for_worker(
        this: &ContextRef,
        state: &mut State,
        class: Class,
        deferred: &mut Deferred,
    ) {
        let index = class as usize;
        if state.enqueued[index]
            || state.queues[index].is_empty()
            || state.running.len() >= this.limit
            || Context::leave_to_worker(this, state, class, deferred)
        {
            return;
        }
        // Should what runs not come to an end, the monitor has others begin beside it.
        if this.has_its_share(state, class) && Context::lease(this, state, deferred) {
            return;
        }
        state.enqueued[index] = true;
        deferred.wakeups.add(this.pool.enqueue(this.clone(), class));
    }

    /// Queues requests that may begin.
    fn release(this: &ContextRef, state: &mut State, mut go: List, deferred: &mut Deferred) {
        if go.is_empty() {
            return;
        }
        state.enqueue_by_class(&mut go);
        Context::enqueue(this, state, Class::Short, deferred);
        Context::enqueue(this, state, Class::Long, deferred);
    }

    /// How many workers serve it. Called under the pool's lock.
    pub fn workers(&self, class: Class) -> u32 {
        // Relaxed, here and below: the lock orders it.
        self.workers[class as usize].load(Relaxed)
    }

    /// One more serves it, or one less. Called under the pool's lock.
    pub fn count_worker(&self, class: Class, more: bool) {
        let now = self.workers(class);
        let now = if more { now + 1 } else { now - 1 };
        self.workers[class as usize].store(now, Relaxed);
    }

    /// Whether its caller has been seen to carry its requests out itself.
    pub fn serves_itself(&self) -> bool {
        self.serves_itself.load(Relaxed)
    }

    fn set_prompt(&self, state: &mut State, prompt: u32) {
        state.prompt = prompt.min(PROMPT_IN_A_ROW);
        self.serves_itself
            .store(state.prompt == PROMPT_IN_A_ROW, Relaxed);
    }

    /// Leaves what was queued to the caller, if it is of the kind that it can do, and the caller
    /// one who does; the monitor sees to it that nothing stays. False: a worker is wanted.
    fn leave_to_caller(
        this: &ContextRef,
        state: &mut State,
        batch: &Expected,
        deferred: &mut Deferred,
    ) -> bool {
        if !this.callers_carry_out {
            return false;
        }
        let lone = batch.all_bounded && state.in_flight == 1 && !state.kernel.in_time;
        if !batch.all_fast && !lone {
            this.set_prompt(state, 0);
            return false;
        }
        state.submitted_ns = match batch.submitted_ns {
            None if this.serves_itself() && state.taken % LOOK != 0 => SOON,
            when => when.unwrap_or_else(monotonic_ns),
        };
        state.submitter = carrier::thread();
        // With those that are queued already, as if they were like these.
        let ns = batch.ns / batch.len.max(1) * u64::from(state.waiting());
        // Who sleeps does not come.
        this.serves_itself()
            && state.backlog.waiters.is_empty()
            && (lone || batch.all_serial || ns <= WORTH_NS)
            && Context::lease(this, state, deferred)
    }

    /// Has the pool's monitor look after the context; false if there is none.
    fn lease(this: &ContextRef, state: &mut State, deferred: &mut Deferred) -> bool {
        if !state.leased
            && let Some(wakeup) = this.pool.lease(this.clone())
        {
            state.leased = true;
            deferred.wakeups.add(wakeup);
        }
        state.leased
    }

    /// What the monitor does for a leased context: should its requests not have moved since the
    /// last time, the caller is doing something else, and workers are needed. Returns whether it
    /// stays leased.
    pub fn tick(this: &ContextRef, look: Look) -> bool {
        let has_reaper = Context::tick_kernel(this, look);
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let moved = state.taken != state.taken_before;
        state.taken_before = state.taken;
        let keeps_moving = moved && look == Look::Again && state.closed.is_none();
        let stays = keeps_moving || look == Look::Again && state.has_in_kernel();
        state.leased = stays;
        if !keeps_moving && !state.short().is_empty() {
            state.still = match look {
                Look::Again => state.still.saturating_add(1),
                Look::Alone => STILL_LONG,
            };
            if state.is_stuck() {
                this.set_prompt(&mut state, 0);
                state.kernel.stay_behind();
                state.submits.polled = 0;
                Context::enqueue(this, &mut state, Class::Short, &mut deferred);
            }
        }
        drop(state);
        this.run_deferred(&mut deferred);
        if look == Look::Alone && !has_reaper {
            Context::drain_kernel(this);
        }
        stays
    }

    /// Takes the first request out of a queue, if it is `wanted`, to be carried out and then
    /// completed by whoever calls.
    fn take_if(
        &self,
        state: &mut State,
        class: Class,
        wanted: impl FnOnce(&Req) -> bool,
    ) -> Option<Req> {
        if state.running.len() >= self.limit || self.has_its_share(state, class) {
            return None;
        }
        let req = state.queues[class as usize].pop_if(wanted)?;
        state.taken += 1;
        state.running.enter(&req);
        Some(req)
    }

    /// Takes fast requests, as many as there is room for and not more than `most`, as long as they
    /// are `wanted` and for the same file as this call.
    fn dequeue_more<const N: usize>(
        &self,
        state: &mut State,
        first: &Call,
        taken: &mut ArrayVec<Req, N>,
        most: u32,
        wanted: impl Fn(&Req) -> bool,
    ) {
        let fd = first.args[0];
        for _ in 0..most.min(taken.remaining_capacity() as u32) {
            let like = |req: &Req| req.call().args[0] == fd && wanted(req);
            let Some(req) = self.take_if(state, Class::Short, like) else {
                return;
            };
            taken.push(req);
        }
    }

    /// Takes a request for a worker: not one that would only be in the way of another that runs, or
    /// of a caller's; then the monitor sees to it that nothing stays.
    fn take_for_worker(
        this: &ContextRef,
        state: &mut State,
        worker: &Worker,
        deferred: &mut Deferred,
    ) -> Option<Req> {
        if worker.class() == Class::Long {
            let req = this.take_if(state, Class::Long, |_| true)?;
            req.set_worker(worker.slot());
            return Some(req);
        }
        if Context::leave_to_worker(this, state, Class::Short, deferred)
            || Context::leave_to_returning_reaper(this, state, deferred)
        {
            return None;
        }
        // A caller that is asleep does not come.
        let comes = this.serves_itself() && state.backlog.waiters.is_empty();
        let others = state.running.transfers() != 0 || comes;
        if others
            && !state.is_stuck()
            && state.short().first_is(|call| this.profiles.is_serial(call))
            && Context::lease(this, state, deferred)
        {
            return None;
        }
        this.take_if(state, Class::Short, |_| true)
    }

    /// Puts a request that was taken back to where it was, for a worker.
    fn put_back(this: &ContextRef, req: Req, current: &Cell<usize>) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        current.set(0);
        this.set_prompt(&mut state, 0);
        state.requeue(req);
        Context::enqueue(this, &mut state, Class::Short, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Carries requests out, in a worker to which the pool gave this context, until there is
    /// nothing more to do for it or the worker is wanted elsewhere.
    pub fn serve(this: &ContextRef, worker: &mut Worker) {
        let class = worker.class();
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        state.enqueued[class as usize] = false;
        let mut next = Context::take_for_worker(this, &mut state, worker, &mut deferred);
        loop {
            if class == Class::Short
                && let Some(req) = next.take_if(|req| this.is_for_kernel(&mut state, req))
            {
                (state, deferred) = Context::hand_over(this, state, deferred, worker, req);
                next = Context::take_next(this, &mut state, worker, &mut deferred);
                continue;
            }
            #[cfg(not(loom))]
            if class == Class::Short
                && let Some(req) = next.take_if(|req| this.is_for_read_ahead(&state, req))
            {
                (state, deferred) = Context::read_ahead(this, state, deferred, worker, req);
                next = Context::take_next(this, &mut state, worker, &mut deferred);
                continue;
            }
            let Some(req) = next else {
                drop(state);
                return this.run_deferred(&mut deferred);
            };
            let mut batch = ArrayVec::<Req, BATCH_MAX>::new();
            batch.push(req);
            this.dequeue_batch(&mut state, &mut batch);
            let sole_in_flight = state.running.transfers() as usize == batch.len();
            Context::enqueue(this, &mut state, class, &mut deferred);
            drop(state);
            this.run_deferred(&mut deferred);
            deferred = Deferred::new();
            let mut done = 0;
            while done < batch.len() && (done == 0 || !worker.is_suspicious()) {
                let req = &mut batch[done];
                match class {
                    Class::Short => worker.carry_out(&this.profiles, req, sole_in_flight),
                    Class::Long => worker.carry_out_long(req),
                }
                deferred.note_ended(req);
                done += 1;
            }
            this.let_unwind();
            state = this.state.lock();
            while batch.len() > done {
                // The one before took long: others may be sooner with these.
                if let Some(req) = batch.pop() {
                    state.requeue(req);
                }
            }
            for req in batch {
                Context::complete(this, &mut state, req, &mut deferred);
            }
            if worker.was_interrupted() {
                drop(state);
                worker.take_interrupt();
                state = this.state.lock();
            }
            // With a limit, one of the other class may have waited for this one.
            Context::enqueue(this, &mut state, class.other(), &mut deferred);
            next = Context::take_next(this, &mut state, worker, &mut deferred);
        }
    }

    /// What was carried out is published after this.
    fn let_unwind(&self) {
        #[cfg(not(loom))]
        match self.pause_ns.load(Relaxed) {
            0 => {}
            pause_ns => std::thread::sleep(Duration::from_nanos(pause_ns)),
        }
    }

    /// Takes more requests for a worker that has one which is known to be fast: as many as it may
    /// carry out before it takes the lock again.
    fn dequeue_batch(&self, state: &mut State, batch: &mut ArrayVec<Req, BATCH_MAX>) {
        let fast = |req: &Req| {
            let joins = req.bound().only_observe();
            joins.then(|| self.fast(req)).flatten()
        };
        // Nobody sleeps who might want the event of the first.
        if !state.backlog.waiters.is_empty() {
            return;
        }
        let Some(Fast { ns, .. }) = fast(&batch[0]) else {
            return;
        };
        // Half are left to others.
        let most = (state.waiting() / 2).min((BATCH_NS / ns.max(1)).saturating_sub(1));
        let first = *batch[0].call();
        self.dequeue_more(state, &first, batch, most, |req| fast(req).is_some());
    }

    /// Takes another request for a worker, unless that is wanted elsewhere.
    fn take_next(
        this: &ContextRef,
        state: &mut State,
        worker: &Worker,
        deferred: &mut Deferred,
    ) -> Option<Req> {
        if worker.more() {
            Context::take_for_worker(this, state, worker, deferred)
        } else {
            Context::enqueue(this, state, worker.class(), deferred);
            None
        }
    }

    /// Publishes the event of a request that was taken.
    fn complete(this: &ContextRef, state: &mut State, req: Req, deferred: &mut Deferred) {
        state.running.leave(&req);
        state.still = 0;
        Context::publish(this, state, req, deferred);
    }

    /// Publishes the event of a request that is on no list any more, and those of what has to be
    /// cancelled with it.
    fn publish(this: &ContextRef, state: &mut State, req: Req, deferred: &mut Deferred) {
        let mut go = List::new();
        let mut next = Some(req);
        let had_prompt = state.at_once != 0;
        while let Some(mut req) = next {
            state.routes.count(req.route());
            attr::route::answer(&mut req);
            state.in_flight -= 1;
            state.at_once -= u32::from(req.at_once());
            next = state.order.ended(&req, &mut go);
            this.ring.publish(
                &mut state.backlog,
                req,
                &mut state.slabs,
                &mut deferred.wakes,
            );
            if let Some(req) = &mut next {
                exec::cancel(req);
            }
        }
        if had_prompt && state.at_once == 0 {
            let State { backlog, .. } = state;
            backlog.waiters.take_only_for_prompt(&mut deferred.wakes);
        }
        deferred.published = true;
        this.note_end(state, deferred);
        Context::release(this, state, go, deferred);
    }

    /// How its requests were carried out so far. None: the lock cannot be had in that time.
    #[cfg(not(loom))]
    pub fn routes(&self, patience_ns: u64) -> Option<Routes> {
        Some(self.state.try_lock_for(patience_ns)?.routes)
    }

    /// Tells those who wait for a request to end.
    fn note_end(&self, state: &State, deferred: &mut Deferred) {
        if state.waiting_for_end != 0 {
            // Relaxed: the lock orders it. They read it under the lock before they sleep.
            self.ended.fetch_add(1, Relaxed);
            deferred.ended = true;
        }
    }

    /// Waits until `over`, which is asked under the lock whenever a request has ended. False: none has
    /// for so long.
    fn wait_for_end(&self, patience_ns: u64, mut over: impl FnMut(&mut State) -> bool) -> bool {
        let mut state = self.state.lock();
        state.waiting_for_end += 1;
        let mut is_over = over(&mut state);
        let mut in_time = true;
        while !is_over && in_time {
            let seen = self.ended.load(Relaxed);
            drop(state);
            let until = match patience_ns {
                NEVER => NEVER,
                ns => monotonic_ns() + ns,
            };
            let waited = carrier::outside(|| futex_wait(&self.ended, seen, until));
            #[cfg(not(loom))]
            progress::made();
            state = self.state.lock();
            is_over = over(&mut state);
            in_time = waited != Waited::TimedOut;
        }
        state.waiting_for_end -= 1;
        is_over
    }

    /// Publishes the event of one request that was taken, and does what is then to be done.
    fn end(this: &ContextRef, req: Req) {
        Context::end_by(this, req, Context::complete);
    }

    fn end_by(
        this: &ContextRef,
        mut req: Req,
        publish: impl FnOnce(&ContextRef, &mut State, Req, &mut Deferred),
    ) {
        let mut deferred = Deferred::new();
        deferred.note_ended(&mut req);
        let mut state = this.state.lock();
        publish(this, &mut state, req, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// Carries one queued request that `wanted` says yes to out in this thread, whatever the limit
    /// of workers. False if there is none.
    fn carry_out_here(this: &ContextRef, mut wanted: impl FnMut(&Call) -> bool) -> bool {
        if !this.can_carry_out_here() {
            return false;
        }
        Context::carry_out_one(this, |state| {
            state.take_queued(|_, call| wanted(&exec::here(call)))
        })
    }

    /// Carries out one queued request, which `take` takes out of its queue.
    fn carry_out_one(this: &ContextRef, take: impl FnOnce(&mut State) -> Option<Req>) -> bool {
        let mut state = this.state.lock();
        let Some(mut req) = take(&mut state) else {
            return false;
        };
        state.taken += 1;
        state.running.enter(&req);
        drop(state);
        req.set_route(Route::InlineStandIn);
        shielded(|| exec::execute(&mut req, None));
        Context::end(this, req);
        #[cfg(not(loom))]
        progress::made();
        true
    }

    /// How large a request without attributes is.
    fn usual_size(&self) -> Size {
        #[cfg(not(loom))]
        if self.is_legacy() {
            return Size::Extended;
        }
        Size::Small
    }

    /// Whether the files of its requests are in the calling thread's descriptor table.
    fn can_carry_out_here(&self) -> bool {
        #[cfg(not(loom))]
        if libaio::table::is_inside() {
            return true;
        }
        self.callers_carry_out
    }

    /// Carries out all queued requests of a class that do not wait for somebody else, in place of
    /// a worker that cannot be started; the context was taken out of the run queue for it. False: there were
    /// none.
    pub fn stand_in(this: &ContextRef, class: Class) -> bool {
        #[cfg(not(loom))]
        if !this.can_carry_out_here() {
            return Context::stand_in_inside(this, class);
        }
        let index = class as usize;
        let mut any = false;
        this.state.lock().enqueued[index] = false;
        let take = |state: &mut State| {
            state.queues[index].remove_first(|_, call| syscall::is_ready(&exec::here(call)))
        };
        while Context::carry_out_one(this, take) {
            any = true;
        }
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        // What is left stays in the run queue: whoever comes next tries again.
        if !state.enqueued[index] && !state.queues[index].is_empty() {
            state.enqueued[index] = true;
            this.pool.requeue(this.clone(), class);
        }
        // With a limit, one of the other class may have waited for these.
        Context::enqueue(this, &mut state, class.other(), &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        any
    }

    /// What is to be expected of a request that a caller can carry out as well as a worker.
    fn fast(&self, req: &Req) -> Option<Fast> {
        self.profiles.fast(req.call())
    }

    /// Whether who submits a read may try it: it is known to be fast, or can be tried without waiting, and is not known to
    /// be in vain.
    #[cfg(not(loom))]
    fn may_read_here(&self, call: &Call) -> bool {
        let profiles = &self.profiles;
        profiles.fast(call).is_some()
            || profiles.may_be_cached(call) && !profiles.is_device_bound_buffered(call)
    }

    /// Whether a request is one that a caller can carry out who waits for nothing else.
    fn is_bounded(&self, req: &Req) -> bool {
        self.profiles.is_bounded(req.call())
    }

    /// Wakes all who wait: they look again.
    pub fn wake_waiters(&self) {
        let mut deferred = Deferred::new();
        self.state
            .lock()
            .backlog
            .waiters
            .take_all(&mut deferred.wakes);
        self.run_deferred(&mut deferred);
    }

    // ---- Cancelling, ending ----

    /// Takes a queued request with that `data` out; or interrupts one that runs, if it can be.
    pub fn cancel(this: &ContextRef, data: u64) -> Result<()> {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        let mut go = List::new();
        let mut req = state.take_queued(|queued, _| queued == data);
        if req.is_none()
            && let Some(held) = state.order.held.search(|held, _| held == data)
        {
            req = Some(state.order.take(held, &mut go));
        }
        let Some(mut req) = req else {
            return this.interrupt(&state, data);
        };
        exec::cancel(&mut req);
        Context::publish(this, &mut state, req, &mut deferred);
        Context::release(this, &mut state, go, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        Ok(())
    }

    /// Interrupts a running request with that `data`.
    fn interrupt(&self, state: &State, data: u64) -> Result<()> {
        let mut result = Err(Errno::ENOENT);
        for carried in state.running.iter().filter(|carried| carried.data == data) {
            match carried.worker() {
                Some(worker) if self.pool.interrupt(worker) => return Ok(()),
                _ => result = Err(Errno::EALREADY),
            }
        }
        result
    }

    /// Interrupts all that runs and can be interrupted.
    fn interrupt_all(&self, state: &State) {
        for worker in state.running.iter().filter_map(|carried| carried.worker()) {
            self.pool.interrupt(worker);
        }
    }

    /// Cancels what is queued, wakes those who wait, and waits for what runs. Nobody can find the
    /// context any more; those who had found it before may still be inside.
    pub fn close(this: &ContextRef) {
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        state.closed = Some(Closed::Destroyed);
        // What io_submit() has accepted is carried out, as with the kernel.
        if this.ring.ring2().is_some() {
            while let Some(mut req) = state.take_any() {
                exec::cancel(&mut req);
                Context::publish(this, &mut state, req, &mut deferred);
            }
            this.interrupt_all(&state);
        }
        state.backlog.waiters.take_all(&mut deferred.wakes);
        drop(state);
        this.run_deferred(&mut deferred);
        if this.ring.ring2().is_some() {
            Context::wait_until_idle(this);
        }
    }

    /// Waits until nothing is in flight. If there are no threads to see to that, this one does.
    pub fn wait_until_idle(this: &ContextRef) {
        while this.pool.short_of_threads() && Context::carry_out_here(this, |_| true) {}
        Context::drain_kernel(this);
        // Perhaps no signal could be sent to one of them, so far.
        let patience_ns = match this.ring.ring2() {
            Some(_) if !cfg!(loom) => INTERRUPT_AGAIN_NS,
            _ => NEVER,
        };
        while !this.wait_for_end(patience_ns, |state| state.in_flight == 0) {
            this.interrupt_all(&this.state.lock());
        }
    }
}

/// Reads through the page cache that wait for a device.
#[cfg(not(loom))]
impl Context {
    /// Whether such a read is likely to wait, and its device can be told of it.
    fn is_worth_telling(&self, call: &Call) -> bool {
        syscall::can_be_told_of(call) && self.profiles.is_device_bound_buffered(call)
    }

    /// Whether there are more reads like this one, which was taken.
    fn is_for_read_ahead(&self, state: &State, req: &Req) -> bool {
        let worth_it = |call: &Call| self.is_worth_telling(call);
        req.bound().need_nothing()
            && worth_it(req.call())
            && state.queues[Class::Short as usize].first_is(worth_it)
    }

    /// Carries out several: the device is told of all of them before the first is waited for. So it
    /// has as much to do with fewer threads, and when the first is done, the others often are.
    fn read_ahead<'a>(
        this: &'a ContextRef,
        mut state: Guard<'a, State>,
        mut deferred: Deferred,
        worker: &mut Worker,
        first: Req,
    ) -> (Guard<'a, State>, Deferred) {
        let mut rest = ArrayVec::<Req, READS>::new();
        // Half are left to others.
        let most = state.waiting() / 2;
        this.dequeue_more(&mut state, first.call(), &mut rest, most, |req| {
            req.bound().need_nothing() && this.is_worth_telling(req.call())
        });
        Context::enqueue(this, &mut state, Class::Short, &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        for req in &rest {
            exec::read_ahead(req);
        }
        let mut rest = rest.into_iter();
        let mut req = first;
        worker.carry_out(&this.profiles, &mut req, false);
        loop {
            let mut deferred = Deferred::new();
            deferred.note_ended(&mut req);
            let mut state = this.state.lock();
            Context::complete(this, &mut state, req, &mut deferred);
            req = match rest.next() {
                Some(next) => next,
                None => return (state, deferred),
            };
            drop(state);
            this.run_deferred(&mut deferred);
            worker.carry_out_prepared(&mut req);
        }
    }
}

/// What only contexts of io_setup() need.
#[cfg(not(loom))]
impl Context {
    /// A context of the old kind, for `max_events` requests and more.
    pub fn new_legacy(max_events: u32, id: u64, engines: Engines) -> Result<Context> {
        let events = legacy::events_for(max_events)?;
        let ring = Events::Legacy(LegacyRing::new(events, id as u32)?);
        let new = Context::unlimited(ring, Backlog::new(0), engines);
        new.state.lock().order.claims.mark_with(Marks::new());
        Ok(new)
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    pub fn legacy_ring(&self) -> Result<&LegacyRing> {
        self.ring.legacy().ok_or(Errno::EINVAL)
    }

    /// Publishes requests that were carried out by whoever has submitted them.
    fn publish_all(this: &ContextRef, done: &mut ArrayVec<Req, BATCH_MAX>) {
        if done.is_empty() {
            return;
        }
        let mut deferred = Deferred::new();
        for req in done.iter_mut() {
            deferred.note_ended(req);
        }
        let mut state = this.state.lock();
        for req in done.drain(..) {
            Context::publish(this, &mut state, req, &mut deferred);
        }
        drop(state);
        this.run_deferred(&mut deferred);
    }

    /// The same by the keeper of the library's own descriptor table, where the files are.
    fn stand_in_inside(this: &ContextRef, class: Class) -> bool {
        struct Given<'a>(&'a ContextRef, Class);
        fn job(given: usize) -> Result<i64> {
            // SAFETY: what is given below, by one who waits for this.
            let Given(context, class) = unsafe { &*(given as *const Given) };
            Ok(Context::stand_in(context, *class).into())
        }
        let given = Given(this, class);
        let at = std::ptr::from_ref(&given) as usize;
        // It fails if there is no keeper, and so nothing that is held.
        libaio::table::run(job, at) == Ok(1)
    }

    /// Waits until nothing that is under way has to come before a request.
    fn wait_to_begin(&self, req: &Req) {
        self.wait_for_end(NEVER, |state| state.order.claims.begin(req));
    }

    /// Publishes a request that was in flight but not running here.
    pub fn complete_elsewhere(this: &ContextRef, req: Req) {
        Context::end_by(this, req, Context::publish);
    }
}
