//! The library's private descriptors in the program's table: none of them stands for a file of the program's.
//!
//! A program that closes all descriptors that it finds (closefrom()) would also close these. The object that aio2-run preloads prevents
//! that: it asks here which they are.

use super::futex::kernel::{futex_wait, futex_wake};
use super::{NEVER, Result, Waited, gettid, monotonic_ns};
use arrayvec::ArrayString;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{fstat, stat};
use std::cell::Cell;
use std::fmt::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize};

/// The most descriptors unless fs.nr_open was raised: those beyond are not protected.
const NUMBERS: usize = 1 << 20;

/// A bit for each private descriptor. Relaxed throughout: if a program closes a descriptor in one thread while another submits a request
/// for it, it must expect either order.
static OWN: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// How many of these words have ever had a bit.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The lowest number for the library's descriptors: a program expects to get low ones itself. `ABOVE` also keeps them above each number
/// that the program has asked for by dup2() while the library had it: the program may want such a fixed number again.
const HIGH: RawFd = 192;
static ABOVE: AtomicI32 = AtomicI32::new(HIGH);

fn word(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((OWN.get(fd / 64)?, 1 << (fd % 64)))
}

/// From now on the library avoids this number, as long as there are others.
pub fn reserve(fd: RawFd) {
    ABOVE.fetch_max(fd.saturating_add(1), Relaxed);
}

/// The calling thread does not have the table in which the library uses this number. In its table, the number is an ordinary one from now
/// on.
pub fn disown(fd: RawFd) {
    if let Some((word, bit)) = word(fd) {
        word.fetch_and(!bit, Relaxed);
        LENT[fd as usize / 64].fetch_and(!bit, Relaxed);
    }
}

/// Whether the calling thread has the descriptor table of the process's first thread, where the library's numbers are valid, rather than one of
/// its own (unshare(2), CLONE_FILES). `fds` are numbers that the first table probably has. True if this cannot be told.
pub fn is_in_first_table(fds: &[RawFd]) -> bool {
    if gettid() == std::process::id() {
        return true;
    }
    let _making = Making::begin();
    // No other table has this new file.
    let Ok(probe) = memfd_create(c"aio2-table", MFdFlags::MFD_CLOEXEC) else {
        return true;
    };
    let Ok(here) = fstat(&probe) else {
        return true;
    };
    let in_first = |fd: RawFd| {
        let mut path = ArrayString::<32>::new();
        write!(path, "/proc/self/fd/{fd}")
            .ok()
            .and_then(|()| stat(path.as_str()).ok())
    };
    match in_first(probe.as_raw_fd()) {
        Some(there) => (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino),
        // Either the first table does not have it, or the first thread has ended and shows nothing.
        None => fds.iter().all(|&fd| in_first(fd).is_none()),
    }
}

thread_local! {
    /// The thread has the library's own descriptor table (see [`super::host::OwnTable`]), which the program does not see.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

pub fn is_inside() -> bool {
    INSIDE.get()
}

/// From here on the calling thread has that table.
pub fn set_inside() {
    INSIDE.set(true);
}

/// A duplicate with a high number. If no high number is free: the lowest that is.
pub fn duplicate(number: RawFd) -> Result<RawFd> {
    for least in [ABOVE.load(Relaxed), HIGH, 3] {
        // SAFETY: integers; reports a number that is not open.
        let dup = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, least) };
        if dup >= 0 {
            if let Some((word, bit)) = word(dup).filter(|_| !is_inside()) {
                word.fetch_or(bit, Relaxed);
                USED.fetch_max(dup as usize / 64 + 1, Relaxed);
            }
            return Ok(dup);
        }
        match Errno::last() {
            Errno::EINVAL | Errno::EMFILE => {}
            errno => return Err(errno),
        }
    }
    Err(Errno::EMFILE)
}

/// The private descriptors that are duplicates of the program's own files: a forked child does not keep them.
static LENT: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// A duplicate of a file of the program's, if there is no other table to hold it. Called while no child can be forked ([`Making`]).
pub fn lend(number: RawFd) -> Result<RawFd> {
    let dup = duplicate(number)?;
    if let Some((_, bit)) = word(dup) {
        LENT[dup as usize / 64].fetch_or(bit, Relaxed);
    }
    Ok(dup)
}

pub fn is_lent(number: RawFd) -> bool {
    word(number).is_some_and(|(_, bit)| LENT[number as usize / 64].load(Relaxed) & bit != 0)
}

