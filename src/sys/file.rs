//! Descriptors and facts about their files.

use super::{Result, Shield, limit, nowhere, poll_now};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::ftruncate;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The path in /proc of a descriptor's file, as a C string. It names the calling thread because /proc/self means the
/// process's first thread, which may have ended.
pub fn fd_path(fd: RawFd) -> [u8; 32] {
    use std::io::Write;
    let mut path = [0; 32];
    // The text is at least one byte shorter than the buffer, so a 0 follows it.
    let _ = write!(&mut path[..], "/proc/thread-self/fd/{fd}");
    path
}

/// Adds 1 to an eventfd.
pub fn write_eventfd(fd: RawFd) {
    add_to_eventfd(fd, 1);
}

/// Adds to an eventfd. False if the eventfd is full.
pub fn add_to_eventfd(fd: RawFd, count: u64) -> bool {
    // SAFETY: the kernel reads the eight bytes of `count`.
    unsafe { libc::syscall(libc::SYS_write, fd, &raw const count, 8) == 8 }
}

/// Sets the size of a new file. If RLIMIT_FSIZE does not allow it, the result is an error and no signal is raised.
pub fn set_file_size(file: &OwnedFd, bytes: usize) -> Result<()> {
    if limit(libc::RLIMIT_FSIZE) < bytes as u64 {
        return Err(Errno::EFBIG);
    }
    // Another thread may lower the limit from here on.
    let shield = Shield::new();
    let result = ftruncate(file, bytes as libc::off_t);
    if result == Err(Errno::EFBIG) {
        shield.consume();
    }
    result
}

/// The type of a descriptor's file (S_IFMT of the mode); 0 if the descriptor is not open.
pub fn file_type(fd: RawFd) -> u32 {
    what_is(fd).format
}

/// The file that a descriptor names.
#[derive(Default)]
pub struct Named {
    /// The file type (S_IFMT); 0: the descriptor is not open.
    pub format: u32,
    /// The block device itself, or the device that the file is on.
    pub device: u64,
    pub bytes: u64,
}

pub fn what_is(fd: RawFd) -> Named {
    let Ok(file) = look_at(fd, c"".as_ptr() as u64, libc::AT_EMPTY_PATH) else {
        return Named::default();
    };
    let format = file.mode & libc::S_IFMT;
    Named {
        format,
        device: if format == libc::S_IFBLK {
            file.is
        } else {
            file.is_on
        },
        bytes: file.bytes,
    }
}

/// An option (SOL_SOCKET) of a socket, of which this is some value.
pub fn socket_option<T: Copy>(fd: RawFd, name: libc::c_int, mut value: T) -> Result<T> {
    let mut bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: a value of ours, of this size, of a type for which all that the kernel writes is valid: integers.
    let ret = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, name, value, &mut bytes)
    };
    Errno::result(ret).map(|_| value)
}

/// The modes of a terminal; None: it is none.
pub fn terminal_modes(fd: RawFd) -> Option<libc::termios> {
    let mut modes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: a structure of ours, which is written if the call succeeds.
    unsafe { (libc::tcgetattr(fd, modes.as_mut_ptr()) == 0).then(|| modes.assume_init()) }
}

/// Whether the process may not read from this terminal, because it is its own and others have it now.
pub fn is_in_background(fd: RawFd) -> bool {
    // SAFETY: integers.
    let (foreground, own) = unsafe { (libc::tcgetpgrp(fd), libc::getpgrp()) };
    foreground >= 0 && foreground != own
}

/// Whether a descriptor was opened with this flag.
pub fn has_flag(fd: RawFd, flag: libc::c_int) -> bool {
    // SAFETY: integer arguments only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags != -1 && flags & flag != 0
}

/// Whether a read of this FIFO would wait for a writer.
pub fn fifo_waits(fd: RawFd) -> bool {
    // The descriptor is itself a writer: the FIFO is never at its end, and vmsplice(2) goes the other way.
    if has_flag(fd, libc::O_RDWR) {
        return !poll_now(fd, libc::POLLIN);
    }
    let Some(at) = nowhere() else {
        return false;
    };
    let one = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: 1,
    };
    // poll(2) does not tell an empty FIFO from one at its end. This does. It takes no byte out, because it cannot put one there.
    // Not libc's function: it is a cancellation point.
    // SAFETY: the kernel finds that it cannot write to this memory, nor read it.
    let taken = unsafe { libc::syscall(libc::SYS_vmsplice, fd, &one, 1, libc::SPLICE_F_NONBLOCK) };
    taken == -1 && Errno::last() == Errno::EAGAIN
}

/// The type and mode of a file. `path` is an address that the kernel checks.
pub fn file_mode(at: RawFd, path: u64, flags: libc::c_int) -> Result<u32> {
    look_at(at, path, flags).map(|file| file.mode)
}

struct Looks {
    mode: u32,
    /// Device numbers.
    is: u64,
    is_on: u64,
    bytes: u64,
}

fn look_at(at: RawFd, path: u64, flags: libc::c_int) -> Result<Looks> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let (with, what) = (
        flags | libc::AT_STATX_DONT_SYNC,
        libc::STATX_TYPE | libc::STATX_SIZE,
    );
    // SAFETY: the kernel writes to our buffers only, which are valid as zeros if a call fails. The kernel checks the
    // program's path.
    unsafe {
        match libc::syscall(libc::SYS_statx, at, path, with, what, stat.as_mut_ptr()) {
            0 => {
                let stat = stat.assume_init();
                Ok(Looks {
                    mode: stat.stx_mode.into(),
                    is: libc::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
                    is_on: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                    bytes: stat.stx_size,
                })
            }
            _ if Errno::last() != Errno::ENOSYS && Errno::last() != Errno::EPERM => {
                Err(Errno::last())
            }
            // A sandbox does not allow statx(2).
            _ => {
                let mut stat = MaybeUninit::<libc::stat>::zeroed();
                let ret = libc::syscall(libc::SYS_newfstatat, at, path, stat.as_mut_ptr(), flags);
                Errno::result(ret)?;
                let stat = stat.assume_init();
                Ok(Looks {
                    mode: stat.st_mode,
                    is: stat.st_rdev,
                    is_on: stat.st_dev,
                    bytes: stat.st_size as u64,
                })
            }
        }
    }
}

/// Duplicates a descriptor, above the standard ones.
pub fn duplicate(fd: BorrowedFd) -> Result<OwnedFd> {
    let fd = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: the descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether descriptors of two threads name the same open file. Each thread may have its own table. False if the kernel
/// cannot tell.
pub fn is_same_file(one: (u32, RawFd), other: (u32, RawFd)) -> bool {
    const KCMP_FILE: i32 = 0;
    // SAFETY: integer arguments only.
    unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_FILE, one.1, other.1) == 0 }
}
