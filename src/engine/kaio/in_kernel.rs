//! What a context of the kernel's AIO has.

use super::{BATCH, KernelIocb, facts};
use crate::attr;
use crate::engine::in_flight::InFlight;
use crate::engine::{Reaped, Start};
use crate::policy::batch::{Joined, merges};
use crate::policy::route::Taken;
use crate::policy::tuning::tuning;
use crate::profiles;
use crate::request::{Chain, Req, Stage};
use crate::sync::{AtomicU32, Lock, Relaxed};
use crate::sys::aio::{FLAG_RESFD, NO_PLACE, PREAD, PREADV, PWRITEV, Ring, submit};
use crate::sys::private_fd::NO_FILE;
use crate::sys::{Result, monotonic_ns};
use crate::syscall::{self, carrier};
use arrayvec::ArrayVec;
use libc::iovec;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicI32;

/// The requests that a context of the kernel's has, each in a place by whose number it is known
/// there, with what it is to be given back to.
pub struct InKernel<Q> {
    places: Lock<Places<Q>>,
    /// How many places are free, for those who do not have the lock.
    room: AtomicU32,
    /// The eventfd that each request adds to; NO_FILE: none.
    told: AtomicI32,
}

struct Places<Q> {
    places: Vec<Option<InFlight<Q>>>,
    free: Vec<u16>,
}

/// What has got a place, as io_submit(2) takes it.
pub type Handed = ArrayVec<KernelIocb, BATCH>;

/// The buffers of runs: where they are is in what io_submit(2) takes, until it has.
pub type Vectors = ArrayVec<iovec, BATCH>;

