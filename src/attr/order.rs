//! IOCB_ATTR_DRAIN and IOCB_ATTR_LINK. The queue implements them (see [`crate::queue::order`]); here they are only
//! accepted, if there is a queue.

use super::{Attribute, Submit};
use nix::errno::Errno;

pub struct InOrder;

impl Attribute for InOrder {
    fn submitted(&self, submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        if submit.clock.has_no_queue() {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }
}
