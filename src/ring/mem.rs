//! The ring's memory: a sealed memfd, mapped once for the program (header, then the data area twice in a row) and once for the
//! library. If RLIMIT_FSIZE does not allow a file of that size, it is memory without a file, and there is no descriptor to give out.

use super::Header;
use crate::sys::private_fd::Marked;
use crate::sys::{Result, duplicate, holds, set_file_size};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{
    MRemapFlags, MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mremap, munmap,
};
use nix::sys::stat::Mode;
use std::ffi::c_void;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Since Linux 5.1; libc and nix do not name it everywhere.
const F_SEAL_FUTURE_WRITE: i32 = 0x10;

/// A mapping that is unmapped when it is dropped.
pub struct Mapping {
    pub at: NonNull<c_void>,
    pub bytes: usize,
}

impl Mapping {
    /// Maps a file's first `bytes` at any address. The file must keep that size.
    pub fn of(file: &OwnedFd, bytes: usize) -> Result<Mapping> {
        // SAFETY: a new mapping.
        let at = unsafe { map(None, bytes, file, 0, MapFlags::empty())? };
        Ok(Mapping { at, bytes })
    }

    /// New shared memory, zeroed.
    pub fn shared(bytes: usize) -> Result<Mapping> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping.
        let at = unsafe { mmap_anonymous(None, nonzero(bytes)?, prot, MapFlags::MAP_SHARED)? };
        Ok(Mapping { at, bytes })
    }

    /// Maps shared memory a second time, which needs no descriptor: mremap(2) with an old length of 0.
    pub fn again(&self) -> Result<Mapping> {
        // SAFETY: a new mapping.
        let at = unsafe { mremap(self.at, 0, self.bytes, MRemapFlags::MREMAP_MAYMOVE, None)? };
        Ok(Mapping { at, ..*self })
    }

    /// Does the same for a part of it, at the address `to`.
    ///
    /// # Safety
    /// The caller owns the address range at `to` and may map over it.
    unsafe fn again_at(&self, from: usize, bytes: usize, to: NonNull<c_void>) -> Result<()> {
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        // SAFETY: the caller's promise; `from` is within the mapping.
        unsafe { mremap(self.at.byte_add(from), 0, bytes, flags, Some(to))? };
        Ok(())
    }

    /// Keeps it mapped for ever and returns its address.
    pub fn leak(self) -> usize {
        std::mem::ManuallyDrop::new(self).at.as_ptr() as usize
    }

    /// Hides it from forked children. A child has no contexts and must not reap its parent's events.
    pub fn keep_from_children(&self) -> Result<()> {
        // SAFETY: mapped, by us.
        unsafe { madvise(self.at, self.bytes, MmapAdvise::MADV_DONTFORK) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: we have mapped it, and nobody has a reference into it any more.
        let _ = unsafe { munmap(self.at, self.bytes) };
    }
}

pub struct RingMem {
    ours: Mapping,
    /// The program's view. Not a Mapping: see `unmap_view`.
    view: usize,
    /// Its file: the program may have closed it, and may have a file of its own under that number. None: the memory has no file.
    fd: Option<Marked>,
    header_bytes: usize,
    ring_bytes: usize,
    pub sealed: bool,
}

// SAFETY: plain memory, shared with the program anyway; all access is through atomics.
unsafe impl Send for RingMem {}
// SAFETY: as above.
unsafe impl Sync for RingMem {}

/// A file in memory of `bytes` bytes, which can be sealed and keeps its size.
fn sealable_file(bytes: usize) -> Result<OwnedFd> {
    let fd = memfd_create(
        c"aio2-ring",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    // If the program has closed its standard descriptors, its output must not go here.
    let fd = if fd.as_raw_fd() > libc::STDERR_FILENO {
        fd
    } else {
        duplicate(fd.as_fd())?
    };
    set_file_size(&fd, bytes)?;
    fcntl(
        &fd,
        FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
    )?;
    Ok(fd)
}

/// After this no seal can be added. If it returns true, the memory can no longer be mapped for writing.
fn seal(fd: &OwnedFd) -> Result<bool> {
    // SAFETY: an fcntl with an integer argument.
    let sealed = unsafe {
        let seals = F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
        libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
    };
    if !sealed {
        fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL))?;
    }
    Ok(sealed)
}

pub fn page_bytes() -> usize {
    // SAFETY: no arguments but a constant.
    (unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) as usize
}

