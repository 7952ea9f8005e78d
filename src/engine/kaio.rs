//! The second way to carry a request out: the kernel's own AIO, by a worker.
//!
//! A read or a write past the page cache that waits for its device keeps a worker for as long. With
//! many in flight, switching from one to the next costs more than the requests do; and a write that
//! allocates holds its file's lock until it is done, so that they go one by one (10,000 a second
//! into a sparse file on ext4, where the kernel's AIO has 70,000). The kernel's AIO has neither
//! fault: one worker hands over many, one thread takes what has been done. What io_submit() is
//! blamed for, that it blocks, is here a worker's trouble, and the pool knows how to live with that.
//!
//! It is for files opened with O_DIRECT that have made many requests in a row wait
//! ([`crate::policy::outlook::Outlook::is_device_bound`]), and for plain reads and writes. Nothing depends on it: what
//! the kernel does not take, a worker carries out. There is one context for the process, of
//! [`EVENTS`] events, made when it is first wanted.
//!
//! A seccomp filter may come at any time, for all threads at once, and it may end a process that makes a
//! call of the kernel's AIO. So each such call is made right after the question whether there is a filter
//! ([`crate::sys::aio`]), and what is with the kernel comes back without one: events are taken from the kernel's
//! ring, which is mapped in the process ([`InKernel::take_done`]). The kernel itself never takes an event
//! from the ring: io_getevents(2) is only a way to sleep. The reaper does not even sleep there: each
//! request that is handed over adds to an eventfd ([`Doorbell`]).

mod doorbell;

use crate::attr;
use crate::engine;
use crate::policy::batch::{Direction, Joined, Request, merges};
use crate::policy::route::{Route, Taken};
use crate::policy::tuning::BATCHES;
use crate::policy::tuning::tuning;
use crate::profiles;
use crate::queue::{Context, ContextRef};
use crate::request::{Chain, Req, Stage};
use crate::sync::{Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::aio::{
    self, FLAG_RESFD, KernelIocb, PREAD, PREADV, PWRITE, PWRITEV, Ring, sleep, submit,
};
use crate::sys::host::{Inside, own_table};
use crate::sys::private_fd::{NO_FILE, is_inside};
use crate::sys::processors;
use crate::sys::thread::spawn_detached;
use crate::sys::{Result, Waited, monotonic_ns};
use crate::syscall::{self, Call, carrier};
use arrayvec::ArrayVec;
use doorbell::{Doorbell, close_doorbell};
use libc::{c_long, iovec};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64};

/// Requests in flight here. More are carried out by workers.
const EVENTS: usize = 256;
/// Most that are handed over by one call. (See also [`BATCHES`].)
pub const BATCH: usize = 16;
/// Most that are taken by one call.
pub const REAPED: usize = 64;
/// While something is in flight, that thread looks at the ring this often though nobody rings: the program
/// may have closed what is rung by.
const LOOK_NS: u64 = 100_000_000;
/// Whoever wants one of its numbers waits for a lock for so long at most.
const VACATE_NS: u64 = 10_000_000;

/// Requests on their way to the kernel.
pub type Batch = ArrayVec<Req, BATCH>;

