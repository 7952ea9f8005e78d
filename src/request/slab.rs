//! The memory of requests.

use super::reference::Claimed;
use super::{CLAIMED_AT, EVENT_WORDS, EVENT_WORDS_MAX, Head, PAYLOAD_WORDS_MAX, Req, Stage};
use crate::syscall::Call;
use std::alloc::{Layout, alloc, dealloc};
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, SeqCst};
use std::sync::atomic::{AtomicU8, compiler_fence};

/// The size class of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeClass {
    Small,
    /// For an extension and a claim besides a small event.
    Extended,
    Medium,
    Large,
}

/// A small slot: for requests with at most one attribute.
const SMALL_BYTES: usize = 256;
const SMALL_WORDS: usize = (SMALL_BYTES - size_of::<Head>()) / 8;
/// A medium slot: for requests with each known attribute once.
const MEDIUM_BYTES: usize = 384;
const MEDIUM_WORDS: usize = (MEDIUM_BYTES - size_of::<Head>()) / 8;
const LARGE_BYTES: usize = (size_of::<Head>() + EVENT_WORDS_MAX * 8).next_multiple_of(64);

const _: () = assert!(SMALL_WORDS >= EVENT_WORDS + 2 + PAYLOAD_WORDS_MAX);

const EXTENDED_BYTES: usize =
    (size_of::<Head>() + CLAIMED_AT + size_of::<Claimed>()).next_multiple_of(64);

impl SizeClass {
    pub(super) fn of(words: usize) -> SizeClass {
        if words <= SMALL_WORDS {
            SizeClass::Small
        } else if words <= MEDIUM_WORDS {
            SizeClass::Medium
        } else {
            SizeClass::Large
        }
    }

    const fn slot_bytes(self) -> usize {
        match self {
            SizeClass::Small => SMALL_BYTES,
            SizeClass::Extended => EXTENDED_BYTES,
            SizeClass::Medium => MEDIUM_BYTES,
            SizeClass::Large => LARGE_BYTES,
        }
    }
}

/// A free slot.
pub struct FreeSlot {
    pub(super) at: NonNull<Head>,
    pub(super) class: SizeClass,
}

/// Free slots of one class, linked through their first word.
pub struct FreeList {
    class: SizeClass,
    first: *mut Head,
    len: usize,
}

// SAFETY: it owns the slots.
unsafe impl Send for FreeList {}

