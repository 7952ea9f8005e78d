//! Tables of facts with the routes that follow from them, and properties that hold for all facts.

use super::super::profile::{FileClass, Kind, Observation, Profile, View};
use super::super::tuning::TUNING;
use super::*;
use Route::*;

mod random;

const T: &Tuning = &TUNING;
const CACHED: FileClass = FileClass {
    regular: true,
    direct: false,
};
const DIRECT: FileClass = FileClass {
    direct: true,
    ..CACHED
};
const DEVICE: FileClass = FileClass {
    regular: false,
    direct: true,
};

/// A file after many requests, of which one in `waits` waited; 0: none.
fn file(kind: Kind, class: FileClass, ns: u64, waits: u32) -> Outlook {
    let seen = |i| Observation {
        ns,
        waited: Some(waits != 0 && i % waits == 0),
        locks: kind == Kind::Write && class.regular,
        crowded: false,
        pages: None,
    };
    let new = Profile::new(T);
    let profile = (0..64).fold(new, |profile, i| profile.after(&seen(i), T));
    Outlook::File(View {
        kind,
        class: Some(class),
        bits: profile.to_bits(),
    })
}

fn fast(kind: Kind) -> Outlook {
    file(kind, CACHED, 4_000, 0)
}

fn slow(kind: Kind) -> Outlook {
    file(kind, DIRECT, 300_000, 1)
}

/// A file whose requests wait now and then, and are bounded.
fn bounded() -> Outlook {
    file(Kind::Read, DIRECT, 100_000, 2)
}

fn slow_cached() -> Outlook {
    file(Kind::Read, CACHED, 300_000, 1)
}

/// All facts.
#[derive(Clone, Copy, Debug)]
struct World {
    queue: Queue,
    own: OwnQueue,
    submit: Submit,
    within: Within,
    class: Class,
    /// The first queued request.
    first: Outlook,
    is_notified: bool,
    /// The request that was taken, or may be.
    req: Outlook,
    only_observes: bool,
    last_ns: u64,
    kernel: Kernel,
    are_announced: bool,
    is_sole: bool,
    is_timed: bool,
    untouched: bool,
    idle_ns: u64,
    is_before: bool,
    has_worker: bool,
    has_moved: bool,
    is_last: bool,
    has_in_kernel: bool,
}

/// All answers.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Answers {
    submitted: Submitted,
    within: Submitted,
    left_by_submit: Route,
    queued: Dispatch,
    for_worker: Dispatch,
    dequeued: Dequeued,
    for_caller: Option<Route>,
    gives_back: Option<Route>,
    for_reaper: Option<Route>,
    is_free: bool,
    admits_submitter: bool,
    has_sleeper: bool,
    for_poller: Option<Route>,
    tick: Tick,
}

impl World {
    /// A context whose callers are unknown, with two requests in flight, of which one is queued.
    #[rustfmt::skip]
    fn new() -> World {
        let queue = Queue {
            in_flight: 2, running: 1, running_finite: 1, transfers: 1, limit: 64, share: u32::MAX,
            is_queued: true, is_open: true, callers_carry_out: true, ..Queue::default()
        };
        World {
            queue, own: OwnQueue::default(), submit: Submit::NOTHING, within: Within::default(),
            class: Class::Finite, first: Outlook::Other, is_notified: false,
            req: Outlook::Other, only_observes: true, last_ns: 900, are_announced: false, is_sole: false, is_timed: false, untouched: true,
            kernel: Kernel { supports: true, has_room: true, is_sample: false },
            idle_ns: 0, is_before: false, has_worker: true,
            has_moved: true, is_last: false, has_in_kernel: false,
        }
    }

