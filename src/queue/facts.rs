//! Gathers the facts for [`crate::policy::decide`].

use super::engines::{Kaio, Worker};
use super::{Context, State};
use crate::engine::{Engine, own_queue};
use crate::policy::decide::{self, Dequeued, Dispatch, Kernel, OwnQueue, Queue};
use crate::policy::outlook::Outlook;
use crate::policy::tuning::tuning;
use crate::request::{List, Req};
use crate::syscall::{self, Call, Class};
use crate::{engine::allows_kernel_queues, policy::waiting::Patient};

impl Context {
    #[inline]
    pub(super) fn queue_facts(&self, state: &State) -> Queue {
        Queue {
            in_flight: state.in_flight - state.running.waiting(),
            running: state.running.len(),
            running_finite: state.running.finite(),
            transfers: state.running.transfers(),
            limit: self.limit,
            share: self.profiles.share(),
            is_queued: !state.queues[Class::Finite as usize].is_empty(),
            handing_over: state.handing_over,
            still: state.still,
            behind_writer: state.still != 0 && state.waits_for_writer(),
            has_waiters: !state.backlog.waiters.is_empty(),
            is_open: state.closed.is_none(),
            callers_carry_out: self.behaviour.callers_carry_out(),
            is_prompt: state.prompt == tuning().prompt_in_a_row,
            is_returning: state.kernel.have_returning_reaper(),
            is_timed: state.kernel.in_time,
            has_waited: state.kernel.waited,
            has_ring: self.pool.kaio.has_ring(),
        }
    }

    #[inline]
    pub(super) fn outlook(&self, req: &Req) -> Outlook {
        self.profiles.outlook(req.call())
    }

    /// The facts of a request that may wait for somebody else.
    pub(super) fn patient(&self, req: &Req) -> Patient {
        let only_waits = req.awaits_file();
        Patient {
            may_wait_in_epoll: only_waits
                || req.bound().may_wait_in_epoll() && !self.behaviour.holds_files,
            has_readiness: only_waits || allows_kernel_queues(),
            has_waited: req.awaited().is_some(),
        }
    }

    /// The outlook of the first of these requests.
    #[inline]
    pub(super) fn first(&self, requests: &List) -> Outlook {
        let first = requests.peek();
        first.map_or(Outlook::Other, |call| self.profiles.outlook(call))
    }
}

/// Asks the policy.
impl Context {
    /// Whether one more request of the class may begin.
    #[inline]
    pub(super) fn may_begin(&self, state: &State, class: Class) -> bool {
        self.queue_facts(state).may_begin(class, tuning())
    }

    /// Which thread comes for the queued requests. `expects_caller`: a caller that waits may come for them.
    #[inline]
    pub(super) fn queued(&self, state: &State, class: Class, expects_caller: bool) -> Dispatch {
        let facts = self.queue_facts(state);
        let is_returning = facts.is_returning && expects_caller;
        decide::queued(
            class,
            state.enqueued[class as usize],
            &Queue {
                is_returning,
                ..facts
            },
            || self.first(&state.queues[Class::Finite as usize]),
            || self.profiles.wants_sample(),
            tuning(),
        )
    }

    /// Whether a worker takes queued requests.
    #[inline]
    pub(super) fn for_worker(&self, state: &State, class: Class) -> Dispatch {
        decide::for_worker(
            class,
            &self.queue_facts(state),
            || self.first(&state.queues[Class::Finite as usize]),
            || self.profiles.wants_sample(),
            tuning(),
        )
    }

    /// How a worker treats a finite request that it has taken.
    #[inline]
    pub(super) fn dequeued_by_worker(&self, state: &State, req: &Req, worker: &Worker) -> Dequeued {
        let dequeued = decide::dequeued_by_worker(
            &self.outlook(req),
            req.bound().only_observe(),
            worker.last_ns(),
            &self.queue_facts(state),
            || self.kernel(req),
            || self.are_announced(state, req),
            tuning(),
        );
        if dequeued.counts {
            self.profiles.count_device_bound(1);
        }
        dequeued
    }

    #[inline]
    fn kernel(&self, req: &Req) -> Kernel {
        Kernel {
            supports: Kaio::supports(req),
            has_room: self.pool.kaio.room() != 0,
            is_sample: self.profiles.wants_sample(),
        }
    }

    /// Whether this read and the first queued one can both be announced to the device, and the queued one will wait for it, too.
    #[inline]
    fn are_announced(&self, state: &State, req: &Req) -> bool {
        let queued = state.queues[Class::Finite as usize].peek();
        req.bound().need_nothing()
            && syscall::can_be_announced(req.call(), tuning().announced_max)
            && queued.is_some_and(|call| self.is_announced(call))
    }

    /// Whether a call is a read through the page cache that can be announced to its device, and is likely to wait for it.
    #[inline]
    pub(super) fn is_announced(&self, call: &Call) -> bool {
        syscall::can_be_announced(call, tuning().announced_max)
            && self
                .profiles
                .outlook(call)
                .is_device_bound_buffered(tuning())
    }

    /// Whether a worker can carry a request out together with others.
    #[inline]
    pub(super) fn joins_fast(&self, req: &Req) -> bool {
        req.bound().only_observe() && self.outlook(req).is_fast(tuning())
    }

    #[inline]
    pub(super) fn own_queue_facts(&self, state: &State) -> OwnQueue {
        let kernel = &state.kernel;
        OwnQueue {
            in_flight: kernel.count,
            is_full: kernel.count as usize >= own_queue::EVENTS,
            has_reaper: kernel.reaper.is_some(),
            is_asleep: kernel.asleep,
            has_submitter: kernel.submitter.is_some(),
            pause: kernel.pause,
            has_hint: kernel.submit_hint != 0,
        }
    }
}
