//! In a model the kernel carries nothing out.

use super::{Context, Deadline, Deferred, State};
use crate::engine::pool::{Look, Worker};
use crate::policy::decide::OwnQueue;
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
    pub waited: bool,
}

impl KernelInFlight {
    pub(super) fn stay_behind(&mut self) {}

    pub(super) fn note_submitter(&mut self) {}

    pub(super) fn have_returning_reaper(&self) -> bool {
        false
    }
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

    pub(super) fn own_queue_facts(&self, _: &State) -> OwnQueue {
        OwnQueue::default()
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
