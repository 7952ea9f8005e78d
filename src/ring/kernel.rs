//! The ring of the kernel's AIO: a header, then events of 32 bytes. The program shares it, may reap from it and may write anything there.
//! Therefore the [`Backlog`] keeps all values that must be right.
//!
//! The ring has room for the event of every accepted request, because a submit accepts no more (see `room`). So there is no
//! overflow.

use super::wait::Wakes;
use super::{Backlog, Mapping, Out, Reaped, page_bytes};
use crate::request::{Req, Slabs};
use crate::sync::Relaxed;
use crate::sys::{Result, set_file_size};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::c_void;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

const RING_MAGIC: u32 = 0xa10a_10a1;

/// Bytes of a struct io_event: data, obj, res, res2, 8 bytes each.
pub const EVENT_BYTES: usize = 32;
pub const EVENT_WORDS: usize = EVENT_BYTES / 8;

/// struct aio_ring.
#[repr(C)]
struct Header {
    id: AtomicU32,
    nr: AtomicU32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: AtomicU32,
    compat_features: AtomicU32,
    incompat_features: AtomicU32,
    header_length: AtomicU32,
}

const _: () = assert!(size_of::<Header>() == EVENT_BYTES);

/// How many slots a ring for `max_events` requests has: as many as the kernel would make, about twice `max_events`. Unlike the
/// kernel, the library has no limit for the whole system.
pub fn events_for(max_events: u32) -> Result<u32> {
    const MOST: u32 = 0x1000_0000 / EVENT_BYTES as u32;
    let events = max_events.max(processors() * 4).wrapping_mul(2);
    match events {
        0 => Err(Errno::EAGAIN),
        // The double has wrapped around to a small number.
        _ if max_events > i32::MAX as u32 && events <= MOST => Err(Errno::EAGAIN),
        _ if events > MOST => Err(Errno::EINVAL),
        _ => Ok(events),
    }
}

/// How many of the slots can be used. The kernel gives each processor slots in batches, and leaves the remainder unused.
fn most(nr: u32) -> u32 {
    let batch = ((nr - 1) / (processors() * 4)).max(1);
    (nr - 1) / batch * batch
}

/// Processors that the machine could have.
fn processors() -> u32 {
    // SAFETY: a constant.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    processors.clamp(1, 1 << 16) as u32
}

/// Whether a ring of this kind is at an address. If so, the caller finds out whose it is.
pub fn could_be_at(at: usize) -> bool {
    // SAFETY: plain numbers.
    at % page_bytes() == 0
        && unsafe { crate::sys::user::Reader::new().read::<[u32; 8]>(at) }
            .is_ok_and(|seen| seen[4] == RING_MAGIC)
}

pub struct KernelRing {
    /// The library's own mapping.
    ours: Mapping,
    /// Address of the program's mapping: the handle.
    view: AtomicUsize,
    /// Slots in the ring. One stays free.
    nr: u32,
    /// Limit of requests in flight plus events not reaped.
    most: u32,
    id: u32,
}

// SAFETY: plain memory, shared with the program anyway; all access is through atomics.
unsafe impl Send for KernelRing {}
// SAFETY: as above.
unsafe impl Sync for KernelRing {}

/// New shared memory, mapped at two addresses.
fn mapped_twice(bytes: usize) -> Result<[Mapping; 2]> {
    let first = Mapping::shared(bytes)?;
    if let Ok(second) = first.again() {
        return Ok([first, second]);
    }
    // Valgrind and some sandboxes do not allow a second mapping of it.
    drop(first);
    let file = memfd_create(c"aio2-ring", MFdFlags::MFD_CLOEXEC)?;
    set_file_size(&file, bytes)?;
    Ok([Mapping::of(&file, bytes)?, Mapping::of(&file, bytes)?])
}

impl KernelRing {
    /// A ring with room for at least `events`.
    pub fn new(events: u32, id: u32) -> Result<KernelRing> {
        let bytes = (size_of::<Header>() + (events as usize + 2) * EVENT_BYTES)
            .next_multiple_of(page_bytes());
        let [ours, view] = mapped_twice(bytes).map_err(|_| Errno::ENOMEM)?;
        // If this is refused, a forked child sees the memory.
        let _ = ours.keep_from_children();
        let _ = view.keep_from_children();
        let nr = (bytes - size_of::<Header>()) / EVENT_BYTES;
        let ring = KernelRing {
            ours,
            view: AtomicUsize::new(view.leak()),
            nr: nr as u32,
            most: most(nr as u32),
            id,
        };
        let header = ring.header();
        header.id.store(id, Relaxed);
        header.nr.store(ring.nr, Relaxed);
        header.compat_features.store(1, Relaxed);
        header
            .header_length
            .store(size_of::<Header>() as u32, Relaxed);
        header.magic.store(RING_MAGIC, Release);
        Ok(ring)
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping has at least a page and consists of atomics only; any content is
        // valid.
        unsafe { self.ours.at.cast().as_ref() }
    }