/// In a forked child: closes the lent descriptors, and those of marked files.
pub fn close_inherited() {
    let words = OWN.iter().zip(&LENT).take(USED.load(Relaxed));
    for (i, (own, lent)) in words.enumerate() {
        let mut left = own.load(Relaxed);
        while left != 0 {
            let bit = left.trailing_zeros();
            let fd = (i * 64) as RawFd + bit as RawFd;
            if lent.load(Relaxed) & (1 << bit) != 0 {
                close(fd);
            } else {
                close_marked(fd);
            }
            left &= left - 1;
        }
    }
}

pub fn close(fd: RawFd) {
    // Before the close: afterwards the number may be the program's.
    if !is_inside() {
        disown(fd);
    }
    close_here(fd);
}

/// The same for a descriptor in the thread's table, whichever that is.
pub fn close_here(fd: RawFd) {
    if fd >= 0 {
        // Not libc's function: it is a cancellation point.
        // SAFETY: a descriptor of the library's own.
        unsafe { libc::syscall(libc::SYS_close, fd) };
    }
}

/// While this exists, no child is forked through libc: the thread makes descriptors that are not recorded yet, or closes some that are no
/// longer, and a child could not close them. The kernel copies the descriptors for a child before it copies the memory.
pub struct Making(());

/// 1 while a thread makes descriptors, or forks. A futex.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// Threads that fork, or wait for that. They go first, or a thread that makes one descriptor after another would keep them waiting. A futex.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// The longest wait of a fork, or for forks: a signal handler may have interrupted the thread that makes descriptors, or one that forks.
const PATIENCE_NS: u64 = 1_000_000_000;

thread_local! {
    /// How many `Making`s the thread has.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Making {
    pub fn begin() -> Making {
        let depth = DEPTH.get();
        // Before it begins: a signal handler must not wait for the thread that it has interrupted.
        DEPTH.set(depth + 1);
        if depth == 0 {
            // Relaxed: only a turn. Once, or threads that fork again and again would keep this one waiting.
            if let forks @ 1.. = FORKS.load(Relaxed) {
                futex_wait(&FORKS, forks, monotonic_ns() + PATIENCE_NS);
            }
            begin(NEVER);
        }
        Making(())
    }

    /// None in the library's own table: a child gets no copy of that, and the thread that keeps it must not wait here for its users.
    pub fn here() -> Option<Making> {
        (!is_inside()).then(Making::begin)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if DEPTH.get() == 1 {
            end();
        }
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Waits until `until` at most.
fn begin(until: u64) {
    // Acquire: pairs with the release in `end`.
    while BUSY.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
        if futex_wait(&BUSY, 1, until) == Waited::TimedOut {
            return;
        }
    }
}

fn end() {
    // Release: pairs with the acquire in `begin`.
    BUSY.store(0, Release);
    futex_wake(&BUSY, i32::MAX);
}

/// Called before a fork; `after_fork`: after it, in both processes.
pub fn before_fork() {
    FORKS.fetch_add(1, Relaxed);
    begin(monotonic_ns() + PATIENCE_NS);
    // The program's own actions at fork may make descriptors of the library's in between.
    DEPTH.set(DEPTH.get() + 1);
}

pub fn after_fork(is_child: bool) {
    DEPTH.set(DEPTH.get() - 1);
    end();
    if is_child {
        FORKS.store(0, Relaxed);
    } else {
        FORKS.fetch_sub(1, Relaxed);
        futex_wake(&FORKS, i32::MAX);
    }
}

/// The lowest private descriptor that is not below `from`. -1: there is none. Safe in a signal handler.
pub extern "C" fn next(from: RawFd) -> RawFd {
    let from = from.max(0) as usize;
    // In the first word, only the bits from there on.
    let mut wanted = u64::MAX << (from % 64);
    let used = &OWN[..USED.load(Relaxed)];
    for (i, word) in used.iter().enumerate().skip(from / 64) {
        let here = word.load(Relaxed) & wanted;
        if here != 0 {
            return (i * 64) as RawFd + here.trailing_zeros() as RawFd;
        }
        wanted = u64::MAX;
    }
    -1
}

/// No descriptor.
pub const NO_FILE: RawFd = -1;

/// Numbers of fcntl(2), and the signals by which files are marked: they are never sent.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const MARKS: std::ops::RangeInclusive<i32> = 34..=64;

/// The mark of a file by which it is recognised, whatever its number names meanwhile: the program may have closed the descriptor, and the
/// number may be that of a file of the program's, or of another one of the library's.
#[derive(Clone, Copy)]
struct Mark(i32);

impl Mark {
    /// Marks a file. One that has a mark keeps it: it may be a file of the program's that others have marked, too. None: it cannot be marked.
    fn set(fd: RawFd) -> Option<Mark> {
        let there = mark_on(fd);
        if MARKS.contains(&there) {
            return Some(Mark(there));
        }
        // Relaxed: only to have different ones.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Relaxed) as usize % MARKS.count();
        let mark = MARKS.end() - next as i32;
        // SAFETY: integers.
        (unsafe { libc::fcntl(fd, F_SETSIG, mark) } == 0).then_some(Mark(mark))
    }

    fn is_on(self, fd: RawFd) -> bool {
        mark_on(fd) == self.0
    }

    /// Closes the descriptor, if it still names the marked file.
    fn close(self, fd: RawFd) {
        let _making = Making::here();
        if self.is_on(fd) {
            close(fd);
        } else if !is_lent(fd) {
            // If the program has closed it, it has the number, or nobody has: unless it was given out once more.
            disown(fd);
        }
    }
}

/// A descriptor whose file is marked. When this is dropped, it is closed, if it still names that file.
pub struct Marked {
    fd: RawFd,
    mark: Mark,
}

impl Marked {
    /// None: the file cannot be marked.
    pub fn new(fd: OwnedFd) -> Option<Marked> {
        let mark = Mark::set(fd.as_raw_fd())?;
        Some(Marked {
            fd: fd.into_raw_fd(),
            mark,
        })
    }

    /// A private duplicate. None: it cannot be obtained.
    pub fn duplicate(fd: &impl AsFd) -> Option<Marked> {
        let fd = fd.as_fd().as_raw_fd();
        let mark = Mark::set(fd)?;
        let fd = duplicate(fd).ok()?;
        Some(Marked { fd, mark })
    }

    /// Its number, which may name a file of the program's by now.
    pub fn number(&self) -> RawFd {
        self.fd
    }

    /// The descriptor, if it still names its file.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let is_there = self.mark.is_on(self.fd);
        // SAFETY: the file is the library's, and is closed only when `self` is dropped, or by the program, which is reported then.
        is_there.then(|| unsafe { BorrowedFd::borrow_raw(self.fd) })
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.mark.close(self.fd);
    }
}

