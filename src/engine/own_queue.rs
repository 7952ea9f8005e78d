//! A context's own kernel queue: the way to carry requests out without a worker.
//!
//! If a caller comes back to wait again and again, for requests that the kernel can carry out (see [`crate::engine::kaio`]), it can hand
//! them over itself and sleep until the kernel has completed one. Then no thread must be woken: no worker has to hand over, no reaper has
//! to take completions, and no reaper has to wake the caller. This needs a context of the kernel's that shows the requests of the caller's
//! context and no others: an own queue. There are [`OWN_QUEUES_MAX`] of them in the process. A context keeps its own queue as long as it
//! lives. The kernel's contexts stay for the next.

use crate::engine::kaio::{self, in_kernel::InKernel};
use crate::engine::{Engine, Reaped, Start, new_kernel_context};
use crate::request::Req;
use crate::ring::page_bytes;
use crate::ring::wait::Wake;
use crate::sys::aio::{self, Ring};
use crate::sys::host::own_doorbell;
use crate::sys::monotonic_ns;
use crate::sys::private_fd::Private;
use crate::syscall::Call;
use arrayvec::ArrayVec;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

const OWN_QUEUES_MAX: usize = 8;
/// The most requests in flight in one.
pub const EVENTS: usize = 128;
/// Room for wake-ups that were not taken yet: one for each time that the caller sleeps. The caller takes 64 events at a
/// time.
const DOORBELLS: usize = 4;
/// The longest sleep of the caller. If the program has closed the descriptor of the doorbell, the caller is late by this.
const SLEEP_NS: u64 = 100_000_000;

/// The most pages of a request's buffer that are looked at.
const PAGES: usize = 64;

pub struct OwnQueues<Q: 'static> {
    slots: [Slot<Q>; OWN_QUEUES_MAX],
    /// A file to read no bytes from: see [`aio::ring_doorbell`].
    doorbell: Private,
    /// /proc/self/pagemap, which says which pages of the process are in memory.
    pages: Private,
}

struct Slot<Q: 'static> {
    in_use: AtomicBool,
    /// Made when the slot is first taken.
    own_queue: OnceLock<Option<OwnQueue<Q>>>,
}

pub struct OwnQueue<Q: 'static> {
    kernel: u64,
    has: InKernel<Q>,
    all: &'static OwnQueues<Q>,
}

impl<Q: Clone> OwnQueues<Q> {
    pub fn new() -> OwnQueues<Q> {
        let slot = || Slot {
            in_use: AtomicBool::new(false),
            own_queue: OnceLock::new(),
        };
        OwnQueues {
            slots: std::array::from_fn(|_| slot()),
            doorbell: Private::new(),
            pages: Private::new(),
        }
    }

    /// An own queue, if one is free and its descriptors can be obtained. Makes system calls.
    pub fn acquire(&'static self) -> Option<Acquired<Q>> {
        // Acquire: pairs with the release of the context that had it before.
        let free = |slot: &&Slot<Q>| !slot.in_use.swap(true, Acquire);
        let Slot { in_use, own_queue } = self.slots.iter().find(free)?;
        // If it cannot be made, its slot stays in use: the next attempt would fail, too.
        let own_queue = own_queue.get_or_init(|| self.make()).as_ref()?;
        Some(Acquired { in_use, own_queue })
    }

    fn make(&'static self) -> Option<OwnQueue<Q>> {
        let has = InKernel::new(EVENTS, false).ok()?;
        self.doorbell
            .open(|| Some(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).ok()?.into()))?;
        // Without the pagemap, no page counts as in memory.
        let _ = self.pages.open(open_pagemap);
        let kernel = new_kernel_context(EVENTS + DOORBELLS)?;
        let all = self;
        Some(OwnQueue { kernel, has, all })
    }

    /// The program is about to use this descriptor number for something else. If no other number can be obtained, callers look for
    /// completions from time to time, as if the program had closed it.
    pub fn release_number(&self, fd: RawFd) {
        self.doorbell.release_number(fd);
        self.pages.release_number(fd);
    }

    /// In a forked child: closes inherited descriptors.
    pub fn abandon(&self) {
        self.doorbell.close();
        self.pages.close();
    }
}

