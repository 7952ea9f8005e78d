//! The program's memory, which may be bad: a bad pointer is -EFAULT, as with the kernel, not a
//! SIGSEGV.
//!
//! Before memory is used, the kernel is asked about each page of it, by a system call that touches the
//! page and has no other effect that matters. A program that unmaps the page in between has a race with
//! itself. The answer holds for the rest of the call: the next call asks again.
//!
//! One page need not be asked about: the page that holds the [`Reader`] itself. The library is using it.
//! No other guess is made. In particular, nothing is assumed about the rest of the stack: it may be a
//! coroutine's, and end anywhere.

use super::{PAGE, Result, readable};
use nix::errno::Errno;
use std::ptr;

/// Not a page.
const NOWHERE: usize = usize::MAX;

fn page_of(at: usize) -> usize {
    at & !(PAGE - 1)
}

/// The pages of a record.
fn pages(at: usize, bytes: usize) -> Result<impl Iterator<Item = usize>> {
    let last = at.checked_add(bytes.max(1) - 1).ok_or(Errno::EFAULT)?;
    Ok((page_of(at)..=page_of(last)).step_by(PAGE))
}

/// Reads and writes the program's memory for the duration of one call, and remembers the pages that it
/// has asked about last: most of a submit's records are neighbours.
pub struct Reader {
    /// Pages that can be read, the one used last first: one for the array of pointers, one for what they
    /// point to.
    readable: [usize; 2],
    /// A page that can be written to, and so read.
    writable: usize,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            readable: [NOWHERE; 2],
            writable: NOWHERE,
        }
    }

    /// A copy of what is there, read once. `T` is plain numbers: any bits are a value.
    ///
    /// # Safety
    /// Any bits are a valid `T`.
    pub unsafe fn read<T: Copy>(&mut self, at: usize) -> Result<T> {
        self.check(at, size_of::<T>())?;
        // SAFETY: readable, as far as it can be known; the caller vouches for the type.
        Ok(unsafe { ptr::read_unaligned(at as *const T) })
    }

    /// An error unless all of it can be read.
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

    /// Writes all of it, or an error.
    pub fn write<T: Copy>(&mut self, at: usize, value: T) -> Result<()> {
        let bytes = size_of::<T>();
        for page in pages(at, bytes)? {
            if self.is_writable(page) {
                continue;
            }
            // Only if all of the record is in one page may the question change it: otherwise the answer
            // for the next page may be no.
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
        // SAFETY: just found writable; aligned or not.
        unsafe { ptr::write_unaligned(at as *mut T, value) };
        Ok(())
    }
}

/// Whether these bytes, which are in one page, can be written to. Some of them may be changed by the
/// question: the caller is going to write to all of them. getcpu(2) writes a number there; it takes half
/// the time that [`writable`] does.
fn overwritable(at: usize, bytes: usize) -> bool {
    // To getcpu(2), NULL stands for a number that is not wanted.
    if bytes < size_of::<u32>() || at == 0 {
        return writable(at);
    }
    // SAFETY: the kernel writes 4 bytes of the program's, or says EFAULT.
    let ret = unsafe { libc::syscall(libc::SYS_getcpu, at, 0, 0) };
    // A sandbox may not know the call.
    ret != -1 || Errno::last() != Errno::EFAULT && writable(at)
}

/// Whether the page of this address can be written to: a futex operation that adds 0 to a word
/// there, and has nobody to wake.
pub fn writable(at: usize) -> bool {
    static NOBODY: u32 = 0;
    let word = at & !3;
    const ADD_0_IF_LESS: u32 = 1 << 28 | 2 << 24 | 0x801;
    // SAFETY: the kernel adds 0 in one step to the program's word, or says EFAULT.
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

/// How many bytes from `at` on, up to the end of the page and not more than `most`, can be written to:
/// all or none. They may be changed: they are going to be. `own` is the address of something that the
/// library itself writes to.
pub fn writable_in_page(at: usize, most: usize, own: usize) -> usize {
    let bytes = (PAGE - at % PAGE).min(most);
    if page_of(at) == page_of(own) || overwritable(at, bytes) {
        bytes
    } else {
        0
    }
}

/// Whether this could be memory of a program's at all: what the kernel knows of a buffer at submit.
pub fn plausible(at: u64, bytes: u64) -> bool {
    at.checked_add(bytes)
        .is_some_and(|end| end <= i64::MAX as u64)
}
