//! Tuned numbers: the meaning of each, its unit, and the effect of a larger and a smaller value. None of them decides whether something is
//! right. docs/tuning.md has the effect of each.
//!
//! The first list has the numbers that were chosen, the second list those that follow from them: a property of this library or of the
//! machine is one number, however many others depend on it.
//!
//! In builds with the feature `test-hooks`, AIO2_TUNING=NAME=VALUE,... changes them, of both lists.

macro_rules! tuning {
    (
        $($(#[$doc:meta])* $name:ident: $kind:ty = $value:expr,)*
        ----
        from $from:ident:
        $($(#[$doc_of_other:meta])* $other:ident: $kind_of_other:ty = $follows:expr,)*
    ) => {
        /// The tuned numbers, and those that follow from them.
        #[derive(Clone, Copy, Debug)]
        pub struct Tuning {
            $($(#[$doc])* pub $name: $kind,)*
            $($(#[$doc_of_other])* pub $other: $kind_of_other,)*
        }

        pub const TUNING: Tuning = Tuning {
            $($name: $value,)*
            $($other: 0,)*
        }
        .followed();

        impl Tuning {
            /// The same, with the second list computed from the first.
            const fn followed(self) -> Tuning {
                let $from = self;
                Tuning {
                    $($other: $follows,)*
                    ..self
                }
            }

            /// Changes the number with that name and, if it is in the first list, all that follow. False: there is none, or the value is
            /// too large.
            #[cfg(feature = "test-hooks")]
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => {
                        let set = <$kind>::try_from(value).map(|value| self.$name = value);
                        *self = self.followed();
                        set.is_ok()
                    })*
                    $(stringify!($other) => {
                        <$kind_of_other>::try_from(value).map(|value| self.$other = value).is_ok()
                    })*
                    _ => false,
                }
            }
        }
    };
}

tuning! {
    /// Nanoseconds. The approximate time to hand something over to another thread: until that thread is woken and runs, and then the one
    /// that waits for it. More: callers do more themselves, and come back later; less: more threads are woken.
    hand_over_ns: u64 = 16_000,
    /// Observations. After this many equal ones in a row, the next is expected to be equal. More: a file or a caller is recognised later;
    /// less: it is judged by chance.
    in_a_row: u8 = 32,
    /// Requests, less than 2^13. After one that waited, this many in a row must be fast before a file counts as fast. More: a file that is
    /// in memory again is recognised later; less: a fast disk is taken for memory.
    after_wait: u16 = 256,
    /// Requests, less than 2^3. The first ones of each file, from which its family learns; one that contradicts a property counts as much
    /// as this many that confirm it. More: system calls for each new file, to ask whether it waits; less: a family is known by chance. 0:
    /// nothing is known of families.
    young: u8 = 4,
    /// Requests or looks, a power of two. One of this many is examined more closely, or goes another way, to see whether anything has
    /// changed. More: a change is noticed later; less: system calls.
    sample: u32 = 64,
    /// Power of two of nanoseconds: a tick. The period at which the monitor looks after requests that were left to a caller, and at which
    /// the kernel is asked which file a descriptor names. More: both are noticed later; less: processor time.
    tick_shift: u32 = 20,
    /// Ticks. If nothing has moved for this long, nobody is expected to move it any more. More: requests that are left to a caller that
    /// does not come are late by this; less: a device that pauses gets all that waits at once.
    still: u32 = 8,
    /// Ticks. If a worker is at one request for this long, it hangs, and another is started in its place. More: others wait longer; less:
    /// more threads.
    hung: u32 = 96,
    /// Nanoseconds. If a thread has nothing to do for this long, it ends. More: idle threads; less: threads are started more often.
    idle_ns: u64 = 3_000_000_000,
    /// Requests. The most of a context in a device that another context uses for one request at a time. More: the other context waits
    /// longer; less: the device is idle meanwhile.
    fairness_cap: u32 = 8,
    /// Requests. The most that a worker carries out for one context while others wait. More: the others wait longer; less: more locks.
    turn: u32 = 16,
    /// Calls. After this many that came right after a submit, no worker is woken for requests that the caller can carry out. A number that
    /// cannot be reached: never.
    prompt_in_a_row: u32 = if cfg!(loom) { 1 } else { 2 },
    /// Requests. If this many are in flight in the own queue, a submitter does not hand over: its call would take longer, and workers are
    /// as quick. 0: submitters never do.
    submit_hint_max: u32 = 32,
    /// Bytes. Requests that follow each other are merged up to this size (see [`super::batch`]). More: the kernel waits less often for a file
    /// that grows; less: the first of them completes sooner.
    batch_bytes: u64 = 128 << 10,
    /// Requests. If the kernel waits for each request in io_submit(2) or io_uring_enter(2), one call passes this many: of more, the device
    /// would see the first only with the last. More: fewer system calls; less: the device has something to do sooner.
    unplugged: u32 = 2,
    /// Requests, at most 8. The most that a worker takes at once while others wait: fast ones before it takes the lock again, or reads
    /// through the page cache that the device is told of before the first is waited for. A caller that has its events goes on as long as
    /// this many wait. More: fewer locks and calls, more for the device; less: the first event comes sooner.
    takes: u32 = 8,
    /// Levels. Submits less deep in the stack than this are ignored (see [`super::nesting`]). More: a program needs more stack; less:
    /// events are late for a program that would have returned anyway.
    nesting_free: usize = 16,
    /// Bytes. Submits farther apart than this are not in one stack. More: coroutines whose stacks lie side by side look nested; less:
    /// functions with large frames do not.
    nesting_apart: usize = 32 << 10,
    ----
    from t:
    // ---- Which requests are worth a hand-over ----

    /// Nanoseconds. A request that takes less is trivial: not worth the lock that two threads would have to share for it.
    trivial_ns: u64 = t.hand_over_ns / 16,
    /// Nanoseconds. A request that takes more is asked whether it has waited. If it has, it is not fast: beside it, a hand-over counts
    /// little. This is also the limit for all requests together that a worker takes at once.
    fast_ns: u64 = t.hand_over_ns * 4,
    /// Nanoseconds. Within this time is soon: for a caller that comes back for events, and for the next request, for which a thread stays
    /// awake.
    soon_ns: u64 = t.hand_over_ns * 6,
    /// Nanoseconds. The time for which a caller of io_submit() carries out reads that do not wait. The rest is worth a worker.
    at_submit_ns: u64 = t.hand_over_ns * 4,
    /// Nanoseconds. A request that takes less is bounded, although it may wait: a caller that waits for it alone may as well do so in the
    /// system call. If nothing has begun for this long, a caller that looks in vain carries out requests: it may occupy the only processor.
    bounded_ns: u64 = t.hand_over_ns * 16,
    /// Bytes. A longer read is not announced to its device: one alone keeps the device busy.
    announced_max: u64 = t.batch_bytes / 2,

    // ---- When a property counts as known, and for how long ----

    /// Requests, less than 2^6. The count of a device-bound file. Each request that does not wait takes one from it. At `in_a_row` the file
    /// is no longer device-bound.
    waits_max: u8 = t.in_a_row + t.in_a_row / 8,
    /// Calls. After this many by callers that came back soon, the next one hands over itself. A number that cannot be reached: never.
    back_in_a_row: u32 = t.in_a_row as u32,
    /// Waits. After this many short ones, a thread stays awake for the next.
    soon_in_a_row: u32 = t.in_a_row as u32 / 4,
    /// Submits. If nobody has waited for events for this many, the program polls, and the kernel may get its requests within io_submit().
    without_wait: u32 = t.in_a_row as u32,
    /// Requests, a power of two. Of the device-bound requests that the kernel could carry out, a worker carries out one of this many, to
    /// see whether the file is still device-bound: this costs more than asking a request whether it waited. If it did not wait, the next one
    /// is a sample, too.
    device_bound_sample: u32 = t.sample * 4,
}

/// The tuned numbers in force.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub fn tuning() -> &'static Tuning {
    &TUNING
}

/// The same, as AIO2_TUNING changes them. An invalid change is reported and ignored.
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
    // Limits of the bits of a profile.
    assert!(most.after_wait < 1 << 13 && most.waits_max < 1 << 6);
    assert!(most.in_a_row < 1 << 6 && most.young < 1 << 3);
    assert!(most.sample.is_power_of_two() && most.device_bound_sample.is_power_of_two());
    assert!(most.in_a_row - most.young * most.young >= most.in_a_row / 2);
};

#[cfg(all(test, feature = "test-hooks"))]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_set_by_its_name_if_it_has_room() {
        let mut tuning = TUNING;
        assert!(tuning.set("soon_ns", 1 << 40) && tuning.soon_ns == 1 << 40);
        assert!(tuning.set("young", 0) && tuning.young == 0);
        assert!(!tuning.set("young", 256) && tuning.young == 0);
        assert!(!tuning.set("no_such_number", 1));
        assert!(tuning.set("hand_over_ns", 1_000) && tuning.soon_ns == 6_000);
    }
}