fn open_pagemap() -> Option<OwnedFd> {
    let (path, flags) = (c"/proc/self/pagemap", libc::O_RDONLY | libc::O_CLOEXEC);
    // Not libc's function: it is a cancellation point.
    // SAFETY: a string of ours.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    // SAFETY: nobody else has the new descriptor.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

impl<Q: Clone> OwnQueue<Q> {
    pub fn is_unused(&self) -> bool {
        self.has.room() == EVENTS
    }

    /// Whether there is something to reap. Makes no system call.
    pub fn has_done(&self) -> bool {
        !self.is_unused() && aio::events(self.kernel) != 0
    }

    /// Whether the kernel has completed everything.
    pub fn has_done_all(&self) -> bool {
        aio::events(self.kernel) + self.has.room() >= EVENTS
    }

    /// Gives the kernel this much time, without a call of its AIO.
    pub fn pause(&self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }

    /// Whether the buffer of a plain read or write is in memory, in pages that belong to the process alone. Then the kernel has nothing to
    /// bring in when it pins the buffer within io_submit(2). The answer may be no although it should be yes.
    pub fn has_buffer_of(&self, call: &Call) -> bool {
        const PRESENT: u64 = 1 << 63;
        /// Of a file, or shared: a write to such a page may wait for the file.
        const SHARED: u64 = 1 << 61;
        const BYTES: u64 = size_of::<u64>() as u64;
        let Some(bytes) = call.plain_bytes() else {
            return false;
        };
        let (at, page) = (call.args[1], page_bytes() as u64);
        let first = at / page;
        let count = at
            .saturating_add(bytes)
            .div_ceil(page)
            .saturating_sub(first);
        let mut entries = [0u64; PAGES];
        let Some(entries) = entries.get_mut(..count as usize) else {
            return false;
        };
        let (fd, to) = (self.all.pages.get(), entries.as_mut_ptr());
        // SAFETY: numbers of ours.
        let got = unsafe { libc::syscall(libc::SYS_pread64, fd, to, count * BYTES, first * BYTES) };
        let is_there = |entry: &u64| entry & (PRESENT | SHARED) == PRESENT;
        got as u64 == count * BYTES && entries.iter().all(is_there)
    }
}

impl<Q: Clone> Engine<Q> for OwnQueue<Q> {
    fn supports(req: &Req) -> bool {
        kaio::supports(req)
    }

    fn room(&self) -> usize {
        self.has.room()
    }

    fn start<const N: usize>(
        &'static self,
        owner: &Q,
        batch: &mut ArrayVec<Req, N>,
        how: Start,
    ) -> bool {
        while !batch.is_empty() {
            let mut handed = self.has.put(owner, batch, how);
            if handed.is_empty() {
                break;
            }
            if self.has.submit(self.kernel, &mut handed, batch) {
                return true;
            }
        }
        false
    }

    fn reap(&self, until: u64) -> Reaped<Q> {
        let reaped = self.has.reap(Ring::at(self.kernel));
        if until == 0 || reaped.woken || !reaped.done.is_empty() {
            return reaped;
        }
        let most_ns = crate::hooks::own_queue_sleep_ns(SLEEP_NS);
        let ns = until.saturating_sub(monotonic_ns()).min(most_ns);
        let waited = aio::sleep(self.kernel, ns);
        let reaped = if waited.is_some() {
            self.has.reap(Ring::at(self.kernel))
        } else {
            reaped
        };
        Reaped { waited, ..reaped }
    }

    /// If a filter forbids it, the thread that sleeps looks by itself, after [`SLEEP_NS`] at most.
    fn wake(&self) {
        // A thread with another descriptor table has its own doorbell file.
        let file = own_doorbell().unwrap_or_else(|| self.all.doorbell.get());
        aio::ring_doorbell(self.kernel, file);
    }

    fn abandon(&self) {}
}

impl<Q: Clone> Wake for OwnQueue<Q> {
    fn wake(&self) {
        Engine::wake(self);
    }
}

/// An own queue that belongs to a context until this is dropped.
pub struct Acquired<Q: 'static> {
    in_use: &'static AtomicBool,
    own_queue: &'static OwnQueue<Q>,
}

