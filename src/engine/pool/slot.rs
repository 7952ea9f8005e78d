//! Where a worker lives.

use super::{SLEEP, SLOTS};
use crate::sync::{AtomicBool, AtomicU32};
use crate::sys::Result;
#[cfg(not(loom))]
use crate::syscall::interrupt::Interruptible;
#[cfg(not(loom))]
use nix::errno::Errno;
#[cfg(not(loom))]
use std::alloc::{Layout, alloc_zeroed};
#[cfg(not(loom))]
use std::ptr::NonNull;

/// A worker's place.
pub struct Slot {
    /// What it is to do: an order. A futex.
    pub(super) order: AtomicU32,
    /// Requests that it has begun.
    pub(super) begun: AtomicU32,
    /// `begun` when the monitor looked the last time. Under the pool's lock, like the next.
    pub(super) seen: AtomicU32,
    /// It counts against the processors.
    pub(super) counted: AtomicBool,
    /// When the monitor saw for the first time that it is where it is, in ticks.
    pub(super) since: AtomicU32,
    /// It serves a context; and hangs.
    pub(super) is_busy: AtomicBool,
    pub(super) is_hung: AtomicBool,
    /// What interrupts it at its request.
    #[cfg(not(loom))]
    pub(super) interruptible: Interruptible,
}

/// All of them, of which nothing takes memory before it is used.
#[cfg(not(loom))]
pub fn new_slots() -> Result<Box<[Slot]>> {
    const { assert!(SLEEP == 0) };
    let layout = Layout::array::<Slot>(SLOTS).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the layout is not empty, and the one with which Box will free it. A slot is atomic
    // integers and flags, for which zeros are valid.
    unsafe {
        let at = NonNull::new(alloc_zeroed(layout).cast::<Slot>()).ok_or(Errno::ENOMEM)?;
        Ok(Box::from_raw(
            NonNull::slice_from_raw_parts(at, SLOTS).as_ptr(),
        ))
    }
}

#[cfg(loom)]
pub fn new_slots() -> Result<Box<[Slot]>> {
    let new = || Slot {
        order: AtomicU32::new(SLEEP),
        begun: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        counted: AtomicBool::new(false),
        since: AtomicU32::new(0),
        is_busy: AtomicBool::new(false),
        is_hung: AtomicBool::new(false),
    };
    Ok(std::iter::repeat_with(new).take(SLOTS).collect())
}
