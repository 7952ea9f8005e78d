//! The live contexts, by handle.
//!
//! A handle is an address from the program and may be any value, so it is looked up and never dereferenced. Contexts
//! live in slots whose memory is never freed, so a lookup needs no lock. If a lookup finds a slot that another context
//! uses meanwhile, the slot's content shows it, and the lookup is repeated under the lock.

use crate::sync::Lock;
use crate::sys::private_fd::Making;
use crate::sys::{NEVER, Result, futex_wait, futex_wake, hash, try_box_uninit};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

const BUCKETS: usize = 1024;
const SLOTS_IN_CHUNK: usize = 16;

pub struct Registry<T: 'static> {
    buckets: [AtomicPtr<Slot<T>>; BUCKETS],
    /// All slots, for a forked child.
    chunks: AtomicPtr<Chunk<T>>,
    next_id: AtomicU64,
    /// Guards changes of the table and the free slots.
    table: Lock<Table<T>>,
}

struct Table<T> {
    free: *mut Slot<T>,
    live: usize,
}

// SAFETY: slots may be shared between threads; `free` is used under the lock.
unsafe impl<T> Send for Table<T> {}

struct Chunk<T> {
    next: *mut Chunk<T>,
    slots: [Slot<T>; SLOTS_IN_CHUNK],
}

/// A slot for a context. Two contexts' slots share neither a cache line nor a pair of lines that is fetched together.
/// Otherwise two threads with a context each would slow each other down.
#[repr(align(128))]
struct Slot<T> {
    /// The LIVE bit, and the number of references. If the context is not live, the last reference wakes its destroyer.
    /// A futex.
    refs: AtomicU32,
    handle: AtomicUsize,
    /// The next slot in the bucket or on the free list.
    next: AtomicPtr<Slot<T>>,
    /// The context's descriptors, which a forked child closes; -1: none.
    fds: [AtomicI32; 2],
    context: UnsafeCell<MaybeUninit<T>>,
}

const LIVE: u32 = 1 << 31;

// SAFETY: the context is Sync, and is written and dropped only while there are no references.
unsafe impl<T: Sync> Sync for Slot<T> {}

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot {
            refs: AtomicU32::new(0),
            handle: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            fds: [AtomicI32::new(-1), AtomicI32::new(-1)],
            context: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// A reference, if the slot now has the live context of that handle.
    fn get(&'static self, handle: usize) -> Option<Ref<T>> {
        // Acquire: pairs with the release in `insert`, so the context is initialised.
        let refs = self.refs.fetch_add(1, Acquire);
        let found = Ref { slot: self };
        (refs & LIVE != 0 && self.handle.load(Relaxed) == handle).then_some(found)
    }
}

/// A reference to a context. While one exists, the context stays in its slot.
pub struct Ref<T: 'static> {
    slot: &'static Slot<T>,
}

impl<T> Ref<T> {
    pub fn is(&self, other: &Ref<T>) -> bool {
        ptr::eq(self.slot, other.slot)
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        // Relaxed: a reference already exists.
        self.slot.refs.fetch_add(1, Relaxed);
        Ref { slot: self.slot }
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was live when this reference was made (`get` drops a reference to a dead one at once), and is
        // dropped only when there are no references.
        unsafe { (*self.slot.context.get()).assume_init_ref() }
    }
}

impl<T> Drop for Ref<T> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `remove`: this thread no longer uses the context.
        if self.slot.refs.fetch_sub(1, Release) == 1 {
            // The slot's memory stays valid; the context may be gone.
            futex_wake(&self.slot.refs, 1);
        }
    }
}

impl<T> Registry<T> {
    pub fn new() -> Registry<T> {
        Registry {
            buckets: [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS],
            chunks: AtomicPtr::new(ptr::null_mut()),
            next_id: AtomicU64::new(1),
            table: Lock::new(Table {
                free: ptr::null_mut(),
                live: 0,
            }),
        }
    }

