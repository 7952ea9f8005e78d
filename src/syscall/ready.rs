//! Whether a system call must wait for somebody else, and how the end of the process treats it.

use super::manner::is_carried;
use super::table::{self, Class, Files};
use super::{AWAIT_FILE, Call};
use crate::sys::{
    file_mode, file_type, has_flag, poll_now, read_memory, ready_now, socket_option,
    terminal_modes, vectors_bytes,
};
use libc::{c_int, c_long, c_short};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// Whether it is a read of at most `most` bytes that can be announced to the device: the call itself gives position and length.
pub fn can_be_announced(call: &Call, most: u64) -> bool {
    c_long::from(call.nr) == libc::SYS_pread64 && call.args[2] <= most
}

/// Whether a request should be tried without waiting, or carried out if it cannot be tried. May return false although it would not wait.
pub fn is_ready(call: &Call) -> bool {
    // Its own poll is the try: some files report an event only once.
    call.nr == AWAIT_FILE || waits_for_nobody(call) || is_ready_now(call, true)
}

/// The same for a request that cannot be tried: whether its plain call would not wait, unless somebody else is faster.
pub fn is_ready_plainly(call: &Call) -> bool {
    waits_for_nobody(call) || is_ready_now(call, false)
}

/// Whether the call ends by itself.
pub fn waits_for_nobody(call: &Call) -> bool {
    match table::class(call.nr, &call.args) {
        // A no-op, or a refused call.
        None | Some(Class::Finite) => true,
        Some(Class::Indefinite) => ends_by_itself(call),
    }
}

/// Whether it reads from the file's position.
fn reads(call: &Call) -> bool {
    matches!(c_long::from(call.nr), libc::SYS_read | libc::SYS_readv)
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
        // Some files of the kernel's wait for new content, and say so (trace_pipe).
        Files::FirstArg if reads(call) => is_file(fd(0)) && poll_now(fd(0), libc::POLLIN),
        Files::FirstArg => is_file(fd(0)),
        Files::TwoArgs => is_file(fd(0)) && is_file(fd(1)),
        Files::Opens => leads_to_file(call),
    }
}

/// Whether a read or write of a pipe, a socket or the like can be done now. `is_tried`: it may also turn out that it would wait, or that a
/// part can be moved.
fn is_ready_now(call: &Call, is_tried: bool) -> bool {
    let [fd, _, _, fourth, ..] = call.args;
    let (fd, third) = (fd as RawFd, call.args[2]);
    let (event, flags) = match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => (libc::POLLIN, 0),
        libc::SYS_accept | libc::SYS_accept4 => (libc::POLLIN, 0),
        libc::SYS_recvfrom => (libc::POLLIN, fourth as c_int),
        libc::SYS_recvmsg => (libc::POLLIN, third as c_int),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwritev2 => (libc::POLLOUT, 0),
        libc::SYS_sendto => (libc::POLLOUT, fourth as c_int),
        libc::SYS_sendmsg => (libc::POLLOUT, third as c_int),
        _ => return false,
    };
    if flags & libc::MSG_DONTWAIT != 0 || has_flag(fd, libc::O_NONBLOCK) {
        return true;
    }
    let seen = ready_now(fd, event) as c_short;
    // Of a socket, the error may be for somebody else (MSG_ERRQUEUE).
    let seen_of_socket = if is_tried {
        seen
    } else {
        seen & !libc::POLLERR
    };
    if event == libc::POLLIN {
        return match socket_option(fd, libc::SO_RCVLOWAT, 0) {
            // It may be ready before all of the bytes are there that the call waits for.
            Ok(least) => seen_of_socket != 0 && least <= 1 && flags & libc::MSG_WAITALL == 0,
            Err(_) => seen != 0,
        };
    }
    let has_room = seen & libc::POLLOUT != 0;
    match file_type(fd) {
        libc::S_IFSOCK if is_tried && can_move_part(call) => seen_of_socket != 0,
        libc::S_IFSOCK => has_room && is_small(call),
        // An eventfd, or another file without a type. An eventfd that is full reports an error.
        0 => seen & libc::POLLNVAL != 0 || has_room && adds_at_most_one(call),
        // A terminal may have less room.
        libc::S_IFCHR if terminal_modes(fd).is_some() => false,
        _ => seen & libc::POLLERR != 0 || has_room && is_small(call),
    }
}

/// Whether a write or send to a socket returns the number of bytes for which there is room, if it is asked not to wait.
pub(super) fn can_move_part(call: &Call) -> bool {
    match c_long::from(call.nr) {
        libc::SYS_write => true,
        libc::SYS_sendto => call.args[3] as c_int & !libc::MSG_NOSIGNAL == 0,
        _ => false,
    }
}

/// Whether a write has at most PIPE_BUF bytes. Up to this size, a pipe takes either all bytes or none.
pub(super) fn is_small(call: &Call) -> bool {
    match c_long::from(call.nr) {
        libc::SYS_write | libc::SYS_sendto => call.args[2] <= libc::PIPE_BUF as u64,
        libc::SYS_sendmsg => false,
        _ => fits_in_pipe(call),
    }
}

/// Whether a write to an eventfd that is not full does not wait: poll(2) tells only that 1 can be added.
fn adds_at_most_one(call: &Call) -> bool {
    let [_, at, bytes, ..] = call.args;
    let mut number = [0; 8];
    // If there are fewer bytes, or they cannot be read, the write fails at once.
    c_long::from(call.nr) == libc::SYS_write
        && (bytes < 8
            || read_memory(at as usize, &mut number).is_err()
            || u64::from_ne_bytes(number) <= 1)
}

/// Whether a vector write has few buffers and at most PIPE_BUF bytes.
fn fits_in_pipe(call: &Call) -> bool {
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
fn open_flags(call: &Call) -> c_int {
    match c_long::from(call.nr) {
        libc::SYS_openat => call.args[2] as c_int,
        libc::SYS_openat2 => {
            let mut flags = [0; 8];
            match read_memory(call.args[2] as usize, &mut flags) {
                Ok(()) => u64::from_ne_bytes(flags) as c_int,
                Err(_) => 0,
            }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.args[1] as c_int,
        // SYS_creat.
        _ => libc::O_CREAT | libc::O_TRUNC,
    }
}
