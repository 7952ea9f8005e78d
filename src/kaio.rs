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
//! [`EVENTS`] events, made when it is first wanted and given back when it is not used for a while.

use crate::carrier;
use crate::context::Context;
use crate::interrupt;
use crate::libaio;
use crate::libaio::table::{self, Inside};
use crate::process::global;
use crate::processors;
use crate::registry::ContextRef;
use crate::request::{Call, Chain, Req, Stage};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Lock, Relaxed};
use crate::sys::{Result, Waited, has_call_filter, monotonic_ns, spawn_detached, timespec};
use arrayvec::ArrayVec;
use libc::{c_long, iovec};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;

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

/// Requests on their way to the kernel.
pub type Batch = ArrayVec<Req, BATCH>;

pub struct Kaio {
    kernel: Lock<Kernel>,
    here: InKernel,
    /// The kernel's context for which the reaper is started; and whether that has the library's own descriptor table.
    started_for: AtomicU64,
    is_inside: AtomicBool,
}

#[derive(Clone, Copy)]
enum Kernel {
    /// No context.
    None,
    /// Somebody makes one.
    Making,
    /// There is one, and a thread that takes events from it.
    Context(u64),
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

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// What stands in an event for the number of a place if it has none.
const NO_PLACE: u64 = u64::MAX;

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
    req.bound().is_none()
        && req.refused() == 0
        && req.side().is_none_or(|side| !side.asks_ioprio())
        && KernelIocb::of(req.call()).is_some()
}

/// Whether a request is to be handed over by the same call as those of the batch, if these are some.
pub fn goes_with(batch: &Batch, next: &Req) -> bool {
    let bytes = || {
        batch
            .iter()
            .fold(0, |sum: u64, req| sum.saturating_add(req.call().args[2]))
    };
    let room = match batch.last() {
        Some(last) if batch.len() >= SCATTERED => {
            continues(last.call(), next.call()) && bytes() < RUN_BYTES
        }
        _ => true,
    };
    room && takes(next)
}

/// How many bytes a plain read or write asks for.
pub fn plain_bytes(call: &Call) -> Option<u64> {
    let nr = c_long::from(call.nr);
    matches!(nr, libc::SYS_pread64 | libc::SYS_pwrite64).then_some(call.args[2])
}

/// Whether the second transfers what comes after what the first one does.
fn continues(first: &Call, second: &Call) -> bool {
    let [_, _, nbytes, offset, ..] = first.args;
    let is_plain = matches!(
        c_long::from(first.nr),
        libc::SYS_pread64 | libc::SYS_pwrite64
    );
    is_plain && first.nr == second.nr && offset.wrapping_add(nbytes) == second.args[3]
}

/// How many requests at the beginning of the batch make a run: the kernel can carry them out as one read or
/// write. None if it is just one.
fn run_of(batch: &Batch) -> Option<usize> {
    // Whose end is told of is told of alone.
    let is_plain = |req: &Req| !req.is_apart() && !req.has_eventfd();
    let mut bytes = batch[0].call().args[2];
    let joins = |pair: &&[Req]| {
        bytes = bytes.saturating_add(pair[1].call().args[2]);
        let follows = continues(pair[0].call(), pair[1].call());
        follows && bytes <= RUN_BYTES && pair.iter().all(is_plain)
    };
    let joined = batch.windows(2).take_while(joins).count();
    (joined != 0).then_some(joined + 1)
}

impl InFlight {
    /// Gives back the requests, with their results; or, as errors, those that are to be carried out once
    /// more: because the kernel would have had to wait, or, of a run that was not carried out in full, from
    /// where it stopped on. Each of these then goes by itself: the kernel has said what becomes of one at
    /// most.
    pub fn settle(mut self, mut take: impl FnMut(core::result::Result<Req, Req>)) {
        let mut left = u64::try_from(self.res).unwrap_or(0);
        let refused = [libc::EAGAIN, libc::EOPNOTSUPP].map(|errno| -i64::from(errno));
        let came_back = self.nowait && refused.contains(&self.res);
        let mut over = came_back;
        while let Some(mut req) = self.requests.pop() {
            let asked = req.call().args[2];
            over |= self.is_run && asked > left;
            if over {
                if !came_back {
                    req.set_apart();
                }
                take(Err(req));
                continue;
            }
            left = left.saturating_sub(asked);
            req.set_res(if self.is_run { asked as i64 } else { self.res });
            libaio::request::count(&req, self.began);
            take(Ok(req));
        }
    }
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

