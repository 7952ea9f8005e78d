//! In a model the kernel carries nothing out.

use super::engines::Worker;
use super::{Context, Deadline, Deferred, State};
use crate::engine::pool::Look;
use crate::queue::ContextRef;
use crate::request::{List, Req};
use crate::sync::Guard;
use crate::sys::Waited;
use crate::syscall::Class;
use nix::sys::signal::SigSet;

pub type OwnQueueSlot = ();

#[derive(Default)]
pub struct KernelInFlight {
    pub in_time: bool,
}

impl KernelInFlight {
    pub(super) fn stay_behind(&mut self) {}
}

impl State {
    pub(super) fn has_in_kernel(&self) -> bool {
        false
    }

    pub(super) fn note_leaving(&mut self) {}

    pub(super) fn waits_for_writer(&self) -> bool {
        false
    }
}

pub struct Visit {
    pub until: u64,
}

impl Visit {
    pub(super) fn new(deadline: &Deadline, _mask: Option<&SigSet>) -> Visit {
        Visit {
            until: deadline.ns(),
        }
    }

    pub(super) fn looks_in(&mut self) -> bool {
        false
    }
}

impl Context {
    pub(super) fn is_for_kernel(&self, _state: &mut State, _req: &Req) -> bool {
        false
    }

    pub(super) fn leave_to_worker(
        _: &ContextRef,
        _: &mut State,
        _: Class,
        _: &mut Deferred,
    ) -> bool {
        false
    }

    pub(super) fn leave_to_returning_reaper(
        _: &ContextRef,
        _: &mut State,
        _: &mut Deferred,
    ) -> bool {
        false
    }

    pub(super) fn hand_over<'a>(
        _this: &'a ContextRef,
        state: Guard<'a, State>,
        deferred: Deferred,
        _worker: &mut Worker,
        _first: Req,
    ) -> (Guard<'a, State>, Deferred) {
        (state, deferred)
    }

    pub(super) fn wait_in_own_queue<'a>(
        _this: &'a ContextRef,
        state: Guard<'a, State>,
        _visit: &mut Visit,
        _need: u64,
    ) -> core::result::Result<Waited, Guard<'a, State>> {
        Err(state)
    }

    pub(super) fn is_for_kernel_at_submit(&self, _: &mut State, _: &List) -> bool {
        false
    }

    pub(super) fn hand_over_submitted(_this: &ContextRef) {}

    pub(super) fn take_done(_this: &ContextRef) -> bool {
        false
    }

    pub(super) fn drain_kernel(_this: &ContextRef) {}

    pub(super) fn tick_kernel(_this: &ContextRef, _look: Look) -> bool {
        false
    }
}
