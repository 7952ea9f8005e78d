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
//!
//! Behind a system call filter it is not used: one that does not know the call may end the process.

use crate::carrier;
use crate::context::Context;
use crate::interrupt;
use crate::libaio;
use crate::process::global;
use crate::registry::ContextRef;
use crate::request::{Call, Req};
use crate::sync::{AtomicU32, Lock, Relaxed};
use crate::sys::{Result, has_call_filter, let_waker_go_on, monotonic_ns, spawn_detached};
use arrayvec::ArrayVec;
use libc::c_long;
use nix::errno::Errno;
use std::ptr;

/// Requests in flight here. More are carried out by workers.
const EVENTS: usize = 256;
/// Most that are handed over by one call: the device has nothing to do before it ends. (4 KiB writes
/// into a sparse file on virtio: 68,000 a second by 16, 73,000 by 8 or 4, 68,000 by 1.)
pub const BATCH: usize = 4;
/// Most that are taken by one call.
pub const REAPED: usize = 64;
/// The thread that takes what has been done ends when nothing has been for so long.
const IDLE_NS: i64 = 3_000_000_000;

/// Requests on their way to the kernel.
pub type Batch = ArrayVec<Req, BATCH>;

pub struct Kaio {
    table: Lock<Table>,
    /// How many places are free, for those who do not have the lock.
    room: AtomicU32,
}

struct Table {
    kernel: Kernel,
    places: Vec<Option<InFlight>>,
    free: Vec<u16>,
}

#[derive(Clone, Copy)]
enum Kernel {
    /// No context.
    None,
    /// Somebody makes one.
    Making,
    /// There is one, and a thread that takes events from it.
    Context(u64),
}

/// What the kernel carries out.
struct InFlight {
    context: ContextRef,
    req: Req,
    /// CLOCK_MONOTONIC, for the statistics; 0 without.
    began: u64,
}

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

impl Kaio {
    pub fn new() -> Result<Kaio> {
        let (mut places, mut free) = (Vec::new(), Vec::new());
        places
            .try_reserve_exact(EVENTS)
            .map_err(|_| Errno::ENOMEM)?;
        free.try_reserve_exact(EVENTS).map_err(|_| Errno::ENOMEM)?;
        places.resize_with(EVENTS, || None);
        free.extend((0..EVENTS as u16).rev());
        Ok(Kaio {
            table: Lock::new(Table {
                kernel: Kernel::None,
                places,
                free,
            }),
            room: AtomicU32::new(EVENTS as u32),
        })
    }

    /// How many requests it would take now.
    pub fn room(&self) -> usize {
        // Relaxed: a hint.
        self.room.load(Relaxed) as usize
    }

    /// Hands requests over to the kernel. Those that it does not take stay in the batch; says
    /// whether it has refused one.
    pub fn submit(&'static self, context: &ContextRef, batch: &mut Batch) -> bool {
        let mut table = self.table.lock();
        if let Kernel::None = table.kernel {
            table.kernel = Kernel::Making;
            self.room.store(0, Relaxed);
            drop(table);
            let made = self.make();
            table = self.table.lock();
            match made {
                Some(kernel) => table.kernel = Kernel::Context(kernel),
                // Nobody asks again: there will be no room.
                None => table.free.clear(),
            }
        }
        let Kernel::Context(kernel) = table.kernel else {
            return false;
        };
        let mut iocbs = [KernelIocb::default(); BATCH];
        let mut pointers = [ptr::null_mut(); BATCH];
        let Table { places, free, .. } = &mut *table;
        let count = batch.len().min(free.len());
        let taken = free.drain(free.len() - count..);
        for (i, (req, place)) in batch.drain(..count).zip(taken).enumerate() {
            iocbs[i] = KernelIocb {
                data: u64::from(place),
                ..KernelIocb::of(req.call()).unwrap_or_default()
            };
            pointers[i] = &raw mut iocbs[i];
            let counted = req.side().is_some_and(|side| side.is_counted());
            places[usize::from(place)] = Some(InFlight {
                context: context.clone(),
                req,
                began: if counted { monotonic_ns() } else { 0 },
            });
        }
        self.set_room(&table);
        drop(table);
        carrier::settle();
        let args = [kernel, count as u64, pointers.as_ptr() as u64, 0, 0, 0];
        let taken = kernel_call(libc::SYS_io_submit, args).max(0) as usize;
        if taken == count {
            return false;
        }
        let mut table = self.table.lock();
        for iocb in &iocbs[taken..count] {
            if let Some(back) = table.take(iocb.data) {
                batch.push(back.req);
            }
        }
        self.set_room(&table);
        true
    }

