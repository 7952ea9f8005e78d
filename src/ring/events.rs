//! The destination of a context's events: the ring of io_setup2() with its overflow list, or the ring of the kernel's AIO, which has room
//! for every event. The rest of a context need not know which of the two it has.

#[cfg(not(loom))]
use super::kernel::{KernelRing, events_for};
use super::wait::Wakes;
use super::{Backlog, Out, Reaped, Ring};
use crate::request::{Req, Slabs};
#[cfg(not(loom))]
use crate::sys::Result;
use std::os::fd::RawFd;

pub enum Events {
    Ring2(Ring),
    #[cfg(not(loom))]
    Kernel(KernelRing),
}

impl Events {
    /// A ring of the kernel's AIO for at least `max_events` requests, empty.
    #[cfg(not(loom))]
    pub fn of_kernel(max_events: u32, id: u64) -> Result<(Events, Backlog)> {
        let ring = KernelRing::new(events_for(max_events)?, id as u32)?;
        Ok((Events::Kernel(ring), Backlog::new(0)))
    }

    /// The ring of io_setup2(), if it is one.
    pub fn ring2(&self) -> Option<&Ring> {
        match self {
            Events::Ring2(ring) => Some(ring),
            #[cfg(not(loom))]
            Events::Kernel(_) => None,
        }
    }

    /// The ring of the kernel's AIO, if it is one.
    #[cfg(not(loom))]
    pub fn kernel(&self) -> Option<&KernelRing> {
        match self {
            Events::Ring2(_) => None,
            Events::Kernel(ring) => Some(ring),
        }
    }

    /// The ring's descriptor; -1: it has none.
    pub fn fd(&self) -> RawFd {
        self.ring2().map_or(-1, |ring| ring.mem().fd())
    }

    /// The address of the program's view, which is the context's handle.
    pub fn view(&self) -> usize {
        match self {
            Events::Ring2(ring) => ring.mem().view(),
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.view(),
        }
    }

    /// How many more requests may be accepted so that there is room for all events.
    pub fn room(&self, _backlog: &Backlog, _in_flight: u32) -> u32 {
        match self {
            Events::Ring2(_) => u32::MAX,
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.room(_backlog, _in_flight),
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
            Events::Kernel(ring) => ring.publish(backlog, req, slabs, wakes),
        }
    }

    /// Bytes of events that wait to be reaped.
    pub fn available(&self, backlog: &Backlog) -> u64 {
        match self {
            Events::Ring2(ring) => ring.available(backlog),
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.available(backlog),
        }
    }

    pub fn wake(&self, backlog: &mut Backlog, wakes: &mut Wakes) {
        match self {
            Events::Ring2(ring) => ring.wake(backlog, wakes),
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.wake(backlog, wakes),
        }
    }

    /// Reaps without the lock, as far as possible. From the ring of the kernel's AIO that is not possible.
    pub fn reap(&self, out: &mut Out) -> Reaped {
        match self {
            Events::Ring2(ring) => loop {
                match ring.reap(out) {
                    Reaped::Event => {}
                    other => return other,
                }
            },
            #[cfg(not(loom))]
            Events::Kernel(_) => Reaped::Event,
        }
    }

    pub fn overflowing(&self) -> bool {
        self.ring2().is_some_and(Ring::overflowing)
    }

    /// See [`Out::bring_in`].
    pub fn bring_in(&self, out: &mut Out) {
        match self {
            Events::Ring2(ring) => ring.bring_in(out),
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.bring_in(out),
        }
    }

    pub fn collect(&self, backlog: &mut Backlog, slabs: &mut Slabs, out: &mut Out) -> Reaped {
        match self {
            Events::Ring2(ring) => ring.collect(backlog, slabs, out),
            #[cfg(not(loom))]
            Events::Kernel(ring) => ring.collect(backlog, out),
        }
    }

    pub fn reset(&self, backlog: &Backlog) {
        if let Some(ring) = self.ring2() {
            ring.reset(backlog);
        }
    }
}