    fn answers(&self) -> Answers {
        let World { queue, own, .. } = self;
        let (first, sample) = (|| self.first, || self.within.is_sample);
        Answers {
            submitted: at_submit(&self.submit, queue, own, sample, T),
            within: within_submit(&self.submit.first, &self.within, queue, own, T),
            left_by_submit: left_by_submit(self.is_before, || self.has_worker),
            queued: queued(self.class, self.is_notified, queue, first, sample, T),
            for_worker: for_worker(self.class, queue, first, sample, T),
            dequeued: dequeued_by_worker(
                &self.req,
                self.only_observes,
                self.last_ns,
                queue,
                || self.kernel,
                || self.are_announced,
                T,
            ),
            for_caller: for_caller(&self.req, self.is_sole, self.is_timed, || self.untouched, T),
            gives_back: gives_back(queue),
            for_reaper: for_reaper(queue, first, self.within.is_sample, T),
            is_free: is_free(queue, own, self.within.lacks_threads),
            admits_submitter: own.admits_submitter(T),
            has_sleeper: own.has_sleeper(),
            for_poller: for_poller(self.idle_ns, queue, || self.is_before, T),
            tick: at_tick(queue, self.has_moved, self.is_last, self.has_in_kernel, T),
        }
    }
}

fn submit(requests: &[Outlook]) -> Submit {
    let mut submit = Submit::NOTHING;
    requests.iter().for_each(|req| submit.add(*req, T));
    submit
}

/// A world that differs from another in some facts.
macro_rules! world {
    ($base:expr; $($($fact:ident).+ = $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut world: World = $base;
        $(world.$($fact).+ = $value;)*
        world
    }};
}

/// Rows: a name, the facts that differ, and the answer.
macro_rules! table {
    ($base:expr, $answer:expr; $($what:literal: $($($fact:ident).+ = $value:expr),* => $expected:expr;)*) => {
        let base: World = $base;
        let answer = $answer;
        $(
            let world = world!(base; $($($fact).+ = $value),*);
            assert_eq!(answer(world.answers()), $expected, $what);
        )*
    };
}

#[test]
fn what_is_expected_of_a_request() {
    let all = |one: Outlook| {
        let in_cache = one.is_device_bound_buffered(T);
        let fast = one.is_fast(T);
        let device_bound = one.is_device_bound(T);
        [
            fast,
            one.is_bounded(T),
            one.is_serial(T),
            device_bound,
            in_cache,
        ]
        .map(u8::from)
    };
    assert_eq!(all(Outlook::Nop), [1, 0, 0, 0, 0]);
    assert_eq!(all(Outlook::Other), [0, 0, 0, 0, 0]);
    assert_eq!(all(fast(Kind::Read)), [1, 1, 0, 0, 0]);
    assert_eq!(all(fast(Kind::Write)), [1, 1, 1, 0, 0]);
    assert_eq!(all(slow(Kind::Read)), [0, 0, 0, 1, 0]);
    assert_eq!(all(slow(Kind::Write)), [0, 0, 0, 1, 0]);
    assert_eq!(all(bounded()), [0, 1, 0, 0, 0]);
    assert_eq!(all(slow_cached()), [0, 0, 0, 0, 1]);
}

#[test]
fn a_submit_is_left_to_a_prompt_caller() {
    let base = world!(World::new();
        queue.in_flight = 1, queue.running = 0, queue.is_prompt = true, submit = submit(&[Outlook::Nop]));
    let left = (Some(InlineWaiting), true);
    let not_left = (None, true);
    let no = (None, false);
    table! { base, |all: Answers| (all.submitted.route, all.submitted.suits_caller);
        "a no-op": => left;
        "a write": submit = submit(&[fast(Kind::Write)]) => left;
        "a read": submit = submit(&[fast(Kind::Read)]) => left;
        "a worker can do it": submit = submit(&[fast(Kind::Read)]), queue.in_flight = 2 => not_left;
        "callers may not": queue.callers_carry_out = false => no;
        "none comes": queue.is_prompt = false => not_left;
        "one sleeps": queue.has_waiters = true => not_left;
        "a device-bound one": submit = submit(&[slow(Kind::Read)]) => no;
        "may wait for ever": submit = submit(&[Outlook::Other]) => no;
        "one of them may": submit = submit(&[Outlook::Nop, Outlook::Other]) => no;
        "many wait": queue.in_flight = 100 => left;
        "a bounded one": submit = submit(&[bounded()]) => left;
        "not alone": submit = submit(&[bounded()]), queue.in_flight = 2 => no;
        "two": submit = submit(&[bounded(); 2]) => no;
        "in time": submit = submit(&[bounded()]), queue.is_timed = true => no;
    }
}

