//! The rights by which the kernel judges a thread's reads and writes of files that are open already: whether a write takes
//! set-user-ID bits away, uses blocks that are reserved for root, or is subject to a quota. A thread can change its own
//! alone. libc's functions (setuid) do so in all threads, the library's among them.
//!
//! Asking the kernel takes several system calls. So the preloaded library, through which such changes pass, counts them.

use super::has_call_filter;
use arrayvec::ArrayVec;
use libc::{c_int, gid_t};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

/// The count of the preloaded library; null: there is none.
static CHANGES: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// How many times a thread of this process has changed its own rights alone.
pub fn changes() -> u64 {
    // SAFETY: null, or what `count_in` was given. Acquire: pairs with the release there.
    unsafe { CHANGES.load(Acquire).as_ref() }.map_or(0, |changes| changes.load(Relaxed))
}

/// `changes` is the count, and is never freed. `is_single`: the program has one thread, and the library none. All later threads then have
/// what that one has now, so earlier changes do not count.
pub fn count_in(changes: &'static AtomicU64, is_single: bool) {
    if is_single {
        changes.store(0, Relaxed);
    }
    CHANGES.store(ptr::from_ref(changes).cast_mut(), Release);
}

/// The most groups that are compared.
const GROUPS: usize = 64;

/// The rights of a thread.
#[derive(PartialEq, Eq)]
pub struct Rights {
    user: i64,
    group: i64,
    /// The effective capabilities.
    capabilities: u64,
    groups: ArrayVec<gid_t, GROUPS>,
}

impl Rights {
    /// The calling thread's rights. None: they are not known. A filter may forbid the calls.
    pub fn here() -> Option<Rights> {
        const VERSION_3: u32 = 0x2008_0522;
        const NOBODY: u32 = u32::MAX;
        if has_call_filter() {
            return None;
        }
        let mut header = [VERSION_3, 0];
        // Effective, permitted and inheritable: first the lower halves, then the upper ones.
        let mut sets = [0u32; 6];
        let mut groups = [0; GROUPS];
        // SAFETY: arrays of ours, of the sizes that the calls expect. A user and a group that do not exist change nothing.
        let (got, count, user, group) = unsafe {
            (
                libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()),
                libc::getgroups(GROUPS as c_int, groups.as_mut_ptr()),
                libc::syscall(libc::SYS_setfsuid, NOBODY),
                libc::syscall(libc::SYS_setfsgid, NOBODY),
            )
        };
        let groups = groups.get(..usize::try_from(count).ok()?)?;
        (got == 0).then(|| Rights {
            user,
            group,
            capabilities: u64::from(sets[0]) | u64::from(sets[3]) << 32,
            groups: groups.iter().copied().collect(),
        })
    }
}