    /// A number that no other context of this process has. Relaxed: only uniqueness matters.
    pub fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// The context with this handle.
    pub fn find(&'static self, handle: usize) -> Result<Ref<T>> {
        // The bucket's slots may change meanwhile. A slot that is found is checked; if none is found, the lookup under
        // the lock decides.
        self.look_up(handle)
            .or_else(|| {
                let _table = self.table.lock();
                self.look_up(handle)
            })
            .ok_or(Errno::EINVAL)
    }

    /// As `find`, but also finds a context that the program has moved to this address. `could_be` tells whether any
    /// context is there, and `is_at` whether it is this one. If so, `moved` is called for it.
    pub fn find_moved(
        &'static self,
        handle: usize,
        could_be: impl FnOnce() -> bool,
        is_at: impl Fn(&T) -> bool,
        moved: impl FnOnce(&T),
    ) -> Result<Ref<T>> {
        if let Some(found) = self.look_up(handle) {
            return Ok(found);
        }
        let table = self.table.lock();
        if let Some(found) = self.look_up(handle) {
            return Ok(found);
        }
        if !could_be() {
            return Err(Errno::EINVAL);
        }
        for slot in self.slots() {
            let Some(found) = slot.get(slot.handle.load(Relaxed)) else {
                continue;
            };
            if is_at(&found) {
                self.unlink(slot);
                slot.handle.store(handle, Relaxed);
                moved(&found);
                self.link(slot);
                return Ok(found);
            }
            drop(found);
        }
        drop(table);
        Err(Errno::EINVAL)
    }

    fn look_up(&'static self, handle: usize) -> Option<Ref<T>> {
        // Acquire, here and below: pairs with the release in `link`, so the slot's fields are initialised.
        let mut at = self.bucket(handle).load(Acquire);
        // SAFETY: slots are never freed.
        while let Some(slot) = unsafe { at.as_ref::<'static>() } {
            if slot.handle.load(Relaxed) == handle
                && let Some(found) = slot.get(handle)
            {
                return Some(found);
            }
            at = slot.next.load(Acquire);
        }
        None
    }

    fn bucket(&self, handle: usize) -> &AtomicPtr<Slot<T>> {
        // Handles are page addresses. Adjacent ones should not share a bucket.
        let bucket = hash(handle as u64 >> 12) >> 22;
        &self.buckets[bucket as usize % BUCKETS]
    }

    /// Makes the context live with this handle and these descriptors, so that it can be found. `reserve` gets the new
    /// number of contexts.
    pub fn insert(
        &'static self,
        context: T,
        (handle, fds): (usize, [RawFd; 2]),
        reserve: impl FnOnce(usize) -> Result<()>,
    ) -> Result<()> {
        let mut table = self.table.lock();
        reserve(table.live + 1)?;
        if table.free.is_null() {
            self.add_chunk(&mut table)?;
        }
        // SAFETY: the slot is on the free list, and slots are never freed.
        let slot: &'static Slot<T> = unsafe { &*table.free };
        table.free = slot.next.load(Relaxed);
        table.live += 1;
        for (place, fd) in slot.fds.iter().zip(fds) {
            place.store(fd, Relaxed);
        }
        // SAFETY: a free slot holds no context, and nobody accesses the context before the slot is LIVE.
        unsafe { (*slot.context.get()).write(context) };
        slot.handle.store(handle, Relaxed);
        // Release: pairs with the acquire in `get`. An addition, because lookups of other handles may have added a
        // reference that they have not dropped yet.
        slot.refs.fetch_add(LIVE, Release);
        self.link(slot);
        Ok(())
    }

    /// Makes a slot findable by its handle. Called under the table's lock.
    fn link(&self, slot: &'static Slot<T>) {
        let bucket = self.bucket(slot.handle.load(Relaxed));
        slot.next.store(bucket.load(Relaxed), Relaxed);
        // Release: pairs with the acquire in `look_up`.
        bucket.store(ptr::from_ref(slot).cast_mut(), Release);
    }

