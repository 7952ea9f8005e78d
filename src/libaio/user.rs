//! The program's memory, which may be bad: a bad pointer is -EFAULT, as with the kernel, not a
//! SIGSEGV.
//!
//! Memory is asked about with a system call that looks at it and does nothing else, once for each
//! page, and used afterwards. A program that unmaps it in between has a race with itself. What is
//! certain to be there need not be asked about ([`is_certain`]): a system call takes a tenth of a
//! microsecond, and a submit of one iocb makes two.

use crate::sys::{Result, readable};
use nix::errno::Errno;
use std::ptr;

/// The smallest page there is: what is true of one byte is true of the rest of its page.
const PAGE: usize = 4096;
/// Not a page.
const NOWHERE: usize = usize::MAX;

/// Reads the program's memory, and remembers the page that it has asked about last: most of a
/// submit's records are neighbours.
pub struct Reader {
    page: usize,
    /// The same of one that can be written to.
    writable: usize,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            page: NOWHERE,
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

    /// Whether the word there can be written to, and so read: then its page is known. The word may
    /// be changed by the question: it is one that is going to be written to anyway.
    pub fn is_scratch(&mut self, at: usize) -> bool {
        let page = at & !(PAGE - 1);
        if page != self.writable {
            if is_certain(at, 4) {
                return true;
            }
            if page == 0 || !scratch(at) {
                return false;
            }
            self.writable = page;
            self.page = page;
        }
        true
    }

    /// An error unless all of it can be read.
    pub fn check(&mut self, at: usize, bytes: usize) -> Result<()> {
        let last = at.checked_add(bytes.max(1) - 1).ok_or(Errno::EFAULT)? & !(PAGE - 1);
        let mut page = at & !(PAGE - 1);
        loop {
            if page != self.page {
                if is_certain(at, bytes) {
                    return Ok(());
                }
                if !readable(page + 8) {
                    return Err(Errno::EFAULT);
                }
                self.page = page;
            }
            if page == last {
                return Ok(());
            }
            page += PAGE;
        }
    }
}

/// Whether this is in frames of the calling thread, between its stack's pointer and its end: memory that
/// is there and can be written to. May say no where the answer is yes.
fn is_certain(at: usize, bytes: usize) -> bool {
    const NEAR: usize = 64 << 10;
    const STACK: usize = 8 << 20;
    let mark = 0u8;
    let here = (&raw const mark) as usize;
    let Some(end) = at.checked_add(bytes) else {
        return false;
    };
    if at < here || at - here > NEAR {
        return false;
    }
    // A thread's own block is at the end of its stack; at the end of the first thread's stack is
    // the name of the program.
    // SAFETY: no pointers.
    let (block, name) = unsafe { (libc::pthread_self(), libc::getauxval(libc::AT_EXECFN)) };
    [block as usize, name as usize]
        .into_iter()
        .any(|top| top > here && top - here < STACK && end <= top)
}

/// Whether the word at this address can be written to, which is tried. getcpu(2) writes a number there;
/// it takes a third of the time that [`writable`] does.
fn scratch(at: usize) -> bool {
    // NULL stands for a number that is not wanted.
    if at == 0 {
        return false;
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

/// How many bytes from `at` on, up to the end of the page and not more than `most`, can be written
/// to: all or none. If they begin with an aligned word, it may be changed: it is going to be.
pub fn writable_in_page(at: usize, most: usize) -> usize {
    let question = if at % 8 == 0 { scratch } else { writable };
    if is_certain(at, most) || question(at) {
        (PAGE - at % PAGE).min(most)
    } else {
        0
    }
}

/// Whether this could be memory of a program's at all: what the kernel knows of a buffer at submit.
pub fn plausible(at: u64, bytes: u64) -> bool {
    at.checked_add(bytes)
        .is_some_and(|end| end <= i64::MAX as u64)
}

/// Writes a pointer-sized value to memory that may be bad.
pub fn write_u64(at: usize, value: u64) -> Result<()> {
    if !writable(at) || !writable(at.wrapping_add(7)) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: just found writable; aligned or not.
    unsafe { ptr::write_unaligned(at as *mut u64, value) };
    Ok(())
}