/// How many requests at the beginning of the batch make a run: the kernel can carry them out as one read or
/// write. None if it is just one.
fn run_of(batch: &[Req]) -> Option<usize> {
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

/// Whether requests of the batch, which all go in one direction and to one file, may be made a run. What is appended lands
/// elsewhere than its offset says.
fn may_run(batch: &[Req]) -> bool {
    let [first, _, ..] = batch else {
        return false;
    };
    let call = first.call();
    !profiles::writes(call) || syscall::may_be_repeated(call)
}

impl<Q: Clone> InKernel<Q> {
    pub fn new(most: usize) -> Result<InKernel<Q>> {
        let (mut places, mut free) = (Vec::new(), Vec::new());
        places.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        free.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        places.resize_with(most, || None);
        free.extend((0..most as u16).rev());
        Ok(InKernel {
            places: Lock::new(Places { places, free }),
            room: AtomicU32::new(most as u32),
            told: AtomicI32::new(NO_FILE),
        })
    }

    /// How many more requests it would take now.
    pub fn room(&self) -> usize {
        // Relaxed: a hint.
        self.room.load(Relaxed) as usize
    }

    /// It takes none until [`InKernel::open`].
    pub fn close(&self) {
        // Relaxed, as all here: a hint.
        self.room.store(0, Relaxed);
    }

    /// It takes as many again as it has places.
    pub fn open(&self, places: usize) {
        self.room.store(places as u32, Relaxed);
    }

    /// The eventfd that each request adds to from now on.
    pub fn tell(&self, eventfd: RawFd) {
        self.told.store(eventfd, Relaxed);
    }

    fn set_room(&self, places: &Places<Q>) {
        self.room.store(places.free.len() as u32, Relaxed);
    }

    /// Whether the kernel has none of them.
    pub fn is_unused(&self) -> bool {
        let places = self.places.lock();
        places.free.len() == places.places.len()
    }

    /// Gives requests places, as far as there are any and one call has room. The others stay in the batch.
    pub fn put<const N: usize>(
        &self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
        vectors: &mut Vectors,
    ) -> Handed {
        let Start { route, nowait } = how;
        let may_run = may_run(batch);
        // Relaxed: made before who hands over took the lock of `Kaio::state`.
        let told = self.told.load(Relaxed);
        let mut places = self.places.lock();
        let mut handed = Handed::new();
        let mut room = BATCH;
        while room != 0
            && !batch.is_empty()
            && let Some(place) = places.free.pop()
        {
            let first = &batch[..room.min(batch.len())];
            let run = may_run.then(|| run_of(first)).flatten();
            room -= run.unwrap_or(1);
            let first = batch[0].call();
            let mut iocb = KernelIocb::of(first).unwrap_or_default();
            if let Some(count) = run {
                iocb.opcode = if iocb.opcode == PREAD {
                    PREADV
                } else {
                    PWRITEV
                };
                // They do not move: there is room for all that the batch has.
                iocb.buf = vectors.as_ptr().wrapping_add(vectors.len()) as u64;
                iocb.nbytes = count as u64;
            }
            iocb.fd = batch[0].fd() as u32;
            iocb.data = u64::from(place);
            if told != NO_FILE {
                iocb.flags |= FLAG_RESFD;
                iocb.resfd = told as u32;
            }
            if nowait {
                iocb.rw_flags |= libc::RWF_NOWAIT as u32;
            }
            handed.push(iocb);
            let counted = batch[0].is_counted();
            let mut requests = Chain::new();
            let merged = run.is_some();
            for mut req in batch.drain(..run.unwrap_or(1)) {
                if merged {
                    let [_, buf, bytes, ..] = req.call().args;
                    vectors.push(iovec {
                        iov_base: ptr::with_exposed_provenance_mut(buf as usize),
                        iov_len: bytes as usize,
                    });
                }
                req.set_route(Taken { route, merged });
                if !req.bound().is_none() {
                    let call = *req.call();
                    attr::begin_in_kernel(&mut req, &call);
                }
                req.set_stage(Stage::Begun);
                requests.push(req);
            }
            places.places[usize::from(place)] = Some(InFlight {
                owner: owner.clone(),
                requests,
                is_run: merged,
                res: 0,
                began: if counted { monotonic_ns() } else { 0 },
                nowait,
            });
        }
        self.set_room(&places);
        handed
    }

    /// See [`crate::engine::Engine::start`]. `put` gives requests places ([`InKernel::put`]) for one call, and says in which context of the
    /// kernel's. Err: nothing can be handed over now.
    pub fn start<const N: usize>(
        &self,
        batch: &mut ArrayVec<Req, N>,
        mut put: impl FnMut(
            &mut ArrayVec<Req, N>,
            &mut Vectors,
        ) -> core::result::Result<(u64, Handed), ()>,
    ) -> bool {
        while !batch.is_empty() {
            let mut vectors = Vectors::new();
            match put(batch, &mut vectors) {
                Err(()) => return true,
                Ok((_, handed)) if handed.is_empty() => return false,
                Ok((kernel, handed)) => {
                    if self.submit(kernel, handed, batch) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Hands over what has got places. Those that it does not take come back to the batch; says
    /// whether it has refused one.
    fn submit<const N: usize>(
        &self,
        kernel: u64,
        mut handed: Handed,
        batch: &mut ArrayVec<Req, N>,
    ) -> bool {
        carrier::settle();
        let count = handed.len();
        let mut taken = 0;
        while taken < count {
            match submit::<BATCH>(kernel, &mut handed[taken..]) {
                Some(more) if more != 0 => taken += more,
                _ => break,
            }
        }
        if taken == count {
            return false;
        }
        let mut places = self.places.lock();
        for iocb in &handed[taken..] {
            if let Some(mut back) = places.take(iocb.data) {
                batch.extend(std::iter::from_fn(|| back.requests.pop()));
            }
        }
        self.set_room(&places);
        true
    }

    /// Takes what has been done, as much as it has room for, without a system call.
    pub fn take_done(&self, kernel: u64) -> Reaped<Q> {
        let mut taken = Reaped::nothing();
        let Reaped { done, woken, .. } = &mut taken;
        let ring = Ring::at(kernel);
        if ring.available() == 0 {
            return taken;
        }
        // Under the lock there is one who moves the head.
        let mut places = self.places.lock();
        while !done.is_full()
            && let Some((place, res)) = ring.take()
        {
            *woken |= place == NO_PLACE;
            if let Some(mut one) = places.take(place) {
                one.res = res;
                done.push(one);
            }
        }
        self.set_room(&places);
        taken
    }
}

impl<Q> Places<Q> {
    fn take(&mut self, place: u64) -> Option<InFlight<Q>> {
        let taken = self.places.get_mut(usize::try_from(place).ok()?)?.take()?;
        self.free.push(place as u16);
        Some(taken)
    }
}
