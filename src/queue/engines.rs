//! What engines see of a context: a reference, which they keep as long as they have requests of the context.

use super::{Context, ContextRef};
use crate::engine::own_queue;
use crate::engine::{
    Completes, Served, in_flight, kaio,
    pool::{self, Look},
};
/// Personalities know no engine. They call these functions of engines that need no context.
#[cfg(not(loom))]
pub use crate::engine::{allowed, exec::issue};
use crate::profiles::Profiles;
use crate::syscall::Class;
#[cfg(not(loom))]
use crate::{request::Req, sys::Result};
#[cfg(not(loom))]
use libc::c_short;

pub type Pool = pool::Pool<ContextRef>;
pub type Kaio = kaio::Kaio<ContextRef>;
pub type Worker = pool::Worker<ContextRef>;
#[cfg(not(loom))]
pub type Hold = pool::Hold<ContextRef>;
pub type OwnQueues = own_queue::OwnQueues<ContextRef>;
pub type OwnQueue = own_queue::OwnQueue<ContextRef>;
pub type TakenQueue = own_queue::Taken<ContextRef>;
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
        Context::workers(self, class)
    }

    fn count_worker(&self, class: Class, more: bool) {
        Context::count_worker(self, class, more);
    }

    fn serves_itself(&self) -> bool {
        Context::serves_itself(self)
    }

    #[cfg(not(loom))]
    fn ready(&self, req: Req, events: Result<c_short>) {
        Context::ready(self, req, events);
    }

    fn wake_waiters(&self) {
        Context::wake_waiters(self);
    }
}
