//! IOCB_ATTR_DEADLINE: a request that has not begun by then is not begun.

use super::{Answer, Attribute, Begin};
use crate::sys::monotonic_ns;
use crate::syscall::Call;
use nix::errno::Errno;

pub struct Deadline;

impl Attribute for Deadline {
    fn begins(&self, _call: &Call, answer: &mut Answer) -> Begin {
        if monotonic_ns() > answer.input[0] {
            Begin::Never(Errno::ETIMEDOUT)
        } else {
            Begin::Goes
        }
    }
}
