//! Work that an action leaves until the lock has been released: waking and signalling.

use super::{BATCH_MAX, Context, ContextRef};
use crate::engine::pool::Wakeups;
use crate::request::{Notification, Req, notify};
use crate::ring::wait::Wakes;
use crate::sys::futex_wake;
use crate::sys::rank::{self, Standing};
use crate::syscall;
use arrayvec::ArrayVec;

/// The work that is left when the lock has been released.
#[must_use]
pub(super) struct Deferred {
    pub(super) wakes: Wakes,
    pub(super) published: bool,
    pub(super) ended: bool,
    /// Requests were queued. If a worker could not be started for those before them, another attempt is made.
    pub(super) queued: bool,
    /// Epoll must be told of files.
    pub(super) awaits: bool,
    pub(super) wakeups: Wakeups,
    /// The notifications of ended requests that the personality must still send.
    pub(super) notifications: ArrayVec<Notification, BATCH_MAX>,
}

impl Deferred {
    pub(super) fn new() -> Deferred {
        Deferred {
            wakes: Wakes::new(),
            published: false,
            ended: false,
            queued: false,
            awaits: false,
            wakeups: Wakeups::new(),
            notifications: ArrayVec::new(),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.wakeups.is_empty()
    }

    /// A request, one of at most [`BATCH_MAX`], has been carried out: its extension is given back before its event can be seen.
    pub(super) fn note_ended(&mut self, req: &mut Req) {
        if let Some(left) = req.ended() {
            self.notifications.push(left);
        }
    }
}

impl Context {
    /// Does the deferred work; `deferred` must not be used afterwards. It is passed by reference, as requests and batches are, because
    /// memory that was just written byte by byte is slow to copy in wider pieces.
    pub(super) fn run_deferred(&self, deferred: &mut Deferred) {
        // First, as in the kernel: a caller that wakes up for an event finds its eventfd signalled.
        if deferred.published
            && let Some(notifier) = &self.notifier
        {
            notifier.signal();
        }
        notify(&deferred.notifications);
        deferred.wakes.wake();
        if deferred.ended {
            futex_wake(&self.ended, i32::MAX);
        }
        if deferred.queued && deferred.wakeups.is_empty() && self.pool.lacks_threads() {
            self.pool.retry();
        }
        deferred.wakeups.perform(self.pool, || self.wake_waiters());
        if deferred.awaits {
            self.pool.readiness.update_epoll();
        }
    }

    /// Does the same for a submitter. If a worker that is woken for its requests may never get this thread's processor, the submitter
    /// carries them out.
    pub(super) fn run_deferred_of_submit(this: &ContextRef, deferred: &mut Deferred) {
        #[cfg(not(loom))]
        let is_before = {
            let looks = !deferred.wakeups.is_empty() || rank::is_urgent();
            let standing = if looks { rank::look() } else { Standing::Equal };
            move || match standing {
                Standing::Equal => false,
                Standing::Behind => rank::is_refused(),
                Standing::Before => true,
            }
        };
        this.run_deferred(deferred);
        #[cfg(not(loom))]
        if is_before() {
            while Context::carry_out_here(this, syscall::is_ready) {}
        }
    }
}