#[test]
fn a_submit_is_handed_over_beside_a_sleeper() {
    let base = world!(World::new();
        queue.has_waiters = true, queue.is_queued = false, own.is_asleep = true, own.has_reaper = true,
        submit = submit(&[slow(Kind::Read)]));
    let now = (Some(KernelSubmit), true);
    let later = (None, true);
    let no = (None, false);
    table! { base, |all: Answers| (all.submitted.route, all.submitted.counts);
        "reads that wait": => now;
        "a write": submit = submit(&[slow(Kind::Write)]) => no;
        "fast ones": submit = submit(&[fast(Kind::Read)]) => no;
        "nobody sleeps": queue.has_waiters = false => no;
        "callers may not": queue.callers_carry_out = false => no;
        "it sleeps elsewhere": own.is_asleep = false => later;
        "another submitter": own.has_submitter = true => later;
        "too many": own.in_flight = T.submit_hint_max => later;
        "a pause": own.pause = 1 => later;
        "others are queued": queue.is_queued = true => later;
        "it is closed": queue.is_open = false => later;
        "a sample": within.is_sample = true => later;
    }
}

#[test]
fn a_submit_is_handed_over_to_a_ring() {
    let base = world!(World::new();
        queue.has_ring = true, queue.is_queued = false, submit = submit(&[slow(Kind::Write)]));
    let now = Some(UringSubmit);
    table! { base, |all: Answers| all.submitted.route;
        "device-bound ones": => now;
        "fast ones": submit = submit(&[fast(Kind::Write)]) => None;
        "there is none, or no room": queue.has_ring = false => None;
        "one alone": queue.in_flight = 1 => None;
        "others are queued": queue.is_queued = true => None;
        "a caller comes": queue.is_returning = true => None;
        "one is in the own queue": own.in_flight = 1 => None;
        "it sleeps": queue.is_returning = true, queue.has_waiters = true => now;
        "callers may not": queue.callers_carry_out = false => None;
        "it is closed": queue.is_open = false => None;
        "a sample": within.is_sample = true => None;
    }
}

#[test]
fn within_io_submit() {
    let answer = |all: Answers| (all.within.route, all.within.counts);
    let libaio = world!(World::new(); queue.callers_carry_out = false);
    let here = (Some(InlineSubmit), false);
    let no = (None, false);
    let tried = file(Kind::Read, CACHED, 300_000, 2);
    table! { world!(libaio; within.has_inline = true, submit = submit(&[fast(Kind::Read)])), answer;
        "a fast read": => here;
        "a fast write": submit = submit(&[fast(Kind::Write)]) => here;
        "none that it may": within.has_inline = false => no;
        "it nests": within.is_nested = true => no;
        "it can be tried": submit = submit(&[tried]) => here;
        "in vain": submit = submit(&[slow_cached()]) => no;
        "past the cache": submit = submit(&[bounded()]) => no;
        "no file": submit = submit(&[Outlook::Other]) => no;
    }
    let now = (Some(KernelSubmit), true);
    let later = (None, true);
    table! { world!(libaio; queue.is_returning = true, submit = submit(&[slow(Kind::Write)])), answer;
        "device-bound": => now;
        "fast": submit = submit(&[fast(Kind::Write)]) => no;
        "with a time limit": queue.is_timed = true => now;
        "nobody comes": queue.is_returning = false => later;
        "somebody looks": queue.is_returning = false, within.is_polling = true => now;
        "somebody is there": own.has_reaper = true => later;
        "somebody sleeps": queue.has_waiters = true => later;
        "no room": own.is_full = true => later;
        "no monitor": within.lacks_threads = true => later;
        "a pause": own.pause = 1 => later;
        "a sample": within.is_sample = true => later;
        "it is closed": queue.is_open = false => later;
    }
    table! { libaio, |all: Answers| all.left_by_submit;
        "a worker": => Thread;
        "none": has_worker = false => InlineSubmit;
        "it could not run": is_before = true => InlineSubmit;
    }
}

