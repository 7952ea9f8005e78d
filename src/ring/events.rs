//! Where a context's events go: the ring of io_setup2() with its overflow list, or the ring of the
//! kernel's AIO, which has room for all. The rest of a context need not know which.

#[cfg(not(loom))]
use super::legacy::LegacyRing;
use super::wait::Wakes;
use super::{Backlog, Out, Reaped, Ring};
use crate::request::{Req, Slabs};

pub enum Events {
    Ring2(Ring),
    #[cfg(not(loom))]
    Legacy(LegacyRing),
}

impl Events {
    /// The ring of io_setup2(), if it is one.
    pub fn ring2(&self) -> Option<&Ring> {
        match self {
            Events::Ring2(ring) => Some(ring),
            #[cfg(not(loom))]
            Events::Legacy(_) => None,
        }
    }

    #[cfg(not(loom))]
    pub fn legacy(&self) -> Option<&LegacyRing> {
        match self {
            Events::Ring2(_) => None,
            Events::Legacy(ring) => Some(ring),
        }
    }

    /// The address of the program's view: the handle.
    pub fn view(&self) -> usize {
        match self {
            Events::Ring2(ring) => ring.mem().view(),
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.view(),
        }
    }

    /// How many more requests may be accepted, as far as room for their events goes.
    pub fn room(&self, _backlog: &Backlog, _in_flight: u32) -> u32 {
        match self {
            Events::Ring2(_) => u32::MAX,
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.room(_backlog, _in_flight),
        }
    }

    pub fn accepted(&self, backlog: &mut Backlog, requests: u64) {
        if let Some(ring) = self.ring2() {
            ring.accepted(backlog, requests);
        }
    }

    pub fn publish(&self, backlog: &mut Backlog, req: Req, slabs: &mut Slabs, wakes: &mut Wakes) {
        match self {
            Events::Ring2(ring) => ring.publish(backlog, req, slabs, wakes),
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.publish(backlog, req, slabs, wakes),
        }
    }

    /// Bytes of events that wait to be reaped.
    pub fn available(&self, backlog: &Backlog) -> u64 {
        match self {
            Events::Ring2(ring) => ring.available(backlog),
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.available(backlog),
        }
    }

    pub fn wake(&self, backlog: &mut Backlog, wakes: &mut Wakes) {
        match self {
            Events::Ring2(ring) => ring.wake(backlog, wakes),
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.wake(backlog, wakes),
        }
    }

    /// Reaps without the lock, as far as it goes: with the old ring not at all.
    pub fn reap(&self, out: &mut Out) -> Reaped {
        match self {
            Events::Ring2(ring) => loop {
                match ring.reap(out) {
                    Reaped::Event => {}
                    other => return other,
                }
            },
            #[cfg(not(loom))]
            Events::Legacy(_) => Reaped::Event,
        }
    }

    pub fn overflowing(&self) -> bool {
        self.ring2().is_some_and(Ring::overflowing)
    }

    pub fn collect(&self, backlog: &mut Backlog, slabs: &mut Slabs, out: &mut Out) -> Reaped {
        match self {
            Events::Ring2(ring) => ring.collect(backlog, slabs, out),
            #[cfg(not(loom))]
            Events::Legacy(ring) => ring.collect(backlog, out),
        }
    }

    pub fn reset(&self, backlog: &Backlog) {
        if let Some(ring) = self.ring2() {
            ring.reset(backlog);
        }
    }
}
