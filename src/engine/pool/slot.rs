//! The slot of a worker.

use super::{SLEEP, SLOTS};
use crate::sync::{AtomicBool, AtomicU32};
use crate::sys::Result;
use crate::syscall::interrupt::Interruptible;
use nix::errno::Errno;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

/// The state of a worker that other threads see.
pub struct Slot {
    /// The command to the worker. A futex.
    pub(super) command: AtomicU32,
    /// The number of requests that it has begun.
    pub(super) begun: AtomicU32,
    /// `begun` at the monitor's last look. Under the pool's lock, like `counted`.
    pub(super) seen: AtomicU32,
    /// It counts against the processors.
    pub(super) counted: AtomicBool,
    /// When the monitor first saw it at its current request, in ticks.
    pub(super) since: AtomicU32,
    /// It serves a context; and it hangs.
    pub(super) is_busy: AtomicBool,
    pub(super) is_hung: AtomicBool,
    /// Interrupts it at its request.
    pub(super) interruptible: Interruptible,
}

/// All slots. None takes memory before it is used.
#[cfg(not(loom))]
pub fn new_slots() -> Result<Box<[Slot]>> {
    const { assert!(SLEEP == 0) };
    let layout = Layout::array::<Slot>(SLOTS).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the layout is not empty, and Box frees with the same one. A slot is atomic integers and flags, for which zeros are valid.
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
        command: AtomicU32::new(SLEEP),
        begun: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        counted: AtomicBool::new(false),
        since: AtomicU32::new(0),
        is_busy: AtomicBool::new(false),
        is_hung: AtomicBool::new(false),
        // SAFETY: zeros are valid.
        interruptible: unsafe { std::mem::zeroed() },
    };
    Ok(std::iter::repeat_with(new).take(SLOTS).collect())
}
