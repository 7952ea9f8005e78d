//! The clock.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds.
#[cfg(not(loom))]
pub fn monotonic_ns() -> u64 {
    // Cannot fail: the clock exists on every kernel.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    })
}

pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// In a loom model time stands still.
#[cfg(loom)]
pub fn monotonic_ns() -> u64 {
    0
}
