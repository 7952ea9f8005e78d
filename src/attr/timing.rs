//! IOCB_ATTR_TIMING: when a request was submitted, began and ended. In the kernel's AIO, it begins when it is handed
//! over and ends when it is reaped.

use super::{Answer, Attribute, Begin, Submit, payload_at};
use crate::abi::{IOCB_ATTR_TIMING, IOCB2_NOP};
use crate::request::Req;
use crate::sys::monotonic_ns;
use crate::syscall::Call;
use nix::errno::Errno;

pub struct Timing;

const SUBMIT: usize = 0;
const START: usize = 1;
const END: usize = 2;

/// When a request ended that was just executed, if it has the attribute: then nobody else must read the clock.
pub fn ended_at(req: &Req) -> Option<u64> {
    if !req.bound().has(IOCB_ATTR_TIMING) {
        return None;
    }
    let at = payload_at(req.event(), IOCB_ATTR_TIMING)?;
    Some(req.event()[at + END])
}

impl Attribute for Timing {
    fn submitted(&self, submit: &Submit, out: &mut [u64]) -> Result<(), Errno> {
        out[SUBMIT] = submit.clock.ns();
        Ok(())
    }

    fn begins(&self, call: &Call, answer: &mut Answer) -> Begin {
        let now = answer.now.unwrap_or_else(monotonic_ns);
        answer.out[START] = now;
        // A no-op takes no time. Any other request has not ended, even if it was tried before.
        answer.out[END] = if call.nr == IOCB2_NOP { now } else { 0 };
        Begin::Continue
    }

    fn ended(&self, answer: &mut Answer) {
        if answer.out[END] == 0 {
            answer.out[END] = monotonic_ns();
        }
    }

    /// All of its time was waiting. Later times are never smaller, so no difference is negative.
    fn skipped(&self, answer: &mut Answer) {
        let now = monotonic_ns();
        answer.out[START] = now;
        answer.out[END] = now;
    }
}
