//! A one-way channel that brings open files from the program's descriptor table to the library's own one (SCM_RIGHTS over a socket
//! pair).
//!
//! Once a file has been sent, the kernel holds it, even if the program closes its descriptor. The sending end is in the program's
//! table, where the program may close it or replace it. So before each message the library checks that it is still this socket.

use crate::sync::{Lock, Relaxed};
use crate::sys::Result;
use crate::sys::private_fd;
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};

const NONE: RawFd = -1;
/// How long the program's dup2() waits for a thread that uses the number that it is about to replace.
const PATIENCE_NS: u64 = 1_000_000;

/// Sending ends. If a thread of the program's has left the common descriptor table, its table has an end of its own.
pub struct Sender {
    ends: [End; ENDS],
    /// An end whose first number the program has replaced.
    moved: End,
    /// The end to make next, if none is free.
    next: AtomicUsize,
    /// Held while a number is used or changes.
    using: Lock<()>,
}

/// This many tables can have an end each. If there are more tables, ends are replaced in turn.
pub const ENDS: usize = 16;

struct End {
    number: AtomicI32,
    /// The kernel's cookie of the socket.
    cookie: AtomicU64,
    /// The number is a second one, of an end that has made way.
    moved: AtomicBool,
}

/// Content of a message: a number, and a file unless it was lost on the way.
pub struct Message {
    pub number: u64,
    pub file: Option<RawFd>,
}

/// Result of an attempt to receive.
pub enum Received {
    Message(Message),
    Nothing,
    /// The sending end is closed.
    End,
}

/// Room for one descriptor.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);
// SAFETY: arithmetic only.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;

impl End {
    const fn none() -> End {
        End {
            number: AtomicI32::new(NONE),
            cookie: AtomicU64::new(0),
            moved: AtomicBool::new(false),
        }
    }

    /// The number, if it names this socket in the calling thread's table.
    fn there(&self) -> Option<RawFd> {
        // Relaxed, here and below: the lock orders it.
        let number = self.number.load(Relaxed);
        if number == NONE {
            return None;
        }
        let named = cookie(number);
        (named != 0 && named == self.cookie.load(Relaxed)).then_some(number)
    }

    fn close(&self) {
        if let Some(number) = self.there() {
            private_fd::close(number);
        }
        self.number.store(NONE, Relaxed);
    }

    fn set(&self, number: RawFd, moved: bool) {
        self.moved.store(moved, Relaxed);
        self.cookie.store(cookie(number), Relaxed);
        self.number.store(number, Relaxed);
    }
}

impl Sender {
    pub const fn new() -> Sender {
        Sender {
            ends: [const { End::none() }; ENDS],
            moved: End::none(),
            next: AtomicUsize::new(0),
            using: Lock::of(()),
        }
    }

    /// Makes a channel: two private descriptors in the program's table. Returns the sending end, which is not used before
    /// [`Sender::add`], and the receiving end, which the caller must move to the library's own table.
    pub fn open(&self) -> Result<(RawFd, RawFd)> {
        let mut ends = [NONE; 2];
        // SAFETY: room for two descriptors.
        Errno::result(unsafe { libc::socketpair(libc::AF_UNIX, KIND, 0, ends.as_mut_ptr()) })?;
        let moved = ends.map(private_fd::duplicate);
        for end in ends {
            private_fd::close(end);
        }
        let (mine, other) = match moved {
            [Ok(mine), Ok(other)] => (mine, other),
            [first, second] => {
                for end in [first, second] {
                    end.map(private_fd::close).ok();
                }
                return Err(Errno::EMFILE);
            }
        };
        Ok((mine, other))
    }

    /// Makes room for one more sending end. From here on nothing is sent through the end that it replaces.
    pub fn make_room(&self) -> usize {
        let _using = self.using.lock();
        let is_free = |end: &End| end.number.load(Relaxed) == NONE;
        let at = self.ends.iter().position(is_free).unwrap_or_else(|| {
            let next = self.next.load(Relaxed);
            self.next.store((next + 1) % ENDS, Relaxed);
            next
        });
        self.ends[at].close();
        at
    }

