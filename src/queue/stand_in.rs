//! Threads that carry requests out in place of workers, because workers cannot be started, cannot run, or the process ends.

use super::{Closed, Context, ContextRef, Deferred, State};
use crate::engine::exec;
use crate::policy::route::Route;
use crate::policy::waiting;
use crate::request::{Carried, NO_WORKER, OWNER_STAND_IN, Req, RequestRef, Stage};
use crate::sys::{Result, host::run_inside, private_fd::is_inside, progress, shielded};
use crate::syscall::{self, Call, Class, Tried};

/// One look of a thread at the queues. It tries each request at most once, unless other threads move them about.
#[derive(Default)]
struct Pass {
    /// The first request that was put back. It was put at the end of its queue, so the pass is over when it is the first one left.
    first: Option<RequestRef>,
    /// How many requests were put back.
    tried: u32,
}

/// How soon a thread that waits looks again, if threads are lacking.
pub(super) const HELP_TICK_NS: u64 = 10_000_000;

impl Context {
    /// Carries out one queued request that is `wanted` in this thread, and ignores the limit of workers. False if there is none.
    pub(super) fn carry_out_here(this: &ContextRef, mut wanted: impl FnMut(&Call) -> bool) -> bool {
        if !this.can_carry_out_here() {
            return false;
        }
        let classes = [Class::Finite, Class::Indefinite];
        Context::carry_out_one(this, &mut Pass::default(), &classes, |call| {
            wanted(&exec::here(call))
        })
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

    /// Carries out one queued request of these classes that is `wanted` and does not wait for somebody else. False if there is none.
    fn carry_out_one(
        this: &ContextRef,
        pass: &mut Pass,
        classes: &[Class],
        wanted: impl FnMut(&Call) -> bool,
    ) -> bool {
        let ended = Context::carry_out_first(this, pass, classes, wanted);
        if pass.first.is_some() && !this.pool.lacks_threads() {
            this.pool.retry();
        }
        let Some(req) = ended else {
            return false;
        };
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

    /// The same, but leaves it to the caller to publish the event.
    fn carry_out_first(
        this: &ContextRef,
        pass: &mut Pass,
        classes: &[Class],
        mut wanted: impl FnMut(&Call) -> bool,
    ) -> Option<Req> {
        let mut state = this.state.lock();
        while pass.tried <= state.in_flight {
            let mut wanted = |_, call: &Call| wanted(call);
            let mut req = classes.iter().find_map(|&class| {
                state.queues[class as usize].remove_before(pass.first, &mut wanted)
            })?;
            state.dequeued += 1;
            state.running.enter(&req);
            if req.manner().class() == Class::Indefinite {
                req.set_worker(OWNER_STAND_IN);
            }
            drop(state);
            req.set_route(Route::InlineStandIn);
            if shielded(|| Context::carry_out_unless_it_waits(this, &mut req)) {
                return Some(req);
            }
            state = this.state.lock();
            let cancels =
                state.closed == Some(Closed::Destroyed) && this.behaviour.cancels_at_close;
            if cancels || req.is_cancelled() {
                drop(state);
                exec::cancel(&mut req);
                return Some(req);
            }
            pass.first.get_or_insert(req.reference());
            pass.tried += 1;
            let mut deferred = Deferred::new();
            Context::put_back_tried(this, &mut state, req, &mut deferred);
            if !deferred.is_nothing() {
                drop(state);
                this.run_deferred(&mut deferred);
                state = this.state.lock();
            }
        }
        None
    }

    /// Carries out a request that was taken. False: it would wait for somebody else. It keeps the number of the bytes that were moved.
    fn carry_out_unless_it_waits(this: &ContextRef, req: &mut Req) -> bool {
        if req.awaits_file() {
            return exec::end_if_ready(req);
        }
        if syscall::waits_for_nobody(&exec::here(req.call())) {
            exec::execute(req, None);
            return true;
        }
        let had_begun = req.has_begun();
        let mut tried = Tried::MayWait { moved: 0 };
        if waiting::is_tried(&this.patient(req)) {
            tried = exec::try_to_execute(req);
            while let Tried::MayWait { moved: 1.. } = tried {
                tried = exec::try_to_execute(req);
            }
        }
        match tried {
            Tried::Done(_) => return true,
            Tried::MayWait { .. } if this.may_be_made(req) => {
                exec::execute(req, None);
                return true;
            }
            _ => {}
        }
        if !had_begun && req.has_begun() && req.moved() == 0 {
            // Nothing has happened yet: its deadline still counts, and it can be cancelled as any queued request.
            req.set_stage(Stage::Accepted);
        }
        false
    }

    /// Whether a thread may make the plain call of a request that cannot be tried, because poll(2) says that it would not wait. One thread
    /// at a time makes such calls for a file, because after a second one had polled, the first one could take what both have seen.
    fn may_be_made(&self, req: &Req) -> bool {
        let state = self.state.lock();
        let is_same =
            |one: &Carried| one.is_made_plainly() && one.call.args[0] == req.call().args[0];
        let may = !req.is_cancelled()
            && !state.running.iter().any(|one| is_same(&one))
            && syscall::is_ready_plainly(&exec::here(req.call()));
        if may {
            // From here on it cannot be cancelled.
            req.set_worker(NO_WORKER);
        }
        may
    }

    /// Puts a taken request that would wait at the end of its queue, and the context into the run queue: the next thread tries again.
    fn put_back_tried(this: &ContextRef, state: &mut State, req: Req, deferred: &mut Deferred) {
        state.dequeued -= 1;
        state.running.leave(&req);
        req.set_worker(NO_WORKER);
        state.queues[Class::Indefinite as usize].push(req);
        Context::leave_queued(this, state, Class::Indefinite);
        // If the context has a limit of workers, requests of the other class may have waited for this one.
        Context::enqueue(this, state, Class::Finite, deferred);
    }

    /// If requests are left, the context goes back to the run queue, without a new attempt to start a worker.
    fn leave_queued(this: &ContextRef, state: &mut State, class: Class) {
        let index = class as usize;
        if !state.enqueued[index] && !state.queues[index].is_empty() {
            state.enqueued[index] = true;
            this.pool.requeue(this.clone(), class);
        }
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
        let mut any = false;
        this.state.lock().enqueued[class as usize] = false;
        let mut pass = Pass::default();
        let is_ready = |call: &Call| syscall::is_ready(&exec::here(call));
        while Context::carry_out_one(this, &mut pass, &[class], is_ready) {
            any = true;
        }
        let mut deferred = Deferred::new();
        let mut state = this.state.lock();
        Context::leave_queued(this, &mut state, class);
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
