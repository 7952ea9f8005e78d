//! IOCB_ATTR_CACHE: whether a buffered read was served from the page cache.
//!
//! The answer is measured. First the read is tried without waiting (RWF_NOWAIT). If that returns all bytes, the request
//! is done. The number of cached bytes is asked before the try (cachestat(2), Linux 6.5), because the try itself starts
//! read-ahead. Without cachestat, it is the number of bytes that the try returned.
//!
//! If the try does not return all bytes, the whole read is made again, in one call. Cached bytes are then copied twice,
//! but the request's result and the file's position are the same as after one system call. For the same reason, a read
//! at the file's own position is tried at an explicit one.

use super::{Answer, Attribute, Begin, Submit};
use crate::ring::page_bytes;
use crate::sys::vectors_bytes;
use crate::syscall::Call;
use libc::c_long;
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

pub struct Cache;

const HIT: usize = 0;
const CACHED: usize = 1;
const ASKED: usize = 2;

impl Attribute for Cache {
    fn submitted(&self, submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        match c_long::from(submit.call.nr) {
            libc::SYS_pread64 | libc::SYS_preadv | libc::SYS_preadv2 => Ok(()),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn begins(&self, _call: &Call, _answer: &mut Answer) -> Begin {
        Begin::Override
    }

    fn carry_out(
        &self,
        call: &Call,
        answer: &mut Answer,
        make: fn(&Call) -> i64,
    ) -> Result<i64, Errno> {
        measure(call, answer, make)
    }

    /// A read by the kernel's AIO bypasses the page cache.
    fn ended_in_kernel(&self, answer: &mut Answer) {
        answer.fail(Errno::EOPNOTSUPP);
    }

    fn skipped(&self, answer: &mut Answer) {
        answer.fail(Errno::ECANCELED);
    }
}

fn measure(call: &Call, answer: &mut Answer, make: fn(&Call) -> i64) -> Result<i64, Errno> {
    if cfg!(aio2_fuzz) {
        return Err(Errno::EOPNOTSUPP);
    }
    let read = Read::new(call)?;
    let there = read.file.bytes_from(read.at).min(read.bytes_asked_most());
    let cached = read.file.cached(read.at, there);
    // It matters only if bytes are missing whether the try makes the device read.
    let suspect = cached.is_some_and(|cached| cached < there);
    let before = suspect.then(blocks_read);
    let tried = read.try_now();
    let from_device = before.is_some_and(|before| blocks_read() != before);
    let mut set = |hit: bool, cached: u64| {
        answer.out[HIT] = hit.into();
        answer.out[CACHED] = cached;
        answer.out[ASKED] = read.asked;
    };
    match tried {
        // All bytes, or the end of the file.
        Ok(got) if got == 0 || got >= there => {
            // If the device was read, the try has waited for it, even if it was fast.
            set(!from_device, cached.unwrap_or(got).min(got));
            Ok(if read.own_position {
                make(call)
            } else {
                got as i64
            })
        }
        Ok(got) => {
            set(
                false,
                cached.filter(|&cached| cached < there).unwrap_or(got),
            );
            Ok(make(call))
        }
        Err(Errno::EAGAIN) => {
            set(false, cached.filter(|&cached| cached < there).unwrap_or(0));
            Ok(make(call))
        }
        // This file system does not support such reads: the answer comes from the cache's state alone.
        Err(Errno::EOPNOTSUPP) => {
            let (hit, cached) = read.file.without_try(read.at, there, cached)?;
            set(hit, cached);
            Ok(make(call))
        }
        Err(errno) => Err(errno),
    }
}

/// A read, in the form of preadv2(2).
struct Read {
    file: File,
    /// The position where it begins.
    at: u64,
    /// It reads at the file's own position, of which `at` is a copy.
    own_position: bool,
    vectors: u64,
    count: u64,
    /// One vector, for a read with a plain buffer.
    buffer: Option<[u64; 2]>,
    flags: u64,
    asked: u64,
}

impl Read {
    fn new(call: &Call) -> Result<Read, Errno> {
        let [fd, memory, count, at, _, flags] = call.args;
        let file = File::new(fd as RawFd)?;
        let nr = c_long::from(call.nr);
        let with_flags = nr == libc::SYS_preadv2;
        let own_position = with_flags && at == u64::MAX;
        let at = if own_position { file.position()? } else { at };
        if at > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let plain = nr == libc::SYS_pread64;
        Ok(Read {
            file,
            at,
            own_position,
            vectors: memory,
            count,
            buffer: plain.then_some([memory, count]),
            flags: if with_flags { flags } else { 0 },
            asked: if plain {
                count
            } else {
                vectors_bytes(memory, count)?
            },
        })
    }

    /// The most bytes that one call reads.
    fn bytes_asked_most(&self) -> u64 {
        const MOST: u64 = 0x7fff_f000;
        self.asked.min(MOST)
    }

    fn try_now(&self) -> Result<u64, Errno> {
        let (vectors, count) = match &self.buffer {
            Some(buffer) => (buffer.as_ptr() as u64, 1),
            None => (self.vectors, self.count),
        };
        let flags = self.flags as libc::c_int | libc::RWF_NOWAIT;
        let (fd, nr) = (self.file.fd, libc::SYS_preadv2);
        // SAFETY: the program's memory, as in the call that it requested, or our vector that names it.
        let ret = unsafe { libc::syscall(nr, fd, vectors, count, self.at, 0u64, flags) };
        Errno::result(ret).map(|got| got as u64)
    }
}

/// A file that uses the page cache.
struct File {
    fd: RawFd,
    bytes: u64,
    /// It has blocks on a device, as far as its status shows.
    has_blocks: bool,
    is_device: bool,
}

impl File {
    /// An error if the file does not use the page cache.
    fn new(fd: RawFd) -> Result<File, Errno> {
        let mut stat = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the kernel writes to our structure.
        let ret = unsafe { libc::fstat(fd, stat.as_mut_ptr()) };
        Errno::result(ret)?;
        // SAFETY: the kernel filled it in; zeros are valid, too.
        let stat = unsafe { stat.assume_init() };
        // SAFETY: integer arguments only.
        let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
        if flags == -1 || flags & c_long::from(libc::O_DIRECT) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let (is_device, bytes) = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => (false, stat.st_size as u64),
            libc::S_IFBLK => (true, device_bytes(fd)?),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        Ok(File {
            fd,
            bytes,
            has_blocks: is_device || stat.st_blocks != 0,
            is_device,
        })
    }

    fn position(&self) -> Result<u64, Errno> {
        // SAFETY: integer arguments only.
        let ret = unsafe { libc::syscall(libc::SYS_lseek, self.fd, 0i64, libc::SEEK_CUR) };
        Errno::result(ret).map(|at| at as u64)
    }

    /// Bytes of the file from `at` on.
    fn bytes_from(&self, at: u64) -> u64 {
        self.bytes.saturating_sub(at)
    }

    /// How many of `bytes` bytes from `at` on are in the page cache; None if the kernel does not tell.
    fn cached(&self, at: u64, bytes: u64) -> Option<u64> {
        if bytes == 0 {
            return Some(0);
        }
        let page = page_bytes() as u64;
        let end = at + bytes;
        let (first, last) = (at / page, (end - 1) / page);
        let pages = self.pages(at, bytes)?.cached;
        if pages == 0 || pages > last - first {
            return Some(if pages == 0 { 0 } else { bytes });
        }
        // The read may cover only parts of the first and last page.
        let is_cached = |number: u64| Some(self.pages(number * page, page)?.cached != 0);
        let mut cached = pages * page;
        if at % page != 0 && is_cached(first)? {
            cached -= at % page;
        }
        if end % page != 0 && is_cached(last)? {
            cached -= page - end % page;
        }
        Some(cached)
    }

    fn pages(&self, at: u64, bytes: u64) -> Option<Pages> {
        /// The same on all architectures. Not in the libc crate.
        const SYS_CACHESTAT: c_long = 451;
        let range = [at, bytes];
        // Pages: cached, dirty, being written, evicted, recently evicted.
        let mut stat = [0u64; 5];
        // SAFETY: the kernel accesses two structures of ours, of its own sizes.
        let ret =
            unsafe { libc::syscall(SYS_CACHESTAT, self.fd, range.as_ptr(), stat.as_mut_ptr(), 0) };
        (ret == 0).then_some(Pages {
            cached: stat[0],
            evicted: stat[3],
        })
    }

    /// Whether a read is a hit, and its cached bytes, if reads without waiting are not supported.
    fn without_try(&self, at: u64, bytes: u64, cached: Option<u64>) -> Result<(bool, u64), Errno> {
        if self.is_in_memory() {
            // Data that was never written is not cached, and reading it does not wait. But data may have been swapped
            // out.
            let pages = self.pages(at, bytes.max(1));
            let out = pages.is_some_and(|pages| pages.evicted != 0);
            return match cached.filter(|_| out) {
                Some(cached) => Ok((false, cached)),
                None => Ok((true, bytes)),
            };
        }
        // Files of /proc and the like generate their content.
        let cached = cached.filter(|_| self.has_blocks);
        let cached = cached.ok_or(Errno::EOPNOTSUPP)?;
        Ok((cached == bytes, cached))
    }

    /// Whether the file exists only in the page cache.
    fn is_in_memory(&self) -> bool {
        if self.is_device {
            // Only its node may be in memory.
            return false;
        }
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58f6;
        const HUGETLBFS: i64 = 0x9584_58f6;
        let mut stat = MaybeUninit::<libc::statfs>::zeroed();
        // SAFETY: the kernel writes to our structure, for which zeros are valid.
        let kind = unsafe {
            libc::fstatfs(self.fd, stat.as_mut_ptr());
            stat.assume_init().f_type
        };
        matches!(kind, TMPFS | RAMFS | HUGETLBFS)
    }
}

struct Pages {
    cached: u64,
    evicted: u64,
}

fn device_bytes(fd: RawFd) -> Result<u64, Errno> {
    const BLKGETSIZE64: u32 = 0x8008_1272;
    let mut bytes = 0u64;
    // SAFETY: the kernel writes to our number.
    let ret = unsafe { libc::syscall(libc::SYS_ioctl, fd, BLKGETSIZE64, &raw mut bytes) };
    Errno::result(ret).map(|_| bytes)
}

/// Blocks that this thread has read from devices.
fn blocks_read() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes to our structure, which is valid as zeros if the call fails.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_inblock
    }
}