    /// From here on a sending end is used: once it has sent a file, a receiver may ask for that at once.
    pub fn add(&self, at: usize, mine: RawFd) {
        let _using = self.using.lock();
        self.ends[at].close();
        self.ends[at].set(mine, false);
    }

    /// Connects to the socket that listens under that name (see [`listen`]). Returns a sending end, which is not used yet.
    pub fn connect(&self, digits: i64) -> Result<RawFd> {
        let address = name(digits);
        // SAFETY: constants, and an address of ours. Called by syscall(), because libc's function is a cancellation point.
        let mine = unsafe {
            let low = Errno::result(libc::socket(libc::AF_UNIX, KIND, 0))?;
            let connected =
                libc::syscall(libc::SYS_connect, low, &raw const address, NAME_BYTES) == 0;
            let mine = if connected {
                private_fd::duplicate(low)
            } else {
                Err(Errno::EBADF)
            };
            private_fd::close(low);
            mine?
        };
        Ok(mine)
    }

    /// Closes the sending ends that are in the calling thread's table, and forgets the others.
    pub fn close(&self) {
        let _using = self.using.lock();
        self.all().for_each(End::close);
    }

    /// Does the same in a forked child, which may have inherited a held lock.
    pub fn abandon(&self) {
        self.all().for_each(End::close);
    }

    /// Whether the calling thread can send.
    pub fn is_there(&self) -> bool {
        let _using = self.using.lock();
        self.there().is_some()
    }

    fn there(&self) -> Option<RawFd> {
        self.all().find_map(End::there)
    }

    /// The program is about to replace a private descriptor: if it is one of these, it moves.
    pub fn release_number(&self, number: RawFd) {
        // A signal handler may have interrupted the thread that holds the lock.
        let Some(_using) = self.using.try_lock_for(PATIENCE_NS) else {
            return;
        };
        let Some(end) = self.all().find(|end| end.there() == Some(number)) else {
            return;
        };
        let moved = private_fd::duplicate(number).unwrap_or(NONE);
        // Another table may still have the socket by the first number.
        let place = if end.moved.load(Relaxed) {
            end
        } else {
            &self.moved
        };
        place.close();
        place.set(moved, true);
        private_fd::close(number);
    }

    fn all(&self) -> impl Iterator<Item = &End> {
        self.ends.iter().chain([&self.moved])
    }

    /// Whether a message could not be sent because the channel is gone: one of its ends was closed, or was already replaced when the
    /// channel was made. Then it is forgotten. `error`: the result of `send`.
    pub fn is_gone(&self, error: Errno) -> bool {
        match error {
            Errno::EBADF => !self.is_there(),
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN | Errno::ENOTSOCK => {
                let _using = self.using.lock();
                // `send` has used the first end that is in this table. If there is none, another thread has closed it.
                if let Some(end) = self.all().find(|end| end.there().is_some()) {
                    end.close();
                }
                true
            }
            _ => false,
        }
    }