impl<Q> Acquired<Q> {
    pub fn own_queue(&self) -> &'static OwnQueue<Q> {
        self.own_queue
    }
}

impl<Q> Drop for Acquired<Q> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `acquire`.
        self.in_use.store(false, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::abi::iocb2;
    use crate::attr::SubmitClock;
    use crate::policy::route::Route;
    use crate::request::{Chunk, Record, Scratch, SizeClass, Slabs};
    use crate::sys::Waited;
    use std::os::fd::AsRawFd;

    const LONG_NS: u64 = 60_000_000_000;

    fn acquire() -> Option<Acquired<()>> {
        let all: &OwnQueues<()> = Box::leak(Box::new(OwnQueues::new()));
        let acquired = all.acquire();
        if acquired.is_none() {
            eprintln!("skipped: the kernel's AIO cannot be had");
        }
        acquired
    }

    #[test]
    fn who_is_woken_before_it_blocks_does_not_block() {
        let Some(acquired) = acquire() else { return };
        let own_queue = acquired.own_queue();
        Engine::wake(own_queue);
        let reaped = own_queue.reap(monotonic_ns() + LONG_NS);
        assert!(reaped.woken && reaped.waited == Some(Waited::Woken));
        assert!(!own_queue.reap(0).woken);
    }

    #[test]
    fn a_batch_may_be_larger_than_what_one_call_takes() {
        const MANY: usize = 2 * kaio::BATCH + 8;
        const BYTES: usize = 16;
        let Some(acquired) = acquire() else { return };
        let own_queue = acquired.own_queue();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mut slabs = Slabs::new();
        let chunk = Chunk::new(SizeClass::Small, MANY).unwrap();
        slabs.of(SizeClass::Small).add(chunk);
        let mut buffers = [[0u8; BYTES]; MANY];
        // Requests behind each other, which can be merged; and others.
        for stride in [BYTES, 2 * BYTES] {
            let mut batch = ArrayVec::<Req, MANY>::new();
            for (i, buffer) in buffers.iter_mut().enumerate() {
                let args = [
                    file.as_raw_fd() as usize,
                    buffer.as_mut_ptr().expose_provenance(),
                    BYTES,
                    i * stride,
                    0,
                    0,
                ];
                let iocb = iocb2 {
                    bytes: size_of::<iocb2>() as u32,
                    nr: libc::SYS_pread64 as u32,
                    data: 0,
                    args: args.map(|arg| arg as u64),
                };
                let (at, bytes) = ((&raw const iocb).cast(), size_of::<iocb2>());
                let (clock, mut scratch) = (SubmitClock::new(), Scratch::new());
                // SAFETY: a whole record of ours.
                let record = unsafe { Record::read(at, bytes, &clock, &mut scratch) };
                let slot = slabs.of(SizeClass::Small).free.pop().unwrap();
                batch.push(record.unwrap().build(slot, &scratch));
            }
            let how = Start {
                route: Route::KernelWaiting,
                nowait: false,
            };
            assert!(!own_queue.start(&(), &mut batch, how));
            assert!(batch.is_empty());
            let mut left = MANY;
            while left != 0 {
                for one in own_queue.reap(monotonic_ns() + LONG_NS).done {
                    one.settle(|req| {
                        let Ok(req) = req else {
                            panic!("not carried out")
                        };
                        assert_eq!(req.res(), BYTES as i64);
                        slabs.free(req);
                        left -= 1;
                    });
                }
            }
            assert!(own_queue.is_unused());
        }
    }
}
