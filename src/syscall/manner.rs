//! What a system call does while it runs, by its number and its arguments.

use super::Call;
use super::table::{self, Class};
use crate::abi::IOCB2_NOP;
use libc::c_long;

/// Whether this system call is carried. The others complete with -ENOSYS and are never made.
#[inline]
pub fn is_carried(call: &Call) -> bool {
    is_well_trodden(call.nr) || call.nr == IOCB2_NOP || table::class(call.nr, &call.args).is_some()
}

/// Those that are carried whatever their arguments, and that most requests are: the table need not
/// be asked.
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

/// What a request does while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It ends by itself, and may have a file's lock for a while.
    Transfer,
    /// It waits for what others have written.
    Sync,
    /// It may wait for somebody else.
    Long,
}

impl Manner {
    /// One that is not carried takes no time.
    #[inline]
    pub fn of(call: &Call) -> Manner {
        match c_long::from(call.nr) {
            libc::SYS_pread64 | libc::SYS_pwrite64 => Manner::Transfer,
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range => Manner::Sync,
            _ if call.nr == IOCB2_NOP => Manner::Transfer,
            _ => match table::class(call.nr, &call.args) {
                Some(Class::Long) => Manner::Long,
                _ => Manner::Transfer,
            },
        }
    }

    /// Who is to carry it out.
    #[inline]
    pub fn class(self) -> Class {
        match self {
            Manner::Transfer | Manner::Sync => Class::Short,
            Manner::Long => Class::Long,
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
