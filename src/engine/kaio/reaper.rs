//! One context of the kernel's AIO for the process, and the thread that takes what has been done.

use super::doorbell::{Doorbell, close_doorbell};
use super::in_kernel::{Handed, InKernel};
use super::takes;
use crate::engine::in_flight::Done;
use crate::engine::{Completes, Engine, Reaped, Start, new_kernel_context};
use crate::policy::tuning::tuning;
use crate::request::Req;
use crate::sync::{Acquire, AtomicBool, Guard, Lock, Relaxed, Release};
use crate::sys::host::{Inside, own_table};
use crate::sys::private_fd::is_inside;
use crate::sys::processors;
use crate::sys::thread::spawn_detached;
use crate::sys::{Result, Waited, monotonic_ns, write_eventfd};
use arrayvec::ArrayVec;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Requests in flight here. More are carried out by workers.
const EVENTS: usize = 256;
/// While something is in flight, that thread looks at the ring this often though nobody rings: the program
/// may have closed what is rung by.
const LOOK_NS: u64 = 100_000_000;
/// Whoever wants one of its numbers waits for a lock for so long at most.
const VACATE_NS: u64 = 10_000_000;

/// Its descriptors are in the table of the thread that first hands something over. All who hand over must
/// share that table.
pub struct Kaio<Q> {
    state: Lock<Reaper>,
    here: InKernel<Q>,
    /// The kernel's context; 0: none yet. Once made it stays: to destroy it would be one more call.
    kernel: AtomicU64,
    doorbell: Doorbell,
    /// The reaper has the library's own descriptor table, as those who hand over.
    is_inside: AtomicBool,
}

/// The thread that takes events from the context.
#[derive(Clone, Copy)]
enum Reaper {
    None,
    /// Somebody makes what it needs.
    Making,
    Runs,
    /// There can be none.
    Never,
}

impl<Q: Completes> Kaio<Q> {
    pub fn new() -> Result<Kaio<Q>> {
        Ok(Kaio {
            state: Lock::new(Reaper::None),
            here: InKernel::new(EVENTS)?,
            kernel: AtomicU64::new(0),
            doorbell: Doorbell::new(),
            is_inside: AtomicBool::new(false),
        })
    }

    /// The lock, once there is a reaper or can be none. Err: there is none now.
    fn reaper(&'static self) -> core::result::Result<Guard<'static, Reaper>, ()> {
        let mut state = self.state.lock();
        if let Reaper::None = *state {
            *state = Reaper::Making;
            // Nobody else asks meanwhile; nor ever, if it fails.
            self.here.close();
            drop(state);
            let made = self.make();
            state = self.state.lock();
            *state = made;
            if !matches!(made, Reaper::Never) {
                self.here.open(EVENTS);
            }
            if let Reaper::None = made {
                return Err(());
            }
        }
        Ok(state)
    }

    /// Makes what is not there, and starts the reaper. None: it cannot be had now, for want of a descriptor or
    /// a thread.
    fn make(&'static self) -> Reaper {
        // Relaxed: one at a time comes here, and the lock is between them.
        if self.kernel.load(Relaxed) == 0 {
            let Some(new) = new_kernel_context(EVENTS) else {
                return Reaper::Never;
            };
            // Release: pairs with the acquire loads.
            self.kernel.store(new, Release);
        }
        if !self.doorbell.open() {
            return Reaper::None;
        }
        self.here.tell(self.doorbell.eventfd.load(Relaxed));
        let arg = ptr::from_ref(self).cast_mut().cast();
        let table = own_table().filter(|_| is_inside());
        // Relaxed: starting a thread orders it.
        self.is_inside.store(table.is_some(), Relaxed);
        if let Some(table) = table {
            (table.enter)();
        }
        // SAFETY: `self` is never freed.
        let started = unsafe { spawn_detached(reaper_main::<Q>, arg) }.is_ok();
        if !started {
            if let Some(table) = table {
                (table.leave)();
            }
            close_doorbell(self.doorbell.take());
            return Reaper::None;
        }
        Reaper::Runs
    }

    /// The life of the thread that takes what has been done.
    fn live(&'static self) {
        loop {
            let Reaped { done, .. } = self.reap(0);
            if !done.is_empty() {
                complete(done);
                continue;
            }
            let unused = self.here.is_unused();
            let ns = if unused { tuning().idle_ns } else { LOOK_NS };
            let Reaped { done, waited, .. } = self.reap(monotonic_ns() + ns);
            complete(done);
            if !unused || waited != Some(Waited::TimedOut) {
                continue;
            }
            let mut state = self.state.lock();
            if self.here.is_unused() {
                *state = Reaper::None;
                let fds = self.doorbell.take();
                drop(state);
                return close_doorbell(fds);
            }
        }
    }

    /// The program is about to put something else in the place of this descriptor. May be called by a signal
    /// handler, which may have interrupted whoever has the lock.
    pub fn release_number(&self, fd: RawFd) {
        if let Some(_state) = self.state.try_lock_for(VACATE_NS) {
            self.doorbell.release_number(fd);
            self.here.tell(self.doorbell.eventfd.load(Relaxed));
        }
    }
}

impl<Q: Completes> Engine<Q> for Kaio<Q> {
    fn takes(req: &Req) -> bool {
        takes(req)
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
        self.here.start(batch, |batch, vectors| {
            // Put under the lock, so that the reaper does not find it unused.
            let handed = match *self.reaper()? {
                Reaper::Runs => self.here.put(owner, batch, how, vectors),
                _ => Handed::new(),
            };
            // Acquire: pairs with the release in `make`.
            Ok((self.kernel.load(Acquire), handed))
        })
    }

    fn reap(&self, until: u64) -> Reaped<Q> {
        // Acquire: pairs with the release in `make`.
        let kernel = self.kernel.load(Acquire);
        let taken = self.here.take_done(kernel);
        if until == 0 || !taken.done.is_empty() {
            return taken;
        }
        let waited = self.doorbell.wait(until.saturating_sub(monotonic_ns()));
        Reaped {
            waited: Some(waited),
            ..self.here.take_done(kernel)
        }
    }

    fn wake(&self) {
        write_eventfd(self.doorbell.eventfd.load(Relaxed));
    }

    fn abandon(&self) {
        close_doorbell(self.doorbell.take());
    }
}

/// Gives back what has been done, to whatever it belongs to.
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

extern "C" fn reaper_main<Q: Completes>(kaio: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-reaper".as_ptr()) };
    // SAFETY: what `make` has given it, which is never freed.
    let kaio: &'static Kaio<Q> = unsafe { &*kaio.cast() };
    let _inside = kaio.is_inside.load(Relaxed).then(Inside::begin);
    processors::let_waker_go_on();
    kaio.live();
    ptr::null_mut()
}
