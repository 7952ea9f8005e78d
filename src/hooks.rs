//! What tests may bend: read from the environment, and only in builds with the feature
//! `test-hooks`, and not in programs that have more rights than their user.

use std::ffi::CStr;

/// First value of a new ring's counters.
pub fn first_counter() -> u32 {
    value(c"AIO2_HOOK_COUNTER")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Panics if the environment asks for it at this place.
pub fn panic_at(place: &str) {
    if value(c"AIO2_HOOK_PANIC").as_deref() == Some(place) {
        panic!("asked to panic at {place}");
    }
}

/// There is no io_uring, for whatever reason.
#[cfg(not(loom))]
pub fn has_no_ring() -> bool {
    value(c"AIO2_HOOK_NO_RING").is_some()
}

/// The numbers that AIO2_TUNING changes.
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
