//! How a request is carried out.
//!
//! The answer is a [`Route`], and it is given at four moments:
//!
//! - A request is submitted: [`at_submit`], and within io_submit() [`within_submit`] and [`left_by_submit`]. Requests that these leave are
//!   queued, and [`queued`] says which thread comes for them. That is asked again whenever something may have changed.
//! - A caller waits for events: [`may_go_first`], [`for_caller`], then [`gives_back`], then [`for_reaper`]. A caller only looks:
//!   [`for_poller`].
//! - A worker looks for something to do: [`for_worker`]. If it takes a request: [`dequeued_by_worker`]; if that request may wait for
//!   somebody else, [`super::waiting`] says whether in a thread.
//! - The monitor ticks: [`at_tick`].
//!
//! docs/architecture.md has all of it as one table. Facts are plain data. If a fact needs a look at a profile or an atomic, it is passed as
//! a function, which is called only if the answer depends on it.
//!
//! No decision is wrong, whatever the facts are: they change only how long something takes. There is one exception. A caller must get no
//! request that may keep it for ever: [`Outlook`] ensures that.

#![cfg_attr(loom, allow(dead_code))]

use super::outlook::Outlook;
use super::route::Route;
use super::tuning::Tuning;
use crate::syscall::Class;

/// The requests of a submit.
#[derive(Clone, Copy, Debug)]
pub struct Submit {
    /// The first one.
    pub first: Outlook,
    pub all_fast: bool,
    /// No second thread is worth waking for these requests: see [`Outlook::is_serial`]. A no-op takes no time.
    pub all_serial: bool,
    /// There is only one, which is bounded.
    pub one_bounded: bool,
    pub len: u64,
}

impl Submit {
    pub const NOTHING: Submit = Submit {
        first: Outlook::Other,
        all_fast: true,
        all_serial: true,
        one_bounded: false,
        len: 0,
    };

    #[inline]
    pub fn add(&mut self, next: Outlook, t: &Tuning) {
        if self.len == 0 {
            self.first = next;
        }
        self.one_bounded = self.len == 0 && next.is_bounded(t);
        self.len += 1;
        self.all_fast &= next.is_fast(t);
        self.all_serial &= matches!(next, Outlook::Nop) || next.is_serial(t);
    }
}

/// A context, and the learned behaviour of its callers.
#[derive(Clone, Copy, Default, Debug)]
pub struct Queue {
    /// Accepted requests without an event, except those that wait for their files to become ready.
    pub in_flight: u32,
    /// Requests in flight that are being carried out.
    pub running: u32,
    /// Running requests that end by themselves.
    pub running_finite: u32,
    /// Running requests that may hold a file's lock for a while.
    pub transfers: u32,
    /// The most requests that may run at a time.
    pub limit: u32,
    /// The most requests that end by themselves and may run at a time, so that other contexts are not delayed.
    pub share: u32,
    /// A request that ends by itself is queued.
    pub is_queued: bool,
    /// Workers that are handing requests over to the kernel, and look again at once.
    pub handing_over: u32,
    /// Ticks in a row without any movement, although something was queued.
    pub still: u32,
    /// The first queued request is a write to the file for which a caller is now handing writes over.
    pub behind_writer: bool,
    /// Callers sleep. A caller that sleeps does not come.
    pub has_waiters: bool,
    /// It accepts requests.
    pub is_open: bool,
    /// Callers may carry requests out.
    pub callers_carry_out: bool,
    /// A caller has lately come right after each submit.
    pub is_prompt: bool,
    /// A caller has lately come back soon each time.
    pub is_returning: bool,
    /// The last caller that could have slept in the own queue has a time limit. A hand-over can take longer.
    pub is_timed: bool,
    /// The last hand-over to the own queue returned with its requests completed: a hand-over there waits.
    pub has_waited: bool,
    /// There is a ring of io_uring with room: a hand-over to it never waits.
    pub has_ring: bool,
}

