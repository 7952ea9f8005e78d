//! Threads that carry requests out in place of workers, because workers cannot be started, cannot run, or the process ends.

use super::{Context, ContextRef, Deferred, State};
use crate::engine::exec;
use crate::policy::route::Route;
use crate::request::Req;
use crate::sys::{Result, host::run_inside, private_fd::is_inside, progress, shielded};
use crate::syscall::{self, Call, Class};

/// How soon a thread that waits looks again, if threads are lacking.
pub(super) const HELP_TICK_NS: u64 = 10_000_000;

impl Context {
    /// Carries out one queued request that is `wanted` in this thread, and ignores the limit of workers. False if there is none.
    pub(super) fn carry_out_here(this: &ContextRef, mut wanted: impl FnMut(&Call) -> bool) -> bool {
        if !this.can_carry_out_here() {
            return false;
        }
        Context::carry_out_one(this, |state| {
            state.dequeue_wanted(|_, call| wanted(&exec::here(call)))
        })
    }

    /// Carries out one queued request, which `dequeue` takes out of its queue. False if it takes none.
    pub(super) fn carry_out_one(
        this: &ContextRef,
        dequeue: impl FnOnce(&mut State) -> Option<Req>,
    ) -> bool {
        let mut state = this.state.lock();
        let Some(mut req) = dequeue(&mut state) else {
            return false;
        };
        state.dequeued += 1;
        state.running.enter(&req);
        drop(state);
        req.set_route(Route::InlineStandIn);
        shielded(|| exec::execute(&mut req, None));
        Context::end_by(this, req, |this, state, req, deferred| {
            Context::complete(this, state, req, deferred);
            if this.limit != u32::MAX {
                // Others may have waited for this one to end.
                Context::enqueue(this, state, Class::Finite, deferred);
                Context::enqueue(this, state, Class::Indefinite, deferred);
            }
        });
        progress::made();
        true
    }

    /// If threads are lacking, tries once more to start one, and carries out queued requests that are `wanted`. Called before the caller
    /// sleeps. True: it must look again soon.
    pub(super) fn help_workers(this: &ContextRef, mut wanted: impl FnMut(&Call) -> bool) -> bool {
        let lacks_threads = this.pool.lacks_threads();
        if lacks_threads {
            this.pool.retry();
            while this.pool.lacks_threads() && Context::carry_out_here(this, &mut wanted) {}
        }
        lacks_threads
    }

    /// Whether the files of its requests are in the calling thread's descriptor table.
    pub(super) fn can_carry_out_here(&self) -> bool {
        if is_inside() {
            return true;
        }
        self.behaviour.callers_carry_out()
    }

    /// Carries out all queued requests of a class that do not wait for somebody else, in place of a worker that cannot be
    /// started. The caller has taken the context out of the run queue. False if there were none.
    pub fn stand_in(this: &ContextRef, class: Class) -> bool {
        if !this.can_carry_out_here() {
            return Context::stand_in_inside(this, class);
        }
        let index = class as usize;
        let mut any = false;
        this.state.lock().enqueued[index] = false;
        let dequeue = |state: &mut State| {
            state.queues[index].remove_first(|_, call| syscall::is_ready(&exec::here(call)))
        };
        while Context::carry_out_one(this, dequeue) {
            any = true;
        }
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        // If requests are left, the context goes back to the run queue: the next thread tries again.
        if !state.enqueued[index] && !state.queues[index].is_empty() {
            state.enqueued[index] = true;
            this.pool.requeue(this.clone(), class);
        }
        // If the context has a limit of workers, requests of the other class may have waited for these to end.
        Context::enqueue(this, &mut state, class.other(), &mut deferred);
        drop(state);
        this.run_deferred(&mut deferred);
        any
    }
}

/// Contexts that hold files.
impl Context {
    /// Like `stand_in`, in the keeper of the library's own descriptor table, where the files are.
    pub(super) fn stand_in_inside(this: &ContextRef, class: Class) -> bool {
        struct Given<'a>(&'a ContextRef, Class);
        fn job(given: usize) -> Result<i64> {
            // SAFETY: `given` below, which lives until `run_inside` returns; that waits for this function.
            let Given(context, class) = unsafe { &*(given as *const Given) };
            Ok(Context::stand_in(context, *class).into())
        }
        let given = Given(this, class);
        let at = std::ptr::from_ref(&given) as usize;
        // It fails if there is no keeper; then no files are held, either.
        run_inside(job, at) == Ok(1)
    }
}
