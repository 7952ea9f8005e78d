//! A submit under way.

use super::engines::{Pool, WorkerPin};
use super::{BATCH_MAX, Context, Deferred, State, Submits};
use crate::engine::exec;
use crate::policy::decide::{self, Submit, Within};
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::profiles::Now;
use crate::queue::ContextRef;
use crate::request::{Chunk, FreeList, FreeSlot, List, Req, SizeClass, Stage};
use crate::sync::Relaxed;
use crate::sys::rank::{self, Standing};
use crate::sys::{Result, has_call_filter, unharmed};
use crate::syscall::Class;
use arrayvec::ArrayVec;
use std::cell::OnceCell;

/// A submit under way: it reads the caller's records and builds requests without the lock.
pub struct Batch<'a> {
    context: &'a ContextRef,
    /// Free slots for small requests, taken when the submit began.
    small: FreeList,
    /// Number of requests for which there was room when the submit began.
    room: usize,
    requests: List,
    /// Requests of this submit that have begun: no earlier request has to end first.
    begun: List,
    len: usize,
    expected: Submit,
    /// The time of the submit, if a request asks for it.
    pub(super) submitted_ns: Option<u64>,
    /// Number of requests that the kernel would complete within io_submit().
    at_once: u32,
    /// Number of requests that the submitter may carry out.
    for_submitter: usize,
    /// Number of requests with an eventfd.
    with_eventfd: usize,
    /// Neither the pool nor the submitter carries out some of the requests.
    elsewhere: bool,
}

impl<'a> Batch<'a> {
    #[inline(always)]
    pub(super) fn begin(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        Batch::begin_with(context, wanted, |_, room| room)
    }

    /// `claim` gets the room there is, and returns the part that this submit gets.
    #[inline(always)]
    fn begin_with(
        context: &'a ContextRef,
        wanted: usize,
        claim: impl FnOnce(&mut State, usize) -> usize,
    ) -> Result<Batch<'a>> {
        let mut state = context.state.lock();
        state.check_open()?;
        let room = context.room(&state);
        let room = claim(&mut state, room);
        let size = context.behaviour.usual_size;
        let mut small = FreeList::new(size);
        small.move_from(&mut state.slabs.of(size).free, wanted.min(room));
        Ok(Batch {
            context,
            small,
            room,
            requests: List::new(),
            begun: List::new(),
            len: 0,
            expected: Submit::NOTHING,
            submitted_ns: None,
            at_once: 0,
            for_submitter: 0,
            with_eventfd: 0,
            elsewhere: false,
        })
    }

    /// A free slot for one more request; None if there is no room, or no memory.
    pub fn slot(&mut self, class: SizeClass) -> Option<FreeSlot> {
        if self.len == self.room {
            return None;
        }
        if class == self.context.behaviour.usual_size
            && let Some(slot) = self.small.pop()
        {
            return Some(slot);
        }
        loop {
            let mut state = self.context.state.lock();
            let slab = state.slabs.of(class);
            if let Some(slot) = slab.free.pop() {
                return Some(slot);
            }
            // Not under the lock, because the allocator may make system calls.
            let slots = slab.growth(1);
            drop(state);
            let chunk = Chunk::new(class, slots)?;
            self.context.state.lock().slabs.of(class).add(chunk);
        }
    }

    /// Adds a request that will be queued.
    pub(super) fn push(&mut self, req: Req) {
        self.expected.add(self.context.outlook(&req), tuning());
        req.set_stage(Stage::Accepted);
        self.requests.push(req);
        self.len += 1;
    }

    /// Gives the unused slots back.
    fn give_back(&mut self, state: &mut State) {
        let unused = self.small.len();
        let free = &mut state.slabs.of(self.context.behaviour.usual_size).free;
        free.move_from(&mut self.small, unused);
    }

    /// Queues the requests. If the submitter must then hand them over to the kernel, returns the route.
    fn hand_over(&mut self, state: &mut State, deferred: &mut Deferred) -> Option<Route> {
        deferred.queued = true;
        let route = self
            .context
            .at_submit(state, &self.expected, self.submitted_ns);
        self.let_begin(state);
        let is_left = match route {
            Some(Route::InlineWaiting) => Context::lease(self.context, state, deferred),
            route => route.is_some(),
        };
        if !is_left {
            Context::enqueue(self.context, state, Class::Finite, deferred);
        }
        Context::enqueue(self.context, state, Class::Indefinite, deferred);
        route.filter(|route| matches!(route, Route::KernelSubmit | Route::UringSubmit))
    }

    /// Queues the requests that may begin. The others wait for them, or for earlier requests.
    fn let_begin(&mut self, state: &mut State) {
        let mut runnable = List::new();
        state.order.admit(&mut self.requests, &mut runnable);
        state.enqueue_by_class(&mut runnable);
    }

    /// Queues the requests for which there is still room, and gives unused slots back. Returns the bytes of the records that were
    /// not accepted.
    pub(super) fn enqueue(&mut self) -> Result<usize> {
        let mut deferred = Deferred::new();
        let mut rejected = 0;
        let mut for_kernel = None;
        let mut state = self.context.state.lock();
        self.give_back(&mut state);
        let open = state.check_open();
        let room = if open.is_ok() {
            self.context.room(&state)
        } else {
            0
        };
        while self.len > room {
            let Some(req) = self.requests.pop_last() else {
                break;
            };
            rejected += req.record_bytes();
            state.slabs.free(req);
            self.len -= 1;
        }
        if self.len != 0 {
            state.in_flight += self.len as u32;
            state.kernel.returning.submits(self.len as u32);
            self.context
                .ring
                .accepted(&mut state.backlog, self.len as u64);
            for_kernel = self.hand_over(&mut state, &mut deferred);
        }
        drop(state);
        Context::run_deferred_of_submit(self.context, &mut deferred);
        match for_kernel {
            Some(Route::UringSubmit) => Context::hand_over_to_ring(self.context),
            Some(_) => Context::hand_over_submitted(self.context),
            None => {}
        }
        open.map(|()| rejected)
    }
}