impl Queue {
    /// How many requests are in flight and do not run.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.in_flight.saturating_sub(self.running)
    }

    /// Whether the running requests do not end, so that other requests must begin beside them.
    #[inline]
    pub fn is_stuck(&self, t: &Tuning) -> bool {
        self.still != 0 && (self.still >= t.still || !self.behind_writer)
    }

    /// Whether the class has its full share: more running requests would delay other contexts.
    #[inline]
    fn has_its_share(&self, class: Class, t: &Tuning) -> bool {
        class == Class::Finite && self.still < t.still && self.running_finite >= self.share
    }

    /// Whether one more request of the class may begin.
    #[inline]
    pub fn may_begin(&self, class: Class, t: &Tuning) -> bool {
        self.running < self.limit && !self.has_its_share(class, t)
    }

    /// Whether a caller will come for the requests that it can carry out.
    #[inline]
    fn expects_caller(&self) -> bool {
        self.is_prompt && !self.has_waiters
    }

    /// Whether a caller that waits hands over to the kernel, beginning with this request. One request alone is done sooner by the caller
    /// itself. A sample is a worker's, unless its hand-over would wait for it anyway.
    #[inline]
    fn is_for_returning_reaper(
        &self,
        first: &Outlook,
        sample: impl FnOnce() -> bool,
        t: &Tuning,
    ) -> bool {
        self.may_be_for_returning_reaper()
            && first.is_device_bound(t)
            && (self.has_waited && first.is_regular_write() || !sample())
    }

    #[inline]
    fn may_be_for_returning_reaper(&self) -> bool {
        self.callers_carry_out
            && self.is_returning
            && !self.is_timed
            && self.in_flight > 1
            && self.is_open
    }
}

/// A context's own kernel queue.
#[derive(Clone, Copy, Default, Debug)]
pub struct OwnQueue {
    /// Requests in flight there.
    pub in_flight: u32,
    /// It has no room for another request.
    pub is_full: bool,
    /// A thread sleeps there, or hands over, or takes completions.
    pub has_reaper: bool,
    /// That thread sleeps.
    pub is_asleep: bool,
    /// A submitter hands over there.
    pub has_submitter: bool,
    /// The number of submits that pass without a hand-over.
    pub pause: u32,
    /// A caller sleeps there because submitters hand over there.
    pub has_hint: bool,
}

impl OwnQueue {
    /// Whether a submitter may hand over beside a caller that sleeps there.
    #[inline]
    pub fn admits_submitter(&self, t: &Tuning) -> bool {
        !self.has_submitter && self.in_flight < t.submit_hint_max && self.pause == 0
    }

    /// Whether a batch may be handed over. Without threads, no monitor would look after it.
    #[inline]
    pub fn admits_batch(&self, lacks_threads: bool) -> bool {
        !self.is_full && !lacks_threads
    }

    /// Whether a caller that waits sleeps there.
    #[inline]
    pub fn has_sleeper(&self) -> bool {
        self.in_flight != 0 || self.has_hint
    }
}

/// How the queued requests are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dispatch {
    /// None: not now. A request that runs must end first.
    pub route: Option<Route>,
    /// The monitor ensures that no request stays queued. Without a monitor, a worker does.
    pub needs_lease: bool,
}

impl Dispatch {
    /// Left to a thread that is expected to come.
    const fn to(route: Route) -> Dispatch {
        Dispatch {
            route: Some(route),
            needs_lease: true,
        }
    }

    const TO_WORKER: Dispatch = Dispatch {
        route: Some(Route::Thread),
        needs_lease: false,
    };

    const fn until_one_ends(needs_lease: bool) -> Dispatch {
        Dispatch {
            route: None,
            needs_lease,
        }
    }
}

/// The answer to a submit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Submitted {
    /// [`Route::KernelSubmit`]: this thread hands the requests over; [`Route::UringSubmit`]: to the ring. [`Route::InlineSubmit`]: this
    /// thread carries them out. [`Route::InlineWaiting`]: they are left to a caller, and the monitor ensures that none stays queued;
    /// without a monitor, [`queued`] decides. None: `queued` decides.
    pub route: Option<Route>,
    /// A caller can carry out requests like these. If not, no caller counts as prompt any more.
    pub suits_caller: bool,
    /// Submitters hand requests like these over: the pause becomes shorter, and from now on a caller sleeps in the own queue.
    pub counts: bool,
}

