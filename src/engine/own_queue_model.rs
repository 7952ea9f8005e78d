//! In a model, the kernel is a thread of the model, which completes its requests at any time.
//!
//! As with the real kernel, a wake-up is an event that belongs to no request, and any thread that takes events may take it. If a thread
//! that sleeps finds no event when it looks, it goes on sleeping. But here it sleeps without a limit: no event may depend on that limit.

use crate::engine::in_flight::{Done, InFlight};
use crate::engine::{Engine, Reaped, Start, kaio};
use crate::request::{Chain, Req, Stage};
use crate::ring::wait::Wake;
use crate::sync::Relaxed;
use crate::sys::{NEVER, Waited};
use crate::syscall::Call;
use arrayvec::ArrayVec;
use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;
// Hints in the real queue: the standard library's also in a model.
use std::sync::atomic::AtomicUsize;

pub const EVENTS: usize = 2 * kaio::BATCH;

pub struct OwnQueues<Q: 'static> {
    only: OwnQueue<Q>,
}

pub struct OwnQueue<Q: 'static> {
    kernel: Mutex<Kernel<Q>>,
    changed: Condvar,
    /// Requests in flight, and completions.
    in_flight: AtomicUsize,
    events: AtomicUsize,
}

struct Kernel<Q> {
    started: VecDeque<InFlight<Q>>,
    /// Completions; None: a wake-up.
    done: VecDeque<Option<InFlight<Q>>>,
    ends: bool,
}

impl<Q> OwnQueues<Q> {
    pub fn new() -> OwnQueues<Q> {
        let kernel = Kernel {
            started: VecDeque::new(),
            done: VecDeque::new(),
            ends: false,
        };
        OwnQueues {
            only: OwnQueue {
                kernel: Mutex::new(kernel),
                changed: Condvar::new(),
                in_flight: AtomicUsize::new(0),
                events: AtomicUsize::new(0),
            },
        }
    }

    pub fn acquire(&'static self) -> Option<Acquired<Q>> {
        Some(Acquired(&self.only))
    }
}

impl<Q> OwnQueue<Q> {
    /// The kernel: carries out `most` requests, or as many as there are when `end_kernel` is called.
    pub fn run_kernel(&self, most: usize) {
        for _ in 0..most {
            let mut kernel = self.kernel.lock().unwrap();
            while !kernel.ends && kernel.started.is_empty() {
                kernel = self.changed.wait(kernel).unwrap();
            }
            match kernel.started.pop_front() {
                Some(one) => self.show(&mut kernel, Some(one)),
                None => return,
            }
        }
    }

    pub fn end_kernel(&self) {
        self.kernel.lock().unwrap().ends = true;
        self.changed.notify_all();
    }

    fn show(&self, kernel: &mut Kernel<Q>, event: Option<InFlight<Q>>) {
        kernel.done.push_back(event);
        self.events.store(kernel.done.len(), Relaxed);
        self.changed.notify_all();
    }

    fn drain(&self) -> Reaped<Q> {
        let mut kernel = self.kernel.lock().unwrap();
        let count = kernel.done.len();
        let done: Done<Q> = kernel.done.drain(..).flatten().collect();
        self.events.store(0, Relaxed);
        self.in_flight.fetch_sub(done.len(), Relaxed);
        if !done.is_empty() {
            self.changed.notify_all();
        }
        Reaped {
            woken: done.len() != count,
            waited: Some(Waited::Woken),
            done,
        }
    }

    pub fn is_unused(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    pub fn has_done(&self) -> bool {
        !self.is_unused() && self.events.load(Relaxed) != 0
    }

    pub fn has_done_all(&self) -> bool {
        self.events.load(Relaxed) >= self.in_flight.load(Relaxed)
    }

    /// Waits until the kernel has completed something, or another thread has taken everything.
    pub fn pause(&self, _ns: u64) {
        let mut kernel = self.kernel.lock().unwrap();
        while kernel.done.is_empty() && !self.is_unused() {
            kernel = self.changed.wait(kernel).unwrap();
        }
    }

    pub fn has_buffer_of(&self, _call: &Call) -> bool {
        true
    }
}

impl<Q: Clone> Engine<Q> for OwnQueue<Q> {
    fn supports(req: &Req) -> bool {
        kaio::supports(req)
    }

    fn room(&self) -> usize {
        EVENTS - self.in_flight.load(Relaxed)
    }

    fn start<const N: usize>(
        &'static self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> bool {
        let mut kernel = self.kernel.lock().unwrap();
        for mut req in batch.drain(..) {
            req.set_route(how.route);
            req.set_stage(Stage::Begun);
            let mut requests = Chain::new();
            requests.push(req);
            kernel.started.push_back(InFlight {
                owner: owner.clone(),
                requests,
                is_merged: false,
                res: 0,
                began: 0,
                nowait: how.nowait,
                is_refused: false,
            });
            self.in_flight.fetch_add(1, Relaxed);
        }
        self.changed.notify_all();
        false
    }

    fn reap(&self, until: u64) -> Reaped<Q> {
        let reaped = self.drain();
        if until == 0 || reaped.woken || !reaped.done.is_empty() {
            return reaped;
        }
        assert_eq!(until, NEVER);
        let mut kernel = self.kernel.lock().unwrap();
        while kernel.done.is_empty() {
            kernel = self.changed.wait(kernel).unwrap();
        }
        drop(kernel);
        self.drain()
    }

    fn wake(&self) {
        self.show(&mut self.kernel.lock().unwrap(), None);
    }

    fn abandon(&self) {}
}

impl<Q: Clone> Wake for OwnQueue<Q> {
    fn wake(&self) {
        Engine::wake(self);
    }
}

pub struct Acquired<Q: 'static>(&'static OwnQueue<Q>);

impl<Q> Acquired<Q> {
    pub fn own_queue(&self) -> &'static OwnQueue<Q> {
        self.0
    }
}
