//! Waiting for events: which callers wait, for how many bytes, and how they are woken.
//!
//! A waiter is on its caller's stack, and on the context's list while it waits. A publisher takes the waiters whose wait is over
//! off the list, under the lock, and wakes them after it has released the lock. If a waiter was taken off, it must not go away before
//! its waker is done with it.

use crate::policy::tuning::tuning;
use crate::sync::{Acquire, AtomicU32, Relaxed, Release};
use crate::sys::{NEVER, Waited, monotonic_ns};
use std::cell::Cell;
use std::ptr::NonNull;

/// How a waiter is woken, besides the word that says that it was woken.
#[derive(Clone, Copy)]
pub enum Alarm {
    /// It sleeps on that word.
    Futex,
    /// It sleeps elsewhere, and this wakes it. It lives as long as the waiter.
    Elsewhere(NonNull<dyn Wake>),
}

/// Wakes a caller that does not sleep on a word.
pub trait Wake {
    fn wake(&self);
}

/// Whether events have lately come soon, so that staying awake costs less than sleeping and being woken.
/// These are hints, so they are the standard library's atomics in a model, too.
pub struct Spin {
    soon: std::sync::atomic::AtomicU32,
    /// A caller spins. One at a time is enough.
    is_on: std::sync::atomic::AtomicBool,
    rests_until: std::sync::atomic::AtomicU64,
}

