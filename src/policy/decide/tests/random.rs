//! Properties that hold for all facts.

use super::*;
use crate::tests::Random;

fn any_outlook(random: &mut Random) -> Outlook {
    let kinds = [Kind::Read, Kind::Write, Kind::Sync];
    let classes = [CACHED, DIRECT, DEVICE];
    let kind = kinds[random.below(3) as usize];
    let class = classes[random.below(3) as usize];
    match random.below(10) {
        0 => Outlook::Nop,
        1 => Outlook::Other,
        2 | 3 => file(kind, class, 100_000, 2),
        4..=6 => file(kind, class, 4_000, 0),
        _ => file(kind, class, 300_000, 1),
    }
}

/// Each fact, and how it is changed.
type Fact = (&'static str, fn(&mut World, &mut Random));

macro_rules! facts {
    ($($fact:ident $(. $part:ident)?: $value:expr,)*) => {
        &[$((
            stringify!($fact $(. $part)?),
            |world, random: &mut Random| world.$fact $(. $part)? = ($value as fn(&mut Random) -> _)(random),
        ),)*]
    };
}

fn any(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn rarely(random: &mut Random) -> bool {
    random.below(8) == 0
}

fn number<const N: u64>(random: &mut Random) -> u32 {
    random.below(N) as u32
}

const FACTS: &[Fact] = facts! {
    queue.in_flight: number::<12>,
    queue.running: number::<4>,
    queue.running_finite: number::<4>,
    queue.transfers: number::<3>,
    queue.limit: |random: &mut Random| 1 + number::<8>(random),
    queue.share: |random: &mut Random| if rarely(random) { 1 } else { u32::MAX },
    queue.is_queued: any,
    queue.handing_over: number::<2>,
    queue.still: |random: &mut Random| if rarely(random) { number::<10>(random) } else { 0 },
    queue.behind_writer: any,
    queue.has_waiters: any,
    queue.is_open: |random: &mut Random| !rarely(random),
    queue.callers_carry_out: |random: &mut Random| !rarely(random),
    queue.is_prompt: any,
    queue.is_returning: any,
    queue.is_timed: any,
    queue.has_waited: any,
    queue.has_ring: any,
    own.in_flight: |random: &mut Random| if any(random) { 0 } else { number::<40>(random) },
    own.is_full: rarely,
    own.has_reaper: any,
    own.is_asleep: any,
    own.has_submitter: rarely,
    own.pause: |random: &mut Random| u32::from(rarely(random)),
    own.has_hint: any,
    submit: any_submit,
    within.has_inline: any,
    within.is_nested: rarely,
    within.is_polling: any,
    within.lacks_threads: rarely,
    within.is_sample: rarely,
    class: |random: &mut Random| if rarely(random) { Class::Indefinite } else { Class::Finite },
    first: any_outlook,
    is_notified: rarely,
    req: any_outlook,
    only_observes: any,
    last_ns: |random: &mut Random| random.below(40_000),
    kernel.supports: any,
    kernel.has_room: |random: &mut Random| !rarely(random),
    kernel.is_sample: rarely,
    are_announced: any,
    is_sole: any,
    is_timed: any,
    untouched: any,
    idle_ns: |random: &mut Random| random.below(400_000),
    is_before: any,
    has_worker: any,
    has_moved: any,
    is_last: rarely,
    has_in_kernel: any,
};

fn any_submit(random: &mut Random) -> Submit {
    let all: Vec<Outlook> = (0..=random.below(3)).map(|_| any_outlook(random)).collect();
    submit(&all)
}

/// A possible world.
fn any_world(random: &mut Random) -> World {
    let mut world = World::new();
    for (_, change) in FACTS {
        change(&mut world, random);
    }
    let queue = &mut world.queue;
    queue.running = queue.running.min(queue.limit);
    queue.running_finite = queue.running_finite.min(queue.running);
    queue.transfers = queue.transfers.min(queue.running_finite);
    queue.in_flight = queue
        .in_flight
        .max(queue.running + u32::from(queue.is_queued));
    // A caller that hands writes over has them in the kernel by then.
    queue.behind_writer &= world.has_in_kernel;
    world.own.has_reaper |= world.own.is_asleep;
    world
}

#[test]
fn each_fact_counts() {
    let mut random = Random(1);
    let mut counts = vec![0; FACTS.len()];
    for _ in 0..8_000 {
        let world = any_world(&mut random);
        let before = world.answers();
        for ((_, change), count) in FACTS.iter().zip(&mut counts) {
            let mut other = world;
            change(&mut other, &mut random);
            *count += usize::from(other.answers() != before);
        }
    }
    for ((name, _), count) in FACTS.iter().zip(counts) {
        assert!(count != 0, "{name} changes nothing");
    }
}

#[test]
fn each_route_is_taken() {
    let mut random = Random(2);
    let mut counts = [0; Route::COUNT];
    for _ in 0..2_000 {
        let all = any_world(&mut random).answers();
        let routes = [
            all.submitted.route,
            all.within.route,
            Some(all.left_by_submit),
            all.queued.route,
            all.for_worker.route,
            Some(all.dequeued.route),
            all.for_caller,
            all.for_reaper,
            all.for_poller,
            all.tick.route,
        ];
        for route in routes.into_iter().flatten() {
            counts[route as usize] += 1;
        }
    }
    for route in Route::ALL {
        // These are not decided here: they follow from the facts that a thread finds when it carries the request out. The engine itself
        // finds that it has a ring.
        let is_found = matches!(route, NotMade | Readiness | UringThread);
        assert_eq!(counts[route as usize] == 0, is_found, "{route:?}");
    }
}

/// These properties hold whatever the facts are.
#[test]
fn what_holds_for_all() {
    let mut random = Random(3);
    let mut handed = 0;
    for _ in 0..20_000 {
        let world = any_world(&mut random);
        let all = world.answers();
        let World { queue, own, .. } = &world;
        // A request that may wait for ever is no caller's, and no submitter's either if there is a worker.
        if matches!(world.req, Outlook::Other) {
            assert_eq!(all.for_caller, None);
            assert_eq!(all.dequeued.route, Thread);
        }
        if matches!(world.submit.first, Outlook::Other) {
            assert!(all.submitted.route.is_none() && all.within.route.is_none());
        }
        if !world.submit.all_fast && !world.submit.one_bounded {
            assert_ne!(all.submitted.route, Some(InlineWaiting));
        }
        if matches!(world.first, Outlook::Other) {
            assert_eq!(all.for_reaper, None);
            assert!(matches!(all.queued.route, None | Some(Thread)));
            assert!(matches!(all.for_worker.route, None | Some(Thread)));
        }
        if world.class == Class::Indefinite {
            assert!(matches!(all.queued.route, None | Some(Thread)));
        }
        // A caller with a time limit gets no request that may wait.
        if world.is_timed && all.for_caller.is_some() {
            assert!(world.req.is_fast(T) && world.req.fits_in_time());
        }
        // Callers of these contexts carry nothing out.
        if !queue.callers_carry_out {
            assert_eq!((all.submitted.route, all.for_reaper), (None, None));
        }
        // A submitter must not wait: it hands over reads, without the shield that a write needs, and only beside a caller that sleeps.
        // `policy::batch` shows which requests join these, and that a batch has one direction.
        if all.submitted.route == Some(KernelSubmit) {
            handed += 1;
            assert!(!world.submit.first.writes() && own.is_asleep && queue.has_waiters);
        }
        // Nothing is left without an owner: a worker is told or takes it, the monitor looks after it, or a running request ends and its
        // thread looks for more.
        if queue.is_queued {
            for left in [all.queued, all.for_worker] {
                let is_owned = left.route == Some(Thread) || left.needs_lease || queue.running != 0;
                assert!(is_owned, "{world:?}");
                // Without a lease, no thread is expected to come.
                assert!(left.needs_lease || matches!(left.route, None | Some(Thread)));
            }
            assert!(
                all.tick.stays || all.tick.route == Some(Thread),
                "{world:?}"
            );
        }
        // A thread that is expected to come is not asleep, and comes.
        let expected = [all.queued.route, all.for_worker.route];
        if expected.contains(&Some(KernelWaiting)) {
            assert!(queue.is_returning && !queue.is_timed && !queue.has_waiters);
            assert!(all.for_reaper.is_some());
        }
        if all.submitted.route == Some(InlineWaiting) || expected.contains(&Some(InlineWaiting)) {
            assert!(queue.is_prompt && !queue.has_waiters);
        }
        // If the queue is stuck, requests are left to a worker only.
        if queue.is_stuck(T) && world.class == Class::Finite {
            assert!(matches!(all.queued.route, None | Some(Thread)));
        }
    }
    assert!(handed > 20);
}
