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
//! ([`crate::habit::Habits::is_slow`]), and for plain reads and writes. Nothing depends on it: what
//! the kernel does not take, a worker carries out. There is one context for the process, of
//! [`EVENTS`] events, made when it is first wanted.
//!
//! A seccomp filter may come at any time, for all threads at once, and it may end a process that makes a
//! call of the kernel's AIO. So each such call is made right after the question whether there is a filter
//! ([`aio_call`]), and what is with the kernel comes back without one: events are taken from the kernel's
//! ring, which is mapped in the process ([`InKernel::take_done`]). The kernel itself never takes an event
//! from the ring: io_getevents(2) is only a way to sleep. The reaper does not even sleep there: each
//! request that is handed over adds to an eventfd ([`Doorbell`]).

use crate::attr;
use crate::carrier;
use crate::context::Context;
use crate::engine;
use crate::exec;
use crate::habit;
use crate::interrupt;
use crate::libaio;
use crate::libaio::table::Inside;
use crate::own::{self, is_inside};
use crate::policy::batch::{Direction, Joined, Limits, Request, merges};
use crate::policy::route::{Route, Taken};
use crate::process::global;
use crate::processors;
use crate::registry::ContextRef;
use crate::request::{Call, Chain, Req, Stage};
use crate::sync::{Acquire, AtomicBool, AtomicU32, Lock, Relaxed, Release};
use crate::sys::{Result, Waited, has_call_filter, monotonic_ns, timespec};
use crate::thread::spawn_detached;
use arrayvec::ArrayVec;
use libc::{c_long, iovec};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64};
use std::time::Duration;

/// Requests in flight here. More are carried out by workers.
const EVENTS: usize = 256;
/// Most that are handed over by one call: the device has nothing to do before it ends. (4 KiB writes
/// into a sparse file on virtio: 68,000 a second by 16, 73,000 by 8 or 4, 68,000 by 1.)
const SCATTERED: usize = 4;
/// But so many if each begins where the one before it ends, up to so many bytes: the kernel gets them as one
/// read or write. (4 KiB on ext4 on a virtual disk, one after the other, in a second and as part of one
/// processor: 32 reads in flight 170,000 and 0.34, the kernel's AIO by itself 168,000 and 0.43; 128, 237,000
/// and 0.26, 241,000 and 0.51; writes that make a file longer, 32 in flight, 145,000 and 21,000: the kernel
/// waits for each of these in io_submit(2).)
pub const BATCH: usize = 16;
const RUN_BYTES: u64 = 128 << 10;
pub const LIMITS: Limits = Limits {
    scattered: SCATTERED,
    bytes: RUN_BYTES,
};
/// So many are given to the device one by one, where of more it first sees the last. Better, if the
/// kernel waits for each in io_submit(2): a write that makes its file longer. (17,200 a second into a
/// growing file on virtio by 4, when each was handed over by itself, 19,000 so; into a sparse one, where it
/// does not wait, 90,000 and 70,000.)
const UNPLUGGED: usize = 2;
const WAITED_NS: u64 = 20_000;
/// Most that are taken by one call.
pub const REAPED: usize = 64;
/// The thread that takes what has been done ends when nothing has been for so long.
const IDLE_NS: u64 = 3_000_000_000;
/// While something is in flight, that thread looks at the ring this often though nobody rings: the program
/// may have closed what is rung by.
const LOOK_NS: u64 = 100_000_000;
/// And this often if it cannot hear anything any more.
const DEAF_NS: u64 = 1_000_000;
/// Whoever wants one of its numbers waits for a lock for so long at most.
const VACATE_NS: u64 = 10_000_000;
const NO_FILE: RawFd = -1;

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

