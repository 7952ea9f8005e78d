//! Access to the program's memory. A bad pointer causes -EFAULT, as with the kernel, and not a SIGSEGV.
//!
//! Before the library uses memory, it asks the kernel about each page, by a system call that touches the page and has
//! no other relevant effect. If the program unmaps the page in between, that is a race in the program. The answer is
//! valid until the call ends; the next call asks again.
//!
//! The page that holds the [`Reader`] needs no check, because the library is using it. The library assumes nothing
//! else. In particular, it assumes nothing about the rest of the stack, which may belong to a coroutine and end
//! anywhere.

use super::{PAGE, Result, readable};
use nix::errno::Errno;
use std::ptr;

/// No page has this address.
const NOWHERE: usize = usize::MAX;

fn page_of(at: usize) -> usize {
    at & !(PAGE - 1)
}

/// The pages of a record.
fn pages(at: usize, bytes: usize) -> Result<impl Iterator<Item = usize>> {
    let last = at.checked_add(bytes.max(1) - 1).ok_or(Errno::EFAULT)?;
    Ok((page_of(at)..=page_of(last)).step_by(PAGE))
}

/// Reads and writes the program's memory during one call. Remembers the pages that it checked last, because the records
/// of a submit are mostly adjacent.
pub struct Reader {
    /// Readable pages, the last used first: one for the array of pointers, one for its records.
    readable: [usize; 2],
    /// A page that can be written, and so read.
    writable: usize,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            readable: [NOWHERE; 2],
            writable: NOWHERE,
        }
    }

    /// Copies a value, reading it once.
    ///
    /// # Safety
    /// Any bits are a valid `T`.
    pub unsafe fn read<T: Copy>(&mut self, at: usize) -> Result<T> {
        self.check(at, size_of::<T>())?;
        // SAFETY: checked to be readable; the caller guarantees the type.
        Ok(unsafe { ptr::read_unaligned(at as *const T) })
    }

    /// An error unless all bytes can be read.
    pub fn check(&mut self, at: usize, bytes: usize) -> Result<()> {
        for page in pages(at, bytes)? {
            if page == self.readable[0] || self.is_writable(page) {
                continue;
            }
            if page != self.readable[1] && !readable(at.max(page)) {
                return Err(Errno::EFAULT);
            }
            self.readable = [page, self.readable[0]];
        }
        Ok(())
    }

    /// Whether the page is known to be writable.
    fn is_writable(&self, page: usize) -> bool {
        page == self.writable || page == page_of(ptr::from_ref(self) as usize)
    }

    /// Writes all bytes, or returns an error.
    pub fn write<T: Copy>(&mut self, at: usize, value: T) -> Result<()> {
        let bytes = size_of::<T>();
        for page in pages(at, bytes)? {
            if self.is_writable(page) {
                continue;
            }
            // The check may change the bytes only if the whole record is in one page. Otherwise the check of the next
            // page may fail.
            let can = if page == page_of(at.wrapping_add(bytes - 1)) && page <= at {
                overwritable(at, bytes)
            } else {
                writable(page.max(at))
            };
            if !can {
                return Err(Errno::EFAULT);
            }
            self.writable = page;
        }
        // SAFETY: just checked to be writable; the write may be unaligned.
        unsafe { ptr::write_unaligned(at as *mut T, value) };
        Ok(())
    }
}

/// Whether these bytes, all in one page, can be written. The check may change some of them, because the caller then
/// writes all of them. It uses getcpu(2), which writes a number and is faster than [`writable`].
fn overwritable(at: usize, bytes: usize) -> bool {
    // For getcpu(2), NULL means that the number is not wanted.
    if bytes < size_of::<u32>() || at == 0 {
        return writable(at);
    }
    // SAFETY: the kernel writes 4 bytes of the program's memory, or returns EFAULT.
    let ret = unsafe { libc::syscall(libc::SYS_getcpu, at, 0, 0) };
    // A sandbox may not allow the call.
    ret != -1 || Errno::last() != Errno::EFAULT && writable(at)
}

/// Whether the page of this address can be written. A futex operation adds 0 to a word there, and has no sleeper to
/// wake.
pub fn writable(at: usize) -> bool {
    static NOBODY: u32 = 0;
    let word = at & !3;
    const ADD_0_IF_LESS: u32 = 1 << 28 | 2 << 24 | 0x801;
    // SAFETY: the kernel atomically adds 0 to the program's word, or returns EFAULT.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_futex,
            &raw const NOBODY,
            libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG,
            0,
            0,
            word,
            ADD_0_IF_LESS,
        )
    };
    ret != -1 || Errno::last() != Errno::EFAULT
}

/// How many of at most `most` bytes from `at` to the end of the page can be written: all or none. The check may change
/// them, because the caller overwrites them. `own` is an address that the library itself writes to.
pub fn writable_in_page(at: usize, most: usize, own: usize) -> usize {
    let bytes = (PAGE - at % PAGE).min(most);
    if page_of(at) == page_of(own) || overwritable(at, bytes) {
        bytes
    } else {
        0
    }
}

/// Whether the range can be user memory at all. The kernel checks the same of a buffer at submit.
pub fn plausible(at: u64, bytes: u64) -> bool {
    at.checked_add(bytes)
        .is_some_and(|end| end <= i64::MAX as u64)
}