    fn is_unused(&self) -> bool {
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
    ) -> Handed {
        let mut places = self.places.lock();
        let mut handed = Handed::new();
        while !batch.is_empty()
            && let Some(place) = places.free.pop()
        {
            let run = run_of(batch);
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
            if nowait {
                iocb.rw_flags |= libc::RWF_NOWAIT as u32;
            }
            handed.push(iocb);
            let counted = batch[0].side().is_some_and(|side| side.is_counted());
            let mut requests = Chain::new();
            for req in batch.drain(..run.unwrap_or(1)) {
                if run.is_some() {
                    let [_, buf, bytes, ..] = req.call().args;
                    vectors.push(iovec {
                        iov_base: ptr::with_exposed_provenance_mut(buf as usize),
                        iov_len: bytes as usize,
                    });
                }
                req.set_stage(Stage::Begun);
                requests.push(req);
            }
            places.places[usize::from(place)] = Some(InFlight {
                context: context.clone(),
                requests,
                is_run: run.is_some(),
                res: 0,
                began: if counted { monotonic_ns() } else { 0 },
                nowait,
            });
        }
        self.set_room(&places);
        handed
    }

    /// Hands requests over to the kernel. Those that it does not take stay in the batch; says
    /// whether it has refused one. `nowait`: it is to wait for nothing meanwhile; those for which it would
    /// have to come back.
    pub fn hand_over(
        &self,
        kernel: u64,
        context: &ContextRef,
        batch: &mut Batch,
        nowait: bool,
    ) -> bool {
        let mut vectors = Vectors::new();
        let handed = self.put(context, batch, nowait, &mut vectors);
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
                0 => break,
                more => taken += more,
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

    /// Takes what has been done: waits for the first for so long at most. Says, too, how the wait
    /// ended.
    pub fn reap(&self, kernel: u64, ns: u64) -> (Waited, Done) {
        let mut events = [KernelEvent::default(); REAPED];
        let limit = timespec(ns);
        let min = u64::from(ns != 0);
        let (at, limit) = (events.as_mut_ptr() as u64, &raw const limit as u64);
        let args = [kernel, min, REAPED as u64, at, limit, 0];
        let count = kernel_call(libc::SYS_io_getevents, args);
        let waited = match count {
            0 => Waited::TimedOut,
            count if count == -i64::from(libc::EINTR) => Waited::Interrupted,
            _ => Waited::Woken,
        };
        let mut done = Done::new();
        if count > 0 {
            let mut places = self.places.lock();
            for event in &events[..count as usize] {
                if let Some(mut one) = places.take(event.data) {
                    one.res = event.res;
                    done.push(one);
                }
            }
            self.set_room(&places);
        }
        (waited, done)
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
            kernel: Lock::new(Kernel::None),
            here: InKernel::new(EVENTS)?,
            started_for: AtomicU64::new(0),
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
        let mut state = self.kernel.lock();
        if let Kernel::None = *state {
            *state = Kernel::Making;
            // Nobody else asks meanwhile; nor ever, if it fails.
            // Relaxed: a hint, see `InKernel::room`.
            self.here.room.store(0, Relaxed);
            drop(state);
            let made = self.make();
            state = self.kernel.lock();
            *state = made.map_or(Kernel::Never, Kernel::Context);
            if made.is_some() {
                self.here.room.store(EVENTS as u32, Relaxed);
            }
        }
        let Kernel::Context(kernel) = *state else {
            return false;
        };
        // Under the lock, so that the reaper does not find it unused.
        let mut vectors = Vectors::new();
        let handed = self.here.put(context, batch, false, &mut vectors);
        drop(state);
        self.here.submit(kernel, handed, batch)
    }

    /// Makes the kernel's context, and starts the thread that looks after it.
    fn make(&'static self) -> Option<u64> {
        let kernel = new_context(EVENTS)?;
        let is_inside = table::is_inside();
        // Relaxed: starting a thread orders it.
        self.started_for.store(kernel, Relaxed);
        self.is_inside.store(is_inside, Relaxed);
        let table = &global()?.libaio.table;
        if is_inside {
            table.enter();
        }
        let arg = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: never freed.
        if unsafe { spawn_detached(reaper_main, arg) }.is_err() {
            if is_inside {
                table.leave();
            }
            destroy_context(kernel);
            return None;
        }
        Some(kernel)
    }

    /// The life of the thread that takes what has been done.
    fn reap(&'static self, kernel: u64) {
        loop {
            let (waited, done) = self.here.reap(kernel, IDLE_NS);
            complete(done);
            if waited != Waited::TimedOut {
                continue;
            }
            let mut state = self.kernel.lock();
            if self.here.is_unused() {
                *state = Kernel::None;
                drop(state);
                return destroy_context(kernel);
            }
        }
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
    // SAFETY: what `make` has given, which is never freed.
    let kaio: &'static Kaio = unsafe { &*kaio.cast() };
    if let Some(global) = global() {
        let _inside = kaio
            .is_inside
            .load(Relaxed)
            .then(|| Inside::begin(&global.libaio.table));
        processors::let_waker_go_on();
        kaio.reap(kaio.started_for.load(Relaxed));
    }
    ptr::null_mut()
}

/// A context of the kernel's, if one can be had. None behind a system call filter: one that does not
/// know the call may end the process.
pub fn new_context(events: usize) -> Option<u64> {
    let mut kernel = 0u64;
    let args = [events as u64, &raw mut kernel as u64, 0, 0, 0, 0];
    (!has_call_filter() && kernel_call(libc::SYS_io_setup, args) == 0).then_some(kernel)
}

/// How many events a context of the kernel's has, by what it shows of itself: its number is the address
/// of its ring. None: that is not as expected.
pub fn events(kernel: u64) -> Option<usize> {
    #[repr(C)]
    struct Ring {
        _id: u32,
        size: AtomicU32,
        head: AtomicU32,
        tail: AtomicU32,
        magic: AtomicU32,
        _compatible_features: u32,
        incompatible_features: AtomicU32,
    }
    const MAGIC: u32 = 0xa10a_10a1;
    // SAFETY: the kernel has mapped the ring there, until the context is destroyed; it is read
    // atomically, as the kernel may write to it.
    let ring: &Ring = unsafe { &*ptr::with_exposed_provenance(kernel as usize) };
    // Relaxed: the events are then asked for of the kernel.
    let is_known =
        ring.magic.load(Relaxed) == MAGIC && ring.incompatible_features.load(Relaxed) == 0;
    is_known.then(|| {
        let [size, head, tail] =
            [&ring.size, &ring.head, &ring.tail].map(|word| word.load(Relaxed));
        let tail = if tail < head {
            tail.wrapping_add(size)
        } else {
            tail
        };
        tail.wrapping_sub(head) as usize
    })
}

fn destroy_context(kernel: u64) {
    kernel_call(libc::SYS_io_destroy, [kernel, 0, 0, 0, 0, 0]);
}

/// How many of these the kernel takes.
fn submit(kernel: u64, iocbs: &mut [KernelIocb]) -> usize {
    let pointers: ArrayVec<*mut KernelIocb, BATCH> = iocbs.iter_mut().map(ptr::from_mut).collect();
    let args = [
        kernel,
        pointers.len() as u64,
        pointers.as_ptr() as u64,
        0,
        0,
        0,
    ];
    kernel_call(libc::SYS_io_submit, args).max(0) as usize
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

/// Makes a system call, past whatever may have been put before libc's: aio2-run answers the numbers
/// of the kernel's AIO by this library.
fn kernel_call(nr: c_long, args: [u64; 6]) -> i64 {
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    interrupt::system_call(&Call::new(nr as u32, args), &GO_ON)
}
