//! Tuned numbers: what each means, in which unit, and what more of it does. None of them decides whether
//! something is right.

use super::{batch, nesting};

/// The numbers by which file profiles are learned (see [`super::profile`]).
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Nanoseconds, less than 2^16. A request that takes more is not fast, if it waited. More: callers carry out
    /// what they had better leave to a worker.
    pub fast_ns: u16,
    /// Requests. After so many fast ones in a row the next is expected to be fast. More: a file that a cache
    /// serves is recognised later; less: one that the cache often misses is taken to be fast.
    pub fast_in_a_row: u16,
    /// Requests. So many more after one that waited, however shortly: a fast disk is no memory.
    pub after_wait: u16,
    /// Requests, less than 2^13. The most that these can add up to.
    pub fast_after_max: u16,
    /// Requests. So many more after a write to a regular file that was nearly known to be fast: a journal makes
    /// a few wait now and then, a worker's as well as a caller's.
    pub after_journal: u16,
    /// Nanoseconds. A request that takes less is not worth the lock that two threads would have to share for it.
    pub trivial_ns: u16,
    /// Requests, less than 2^4. So many are asked whether they wait after one that took long for no known reason:
    /// it may have waited, or only have been kept from running.
    pub suspects: u8,
    /// Requests. More than so many in a row that waited, and the file is device-bound.
    pub waits_in_a_row: u8,
    /// Requests, less than 2^6. A device-bound file begins with this count. Each that does not wait takes one from
    /// it, until it is device-bound no longer.
    pub waits_max: u8,
    /// Nanoseconds. A request that takes less is bounded, though it may wait: a caller that waits for it alone may
    /// as well do so in the system call.
    pub bounded_ns: u64,
    /// Requests, less than 2^6. After so many bounded ones the next is expected to be bounded.
    pub bounded_in_all: u8,
    /// Requests. So many more after each that was not.
    pub after_unbounded: u8,
    /// Requests, less than 2^3. So many of each file tell what files of its family are like; and each of these is
    /// asked whether it waits.
    pub young: u8,
    /// Points, less than 2^8. A family has so many at most; each young request that agrees adds one.
    pub family_max: u8,
    /// Points. With so many, a new file of the family is expected to be like the others.
    pub family_holds: u8,
    /// Points that a young request takes which does not agree. A family is expected to be fast if of its young
    /// requests less than one in (this and one) waits; and one file alone, with all of its young requests, does not
    /// take a full family below `family_holds`.
    pub family_cost: u8,
}

/// The numbers by which requests go to the kernel's AIO together (see [`super::batch`]).
pub const BATCHES: batch::Limits = batch::Limits {
    scattered: 4,
    bytes: 128 << 10,
};

/// The numbers by which events are late for a program whose submits nest (see [`super::nesting`]).
pub const NESTING: nesting::Limits = nesting::Limits {
    free: 16,
    pause_ns: 20_000,
    apart: 32 << 10,
};

pub const TUNING: Tuning = Tuning {
    fast_ns: 50_000,
    fast_in_a_row: 32,
    after_wait: 256,
    fast_after_max: 4096,
    after_journal: 8,
    trivial_ns: 1_000,
    suspects: 8,
    waits_in_a_row: 32,
    waits_max: 36,
    bounded_ns: 200_000,
    bounded_in_all: 32,
    after_unbounded: 8,
    young: 4,
    family_max: 32,
    family_holds: 16,
    family_cost: 4,
};

const _: () = {
    let most = &TUNING;
    // What a profile has room for.
    assert!(most.fast_after_max < 1 << 13 && most.suspects < 1 << 4 && most.waits_max < 1 << 6);
    assert!(most.bounded_in_all < 1 << 6 && most.young < 1 << 3);
    assert!(most.family_max - most.young * most.family_cost >= most.family_holds);
};
