//! The kernel queue of a pool and its reaper thread: a ring of io_uring if one can be made, else a context of the kernel's AIO. The
//! thread that hands over submits to the kernel's AIO itself. To a ring, only the reaper submits (see [`crate::sys::uring`]); it is woken
//! for that.

use super::buffers::prepare_buffers;
use super::doorbell::Doorbell;
use super::in_kernel::InKernel;
use super::supports;
use crate::engine::in_flight::Done;
use crate::engine::{
    Completes, Engine, Reaped, Start, allows_kernel_queues, new_kernel_context, new_ring,
};
use crate::policy::tuning::tuning;
use crate::request::Req;
use crate::sync::{Acquire, AtomicBool, Guard, Lock, Relaxed, Release};
use crate::sys::aio::Ring;
use crate::sys::private_fd::{Making, NO_FILE};
use crate::sys::processors;
use crate::sys::thread::spawn;
use crate::sys::uring::{Submitted, Uring};
use crate::sys::{Result, Waited, monotonic_ns, try_box};
use arrayvec::ArrayVec;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64};

/// Requests in flight here. Beyond these, workers carry them out.
const EVENTS: usize = 256;
/// While something is in flight, the reaper looks at the ring this often, even without a wake-up: the program may have closed the
/// descriptors of the doorbell.
const LOOK_NS: u64 = 100_000_000;
/// The longest wait for a lock of a caller that wants one of these descriptor numbers.
const RELEASE_NS: u64 = 10_000_000;

/// Its descriptors are in the descriptor table of the thread that first hands something over. All threads that hand over must share that
/// table.
pub struct Kaio<Q> {
    state: Lock<Reaper>,
    here: InKernel<Q>,
    /// The kernel's context; 0: none yet. It is never destroyed: that would need one more call.
    kernel: AtomicU64,
    /// The reaper's ring; null: none. The reaper frees it when it ends.
    ring: AtomicPtr<Uring>,
    /// The reaper must be woken for requests that are queued in the ring. Set under the lock.
    asleep: AtomicBool,
    doorbell: Doorbell,
    /// The requests hold their files. Then there is no ring: io_uring may still hold a file when its request is done, and the program's
    /// close(2) would not be the last one.
    has_held: bool,
}

/// The thread that takes events from the context.
#[derive(Clone, Copy)]
enum Reaper {
    None,
    /// A thread is making the objects that the reaper needs.
    Making,
    Runs,
    /// There can be none.
    Never,
}

impl<Q: Completes> Kaio<Q> {
    /// `has_held`: the requests hold their files. Then there is no ring.
    pub fn new(has_held: bool) -> Result<Kaio<Q>> {
        Ok(Kaio {
            state: Lock::new(Reaper::None),
            here: InKernel::new(EVENTS, has_held)?,
            kernel: AtomicU64::new(0),
            ring: AtomicPtr::new(ptr::null_mut()),
            asleep: AtomicBool::new(false),
            doorbell: Doorbell::new(),
            has_held,
        })
    }

    /// Whether there is a ring with room: a hint.
    pub fn has_ring(&self) -> bool {
        // Relaxed: only the pointer is compared.
        !self.ring.load(Relaxed).is_null() && self.here.room() != 0
    }

