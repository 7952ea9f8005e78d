//! Tries a call that may wait for somebody else, without waiting.
//!
//! If the kernel can be asked to make the call without waiting, and would then return the same result as the plain call, it is asked.
//! Otherwise a worker makes the plain call, because nobody knows beforehand whether it waits.

use super::Call;
use super::make::system_call;
use super::ready::{can_move_part, is_small};
use crate::sys::{
    fifo_waits, file_type, has_call_filter, has_flag, is_in_background, poll_now, read_memory,
    socket_option, terminal_modes,
};
use libc::{c_int, c_long, c_short};
use std::os::fd::RawFd;

/// The result of a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    /// The call was made, and returned this.
    Done(i64),
    /// The call would wait until poll(2) reports one of these events for this descriptor.
    Waits(RawFd, c_short),
    /// The plain call has to be made, and may wait. `moved` of its bytes have been moved already.
    MayWait { moved: u64 },
}

const PLAINLY: Tried = Tried::MayWait { moved: 0 };
const WOULD_WAIT: i64 = -(libc::EAGAIN as i64);
const NOT_ASKED: i64 = -(libc::EOPNOTSUPP as i64);

/// The most bytes that the kernel moves in one call.
const BYTES_MAX: u64 = 0x7fff_f000;

pub fn try_nowait(call: &Call) -> Tried {
    // A system call filter may end the program for a call that it does not know.
    if cfg!(aio2_fuzz) || has_call_filter() {
        return PLAINLY;
    }
    let fd = call.args[0] as RawFd;
    let (event, res) = match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => (libc::POLLIN, read(call, fd)),
        libc::SYS_recvfrom => (libc::POLLIN, receive(call, fd, 3)),
        libc::SYS_recvmsg => (libc::POLLIN, receive(call, fd, 2)),
        libc::SYS_accept => (libc::POLLIN, accept(fd, 0)),
        libc::SYS_accept4 => (libc::POLLIN, accept(fd, call.args[3] as c_int)),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwritev2 => (libc::POLLOUT, write(call, fd)),
        libc::SYS_sendto => (libc::POLLOUT, send(call)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll if (call.args[2] as c_int) < 0 => return poll(call),
        libc::SYS_ppoll if call.args[2] == 0 => return poll(call),
        _ => return PLAINLY,
    };
    match res {
        None | Some(NOT_ASKED) => PLAINLY,
        // The program itself asks not to wait, or has set a time limit, which begins with the plain call.
        Some(WOULD_WAIT) if has_flag(fd, libc::O_NONBLOCK) || has_time_limit(fd, event) => PLAINLY,
        Some(WOULD_WAIT) => Tried::Waits(fd, event),
        Some(res) if event == libc::POLLOUT && res > 0 && is_part(call, res as u64) => {
            Tried::MayWait { moved: res as u64 }
        }
        Some(res) => Tried::Done(res),
    }
}

/// The rest of a write that has moved `moved` bytes. Only for calls that may move a part.
pub fn rest_of(call: &Call, moved: u64) -> Call {
    let mut rest = *call;
    rest.args[1] += moved;
    rest.args[2] -= moved;
    rest
}

/// Whether a plain write would continue after `moved` bytes. A vector write moves all or nothing here.
fn is_part(call: &Call, moved: u64) -> bool {
    can_move_part(call) && moved < call.args[2]
}

fn read(call: &Call, fd: RawFd) -> Option<i64> {
    match file_type(fd) {
        libc::S_IFSOCK if !returns_any(fd) => None,
        // recvfrom(2) does the same. Before Linux 6.5, preadv2(2) without waiting does not support sockets.
        libc::S_IFSOCK if is_plain_read(call) => {
            let receive = Call {
                nr: libc::SYS_recvfrom as u32,
                args: [call.args[0], call.args[1], call.args[2], 0, 0, 0],
                ..*call
            };
            Some(without_waiting(&receive, 3))
        }
        // 0: a file without a type (eventfd, timerfd). Other devices are not asked, because even that may wait.
        libc::S_IFSOCK | 0 => by_vectors(call, libc::SYS_preadv2),
        libc::S_IFIFO => match by_vectors(call, libc::SYS_preadv2) {
            // A FIFO with a name, or an old kernel.
            Some(NOT_ASKED) if is_plain_read(call) && fifo_waits(fd) => Some(WOULD_WAIT),
            other => other,
        },
        libc::S_IFCHR if is_plain_read(call) => read_terminal(fd),
        _ => None,
    }
}