    fn add_chunk(&self, table: &mut Table<T>) -> Result<()> {
        let mut new = try_box_uninit::<Chunk<T>>()?;
        let at = new.as_mut_ptr();
        // SAFETY: each field is written in place.
        let chunk = Box::leak(unsafe {
            (&raw mut (*at).next).write(self.chunks.load(Relaxed));
            for i in 0..SLOTS_IN_CHUNK {
                (&raw mut (*at).slots[i]).write(Slot::new());
            }
            new.assume_init()
        });
        for slot in &chunk.slots {
            slot.next.store(table.free, Relaxed);
            table.free = ptr::from_ref(slot).cast_mut();
        }
        // Release: pairs with the acquire in `slots`.
        self.chunks.store(chunk, Release);
        Ok(())
    }

    /// Removes a context, if `may` still allows it, and passes it to `end` before its memory is freed. Waits until
    /// nobody uses it.
    pub fn remove(
        &'static self,
        handle: usize,
        may: impl FnOnce(&T) -> bool,
        end: impl FnOnce(&Ref<T>),
    ) -> Result<()> {
        let context = self.find(handle)?;
        let slot = context.slot;
        let table = self.table.lock();
        // AcqRel: of several threads that destroy the context, exactly one clears the bit.
        if !may(&context) || slot.refs.fetch_and(!LIVE, AcqRel) & LIVE == 0 {
            return Err(Errno::EINVAL);
        }
        self.unlink(slot);
        drop(table);
        end(&context);
        drop(context);
        // Acquire: pairs with the release in `Ref::drop`.
        loop {
            match slot.refs.load(Acquire) {
                0 => break,
                refs => futex_wait(&slot.refs, refs, NEVER),
            };
        }
        // Before the lock, as where a context is made and inserted.
        let _making = Making::begin();
        for place in &slot.fds {
            place.store(-1, Relaxed);
        }
        slot.handle.store(0, Relaxed);
        // Its mappings are removed under the lock, because `find_moved` inspects them under the lock.
        let mut table = self.table.lock();
        // SAFETY: not live and without references, so nobody else has it and nobody can find it.
        unsafe { (*slot.context.get()).assume_init_drop() };
        slot.next.store(table.free, Relaxed);
        table.free = ptr::from_ref(slot).cast_mut();
        table.live -= 1;
        Ok(())
    }

    fn unlink(&self, slot: &'static Slot<T>) {
        let mut link = self.bucket(slot.handle.load(Relaxed));
        // SAFETY: slots are never freed.
        while let Some(here) = unsafe { link.load(Relaxed).as_ref::<'static>() } {
            if ptr::eq(here, slot) {
                link.store(slot.next.load(Relaxed), Release);
                return;
            }
            link = &here.next;
        }
    }

    fn slots(&self) -> impl Iterator<Item = &'static Slot<T>> + use<T> {
        // Acquire: pairs with the release in `add_chunk`.
        let mut chunk = self.chunks.load(Acquire);
        std::iter::from_fn(move || {
            // SAFETY: chunks are never freed.
            let here: &'static Chunk<T> = unsafe { chunk.as_ref()? };
            chunk = here.next;
            Some(here)
        })
        .flat_map(|chunk| chunk.slots.iter())
    }

    /// Calls `what` for every live context.
    pub fn for_each(&'static self, mut what: impl FnMut(&Ref<T>)) {
        for slot in self.slots() {
            if let Some(context) = slot.get(slot.handle.load(Relaxed)) {
                what(&context);
            }
        }
    }

    /// In a forked child: closes inherited descriptors, and makes the memory at the handles harmless. Takes no lock,
    /// because it may have been inherited locked.
    pub fn abandon(&self, mut close: impl FnMut(RawFd), mut blank: impl FnMut(usize)) {
        for slot in self.slots() {
            for place in &slot.fds {
                match place.swap(-1, Relaxed) {
                    -1 => {}
                    fd => close(fd),
                }
            }
            if slot.refs.load(Acquire) & LIVE != 0 {
                blank(slot.handle.load(Relaxed));
            }
        }
    }
}
