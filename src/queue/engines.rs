//! The view that engines have of a context: a reference, which they keep as long as they have requests of the context.

use super::{Context, ContextRef};
use crate::engine::pool::{self, Look};
use crate::engine::{Completes, Served, in_flight, kaio, own_queue};
/// Personalities know no engine. They call these functions of engines that need no context.
pub use crate::engine::{allowed, exec::issue};
use crate::profiles::Profiles;
use crate::request::Req;
use crate::sync::Relaxed;
use crate::sys::Result;
use crate::syscall::Class;
use libc::c_short;

pub type Pool = pool::Pool<ContextRef>;
pub type Kaio = kaio::Kaio<ContextRef>;
pub type Worker = pool::Worker<ContextRef>;
pub type WorkerPin = pool::WorkerPin<ContextRef>;
pub type OwnQueues = own_queue::OwnQueues<ContextRef>;
pub type OwnQueue = own_queue::OwnQueue<ContextRef>;
pub type AcquiredQueue = own_queue::Acquired<ContextRef>;
/// Completions from the kernel.
pub type KernelDone = in_flight::Done<ContextRef>;

impl Completes for ContextRef {
    fn is(&self, other: &ContextRef) -> bool {
        ContextRef::is(self, other)
    }

    fn complete_all(&self, done: KernelDone) {
        Context::complete_all(self, done);
    }
}

impl Served for ContextRef {
    fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    fn serve(&self, worker: &mut Worker) {
        Context::serve(self, worker);
    }

    fn tick(&self, look: Look) -> bool {
        Context::tick(self, look)
    }

    fn stand_in(&self, class: Class) -> bool {
        Context::stand_in(self, class)
    }

    fn workers(&self, class: Class) -> u32 {
        // Relaxed, here and below: the pool's lock orders it.
        self.workers[class as usize].load(Relaxed)
    }

    fn count_worker(&self, class: Class, more: bool) {
        let now = self.workers(class);
        let now = if more { now + 1 } else { now - 1 };
        self.workers[class as usize].store(now, Relaxed);
    }

    fn serves_itself(&self) -> bool {
        Context::serves_itself(self)
    }

    fn ready(&self, req: Req, events: Result<c_short>) {
        Context::ready(self, req, events);
    }

    fn wake_waiters(&self) {
        Context::wake_waiters(self);
    }
}