impl Spin {
    pub fn new() -> Spin {
        Spin {
            soon: std::sync::atomic::AtomicU32::new(0),
            is_on: std::sync::atomic::AtomicBool::new(false),
            rests_until: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// If the wait is likely to be short, stays awake until it is `over`. `began`: when the wait began.
    pub fn spin(&self, began: u64, mut over: impl FnMut() -> bool) {
        const BETWEEN_LOOKS: u32 = 32;
        if self.soon.load(Relaxed) < tuning().soon_in_a_row
            || began < self.rests_until.load(Relaxed)
            || self.is_on.swap(true, Relaxed)
        {
            return;
        }
        let late = began + tuning().soon_ns;
        let mut now = began;
        while !over() && now < late {
            for _ in 0..BETWEEN_LOOKS {
                std::hint::spin_loop();
            }
            now = monotonic_ns();
        }
        if now >= late {
            // It was in vain, or another thread has needed the processor. Only a small part of the time may be spent in this way.
            let rest = (now - began) * u64::from(tuning().in_a_row);
            self.rests_until.store(now + rest, Relaxed);
        }
        self.is_on.store(false, Relaxed);
    }

    /// Learns from a wait that began at `began` and is over.
    pub fn learn(&self, began: u64) {
        let seen = self.soon.load(Relaxed);
        let soon = monotonic_ns() < began + tuning().soon_ns;
        let learned = if soon {
            (seen + 1).min(tuning().soon_in_a_row)
        } else {
            0
        };
        if learned != seen {
            self.soon.store(learned, Relaxed);
        }
    }
}

/// One wait of one caller.
pub struct Waiter {
    /// Bytes of events that end the wait. Written before it is listed.
    need: Cell<u64>,
    /// The wait ends when no request is in flight that the kernel would have completed within io_submit(). Written before it is listed.
    only_for_at_once: Cell<bool>,
    /// Next on a WaitList or in a Wakes. Guarded by the lock while listed; then it belongs to the waker.
    next: Cell<Option<NonNull<Waiter>>>,
    /// Whether it is on the list. Guarded by the lock.
    listed: Cell<bool>,
    parker: Parker,
}

impl Waiter {
    pub fn new(alarm: Alarm) -> Waiter {
        Waiter {
            need: Cell::new(0),
            only_for_at_once: Cell::new(false),
            next: Cell::new(None),
            listed: Cell::new(false),
            parker: Parker::new(alarm),
        }
    }

    /// Takes effect when it is listed next.
    pub fn set_only_for_at_once(&self, only: bool) {
        self.only_for_at_once.set(only);
    }

    /// Sleeps until woken or until CLOCK_MONOTONIC is `deadline`.
    pub fn park(&self, deadline: u64) -> Waited {
        self.parker.park(deadline)
    }

    /// Waits until the waker that has taken it off the list is done with it.
    pub fn wait_for_waker(&self) {
        while !self.woken() {
            self.park(NEVER);
        }
    }

    /// Whether a waker has woken it.
    pub fn woken(&self) -> bool {
        self.parker.woken()
    }
}

/// A context's waiters, in the order in which they came.
pub struct WaitList {
    first: Option<NonNull<Waiter>>,
}

// SAFETY: listed waiters are touched only under the list's lock; the rest of a Waiter is atomic.
unsafe impl Send for WaitList {}

impl WaitList {
    pub const fn new() -> WaitList {
        WaitList { first: None }
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Lists a waiter for `need` bytes. The waiter must not move or go away until `leave` has returned true or it is `woken`.
    pub fn enter(&mut self, waiter: &Waiter, need: u64) {
        waiter.parker.reset();
        waiter.need.set(need);
        waiter.next.set(None);
        waiter.listed.set(true);
        let at = Some(NonNull::from(waiter));
        let mut last = self.first;
        while let Some(here) = last {
            // SAFETY: a listed waiter stays until it is taken off, which needs the lock that we hold.
            let next = unsafe { here.as_ref() }.next.get();
            if next.is_none() {
                break;
            }
            last = next;
        }
        match last {
            // SAFETY: as above.
            Some(here) => unsafe { here.as_ref() }.next.set(at),
            None => self.first = at,
        }
    }

    /// Takes a waiter off the list, unless a waker has done so. False: a waker has it, and it must not go away before it is `woken`.
    pub fn leave(&mut self, waiter: &Waiter) -> bool {
        if !waiter.listed.get() {
            return waiter.woken();
        }
        self.retain(|here| !std::ptr::eq(here, waiter), |_| {});
        true
    }

    /// Takes off, in order, each waiter for which the remaining bytes are enough, and subtracts its need.
    pub fn dequeue_satisfied(&mut self, mut bytes: u64, wakes: &mut Wakes) {
        self.retain(
            |here| {
                if here.need.get() > bytes {
                    return true;
                }
                bytes -= here.need.get();
                false
            },
            |here| wakes.add(here),
        );
    }

    /// Takes off the waiters that wait only for requests that the kernel would have completed within io_submit().
    pub fn dequeue_only_for_at_once(&mut self, wakes: &mut Wakes) {
        self.retain(|here| !here.only_for_at_once.get(), |here| wakes.add(here));
    }

    /// Takes off all waiters.
    pub fn dequeue_all(&mut self, wakes: &mut Wakes) {
        self.retain(|_| false, |here| wakes.add(here));
    }

    fn retain(
        &mut self,
        mut keep: impl FnMut(&Waiter) -> bool,
        mut off: impl FnMut(NonNull<Waiter>),
    ) {
        let mut last: Option<NonNull<Waiter>> = None;
        let mut at = self.first;
        while let Some(here) = at {
            // SAFETY: a listed waiter stays until it is taken off, which needs the lock that we hold.
            let waiter = unsafe { here.as_ref() };
            at = waiter.next.get();
            if keep(waiter) {
                last = Some(here);
                continue;
            }
            match last {
                // SAFETY: as above.
                Some(last) => unsafe { last.as_ref() }.next.set(at),
                None => self.first = at,
            }
            waiter.listed.set(false);
            off(here);
        }
    }
}

/// Waiters to wake after the lock has been released.
#[must_use]
pub struct Wakes {
    first: Option<NonNull<Waiter>>,
}

impl Wakes {
    pub const fn new() -> Wakes {
        Wakes { first: None }
    }

    fn add(&mut self, at: NonNull<Waiter>) {
        // SAFETY: it was just taken off the list, and it stays until it is woken.
        unsafe { at.as_ref() }.next.set(self.first);
        self.first = Some(at);
    }

    /// Wakes them. Called without the lock.
    pub fn wake(&mut self) {
        while let Some(at) = self.first {
            // SAFETY: a waiter that was taken off stays until `unpark` sets its word; we read `next` before that.
            self.first = unsafe { at.as_ref() }.next.get();
            Parker::unpark(at);
        }
    }
}

/// Where a waiter sleeps.
struct Parker {
    /// 1 once woken. It is the last thing that the waker writes.
    word: AtomicU32,
    alarm: Alarm,
}

impl Parker {
    fn new(alarm: Alarm) -> Parker {
        Parker {
            word: AtomicU32::new(0),
            alarm,
        }
    }

    fn reset(&self) {
        // Relaxed: it is not listed yet; the lock orders this before any waker's store.
        self.word.store(0, Relaxed);
    }

    fn woken(&self) -> bool {
        // Acquire: pairs with the release in `unpark`: the waker is done with the waiter.
        self.word.load(Acquire) != 0
    }

    fn park(&self, deadline: u64) -> Waited {
        if self.woken() {
            Waited::Woken
        } else {
            crate::sys::futex_wait(&self.word, 0, deadline)
        }
    }

    fn unpark(at: NonNull<Waiter>) {
        // SAFETY: the waiter stays until the word is 1.
        let parker = unsafe { &at.as_ref().parker };
        // Before the word: when the waiter sees the word, it closes the descriptor or leaves the own queue.
        match parker.alarm {
            Alarm::Futex => {}
            // SAFETY: it lives as long as the waiter.
            Alarm::Elsewhere(place) => unsafe { place.as_ref() }.wake(),
        }
        let word: *const AtomicU32 = &parker.word;
        // Release: pairs with the acquire in `woken`. From here on the waiter may be gone.
        parker.word.store(1, Release);
        crate::sys::futex_wake(word, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::monotonic_ns;

    #[test]
    fn a_spin_begins_when_it_is_likely_to_be_short_and_rests_when_it_was_in_vain() {
        let spin = Spin::new();
        let now = monotonic_ns();
        let is_tried = |began| {
            let mut looks = 0;
            spin.spin(began, || {
                looks += 1;
                false
            });
            looks > 0
        };
        assert!(!is_tried(now));
        for _ in 0..tuning().soon_in_a_row {
            assert!(!is_tried(now));
            // Soon, however slow this thread is.
            spin.learn(now + 1_000_000_000_000);
        }
        let began = monotonic_ns();
        assert!(is_tried(began));
        assert!(!is_tried(began));
        while !is_tried(monotonic_ns()) {
            std::thread::yield_now();
        }
        // Not soon; after that no spin is tried, whether it rests or not.
        spin.learn(now - tuning().soon_ns);
        spin.rests_until.store(0, Relaxed);
        assert!(!is_tried(monotonic_ns()));
    }
}
