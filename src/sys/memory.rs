//! Memory that may be unmapped, and heap allocation without abort.

use super::{Result, has_call_filter};
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Whether the address, which may be unmapped, holds this number. A futex operation compares it; the operation has no
/// sleeper to wake or requeue. Every sandbox allows futex(2).
pub fn holds(at: usize, number: u32) -> bool {
    static NOBODY: u32 = 0;
    let command = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel reads the number, or returns EFAULT.
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

/// An address at which nothing can be read or written. None: there is no memory for it.
pub fn nowhere() -> Option<usize> {
    // No lock: a child that was forked meanwhile would find it taken.
    static AT: AtomicUsize = AtomicUsize::new(0);
    let there = AT.load(Relaxed);
    if there != 0 {
        return Some(there);
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own.
    let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    let Err(first) = AT.compare_exchange(0, at as usize, Relaxed, Relaxed) else {
        return Some(at as usize);
    };
    // SAFETY: nobody else knows of this mapping.
    unsafe { libc::munmap(at, PAGE) };
    Some(first)
}

/// Copies memory of this process. An error if it is unmapped.
pub fn read_memory(at: usize, to: &mut [u8]) -> Result<()> {
    // A sandbox may not allow the call.
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
    // SAFETY: the kernel writes to `to` only, and checks the source.
    match unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) } {
        -1 => Err(Errno::last()),
        copied if copied as usize == to.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Copies after a check that the memory is readable. If the program unmaps it in between, that is a race in the
/// program.
fn copy_readable(at: usize, to: &mut [u8]) -> Result<()> {
    let end = at.checked_add(to.len()).ok_or(Errno::EFAULT)?;
    for page in (at & !(PAGE - 1)..end).step_by(PAGE) {
        // Avoids the address 0.
        if !readable(page + 8) {
            return Err(Errno::EFAULT);
        }
    }
    // SAFETY: checked to be readable. The bytes may change meanwhile; any bytes are valid.
    unsafe { ptr::copy_nonoverlapping(at as *const u8, to.as_mut_ptr(), to.len()) };
    Ok(())
}

/// The smallest page size. Mappings change in whole pages, so one byte answers for its page.
pub const PAGE: usize = 4096;

/// Whether the page of this address can be read. rt_sigprocmask(2) reads the set before it rejects the operation -1.
/// The set lies at the address itself, or at the end of its page, so that memory checkers see an access to the caller's
/// record.
pub fn readable(at: usize) -> bool {
    // NULL would mean no set.
    let set = at.min((at & !(PAGE - 1)) + PAGE - 8).max(8);
    // SAFETY: the kernel reads 8 bytes, or returns EFAULT; it changes no mask.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, -1, set, ptr::null_mut::<u8>(), 8) };
    ret != -1 || Errno::last() != Errno::EFAULT
}

/// The bytes of all buffers in an array of iovecs. An error if the array cannot be read, or is longer than a system
/// call allows.
pub fn vectors_bytes(at: u64, count: u64) -> Result<u64> {
    let mut sum = 0u64;
    for_vectors(at, count, |_, bytes| sum = sum.saturating_add(bytes))?;
    Ok(sum)
}

/// Looks at each buffer in an array of iovecs: its address, and its bytes. The same errors.
pub fn for_vectors(at: u64, count: u64, mut look: impl FnMut(u64, u64)) -> Result<()> {
    const SIZE: usize = size_of::<libc::iovec>();
    const PARTS: usize = 16;
    const MOST: u64 = 1024;
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let mut left = count as usize;
    let mut at = at as usize;
    while left != 0 {
        let mut parts = [0; PARTS * SIZE];
        let parts = &mut parts[..left.min(PARTS) * SIZE];
        read_memory(at, parts)?;
        for part in parts.chunks_exact(SIZE) {
            let number =
                |first: usize| u64::from_ne_bytes(std::array::from_fn(|i| part[first + i]));
            look(number(0), number(8));
        }
        at = at.wrapping_add(parts.len());
        left -= left.min(PARTS);
    }
    Ok(())
}

/// Moves `value` to the heap. Returns an error where `Box::new` would abort.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut new = try_box_uninit()?;
    new.write(value);
    // SAFETY: just written.
    Ok(unsafe { new.assume_init() })
}

/// Allocates room on the heap for a value that may be too large for a small stack.
pub fn try_box_uninit<T>() -> Result<Box<MaybeUninit<T>>> {
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the layout is not empty, and Box frees with the same layout. MaybeUninit allows any bytes.
    unsafe {
        let at = std::alloc::alloc(std::alloc::Layout::new::<T>()).cast::<MaybeUninit<T>>();
        if at.is_null() {
            return Err(Errno::ENOMEM);
        }
        Ok(Box::from_raw(at))
    }
}