    /// The lock, after it is decided whether there is a reaper. Err: none can be obtained now.
    fn reaper(&'static self) -> core::result::Result<Guard<'static, Reaper>, ()> {
        let mut state = self.state.lock();
        if let Reaper::None = *state {
            *state = Reaper::Making;
            // No other thread asks meanwhile. If it fails, none asks later either.
            self.here.close();
            drop(state);
            let made = self.make();
            state = self.state.lock();
            *state = made;
            if !matches!(made, Reaper::Never) {
                self.here.open();
            }
            if let Reaper::None = made {
                return Err(());
            }
        }
        Ok(state)
    }

    /// Makes the missing objects, and starts the reaper. None: a descriptor or a thread cannot be obtained now.
    fn make(&'static self) -> Reaper {
        if !allows_kernel_queues() {
            return Reaper::Never;
        }
        if !self.doorbell.open() {
            return Reaper::None;
        }
        let eventfd = self.doorbell.eventfd();
        // No child is forked before it can find the ring's descriptor.
        let making = Making::here();
        let ring = (!self.has_held).then(|| new_ring(EVENTS as u32, eventfd));
        if let Some(ring) = ring.flatten().and_then(|ring| try_box(ring).ok()) {
            // Release, here and below: pairs with the acquire loads.
            self.ring.store(Box::into_raw(ring), Release);
        // Relaxed: one thread at a time comes here, and the lock orders them.
        } else if self.kernel.load(Relaxed) == 0 {
            let Some(new) = new_kernel_context(EVENTS) else {
                self.doorbell.close();
                return Reaper::Never;
            };
            self.kernel.store(new, Release);
        }
        drop(making);
        self.set_eventfd();
        let main = |this: usize| {
            processors::let_waker_go_on();
            // SAFETY: `self` below, which is never freed.
            unsafe { &*(this as *const Kaio<Q>) }.live();
        };
        if spawn(c"aio2-reaper", main, ptr::from_ref(self) as usize).is_err() {
            self.doorbell.close();
            self.free_ring();
            return Reaper::None;
        }
        Reaper::Runs
    }

    /// The reaper's ring. The caller holds the lock, or something of its ring is in flight.
    fn ring(&self) -> Option<&Uring> {
        // SAFETY: null, or a pointer that `make` stored. It is freed only when nothing is in flight, and under the lock. Acquire: pairs
        // with the release in `make`.
        unsafe { self.ring.load(Acquire).as_ref() }
    }

    /// The caller is the last user of the ring.
    fn free_ring(&self) {
        // Relaxed: the lock, or the start of a thread, orders it.
        let ring = self.ring.swap(ptr::null_mut(), Relaxed);
        if !ring.is_null() {
            // SAFETY: made by `make` of a Box.
            drop(unsafe { Box::from_raw(ring) });
        }
    }

    /// Sets the eventfd that a context of the kernel's AIO adds to for each request. A ring keeps the one that it was made with.
    fn set_eventfd(&self) {
        let eventfd = self.doorbell.eventfd();
        self.here.set_eventfd(if self.ring().is_some() {
            NO_FILE
        } else {
            eventfd
        });
    }

    /// By the reaper: submits the requests that are queued in the ring. If the kernel does not take a request, it is given back.
    fn submit_queued(&self, ring: &Uring) {
        let mut refused = Submitted::Some;
        while refused == Submitted::Some && ring.queued() != 0 {
            let (count, began) = (self.here.most().min(ring.queued() as usize), monotonic_ns());
            refused = ring.submit(count as u32);
            self.here.note_submitted(count, began);
        }
        while refused != Submitted::Some && ring.queued() != 0 {
            let mut back = Done::new();
            let mut state = self.state.lock();
            if refused == Submitted::Never {
                *state = Reaper::Never;
                self.here.close();
            }
            while !back.is_full()
                && let Some(slot) = ring.withdraw_last()
            {
                back.extend(self.here.withdraw(slot));
            }
            drop(state);
            complete(back);
        }
    }

    /// By the reaper: whether it may sleep. From here on it is woken for requests that are queued.
    fn falls_asleep(&self) -> bool {
        let _state = self.state.lock();
        let is_idle = self.ring().is_none_or(|ring| ring.queued() == 0);
        // Relaxed: the lock orders it. A thread that finds it unset under the lock has queued its requests before this check.
        self.asleep.store(is_idle, Relaxed);
        is_idle
    }

    /// The main loop of the reaper.
    fn live(&'static self) {
        if let Some(ring) = self.ring() {
            ring.adopt();
        }
        loop {
            if let Some(ring) = self.ring() {
                self.submit_queued(ring);
            }
            let Reaped { done, .. } = self.reap(0);
            if !done.is_empty() {
                complete(done);
                continue;
            }
            let unused = self.here.is_unused();
            if !self.falls_asleep() {
                continue;
            }
            let ns = if unused { tuning().idle_ns } else { LOOK_NS };
            let Reaped { done, waited, .. } = self.reap(monotonic_ns() + ns);
            self.asleep.store(false, Relaxed);
            complete(done);
            if !unused || waited != Some(Waited::TimedOut) {
                continue;
            }
            let _making = Making::here();
            let mut state = self.state.lock();
            if self.here.is_unused() {
                if let Reaper::Runs = *state {
                    *state = Reaper::None;
                    // It may have been closed because this reaper could not be woken. The next one has a doorbell of its own.
                    self.here.open();
                }
                self.doorbell.close();
                return self.free_ring();
            }
        }
    }

    /// The program is about to use this descriptor number for something else. A signal handler may call this, which may have interrupted
    /// the owner of the lock.
    pub fn release_number(&self, fd: RawFd) {
        if let Some(_state) = self.state.try_lock_for(RELEASE_NS) {
            self.doorbell.release_number(fd);
            if let Some(ring) = self.ring() {
                ring.release_number(fd);
            }
            self.set_eventfd();
        }
    }
}

impl<Q: Completes> Engine<Q> for Kaio<Q> {
    fn supports(req: &Req) -> bool {
        supports(req)
    }

