//! IOCB_ATTR_DRAIN and IOCB_ATTR_LINK: what they mean is decided in the queue (see
//! [`crate::queue::order`]). Here they are only taken, where there is a queue.

use super::{Attribute, Submit};
use nix::errno::Errno;

pub struct InOrder;

impl Attribute for InOrder {
    fn submitted(&self, submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        if submit.clock.is_alone() {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }
}