/// What the kernel tells the reaper by that something has been done. The reaper sleeps in epoll_wait(2) and
/// reads nothing: should the program have closed these numbers and use them for something else, nothing
/// of that is taken.
struct Doorbell {
    eventfd: AtomicI32,
    /// Of that eventfd alone, edge-triggered.
    epoll: AtomicI32,
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

/// What io_submit(2) takes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelIocb {
    data: u64,
    /// The field that is this on machines that have their low bytes first, as those that are
    /// supported (see `abi`).
    key: u32,
    rw_flags: u32,
    opcode: u16,
    ioprio: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

const _: () = assert!(size_of::<KernelIocb>() == 64);

/// What stands in an event for the number of a place if it has none.
const NO_PLACE: u64 = u64::MAX;

/// The kernel adds to the eventfd in `resfd`.
const FLAG_RESFD: u32 = 1;

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

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
        && req.side().is_none_or(|side| !side.asks_ioprio())
        && KernelIocb::of(req.call()).is_some()
}

pub fn direction(call: &Call) -> Direction {
    if habit::writes(call) {
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
        let merges = merges(&run, &next, LIMITS);
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
    !habit::writes(call) || exec::may_be_repeated(call)
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
            if stopped && left != 0 && habit::writes(req.call()) {
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
    libaio::request::count(req, began);
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
            let counted = batch[0].side().is_some_and(|side| side.is_counted());
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
            UNPLUGGED
        } else {
            BATCH
        };
        let count = handed.len();
        let began = monotonic_ns();
        let mut taken = 0;
        while taken < count {
            let some = &mut handed[taken..count.min(taken + most)];
            match submit(kernel, some) {
                Some(more) if more != 0 => taken += more,
                _ => break,
            }
        }
        let waits = (monotonic_ns() - began) / count as u64 > WAITED_NS;
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

impl Doorbell {
    const fn new() -> Doorbell {
        Doorbell {
            eventfd: AtomicI32::new(NO_FILE),
            epoll: AtomicI32::new(NO_FILE),
        }
    }

    /// Makes the descriptors; false: there are none to be had.
    fn open(&self) -> bool {
        let make = || -> Result<(RawFd, RawFd)> {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let eventfd = EventFd::from_value_and_flags(0, flags)?;
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let eventfd = own::duplicate(eventfd.as_fd().as_raw_fd())?;
            let made = own::duplicate(epoll.0.as_raw_fd()).and_then(|epoll| {
                listen(epoll, eventfd)
                    .map(|()| epoll)
                    .inspect_err(|_| own::close(epoll))
            });
            made.map(|epoll| (eventfd, epoll))
                .inspect_err(|_| own::close(eventfd))
        };
        let made = make();
        if let Ok((eventfd, epoll)) = made {
            // Relaxed, as all here: numbers. Who uses them has taken the lock of `Kaio::state` since.
            self.eventfd.store(eventfd, Relaxed);
            self.epoll.store(epoll, Relaxed);
        }
        made.is_ok()
    }

    /// One of the descriptors is to have another number. The lock of `Kaio::state` is held.
    fn vacate(&self, fd: RawFd) {
        let (eventfd, epoll) = (self.eventfd.load(Relaxed), self.epoll.load(Relaxed));
        if fd == eventfd {
            let new = own::duplicate(eventfd).unwrap_or(NO_FILE);
            if new != NO_FILE && listen(epoll, new).is_ok() {
                listen_no_more(epoll, eventfd);
            }
            self.eventfd.store(new, Relaxed);
            own::close(eventfd);
        } else if fd == epoll {
            let new = own::duplicate(epoll).unwrap_or(NO_FILE);
            self.epoll.store(new, Relaxed);
            own::close(epoll);
        }
    }

    fn take(&self) -> [RawFd; 2] {
        [&self.eventfd, &self.epoll].map(|fd| fd.swap(NO_FILE, Relaxed))
    }

    /// Waits until something has been done, for so long at most.
    fn wait(&self, ns: u64) -> Waited {
        let mut rung = libc::epoll_event { events: 0, u64: 0 };
        let (epoll, ms) = (self.epoll.load(Relaxed), (ns / 1_000_000) as libc::c_int);
        // libc's own is a cancellation point.
        // SAFETY: a structure of ours.
        let count = unsafe {
            let none = ptr::null::<libc::sigset_t>();
            libc::syscall(libc::SYS_epoll_pwait, epoll, &raw mut rung, 1, ms, none, 8)
        };
        match count {
            0 => Waited::TimedOut,
            1.. => Waited::Woken,
            _ if Errno::last() == Errno::EINTR => Waited::Interrupted,
            _ => {
                // Somebody has closed it.
                std::thread::sleep(Duration::from_nanos(DEAF_NS.min(ns)));
                Waited::TimedOut
            }
        }
    }
}

/// Closes what [`Doorbell::take`] has given, unless the program has closed it: the numbers may be the
/// program's by now.
fn close_doorbell([eventfd, epoll]: [RawFd; 2]) {
    if eventfd == NO_FILE {
        return;
    }
    // If both are what they were, the one is in the other.
    match listen(epoll, eventfd) {
        Err(Errno::EEXIST) => {
            own::close(epoll);
            own::close(eventfd);
        }
        Err(_) => {}
        Ok(()) => listen_no_more(epoll, eventfd),
    }
}

fn listen(epoll: RawFd, eventfd: RawFd) -> Result<()> {
    let mut rings = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET) as u32,
        u64: 0,
    };
    // SAFETY: a structure of ours.
    let ret = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, eventfd, &mut rings) };
    Errno::result(ret).map(drop)
}