    fn room(&self) -> usize {
        self.here.room()
    }

    fn start<const N: usize>(
        &'static self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> bool {
        let mut is_prepared = false;
        while !batch.is_empty() {
            let Ok(state) = self.reaper() else {
                return true;
            };
            if !matches!(*state, Reaper::Runs) {
                return false;
            }
            // Under the lock, so that the reaper does not find the queue unused.
            let ring = self.ring();
            if ring.is_some() && !is_prepared {
                drop(state);
                is_prepared = prepare_buffers(batch, how.nowait);
                if !is_prepared {
                    return false;
                }
                continue;
            }
            if ring.is_none() && !self.has_held && !self.doorbell.is_there() {
                // The kernel would add to an eventfd of the program's. The next reaper has a doorbell of its own.
                self.here.close();
                return false;
            }
            let how = ring.map_or(how, |_| Start {
                route: how.route.by_io_uring(),
                // The call does not wait here.
                nowait: false,
            });
            let mut handed = self.here.put(owner, batch, how);
            if handed.is_empty() {
                return false;
            }
            let Some(ring) = ring else {
                drop(state);
                // Acquire: pairs with the release in `make`.
                let kernel = self.kernel.load(Acquire);
                let is_refused = self.here.submit(kernel, &mut handed, batch);
                complete(self.here.submitted(&handed));
                if is_refused {
                    return true;
                }
                continue;
            };
            handed.iter().for_each(|iocb| ring.push(iocb));
            let wakes = self.asleep.swap(false, Relaxed);
            drop(state);
            if wakes && !self.doorbell.ring() {
                // The reaper comes late, after [`LOOK_NS`] at most.
                self.here.close();
            }
        }
        false
    }

    fn reap(&self, until: u64) -> Reaped<Q> {
        let reap = || match self.ring() {
            Some(ring) => self.here.reap(ring),
            // Acquire: pairs with the release in `make`.
            None => self.here.reap(Ring::at(self.kernel.load(Acquire))),
        };
        let reaped = reap();
        if until == 0 || !reaped.done.is_empty() {
            return reaped;
        }
        let waited = self.doorbell.wait(until.saturating_sub(monotonic_ns()));
        Reaped {
            waited: Some(waited),
            ..reap()
        }
    }

    fn wake(&self) {
        self.doorbell.ring();
    }

    fn abandon(&self) {
        if let Some(ring) = self.ring() {
            ring.abandon();
        }
        self.doorbell.close();
    }
}

/// Gives completed requests back to their owners.
fn complete<Q: Completes>(done: Done<Q>) {
    let mut done = done.into_iter().peekable();
    while let Some(first) = done.next() {
        let owner = first.owner.clone();
        let mut requests = Done::new();
        let mut next = Some(first);
        while let Some(one) = next {
            requests.push(one);
            next = done.next_if(|other| other.owner.is(&owner));
        }
        owner.complete_all(requests);
    }
}
