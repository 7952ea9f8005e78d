//! Whether a system call must wait for somebody else, and how the end of the process treats it.

use super::manner::is_carried;
use super::table::{self, Class, Files};
use super::{AWAIT_FILE, Call};
use crate::sys::{file_mode, file_type, has_flag, poll_now, read_memory, vectors_bytes};
use libc::c_long;
use nix::errno::Errno;
use std::os::fd::RawFd;

/// Whether it is a read of at most `most` bytes that can be announced to the device: the call itself gives position and length.
pub fn can_be_announced(call: &Call, most: u64) -> bool {
    c_long::from(call.nr) == libc::SYS_pread64 && call.args[2] <= most
}

/// Whether a request completes without waiting for somebody else. May return false although it would not wait.
pub fn is_ready(call: &Call) -> bool {
    if call.nr == AWAIT_FILE {
        let [fd, events, ..] = call.args;
        return poll_now(fd as RawFd, events as libc::c_short);
    }
    match table::class(call.nr, &call.args) {
        // A no-op, or a refused call.
        None | Some(Class::Finite) => true,
        Some(Class::Indefinite) => ends_by_itself(call) || is_ready_now(call),
    }
}

/// Whether an indefinite call has nobody to wait for, because it works on files.
fn ends_by_itself(call: &Call) -> bool {
    let fd = |arg: usize| call.args[arg] as RawFd;
    if let Some(facts) = call.key.facts() {
        return facts.file;
    }
    match table::files(call.nr) {
        Files::Nothing => false,
        Files::Changes => true,
        Files::FirstArg => is_file(fd(0)),
        Files::TwoArgs => is_file(fd(0)) && is_file(fd(1)),
        Files::Opens => leads_to_file(call),
    }
}

/// Whether a read or write of a pipe, a socket or the like can be done now.
fn is_ready_now(call: &Call) -> bool {
    let fd = call.args[0] as RawFd;
    match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => poll_now(fd, libc::POLLIN),
        // Up to this size, a pipe takes either all bytes or none.
        libc::SYS_write => poll_now(fd, libc::POLLOUT) && call.args[2] <= libc::PIPE_BUF as u64,
        libc::SYS_writev | libc::SYS_pwritev2 => poll_now(fd, libc::POLLOUT) && fits_in_pipe(call),
        _ => false,
    }
}

/// Whether a vector write has few buffers and at most PIPE_BUF bytes.
pub(super) fn fits_in_pipe(call: &Call) -> bool {
    const PARTS: u64 = 8;
    let [_, vectors, count, ..] = call.args;
    // If the buffers cannot be read, the write fails at once.
    count <= PARTS
        && vectors_bytes(vectors, count).map_or(true, |bytes| bytes <= libc::PIPE_BUF as u64)
}

/// Whether the call reads or writes files, or changes a file system. It then ends by itself, and the end of the process
/// waits for it.
pub fn is_on_file(call: &Call) -> bool {
    let counts = match table::files(call.nr) {
        Files::Opens => open_flags(call) & (libc::O_CREAT | libc::O_TRUNC) != 0,
        _ => true,
    };
    counts && ends_by_itself(call) && is_carried(call)
}

/// Whether a call of the kind that callers execute can be repeated without harm, even if it has already been made. An
/// append would put its bytes there twice.
pub fn may_be_repeated(call: &Call) -> bool {
    match call.key.facts() {
        Some(facts) => !facts.appends,
        None => !has_flag(call.args[0] as RawFd, libc::O_APPEND),
    }
}

/// Whether it is a regular file or a block device.
fn is_file(fd: RawFd) -> bool {
    matches!(file_type(fd), libc::S_IFREG | libc::S_IFBLK)
}

/// Whether the opened file does not make its opener wait, as a pipe or a terminal may. A missing file does not.
fn leads_to_file(call: &Call) -> bool {
    let (at, path) = match c_long::from(call.nr) {
        libc::SYS_openat | libc::SYS_openat2 => (call.args[0] as RawFd, call.args[1]),
        _ => (libc::AT_FDCWD, call.args[0]),
    };
    match file_mode(at, path, 0) {
        Ok(mode) => matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP | Errno::EFAULT) => true,
        Err(_) => false,
    }
}

/// The O_* flags of a call that opens a file.
fn open_flags(call: &Call) -> libc::c_int {
    match c_long::from(call.nr) {
        libc::SYS_openat => call.args[2] as libc::c_int,
        libc::SYS_openat2 => {
            let mut flags = [0; 8];
            match read_memory(call.args[2] as usize, &mut flags) {
                Ok(()) => u64::from_ne_bytes(flags) as libc::c_int,
                Err(_) => 0,
            }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.args[1] as libc::c_int,
        // SYS_creat.
        _ => libc::O_CREAT | libc::O_TRUNC,
    }
}
