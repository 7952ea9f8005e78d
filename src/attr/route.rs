//! IOCB_ATTR_ROUTE: the route on which the request was executed.
//!
//! The executing code stores the route (`Req::set_route`). The attribute is answered when the request has ended, so
//! that it is right on every route, including those without a system call in this thread.

use super::{Attribute, payload_at};
use crate::abi::{
    IOCB_ATTR_ROUTE, IOCB_ROUTE_F_MERGED, IOCB_ROUTE_INLINE, IOCB_ROUTE_IO_URING,
    IOCB_ROUTE_KERNEL_AIO, IOCB_ROUTE_NOT_MADE, IOCB_ROUTE_READINESS, IOCB_ROUTE_THREAD,
};
use crate::policy::route::{Execution, Route as Way};
use crate::request::Req;

pub struct Route;

impl Attribute for Route {}

/// The request has ended, and its event is about to be published.
#[inline]
pub fn answer(req: &mut Req) {
    if req.bound().has(IOCB_ATTR_ROUTE) {
        answer_asked(req);
    }
}

#[cold]
fn answer_asked(req: &mut Req) {
    let execution: Execution = req.route();
    let route = match execution.route {
        Way::NotMade => IOCB_ROUTE_NOT_MADE,
        Way::InlineWaiting | Way::InlineSubmit | Way::InlineStandIn => IOCB_ROUTE_INLINE,
        Way::Thread => IOCB_ROUTE_THREAD,
        Way::KernelThread | Way::KernelWaiting | Way::KernelSubmit => IOCB_ROUTE_KERNEL_AIO,
        Way::UringThread | Way::UringSubmit => IOCB_ROUTE_IO_URING,
        Way::Readiness => IOCB_ROUTE_READINESS,
    };
    let flags = if execution.merged {
        IOCB_ROUTE_F_MERGED
    } else {
        0
    };
    if let Some(at) = payload_at(req.event(), IOCB_ATTR_ROUTE) {
        req.event_mut()[at] = u64::from(route) | u64::from(flags) << 32;
    }
}
