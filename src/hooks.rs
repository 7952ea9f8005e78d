//! Settings for tests, from the environment. Only in builds with the feature `test-hooks`, and not in programs with
//! more rights than their user.

use std::ffi::CStr;

/// The first value of a new ring's counters.
pub fn first_counter() -> u32 {
    value(c"AIO2_HOOK_COUNTER")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Panics if the environment names this point.
pub fn panic_at(point: &str) {
    if value(c"AIO2_HOOK_PANIC").as_deref() == Some(point) {
        panic!("asked to panic at {point}");
    }
}

/// Replaces the longest sleep of a caller in its own queue.
pub fn own_queue_sleep_ns(usual: u64) -> u64 {
    value(c"AIO2_HOOK_SLEEP_NS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

/// There is no io_uring, for whatever reason.
pub fn has_no_ring() -> bool {
    value(c"AIO2_HOOK_NO_RING").is_some()
}

/// The value of AIO2_TUNING.
#[cfg(feature = "test-hooks")]
pub fn changes_of_tuning() -> String {
    value(c"AIO2_TUNING").unwrap_or_default()
}

fn value(name: &CStr) -> Option<String> {
    if cfg!(feature = "test-hooks") {
        crate::sys::variable(name, |value| value.to_owned().into_string().ok())?
    } else {
        None
    }
}