/// Requests are submitted to a context and not yet queued.
#[inline]
pub fn at_submit(
    submit: &Submit,
    queue: &Queue,
    own: &OwnQueue,
    sample: impl Fn() -> bool,
    t: &Tuning,
) -> Submitted {
    let mut answer = Submitted::default();
    if !queue.callers_carry_out {
        return answer;
    }
    // Reads that will wait, and another thread sleeps for their events. The submitter hands them over: no worker must be woken for that,
    // and no worker wakes that thread. A write may have to wait for the file's lock or a journal before it is in flight.
    answer.counts = queue.has_waiters && submit.first.is_device_bound(t) && !submit.first.writes();
    if answer.counts
        && own.is_asleep
        && own.admits_submitter(t)
        && !queue.is_queued
        && queue.is_open
        && !sample()
    {
        answer.route = Some(Route::KernelSubmit);
        return answer;
    }
    // With the ring, no worker must be woken to hand them over. Not beside a caller that hands over in the own queue: its events would come
    // from two threads.
    if queue.has_ring
        && own.in_flight == 0
        && submit.first.is_device_bound(t)
        && queue.in_flight > 1
        && !queue.is_queued
        && (queue.has_waiters || !queue.may_be_for_returning_reaper())
        && queue.is_open
        && !sample()
    {
        answer.route = Some(Route::UringSubmit);
        return answer;
    }
    let is_sole = submit.one_bounded && queue.in_flight == 1 && !queue.is_timed;
    answer.suits_caller = submit.all_fast || is_sole;
    if answer.suits_caller && queue.expects_caller() {
        let is_left = queue.in_flight == 1 || submit.all_serial;
        answer.route = is_left.then_some(Route::InlineWaiting);
    }
    answer
}

/// A submit by io_submit(), beside its requests.
#[derive(Clone, Copy, Default, Debug)]
pub struct Within {
    /// There are requests that the submitter may carry out.
    pub has_inline: bool,
    /// The program submits while it handles events.
    pub is_nested: bool,
    /// Callers poll, and have nothing else to do.
    pub is_polling: bool,
    pub lacks_threads: bool,
    /// A worker carries out the next device-bound request itself, to see whether it still waits.
    pub is_sample: bool,
}

/// io_submit(): whether the submitter carries the first requests out itself, before the others are queued.
#[inline]
pub fn within_submit(
    first: &Outlook,
    submit: &Within,
    queue: &Queue,
    own: &OwnQueue,
    t: &Tuning,
) -> Submitted {
    let mut answer = Submitted::default();
    // As with the kernel's AIO: what does not wait has completed when io_submit() returns.
    if submit.has_inline && !submit.is_nested && first.may_run_at_submit(t) {
        answer.route = Some(Route::InlineSubmit);
        return answer;
    }
    // They will wait for a device, and a caller comes for their events and sleeps or looks in the own queue. Only while nobody is there:
    // the submitter itself takes back the requests for which the kernel would have to wait.
    answer.counts = first.is_device_bound(t);
    if answer.counts
        && own.pause == 0
        && (queue.is_returning || submit.is_polling)
        && is_free(queue, own, submit.lacks_threads)
        && !submit.is_sample
        && queue.is_open
    {
        answer.route = Some(Route::KernelSubmit);
    }
    answer
}

/// Whether a submitter may hand over in an own queue where nobody is.
#[inline]
pub fn is_free(queue: &Queue, own: &OwnQueue, lacks_threads: bool) -> bool {
    !own.has_reaper && !queue.has_waiters && own.admits_batch(lacks_threads)
}

/// io_submit(): how a remaining request is carried out. `is_before`: workers cannot run while this thread runs. `has_worker`: there is a
/// worker for it, which can have the file.
#[inline]
pub fn left_by_submit(is_before: bool, has_worker: impl FnOnce() -> bool) -> Route {
    if !is_before && has_worker() {
        Route::Thread
    } else {
        Route::InlineSubmit
    }
}

/// Which thread is expected to come for the first queued request.
#[inline]
fn expected_thread(
    queue: &Queue,
    first: impl FnOnce() -> Outlook,
    sample: impl FnOnce() -> bool,
    by_worker: bool,
    t: &Tuning,
) -> Option<Route> {
    let by_reaper = !queue.has_waiters && queue.may_be_for_returning_reaper();
    let by_worker = by_worker && queue.handing_over != 0;
    if !(by_reaper || by_worker) || queue.is_stuck(t) {
        return None;
    }
    let first = first();
    if by_reaper && queue.is_for_returning_reaper(&first, sample, t) {
        return Some(Route::KernelWaiting);
    }
    (by_worker && first.is_device_bound(t)).then_some(Route::KernelThread)
}