/// Ensures that there are workers, until the submit that leaves requests to them is over.
struct Workers {
    pool: &'static Pool,
    pins: [Option<WorkerPin>; 2],
}

impl Workers {
    fn new(pool: &'static Pool) -> Workers {
        Workers {
            pool,
            pins: [None, None],
        }
    }

    /// Whether there is a worker for requests of this class.
    fn has(&mut self, class: Class) -> bool {
        let pin = &mut self.pins[class as usize];
        if pin.is_none() {
            *pin = self.pool.ensure_worker(class);
        }
        pin.is_some()
    }
}

/// Holds the files of requests, so that threads other than the submitter can carry them out.
pub trait HoldFiles {
    /// Holds the request's file, so that other threads can carry the request out after its submit. If this fails, only the
    /// caller can carry it out, and must do so now.
    fn hold_for(&mut self, req: &mut Req) -> Result<()>;
    /// From here on the requests alone hold their files. Must be called before a request can end.
    fn release(&mut self);
}

/// A submit that reserves its room in flight when it begins, because some of its requests may complete before it ends.
/// Requests that other threads carry out must hold their files.
impl<'a> Batch<'a> {
    pub fn reserve_up_to(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        Batch::begin_with(context, wanted, |state, room| {
            let room = room.min(wanted);
            state.in_flight += room as u32;
            room
        })
    }

    pub fn is_full(&self) -> bool {
        self.len == self.room
    }

    /// Whether a request that may wait for ever can be left to a worker.
    pub fn has_indefinite_worker(&self) -> bool {
        Workers::new(self.context.pool).has(Class::Indefinite)
    }

    /// Adds a request for the pool.
    pub fn queue(&mut self, req: Req) {
        self.at_once += u32::from(req.at_once());
        self.for_submitter += usize::from(req.is_for_submitter());
        self.with_eventfd += usize::from(req.has_eventfd());
        self.push(req);
    }

    /// Counts a request that neither the pool nor the submitter completes.
    pub fn count(&mut self) {
        self.len += 1;
        self.elsewhere = true;
    }

    /// Carries out the requests that are not left to other threads, queues the rest, and gives unused slots and room back. The
    /// submit is not over yet, so the program's descriptors still name the same files.
    pub fn enqueue_reserved(&mut self, holder: &mut impl HoldFiles) {
        let mut deferred = Deferred::new();
        let mut state = self.context.state.lock();
        self.give_back(&mut state);
        state.in_flight -= (self.room - self.len) as u32;
        state.at_once += self.at_once;
        state.kernel.returning.submits(self.len as u32);
        self.note_submit(&mut state.submits);
        let route = self.within_submit(&mut state);
        if let Some(route) = route {
            self.select_for(&mut state, route);
        }
        self.context.note_end(&state, &mut deferred);
        drop(state);
        self.context.run_deferred(&mut deferred);
        match route {
            Some(Route::InlineSubmit) => self.carry_out_begun(),
            Some(_) => Context::hand_over_in_submit(self.context, holder, &mut self.begun),
            None => {}
        }
        self.leave_to_others(holder);
    }

    /// The route of the first requests, if the caller carries them out or hands them over now.
    fn within_submit(&self, state: &mut State) -> Option<Route> {
        let context = self.context;
        let submit = Within {
            has_inline: self.for_submitter != 0,
            is_nested: state.submits.nesting.pause_ns(tuning()) != 0,
            is_polling: state.submits.are_polling(),
            lacks_threads: context.pool.lacks_threads(),
            is_sample: context.profiles.wants_sample(),
        };
        let (facts, own) = (context.queue_facts(state), context.own_queue_facts(state));
        // Asked again, because some time has passed since this request was built.
        let first = context.first(&self.requests);
        let answer = decide::within_submit(&first, &submit, &facts, &own, tuning());
        if answer.counts {
            state.kernel.pause_passes();
        }
        answer.route
    }

