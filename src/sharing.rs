//! Which contexts use the same device at a time, so that one that has hundreds of requests in flight
//! leaves the device some room for another that has one ([`crate::profiles::Profiles::share`]).
//!
//! Hints, like all that is learned: an update may get lost, and two devices may take each other's
//! place.

use crate::policy::tuning::tuning;
// Not loom's, also in a model: nothing is ordered by them.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const DEVICES: usize = 16;

/// Of each device, the two contexts that have used it last: who in the upper half; when, and whether it
/// was one request at a time, in the lower.
static USERS: [[AtomicU64; 2]; DEVICES] = [const { [const { AtomicU64::new(0) }; 2] }; DEVICES];

/// `context`, a number that is hardly another's, uses that device, for `one` request at a time or for
/// several. Whether there is another that does for one at a time.
pub fn has_serial_user(context: u32, device: u64, now: u32, one: bool) -> bool {
    let users = &USERS[device as usize % DEVICES];
    let seen = [0, 1].map(|i: usize| users[i].load(Relaxed));
    let who = |i: usize| (seen[i] >> 32) as u32;
    let age = |i: usize| (now << 1).wrapping_sub(seen[i] as u32 & !1) >> 1;
    let mine = match (who(0) == context, who(1) == context) {
        (true, _) => 0,
        (_, true) => 1,
        // In the place of whoever has not been here for longer.
        _ if age(0) > age(1) => 0,
        _ => 1,
    };
    let entry = u64::from(context) << 32 | u64::from(now << 1 | u32::from(one));
    users[mine].store(entry, Relaxed);
    let other = 1 - mine;
    who(other) != context && age(other) <= 2 * tuning().still && seen[other] & 1 != 0
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
        // A third one takes the place of the second.
        assert!(!has_serial_user(3, device, 1003 + 2 * tuning().still, true));
        assert!(has_serial_user(1, device, 1003 + 2 * tuning().still, false));
        // Both have many in flight.
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
