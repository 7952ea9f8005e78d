//! Tuned numbers: what each means, in which unit, and what more of it does. None of them decides whether
//! something is right. docs/tuning.md says what each is worth.
//!
//! In builds with the feature `test-hooks`, AIO2_TUNING=NAME=VALUE,... changes them.

use super::fairness;

macro_rules! tuning {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $value:expr,)*) => {
        /// The tuned numbers.
        #[derive(Clone, Copy, Debug)]
        pub struct Tuning {
            $($(#[$doc])* pub $name: $kind,)*
        }

        pub const TUNING: Tuning = Tuning {
            $($name: $value,)*
        };

        impl Tuning {
            /// Changes the number of that name. False: there is none, or the value has no room.
            #[cfg(feature = "test-hooks")]
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => <$kind>::try_from(value).map(|value| self.$name = value).is_ok(),)*
                    _ => false,
                }
            }
        }
    };
}

tuning! {
    // ---- What is learned of files (see [`super::profile`] and [`crate::profiles`]) ----

    /// Nanoseconds, less than 2^16. A request that takes more is not fast, if it waited. More: callers carry out
    /// what they had better leave to a worker.
    fast_ns: u16 = 50_000,
    /// Requests. After so many fast ones in a row the next is expected to be fast. More: a file that a cache
    /// serves is recognised later; less: one that the cache often misses is taken to be fast.
    fast_in_a_row: u16 = 32,
    /// Requests. So many more after one that waited, however shortly: a fast disk is no memory.
    after_wait: u16 = 256,
    /// Requests, less than 2^13. The most that these can add up to.
    fast_after_max: u16 = 4096,
    /// Requests. So many more after a write to a regular file that was nearly known to be fast: a journal makes
    /// a few wait now and then, a worker's as well as a caller's.
    after_journal: u16 = 8,
    /// Nanoseconds. A request that takes less is not worth the lock that two threads would have to share for it.
    trivial_ns: u16 = 1_000,
    /// Requests, less than 2^4. So many are asked whether they wait after one that took long for no known reason:
    /// it may have waited, or only have been kept from running.
    suspects: u8 = 8,
    /// Requests. More than so many in a row that waited, and the file is device-bound.
    waits_in_a_row: u8 = 32,
    /// Requests, less than 2^6. A device-bound file begins with this count. Each that does not wait takes one from
    /// it, until it is device-bound no longer.
    waits_max: u8 = 36,
    /// Nanoseconds. A request that takes less is bounded, though it may wait: a caller that waits for it alone may
    /// as well do so in the system call.
    bounded_ns: u64 = 200_000,
    /// Requests, less than 2^6. After so many bounded ones the next is expected to be bounded.
    bounded_in_all: u8 = 32,
    /// Requests. So many more after each that was not.
    after_unbounded: u8 = 8,
    /// Requests, less than 2^3. So many of each file tell what files of its family are like; and each of these is
    /// asked whether it waits.
    young: u8 = 4,
    /// Points, less than 2^8. A family has so many at most; each young request that agrees adds one.
    family_max: u8 = 32,
    /// Points. With so many, a new file of the family is expected to be like the others.
    family_holds: u8 = 16,
    /// Points that a young request takes which does not agree. A family is expected to be fast if of its young
    /// requests less than one in (this and one) waits; and one file alone, with all of its young requests, does not
    /// take a full family below `family_holds`.
    family_cost: u8 = 4,
    /// Nanoseconds. A request that takes more is asked whether it waited. More: a wait is noticed later; less: more system calls.
    asked_ns: u64 = 20_000,
    /// Requests, a power of two. One in so many that take less is asked, too.
    sample: u32 = 64,
    /// Requests, a power of two. Of device-bound ones that the kernel could carry out by itself, a worker carries out one in so many,
    /// to see whether the file still is device-bound.
    device_bound_sample: u32 = 1024,
    /// Points. Half of them, and the requests of a context wait: each that waits adds some, each that does not takes one.
    waits_of_context: u32 = 16,
    /// Powers of two of nanoseconds. For so long a descriptor is taken to name the file that it named. More: fewer system calls, and a
    /// replaced descriptor is noticed later, after a request that may keep a caller waiting.
    trust_shift: u32 = 20,
    /// Requests. So many a context may have in a device that another one uses for one request at a time. More: the other one waits longer;
    /// less: the device has nothing to do meanwhile.
    fairness_cap: u32 = 8,
    /// Milliseconds, about. For so long a context is taken to use the device that it used.
    sharing_ms: u32 = 16,

    // ---- Callers that wait for events and carry requests out meanwhile ----

    /// Nanoseconds. A caller that comes for events within this time after a submit would only have waited for them. More: requests are left to
    /// callers that do something else first.
    prompt_ns: u64 = 20_000,
    /// Calls. After so many prompt ones in a row no worker is woken for requests that the caller can carry out. More than can be: never.
    prompt_in_a_row: u32 = if cfg!(loom) { 1 } else { 2 },
    /// Requests. From then on the clock is read for one submit in this many. More: a caller that is no longer prompt is noticed later.
    clock_sample: u64 = 8,
    /// Nanoseconds. Requests that take less than this together are not worth waking a worker for. More: requests wait longer for one caller;
    /// less: workers are woken for what the caller would have done by then.
    worth_waking_ns: u64 = 16_000,
    /// Nanoseconds. For so long a caller goes on with serial requests, which nobody else will carry out, though it has the events that it came
    /// for. More: fewer calls; less: it is back sooner.
    go_on_serial_ns: u64 = 100_000,
    /// Nanoseconds. For so long it goes on with others, as long as `go_on_many` wait.
    go_on_ns: u64 = 16_000,
    /// Requests. Fewer had better be there for the next call.
    go_on_many: u32 = 8,
    /// Looks, a power of two. After so many in vain a caller that never waits asks whether anybody carries requests out at all.
    vain_looks: u32 = 64,
    /// Nanoseconds. If nobody has for so long, it does: it may have the only processor.
    vain_ns: u64 = 200_000,
    /// Nanoseconds. Where it must not, it sleeps for so long.
    let_work_ns: u64 = 50_000,

    // ---- Callers that submit ----

    /// Nanoseconds. For so long a caller of io_submit() carries out reads that do not wait. More: it is back later; less: workers are woken for
    /// the rest.
    at_submit_ns: u64 = 40_000,
    /// Submits. If nobody has waited for events since so many, the program looks for them, and the kernel may get its requests within
    /// io_submit().
    without_wait: u32 = 32,

    // ---- Callers that hand over to the kernel in a queue of the context's own ----

    /// Nanoseconds. A caller that is back for events so soon after it has left is a returning one.
    back_ns: u64 = 50_000,
    /// Nanoseconds. By so much later for each request that it has submitted meanwhile.
    back_per_submit_ns: u64 = 5_000,
    /// Calls. After so many in a row it hands over itself. More than can be: never.
    back_in_a_row: u32 = 16,
    /// Nanoseconds. For so long it goes on handing over before it looks whether something has been done.
    hand_over_ns: u64 = 100_000,
    /// Sleeps. A caller that sleeps there because submitters hand over there gives that up after so many in vain. 0: submitters never do.
    submit_hint: u32 = 16,
    /// Requests. If so many are in flight there, a submitter does not hand over: its call would take longer, and workers are as quick.
    submit_hint_max: u32 = 32,
    /// Submits. So many at most pass without a hand-over after one for which the kernel would have had to wait.
    pause_max: u32 = 64,

    // ---- Batches for the kernel's AIO (see [`super::batch`]) ----

    /// Requests. The most of a batch, unless each further one begins where the one before it ends. More: fewer system calls, and the
    /// device has nothing to do before the call ends.
    batch_scattered: usize = 4,
    /// Bytes. Such ones join until the batch has this many, and a merged request has no more than this. More: the kernel waits less
    /// often for a file that grows, and the requests complete together.
    batch_bytes: u64 = 128 << 10,

    // ---- Submits that nest (see [`super::nesting`]) ----

    /// Levels. Submits that are less deep in the stack than this do not matter. More: a program needs more stack; less: events are late
    /// for one that would have returned anyway.
    nesting_free: usize = 16,
    /// Nanoseconds. The events of the first level beyond that are late by this, those of each further one by twice as much. More: a
    /// program returns earlier, and its events are later.
    nesting_pause_ns: u64 = 20_000,
    /// Bytes. Submits that are farther apart are not of one stack. More: coroutines whose stacks lie side by side look nested; less:
    /// functions with large frames do not.
    nesting_apart: usize = 32 << 10,

    // ---- Workers ----

    /// Nanoseconds. A worker carries out fast requests that take so long together before it takes the lock again. More: fewer locks, later events.
    batch_ns: u32 = 64_000,
    /// Requests, at most 8. A device is told of so many reads through the page cache that will wait for it before the first is waited for.
    read_ahead: u32 = 8,
    /// Ticks. If nothing has moved for so many, others begin beside as many requests as another context can bear.
    still: u32 = 8,
    /// Requests. So many a worker carries out for one context while others wait.
    turn: u32 = 16,
    /// Milliseconds. A worker that is at one request for so long hangs, and another is started in its place.
    hung_ms: u32 = 100,
    /// Nanoseconds. So often the monitor ticks. More: what was left to a caller that does not come is late by this; less: processor time.
    monitor_ns: u64 = 1_000_000,
    /// Nanoseconds. The same when nothing is stuck for a while.
    monitor_max_ns: u64 = 4_000_000,
    /// Nanoseconds. The same when those that wait have as many workers as they may.
    doze_max_ns: u64 = 64_000_000,
    /// Nanoseconds. A thread that had nothing to do for so long ends.
    idle_ns: u64 = 3_000_000_000,
    /// Requests. So many the device gets one by one if the kernel waits for each of them in io_submit(2) or io_uring_enter(2): of more it first sees the last.
    unplugged: u32 = 2,
    /// Nanoseconds. The kernel is taken to wait if a request takes it longer than this there.
    unplugged_ns: u64 = 20_000,

    // ---- Threads that stay awake ----

    /// Nanoseconds. For so long a thread stays awake, at most, when it waits for what is likely to come soon: some times as long as it takes to
    /// wake another thread on a processor that sleeps. 0: it sleeps at once.
    spin_ns: u64 = 100_000,
    /// Waits. It is likely after so many in a row that were shorter.
    soon_in_a_row: u32 = 8,
    /// Nanoseconds. A thread that spins and does not look for so long has lost its processor to another that needs it.
    lost_ns: u64 = 500_000,
    /// Nanoseconds. After a spin in vain none begins for so long.
    vain_rest_ns: u64 = 2_000_000,
    /// Nanoseconds. After one that was in the way of another thread none begins for so long.
    lost_rest_ns: u64 = 200_000_000,
}