    /// Takes the first requests that can take this route. No request under way may have to end before them.
    fn select_for(&mut self, state: &mut State, route: Route) {
        let context = self.context;
        let mut is_wanted = |req: &Req| {
            let wanted = if route == Route::InlineSubmit {
                req.is_for_submitter() && context.outlook(req).may_run_at_submit(tuning())
            } else {
                context.is_for_own_queue(req)
            };
            wanted && state.order.claims.begin(req)
        };
        while let Some(req) = self.requests.pop_if(&mut is_wanted) {
            self.begun.push(req);
        }
    }

    /// Carries out requests when the submit begins. Those that take longer are left to workers.
    fn carry_out_begun(&mut self) {
        let context = self.context;
        let profiles = &context.profiles;
        let filtered = OnceCell::new();
        let filtered = || *filtered.get_or_init(has_call_filter);
        let one = self.len == 1;
        let mut now = Now::read();
        let until = now.ns + tuning().at_submit_ns;
        let mut done = ArrayVec::<Req, BATCH_MAX>::new();
        while now.ns < until
            && let Some(mut req) = self.begun.pop()
        {
            req.set_route(Route::InlineSubmit);
            // A system call filter may not know the call that does not wait.
            let outlook = context.outlook(&req);
            let is_done = if outlook.may_be_cached() && !filtered() {
                // The profile learns nothing: a read that misses the page cache here does not show how long a read takes that waits.
                exec::execute_if_cached(&mut req, None);
                now = Now::read();
                true
            } else if outlook.is_fast(tuning()) {
                // Called because it updates the profile of the file. Its result is not needed here.
                profiles.is_file(req.call(), one, &mut now);
                profiles.carry_out(&mut req, exec::execute, false, one, &mut now);
                true
            } else {
                false
            };
            if !is_done || req.res() == -i64::from(libc::EINTR) {
                req.set_stage(Stage::Accepted);
                self.begun.push_front(req);
                break;
            }
            done.push(req);
            if done.is_full() {
                Context::publish_all(context, &mut done);
            }
        }
        Context::publish_all(context, &mut done);
    }

    /// Queues the requests, and each holds its file. If no other thread can carry a request out, this thread does it, as the
    /// kernel does, as soon as all requests that must come before it have ended.
    fn leave_to_others(&mut self, holder: &mut impl HoldFiles) {
        let begun = std::mem::replace(&mut self.begun, List::new());
        let others = std::mem::replace(&mut self.requests, List::new());
        if begun.is_empty() && others.is_empty() {
            if self.elsewhere {
                // These requests need a thread of the library, too.
                rank::look();
            }
            return;
        }
        // With a real-time policy, this thread may keep workers from its processor as long as it runs.
        let is_before = rank::look() == Standing::Before;
        let mut workers = Workers::new(self.context.pool);
        for (mut left, has_begun) in [(begun, true), (others, false)] {
            while let Some(mut req) = left.pop() {
                if req.awaits_file() {
                    match holder.hold_for(&mut req) {
                        Ok(()) => self.requests.push(req),
                        Err(_) => Context::wait_here(self.context, req),
                    }
                    continue;
                }
                let class = req.manner().class();
                let has_worker = || workers.has(class) && holder.hold_for(&mut req).is_ok();
                if decide::left_by_submit(is_before, has_worker) == Route::Thread {
                    self.requests.push(req);
                    continue;
                }
                self.enqueue_held(holder, has_begun);
                if !has_begun {
                    Context::wait_to_begin(self.context, &req);
                }
                req.set_route(Route::InlineSubmit);
                // A signal interrupts a call that waits, as in the kernel's io_submit().
                unharmed(|| exec::execute(&mut req, None));
                let mut done = ArrayVec::<Req, BATCH_MAX>::new();
                done.push(req);
                Context::publish_all(self.context, &mut done);
            }
            self.enqueue_held(holder, has_begun);
        }
    }

    fn enqueue_held(&mut self, holder: &mut impl HoldFiles, has_begun: bool) {
        if self.requests.is_empty() {
            return;
        }
        holder.release();
        let mut deferred = Deferred::new();
        let mut state = self.context.state.lock();
        if has_begun {
            state.enqueue_by_class(&mut self.requests);
        }
        self.hand_over(&mut state, &mut deferred);
        drop(state);
        self.context.run_deferred(&mut deferred);
    }

    fn note_submit(&self, submits: &mut Submits) {
        let context = self.context;
        submits.note(context.empty_polls.load(Relaxed), self.with_eventfd != 0);
        // Relaxed: hints. They are written only if they change, because other threads read in this cache line.
        let pause_ns = submits.nesting.pause_ns(tuning());
        if context.pause_ns.load(Relaxed) != pause_ns {
            context.pause_ns.store(pause_ns, Relaxed);
        }
        let polling = submits.are_polling();
        if context.polling.load(Relaxed) != polling {
            context.polling.store(polling, Relaxed);
        }
    }
}
