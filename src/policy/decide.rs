//! Who carries a request out.
//!
//! The answer is a [`Route`], and it is given at four moments:
//!
//! - a request is submitted: [`at_submit`], and within io_submit() [`within_submit`] and [`left_by_submit`]. What these leave is
//!   queued, and [`queued`] says who comes for it. That is asked again whenever something may have changed.
//! - a caller waits for events: [`for_caller`], then [`gives_back`], then [`for_reaper`]. A caller that only looks: [`for_poller`].
//! - a worker looks for something to do: [`for_worker`]. If it takes a request: [`taken_by_worker`]; if that may wait for somebody else,
//!   [`super::waiting`] says whether in a thread.
//! - the monitor ticks: [`at_tick`].
//!
//! docs/architecture.md has all of it as one table. Facts are plain data. A fact that takes a look at a profile, or an
//! atomic, is passed as a function, which is called only if the answer depends on it.
//!
//! Whatever the facts are, no decision is wrong: what they change is how long something takes. There is one exception. A caller gets
//! no request that may keep it for ever: that follows from [`Outlook`].

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
    /// No second thread is worth waking for requests like these: see [`Outlook::is_serial`]. A no-op takes no time.
    pub all_serial: bool,
    /// There is one, which is bounded.
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

/// A context, and what its callers have been seen to do.
#[derive(Clone, Copy, Default, Debug)]
pub struct Queue {
    /// Requests that are accepted and have no event yet, without those that wait for their files to become ready.
    pub in_flight: u32,
    /// Those of them that somebody carries out.
    pub running: u32,
    /// Those of these that end by themselves.
    pub running_short: u32,
    /// Those of these that may have a file's lock for a while.
    pub transfers: u32,
    /// So many may run at a time.
    pub limit: u32,
    /// So many that end by themselves may run at a time, for the sake of other contexts.
    pub share: u32,
    /// Something that ends by itself is queued.
    pub is_queued: bool,
    /// Workers that are handing requests over to the kernel, and look again at once.
    pub handing_over: u32,
    /// Ticks in a row at which nothing had moved, though something was queued.
    pub still: u32,
    /// The first one that is queued is a write to the file for which a caller is just handing writes over.
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
    /// The last caller that could have slept in the own queue has a time limit. To hand over can take longer.
    pub is_timed: bool,
    /// What was handed over there the last time was done when that call returned: to hand over is to wait.
    pub has_waited: bool,
    /// There is a ring of io_uring with room: to hand over to that is never to wait.
    pub has_ring: bool,
}

impl Queue {
    /// How many are in flight and do not run.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.in_flight.saturating_sub(self.running)
    }

    /// Whether what runs does not come to an end, so that others had better begin beside it.
    #[inline]
    pub fn is_stuck(&self, t: &Tuning) -> bool {
        self.still != 0 && (self.still >= t.still || !self.behind_writer)
    }

    /// Whether as many of the class run as another context can bear.
    #[inline]
    fn has_its_share(&self, class: Class, t: &Tuning) -> bool {
        class == Class::Short && self.still < t.still && self.running_short >= self.share
    }

    /// Whether one more of the class may begin.
    #[inline]
    pub fn may_begin(&self, class: Class, t: &Tuning) -> bool {
        self.running < self.limit && !self.has_its_share(class, t)
    }

    /// Whether a caller will come for what it can carry out.
    #[inline]
    fn caller_comes(&self) -> bool {
        self.is_prompt && !self.has_waiters
    }

    /// Whether a caller that waits hands over to the kernel what begins with this one. One request alone is done sooner by
    /// the caller itself. A sample is a worker's, unless to hand it over is to wait for it.
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
    /// Requests that the kernel carries out there.
    pub in_flight: u32,
    /// It has no room for another batch.
    pub is_full: bool,
    /// Somebody sleeps there, or hands over, or takes what has been done.
    pub has_reaper: bool,
    /// That one sleeps.
    pub is_asleep: bool,
    /// A submitter hands over there.
    pub has_submitter: bool,
    /// So many submits pass without a hand-over.
    pub pause: u32,
    /// A caller sleeps there because submitters hand over there.
    pub has_hint: bool,
}