fn mark_on(fd: RawFd) -> i32 {
    // SAFETY: integers.
    unsafe { libc::fcntl(fd, F_GETSIG) }
}

/// In a forked child: closes a descriptor, if it names a marked file.
pub fn close_marked(fd: RawFd) {
    if MARKS.contains(&mark_on(fd)) {
        close(fd);
    }
}

/// A private descriptor, which gives way to the program's. Its file is marked. The number, and above it the mark. Relaxed: only numbers; the
/// kernel orders accesses to its file.
pub struct Private(AtomicU64);

const NOTHING: u64 = NO_FILE as u32 as u64;

impl Private {
    pub const fn new() -> Private {
        Private(AtomicU64::new(NOTHING))
    }

    /// NO_FILE: there is none.
    pub fn get(&self) -> RawFd {
        self.0.load(Relaxed) as RawFd
    }

    /// Whether the number, which `get` returned, still names its file.
    pub fn is_at(&self, fd: RawFd) -> bool {
        let now = self.0.load(Relaxed);
        fd != NO_FILE && now as RawFd == fd && mark_of(now).is_on(fd)
    }

    /// Makes it, if there is none. None: it cannot be obtained.
    pub fn open(&self, make: impl FnOnce() -> Option<OwnedFd>) -> Option<()> {
        let _making = Making::here();
        if self.get() != NO_FILE {
            return Some(());
        }
        let file = make()?;
        let mark = Mark::set(file.as_raw_fd())?;
        let mine = duplicate(file.as_raw_fd()).ok()?;
        if let Err(_other) = self
            .0
            .compare_exchange(NOTHING, packed(mine, mark), Relaxed, Relaxed)
        {
            close(mine);
        }
        Some(())
    }

    /// The program is about to use this number for something else, and it may be this one's. If no other number can be obtained, there is
    /// no descriptor from here on.
    pub fn release_number(&self, fd: RawFd) {
        let now = self.0.load(Relaxed);
        if now as RawFd != fd {
            return;
        }
        if !self.is_at(fd) {
            return self.close();
        }
        let new = duplicate(fd).unwrap_or(NO_FILE);
        let moved = match new {
            NO_FILE => NOTHING,
            new => packed(new, mark_of(now)),
        };
        match self.0.compare_exchange(now, moved, Relaxed, Relaxed) {
            Ok(_) => close(fd),
            Err(_) if new != NO_FILE => close(new),
            Err(_) => {}
        }
    }

    /// There is no descriptor from here on.
    pub fn close(&self) {
        let _making = Making::here();
        let was = self.0.swap(NOTHING, Relaxed);
        if was != NOTHING {
            mark_of(was).close(was as RawFd);
        }
    }
}

fn packed(fd: RawFd, mark: Mark) -> u64 {
    (mark.0 as u64) << 32 | fd as u64
}

fn mark_of(packed: u64) -> Mark {
    Mark((packed >> 32) as i32)
}
