//! The completion ring and the overflow list behind it.
//!
//! Events are published under the context's lock and reaped without it. If the ring has no room, an event goes to the overflow
//! list. As long as the list is not empty, later events go there too, so that events come out in the order in which they were
//! published.
//!
//! The program shares header and data, and may write anything there at any time. So all access is atomic, every position is masked, every
//! size that is read is checked, and the [`Backlog`], which the program cannot reach, keeps all values that must be right.

pub mod events;
#[cfg(not(loom))]
pub mod kernel;
#[cfg(not(loom))]
mod mem;
#[cfg(loom)]
#[path = "model_mem.rs"]
mod mem;
pub mod notify;
pub mod wait;

#[cfg(not(loom))]
pub use mem::{Mapping, blank_view};
pub use mem::{RingMem, page_bytes};

use crate::abi::{IO_RING2_MAGIC, IO_RING2_OVERFLOW, IO_RING2_VERSION, io_event2};
use crate::request::{List, Req, Slabs};
use crate::sync::{AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release, fence};
use std::mem::size_of;
use wait::{WaitList, Wakes};

/// [`crate::abi::io_ring2`] as the library sees it: memory that the program writes, too.
#[repr(C)]
pub struct Header {
    magic: AtomicU32,
    version: AtomicU32,
    header_bytes: AtomicU32,
    ring_bytes: AtomicU32,
    features: AtomicU64,
    pub id: AtomicU64,
    reserved0: [AtomicU64; 4],
    tail: AtomicU32,
    flags: AtomicU32,
    submitted: AtomicU64,
    completed: AtomicU64,
    overflowed: AtomicU64,
    reserved1: [AtomicU64; 4],
    head: AtomicU32,
    reserved2: AtomicU32,
    /// Zero until the context is destroyed: see `RingMem::unmap_view`.
    pub nonce: AtomicU64,
}

#[cfg(not(loom))]
const _: () = {
    use crate::abi::io_ring2;
    use std::mem::offset_of;
    assert!(offset_of!(Header, features) == offset_of!(io_ring2, features));
    assert!(offset_of!(Header, tail) == offset_of!(io_ring2, tail));
    assert!(offset_of!(Header, flags) == offset_of!(io_ring2, flags));
    assert!(offset_of!(Header, submitted) == offset_of!(io_ring2, submitted));
    assert!(offset_of!(Header, completed) == offset_of!(io_ring2, completed));
    assert!(offset_of!(Header, overflowed) == offset_of!(io_ring2, overflowed));
    assert!(offset_of!(Header, head) == offset_of!(io_ring2, head));
};

#[cfg(loom)]
impl Header {
    fn model() -> Header {
        let n32 = || AtomicU32::new(0);
        let n64 = || AtomicU64::new(0);
        Header {
            magic: n32(),
            version: n32(),
            header_bytes: n32(),
            ring_bytes: n32(),
            features: n64(),
            id: n64(),
            reserved0: [n64(), n64(), n64(), n64()],
            tail: n32(),
            flags: n32(),
            submitted: n64(),
            completed: n64(),
            overflowed: n64(),
            reserved1: [n64(), n64(), n64(), n64()],
            head: n32(),
            reserved2: n32(),
            nonce: n64(),
        }
    }
}

const EVENT_BYTES: u32 = size_of::<io_event2>() as u32;

/// The caller's buffer, filled from the front.
pub struct Out {
    at: *mut u8,
    len: usize,
    capacity: usize,
    /// Bytes from the front that are known to be writable.
    checked: usize,
    /// Has room for one event, however small.
    is_for_one: bool,
}

impl Out {
    /// # Safety
    /// Until the Out is dropped, the caller may write to `capacity` bytes at `at`.
    pub unsafe fn new(at: *mut u8, capacity: usize) -> Out {
        Out {
            at,
            len: 0,
            capacity,
            checked: usize::MAX,
            is_for_one: false,
        }
    }

    /// Takes one event, also if there is room for more.
    pub fn for_one(self) -> Out {
        Out {
            is_for_one: true,
            ..self
        }
    }