impl OwnQueue {
    /// Whether a submitter may hand over beside a caller that sleeps there.
    #[inline]
    pub fn takes_submitter(&self, t: &Tuning) -> bool {
        !self.has_submitter && self.in_flight < t.submit_hint_max && self.pause == 0
    }

    /// Whether a batch may be handed over. If threads cannot be had, nobody would look after it.
    #[inline]
    pub fn takes_batch(&self, short_of_threads: bool) -> bool {
        !self.is_full && !short_of_threads
    }

    /// Whether a caller that waits sleeps there.
    #[inline]
    pub fn has_sleeper(&self) -> bool {
        self.in_flight != 0 || self.has_hint
    }
}

/// Who carries out what is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// None: nobody now. A request that runs has to end first.
    pub route: Option<Route>,
    /// The monitor sees to it that nothing stays. If it cannot, a worker does.
    pub needs_lease: bool,
}

impl Left {
    /// To somebody who is expected to come.
    const fn to(route: Route) -> Left {
        Left {
            route: Some(route),
            needs_lease: true,
        }
    }

    const TO_WORKER: Left = Left {
        route: Some(Route::Thread),
        needs_lease: false,
    };

    const fn until_one_ends(needs_lease: bool) -> Left {
        Left {
            route: None,
            needs_lease,
        }
    }
}

/// What a submit leads to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Submitted {
    /// [`Route::KernelSubmit`]: this thread hands it over; [`Route::UringSubmit`]: to the ring. [`Route::InlineSubmit`]: it carries it out.
    /// [`Route::InlineWaiting`]: it is left to a caller; the monitor sees to it that nothing stays, and if it
    /// cannot, [`queued`] decides. None: `queued` decides.
    pub route: Option<Route>,
    /// A caller can carry out requests like these. If not, no caller is prompt any more.
    pub suits_caller: bool,
    /// Requests like these are handed over by who submits: the pause becomes shorter, and from now on a caller sleeps in the own queue.
    pub counts: bool,
}

/// Requests are submitted to a context: before they are queued.
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
    // Reads that will wait, whose events another thread sleeps for: neither has a worker to be woken for them, nor that
    // thread by one. A write may have to wait for the file's lock or a journal before it is under way.
    answer.counts = queue.has_waiters && submit.first.is_device_bound(t) && !submit.first.writes();
    if answer.counts
        && own.is_asleep
        && own.takes_submitter(t)
        && !queue.is_queued
        && queue.is_open
        && !sample()
    {
        answer.route = Some(Route::KernelSubmit);
        return answer;
    }
    // No worker has to be woken to hand them over. Not beside a caller who does so in the own queue: its events would come from two threads.
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
    let is_lone = submit.one_bounded && queue.in_flight == 1 && !queue.is_timed;
    answer.suits_caller = submit.all_fast || is_lone;
    if answer.suits_caller && queue.caller_comes() {
        let is_left = queue.in_flight == 1 || submit.all_serial;
        answer.route = is_left.then_some(Route::InlineWaiting);
    }
    answer
}

/// A submit of io_submit(), beside its requests.
#[derive(Clone, Copy, Default, Debug)]
pub struct Within {
    /// There are reads that who submits may carry out.
    pub has_reads: bool,
    /// The program submits within what it does for events.
    pub is_nested: bool,
    /// Callers look for events, and have nothing else to do.
    pub is_polled: bool,
    pub short_of_threads: bool,
    /// A worker carries the next device-bound request out all the same, to see whether it still waits.
    pub is_sample: bool,
}

