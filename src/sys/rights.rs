//! The rights by which the kernel judges a thread's reads and writes of files that are open already: whether a write takes
//! set-user-ID bits away, uses blocks that are reserved for root, or is subject to a quota. A thread can change its own
//! alone. libc's functions (setuid) do so in all threads, the library's among them.

use super::has_call_filter;
use arrayvec::ArrayVec;
use libc::{c_int, gid_t};

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