    fn word(&self, event: u32, i: usize) -> &AtomicU64 {
        let at = size_of::<Header>() + (event % self.nr) as usize * EVENT_BYTES + i * 8;
        // SAFETY: within the mapping, which has `nr` events behind the header; aligned to 8.
        unsafe { self.ours.at.byte_add(at).cast().as_ref() }
    }

    pub fn nr(&self) -> u32 {
        self.nr
    }

    pub fn view(&self) -> usize {
        self.view.load(Relaxed)
    }

    /// Whether the ring still has its id. The kernel finds a context by it.
    pub fn has_its_id(&self) -> bool {
        self.header().id.load(Relaxed) == self.id
    }

    /// Whether there is nothing to reap, as far as a program can see.
    pub fn is_empty(&self) -> bool {
        self.header().head.load(Acquire) == self.header().tail.load(Acquire)
    }

    /// The program has moved its view: whether `at` is another view of this ring. Called under the lock of the registry's table: of
    /// two concurrent callers, each would see the other's mark.
    pub fn is_at(&self, at: usize) -> bool {
        // A unique value, written through our mapping, must show up at `at`. Programs read this field once at most, and it gets its
        // value back.
        let features = &self.header().incompat_features;
        let nonce = (crate::sys::monotonic_ns() as u32) | 1;
        let before = features.swap(nonce, Release);
        // SAFETY: eight plain numbers.
        let seen = unsafe { crate::sys::user::Reader::new().read::<[u32; 8]>(at) };
        features.store(before, Release);
        seen.is_ok_and(|seen| seen[6] == nonce)
    }

    /// Notes the new address of the program's view.
    pub fn moved(&self, at: usize) {
        self.view.store(at, Relaxed);
    }

    fn head(&self) -> u32 {
        // Acquire: pairs with the reapers' release stores of head: they no longer read the events before it.
        self.header().head.load(Acquire) % self.nr
    }

    fn used(&self, backlog: &Backlog) -> u32 {
        let tail = backlog.tail();
        let head = self.head();
        if tail >= head {
            tail - head
        } else {
            tail + self.nr - head
        }
    }

    /// How many more requests may be accepted while `in_flight` are in flight.
    pub fn room(&self, backlog: &Backlog, in_flight: u32) -> u32 {
        self.most.saturating_sub(self.used(backlog) + in_flight)
    }

    /// Bytes of events that wait to be reaped.
    pub fn available(&self, backlog: &Backlog) -> u64 {
        u64::from(self.used(backlog)) * EVENT_BYTES as u64
    }

    /// Puts a completed request's event into the ring, and frees the request to the slabs.
    pub fn publish(&self, backlog: &mut Backlog, req: Req, slabs: &mut Slabs, wakes: &mut Wakes) {
        let tail = backlog.tail();
        for (i, &word) in req.event().iter().enumerate().take(EVENT_WORDS) {
            self.word(tail, i).store(word, Relaxed);
        }
        let next = if tail + 1 >= self.nr { 0 } else { tail + 1 };
        backlog.set_tail(next);
        // Release: a reaper that sees the tail sees the event.
        self.header().tail.store(next, Release);
        slabs.free(req);
        self.wake(backlog, wakes);
    }

    pub fn wake(&self, backlog: &mut Backlog, wakes: &mut Wakes) {
        backlog.wake(|backlog| self.available(backlog), wakes);
    }

    /// See [`Out::bring_in`].
    pub fn bring_in(&self, out: &mut Out) {
        let (head, tail) = (self.head(), self.header().tail.load(Relaxed));
        // The program may have written anything there.
        let count = match tail.checked_sub(head) {
            Some(count) => count,
            None => tail.wrapping_add(self.nr).wrapping_sub(head),
        };
        out.bring_in(count.min(self.nr) as usize * EVENT_BYTES);
    }

    /// Copies as many events as there are and as fit. Called under the lock.
    pub fn collect(&self, backlog: &Backlog, out: &mut Out) -> Reaped {
        let before = out.len();
        let first = self.head();
        let mut head = first;
        let mut end = Reaped::Empty;
        while head != backlog.tail() {
            if !out.fits(EVENT_BYTES) {
                end = Reaped::NoRoom;
                break;
            }
            if !out.is_writable(EVENT_BYTES) {
                // As with the kernel, none of this call's events is reaped then. Events copied before the last wait stay the caller's.
                out.truncate(before);
                return Reaped::Fault;
            }
            let event: [u64; EVENT_WORDS] =
                std::array::from_fn(|i| self.word(head, i).load(Relaxed));
            out.push(&event);
            head = if head + 1 >= self.nr { 0 } else { head + 1 };
        }
        if head != first {
            // Release: pairs with the acquire in `head`: we no longer read the events before it.
            self.header().head.store(head, Release);
        }
        end
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        let view = self.view();
        let is_ours = self.is_at(view);
        if is_ours {
            // SAFETY: `is_at` has shown that our ring is mapped there, and with io_destroy() the program has given it up.
            unsafe { libc::munmap(view as *mut c_void, self.ours.bytes) };
        }
    }
}
