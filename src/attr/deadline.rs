//! IOCB_ATTR_DEADLINE: if a request has not begun before its deadline, it is not executed.

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
            Begin::Continue
        }
    }
}
