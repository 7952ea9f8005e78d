//! The requests in a kernel queue.

use super::{BATCH, KernelIocb, facts};
use crate::attr;
use crate::engine::in_flight::{Done, InFlight};
use crate::engine::{Reaped, Start};
use crate::policy::batch::{Joined, merges};
use crate::policy::route::Execution;
use crate::policy::tuning::tuning;
use crate::profiles;
use crate::request::{Chain, Req, Stage};
use crate::sync::{AtomicBool, AtomicU32, Lock, Relaxed};
use crate::sys::aio::{FLAG_RESFD, NO_SLOT, PREAD, PREADV, PWRITEV, submit};
use crate::sys::private_fd::NO_FILE;
use crate::sys::{Completions, Result, monotonic_ns};
use crate::syscall::{self, carrier};
use arrayvec::ArrayVec;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicI32;

/// The requests in a kernel queue. Each has a slot, whose number identifies it there, and a reference to its owner.
pub struct InKernel<Q> {
    slots: Lock<Slots<Q>>,
    /// The number of free slots, for threads without the lock.
    room: AtomicU32,
    /// The kernel was seen to wait within the call that submits. A hint.
    waits: AtomicBool,
    /// The eventfd that each request adds to; NO_FILE: none.
    eventfd: AtomicI32,
    /// The requests hold their files. Then none is given back before the call has returned that submits it: until then the kernel holds its
    /// file, too.
    has_held: bool,
}

struct Slots<Q> {
    slots: Vec<Option<Slot<Q>>>,
    free: Vec<u16>,
    /// The queue is closed: there is no room, even if slots are free.
    is_closed: bool,
    /// For each slot, the buffers of a merged operation: an iovec for each request.
    vectors: Vec<[[u64; 2]; BATCH]>,
}