impl FreeList {
    pub const fn new(class: SizeClass) -> FreeList {
        FreeList {
            class,
            first: ptr::null_mut(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn pop(&mut self) -> Option<FreeSlot> {
        let at = NonNull::new(self.first)?;
        // SAFETY: a free slot begins with the pointer to the next one (`push`).
        self.first = unsafe { at.cast::<*mut Head>().read() };
        self.len -= 1;
        Some(FreeSlot {
            at,
            class: self.class,
        })
    }

    fn push(&mut self, at: NonNull<Head>) {
        // SAFETY: the slot is unused and large enough for a pointer.
        unsafe { at.cast::<*mut Head>().write(self.first) };
        self.first = at.as_ptr();
        self.len += 1;
    }

    /// Moves up to `wanted` slots from `other` to this list.
    pub fn move_from(&mut self, other: &mut FreeList, wanted: usize) {
        assert!(self.class == other.class);
        if self.len == 0 && other.len <= wanted {
            std::mem::swap(self, other);
            return;
        }
        for _ in 0..wanted {
            let Some(slot) = other.pop() else { break };
            self.push(slot.at);
        }
    }
}

/// Memory for several requests of one class, before it joins a [`Slab`].
pub struct Chunk {
    at: NonNull<ChunkHead>,
}

#[repr(C, align(64))]
struct ChunkHead {
    next: *mut ChunkHead,
    slots: usize,
    class: SizeClass,
}

impl Chunk {
    fn layout(class: SizeClass, slots: usize) -> Option<Layout> {
        let bytes = slots
            .checked_mul(class.slot_bytes())?
            .checked_add(size_of::<ChunkHead>())?;
        Layout::from_size_align(bytes, 64).ok()
    }

    /// None if there is no memory. Called without a lock, because the allocator may make system calls.
    pub fn new(class: SizeClass, slots: usize) -> Option<Chunk> {
        let layout = Self::layout(class, slots)?;
        // SAFETY: the layout is not empty.
        let at = NonNull::new(unsafe { alloc(layout) })?.cast::<ChunkHead>();
        // SAFETY: new memory, large and aligned enough for a ChunkHead.
        unsafe {
            at.write(ChunkHead {
                next: ptr::null_mut(),
                slots,
                class,
            })
        };
        Some(Chunk { at })
    }
}

/// Free slots of one class, and their chunks. Grows, and frees its memory when it is dropped.
pub struct Slab {
    pub free: FreeList,
    chunks: *mut ChunkHead,
    /// Slots in all chunks.
    slots: usize,
}

// SAFETY: it owns the chunks; nobody else gets the pointers.
unsafe impl Send for Slab {}

impl Slab {
    pub const fn new(class: SizeClass) -> Slab {
        Slab {
            free: FreeList::new(class),
            chunks: ptr::null_mut(),
            slots: 0,
        }
    }

    /// The number of slots in the next chunk, if `wanted` more requests need one. The total grows fourfold, so that a
    /// program soon has enough slots, in few chunks.
    pub fn growth(&self, wanted: usize) -> usize {
        let (first, most) = match self.free.class {
            SizeClass::Small => (16, 1024),
            SizeClass::Extended => (16, 1024),
            SizeClass::Medium => (8, 512),
            SizeClass::Large => (4, 64),
        };
        wanted.max(self.slots * 3).clamp(first, most)
    }

    pub fn add(&mut self, chunk: Chunk) {
        // SAFETY: the slab owns the chunk now, which `Chunk::new` made with `slots` slots of its class behind the head.
        unsafe {
            let head = chunk.at.as_ptr();
            let ChunkHead { class, slots, .. } = *head;
            assert!(class == self.free.class);
            let first = head.add(1).cast::<u8>();
            for i in (0..slots).rev() {
                let slot = NonNull::new_unchecked(first.add(i * class.slot_bytes()).cast::<Head>());
                let stage = AtomicU8::new(Stage::Idle as u8);
                (&raw mut (*slot.as_ptr()).stage).write(stage);
                self.free.push(slot);
            }
            (*head).next = self.chunks;
            // For `each_unfinished`: the fields that it reads are written first.
            compiler_fence(SeqCst);
            self.chunks = head;
            self.slots += slots;
        }
    }

    /// Calls `visit` for each request that has no result yet.
    fn each_unfinished(&self, visit: &mut impl FnMut(Stage, &Call)) {
        let mut chunk = self.chunks;
        while let Some(here) = NonNull::new(chunk) {
            // SAFETY: chunks live as long as the slab. The stage of each slot is written, and the call is written
            // before the stage says that there is a request.
            unsafe {
                let ChunkHead { next, slots, class } = *here.as_ptr();
                let first = here.as_ptr().add(1).cast::<u8>();
                for i in 0..slots {
                    let slot = first.add(i * class.slot_bytes()).cast::<Head>();
                    // Acquire: pairs with the release in `set_stage`.
                    match (*slot).stage.load(Acquire) {
                        stage if stage == Stage::Accepted as u8 => {
                            visit(Stage::Accepted, &(*slot).call)
                        }
                        stage if stage == Stage::Begun as u8 => visit(Stage::Begun, &(*slot).call),
                        _ => {}
                    }
                }
                chunk = next;
            }
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        while let Some(chunk) = NonNull::new(self.chunks) {
            // SAFETY: `Chunk::new` made it with this layout. The context is dropped only when no request is in flight,
            // so no slot is in use.
            unsafe {
                self.chunks = (*chunk.as_ptr()).next;
                let layout = Chunk::layout((*chunk.as_ptr()).class, (*chunk.as_ptr()).slots);
                dealloc(chunk.as_ptr().cast(), layout.unwrap_unchecked());
            }
        }
    }
}

/// The memory of a context's requests.
pub struct Slabs {
    small: Slab,
    extended: Slab,
    medium: Slab,
    large: Slab,
}

impl Slabs {
    pub const fn new() -> Slabs {
        Slabs {
            small: Slab::new(SizeClass::Small),
            extended: Slab::new(SizeClass::Extended),
            medium: Slab::new(SizeClass::Medium),
            large: Slab::new(SizeClass::Large),
        }
    }

    pub fn of(&mut self, class: SizeClass) -> &mut Slab {
        match class {
            SizeClass::Small => &mut self.small,
            SizeClass::Extended => &mut self.extended,
            SizeClass::Medium => &mut self.medium,
            SizeClass::Large => &mut self.large,
        }
    }

    /// Calls `visit` for each request that has no result yet, even in the middle of a change.
    pub fn each_unfinished(&self, mut visit: impl FnMut(Stage, &Call)) {
        for slab in [&self.small, &self.extended, &self.medium, &self.large] {
            slab.each_unfinished(&mut visit);
        }
    }

    /// Frees a request whose event has left the library, or that was not accepted.
    pub fn free(&mut self, req: Req) {
        req.set_stage(Stage::Idle);
        let class = req.head().class;
        self.of(class).free.push(req.0);
    }
}