fn write(call: &Call, fd: RawFd) -> Option<i64> {
    match file_type(fd) {
        libc::S_IFIFO if is_small(call) => by_vectors(call, libc::SYS_pwritev2),
        libc::S_IFSOCK if c_long::from(call.nr) == libc::SYS_write => {
            by_vectors(call, libc::SYS_pwritev2)
        }
        _ => None,
    }
}

/// A terminal cannot be read without waiting. A read waits if the terminal returns lines, or at least one character without a
/// time limit, and if the process may read from it. Then poll(2) knows when there is input.
fn read_terminal(fd: RawFd) -> Option<i64> {
    let modes = terminal_modes(fd)?;
    let waits = modes.c_lflag & libc::ICANON != 0
        || modes.c_cc[libc::VMIN] != 0 && modes.c_cc[libc::VTIME] == 0;
    let may_read = !has_flag(fd, libc::O_WRONLY) && !is_in_background(fd);
    (waits && may_read && !poll_now(fd, libc::POLLIN)).then_some(WOULD_WAIT)
}

/// Whether the call is read(2) with a count in the kernel's limits. A read of 0 bytes is not, because it returns at once.
fn is_plain_read(call: &Call) -> bool {
    c_long::from(call.nr) == libc::SYS_read && (1..=BYTES_MAX).contains(&call.args[2])
}

/// Makes the same call by preadv2(2) or pwritev2(2), which can be asked not to wait.
fn by_vectors(call: &Call, nr: c_long) -> Option<i64> {
    let nowait = libc::RWF_NOWAIT as u64;
    let [fd, memory, count, _, _, flags] = call.args;
    let buffer = [memory, count];
    let (vectors, count, flags) = match c_long::from(call.nr) {
        libc::SYS_read | libc::SYS_write if (1..=BYTES_MAX).contains(&count) => {
            (buffer.as_ptr() as u64, 1, 0)
        }
        libc::SYS_readv | libc::SYS_writev => (memory, count, 0),
        libc::SYS_preadv2 | libc::SYS_pwritev2 if flags & nowait == 0 => (memory, count, flags),
        _ => return None,
    };
    let at_its_position = u64::MAX;
    let args = [
        fd,
        vectors,
        count,
        at_its_position,
        at_its_position,
        flags | nowait,
    ];
    Some(system_call(&Call::new(nr as u32, args)))
}

/// `at`: the index of the argument with the flags.
fn receive(call: &Call, fd: RawFd, at: usize) -> Option<i64> {
    const OTHERWISE: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;
    let flags = call.args[at] as c_int;
    if flags & OTHERWISE != 0 || !returns_any(fd) {
        None
    } else if flags & libc::MSG_WAITALL != 0 {
        receive_all(call)
    } else {
        Some(without_waiting(call, at))
    }
}

/// A receive that waits for all of its bytes. If there are some, a worker makes the plain call, because an error that follows a part is for
/// the next call, and a second call of ours would take it. So this only looks which bytes are there. A look by recvmsg(2) would also
/// receive descriptors, and one at a socket with SO_PEEK_OFF changes what the next look sees.
fn receive_all(call: &Call) -> Option<i64> {
    let peeks_on = || socket_option(call.args[0] as RawFd, libc::SO_PEEK_OFF, -1);
    if c_long::from(call.nr) != libc::SYS_recvfrom || peeks_on().is_ok_and(|offset| offset >= 0) {
        return None;
    }
    let mut look = *call;
    look.args[3] = look.args[3] & !(libc::MSG_WAITALL as u64) | libc::MSG_PEEK as u64;
    Some(without_waiting(&look, 3)).filter(|&res| res < 0)
}

fn send(call: &Call) -> Option<i64> {
    can_move_part(call).then(|| without_waiting(call, 3))
}

fn without_waiting(call: &Call, flags_at: usize) -> i64 {
    let mut call = *call;
    call.args[flags_at] |= libc::MSG_DONTWAIT as u64;
    system_call(&call)
}

/// accept(2) cannot be asked not to wait. It is not made here even if there is a connection, because somebody else may take
/// that first.
fn accept(fd: RawFd, flags: c_int) -> Option<i64> {
    let is_valid = flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) == 0;
    let listens = socket_option(fd, libc::SO_ACCEPTCONN, 0) == Ok(1);
    (is_valid && listens && !poll_now(fd, libc::POLLIN)).then_some(WOULD_WAIT)
}