/// How many workers of the process there may be for requests that end by themselves (see [`super::fairness`]).
pub const SHORT_WORKERS: fairness::Limits = fairness::Limits {
    alone: 128,
    together: 256,
    shared: 2048,
    part: 8,
    most: if cfg!(loom) { 2 } else { 4096 },
};

/// The same for those that may not.
pub const LONG_WORKERS: fairness::Limits = fairness::Limits {
    alone: 2048,
    together: u32::MAX,
    shared: 4096,
    part: 1,
    most: if cfg!(loom) { 0 } else { 6144 },
};

/// The numbers that are in force.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub fn tuning() -> &'static Tuning {
    &TUNING
}

/// The same, as AIO2_TUNING changes them. What cannot be changed is said, and left as it is.
#[cfg(feature = "test-hooks")]
pub fn tuning() -> &'static Tuning {
    static CHANGED: std::sync::OnceLock<Tuning> = std::sync::OnceLock::new();
    CHANGED.get_or_init(|| {
        let mut tuning = TUNING;
        let changes = crate::hooks::changes_of_tuning();
        for change in changes.split(',').filter(|change| !change.is_empty()) {
            let (name, number) = change.split_once('=').unwrap_or((change, ""));
            if !number.parse().is_ok_and(|number| tuning.set(name, number)) {
                eprintln!("AIO2_TUNING: {change} cannot be set");
            }
        }
        tuning
    })
}

const _: () = {
    let most = &TUNING;
    // What a profile has room for.
    assert!(most.fast_after_max < 1 << 13 && most.suspects < 1 << 4 && most.waits_max < 1 << 6);
    assert!(most.bounded_in_all < 1 << 6 && most.young < 1 << 3);
    assert!(most.sample.is_power_of_two() && most.device_bound_sample.is_power_of_two());
    assert!(most.vain_looks.is_power_of_two());
    assert!(most.family_max - most.young * most.family_cost >= most.family_holds);
};

#[cfg(all(test, feature = "test-hooks"))]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_set_by_its_name_if_it_has_room() {
        let mut tuning = TUNING;
        assert!(tuning.set("back_ns", 1 << 40) && tuning.back_ns == 1 << 40);
        assert!(tuning.set("young", 0) && tuning.young == 0);
        assert!(!tuning.set("young", 256) && tuning.young == 0);
        assert!(!tuning.set("no_such_number", 1));
    }
}