impl RingMem {
    /// `ring_bytes` is a power of two and at least a page.
    pub fn new(ring_bytes: usize) -> Result<RingMem> {
        let header_bytes = page_bytes();
        let file_bytes = header_bytes + ring_bytes;
        let fd = match sealable_file(file_bytes) {
            Err(Errno::EFBIG) => None,
            other => Some(other?),
        };
        let ours = match &fd {
            Some(fd) => Mapping::of(fd, file_bytes)?,
            None => Mapping::shared(file_bytes)?,
        };
        // Reserve addresses for header, data and data again; then map the memory there piece by piece.
        let view_bytes = header_bytes + 2 * ring_bytes;
        // SAFETY: a new mapping without access.
        let at = unsafe {
            mmap_anonymous(
                None,
                nonzero(view_bytes)?,
                ProtFlags::PROT_NONE,
                MapFlags::MAP_PRIVATE,
            )?
        };
        let reserved = Mapping {
            at,
            bytes: view_bytes,
        };
        for (to, from, bytes) in [(0, 0, file_bytes), (file_bytes, header_bytes, ring_bytes)] {
            // SAFETY: only within the range that was just reserved.
            unsafe {
                let to = at.byte_add(to);
                match &fd {
                    Some(fd) => {
                        let to = Some(to.as_ptr() as usize);
                        map(to, bytes, fd, from, MapFlags::MAP_FIXED)?;
                    }
                    None => ours.again_at(from, bytes, to)?,
                }
            }
        }
        ours.keep_from_children()?;
        reserved.keep_from_children()?;
        let sealed = match &fd {
            Some(fd) => seal(fd)?,
            None => false,
        };
        let fd = match fd {
            Some(fd) => Some(Marked::new(fd).ok_or(Errno::ENOMEM)?),
            None => None,
        };
        Ok(RingMem {
            ours,
            view: reserved.leak(),
            fd,
            header_bytes,
            ring_bytes,
            sealed,
        })
    }

    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is at least a page, aligned to one, and consists of atomics only;
        // any content is a valid Header.
        unsafe { self.ours.at.cast().as_ref() }
    }

    pub fn data(&self) -> &[AtomicU64] {
        // SAFETY: `ring_bytes` bytes behind the header are mapped; any content is valid.
        unsafe {
            let at = self.ours.at.as_ptr().byte_add(self.header_bytes).cast();
            std::slice::from_raw_parts(at, self.ring_bytes / 8)
        }
    }

    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// The address of the program's view, which is the context's handle.
    pub fn view(&self) -> usize {
        self.view
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, Marked::number)
    }

    /// A new descriptor that cannot be mapped for writing.
    pub fn open_read_only(&self) -> Result<OwnedFd> {
        use std::io::Write;
        let fd = self.fd.as_ref().ok_or(Errno::EFBIG)?;
        let fd = fd.fd().ok_or(Errno::EBADF)?;
        let mut path = [0; 32];
        let _ = write!(&mut path[..], "/proc/thread-self/fd/{}\0", fd.as_raw_fd());
        let path = std::ffi::CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EBADF)?;
        match open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            // No /proc: the seal alone must do.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) if self.sealed => duplicate(fd),
            other => other,
        }
    }

    /// Unmaps the program's view where it is still ours. The program may have unmapped or moved all or part of it, and may have
    /// mapped something else at that address, which we must not touch.
    fn unmap_view(&self) {
        // We write a unique value to each piece through our mapping, and look for it in the view. A piece is a page, or more if there
        // would be too many pieces.
        let nonce = crate::sys::monotonic_ns() ^ (self.header().id.load(Acquire) << 32) | 1;
        let piece = page_bytes().max(self.ring_bytes / PIECES_MAX);
        self.header().nonce.store(nonce, Release);
        for word in self.data().iter().step_by(piece / 8) {
            word.store(nonce, Release);
        }
        let header = self.view + offset_of!(Header, nonce);
        unmap_run(self.view, self.header_bytes, self.header_bytes, |at| {
            reads_as(at - self.view + header, nonce)
        });
        let data = self.view + self.header_bytes;
        unmap_run(data, 2 * self.ring_bytes, piece, |at| reads_as(at, nonce));
    }
}

/// At most this many pieces of the data area are checked.
const PIECES_MAX: usize = 256;

/// Unmaps the pieces for which `ours` is true, adjacent ones in one call.
fn unmap_run(start: usize, bytes: usize, piece: usize, ours: impl Fn(usize) -> bool) {
    let mut run = start;
    for at in (start..start + bytes).step_by(piece) {
        if ours(at) {
            continue;
        }
        unmap(run, at);
        run = at + piece;
    }
    unmap(run, start + bytes);
}

fn unmap(from: usize, to: usize) {
    if from < to {
        // SAFETY: we have mapped it, and with io_destroy2() the program has given up the context.
        unsafe { libc::munmap(from as *mut c_void, to - from) };
    }
}

/// Whether `word` is at an address, at which nothing need be mapped.
fn reads_as(at: usize, word: u64) -> bool {
    let halves = [word as u32, (word >> 32) as u32];
    halves
        .into_iter()
        .enumerate()
        .all(|(i, half)| holds(at + i * size_of::<u32>(), half))
}

impl Drop for RingMem {
    fn drop(&mut self) {
        self.unmap_view();
    }
}

/// Maps an empty header where an inherited handle of the parent's points, so that the child finds no event there instead of no
/// memory. Only the child sees it. It is mapped only if the address is free.
pub fn blank_view(at: usize) {
    // SAFETY: MAP_FIXED_NOREPLACE maps at a free place or not at all.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        libc::mmap(
            at as *mut c_void,
            page_bytes(),
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
    }
}

fn nonzero(bytes: usize) -> Result<NonZeroUsize> {
    NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)
}

/// # Safety
/// With MAP_FIXED, the caller owns the range and may map over it.
unsafe fn map(
    at: Option<usize>,
    bytes: usize,
    fd: &OwnedFd,
    offset: usize,
    flags: MapFlags,
) -> Result<NonNull<c_void>> {
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let at = at.and_then(NonZeroUsize::new);
    // SAFETY: as the caller promises.
    unsafe {
        mmap(
            at,
            nonzero(bytes)?,
            prot,
            MapFlags::MAP_SHARED | flags,
            fd,
            offset as libc::off_t,
        )
    }
}
