//! Whether callers come back soon each time. If so, requests are left to them that they can hand over to the kernel themselves.

use super::tuning::Tuning;

/// What was seen of the callers of a context.
#[derive(Default)]
pub struct Returning {
    /// How often they have come back soon. A late one takes several away.
    count: u32,
    /// When a caller last left.
    departed_ns: u64,
    /// Number of requests that were submitted since.
    submitted: u32,
}

impl Returning {
    /// Requests are submitted, which takes the caller some time.
    #[inline]
    pub fn submits(&mut self, requests: u32) {
        self.submitted = self.submitted.saturating_add(requests);
    }

    /// A submit took this long because it handed requests over. The caller could not come back meanwhile.
    pub fn was_held(&mut self, ns: u64) {
        self.departed_ns += ns;
    }

    /// A caller has waited, and is about to leave the library.
    pub fn departs(&mut self, now_ns: u64) {
        self.departed_ns = now_ns;
        self.submitted = 0;
    }

    /// A caller is about to wait. `was_served`: since the last one left, a caller has found its events without a wait, so it is not known
    /// how soon this one comes back.
    pub fn arrives(&mut self, now_ns: u64, was_served: bool, t: &Tuning) {
        if was_served {
            return;
        }
        let soon = t.soon_ns + u64::from(self.submitted) * t.hand_over_ns / 4;
        if now_ns.saturating_sub(self.departed_ns) < soon {
            let most = t.back_in_a_row.saturating_add(t.back_in_a_row / 2);
            self.count = (self.count + 1).min(most);
        } else {
            self.is_late(t);
        }
    }

    /// A caller that is expected has not come. Another program may have needed the processor: one late caller alone changes nothing.
    pub fn is_late(&mut self, t: &Tuning) {
        self.count = self.count.saturating_sub(t.back_in_a_row / 4);
    }

    /// From now on no caller is expected.
    pub fn expect_nobody(&mut self) {
        self.count = 0;
    }

    #[inline]
    pub fn is_expected(&self, t: &Tuning) -> bool {
        self.count >= t.back_in_a_row
    }

    /// From now on a caller is expected to come.
    #[cfg(loom)]
    pub fn expect(&mut self, t: &Tuning) {
        self.count = t.back_in_a_row;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::policy::tuning::TUNING;

    const T: &Tuning = &Tuning {
        soon_ns: 100,
        hand_over_ns: 40,
        back_in_a_row: 8,
        ..TUNING
    };

    /// Callers that are away for these times.
    fn seen(away: impl IntoIterator<Item = u64>) -> Returning {
        let mut callers = Returning::default();
        let mut now = 1_000_000;
        callers.departs(now);
        for ns in away {
            now += ns;
            callers.arrives(now, false, T);
            callers.departs(now);
        }
        callers
    }

    #[test]
    fn callers_that_come_back_soon_are_expected() {
        assert!(!seen([99; 7]).is_expected(T));
        assert!(seen([99; 8]).is_expected(T));
        assert!(!seen([100; 1000]).is_expected(T));
    }

    #[test]
    fn two_late_callers_change_nothing_and_three_do() {
        assert!(seen([[99; 20].as_slice(), &[100; 2]].concat()).is_expected(T));
        assert!(!seen([[99; 20].as_slice(), &[100; 3]].concat()).is_expected(T));
        let rarely = (0..1000).map(|i| if i % 10 == 0 { 1000 } else { 10 });
        assert!(seen(rarely).is_expected(T));
        let often = (0..1000).map(|i| if i % 3 == 0 { 1000 } else { 10 });
        assert!(!seen(often).is_expected(T));
    }

    #[test]
    fn a_caller_has_time_for_its_submits() {
        let mut callers = seen([10; 20]);
        callers.submits(3);
        callers.submits(2);
        callers.arrives(1_000_200 + 149, false, T);
        let count = callers.count;
        assert_eq!(count, 12);
        callers.was_held(1000);
        callers.arrives(1_000_200 + 1149, false, T);
        assert_eq!(callers.count, count);
        callers.arrives(1_000_200 + 1150, false, T);
        assert!(callers.count < count);
    }

    #[test]
    fn it_is_not_known_how_late_a_caller_is_that_found_events_meanwhile() {
        let mut callers = seen([10; 9]);
        callers.arrives(u64::MAX, true, T);
        assert_eq!(callers.count, 9);
    }

    #[test]
    fn a_number_that_cannot_be_reached_switches_it_off() {
        let never = &Tuning {
            back_in_a_row: u32::MAX,
            ..TUNING
        };
        let mut callers = Returning::default();
        for now in 0..100 {
            callers.arrives(now, false, never);
        }
        assert!(!callers.is_expected(never));
    }
}