/// io_submit(): whether who submits sees to the first requests itself, before the others are queued.
#[inline]
pub fn within_submit(
    first: &Outlook,
    submit: &Within,
    queue: &Queue,
    own: &OwnQueue,
    t: &Tuning,
) -> Submitted {
    let mut answer = Submitted::default();
    // As the kernel does: reads that do not wait are over when io_submit() returns.
    if submit.has_reads && !submit.is_nested && first.may_read_at_submit(t) {
        answer.route = Some(Route::InlineSubmit);
        return answer;
    }
    // They will wait for a device, and a caller comes and sleeps in the own queue, or looks there, for their events. As long as
    // nobody is there: who hands over takes back itself what the kernel would have to wait for.
    answer.counts = first.is_device_bound(t);
    if answer.counts
        && own.pause == 0
        && (queue.is_returning || submit.is_polled)
        && is_free(queue, own, submit.short_of_threads)
        && !submit.is_sample
        && queue.is_open
    {
        answer.route = Some(Route::KernelSubmit);
    }
    answer
}

/// Whether who submits may hand over in a queue where nobody is.
#[inline]
pub fn is_free(queue: &Queue, own: &OwnQueue, short_of_threads: bool) -> bool {
    !own.has_reaper && !queue.has_waiters && own.takes_batch(short_of_threads)
}

/// io_submit(): a request that is left. `is_before`: as long as this thread runs, workers may not; `has_worker`: there is one
/// for it, and it can have the file.
#[inline]
pub fn left_by_submit(is_before: bool, has_worker: impl FnOnce() -> bool) -> Route {
    if !is_before && has_worker() {
        Route::Thread
    } else {
        Route::InlineSubmit
    }
}

/// Who comes for what is queued first.
#[inline]
fn who_comes(
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

/// Requests of that class are queued: who comes for them. [`Route::Thread`]: a worker is told, unless one was (`is_told`), and has not
/// come yet.
#[inline]
pub fn queued(
    class: Class,
    is_told: bool,
    queue: &Queue,
    first: impl FnOnce() -> Outlook,
    sample: impl FnOnce() -> bool,
    t: &Tuning,
) -> Left {
    let is_full = queue.running >= queue.limit;
    if class == Class::Short
        && let Some(route) = who_comes(queue, first, sample, !is_told && !is_full, t)
    {
        return Left::to(route);
    }
    if is_told {
        return Left::TO_WORKER;
    }
    if is_full {
        // Whoever carries that out looks for more.
        return Left::until_one_ends(false);
    }
    // Should what runs not come to an end, the monitor has others begin beside it.
    if queue.has_its_share(class, t) {
        return Left::until_one_ends(true);
    }
    Left::TO_WORKER
}

/// A worker looks: whether it takes what is queued first ([`Route::Thread`]). Not what would only be in the way of another that
/// runs, or of a caller's.
#[inline]
pub fn for_worker(
    class: Class,
    queue: &Queue,
    first: impl Fn() -> Outlook,
    sample: impl FnOnce() -> bool,
    t: &Tuning,
) -> Left {
    if class == Class::Short && queue.is_queued {
        if let Some(route) = who_comes(queue, &first, sample, true, t) {
            return Left::to(route);
        }
        let comes = queue.caller_comes();
        let is_in_the_way = (comes || queue.transfers != 0) && !queue.is_stuck(t);
        if is_in_the_way && first().is_serial(t) {
            return if comes {
                Left::to(Route::InlineWaiting)
            } else {
                Left::until_one_ends(true)
            };
        }
    }
    if queue.may_begin(class, t) {
        Left::TO_WORKER
    } else {
        Left::until_one_ends(false)
    }
}

/// What the kernel's AIO says of a request.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kernel {
    /// It can carry it out.
    pub takes: bool,
    /// It has room for more.
    pub has_room: bool,
    /// A worker carries it out all the same, to see whether it still waits.
    pub is_sample: bool,
}

/// What a worker does with the request that it has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// [`Route::KernelThread`]: it hands it over, with those that join. [`Route::Thread`]: it carries it out.
    pub route: Route,
    /// It is one of those of which some are samples.
    pub counts: bool,
    /// It tells the device of it and of so many more reads at most, before it waits for the first.
    pub ahead: Option<u32>,
    /// It takes so many more fast ones at most, before it takes the lock again.
    pub more: u32,
}