/// A poll without a time limit that asks for one file, and only for reading or only for writing.
fn poll(call: &Call) -> Tried {
    let mut asked = [0; 8];
    if call.args[1] != 1 || read_memory(call.args[0] as usize, &mut asked).is_err() {
        return PLAINLY;
    }
    let [a, b, c, d, events @ ..] = asked;
    let fd = RawFd::from_ne_bytes([a, b, c, d]);
    let events = c_short::from_ne_bytes([events[0], events[1]]);
    let is_one = matches!(events, libc::POLLIN | libc::POLLOUT);
    let is_known = matches!(file_type(fd), libc::S_IFSOCK | libc::S_IFIFO | 0);
    if fd < 0 || !is_one || !is_known || poll_now(fd, events) {
        return PLAINLY;
    }
    Tried::Waits(fd, events)
}

/// Whether a read from this socket returns with any number of bytes.
fn returns_any(fd: RawFd) -> bool {
    socket_option(fd, libc::SO_RCVLOWAT, 0).is_ok_and(|least| least <= 1)
}

/// Whether the file is a socket, and calls on it have a time limit.
fn has_time_limit(fd: RawFd, event: c_short) -> bool {
    let name = match event {
        libc::POLLIN => libc::SO_RCVTIMEO,
        _ => libc::SO_SNDTIMEO,
    };
    let none = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    socket_option(fd, name, none).is_ok_and(|limit| limit.tv_sec != 0 || limit.tv_usec != 0)
}

