//! Which handles are live contexts.
//!
//! A handle is an address that a program gives us, and may be anything. It is looked up, never
//! followed. Contexts live in slots whose memory is never given back, so that a lookup needs no
//! lock: it may find a slot that is another context's by now, sees that in the slot, and looks
//! again under the lock.

use crate::sync::Lock;
use crate::sys::{NEVER, Result, futex_wait, futex_wake, spread, try_box_uninit};
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
    /// All slots there are, for a forked child.
    chunks: AtomicPtr<Chunk<T>>,
    next_id: AtomicU64,
    /// Guards changes of the table, and the slots that are free.
    table: Lock<Table<T>>,
}

struct Table<T> {
    free: *mut Slot<T>,
    live: usize,
}

// SAFETY: the slots are shared by design; `free` is used under the lock.
unsafe impl<T> Send for Table<T> {}

struct Chunk<T> {
    next: *mut Chunk<T>,
    slots: [Slot<T>; SLOTS_IN_CHUNK],
}

/// A place for a context. What two contexts' threads write must not share a line, nor a pair of lines
/// that is fetched together: two threads, each with a context of its own, would pay twice as much.
#[repr(align(128))]
struct Slot<T> {
    /// The LIVE bit, and how many references there are. The last reference to a context that is not
    /// live any more wakes its destroyer. A futex.
    refs: AtomicU32,
    handle: AtomicUsize,
    /// The next slot in the bucket, or on the free list.
    next: AtomicPtr<Slot<T>>,
    /// The context's descriptors: a forked child closes them. -1 for none.
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

    /// A reference, if this is now the live context of that handle.
    fn get(&'static self, handle: usize) -> Option<Ref<T>> {
        // Acquire: pairs with the release that made it live: the context is there.
        let refs = self.refs.fetch_add(1, Acquire);
        let found = Ref { slot: self };
        (refs & LIVE != 0 && self.handle.load(Relaxed) == handle).then_some(found)
    }
}

/// A reference to a context, which stays where it is as long as there are any.
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
        // Relaxed: there is a reference already.
        self.slot.refs.fetch_add(1, Relaxed);
        Ref { slot: self.slot }
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was live when this reference was made (the one kind that is made of dead ones,
        // in `get`, is dropped at once), and is dropped only when there are no references.
        unsafe { (*self.slot.context.get()).assume_init_ref() }
    }
}

impl<T> Drop for Ref<T> {
    fn drop(&mut self) {
        // Release: pairs with the destroyer's acquire: we are done with the context.
        if self.slot.refs.fetch_sub(1, Release) == 1 {
            // The slot's memory is there for ever, the context may be gone.
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

    /// A number that no other context of this process has.
    pub fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// The context with that handle.
    pub fn find(&'static self, handle: usize) -> Result<Ref<T>> {
        // The slots in the bucket may change meanwhile; whatever is found is checked, and if
        // nothing is, the lock decides.
        self.look_up(handle)
            .or_else(|| {
                let _table = self.table.lock();
                self.look_up(handle)
            })
            .ok_or(Errno::EINVAL)
    }

    /// The same, also if the program has moved it to there meanwhile. `could_be` says whether there is one at all, `is_at`
    /// whether it is this one, which is then told that it has `moved`.
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
        // Acquire, here and below: pairs with the release of `link`: the slot's fields are there.
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
        // Handles are addresses of pages; neighbours should not share a bucket.
        let hash = spread(handle as u64 >> 12) >> 22;
        &self.buckets[hash as usize % BUCKETS]
    }

    /// Makes the context live, which has this handle and these descriptors; it can be found from here on. `reserve` is told how many
    /// there will be.
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
        // SAFETY: a slot on the free list; slots are never freed.
        let slot: &'static Slot<T> = unsafe { &*table.free };
        table.free = slot.next.load(Relaxed);
        table.live += 1;
        for (place, fd) in slot.fds.iter().zip(fds) {
            place.store(fd, Relaxed);
        }
        // SAFETY: free slots hold no context, and nobody looks at what is there before it is LIVE.
        unsafe { (*slot.context.get()).write(context) };
        slot.handle.store(handle, Relaxed);
        // Release: pairs with the acquire in `get`. An addition: lookups that went astray may have
        // counted themselves in and not yet out.
        slot.refs.fetch_add(LIVE, Release);
        self.link(slot);
        Ok(())
    }

    /// Lets a slot be found by its handle. Under the table's lock.
    fn link(&self, slot: &'static Slot<T>) {
        let bucket = self.bucket(slot.handle.load(Relaxed));
        slot.next.store(bucket.load(Relaxed), Relaxed);
        // Release: pairs with the acquire in `look_up`.
        bucket.store(ptr::from_ref(slot).cast_mut(), Release);
    }

    fn add_chunk(&self, table: &mut Table<T>) -> Result<()> {
        let mut new = try_box_uninit::<Chunk<T>>()?;
        let at = new.as_mut_ptr();
        // SAFETY: each field is written, in its place.
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
        // Release: pairs with the acquire in `abandon`.
        self.chunks.store(chunk, Release);
        Ok(())
    }

    /// Takes a context out, if it still `may` be, and hands it to `end` before its memory goes. Waits
    /// until nobody uses it.
    pub fn remove(
        &'static self,
        handle: usize,
        may: impl FnOnce(&T) -> bool,
        end: impl FnOnce(&Ref<T>),
    ) -> Result<()> {
        let context = self.find(handle)?;
        let slot = context.slot;
        let table = self.table.lock();
        // AcqRel: of several that destroy, one is first.
        if !may(&context) || slot.refs.fetch_and(!LIVE, AcqRel) & LIVE == 0 {
            return Err(Errno::EINVAL);
        }
        self.unlink(slot);
        drop(table);
        end(&context);
        drop(context);
        // Acquire: pairs with the release of the last reference.
        loop {
            match slot.refs.load(Acquire) {
                0 => break,
                refs => futex_wait(&slot.refs, refs, NEVER),
            };
        }
        for place in &slot.fds {
            place.store(-1, Relaxed);
        }
        slot.handle.store(0, Relaxed);
        // What it has mapped goes under the lock, under which `find_moved` looks at what is there.
        let mut table = self.table.lock();
        // SAFETY: not live and without references: nobody else has it, and nobody finds it.
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

    /// Every context that is live.
    pub fn for_each(&'static self, mut what: impl FnMut(&Ref<T>)) {
        for slot in self.slots() {
            if let Some(context) = slot.get(slot.handle.load(Relaxed)) {
                what(&context);
            }
        }
    }

    /// In a forked child: gives back what it inherited, which are descriptors, and puts something
    /// harmless where the handles point. No lock is taken: it may have been inherited held.
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
