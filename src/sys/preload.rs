//! What the preloaded library (preload/preload.c) tells of the program's calls, which pass through it.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

/// How many times a thread has changed its own rights alone; null: there is no preloaded library.
static RIGHTS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

fn rights() -> Option<&'static AtomicU64> {
    // SAFETY: null, or what `is_there` was given. Acquire: pairs with the release there.
    unsafe { RIGHTS.load(Acquire).as_ref() }
}

/// Whether it is there. Then it has requests through the page cache carried out before their files' flags change.
pub fn sees_flags() -> bool {
    rights().is_some()
}

/// How many times a thread of this process has changed its own rights alone, as far as the preloaded library sees it.
pub fn changes_of_rights() -> u64 {
    rights().map_or(0, |changes| changes.load(Relaxed))
}

/// It is there, with that count. `is_single`: the program has one thread, and the library none. All later threads then have the rights that
/// this one has now, so earlier changes do not count.
pub fn is_there(rights: &'static AtomicU64, is_single: bool) {
    if is_single {
        rights.store(0, Relaxed);
    }
    RIGHTS.store(ptr::from_ref(rights).cast_mut(), Release);
}