/// Its descriptors are in the table of the thread that first hands something over. All who hand over must
/// share that table.
pub struct Kaio {
    state: Lock<Reaper>,
    here: InKernel,
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

/// The requests that a context of the kernel's has, each in a place by whose number it is known
/// there.
pub struct InKernel {
    places: Lock<Places>,
    /// How many places are free, for those who do not have the lock.
    room: AtomicU32,
    /// The kernel was seen to wait for what it was given. A hint.
    waits: AtomicBool,
    /// The eventfd that each request adds to; NO_FILE: none.
    told: AtomicI32,
}

struct Places {
    places: Vec<Option<InFlight>>,
    free: Vec<u16>,
}

/// What the kernel carries out as one.
pub struct InFlight {
    context: ContextRef,
    /// A request; or a run of them.
    requests: Chain,
    is_run: bool,
    res: i64,
    /// CLOCK_MONOTONIC, for the statistics; 0 without.
    began: u64,
    /// The kernel was not to wait for anything when it was handed over.
    pub nowait: bool,
}

/// What has got a place, as io_submit(2) takes it.
type Handed = ArrayVec<KernelIocb, BATCH>;

/// The buffers of runs: where they are is in what io_submit(2) takes, until it has.
type Vectors = ArrayVec<iovec, BATCH>;

/// What has been done.
pub type Done = ArrayVec<InFlight, REAPED>;

impl KernelIocb {
    /// None for what is not handed over.
    fn of(call: &Call) -> Option<KernelIocb> {
        let [fd, buf, nbytes, offset, _, flags] = call.args;
        let (opcode, flags) = match c_long::from(call.nr) {
            libc::SYS_pread64 => (PREAD, 0),
            libc::SYS_pwrite64 => (PWRITE, 0),
            libc::SYS_preadv => (PREADV, 0),
            libc::SYS_pwritev => (PWRITEV, 0),
            libc::SYS_preadv2 => (PREADV, flags),
            libc::SYS_pwritev2 => (PWRITEV, flags),
            _ => return None,
        };
        const SAME: u64 = (libc::RWF_DSYNC | libc::RWF_SYNC) as u64;
        (flags & !SAME == 0 && (offset as i64) >= 0).then_some(KernelIocb {
            rw_flags: flags as u32,
            opcode,
            fd: fd as u32,
            buf,
            nbytes,
            offset: offset as i64,
            ..KernelIocb::default()
        })
    }
}

/// Whether a request can be handed over at all.
pub fn takes(req: &Req) -> bool {
    req.bound().allow_kernel()
        && req.refused() == 0
        && !req.asks_ioprio()
        && KernelIocb::of(req.call()).is_some()
}

pub fn direction(call: &Call) -> Direction {
    if profiles::writes(call) {
        Direction::Write
    } else {
        Direction::Read
    }
}

/// The facts that decide whether a request joins others (see [`crate::policy::batch`]).
pub fn facts(req: &Req, for_kernel: bool) -> Request {
    let call = req.call();
    let plain = plain_bytes(call);
    Request {
        for_kernel,
        direction: direction(call),
        file: (call.args[0], call.key),
        start: plain.map(|_| call.args[3]),
        bytes: plain.unwrap_or(0),
        no_merge: req.is_apart(),
        has_eventfd: req.has_eventfd(),
    }
}

/// How many bytes a plain read or write asks for.
pub fn plain_bytes(call: &Call) -> Option<u64> {
    let nr = c_long::from(call.nr);
    matches!(nr, libc::SYS_pread64 | libc::SYS_pwrite64).then_some(call.args[2])
}

/// How many requests at the beginning of the batch make a run: the kernel can carry them out as one read or
/// write. None if it is just one.
fn run_of(batch: &Batch) -> Option<usize> {
    let mut run = Joined::of(facts(&batch[0], true));
    let joins = |req: &&Req| {
        let next = facts(req, true);
        let merges = merges(&run, &next, BATCHES);
        run.add(next);
        merges
    };
    let joined = batch[1..].iter().take_while(joins).count();
    (joined != 0).then_some(joined + 1)
}

/// Whether requests of the batch, which all go in one direction and to one file, may be made a run. What is appended lands
/// elsewhere than its offset says.
fn may_run(batch: &Batch) -> bool {
    let [first, _, ..] = batch.as_slice() else {
        return false;
    };
    let call = first.call();
    !profiles::writes(call) || syscall::may_be_repeated(call)
}

impl InFlight {
    /// Gives back the requests, with their results; or, as errors, those that are to be carried out once
    /// more: because the kernel would have had to wait, or, of a run that was not carried out in full, those
    /// behind where it stopped. Each of these then goes by itself: the kernel has said what becomes of one at
    /// most. The one that it stopped in has moved some bytes. A write says so: these are in the file, and
    /// that is what it would have said by itself. A read is made once more.
    pub fn settle(mut self, mut take: impl FnMut(core::result::Result<Req, Req>)) {
        let mut left = u64::try_from(self.res).unwrap_or(0);
        let refused = [libc::EAGAIN, libc::EOPNOTSUPP].map(|errno| -i64::from(errno));
        let came_back = self.nowait && refused.contains(&self.res);
        let mut over = came_back;
        while let Some(mut req) = self.requests.pop() {
            let asked = req.call().args[2];
            let stopped = self.is_run && !over && asked > left;
            over |= stopped;
            if stopped && left != 0 && profiles::writes(req.call()) {
                end(&mut req, left as i64, self.began);
                take(Ok(req));
                continue;
            }
            if over {
                if !came_back {
                    req.set_apart();
                }
                take(Err(req));
                continue;
            }
            left = left.saturating_sub(asked);
            let res = if self.is_run { asked as i64 } else { self.res };
            end(&mut req, res, self.began);
            take(Ok(req));
        }
    }
}

/// The kernel has carried a request out that `began` then.
fn end(req: &mut Req, res: i64, began: u64) {
    if !req.bound().is_none() {
        attr::end_in_kernel(req);
    }
    req.set_res(res);
    req.count(began);
}

impl InKernel {
    pub fn new(most: usize) -> Result<InKernel> {
        let (mut places, mut free) = (Vec::new(), Vec::new());
        places.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        free.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        places.resize_with(most, || None);
        free.extend((0..most as u16).rev());
        Ok(InKernel {
            places: Lock::new(Places { places, free }),
            room: AtomicU32::new(most as u32),
            waits: AtomicBool::new(false),
            told: AtomicI32::new(NO_FILE),
        })
    }