    /// A buffer that need not be memory: see `is_writable`.
    pub fn unchecked(at: *mut u8, capacity: usize) -> Out {
        Out {
            at,
            len: 0,
            capacity,
            checked: 0,
            is_for_one: false,
        }
    }

    /// Whether `bytes` more can be written. Asks the kernel once for each page.
    pub fn is_writable(&mut self, bytes: usize) -> bool {
        while self.checked < self.len + bytes {
            let at = (self.at as usize).wrapping_add(self.checked);
            let own = std::ptr::from_ref(self) as usize;
            match crate::sys::user::writable_in_page(at, self.capacity - self.checked, own) {
                0 => return false,
                more => self.checked += more,
            }
        }
        true
    }

    /// Called before the lock is taken under which `bytes` more are copied: brings their place into memory, so that nobody has to wait for
    /// that under the lock. After a wait the buffer may no longer be writable, so it is also checked anew.
    pub fn bring_in(&mut self, bytes: usize) {
        const PAGE: usize = 4096;
        let bytes = bytes.min(self.capacity - self.len);
        if self.checked != usize::MAX {
            self.checked = self.len;
            self.is_writable(bytes);
            return;
        }
        let mut next = self.len;
        while next < self.len + bytes {
            // SAFETY: within the capacity, which the caller may write to.
            unsafe {
                let byte = self.at.add(next);
                byte.write_volatile(byte.read_volatile());
            }
            next += PAGE - (self.at as usize + next) % PAGE;
        }
    }

    /// Shortens it to `len`, which it had before.
    pub fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.capacity - self.len
    }

    /// Writes a word of an event that fits. It becomes part of the Out with `advance`.
    fn write(&mut self, word: usize, value: u64) {
        debug_assert!(self.fits(word * 8 + 8));
        // SAFETY: within the capacity: the caller has asked `fits` for the whole event. The caller's buffer need not be aligned.
        unsafe {
            self.at
                .add(self.len + word * 8)
                .cast::<u64>()
                .write_unaligned(value)
        };
    }

    fn advance(&mut self, bytes: usize) {
        self.len += bytes;
        if self.is_for_one {
            self.capacity = self.len;
        }
    }

    /// Copies an event; false if it does not fit.
    pub fn push(&mut self, event: &[u64]) -> bool {
        let bytes = event.len() * 8;
        if !self.fits(bytes) {
            return false;
        }
        for (i, &word) in event.iter().enumerate() {
            self.write(i, word);
        }
        self.advance(bytes);
        true
    }
}

/// Result of an attempt to reap from the ring, or from ring and overflow list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// One event was copied.
    Event,
    /// There is none.
    Empty,
    /// The next event does not fit into the rest of the buffer. It stays.
    NoRoom,
    /// The program has written invalid values to the ring.
    Corrupt,
    /// The buffer is not writable memory.
    Fault,
}

/// The ring. Any thread reaps from it at any time. Publishing needs the lock that guards the [`Backlog`].
pub struct Ring {
    mem: RingMem,
    bytes: u32,
    /// 1 if the overflow list holds something. The header has a copy as a flag, which the program may overwrite.
    overflowing: AtomicU32,
}

/// The part of a ring that the context's lock guards.
pub struct Backlog {
    /// Bytes ever published. It is authoritative; the header's tail is a copy.
    tail: u32,
    overflow: List,
    overflow_bytes: u64,
    submitted: u64,
    completed: u64,
    overflowed: u64,
    pub waiters: WaitList,
}

impl Backlog {
    /// `first` is the first value of the ring's counter.
    pub fn new(first: u32) -> Backlog {
        Backlog {
            tail: first,
            overflow: List::new(),
            overflow_bytes: 0,
            submitted: 0,
            completed: 0,
            overflowed: 0,
            waiters: WaitList::new(),
        }
    }

    /// Moves the waiters for which `available` bytes are enough to `wakes`.
    pub fn wake(&mut self, available: impl FnOnce(&Backlog) -> u64, wakes: &mut Wakes) {
        if !self.waiters.is_empty() {
            let bytes = available(self);
            self.waiters.dequeue_satisfied(bytes, wakes);
        }
    }

    pub fn tail(&self) -> u32 {
        self.tail
    }

    pub fn set_tail(&mut self, tail: u32) {
        self.tail = tail;
    }
}