fn listen_no_more(epoll: RawFd, eventfd: RawFd) {
    // SAFETY: integers.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, eventfd, ptr::null_mut()) };
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
        let table = global()
            .filter(|_| is_inside())
            .map(|global| &global.libaio.table);
        // Relaxed: starting a thread orders it.
        self.is_inside.store(table.is_some(), Relaxed);
        if let Some(table) = table {
            table.enter();
        }
        // SAFETY: `self` is never freed.
        let started = unsafe { spawn_detached(reaper_main, arg) }.is_ok();
        if !started {
            if let Some(table) = table {
                table.leave();
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
            let waited = self.doorbell.wait(if unused { IDLE_NS } else { LOOK_NS });
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
    pub fn vacate(&self, fd: RawFd) {
        if let Some(_state) = self.state.try_lock_for(VACATE_NS) {
            self.doorbell.vacate(fd);
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
    if let Some(global) = global() {
        let table = &global.libaio.table;
        let _inside = kaio.is_inside.load(Relaxed).then(|| Inside::begin(table));
        processors::let_waker_go_on();
        kaio.reap();
    }
    ptr::null_mut()
}

/// A context of the kernel's, if one may be used and can be had, and its ring is as we know it. None behind a system
/// call filter.
pub fn new_context(events: usize) -> Option<u64> {
    if !engine::allows_kernel_aio() {
        return None;
    }
    let mut kernel = 0u64;
    let args = [events as u64, &raw mut kernel as u64, 0, 0, 0, 0];
    if aio_call(libc::SYS_io_setup, args) != Some(0) {
        return None;
    }
    if !Ring::at(kernel).is_known() {
        aio_call(libc::SYS_io_destroy, [kernel, 0, 0, 0, 0, 0]);
        return None;
    }
    Some(kernel)
}

/// The kernel's ring, by what a context is known: its number is its ring's address. The kernel lets the
/// process take events by itself.
#[repr(C)]
struct Ring {
    _id: u32,
    size: AtomicU32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: AtomicU32,
    _compatible_features: u32,
    incompatible_features: AtomicU32,
    _header_length: u32,
}

/// What follows in the ring: so many of these.
#[repr(C)]
struct KernelEvent {
    data: AtomicU64,
    _obj: u64,
    res: AtomicI64,
    _res2: i64,
}

const _: () = assert!(size_of::<Ring>() == 32 && size_of::<KernelEvent>() == 32);

impl Ring {
    fn at(kernel: u64) -> &'static Ring {
        // SAFETY: the kernel has mapped the ring there, for as long as the context lives, and none that is
        // used here is ever destroyed. All that the kernel writes to is atomic.
        unsafe { &*ptr::with_exposed_provenance(kernel as usize) }
    }

    fn is_known(&self) -> bool {
        const MAGIC: u32 = 0xa10a_10a1;
        // Relaxed: written before io_setup(2) returned.
        self.magic.load(Relaxed) == MAGIC
            && self.incompatible_features.load(Relaxed) == 0
            && self.size.load(Relaxed) != 0
    }

    /// How many events there are.
    fn available(&self) -> usize {
        // Relaxed: who takes them looks again.
        let [size, head, tail] =
            [&self.size, &self.head, &self.tail].map(|word| word.load(Relaxed));
        let tail = if tail < head {
            tail.wrapping_add(size)
        } else {
            tail
        };
        tail.wrapping_sub(head) as usize
    }

    /// Takes the first event: its data and its result. The caller is alone in doing so.
    fn take(&self) -> Option<(u64, i64)> {
        let size = self.size.load(Relaxed);
        // Relaxed: only we move it.
        let head = self.head.load(Relaxed);
        // Acquire: pairs with the kernel's barrier before it moves the tail: the event is there.
        if head == self.tail.load(Acquire) || head >= size {
            return None;
        }
        let events = ptr::from_ref(self).wrapping_add(1).cast::<KernelEvent>();
        // SAFETY: within the ring, which has as many events as it says behind its header.
        let event = unsafe { &*events.wrapping_add(head as usize) };
        let taken = (event.data.load(Relaxed), event.res.load(Relaxed));
        let next = if head + 1 == size { 0 } else { head + 1 };
        // Release: the kernel may write there from now on.
        self.head.store(next, Release);
        Some(taken)
    }
}

/// How many events a context of the kernel's has.
pub fn events(kernel: u64) -> usize {
    Ring::at(kernel).available()
}

/// Sleeps until a context of the kernel's has an event, for so long at most; it stays there. None: there
/// is a filter.
fn sleep(kernel: u64, ns: u64) -> Option<Waited> {
    // To where no process can be written to: io_getevents(2) says so as soon as there is an event, and
    // leaves it in the ring, from which nobody but [`Ring::take`] takes any.
    const NOWHERE: u64 = !0 << 12;
    let limit = timespec(ns);
    let args = [kernel, 1, 1, NOWHERE, &raw const limit as u64, 0];
    Some(match aio_call(libc::SYS_io_getevents, args)? {
        0 => Waited::TimedOut,
        count if count == -i64::from(libc::EINTR) => Waited::Interrupted,
        _ => Waited::Woken,
    })
}

/// How many of these the kernel takes; None: there is a filter.
fn submit(kernel: u64, iocbs: &mut [KernelIocb]) -> Option<usize> {
    let pointers: ArrayVec<*mut KernelIocb, BATCH> = iocbs.iter_mut().map(ptr::from_mut).collect();
    let (count, at) = (pointers.len() as u64, pointers.as_ptr() as u64);
    let taken = aio_call(libc::SYS_io_submit, [kernel, count, at, 0, 0, 0])?;
    Some(taken.max(0) as usize)
}

/// Has a context of the kernel's show an event that is none of a request's: of reading no bytes from
/// a file of the library's own.
pub fn ring_bell(kernel: u64, file: RawFd) {
    let mut bell = [KernelIocb {
        data: NO_PLACE,
        opcode: PREAD,
        fd: file as u32,
        ..KernelIocb::default()
    }];
    submit(kernel, &mut bell);
}

/// Makes a call of the kernel's AIO, past whatever may have been put before libc's: aio2-run answers these
/// numbers by this library. None: it is not made, because the thread's calls go through a filter, which may
/// not know it and end the process. Nothing stands between the question and the call.
fn aio_call(nr: c_long, args: [u64; 6]) -> Option<i64> {
    let call = Call::new(nr as u32, args);
    (!has_call_filter()).then(|| interrupt::raw_call(&call))
}
