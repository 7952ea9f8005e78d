//! IOCB_ATTR_IOPRIO: the I/O priority of this request only.

use super::{Answer, Attribute, Begin, Submit};
use crate::syscall::{Call, carrier};
use nix::errno::Errno;

pub struct Ioprio;

/// While the request runs, the upper half of the input holds the priority that the thread must restore.
const RESTORE: u64 = 1 << 63;
const BEFORE: u32 = 32;

impl Attribute for Ioprio {
    /// The priority has 16 bits; the other bits are reserved. The kernel checks the value when it is set.
    fn submitted(&self, submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        match u16::try_from(submit.input[0]) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::EINVAL),
        }
    }

    fn begins(&self, _call: &Call, answer: &mut Answer) -> Begin {
        match carrier::lend_ioprio(answer.input[0] as u16) {
            Ok(None) => {}
            Ok(Some(before)) => answer.input[0] |= RESTORE | u64::from(before) << BEFORE,
            Err(errno) => return Begin::Without(errno),
        }
        Begin::Continue
    }

    fn ended(&self, answer: &mut Answer) {
        if answer.input[0] & RESTORE != 0 {
            carrier::restore((answer.input[0] >> BEFORE) as u16);
        }
    }

    /// Another attribute may have stopped the request after `begins`.
    fn skipped(&self, answer: &mut Answer) {
        self.ended(answer);
    }
}