impl Ring {
    /// `first` is the first value of the ring's counters: 0, or another value in a test of wrapping.
    pub fn new(mem: RingMem, bytes: u32, first: u32) -> (Ring, Backlog) {
        mem.header().head.store(first, Relaxed);
        mem.header().tail.store(first, Relaxed);
        let backlog = Backlog::new(first);
        (
            Ring {
                mem,
                bytes,
                overflowing: AtomicU32::new(0),
            },
            backlog,
        )
    }

    /// Writes the part of the header that does not change.
    pub fn describe(&self, header_bytes: u32, features: u64, id: u64) {
        let header = self.mem.header();
        header.version.store(IO_RING2_VERSION, Relaxed);
        header.header_bytes.store(header_bytes, Relaxed);
        header.ring_bytes.store(self.bytes, Relaxed);
        header.features.store(features, Relaxed);
        header.id.store(id, Relaxed);
        // Release: a program that maps the ring and sees the magic sees the rest.
        header.magic.store(IO_RING2_MAGIC, Release);
    }

    pub fn mem(&self) -> &RingMem {
        &self.mem
    }

    /// Copies the ring's oldest event to `out`. Any number of threads may call it at once, also beside programs that reap with
    /// `io_ring2_reap`, which is the same in C.
    pub fn reap(&self, out: &mut Out) -> Reaped {
        let header = self.mem.header();
        loop {
            // Acquire, and before tail is loaded: so this head is never newer than the tail.
            let head = header.head.load(Acquire);
            // Acquire: pairs with the release of tail in `put`, which comes after the writes of the record.
            let tail = header.tail.load(Acquire);
            let used = tail.wrapping_sub(head);
            if used == 0 {
                return Reaped::Empty;
            }
            let mut bytes = 0;
            let mut valid = used <= self.bytes && head % 8 == 0;
            if valid {
                bytes = self.word(head, 0).load(Relaxed) as u32; // the lower half: io_event2.bytes
                valid = bytes >= EVENT_BYTES && bytes <= used && bytes % 8 == 0;
            }
            if valid && out.fits(bytes as usize) {
                for i in 0..bytes as usize / 8 {
                    out.write(i, self.word(head, i).load(Relaxed));
                }
            } else {
                // Acquire: pairs with the release fence in `put`: if we have seen words of a later record, we see the head that made
                // room for it.
                fence(Acquire);
                if header.head.load(Acquire) != head {
                    continue; // another thread has reaped it meanwhile
                }
                return if valid {
                    Reaped::NoRoom
                } else {
                    Reaped::Corrupt
                };
            }
            // Release: pairs with the acquire of head in `put`: our copy is complete before the publisher may write over the record.
            if header
                .head
                .compare_exchange(head, head.wrapping_add(bytes), AcqRel, Relaxed)
                .is_ok()
            {
                out.advance(bytes as usize);
                return Reaped::Event;
            }
        }
    }

    /// Whether the overflow list holds something.
    pub fn overflowing(&self) -> bool {
        // Acquire: pairs with the release in `set_overflowing`.
        self.overflowing.load(Acquire) != 0
    }

    fn word(&self, counter: u32, i: usize) -> &AtomicU64 {
        let data = self.mem.data();
        // The only place where a counter is reduced to a position.
        &data[(counter as usize / 8).wrapping_add(i) & (data.len() - 1)]
    }

    /// Counts accepted requests.
    pub fn accepted(&self, backlog: &mut Backlog, requests: u64) {
        backlog.submitted += requests;
        self.mem
            .header()
            .submitted
            .store(backlog.submitted, Relaxed);
    }

    /// Publishes a completed request's event, which never fails. The request is freed to the slabs as soon as its event is in the
    /// ring. Waiters whose wait is over are moved to `wakes`.
    pub fn publish(&self, backlog: &mut Backlog, req: Req, slabs: &mut Slabs, wakes: &mut Wakes) {
        backlog.completed += 1;
        let header = self.mem.header();
        if backlog.overflow.is_empty() && self.put(backlog, req.event()) {
            slabs.free(req);
        } else {
            backlog.overflow_bytes += u64::from(req.event_bytes());
            backlog.overflow.push(req);
            backlog.overflowed += 1;
            header.overflowed.store(backlog.overflowed, Relaxed);
            self.set_overflowing(true);
            self.refill(backlog, slabs);
        }
        // Release: a program that sees the count sees the event in the ring, or the flag.
        header.completed.store(backlog.completed, Release);
        self.wake(backlog, wakes);
    }

