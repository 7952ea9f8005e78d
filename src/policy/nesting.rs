//! Nested submits: a program handles its events as soon as it has submitted, and submits again before it returns, as QEMU does. If the
//! events were always there at once, it would need more and more stack. So from some depth on, events come later with each level, until the
//! program finds none and returns.

use super::tuning::Tuning;
use arrayvec::ArrayVec;

/// The most levels that are distinguished; they also limit the pause.
const LEVELS: usize = 26;

/// The submits that have not returned, as far as their positions in the stack show.
#[derive(Default)]
pub struct Nesting {
    levels: ArrayVec<usize, LEVELS>,
    /// Whether the last one was deeper than the one before it.
    deeper: bool,
}

impl Nesting {
    /// Notes one more submit, at this address of a stack that grows downwards.
    pub fn note(&mut self, address: usize, tuning: &Tuning) {
        let last = self.levels.last().copied();
        self.deeper =
            last.is_some_and(|last| address < last && last - address <= tuning.nesting_apart);
        if self.deeper && self.levels.is_full() {
            return;
        }
        if !self.deeper {
            // These have returned, or belong to another stack.
            let returned = self
                .levels
                .iter()
                .rev()
                .take_while(|level| **level <= address);
            self.levels.truncate(self.levels.len() - returned.count());
            if last.is_some_and(|last| last.abs_diff(address) > tuning.nesting_apart) {
                self.levels.clear();
            }
        }
        self.levels.push(address);
    }

    /// The delay of the last submit's events, in nanoseconds.
    pub fn pause_ns(&self, tuning: &Tuning) -> u64 {
        match self.levels.len().checked_sub(tuning.nesting_free + 1) {
            // At one level, a program may submit as often as it likes.
            Some(beyond) if self.deeper => tuning.hand_over_ns << beyond,
            _ => 0,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::policy::tuning::TUNING;

    const T: &Tuning = &Tuning {
        nesting_free: 4,
        hand_over_ns: 10,
        nesting_apart: 1000,
        ..TUNING
    };

    fn pauses(addresses: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut nesting = Nesting::default();
        let pause = |address| {
            nesting.note(address, T);
            nesting.pause_ns(T)
        };
        addresses.into_iter().map(pause).collect()
    }

    #[test]
    fn each_level_beyond_the_free_ones_doubles_the_pause() {
        assert_eq!(
            pauses((0..8).map(|i| 9000 - 100 * i)),
            [0, 0, 0, 0, 10, 20, 40, 80]
        );
    }

    #[test]
    fn a_level_that_was_returned_to_counts_those_above_it() {
        let addresses = [9000, 8900, 8800, 8700, 8600, 8500, 8700, 8600, 8500, 8500];
        assert_eq!(pauses(addresses), [0, 0, 0, 0, 10, 20, 0, 10, 20, 0]);
    }

    #[test]
    fn the_longest_pause_is_bounded() {
        let pauses = pauses((0..100).map(|i| 9000 - 10 * i));
        assert_eq!(pauses[99], 10 << (LEVELS - 1 - T.nesting_free));
        assert_eq!(pauses[99], pauses[98]);
    }

    #[test]
    fn other_stacks_do_not_nest() {
        assert_eq!(pauses((0..40).map(|i| 90_000 - 2000 * i)), [0; 40]);
        assert_eq!(pauses((0..40).map(|i| 9000 + 500 * (i % 2))), [0; 40]);
        assert_eq!(pauses([5000; 40]), [0; 40]);
    }
}
