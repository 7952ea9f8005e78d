//! Memory that may not be there, and room on the heap.

use super::{Result, has_call_filter};
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::ptr;

/// Whether that number is at that address, where nothing may be mapped. A futex operation compares it, which
/// then has nobody to wake and nobody to move: a call that every sandbox knows.
pub fn holds(at: usize, number: u32) -> bool {
    static NOBODY: u32 = 0;
    let command = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel reads the number, or says EFAULT.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            at,
            command,
            0,
            0usize,
            &raw const NOBODY,
            number,
        ) == 0
    }
}

/// Copies memory of this process that may not be there: then it is an error.
pub fn read_memory(at: usize, to: &mut [u8]) -> Result<()> {
    // A sandbox may not know the call.
    if !has_call_filter() {
        match copy_by_kernel(at, to) {
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            other => return other,
        }
    }
    copy_readable(at, to)
}

fn copy_by_kernel(at: usize, to: &mut [u8]) -> Result<()> {
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: to.len(),
    };
    // SAFETY: the kernel writes to `to` alone, and reads the rest only if it is there.
    match unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) } {
        -1 => Err(Errno::last()),
        copied if copied as usize == to.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// The same by asking first whether it is there. A program that unmaps it in between has a race with itself.
fn copy_readable(at: usize, to: &mut [u8]) -> Result<()> {
    let end = at.checked_add(to.len()).ok_or(Errno::EFAULT)?;
    for page in (at & !(PAGE - 1)..end).step_by(PAGE) {
        // Not the address 0.
        if !readable(page + 8) {
            return Err(Errno::EFAULT);
        }
    }
    // SAFETY: readable, as far as it can be known; what is there may change meanwhile, and any bytes do.
    unsafe { ptr::copy_nonoverlapping(at as *const u8, to.as_mut_ptr(), to.len()) };
    Ok(())
}

/// The smallest page there is: what is true of one byte is true of the rest of its page.
pub const PAGE: usize = 4096;

/// Whether the page of this address can be read. rt_sigprocmask(2) reads a set before it finds that there is
/// nothing called -1 to do with it. The set is at the address, as far as the page goes: tools that look for
/// the use of undefined memory see that of the caller's record.
pub fn readable(at: usize) -> bool {
    // NULL stands for no set.
    let set = at.min((at & !(PAGE - 1)) + PAGE - 8).max(8);
    // SAFETY: the kernel reads 8 bytes, or says EFAULT; no mask is changed.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, -1, set, ptr::null_mut::<u8>(), 8) };
    ret != -1 || Errno::last() != Errno::EFAULT
}

/// The bytes of all buffers that an array of iovecs names. An error if it cannot be read, or has more
/// of them than a system call takes.
pub fn vectors_bytes(at: u64, count: u64) -> Result<u64> {
    const SIZE: usize = size_of::<libc::iovec>();
    const PARTS: usize = 16;
    const MOST: u64 = 1024;
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let mut left = count as usize;
    let mut at = at as usize;
    let mut sum = 0u64;
    while left != 0 {
        let mut parts = [0; PARTS * SIZE];
        let parts = &mut parts[..left.min(PARTS) * SIZE];
        read_memory(at, parts)?;
        for part in parts.chunks_exact(SIZE) {
            let len = u64::from_ne_bytes(std::array::from_fn(|i| part[8 + i]));
            sum = sum.saturating_add(len);
        }
        at = at.wrapping_add(parts.len());
        left -= left.min(PARTS);
    }
    Ok(sum)
}

/// Moves `value` to the heap; an error where `Box::new` would abort.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut new = try_box_uninit()?;
    new.write(value);
    // SAFETY: just written.
    Ok(unsafe { new.assume_init() })
}

/// Room on the heap for something too large to be made on a stack, which may be a small one.
pub fn try_box_uninit<T>() -> Result<Box<MaybeUninit<T>>> {
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the layout is not empty, and the one with which Box will free it; what is there may be
    // anything.
    unsafe {
        let at = std::alloc::alloc(std::alloc::Layout::new::<T>()).cast::<MaybeUninit<T>>();
        if at.is_null() {
            return Err(Errno::ENOMEM);
        }
        Ok(Box::from_raw(at))
    }
}
