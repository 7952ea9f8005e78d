//! Tuned numbers: what each means, in which unit, and what more of it does. None of them decides whether
//! something is right. docs/tuning.md says what each is worth.
//!
//! The first list has the numbers that were chosen, the second those that follow from them: a property of this library or of the
//! machine is one number, whatever depends on it.
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
            /// The same, with what follows from the first list.
            const fn followed(self) -> Tuning {
                let $from = self;
                Tuning {
                    $($other: $follows,)*
                    ..self
                }
            }

            /// Changes the number of that name and, if it is of the first list, all that follow. False: there is none, or the value
            /// has no room.
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
    /// Nanoseconds. So long it takes, about, to hand something over to another thread: until that one is woken and runs, and then the one that
    /// waits for it. More: callers do more themselves, and are back later; less: more threads are woken.
    hand_over_ns: u64 = 16_000,
    /// Observations. After so many in a row that are alike the next is expected to be like them. More: a file or a caller is recognised
    /// later; less: it is taken for what it was by chance.
    in_a_row: u8 = 32,
    /// Requests. After one that waited, so many more have to be fast before a file is taken to be fast. More: a file that is in memory again
    /// is recognised later; less: a fast disk is taken for memory.
    after_wait: u16 = 256,
    /// Requests, less than 2^3. So many of each file tell what files of its family are like; one that does not agree counts as much as so many
    /// that do. More: system calls for each new file, to ask whether it waits; less: a family is known by chance. 0: nothing is known
    /// of families.
    young: u8 = 4,
    /// Requests or looks, a power of two. One in so many is looked at more closely, or goes another way, to see whether things are
    /// as they were. More: a change is noticed later; less: system calls.
    sample: u32 = 64,
    /// Powers of two of nanoseconds: a tick. So often the monitor looks after what was left to a caller, and the kernel is asked what a
    /// descriptor names. More: both is noticed later; less: processor time.
    tick_shift: u32 = 20,
    /// Ticks. If nothing has moved for so many, what was expected to move it does not count any more. More: what is left to somebody who
    /// does not come is late by this; less: a device that pauses gets all that waits at once.
    still: u32 = 8,
    /// Ticks. A worker that is at one request for so long hangs, and another is started in its place. More: others wait for longer; less: more
    /// threads.
    hung: u32 = 96,
    /// Nanoseconds. A thread that had nothing to do for so long ends. More: threads that nobody needs; less: threads are started more often.
    idle_ns: u64 = 3_000_000_000,
    /// Requests. So many a context may have in a device that another one uses for one request at a time. More: the other one waits longer;
    /// less: the device has nothing to do meanwhile.
    fairness_cap: u32 = 8,
    /// Requests. So many a worker carries out for one context while others wait. More: they wait longer; less: more locks.
    turn: u32 = 16,
    /// Calls. After so many that came right after a submit no worker is woken for requests that the caller can carry out. More than can be:
    /// never.
    prompt_in_a_row: u32 = if cfg!(loom) { 1 } else { 2 },
    /// Requests. If so many are in flight in the own queue, a submitter does not hand over: its call would take longer, and workers are as quick.
    /// 0: submitters never do.
    submit_hint_max: u32 = 32,
    /// Requests. The most of a batch for the kernel's AIO (see [`super::batch`]), unless each further one begins where the one before it
    /// ends. More: fewer system calls, and the device has nothing to do before the call ends.
    batch_scattered: usize = 4,
    /// Bytes. Such ones join until the batch has this many, and a merged request has no more than this. More: the kernel waits less
    /// often for a file that grows, and the requests complete together.
    batch_bytes: u64 = 128 << 10,
    /// Requests. If the kernel waits for each request in io_submit(2) or io_uring_enter(2), a device gets so many by one call: of more, it
    /// would see the first only with the last. More: fewer system calls; less: the device has something to do sooner.
    unplugged: u32 = 2,
    /// Requests, at most 8. So many a worker takes at most while others wait: fast ones before it takes the lock, or reads through the page cache of which
    /// the device is told before the first is waited for. And a caller that has its events goes on as long as so many wait. More: fewer locks and
    /// calls, more for the device; less: the first event is there sooner.
    takes: u32 = 8,
    /// Levels. Submits that are less deep in the stack than this do not matter (see [`super::nesting`]). More: a program needs more stack;
    /// less: events are late for one that would have returned anyway.
    nesting_free: usize = 16,
    /// Bytes. Submits that are farther apart are not of one stack. More: coroutines whose stacks lie side by side look nested; less:
    /// functions with large frames do not.
    nesting_apart: usize = 32 << 10,
    ----
    from t:
    // ---- What is worth a hand-over ----

    /// Nanoseconds. A request that takes less is trivial: not worth the lock that two threads would have to share for it.
    trivial_ns: u64 = t.hand_over_ns / 16,
    /// Nanoseconds. A request that takes more is not fast, if it waited: beside it a hand-over counts little. So it is asked whether it did. And so long
    /// those may take together that a worker takes.
    fast_ns: u64 = t.hand_over_ns * 4,
    /// Nanoseconds. What comes within this time comes soon: a caller that is back for events, or what a thread stays awake for.
    soon_ns: u64 = t.hand_over_ns * 6,
    /// Nanoseconds. For so long a caller of io_submit() carries out reads that do not wait. The rest is worth a worker.
    at_submit_ns: u64 = t.hand_over_ns * 4,
    /// Nanoseconds. A request that takes less is bounded, though it may wait: a caller that waits for it alone may as well do so in the
    /// system call. If nobody has begun anything for so long, a caller that looks in vain does: it may have the only processor.
    bounded_ns: u64 = t.hand_over_ns * 16,

    // ---- When something is taken for known, and for how long ----

    /// Requests, less than 2^13. The most that these can add up to.
    fast_after_max: u16 = t.after_wait * 16,
    /// Requests, less than 2^6. A device-bound file has this count. Each request that does not wait takes one from it, until it is
    /// `in_a_row`: then the file is device-bound no longer.
    waits_max: u8 = t.in_a_row + t.in_a_row / 8,
    /// Calls. After so many of callers that are back soon, one hands over itself. More than can be: never.
    back_in_a_row: u32 = t.in_a_row as u32,
    /// Waits. After so many short ones a thread stays awake for the next.
    soon_in_a_row: u32 = t.in_a_row as u32 / 4,
    /// Submits. If nobody has waited for events since so many, the program looks for them, and the kernel may get its requests within
    /// io_submit().
    without_wait: u32 = t.in_a_row as u32,
    /// Requests, a power of two. Of device-bound ones that the kernel could carry out by itself, a worker carries out one in so
    /// many, to see whether the file still is device-bound: it costs more than to be asked.
    device_bound_sample: u32 = t.sample * 16,
}

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
    assert!(most.fast_after_max < 1 << 13 && most.waits_max < 1 << 6);
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