    /// Sends a file and a number. EBADF: there is no such file, or the channel is gone. EAGAIN: the channel is full.
    pub fn send(&self, mut number: u64, file: RawFd) -> Result<()> {
        let _using = self.using.lock();
        let there = self.there().ok_or(Errno::EBADF)?;
        let mut part = libc::iovec {
            iov_base: (&raw mut number).cast(),
            iov_len: size_of::<u64>(),
        };
        let mut control = Control([0; CONTROL_BYTES]);
        let message = header(&mut part, &mut control);
        // SAFETY: the control buffer has room for one header and one descriptor.
        unsafe {
            let head = libc::CMSG_FIRSTHDR(&message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(file);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // Called by syscall(), because libc's function is a cancellation point.
        // SAFETY: a message of ours.
        let ret = unsafe { libc::syscall(libc::SYS_sendmsg, there, &raw const message, flags) };
        Errno::result(ret).map(drop)
    }
}

/// Makes a listening socket in the library's own table, for a new channel when the program has closed the sending end. The kernel
/// chooses its name, which is returned as a number.
pub fn listen() -> Result<(RawFd, i64)> {
    // SAFETY: constants.
    let listener = Errno::result(unsafe { libc::socket(libc::AF_UNIX, KIND, 0) })?;
    let mut address = name(0);
    let mut bytes = NAME_BYTES;
    let at = (&raw mut address).cast::<libc::sockaddr>();
    // SAFETY: an address of ours. If it has only the family, the kernel chooses a name.
    let ret = unsafe {
        let family = size_of::<libc::sa_family_t>() as libc::socklen_t;
        match libc::bind(listener, at, family) {
            0 => libc::listen(listener, 1).min(libc::getsockname(listener, at, &raw mut bytes)),
            error => error,
        }
    };
    if ret != 0 || bytes != NAME_BYTES {
        private_fd::close_here(listener);
        return Err(Errno::EBADF);
    }
    let digits = &address.sun_path[1..=DIGITS];
    Ok((
        listener,
        digits.iter().fold(0, |sum, &digit| sum << 8 | digit as i64),
    ))
}

/// Accepts the connection that comes from this process. Returns the receiving end.
pub fn accept(listener: RawFd) -> Result<RawFd> {
    loop {
        let flags = libc::SOCK_CLOEXEC;
        let none = ptr::null_mut::<libc::c_void>();
        // Called by syscall(), because libc's function is a cancellation point.
        // SAFETY: the address is null: none is wanted.
        let end = unsafe { libc::syscall(libc::SYS_accept4, listener, none, none, flags) };
        let end = Errno::result(end)? as RawFd;
        let mut peer = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the buffer has room for the answer, and the size is given.
        let (ret, own) = unsafe {
            let at = (&raw mut peer).cast();
            let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
            let ret = libc::getsockopt(end, level, option, at, &raw mut bytes);
            (ret, libc::getpid())
        };
        if ret == 0 && peer.pid == own {
            return Ok(end);
        }
        private_fd::close_here(end);
        if ret != 0 {
            // A filter forbids the call. To wait for another connection would be to wait for ever.
            return Err(Errno::EPERM);
        }
    }
}

const KIND: libc::c_int = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
/// A name that the kernel chooses is a 0 and this many digits.
const DIGITS: usize = 5;
const NAME_BYTES: libc::socklen_t =
    (size_of::<libc::sa_family_t>() + 1 + DIGITS) as libc::socklen_t;

fn name(digits: i64) -> libc::sockaddr_un {
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (i, digit) in address.sun_path[1..=DIGITS].iter_mut().rev().enumerate() {
        *digit = (digits >> (8 * i)) as libc::c_char;
    }
    address
}

/// Receives the next message from a receiving end. Called in the library's own table.
pub fn receive(from: RawFd) -> Received {
    let mut number = 0u64;
    let mut part = libc::iovec {
        iov_base: (&raw mut number).cast(),
        iov_len: size_of::<u64>(),
    };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut message = header(&mut part, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: a message of ours.
    let got = unsafe { libc::syscall(libc::SYS_recvmsg, from, &raw mut message, flags) };
    match got {
        0 => return Received::End,
        -1 => return Received::Nothing,
        _ => {}
    }
    // SAFETY: the kernel has filled as many bytes of the control buffer as it says.
    let file = unsafe {
        let head = libc::CMSG_FIRSTHDR(&message);
        (!head.is_null() && (*head).cmsg_type == libc::SCM_RIGHTS)
            .then(|| libc::CMSG_DATA(head).cast::<RawFd>().read_unaligned())
    };
    Received::Message(Message { number, file })
}

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: zeros are a valid header.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = ptr::from_mut(part);
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    message
}

/// The kernel's cookie of a socket, which no other socket ever has; 0 if it is not a socket.
fn cookie(number: RawFd) -> u64 {
    let mut cookie = 0u64;
    let mut bytes = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer has room for the answer, and the size is given.
    let ret = unsafe {
        libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut bytes,
        )
    };
    if ret == 0 { cookie } else { 0 }
}