    fn set_room(&self, table: &Table) {
        self.room.store(table.free.len() as u32, Relaxed);
    }

    /// Makes the kernel's context, and starts the thread that looks after it.
    fn make(&'static self) -> Option<u64> {
        let mut kernel = 0u64;
        let args = [EVENTS as u64, &raw mut kernel as u64, 0, 0, 0, 0];
        if has_call_filter() || kernel_call(libc::SYS_io_setup, args) != 0 {
            return None;
        }
        let arg = ptr::without_provenance_mut(kernel as usize);
        // SAFETY: the argument is a number, not a pointer.
        if unsafe { spawn_detached(reaper_main, arg) }.is_err() {
            kernel_call(libc::SYS_io_destroy, [kernel, 0, 0, 0, 0, 0]);
            return None;
        }
        Some(kernel)
    }

    /// The life of the thread that takes what has been done.
    fn reap(&'static self, kernel: u64) {
        let mut events = [KernelEvent::default(); REAPED];
        let limit = libc::timespec {
            tv_sec: IDLE_NS / 1_000_000_000,
            tv_nsec: 0,
        };
        loop {
            let at = events.as_mut_ptr() as u64;
            let limit = &raw const limit as u64;
            let args = [kernel, 1, REAPED as u64, at, limit, 0];
            let count = kernel_call(libc::SYS_io_getevents, args).max(0) as usize;
            self.complete(&events[..count]);
            if count != 0 {
                continue;
            }
            let mut table = self.table.lock();
            if table.is_unused() {
                table.kernel = Kernel::None;
                drop(table);
                kernel_call(libc::SYS_io_destroy, [kernel, 0, 0, 0, 0, 0]);
                return;
            }
        }
    }

    fn complete(&self, events: &[KernelEvent]) {
        let mut done = ArrayVec::<InFlight, REAPED>::new();
        let mut table = self.table.lock();
        for event in events {
            if let Some(mut one) = table.take(event.data) {
                one.req.set_res(event.res);
                done.push(one);
            }
        }
        self.set_room(&table);
        drop(table);
        let mut done = done.into_iter().peekable();
        while let Some(first) = done.next() {
            let mut requests = ArrayVec::<Req, REAPED>::new();
            let context = first.context.clone();
            let mut next = Some(first);
            while let Some(one) = next {
                libaio::request::count(&one.req, one.began);
                requests.push(one.req);
                next = done.next_if(|other| other.context.is(&context));
            }
            Context::complete_all(&context, requests);
        }
    }
}

impl Table {
    fn is_unused(&self) -> bool {
        self.free.len() == EVENTS
    }

    fn take(&mut self, place: u64) -> Option<InFlight> {
        let taken = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place as u16);
        Some(taken)
    }
}

extern "C" fn reaper_main(kernel: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-reaper".as_ptr()) };
    if let Some(global) = global() {
        let_waker_go_on();
        global.kaio.reap(kernel.addr() as u64);
    }
    ptr::null_mut()
}

/// Makes a system call, past whatever may have been put before libc's: aio2-run answers the numbers
/// of the kernel's AIO by this library.
fn kernel_call(nr: c_long, args: [u64; 6]) -> i64 {
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    interrupt::system_call(
        &Call {
            nr: nr as u32,
            args,
        },
        &GO_ON,
    )
}
