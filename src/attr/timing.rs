//! IOCB_ATTR_TIMING: when a request was submitted, began and ended.

use super::{Answer, Attribute, Begin, Submit};
use crate::request::Call;
use crate::sys::monotonic_ns;
use nix::errno::Errno;

pub struct Timing;

const SUBMIT: usize = 0;
const START: usize = 1;
const END: usize = 2;

impl Attribute for Timing {
    fn submitted(&self, submit: &Submit, out: &mut [u64]) -> Result<(), Errno> {
        out[SUBMIT] = submit.clock.ns();
        Ok(())
    }

    fn begins(&self, _call: &Call, answer: &mut Answer) -> Begin {
        answer.out[START] = monotonic_ns();
        Begin::Goes
    }

    fn ended(&self, answer: &mut Answer) {
        answer.out[END] = monotonic_ns();
    }

    /// All of its time was waiting: a difference of two of the three is never negative.
    fn skipped(&self, answer: &mut Answer) {
        let now = monotonic_ns();
        answer.out[START] = now;
        answer.out[END] = now;
    }
}