/// Requests of that class are queued: how they are carried out. [`Route::Thread`]: a worker is told, unless one was told (`is_notified`)
/// and has not come yet.
#[inline]
pub fn queued(
    class: Class,
    is_notified: bool,
    queue: &Queue,
    first: impl FnOnce() -> Outlook,
    sample: impl FnOnce() -> bool,
    t: &Tuning,
) -> Dispatch {
    let is_full = queue.running >= queue.limit;
    if class == Class::Finite
        && let Some(route) = expected_thread(queue, first, sample, !is_notified && !is_full, t)
    {
        return Dispatch::to(route);
    }
    if is_notified {
        return Dispatch::TO_WORKER;
    }
    if is_full {
        // The thread that carries out a running request looks for more.
        return Dispatch::until_one_ends(false);
    }
    // If the running requests do not end, the monitor has others begin beside them.
    if queue.has_its_share(class, t) {
        return Dispatch::until_one_ends(true);
    }
    Dispatch::TO_WORKER
}

/// A worker looks: whether it takes the first queued request ([`Route::Thread`]). It takes none that would only obstruct another running
/// request, or a caller's.
#[inline]
pub fn for_worker(
    class: Class,
    queue: &Queue,
    first: impl Fn() -> Outlook,
    sample: impl FnOnce() -> bool,
    t: &Tuning,
) -> Dispatch {
    if class == Class::Finite && queue.is_queued {
        if let Some(route) = expected_thread(queue, &first, sample, true, t) {
            return Dispatch::to(route);
        }
        let expects_caller = queue.expects_caller();
        let is_in_the_way = (expects_caller || queue.transfers != 0) && !queue.is_stuck(t);
        if is_in_the_way && first().is_serial(t) {
            return if expects_caller {
                Dispatch::to(Route::InlineWaiting)
            } else {
                Dispatch::until_one_ends(true)
            };
        }
    }
    if queue.may_begin(class, t) {
        Dispatch::TO_WORKER
    } else {
        Dispatch::until_one_ends(false)
    }
}

/// The facts of the kernel queue about a request.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kernel {
    /// It can carry out the request.
    pub supports: bool,
    /// It has room for more.
    pub has_room: bool,
    /// A worker carries it out itself, to see whether it still waits.
    pub is_sample: bool,
}

/// The answer to a worker about a request that it has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dequeued {
    /// [`Route::KernelThread`]: it hands the request over, with those that join. [`Route::Thread`]: it carries out the request.
    pub route: Route,
    /// Requests like this count towards the next sample.
    pub counts: bool,
    /// Before it waits for this read, it tells the device of it and of this many more reads at most.
    pub ahead: Option<u32>,
    /// It takes this many more fast requests at most, before it takes the lock again.
    pub more: u32,
}

/// A worker has taken a request that ends by itself, which counts as running. `only_observes`: its attributes allow that it is carried out
/// together with others. `last_ns`: how long the last request of this worker took.
#[inline]
pub fn dequeued_by_worker(
    req: &Outlook,
    only_observes: bool,
    last_ns: u64,
    queue: &Queue,
    kernel: impl FnOnce() -> Kernel,
    are_announced: impl FnOnce() -> bool,
    t: &Tuning,
) -> Dequeued {
    let mut answer = Dequeued {
        route: Route::Thread,
        counts: false,
        ahead: None,
        more: 0,
    };
    if req.is_device_bound(t) {
        let kernel = kernel();
        answer.counts = kernel.supports;
        // A single request is done sooner by the worker that has it.
        let has_company = queue.transfers > 1 || queue.is_queued;
        if kernel.supports && kernel.has_room && !kernel.is_sample && has_company {
            answer.route = Route::KernelThread;
            return answer;
        }
    }
    // In both cases, half are left to others.
    let half = queue.waiting() / 2;
    if req.is_device_bound_buffered(t) && queue.is_queued && are_announced() {
        answer.ahead = Some(half.min(t.takes));
    } else if only_observes && !queue.has_waiters && req.is_fast(t) {
        // No thread sleeps that might want the first event. If all are like the last one, together they take no longer than one may.
        let together = (t.fast_ns / last_ns.max(1)).min(t.takes.into()) as u32;
        answer.more = half.min(together.saturating_sub(1));
    }
    answer
}

