//! What tests may bend: read from the environment, and only in builds with the feature
//! `test-hooks`.

/// First value of a new ring's counters.
pub fn first_counter() -> u32 {
    value("AIO2_HOOK_COUNTER")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Panics if the environment asks for it at this place.
pub fn panic_at(place: &str) {
    if value("AIO2_HOOK_PANIC").as_deref() == Some(place) {
        panic!("asked to panic at {place}");
    }
}

fn value(name: &str) -> Option<String> {
    if cfg!(feature = "test-hooks") {
        std::env::var(name).ok()
    } else {
        None
    }
}