struct Slot<Q> {
    one: InFlight<Q>,
    /// Whether it is given back by the thread that submits it.
    submitting: Submitting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Submitting {
    No,
    /// The call that submits it has not returned.
    Yes,
    /// Nor has it, and the operation is over.
    Done,
}

const _: () = assert!(size_of::<libc::iovec>() == size_of::<[u64; 2]>());

/// Requests that have got a slot, as io_submit(2) takes them.
pub type Handed = ArrayVec<KernelIocb, BATCH>;

/// How many requests at the beginning of the batch the kernel can carry out as one read or write. None: just one.
fn mergeable(batch: &[Req]) -> Option<usize> {
    let mut run = Joined::of(facts(&batch[0], true));
    let joins = |req: &&Req| {
        let next = facts(req, true);
        let merges = merges(&run, &next, tuning());
        run.add(next);
        merges
    };
    let joined = batch[1..].iter().take_while(joins).count();
    (joined != 0).then_some(joined + 1)
}

/// Whether requests of the batch may be merged. All of them go in one direction and to one file. An appended write lands elsewhere than its
/// offset says.
fn may_merge(batch: &[Req]) -> bool {
    let [first, _, ..] = batch else {
        return false;
    };
    let call = first.call();
    !profiles::writes(call) || syscall::may_be_repeated(call)
}

impl<Q: Clone> InKernel<Q> {
    pub fn new(most: usize, has_held: bool) -> Result<InKernel<Q>> {
        let (mut slots, mut free, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        slots.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        free.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        vectors.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(most, || None);
        free.extend((0..most as u16).rev());
        vectors.resize(most, [[0; 2]; BATCH]);
        Ok(InKernel {
            slots: Lock::new(Slots {
                slots,
                free,
                is_closed: false,
                vectors,
            }),
            room: AtomicU32::new(most as u32),
            waits: AtomicBool::new(false),
            eventfd: AtomicI32::new(NO_FILE),
            has_held,
        })
    }

    /// How many more requests it takes now.
    pub fn room(&self) -> usize {
        // Relaxed: a hint.
        self.room.load(Relaxed) as usize
    }

    /// There is no room until [`InKernel::open`].
    pub fn close(&self) {
        self.set_closed(true);
    }

    /// There is room again.
    pub fn open(&self) {
        self.set_closed(false);
    }

    fn set_closed(&self, is_closed: bool) {
        let mut slots = self.slots.lock();
        slots.is_closed = is_closed;
        self.set_room(&slots);
    }

    /// Sets the eventfd that each request adds to from now on.
    pub fn set_eventfd(&self, eventfd: RawFd) {
        self.eventfd.store(eventfd, Relaxed);
    }

    fn set_room(&self, slots: &Slots<Q>) {
        let room = if slots.is_closed { 0 } else { slots.free.len() };
        // Relaxed: a hint.
        self.room.store(room as u32, Relaxed);
    }

    /// Whether nothing is in flight here.
    pub fn is_unused(&self) -> bool {
        let slots = self.slots.lock();
        slots.free.len() == slots.slots.len()
    }

    /// Gives requests slots, as long as there are free ones and room in one call. The others stay in the batch.
    pub fn put<const N: usize>(
        &self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> Handed {
        let Start { route, nowait } = how;
        let may_merge = may_merge(batch);
        // Relaxed: it was set before this thread took the lock of `Kaio::state`.
        let eventfd = self.eventfd.load(Relaxed);
        let mut slots = self.slots.lock();
        let mut handed = Handed::new();
        let mut room = BATCH;
        while room != 0
            && !batch.is_empty()
            && let Some(slot) = slots.free.pop()
        {
            let first = &batch[..room.min(batch.len())];
            let count = may_merge.then(|| mergeable(first)).flatten();
            room -= count.unwrap_or(1);
            let first = batch[0].call();
            let mut iocb = KernelIocb::of(first).unwrap_or_default();
            let vectors = &mut slots.vectors[usize::from(slot)];
            if let Some(count) = count {
                iocb.opcode = if iocb.opcode == PREAD {
                    PREADV
                } else {
                    PWRITEV
                };
                // The vectors do not move, and do not change before the slot is free.
                iocb.buf = vectors.as_ptr() as u64;
                iocb.nbytes = count as u64;
            }
            iocb.fd = batch[0].fd() as u32;
            iocb.data = u64::from(slot);
            if eventfd != NO_FILE {
                iocb.flags |= FLAG_RESFD;
                iocb.resfd = eventfd as u32;
            }
            if nowait {
                iocb.rw_flags |= libc::RWF_NOWAIT as u32;
            }
            handed.push(iocb);
            let counted = batch[0].is_counted();
            let mut requests = Chain::new();
            let merged = count.is_some();
            for (mut req, vector) in batch.drain(..count.unwrap_or(1)).zip(vectors) {
                let [_, buf, bytes, ..] = req.call().args;
                *vector = [buf, bytes];
                req.set_route(Execution { route, merged });
                if !req.bound().is_none() {
                    let call = *req.call();
                    attr::begin_in_kernel(&mut req, &call);
                }
                req.set_stage(Stage::Begun);
                requests.push(req);
            }
            let one = InFlight {
                owner: owner.clone(),
                requests,
                is_merged: merged,
                res: 0,
                began: if counted { monotonic_ns() } else { 0 },
                nowait,
                is_refused: false,
            };
            let submitting = if self.has_held {
                Submitting::Yes
            } else {
                Submitting::No
            };
            slots.slots[usize::from(slot)] = Some(Slot { one, submitting });
        }
        self.set_room(&slots);
        handed
    }

    /// Hands requests with slots over to a context of the kernel's AIO. Requests that the kernel does not take come back to the batch, and
    /// do not stay in `handed`. Returns whether the kernel has refused one.
    pub fn submit<const N: usize>(
        &self,
        kernel: u64,
        handed: &mut Handed,
        batch: &mut ArrayVec<Req, N>,
    ) -> bool {
        carrier::settle();
        let most = self.most();
        let count = handed.len();
        let began = monotonic_ns();
        let mut submitted = 0;
        while submitted < count {
            let some = &mut handed[submitted..count.min(submitted + most)];
            match submit::<BATCH>(kernel, some) {
                Some(more) if more != 0 => submitted += more,
                _ => break,
            }
        }
        self.note_submitted(count, began);
        if submitted == count {
            return false;
        }
        let mut slots = self.slots.lock();
        for iocb in &handed[submitted..] {
            if let Some(mut back) = slots.remove(iocb.data) {
                batch.extend(std::iter::from_fn(|| back.requests.pop()));
            }
        }
        self.set_room(&slots);
        handed.truncate(submitted);
        true
    }

    /// The call that has submitted these has returned. Takes those that are over already, if the requests hold their files.
    pub fn submitted(&self, handed: &Handed) -> Done<Q> {
        let mut done = Done::new();
        if !self.has_held {
            return done;
        }
        let mut slots = self.slots.lock();
        for iocb in handed {
            let Some(slot) = slots.get_mut(iocb.data) else {
                continue;
            };
            let before = std::mem::replace(&mut slot.submitting, Submitting::No);
            if before == Submitting::Done {
                done.extend(slots.remove(iocb.data));
            }
        }
        self.set_room(&slots);
        done
    }

    /// How many are handed over by one call.
    pub fn most(&self) -> usize {
        if self.waits.load(Relaxed) {
            tuning().unplugged as usize
        } else {
            BATCH
        }
    }

    /// `count` requests have been handed over since `began`.
    pub fn note_submitted(&self, count: usize, began: u64) {
        let waits = (monotonic_ns() - began) / count as u64 > tuning().hand_over_ns;
        if self.waits.load(Relaxed) != waits {
            self.waits.store(waits, Relaxed);
        }
    }

    /// Takes completions without a system call, as many as there is room for.
    pub fn reap(&self, ring: &impl Completions) -> Reaped<Q> {
        let mut reaped = Reaped::nothing();
        let Reaped { done, woken, .. } = &mut reaped;
        if ring.available() == 0 {
            return reaped;
        }
        // Only the owner of the lock moves the head.
        let mut slots = self.slots.lock();
        while !done.is_full()
            && let Some((slot, res)) = ring.pop()
        {
            *woken |= slot == NO_SLOT;
            let Some(Slot { one, submitting }) = slots.get_mut(slot) else {
                continue;
            };
            one.res = res;
            one.is_refused = ring.is_refusal(res, one.nowait);
            if *submitting == Submitting::No {
                done.extend(slots.remove(slot));
            } else {
                // The thread that submits it gives it back.
                *submitting = Submitting::Done;
            }
        }
        self.set_room(&slots);
        reaped
    }

    /// Withdraws a request that the kernel has not got: it counts as refused.
    pub fn withdraw(&self, slot: u64) -> Option<InFlight<Q>> {
        let mut slots = self.slots.lock();
        let back = slots.remove(slot);
        self.set_room(&slots);
        back.map(|one| InFlight {
            is_refused: true,
            ..one
        })
    }
}

impl<Q> Slots<Q> {
    fn get_mut(&mut self, slot: u64) -> Option<&mut Slot<Q>> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    fn remove(&mut self, slot: u64) -> Option<InFlight<Q>> {
        let Slot { one, .. } = self.slots.get_mut(usize::try_from(slot).ok()?)?.take()?;
        self.free.push(slot as u16);
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that comes back or is withdrawn makes no room in a closed queue.
    #[test]
    fn a_closed_queue_has_no_room_until_it_is_opened() {
        let queue = InKernel::<()>::new(4, false).unwrap();
        assert_eq!(queue.room(), 4);
        queue.close();
        assert!(queue.withdraw(0).is_none());
        assert_eq!(queue.room(), 0);
        queue.open();
        assert_eq!(queue.room(), 4);
    }
}
