//! A worker, while it serves a context.

use super::slot::Slot;
use super::{Pool, class_of};
use crate::engine::{Served, exec};
use crate::policy::route::Route;
use crate::policy::tuning::tuning;
use crate::profiles::{Now, Profiles};
use crate::request::Req;
use crate::sync::Relaxed;
use crate::syscall::{Class, Tried};

/// A worker, while it serves a context.
pub struct Worker<Q: 'static> {
    pub(super) pool: &'static Pool<Q>,
    pub(super) slot: u16,
    /// Requests that it has carried out in this turn.
    pub(super) turn: u32,
    /// How long the last request took.
    pub(super) last_ns: u64,
}

impl<Q: Served> Worker<Q> {
    pub(super) fn state(&self) -> &'static Slot {
        &self.pool.slots[usize::from(self.slot)]
    }

    /// The class of requests that it carries out.
    pub fn class(&self) -> Class {
        class_of(self.slot)
    }

    /// Its number for [`Pool::interrupt`].
    pub fn slot(&self) -> u16 {
        self.slot
    }

    pub(super) fn begins(&self) {
        if self.class() == Class::Indefinite {
            self.state().interruptible.begins();
        }
    }

    pub(super) fn ends(&self) {
        if self.class() == Class::Indefinite {
            self.state().interruptible.ends();
        }
    }

    /// The current request can no longer be found by a canceller. True: it was interrupted; then call `consume_interrupt` before the next
    /// request begins. Called under the context's lock.
    pub fn was_interrupted(&self) -> bool {
        self.state().interruptible.was_interrupted()
    }

    /// Takes the signal that was meant for the last request, so that it does not interrupt the next one.
    pub fn consume_interrupt(&self) {
        self.state().interruptible.consume();
    }

    /// Tries a request that may not end by itself, without waiting.
    pub fn try_to_carry_out(&mut self, req: &mut Req) -> Tried {
        if !req.has_begun() {
            req.set_route(Route::Thread);
        }
        self.turn += 1;
        exec::try_to_execute(req)
    }

    /// Carries out a request that may not end by itself, or the rest of it.
    pub fn carry_out_indefinite(&mut self, req: &mut Req) {
        self.state().interruptible.prepare();
        if !req.has_begun() {
            req.set_route(Route::Thread);
        }
        exec::execute_interruptibly(req);
        self.turn += 1;
    }

    /// Starts something that can take long, so that the monitor sees it if it does.
    pub fn hand_over<T>(&mut self, start: impl FnOnce() -> T) -> T {
        self.begin();
        start()
    }

    /// Carries out a request for which the device was told to get ready. How long it takes says nothing about the next request.
    pub fn carry_out_prepared(&mut self, req: &mut Req) {
        self.begin();
        req.set_route(Route::Thread);
        exec::execute(req, None);
    }

    /// Begins something that the monitor sees if it does not end.
    fn begin(&mut self) {
        // Relaxed: a number that the monitor compares with itself.
        let begun = &self.state().begun;
        begun.store(begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.turn += 1;
    }

    /// Carries out a request of a context with these profiles, and learns from it.
    pub fn carry_out(&mut self, profiles: &Profiles, req: &mut Req, sole_in_flight: bool) {
        self.begin();
        let mut now = Now::read();
        let start = now.ns;
        // Called because it notes facts about the file: the answer is not needed here.
        profiles.is_file(req.call(), sole_in_flight, &mut now);
        req.set_route(Route::Thread);
        profiles.carry_out(
            req,
            exec::execute,
            self.is_suspicious(),
            sole_in_flight,
            &mut now,
        );
        self.last_ns = now.ns - start;
        self.recount(profiles);
    }

    /// How long the last request took.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Whether that was long: then the next request is asked whether it waits.
    pub fn is_suspicious(&self) -> bool {
        self.last_ns > tuning().fast_ns
    }

    /// Whether it should go on with the same context.
    pub fn more(&self) -> bool {
        self.turn < tuning().turn || self.pool.waiting[self.class() as usize].load(Relaxed) == 0
    }

    /// Makes it count against the processors or not, as the profile says.
    pub(super) fn recount(&self, profiles: &Profiles) {
        let counts = !profiles.waits();
        if self.state().counted.load(Relaxed) != counts {
            self.pool
                .count(&mut self.pool.state.lock(), self.slot, counts);
        }
    }
}
