//! The ring of the kernel's AIO: a header, then events of 32 bytes. Shared with the program, which
//! may reap from it by itself and may write anything there; what must be right is in the
//! [`Backlog`].
//!
//! It has room for every request that was accepted: a submit takes no more than that (see `room`).
//! So there is no overflow.

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

/// How many places a ring for that many requests has: the kernel's answer, which is about twice as
/// many. There is no limit for the system, so the one for a context is the only one.
pub fn events_for(max_events: u32) -> Result<u32> {
    const MOST: u32 = 0x1000_0000 / EVENT_BYTES as u32;
    let events = max_events.max(processors() * 4).wrapping_mul(2);
    match events {
        0 => Err(Errno::EAGAIN),
        // So many were asked for that the double is few again.
        _ if max_events > i32::MAX as u32 && events <= MOST => Err(Errno::EAGAIN),
        _ if events > MOST => Err(Errno::EINVAL),
        _ => Ok(events),
    }
}

/// The kernel deals out the places in batches, some for each processor, and what is left over from
/// that to nobody.
fn most(nr: u32) -> u32 {
    let batch = ((nr - 1) / (processors() * 4)).max(1);
    (nr - 1) / batch * batch
}

/// Processors that there could be.
fn processors() -> u32 {
    // SAFETY: a constant.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    processors.clamp(1, 1 << 16) as u32
}

/// Whether there is a ring of this kind at an address: worth looking whose it is.
pub fn could_be_at(at: usize) -> bool {
    // SAFETY: plain numbers.
    at % page_bytes() == 0
        && unsafe { crate::sys::user::Reader::new().read::<[u32; 8]>(at) }
            .is_ok_and(|seen| seen[4] == RING_MAGIC)
}

pub struct KernelRing {
    /// The library's own mapping.
    ours: Mapping,
    /// Where the program's is: the handle.
    view: AtomicUsize,
    /// Places in the ring, of which one stays free.
    nr: u32,
    /// Most requests in flight and events not reaped.
    most: u32,
    id: u32,
}

// SAFETY: plain memory, shared with the program anyway; all access is through atomics.
unsafe impl Send for KernelRing {}
// SAFETY: as above.
unsafe impl Sync for KernelRing {}

/// New memory, in two places.
fn mapped_twice(bytes: usize) -> Result<[Mapping; 2]> {
    let first = Mapping::shared(bytes)?;
    if let Ok(second) = first.again() {
        return Ok([first, second]);
    }
    // Under valgrind, and in some sandboxes, it does not.
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
        // Where that is refused, a child sees them.
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

    /// The program has left the ring's id alone, by which the kernel finds a context.
    pub fn has_its_id(&self) -> bool {
        self.header().id.load(Relaxed) == self.id
    }

    /// Nothing to be reaped, as far as a program can see.
    pub fn is_empty(&self) -> bool {
        self.header().head.load(Acquire) == self.header().tail.load(Acquire)
    }

    /// The program has moved its view: true if what is at `at` is this ring, seen from there. Under
    /// the lock of the registry's table: of two who ask, each would see the other's mark.
    pub fn is_at(&self, at: usize) -> bool {
        // Something that nobody else has goes through our mapping, and must show up there. The
        // field is one that no program looks at twice, and gets its value back.
        let features = &self.header().incompat_features;
        let nonce = (crate::sys::monotonic_ns() as u32) | 1;
        let before = features.swap(nonce, Release);
        // SAFETY: eight plain numbers.
        let seen = unsafe { crate::sys::user::Reader::new().read::<[u32; 8]>(at) };
        features.store(before, Release);
        seen.is_ok_and(|seen| seen[6] == nonce)
    }

    /// From here on the program's view is there.
    pub fn moved(&self, at: usize) {
        self.view.store(at, Relaxed);
    }

    fn head(&self) -> u32 {
        // Acquire: pairs with the reapers' stores: they are done with what is before the head.
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

    /// How many more requests may be accepted, when so many are in flight.
    pub fn room(&self, backlog: &Backlog, in_flight: u32) -> u32 {
        self.most.saturating_sub(self.used(backlog) + in_flight)
    }

    /// Bytes of events that wait to be reaped.
    pub fn available(&self, backlog: &Backlog) -> u64 {
        u64::from(self.used(backlog)) * EVENT_BYTES as u64
    }

    /// Puts a completed request's event into the ring; its memory goes back to the slabs.
    pub fn publish(&self, backlog: &mut Backlog, req: Req, slabs: &mut Slabs, wakes: &mut Wakes) {
        let tail = backlog.tail();
        for (i, &word) in req.event().iter().enumerate().take(EVENT_WORDS) {
            self.word(tail, i).store(word, Relaxed);
        }
        let next = if tail + 1 >= self.nr { 0 } else { tail + 1 };
        backlog.set_tail(next);
        // Release: who sees the tail sees the event.
        self.header().tail.store(next, Release);
        slabs.free(req);
        self.wake(backlog, wakes);
    }

    pub fn wake(&self, backlog: &mut Backlog, wakes: &mut Wakes) {
        backlog.wake(|backlog| self.available(backlog), wakes);
    }

    /// Copies as many events as there are and fit, under the lock.
    pub fn collect(&self, backlog: &Backlog, out: &mut Out) -> Reaped {
        let before = out.begin();
        let first = self.head();
        let mut head = first;
        let mut end = Reaped::Empty;
        while head != backlog.tail() {
            if !out.fits(EVENT_BYTES) {
                end = Reaped::NoRoom;
                break;
            }
            if !out.is_writable(EVENT_BYTES) {
                // None of them is taken, as with the kernel. Those of an earlier turn are the caller's.
                out.take_back(before);
                return Reaped::Fault;
            }
            let event: [u64; EVENT_WORDS] =
                std::array::from_fn(|i| self.word(head, i).load(Relaxed));
            out.push(&event);
            head = if head + 1 >= self.nr { 0 } else { head + 1 };
        }
        if head != first {
            // Release: we are done with the events before it.
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
            // SAFETY: it is what is there, and the program has given it up with io_destroy().
            unsafe { libc::munmap(view as *mut c_void, self.ours.bytes) };
        }
    }
}