/// A worker has taken a request that ends by itself, which counts as running. `only_observes`: its attributes allow that it
/// is carried out together with others. `last_ns`: so long that worker was at the last one.
#[inline]
pub fn taken_by_worker(
    req: &Outlook,
    only_observes: bool,
    last_ns: u64,
    queue: &Queue,
    kernel: impl FnOnce() -> Kernel,
    are_told_of: impl FnOnce() -> bool,
    t: &Tuning,
) -> Taken {
    let mut answer = Taken {
        route: Route::Thread,
        counts: false,
        ahead: None,
        more: 0,
    };
    if req.is_device_bound(t) {
        let kernel = kernel();
        answer.counts = kernel.takes;
        // One alone is done sooner by the worker that has it.
        let has_company = queue.transfers > 1 || queue.is_queued;
        if kernel.takes && kernel.has_room && !kernel.is_sample && has_company {
            answer.route = Route::KernelThread;
            return answer;
        }
    }
    // Half are left to others, in both cases.
    let half = queue.waiting() / 2;
    if req.is_device_bound_buffered(t) && queue.is_queued && are_told_of() {
        answer.ahead = Some(half.min(t.takes));
    } else if only_observes && !queue.has_waiters && req.is_fast(t) {
        // Nobody sleeps who might want the event of the first; and if all are like the last one, they take no longer together than one may.
        let together = (t.fast_ns / last_ns.max(1)).min(t.takes.into()) as u32;
        answer.more = half.min(together.saturating_sub(1));
    }
    answer
}

/// A caller waits for events, and does not carry out what is queued first. If that was left to it, a worker is told.
#[inline]
pub fn gives_back(queue: &Queue) -> Option<Route> {
    (queue.is_prompt && queue.is_queued).then_some(Route::Thread)
}

/// A caller waits for events: whether it carries this request out. `is_lone`: nothing else is in flight that would be late for it;
/// `is_timed`: it has a time limit; `untouched`: the request has no attribute for which it may not be tried.
#[inline]
pub fn for_caller(
    req: &Outlook,
    is_lone: bool,
    is_timed: bool,
    untouched: impl FnOnce() -> bool,
    t: &Tuning,
) -> Option<Route> {
    let is_in_time = || !is_timed || req.fits_in_time() && (!req.may_be_cached() || untouched());
    let carries_out = req.is_fast(t) && is_in_time() || is_lone && !is_timed && req.is_bounded(t);
    carries_out.then_some(Route::InlineWaiting)
}

/// Whether a caller that has its events, and has carried requests out for so long, goes on with those that are waiting: with serial ones,
/// which nobody else will carry out; with others as long as many wait. The last ones had better be there for the next call.
#[inline]
pub fn goes_on(is_serial: bool, ns: u64, waiting: u32, t: &Tuning) -> bool {
    if is_serial {
        ns < t.soon_ns
    } else {
        ns < t.hand_over_ns && waiting >= t.takes
    }
}

/// A caller waits for events, carries nothing out, and may be in the own queue: whether it hands over what is queued first
/// ([`Route::KernelWaiting`]), or carries it out as a sample. None: it is a worker's.
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

/// A caller looks for events in vain, again and again, and nothing has begun for so long: whether it carries a request out.
/// `is_before`: as long as it runs, workers may not. Somebody who has a request may have been kept from going on by this very thread.
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

/// What a tick of the monitor changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The monitor goes on looking after the context.
    pub stays: bool,
    /// See [`Queue::still`].
    pub still: u32,
    /// [`Route::Thread`]: nobody has come for what is queued. Callers do not count as coming any more, and [`queued`] decides.
    pub route: Option<Route>,
}

/// The monitor ticks. `has_moved`: requests were taken since the last tick; `is_last`: it does not look again;
/// `has_in_kernel`: the kernel carries some out in the own queue.
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
