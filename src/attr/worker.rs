//! IOCB_ATTR_WORKER: which thread executed the request, and on which processor it began. In the kernel's AIO, it is the
//! thread that handed the request over.

use super::{Answer, Attribute, Begin};
use crate::syscall::{Call, carrier};
use nix::errno::Errno;

pub struct Worker;

impl Attribute for Worker {
    fn begins(&self, _call: &Call, answer: &mut Answer) -> Begin {
        // SAFETY: no arguments.
        let cpu = unsafe { libc::sched_getcpu() };
        answer.out[0] = u64::from(carrier::tid()) | u64::from(cpu.max(0) as u32) << 32;
        Begin::Continue
    }

    fn skipped(&self, answer: &mut Answer) {
        answer.fail(Errno::ECANCELED);
    }
}
