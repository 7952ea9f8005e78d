//! Whether the program's memory is present. If it is not, a thread that transfers bytes waits until it is. Behind a system call filter no
//! call is made, because the filter may not know it.

use super::has_call_filter;
use libc::c_int;
use std::ops::Range;

/// The most pages that are looked at by one call.
pub const PAGES: usize = 64;

/// Whether these pages, [`PAGES`] at most, are in memory. The answer may be no although it should be yes. If the answer is yes, a write to
/// a clean page of a file may still have to wait for that file.
pub fn are_there(pages: &[u64]) -> bool {
    let mut nodes = [-1 as c_int; PAGES];
    let Some(nodes) = nodes.get_mut(..pages.len()) else {
        return false;
    };
    if has_call_filter() {
        return false;
    }
    // Moves nothing: no nodes are given, and those of the pages are asked for.
    // SAFETY: the kernel reads and writes as many numbers of ours.
    let ret = unsafe {
        let (count, from, to) = (pages.len(), pages.as_ptr(), nodes.as_mut_ptr());
        libc::syscall(libc::SYS_move_pages, 0, count, from, 0usize, to, 0)
    };
    ret == 0 && nodes.iter().all(|node| *node >= 0)
}

/// Brings in these pages, as the kernel does before it writes to them, or reads from them. It may wait without limit. Pages that cannot be
/// had are left out.
pub fn bring_in(bytes: Range<u64>, is_written: bool) {
    let how = if is_written {
        libc::MADV_POPULATE_WRITE
    } else {
        libc::MADV_POPULATE_READ
    };
    if !has_call_filter() {
        // SAFETY: the content of the memory does not change.
        unsafe { libc::syscall(libc::SYS_madvise, bytes.start, bytes.end - bytes.start, how) };
    }
}
