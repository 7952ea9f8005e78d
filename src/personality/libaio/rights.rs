//! The rights with which requests are carried out: the kernel's AIO uses those of the thread that submits them.

use super::table::Table;
use crate::sys::Result;
use crate::sys::preload;
use crate::sys::rights::Rights;
use std::cell::Cell;
use std::ptr;

/// The answer to a question, and the counts for which it is valid.
#[derive(Clone, Copy)]
struct Known {
    changes: u64,
    keeper: u32,
    is_same: bool,
}

thread_local! {
    /// The last answer that this thread has got.
    static KNOWN: Cell<Option<Known>> = const { Cell::new(None) };
}

/// Whether the threads that have the library's own table have the rights of the calling thread. As long as this value exists, they keep
/// them.
pub struct SameRights {
    /// None: no thread has changed its own, so all have the same.
    table: Option<&'static Table>,
    pub is_true: bool,
}

impl SameRights {
    pub fn look(table: &'static Table) -> SameRights {
        // Asking the kernel takes several system calls.
        let changes = preload::changes_of_rights();
        if changes == 0 {
            return SameRights {
                table: None,
                is_true: true,
            };
        }
        // The keeper stays, and all others have the rights of the keeper.
        table.enter();
        SameRights {
            table: Some(table),
            is_true: table.prepare().is_ok() && is_same(table, changes),
        }
    }
}

impl Drop for SameRights {
    fn drop(&mut self) {
        if let Some(table) = self.table {
            table.leave();
        }
    }
}

/// Asks the keeper, unless the answer is known. Other threads' changes do not matter to this one, and those of libc keep the same the
/// same.
fn is_same(table: &'static Table, changes: u64) -> bool {
    let keeper = Table::last_keeper();
    if let Some(known) = KNOWN.get()
        && (known.changes, known.keeper) == (changes, keeper)
    {
        return known.is_same;
    }
    fn job(asked: usize) -> Result<i64> {
        // SAFETY: the address of `here` below, whose owner waits for this job.
        let asked = unsafe { &*(asked as *const Rights) };
        Ok(i64::from(Rights::here().as_ref() == Some(asked)))
    }
    let is_same = Rights::here().is_some_and(|here| {
        let answer = table.run(job, ptr::from_ref(&here) as usize);
        answer == Ok(1)
    });
    KNOWN.set(Some(Known {
        changes,
        keeper,
        is_same,
    }));
    is_same
}
