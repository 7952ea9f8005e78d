//! Contexts of the kernel's AIO for callers who wait: the second way to carry a request out, without
//! a worker.
//!
//! A caller that comes back to wait again and again, for requests that the kernel is to carry out
//! (see [`crate::kaio`]), can hand them over itself, and sleep until the kernel has done one: nobody
//! has to be woken, neither a worker to hand over, nor a thread to take what has been done, nor the
//! caller by that. For this it needs a context of the kernel's that shows the requests of its own
//! context and no others: a seat. There are [`SEATS`] for the process; a context that has got one
//! keeps it as long as it lives. The kernel's contexts stay for the next.
//!
//! (4 KiB reads of a loop device whose file is in memory, 8 in flight: 78,000 a second by workers,
//! 128,000 so, the kernel's AIO by itself 104,000; 32 in flight: 172,000, 204,000 and 228,000.)

use crate::context::ContextRef;
use crate::kaio::{Batch, Done, InKernel};
use crate::ring::wait::Wake;
use crate::sys::Waited;
use crate::sys::aio;
use crate::sys::host::own_bell;
use crate::sys::own;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32};

const SEATS: usize = 8;
/// Requests in flight in one. More are carried out by workers, or handed over by them.
pub const EVENTS: usize = 128;
/// Beside these, so many may have rung that were not heard yet: one for each time that the caller
/// sleeps, which hears 64 events at a time.
const BELLS: usize = 4;
/// For so long the caller sleeps at a time: should the program have closed what the bell is rung by,
/// it is late by this.
pub const SLEEP_NS: u64 = 100_000_000;
const NO_FILE: RawFd = -1;

pub struct Seats {
    places: [Place; SEATS],
    /// A file to read no bytes from: see [`aio::ring_bell`].
    bell: AtomicI32,
}

struct Place {
    taken: AtomicBool,
    /// Made when it is first taken.
    seat: OnceLock<Option<Seat>>,
}

pub struct Seat {
    kernel: u64,
    has: InKernel,
    /// [`Seats::bell`].
    bell: &'static AtomicI32,
}

impl Seats {
    pub fn new() -> Seats {
        let place = || Place {
            taken: AtomicBool::new(false),
            seat: OnceLock::new(),
        };
        Seats {
            places: std::array::from_fn(|_| place()),
            bell: AtomicI32::new(NO_FILE),
        }
    }

    /// A seat, if one is free and there is all that it needs. Makes system calls.
    pub fn take(&'static self) -> Option<Taken> {
        // Acquire: pairs with the release of whoever had it before.
        let free = |place: &&Place| !place.taken.swap(true, Acquire);
        let Place { taken, seat } = self.places.iter().find(free)?;
        // One that could not be made stays taken: nor could the next.
        let seat = seat.get_or_init(|| self.make()).as_ref()?;
        Some(Taken { taken, seat })
    }

    fn make(&'static self) -> Option<Seat> {
        let has = InKernel::new(EVENTS).ok()?;
        self.make_bell()?;
        let kernel = aio::new_context(EVENTS + BELLS)?;
        let bell = &self.bell;
        Some(Seat { kernel, has, bell })
    }

    fn make_bell(&self) -> Option<()> {
        let _making = own::Making::begin();
        // Relaxed, here and below: a number. What it names the kernel keeps in order.
        if self.bell.load(Relaxed) != NO_FILE {
            return Some(());
        }
        let file = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).ok()?;
        let mine = own::duplicate(file.as_fd().as_raw_fd()).ok()?;
        let made = self.bell.compare_exchange(NO_FILE, mine, Relaxed, Relaxed);
        if made.is_err() {
            own::close(mine);
        }
        Some(())
    }

    /// The program is about to put something else in the place of this descriptor. Should there be no other
    /// number to be had, callers look for themselves, as if the program had closed it.
    pub fn vacate(&self, fd: RawFd) {
        if self.bell.load(Relaxed) != fd {
            return;
        }
        let new = own::duplicate(fd).unwrap_or(NO_FILE);
        match self.bell.compare_exchange(fd, new, Relaxed, Relaxed) {
            Ok(_) => own::close(fd),
            Err(_) if new != NO_FILE => own::close(new),
            Err(_) => {}
        }
    }

    /// In a forked child: gives back what it inherited, which is a descriptor.
    pub fn abandon(&self) {
        match self.bell.swap(NO_FILE, Relaxed) {
            NO_FILE => {}
            bell => own::close(bell),
        }
    }
}

impl Seat {
    fn room(&self) -> usize {
        self.has.room()
    }

    pub fn is_unused(&self) -> bool {
        self.room() == EVENTS
    }

    /// Whether there is something to reap: without a system call.
    pub fn has_done(&self) -> bool {
        !self.is_unused() && aio::events(self.kernel) != 0
    }

    /// Whether there is nothing that the kernel has not done yet.
    pub fn has_done_all(&self) -> bool {
        aio::events(self.kernel) + self.room() >= EVENTS
    }

    /// See [`InKernel::hand_over`].
    pub fn hand_over(&self, context: &ContextRef, batch: &mut Batch, nowait: bool) -> bool {
        self.has.hand_over(self.kernel, context, batch, nowait)
    }

    /// See [`InKernel::reap`].
    pub fn reap(&self, ns: u64) -> (Option<Waited>, Done) {
        self.has.reap(self.kernel, ns)
    }

    /// Wakes the caller that sleeps here, if no filter stands in the way: then it looks for itself, after
    /// [`SLEEP_NS`] at most.
    pub fn ring(&self) {
        // A thread with another descriptor table has one of its own.
        let file = own_bell().unwrap_or_else(|| self.bell.load(Relaxed));
        aio::ring_bell(self.kernel, file);
    }
}

impl Wake for Seat {
    fn wake(&self) {
        self.ring();
    }
}

/// A seat that is a context's, until this is dropped.
pub struct Taken {
    taken: &'static AtomicBool,
    seat: &'static Seat,
}

impl Taken {
    pub fn seat(&self) -> &'static Seat {
        self.seat
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `take`.
        self.taken.store(false, Release);
    }
}