#[cfg(all(test, not(aio2_fuzz)))]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
    use nix::sys::stat::Mode;
    use nix::unistd::{mkfifo, pipe, write};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn call(nr: c_long, file: &OwnedFd, args: [u64; 5]) -> Call {
        let [a, b, c, d, e] = args;
        Call::new(nr as u32, [file.as_raw_fd() as u64, a, b, c, d, e])
    }

    fn read_from(file: &OwnedFd, buf: &mut [u8]) -> Call {
        let at = buf.as_mut_ptr() as u64;
        call(libc::SYS_read, file, [at, buf.len() as u64, 0, 0, 0])
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let (a, b) = UnixStream::pair().unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn an_empty_pipe_is_waited_for_and_one_with_data_is_read() {
        let (from, to) = pipe().unwrap();
        let mut buf = [0; 8];
        let call = read_from(&from, &mut buf);
        assert_eq!(
            try_nowait(&call),
            Tried::Waits(from.as_raw_fd(), libc::POLLIN)
        );
        write(&to, b"abc").unwrap();
        assert_eq!(try_nowait(&call), Tried::Done(3));
        drop(to);
        assert_eq!(try_nowait(&call), Tried::Done(0));
    }

    #[test]
    fn a_fifo_with_a_name_is_waited_for_as_long_as_it_is_empty_and_has_a_writer() {
        let path = std::env::temp_dir().join(format!("aio2-fifo.{}", std::process::id()));
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let open = |flags| open(&path, flags, Mode::empty()).unwrap();
        let from = open(OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        fcntl(&from, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut buf = [0; 8];
        let read = read_from(&from, &mut buf);
        let waits = Tried::Waits(from.as_raw_fd(), libc::POLLIN);
        assert_eq!(try_nowait(&read), PLAINLY);
        let to = open(OFlag::O_WRONLY);
        assert_eq!(try_nowait(&read), waits);
        write(&to, b"abc").unwrap();
        assert_eq!((try_nowait(&read), try_nowait(&read)), (PLAINLY, PLAINLY));
        assert_eq!(system_call(&read), 3);
        assert_eq!(try_nowait(&read), waits);
        let bad = Tried::Done(-i64::from(libc::EBADF));
        assert_eq!(try_nowait(&read_from(&to, &mut [0; 8])), bad);
        assert_eq!(try_nowait(&read), waits);
        drop(to);
        assert_eq!(try_nowait(&read), PLAINLY);

        let both = open(OFlag::O_RDWR);
        std::fs::remove_file(&path).unwrap();
        let read = read_from(&both, &mut buf);
        let waits = Tried::Waits(both.as_raw_fd(), libc::POLLIN);
        assert_eq!(try_nowait(&read), waits);
        write(&both, b"a").unwrap();
        assert_eq!(try_nowait(&read), PLAINLY);
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let (_from, to) = pipe().unwrap();
        let mut buf = [0; 8];
        let bad = -i64::from(libc::EBADF);
        assert_eq!(try_nowait(&read_from(&to, &mut buf)), Tried::Done(bad));
        let (a, _b) = pair();
        // `a` is a socket that does not listen; `to` is no socket.
        for file in [&a, &to] {
            assert_eq!(try_nowait(&call(libc::SYS_accept4, file, [0; 5])), PLAINLY);
        }
        assert_eq!(try_nowait(&call(libc::SYS_recvfrom, &to, [0; 5])), PLAINLY);
    }

    #[test]
    fn the_programs_own_wishes_are_left_to_the_plain_call() {
        let (a, _b) = pair();
        let mut buf = [0; 8];
        let waits = Tried::Waits(a.as_raw_fd(), libc::POLLIN);
        let read = read_from(&a, &mut buf);
        let receive = |flags: c_int| {
            let at = read.args[1];
            try_nowait(&call(libc::SYS_recvfrom, &a, [at, 8, flags as u64, 0, 0]))
        };
        assert_eq!((try_nowait(&read), receive(0)), (waits, waits));
        assert_eq!(receive(libc::MSG_PEEK), waits);
        assert_eq!(receive(libc::MSG_WAITALL), waits);
        assert_eq!(receive(libc::MSG_DONTWAIT), PLAINLY);
        let limit = Some(Duration::from_secs(60));
        let stream = UnixStream::from(a.try_clone().unwrap());
        stream.set_read_timeout(limit).unwrap();
        assert_eq!((try_nowait(&read), receive(0)), (PLAINLY, PLAINLY));
    }

    #[test]
    fn a_receive_of_all_bytes_looks_at_none_where_a_look_counts() {
        let (a, b) = pair();
        let offset: c_int = 0;
        // SAFETY: an integer of this size.
        let ret = unsafe {
            let at = (&raw const offset).cast();
            libc::setsockopt(a.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, at, 4)
        };
        assert_eq!(ret, 0);
        write(&b, b"ab").unwrap();
        let mut buf = [0; 8];
        let args = [buf.as_mut_ptr() as u64, 8, libc::MSG_WAITALL as u64, 0, 0];
        assert_eq!(try_nowait(&call(libc::SYS_recvfrom, &a, args)), PLAINLY);
        assert_eq!(socket_option(a.as_raw_fd(), libc::SO_PEEK_OFF, -1), Ok(0));
    }

    #[test]
    fn a_receive_of_all_bytes_takes_none_before_they_are_there() {
        let (a, b) = pair();
        let mut buf = [0; 8];
        let at = buf.as_mut_ptr() as u64;
        let receive = |bytes: u64, flags: c_int| {
            try_nowait(&call(
                libc::SYS_recvfrom,
                &a,
                [at, bytes, flags as u64, 0, 0],
            ))
        };
        write(&b, b"ab").unwrap();
        assert_eq!(receive(8, libc::MSG_WAITALL), PLAINLY);
        assert_eq!(receive(8, 0), Tried::Done(2));
        let bad = Tried::Done(-i64::from(libc::EFAULT));
        let nowhere = call(
            libc::SYS_recvfrom,
            &a,
            [u64::MAX - 8, 8, libc::MSG_WAITALL as u64, 0, 0],
        );
        assert_eq!(try_nowait(&nowhere), bad);
    }

    #[test]
    fn a_full_socket_takes_a_part_and_says_so() {
        let (a, b) = pair();
        let buf = vec![0u8; 4 << 20];
        let at = buf.as_ptr() as u64;
        let send = call(libc::SYS_sendto, &a, [at, buf.len() as u64, 0, 0, 0]);
        let Tried::MayWait { moved } = try_nowait(&send) else {
            panic!("it has taken all of it");
        };
        assert!(moved > 0 && moved < buf.len() as u64);
        assert_eq!(
            rest_of(&send, moved).args[1..3],
            [at + moved, buf.len() as u64 - moved]
        );
        assert_eq!(
            try_nowait(&send),
            Tried::Waits(a.as_raw_fd(), libc::POLLOUT)
        );
        drop(b);
    }

    #[test]
    fn a_full_pipe_takes_what_fits_as_a_whole() {
        let (_from, to) = pipe().unwrap();
        let buf = [0u8; 1 << 16];
        let write_some = |bytes: usize| {
            let at = buf.as_ptr() as u64;
            try_nowait(&call(libc::SYS_write, &to, [at, bytes as u64, 0, 0, 0]))
        };
        assert_eq!(write_some(1 << 16), PLAINLY);
        write(&to, &buf[..(1 << 16) - 100]).unwrap();
        // poll(2) says that there is no room, although there is.
        assert_eq!(write_some(90), Tried::Done(90));
        assert_eq!(
            write_some(4096),
            Tried::Waits(to.as_raw_fd(), libc::POLLOUT)
        );
    }
}
