//! How a system call behaves, from its number and its arguments.

use super::table::{self, Class};
use super::{AWAIT_FILE, Call};
use crate::abi::IOCB2_NOP;
use libc::c_long;

/// Whether this system call is carried. A call that is not carried completes with -ENOSYS and is never made.
#[inline]
pub fn is_carried(call: &Call) -> bool {
    is_well_trodden(call.nr) || call.nr == IOCB2_NOP || table::class(call.nr, &call.args).is_some()
}

/// The most frequent calls, which are carried with any arguments. They need no lookup in the table.
#[inline]
fn is_well_trodden(nr: u32) -> bool {
    matches!(
        c_long::from(nr),
        libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_fsync
            | libc::SYS_fdatasync
    )
}

/// How a request behaves while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It ends by itself, and may hold a file's lock for a while.
    Transfer,
    /// It waits until earlier writes are on the device.
    Sync,
    /// It may wait for somebody else.
    Indefinite,
}

impl Manner {
    /// A call that is not carried takes no time and counts as a transfer.
    #[inline]
    pub fn of(call: &Call) -> Manner {
        match c_long::from(call.nr) {
            libc::SYS_pread64 | libc::SYS_pwrite64 => Manner::Transfer,
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range => Manner::Sync,
            _ if call.nr == IOCB2_NOP => Manner::Transfer,
            _ if call.nr == AWAIT_FILE => Manner::Indefinite,
            _ => match table::class(call.nr, &call.args) {
                Some(Class::Indefinite) => Manner::Indefinite,
                _ => Manner::Transfer,
            },
        }
    }

    /// The class of workers that execute it.
    #[inline]
    pub fn class(self) -> Class {
        match self {
            Manner::Transfer | Manner::Sync => Class::Finite,
            Manner::Indefinite => Class::Indefinite,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_table_carries_what_need_not_be_asked() {
        let trodden: Vec<u32> = (0..1024).filter(|&nr| is_well_trodden(nr)).collect();
        assert_eq!(trodden.len(), 8);
        for nr in trodden {
            for args in [[0; 6], [u64::MAX; 6]] {
                assert!(table::class(nr, &args).is_some(), "{nr}");
            }
        }
    }
}