    /// Moves the waiters whose wait is over to `wakes`.
    pub fn wake(&self, backlog: &mut Backlog, wakes: &mut Wakes) {
        backlog.wake(|backlog| self.available(backlog), wakes);
    }

    /// Bytes of events that wait to be reaped. If the ring is corrupt, the largest number, so that all waiters wake and find out.
    pub fn available(&self, backlog: &Backlog) -> u64 {
        let used = backlog
            .tail
            .wrapping_sub(self.mem.header().head.load(Acquire));
        if used > self.bytes {
            u64::MAX
        } else {
            u64::from(used) + backlog.overflow_bytes
        }
    }

    /// Writes an event at the tail; false if there is no room.
    fn put(&self, backlog: &mut Backlog, event: &[u64]) -> bool {
        let header = self.mem.header();
        // Acquire: pairs with the reapers' release of head: they no longer read the bytes that we overwrite.
        let head = header.head.load(Acquire);
        let used = backlog.tail.wrapping_sub(head);
        let bytes = event.len() as u32 * 8;
        // If head is invalid, there is no room either.
        if used > self.bytes || self.bytes - used < bytes {
            return false;
        }
        // Release: pairs with the acquire fence in `reap`.
        fence(Release);
        for (i, &word) in event.iter().enumerate() {
            self.word(backlog.tail, i).store(word, Relaxed);
        }
        backlog.tail = backlog.tail.wrapping_add(bytes);
        // Release: pairs with the reapers' acquire of tail: they see the record.
        header.tail.store(backlog.tail, Release);
        true
    }

    /// Moves events from the overflow list to the ring, as far as it has room.
    fn refill(&self, backlog: &mut Backlog, slabs: &mut Slabs) {
        while let Some(req) = backlog.overflow.pop() {
            if !self.put(backlog, req.event()) {
                return backlog.overflow.push_front(req);
            }
            backlog.overflow_bytes -= u64::from(req.event_bytes());
            slabs.free(req);
        }
        self.set_overflowing(false);
    }

    fn set_overflowing(&self, overflowing: bool) {
        // Release: pairs with the acquire in `overflowing`: a thread that sees 0 sees the tail that includes the events.
        self.overflowing.store(overflowing.into(), Release);
        self.mem
            .header()
            .flags
            .store(if overflowing { IO_RING2_OVERFLOW } else { 0 }, Release);
    }

    /// Copies as many events as there are and as fit, first the ring's, then the overflow list's. The lock keeps others from filling
    /// the ring meanwhile, so the order holds.
    pub fn collect(&self, backlog: &mut Backlog, slabs: &mut Slabs, out: &mut Out) -> Reaped {
        loop {
            match self.reap(out) {
                Reaped::Event => {}
                Reaped::Empty => break,
                other => return other,
            }
        }
        if self.mem.header().tail.load(Relaxed) != backlog.tail {
            return Reaped::Corrupt;
        }
        while let Some(event) = backlog.overflow.front() {
            if !out.push(event) {
                return Reaped::NoRoom;
            }
            if let Some(req) = backlog.overflow.pop() {
                backlog.overflow_bytes -= u64::from(req.event_bytes());
                slabs.free(req);
            }
        }
        if self.overflowing() {
            self.set_overflowing(false);
        }
        Reaped::Empty
    }

    /// See [`Out::bring_in`]. The ring's own events are copied without the lock.
    pub fn bring_in(&self, out: &mut Out) {
        /// The most that is brought in: the rest rarely matters.
        const MOST: usize = 1 << 20;
        if self.overflowing() {
            out.bring_in(MOST);
        }
    }

    /// Empties a corrupt ring: its events are lost, later ones are not.
    pub fn reset(&self, backlog: &Backlog) {
        let header = self.mem.header();
        header.head.store(backlog.tail, Release);
        header.tail.store(backlog.tail, Release);
    }
}