/// Left to a thread that is expected to come; the monitor looks after it.
fn leased(route: Route) -> Dispatch {
    Dispatch::to(route)
}

const WORKER: Dispatch = Dispatch::TO_WORKER;
/// A running request must end first; the monitor looks after it.
const WATCHED: Dispatch = Dispatch::until_one_ends(true);
/// A running request must end first.
const NOBODY: Dispatch = Dispatch::until_one_ends(false);

#[test]
fn who_comes_for_what_is_queued() {
    let answer = |all: Answers| all.queued;
    let reaper = leased(KernelWaiting);
    table! { world!(World::new(); queue.is_returning = true, first = slow(Kind::Write)), answer;
        "a caller": => reaper;
        "it does not come": queue.is_returning = false => WORKER;
        "it has a time limit": queue.is_timed = true => WORKER;
        "it sleeps": queue.has_waiters = true => WORKER;
        "it may not": queue.callers_carry_out = false => WORKER;
        "one alone": queue.in_flight = 1 => WORKER;
        "it is closed": queue.is_open = false => WORKER;
        "a fast one": first = fast(Kind::Write) => WORKER;
        "a sample": within.is_sample = true => WORKER;
        "it is waited for anyway": within.is_sample = true, queue.has_waited = true => reaper;
        "nothing moves": queue.still = 1 => WORKER;
        "behind a write": queue.still = 1, queue.behind_writer = true => reaper;
        "for long": queue.still = T.still, queue.behind_writer = true => WORKER;
    }
    let joins = leased(KernelThread);
    table! { world!(World::new(); queue.handing_over = 1, first = slow(Kind::Read)), answer;
        "a worker that hands over": => joins;
        "none does": queue.handing_over = 0 => WORKER;
        "a fast one": first = fast(Kind::Read) => WORKER;
        "nothing moves": queue.still = 1 => WORKER;
        "a long one": class = Class::Indefinite => WORKER;
        "another was told": is_notified = true => WORKER;
        "a limit": queue.limit = 1 => NOBODY;
    }
    table! { World::new(), answer;
        "a worker": => WORKER;
        "as many as may run": queue.limit = 1 => NOBODY;
        "its share": queue.share = 1 => WATCHED;
        "and nothing moves": queue.share = 1, queue.still = T.still => WORKER;
        "not of long ones": queue.share = 1, class = Class::Indefinite => WORKER;
    }
}

#[test]
fn what_a_worker_takes() {
    let answer = |all: Answers| all.for_worker;
    table! { world!(World::new(); queue.is_returning = true, first = slow(Kind::Write)), answer;
        "not a caller's": => leased(KernelWaiting);
        "none comes": queue.is_returning = false => WORKER;
        "long ones": class = Class::Indefinite => WORKER;
        "with one that hands over": queue.is_returning = false, queue.handing_over = 1 => leased(KernelThread);
    }
    table! { world!(World::new(); first = fast(Kind::Write)), answer;
        "not beside one that runs": => WATCHED;
        "others": first = fast(Kind::Read) => WORKER;
        "nothing moves": queue.still = 1 => WORKER;
    }
    table! { world!(World::new(); first = fast(Kind::Write), queue.transfers = 0), answer;
        "alone": => WORKER;
        "a caller comes": queue.is_prompt = true => leased(InlineWaiting);
        "a caller sleeps": queue.is_prompt = true, queue.has_waiters = true => WORKER;
        "a limit": queue.limit = 1 => NOBODY;
        "its share": queue.share = 1 => NOBODY;
    }
}

