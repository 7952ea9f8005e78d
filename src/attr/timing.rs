//! IOCB_ATTR_TIMING: when a request was submitted, began and ended.

use super::{Attribute, SubmitClock};
use crate::sys::monotonic_ns;
use nix::errno::Errno;

pub struct Timing;

const SUBMIT: usize = 0;
const START: usize = 1;
const END: usize = 2;

impl Attribute for Timing {
    fn payload_in(&self) -> usize {
        0
    }

    fn payload_out(&self) -> usize {
        3
    }

    fn submitted(&self, _input: &[u64], out: &mut [u64], clock: &SubmitClock) -> Result<(), Errno> {
        out[SUBMIT] = clock.ns();
        Ok(())
    }

    fn begins(&self, out: &mut [u64]) {
        out[START] = monotonic_ns();
    }

    fn ended(&self, out: &mut [u64]) {
        out[END] = monotonic_ns();
    }

    /// All of its time was waiting: a difference of two of the three is never negative.
    fn skipped(&self, out: &mut [u64]) {
        let now = monotonic_ns();
        out[START] = now;
        out[END] = now;
    }
}