/// A caller waits for events, and does not carry out the first queued request. If that was left to it, a worker is told.
#[inline]
pub fn gives_back(queue: &Queue) -> Option<Route> {
    (queue.is_prompt && queue.is_queued).then_some(Route::Thread)
}

/// A caller waits for events: whether it carries out this request. `is_sole`: no other request is in flight that would be late because of
/// it. `is_timed`: the caller has a time limit. `untouched`: the request has no attribute that forbids an attempt.
#[inline]
pub fn for_caller(
    req: &Outlook,
    is_sole: bool,
    is_timed: bool,
    untouched: impl FnOnce() -> bool,
    t: &Tuning,
) -> Option<Route> {
    let is_in_time = || !is_timed || req.fits_in_time() && (!req.may_be_cached() || untouched());
    let carries_out = req.is_fast(t) && is_in_time() || is_sole && !is_timed && req.is_bounded(t);
    carries_out.then_some(Route::InlineWaiting)
}

/// Whether a caller that has its events, and has carried out requests for `ns`, continues with waiting requests. It continues with serial
/// ones, because no other thread will carry them out. It continues with others only while many wait, and leaves the last ones to the next
/// call.
#[inline]
pub fn continues(is_serial: bool, ns: u64, waiting: u32, t: &Tuning) -> bool {
    if is_serial {
        ns < t.soon_ns
    } else {
        ns < t.hand_over_ns && waiting >= t.takes
    }
}

/// A caller waits for events, carries nothing out, and may be in the own queue: whether it hands the first queued request over
/// ([`Route::KernelWaiting`]), or carries it out as a sample. None: the request is a worker's. If it is only as a sample, the caller asks
/// once more, for the request behind it.
#[inline]
pub fn for_reaper(
    queue: &Queue,
    first: impl FnOnce() -> Outlook,
    sample: bool,
    t: &Tuning,
) -> Option<Route> {
    if !queue.may_be_for_returning_reaper()
        || !queue.is_for_returning_reaper(&first(), || sample, t)
    {
        return None;
    }
    Some(if sample {
        Route::InlineWaiting
    } else {
        Route::KernelWaiting
    })
}

/// Whether a caller that has events already may hand over first, beginning with this request. A write to a regular file may have to wait
/// for the file's lock or a journal before it is in flight.
#[inline]
pub fn may_go_first(first: &Outlook) -> bool {
    !first.is_regular_write()
}

/// A caller polls for events without success, and no request has begun for `idle_ns`: whether it carries out a request. `is_before`:
/// workers cannot run while it runs. Perhaps this thread itself keeps the owner of a request from its processor.
#[inline]
pub fn for_poller(
    idle_ns: u64,
    queue: &Queue,
    is_before: impl FnOnce() -> bool,
    t: &Tuning,
) -> Option<Route> {
    let stands_in = idle_ns > t.bounded_ns && (is_before() || queue.running == 0);
    stands_in.then_some(Route::InlineStandIn)
}

/// The changes by a tick of the monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The monitor continues to look after the context.
    pub stays: bool,
    /// See [`Queue::still`].
    pub still: u32,
    /// [`Route::Thread`]: no caller has come for the queued requests. Callers are not expected any more, and [`queued`] decides.
    pub route: Option<Route>,
}

/// The monitor ticks. `has_moved`: requests were taken since the last tick. `is_last`: it does not look again. `has_in_kernel`: requests
/// are in flight in the own queue.
#[inline]
pub fn at_tick(
    queue: &Queue,
    has_moved: bool,
    is_last: bool,
    has_in_kernel: bool,
    t: &Tuning,
) -> Tick {
    let keeps_moving = has_moved && !is_last && queue.is_open;
    let mut answer = Tick {
        stays: keeps_moving || !is_last && has_in_kernel,
        still: queue.still,
        route: None,
    };
    if !keeps_moving && queue.is_queued {
        answer.still = if is_last {
            t.still
        } else {
            queue.still.saturating_add(1)
        };
        let still = answer.still;
        answer.route = Queue { still, ..*queue }
            .is_stuck(t)
            .then_some(Route::Thread);
    }
    answer
}

#[cfg(all(test, not(loom)))]
mod tests;