#[test]
fn what_a_worker_does_with_what_it_has_taken() {
    let answer = |all: Answers| all.dequeued;
    let thread = Dequeued {
        route: Thread,
        counts: false,
        ahead: None,
        more: 0,
    };
    let counted = Dequeued {
        counts: true,
        ..thread
    };
    let handed = Dequeued {
        route: KernelThread,
        ..counted
    };
    let many = world!(World::new(); queue.in_flight = 11);
    table! { world!(many; req = slow(Kind::Read)), answer;
        "it hands it over": => handed;
        "writes": req = slow(Kind::Write) => handed;
        "the kernel cannot": kernel.supports = false => thread;
        "no room": kernel.has_room = false => counted;
        "a sample": kernel.is_sample = true => counted;
        "one alone": queue.is_queued = false => counted;
        "two run": queue.is_queued = false, queue.transfers = 2 => handed;
        "no file": req = Outlook::Other => thread;
    }
    table! { world!(many; req = fast(Kind::Read)), answer;
        "half of them": => Dequeued { more: 5, ..thread };
        "of many": queue.in_flight = 100 => Dequeued { more: T.takes - 1, ..thread };
        "the last one took long": last_ns = T.fast_ns / 2 => Dequeued { more: 1, ..thread };
        "attributes": only_observes = false => thread;
        "somebody waits for its event": queue.has_waiters = true => thread;
    }
    table! { world!(many; req = slow_cached(), are_announced = true), answer;
        "the device is told": => Dequeued { ahead: Some(5), ..thread };
        "of so many": queue.in_flight = 100 => Dequeued { ahead: Some(T.takes), ..thread };
        "it cannot be": are_announced = false => thread;
    }
}

#[test]
fn what_a_caller_that_waits_does() {
    let yes = Some(InlineWaiting);
    table! { world!(World::new(); req = fast(Kind::Read)), |all: Answers| all.for_caller;
        "a fast one": => yes;
        "a no-op": req = Outlook::Nop => yes;
        "no file": req = Outlook::Other, is_sole = true => None;
        "in time": is_timed = true => yes;
        "it must not be tried": is_timed = true, untouched = false => None;
        "a write to a file": is_timed = true, req = fast(Kind::Write) => None;
        "a write to a device": is_timed = true, req = file(Kind::Write, DEVICE, 4_000, 0) => yes;
        "a bounded one": req = bounded() => None;
        "alone": req = bounded(), is_sole = true => yes;
        "alone, in time": req = bounded(), is_sole = true, is_timed = true => None;
    }
    let base = world!(World::new(); queue.is_returning = true, first = slow(Kind::Write));
    table! { base, |all: Answers| all.for_reaper;
        "it hands over": => Some(KernelWaiting);
        "it came late": queue.is_returning = false => None;
        "a fast one": first = fast(Kind::Write) => None;
        "a sample": within.is_sample = true => None;
        "it is waited for anyway": within.is_sample = true, queue.has_waited = true => yes;
    }
    let continues = |serial, ns, waiting| continues(serial, ns, waiting, T);
    assert!(continues(false, 1, T.takes) && !continues(false, 1, T.takes - 1));
    assert!(continues(true, T.hand_over_ns, 1) && !continues(true, T.soon_ns, 99));
    table! { world!(World::new(); queue.is_prompt = true), |all: Answers| all.gives_back;
        "left to it": => Some(Thread);
        "nothing is queued": queue.is_queued = false => None;
        "not left to it": queue.is_prompt = false => None;
    }
    let stands_in = Some(InlineStandIn);
    table! { world!(World::new(); idle_ns = T.bounded_ns + 1), |all: Answers| all.for_poller;
        "somebody is at one": => None;
        "that one cannot run": is_before = true => stands_in;
        "nobody is": queue.running = 0 => stands_in;
        "not for long": queue.running = 0, idle_ns = T.bounded_ns => None;
    }
}

#[test]
fn what_a_tick_does() {
    let notified = |stays, still| Tick {
        stays,
        still,
        route: Some(Thread),
    };
    let rests = |stays, still| Tick {
        stays,
        still,
        route: None,
    };
    table! { world!(World::new(); has_moved = false), |all: Answers| all.tick;
        "nobody came": => notified(false, 1);
        "it moves": has_moved = true => rests(true, 0);
        "nothing queued": queue.is_queued = false => rests(false, 0);
        "the kernel is at some": has_in_kernel = true => notified(true, 1);
        "behind a write": has_in_kernel = true, queue.behind_writer = true => rests(true, 1);
        "for long": queue.behind_writer = true, queue.still = T.still - 1 => notified(false, T.still);
        "the last time": has_moved = true, is_last = true => notified(false, T.still);
        "it is closed": has_moved = true, queue.is_open = false => notified(false, 1);
    }
}