    /// How many more requests it would take now.
    pub fn room(&self) -> usize {
        // Relaxed: a hint.
        self.room.load(Relaxed) as usize
    }

    fn set_room(&self, places: &Places) {
        self.room.store(places.free.len() as u32, Relaxed);
    }

    /// Whether the kernel has none of them.
    pub fn is_unused(&self) -> bool {
        let places = self.places.lock();
        places.free.len() == places.places.len()
    }

    /// Gives requests places, as far as there are any. The others stay in the batch. `nowait`: as with
    /// [`InKernel::hand_over`].
    fn put(
        &self,
        context: &ContextRef,
        batch: &mut Batch,
        nowait: bool,
        vectors: &mut Vectors,
        route: Route,
    ) -> Handed {
        let may_run = may_run(batch);
        // Relaxed: made before who hands over took the lock of `Kaio::state`.
        let told = self.told.load(Relaxed);
        let mut places = self.places.lock();
        let mut handed = Handed::new();
        while !batch.is_empty()
            && let Some(place) = places.free.pop()
        {
            let run = may_run.then(|| run_of(batch)).flatten();
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
                context: context.clone(),
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

    /// Hands requests over to the kernel. Those that it does not take stay in the batch; says
    /// whether it has refused one, or a filter may do so. `nowait`: it is to wait for nothing meanwhile; those for which it would
    /// have to come back.
    pub fn hand_over(
        &self,
        kernel: u64,
        context: &ContextRef,
        batch: &mut Batch,
        nowait: bool,
    ) -> bool {
        let mut vectors = Vectors::new();
        // Who submits must not wait.
        let route = if nowait {
            Route::KernelSubmit
        } else {
            Route::KernelWaiting
        };
        let handed = self.put(context, batch, nowait, &mut vectors, route);
        self.submit(kernel, handed, batch)
    }

    /// Hands over what has got places. Those that it does not take come back to the batch; says
    /// whether it has refused one.
    fn submit(&self, kernel: u64, mut handed: Handed, batch: &mut Batch) -> bool {
        if handed.is_empty() {
            return false;
        }
        carrier::settle();
        let most = if self.waits.load(Relaxed) {
            tuning().unplugged as usize
        } else {
            BATCH
        };
        let count = handed.len();
        let began = monotonic_ns();
        let mut taken = 0;
        while taken < count {
            let some = &mut handed[taken..count.min(taken + most)];
            match submit::<BATCH>(kernel, some) {
                Some(more) if more != 0 => taken += more,
                _ => break,
            }
        }
        let waits = (monotonic_ns() - began) / count as u64 > tuning().unplugged_ns;
        if self.waits.load(Relaxed) != waits {
            self.waits.store(waits, Relaxed);
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
    pub fn take_done(&self, kernel: u64) -> Done {
        let mut done = Done::new();
        let ring = Ring::at(kernel);
        if ring.available() == 0 {
            return done;
        }
        // Under the lock there is one who moves the head.
        let mut places = self.places.lock();
        while !done.is_full()
            && let Some((place, res)) = ring.take()
        {
            if let Some(mut one) = places.take(place) {
                one.res = res;
                done.push(one);
            }
        }
        self.set_room(&places);
        done
    }

    /// Takes what has been done: waits in the kernel's AIO for the first, for so long at most. Says, too, how
    /// the wait ended; None: it must not wait there, as there is a filter.
    pub fn reap(&self, kernel: u64, ns: u64) -> (Option<Waited>, Done) {
        let done = self.take_done(kernel);
        if ns == 0 || !done.is_empty() {
            return (Some(Waited::Woken), done);
        }
        match sleep(kernel, ns) {
            None => (None, done),
            Some(waited) => (Some(waited), self.take_done(kernel)),
        }
    }
}

impl Places {
    fn take(&mut self, place: u64) -> Option<InFlight> {
        let taken = self.places.get_mut(usize::try_from(place).ok()?)?.take()?;
        self.free.push(place as u16);
        Some(taken)
    }
}

impl Kaio {
    pub fn new() -> Result<Kaio> {
        Ok(Kaio {
            state: Lock::new(Reaper::None),
            here: InKernel::new(EVENTS)?,
            kernel: AtomicU64::new(0),
            doorbell: Doorbell::new(),
            is_inside: AtomicBool::new(false),
        })
    }

    /// How many requests it would take now.
    pub fn room(&self) -> usize {
        self.here.room()
    }

    /// Hands requests over to the kernel. Those that it does not take stay in the batch; says
    /// whether it has refused one.
    pub fn submit(&'static self, context: &ContextRef, batch: &mut Batch) -> bool {
        let mut state = self.state.lock();
        if let Reaper::None = *state {
            *state = Reaper::Making;
            // Nobody else asks meanwhile; nor ever, if it fails.
            // Relaxed: a hint, see `InKernel::room`.
            self.here.room.store(0, Relaxed);
            drop(state);
            let made = self.make();
            state = self.state.lock();
            *state = made;
            if !matches!(made, Reaper::Never) {
                self.here.room.store(EVENTS as u32, Relaxed);
            }
            if let Reaper::None = made {
                return true;
            }
        }
        let Reaper::Runs = *state else {
            return false;
        };
        // Under the lock, so that the reaper does not find it unused.
        let mut vectors = Vectors::new();
        let route = Route::KernelThread;
        let handed = self.here.put(context, batch, false, &mut vectors, route);
        drop(state);
        // Acquire: pairs with the release in `make`.
        let kernel = self.kernel.load(Acquire);
        self.here.submit(kernel, handed, batch)
    }

    /// Makes what is not there, and starts the reaper. None: it cannot be had now, for want of a descriptor or
    /// a thread.
    fn make(&'static self) -> Reaper {
        // Relaxed: one at a time comes here, and the lock is between them.
        if self.kernel.load(Relaxed) == 0 {
            let Some(new) = new_context(EVENTS) else {
                return Reaper::Never;
            };
            // Release: pairs with the acquire loads.
            self.kernel.store(new, Release);
        }
        if !self.doorbell.open() {
            return Reaper::None;
        }
        let eventfd = self.doorbell.eventfd.load(Relaxed);
        self.here.told.store(eventfd, Relaxed);
        let arg = ptr::from_ref(self).cast_mut().cast();
        let table = own_table().filter(|_| is_inside());
        // Relaxed: starting a thread orders it.
        self.is_inside.store(table.is_some(), Relaxed);
        if let Some(table) = table {
            (table.enter)();
        }
        // SAFETY: `self` is never freed.
        let started = unsafe { spawn_detached(reaper_main, arg) }.is_ok();
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
    fn reap(&'static self) {
        // Acquire: pairs with the release in `make`.
        let kernel = self.kernel.load(Acquire);
        loop {
            let done = self.here.take_done(kernel);
            if !done.is_empty() {
                complete(done);
                continue;
            }
            let unused = self.here.is_unused();
            let waited = self
                .doorbell
                .wait(if unused { tuning().idle_ns } else { LOOK_NS });
            if !unused || waited != Waited::TimedOut {
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
            self.here
                .told
                .store(self.doorbell.eventfd.load(Relaxed), Relaxed);
        }
    }

    /// In a forked child: gives back what it inherited, which are descriptors.
    pub fn abandon(&self) {
        close_doorbell(self.doorbell.take());
    }
}

/// Publishes what has been done, of whatever contexts.
fn complete(done: Done) {
    let mut done = done.into_iter().peekable();
    while let Some(first) = done.next() {
        let context = first.context.clone();
        let mut requests = Done::new();
        let mut next = Some(first);
        while let Some(one) = next {
            requests.push(one);
            next = done.next_if(|other| other.context.is(&context));
        }
        Context::complete_all(&context, requests);
    }
}

extern "C" fn reaper_main(kaio: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-reaper".as_ptr()) };
    // SAFETY: what `make` has given it, which is never freed.
    let kaio: &'static Kaio = unsafe { &*kaio.cast() };
    let _inside = kaio.is_inside.load(Relaxed).then(Inside::begin);
    processors::let_waker_go_on();
    kaio.reap();
    ptr::null_mut()
}

/// A context of the kernel's, if one may be used and can be had (see [`aio::new_context`]).
pub fn new_context(events: usize) -> Option<u64> {
    engine::allows_kernel_aio()
        .then(|| aio::new_context(events))
        .flatten()
}
