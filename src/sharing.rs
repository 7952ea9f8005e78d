//! Which contexts use the same device at the same time. A context with hundreds of requests in flight then leaves the
//! device some room for another context with one ([`crate::profiles::Profiles::share`]).
//!
//! All of it is a hint: an update may be lost, and two devices may share an entry.

use crate::policy::tuning::tuning;
// Not loom's, even in a model. Relaxed everywhere: hints, which order nothing.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const DEVICES: usize = 16;

/// The two contexts that used each device last. Upper half: the context. Lower half: the time, and whether it used one
/// request at a time.
static USERS: [[AtomicU64; 2]; DEVICES] = [const { [const { AtomicU64::new(0) }; 2] }; DEVICES];

/// Notes that `context`, a nearly unique number, uses the device for one request at a time (`one`) or for several.
/// Returns whether another context uses it for one at a time.
pub fn has_serial_user(context: u32, device: u64, now: u32, one: bool) -> bool {
    let users = &USERS[device as usize % DEVICES];
    let seen = [0, 1].map(|i: usize| users[i].load(Relaxed));
    let user = |i: usize| (seen[i] >> 32) as u32;
    let age = |i: usize| (now << 1).wrapping_sub(seen[i] as u32 & !1) >> 1;
    let mine = match (user(0) == context, user(1) == context) {
        (true, _) => 0,
        (_, true) => 1,
        // Replaces the older entry.
        _ if age(0) > age(1) => 0,
        _ => 1,
    };
    let entry = u64::from(context) << 32 | u64::from(now << 1 | u32::from(one));
    users[mine].store(entry, Relaxed);
    let other = 1 - mine;
    user(other) != context && age(other) <= 2 * tuning().still && seen[other] & 1 != 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_seen_by_the_other_of_its_device_while_it_is_there() {
        let device = 7;
        assert!(!has_serial_user(1, device, 1000, false));
        assert!(!has_serial_user(1, device, 1001, false));
        assert!(!has_serial_user(2, device, 1002, true));
        assert!(has_serial_user(1, device, 1003, false));
        assert!(!has_serial_user(1, device + 1, 1003, false));
        assert!(has_serial_user(1, device, 1002 + 2 * tuning().still, false));
        assert!(!has_serial_user(
            1,
            device,
            1003 + 2 * tuning().still,
            false
        ));
        // A third context replaces the second.
        assert!(!has_serial_user(3, device, 1003 + 2 * tuning().still, true));
        assert!(has_serial_user(1, device, 1003 + 2 * tuning().still, false));
        // Both have many requests in flight.
        assert!(!has_serial_user(
            3,
            device,
            1004 + 2 * tuning().still,
            false
        ));
        assert!(!has_serial_user(
            1,
            device,
            1004 + 2 * tuning().still,
            false
        ));
    }
}
