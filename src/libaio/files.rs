//! The files of requests. A request goes to the file that its descriptor named at submit, whatever
//! becomes of the number.
//!
//! For each descriptor with requests in flight there is a duplicate of the library's own. Each
//! submit asks the kernel, once for each descriptor that it uses and finds here, whether the number
//! still names the same open file; if not, there is a new duplicate. The last request closes the
//! duplicate, before its event can be seen: from then on the program's own close() is the last one
//! again, with all that this means.
//!
//! But for one case: while a watcher is there that comes by every millisecond (see [`crate::pool`]),
//! a regular file or block device has its duplicate for two such visits more, as long as nothing
//! uses it. To make a new one for each request of a program that has one in flight at a time takes
//! longer than a read from the page cache.
//!
//! One thing needs care: the close of any descriptor drops all of the process's POSIX record locks
//! on the file. So a duplicate of a file with locks is kept, until the program's own descriptor is
//! gone too or the locks are.

use crate::habit::TRUST_SHIFT;
use crate::own::{close, duplicate, is_open};
use crate::sync::{AcqRel, Acquire, AtomicU32, Lock, Relaxed};
use crate::sys::{Result, futex_wait, monotonic_ns, poll_now, try_box};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::Release;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64};

const SHARDS: usize = 16;

/// What a request may ask of its file's kind, found out once for a duplicate.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    pub reads: bool,
    pub writes: bool,
    /// S_IFMT of its mode; 0 for the kernel's anonymous ones.
    pub format: u32,
    /// A write or read does not wait in io_submit() of the kernel.
    pub direct: bool,
    /// It has no positions: a pipe, a socket, a terminal.
    pub stream: bool,
    pub eventfd: bool,
    /// The kernel's AIO can read from it, and write to it, if it is open for that.
    pub can_read: bool,
    pub can_write: bool,
    pub nonblocking: bool,
    /// A write goes to its end.
    pub appends: bool,
    /// Which file it is: its device, and its number there. Of a block device: itself, and 0.
    pub inode: (u64, u64),
    /// How long it was when it was looked at.
    pub size: u64,
}

/// An open file of the program's.
pub struct File {
    /// Requests that use it. Goes from 0 to 1 and from 1 to 0 under the shard's lock only.
    refs: AtomicU32,
    /// The duplicate; -1: not in use.
    dup: AtomicI32,
    /// The program's number.
    number: AtomicI32,
    /// The next in the shard, or on the free list. Under the shard's lock.
    next: AtomicPtr<File>,
    kind: std::cell::UnsafeCell<Kind>,
    /// How the statistics know it.
    stats: AtomicPtr<super::stats::Path>,
    /// It has no reference, and is to be closed by the watcher: how often that has been here since.
    /// Under the shard's lock.
    lingers: AtomicU32,
}

const NO: u32 = u32::MAX;
/// Visits of the watcher, of which the last one closes.
const VISITS: u32 = 2;

// SAFETY: `kind` is written before the File can be found, and read only by those who have a
// reference.
unsafe impl Sync for File {}

pub struct Files {
    shards: [Lock<Shard>; SHARDS],
    /// All there are, for a forked child.
    all: AtomicPtr<Chunk>,
    /// Files that linger. Raised under the pool's lock.
    lingering: AtomicU32,
}

struct Shard {
    /// The files that are found by number.
    first: *mut File,
    free: *mut File,
}

// SAFETY: files are never freed; the lists are changed under the lock.
unsafe impl Send for Shard {}

/// For so long the number of a duplicate is not given up for the program's sake; and how often it is
/// looked whether it can be.
const PATIENCE_NS: u64 = 1_000_000_000;
const TICK_NS: u64 = 200_000;

const FILES_IN_CHUNK: usize = 32;

struct Chunk {
    next: *mut Chunk,
    files: [File; FILES_IN_CHUNK],
}

/// The right to use a file.
pub struct FileRef(&'static File);

impl FileRef {
    pub fn fd(&self) -> RawFd {
        self.0.dup.load(Relaxed)
    }

    pub fn kind(&self) -> Kind {
        // SAFETY: see `unsafe impl Sync`.
        unsafe { *self.0.kind.get() }
    }

    /// How the statistics know it.
    pub fn stats(&self) -> &AtomicPtr<super::stats::Path> {
        &self.0.stats
    }

    pub fn is_same(&self, other: &FileRef) -> bool {
        ptr::eq(self.0, other.0)
    }

    /// One more right to the same file.
    pub fn again(&self) -> FileRef {
        // Relaxed: there is a reference already.
        self.0.refs.fetch_add(1, Relaxed);
        FileRef(self.0)
    }

    /// As a number that fits into a request.
    pub fn into_raw(self) -> usize {
        let at = ptr::from_ref(self.0) as usize;
        std::mem::forget(self);
        at
    }

    /// # Safety
    /// `raw` came from `into_raw`, and is used once.
    pub unsafe fn from_raw(raw: usize) -> FileRef {
        // SAFETY: the caller's promise; files are never freed.
        FileRef(unsafe { &*(raw as *const File) })
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        // Release: our use of the duplicate is over before it is closed; pairs with the acquire
        // below.
        let mut refs = self.0.refs.load(Relaxed);
        while refs > 1 {
            match self
                .0
                .refs
                .compare_exchange_weak(refs, refs - 1, AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(now) => refs = now,
            }
        }
        // A child that forked in the middle of this has no files, and has closed what it inherited.
        if let Some(global) = crate::process::global() {
            global.libaio.files.last_gone(self.0);
        }
    }
}

impl Files {
    pub fn new() -> Files {
        Files {
            shards: std::array::from_fn(|_| {
                Lock::new(Shard {
                    first: ptr::null_mut(),
                    free: ptr::null_mut(),
                })
            }),
            all: AtomicPtr::new(ptr::null_mut()),
            lingering: AtomicU32::new(0),
        }
    }

    fn shard(&self, number: RawFd) -> &Lock<Shard> {
        &self.shards[number as usize % SHARDS]
    }

    /// The file that this number names now.
    pub fn get(&'static self, number: RawFd) -> Result<FileRef> {
        if number < 0 {
            return Err(Errno::EBADF);
        }
        let shard = self.shard(number);
        let found = {
            let shard = shard.lock();
            shard.find(number).map(|file| {
                // Relaxed: the lock orders it.
                file.refs.fetch_add(1, Relaxed);
                self.stay(file);
                FileRef(file)
            })
        };
        if let Some(found) = found {
            if same_file(number, found.fd()) {
                return Ok(found);
            }
            // It is not found any more, and lives until its last request. Before there is a new
            // duplicate: should the program have closed this one, the new one gets its number.
            let mut shard = shard.lock();
            if found.0.number.load(Relaxed) == number {
                self.forget(&mut shard, found.0);
            }
        }
        self.open(number, shard)
    }

    fn open(&'static self, number: RawFd, shard: &Lock<Shard>) -> Result<FileRef> {
        let dup = duplicate(number)?;
        let kind = match look(dup, number) {
            Ok(kind) => kind,
            Err(errno) => {
                close(dup);
                return Err(errno);
            }
        };
        let mut locked = shard.lock();
        if locked.free.is_null() {
            drop(locked);
            let more = self.new_chunk();
            let Ok(more) = more else {
                close(dup);
                return Err(Errno::EAGAIN);
            };
            locked = shard.lock();
            for file in &more.files {
                file.next.store(locked.free, Relaxed);
                locked.free = ptr::from_ref(file).cast_mut();
            }
        }
        // One with the same number names another file, or had its number reused and given back: it
        // is not found any more, and lives until its last request.
        let mut kept = -1;
        if let Some(old) = locked.find(number) {
            kept = self.forget(&mut locked, old);
        }
        // SAFETY: files are never freed; this one is on the free list, so nobody has it.
        let file: &'static File = unsafe { &*locked.free };
        locked.free = file.next.load(Relaxed);
        // SAFETY: nobody else has it.
        unsafe { *file.kind.get() = kind };
        file.dup.store(dup, Relaxed);
        file.number.store(number, Relaxed);
        file.stats.store(ptr::null_mut(), Relaxed);
        // Release: pairs with the acquire of a forked child's `abandon`.
        file.refs.store(1, Release);
        file.next.store(locked.first, Relaxed);
        locked.first = ptr::from_ref(file).cast_mut();
        drop(locked);
        if kept >= 0 {
            close(kept);
        }
        Ok(FileRef(file))
    }

    fn new_chunk(&self) -> Result<&'static Chunk> {
        let file = || File {
            refs: AtomicU32::new(0),
            dup: AtomicI32::new(-1),
            number: AtomicI32::new(-1),
            next: AtomicPtr::new(ptr::null_mut()),
            kind: std::cell::UnsafeCell::new(Kind::default()),
            stats: AtomicPtr::new(ptr::null_mut()),
            lingers: AtomicU32::new(NO),
        };
        let chunk = Box::leak(try_box(Chunk {
            next: ptr::null_mut(),
            files: std::array::from_fn(|_| file()),
        })?);
        let mut first = self.all.load(Acquire);
        loop {
            chunk.next = first;
            // Release: pairs with the acquire in `abandon`.
            match self.all.compare_exchange(first, chunk, Release, Acquire) {
                Ok(_) => return Ok(chunk),
                Err(now) => first = now,
            }
        }
    }

    /// The last reference goes, unless another has come meanwhile.
    fn last_gone(&self, file: &'static File) {
        let number = file.number.load(Relaxed);
        if number >= 0 && self.linger(file, number) {
            return;
        }
        let locks = may_have_locks(file);
        let shard = self.shard(if number < 0 { 0 } else { number });
        let mut locked = shard.lock();
        if file.number.load(Relaxed) != number {
            // Its number was given to another just now: it is in nobody's shard.
            drop(locked);
            return self.last_gone(file);
        }
        if file.refs.fetch_sub(1, AcqRel) != 1 {
            return;
        }
        if locks && number >= 0 && same_file(number, file.dup.load(Relaxed)) {
            // It stays without a reference: the next submit finds it, or the next sweep ends it.
            return;
        }
        let dup = if number >= 0 {
            self.forget(&mut locked, file)
        } else {
            self.retire(&mut locked, file)
        };
        drop(locked);
        close(dup);
    }

    /// Gives a reference back, if that can be done without closing anything: it is not the last, or
    /// the watcher will close the duplicate.
    fn linger(&self, file: &'static File, number: RawFd) -> bool {
        let _locked = self.shard(number).lock();
        if file.number.load(Relaxed) != number {
            return false;
        }
        if file.refs.load(Relaxed) == 1 {
            // SAFETY: whoever calls has a reference.
            let format = unsafe { (*file.kind.get()).format };
            let global = crate::process::global();
            let watched = matches!(format, libc::S_IFREG | libc::S_IFBLK)
                && global.is_some_and(|global| {
                    let pool = &global.pool;
                    pool.if_watched(|| self.lingering.fetch_add(1, Relaxed))
                });
            if !watched {
                return false;
            }
            file.lingers.store(0, Relaxed);
        }
        // Release: our use of the duplicate is over before it is closed.
        file.refs.fetch_sub(1, AcqRel);
        true
    }

    /// It is in use again, or gone.
    fn stay(&self, file: &File) {
        if file.lingers.load(Relaxed) != NO {
            file.lingers.store(NO, Relaxed);
            self.lingering.fetch_sub(1, Relaxed);
        }
    }

    pub fn are_lingering(&self) -> bool {
        self.lingering.load(Relaxed) != 0
    }

    /// A visit of the watcher.
    pub fn visit(&'static self) {
        if !self.are_lingering() {
            return;
        }
        for shard in &self.shards {
            let locked = shard.lock();
            for file in locked
                .iter()
                .filter(|file| file.lingers.load(Relaxed) != NO)
            {
                file.lingers.store(file.lingers.load(Relaxed) + 1, Relaxed);
            }
            drop(locked);
            self.close_those(shard, |file| {
                let visits = file.lingers.load(Relaxed);
                let over = visits != NO && visits >= VISITS;
                if over && may_have_locks(file) {
                    // From now on it is one that is kept for its locks.
                    self.stay(file);
                    return false;
                }
                over
            });
        }
    }

    /// Closes duplicates that nothing uses, but for those that are kept for their locks and whose
    /// descriptor the program still has.
    pub fn sweep(&'static self) {
        for shard in &self.shards {
            self.close_those(shard, |file| {
                let (number, dup) = (file.number.load(Relaxed), file.dup.load(Relaxed));
                !may_have_locks(file) || !same_file(number, dup)
            });
        }
    }

    fn close_those(
        &'static self,
        shard: &Lock<Shard>,
        mut wanted: impl FnMut(&'static File) -> bool,
    ) {
        loop {
            let mut locked = shard.lock();
            let unused = locked
                .iter()
                .find(|file| file.refs.load(Relaxed) == 0 && wanted(file));
            let Some(file) = unused else { return };
            let dup = self.forget(&mut locked, file);
            drop(locked);
            close(dup);
        }
    }

    /// A file of this shard is not found any more. Returns the duplicate if it is now to be closed; -1: it
    /// lives until its last request.
    fn forget(&self, shard: &mut Shard, file: &'static File) -> RawFd {
        shard.unlink(file);
        file.number.store(-1, Relaxed);
        if file.refs.load(Relaxed) != 0 {
            return -1;
        }
        self.retire(shard, file)
    }

    /// A file that nothing finds and nothing uses: its place is for another. Returns the duplicate, which
    /// is to be closed.
    fn retire(&self, shard: &mut Shard, file: &'static File) -> RawFd {
        self.stay(file);
        let dup = file.dup.swap(-1, Relaxed);
        file.next.store(shard.free, Relaxed);
        shard.free = ptr::from_ref(file).cast_mut();
        dup
    }

    fn all(&self) -> impl Iterator<Item = &'static File> + use<> {
        // Acquire: pairs with the release in `new_chunk`.
        let mut at: *const Chunk = self.all.load(Acquire);
        let chunks = std::iter::from_fn(move || {
            // SAFETY: chunks are never freed.
            let chunk: &'static Chunk = unsafe { at.as_ref()? };
            at = chunk.next;
            Some(chunk)
        });
        chunks.flat_map(|chunk| &chunk.files)
    }

    /// The program is about to put something else in the place of this duplicate, whose number it takes
    /// for free. Waits until it is closed, but not for ever: a system call that has begun keeps its
    /// file. May be called by a signal handler.
    pub fn vacate(&'static self, dup: RawFd) {
        let until = monotonic_ns() + PATIENCE_NS;
        let has_it = |file: &&'static File| file.dup.load(Relaxed) == dup;
        while is_open(dup) && monotonic_ns() < until {
            match self.all().find(has_it) {
                // Nothing new is to use it.
                Some(file) if file.number.load(Relaxed) >= 0 => self.let_go(file),
                _ => {
                    futex_wait(&AtomicU32::new(0), 0, monotonic_ns() + TICK_NS);
                }
            }
        }
    }

    fn let_go(&'static self, file: &'static File) {
        let number = file.number.load(Relaxed);
        // Who has the lock may be whom a signal handler has interrupted.
        let Some(mut shard) = self.shard(number).try_lock_for(TICK_NS) else {
            return;
        };
        // It may have been forgotten meanwhile, or be another file by now.
        if number < 0 || file.number.load(Relaxed) != number {
            return;
        }
        let dup = self.forget(&mut shard, file);
        drop(shard);
        if dup >= 0 {
            close(dup);
        }
    }

    /// In a forked child: closes what it has inherited. No lock is taken.
    pub fn abandon(&self) {
        for file in self.all() {
            match file.dup.swap(-1, Acquire) {
                -1 => {}
                dup => close(dup),
            }
        }
    }
}

impl Shard {
    fn iter(&self) -> impl Iterator<Item = &'static File> + use<> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            // SAFETY: files are never freed.
            let file: &'static File = unsafe { at.as_ref()? };
            at = file.next.load(Relaxed);
            Some(file)
        })
    }

    fn find(&self, number: RawFd) -> Option<&'static File> {
        self.iter().find(|file| file.number.load(Relaxed) == number)
    }

    fn unlink(&mut self, gone: &'static File) {
        let next = gone.next.load(Relaxed);
        if ptr::eq(self.first, gone) {
            self.first = next;
            return;
        }
        for file in self.iter() {
            if ptr::eq(file.next.load(Relaxed), gone) {
                file.next.store(next, Relaxed);
                return;
            }
        }
    }
}

/// Linux 6.10: whether two descriptors are of the same open file.
const F_DUPFD_QUERY: i32 = 1024 + 3;

/// What the kernel can be asked; 0 means that it is not known yet.
static QUERY: AtomicU32 = AtomicU32::new(0);
const BY_FCNTL: u32 = 1;
const BY_KCMP: u32 = 2;
const NOT_AT_ALL: u32 = 3;

/// Whether the program's number names the file of our duplicate. If the kernel cannot say, it does
/// not: then each submit has a duplicate of its own.
fn same_file(number: RawFd, dup: RawFd) -> bool {
    // Relaxed: whoever finds out does so for himself.
    match QUERY.load(Relaxed) {
        // SAFETY: integers.
        BY_FCNTL => unsafe { libc::fcntl(number, F_DUPFD_QUERY, dup) == 1 },
        BY_KCMP => kcmp(number, dup) == Ok(true),
        NOT_AT_ALL => false,
        _ => {
            // SAFETY: integers.
            let same = unsafe { libc::fcntl(dup, F_DUPFD_QUERY, dup) };
            let how = match (same, kcmp(dup, dup)) {
                (1, _) => BY_FCNTL,
                (_, Ok(true)) => BY_KCMP,
                _ => NOT_AT_ALL,
            };
            QUERY.store(how, Relaxed);
            same_file(number, dup)
        }
    }
}

fn kcmp(a: RawFd, b: RawFd) -> Result<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: integers.
    match unsafe {
        let me = libc::getpid();
        libc::syscall(libc::SYS_kcmp, me, me, KCMP_FILE, a, b)
    } {
        0 => Ok(true),
        -1 => Err(Errno::last()),
        _ => Ok(false),
    }
}

/// What there is to know of a file that the program has by that number. -EBADF for one that is open as a
/// path only.
fn look(fd: RawFd, number: RawFd) -> Result<Kind> {
    // SAFETY: an fcntl without an argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags == -1 || flags & libc::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a structure of ours, valid as zeros if the call should fail.
    let stat = unsafe {
        libc::fstat(fd, stat.as_mut_ptr());
        stat.assume_init()
    };
    let format = stat.st_mode & libc::S_IFMT;
    let seekable = matches!(format, libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR);
    let access = flags & libc::O_ACCMODE;
    let anonymous = (format == 0).then(|| Anonymous::of(fd, number));
    let eventfd = anonymous == Some(Anonymous::Eventfd);
    // Files that are made up when they are read have, most of them, the old kind of operations
    // alone, and no blocks.
    let made_up = format == libc::S_IFREG && stat.st_blocks == 0;
    let old = made_up && !has_iter(fd, access);
    Ok(Kind {
        reads: matches!(access, libc::O_RDONLY | libc::O_RDWR),
        writes: matches!(access, libc::O_WRONLY | libc::O_RDWR),
        format,
        direct: flags & libc::O_DIRECT != 0,
        // SAFETY: integers; moves nothing.
        stream: format == 0 || !seekable && unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } == -1,
        eventfd,
        can_read: match anonymous {
            Some(what) => what != Anonymous::Other,
            None => format != libc::S_IFDIR && !old,
        },
        // /dev/full can be written to by write(2) alone.
        can_write: !matches!(format, 0 | libc::S_IFDIR)
            && !old
            && (format != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 7)),
        nonblocking: flags & libc::O_NONBLOCK != 0,
        appends: flags & libc::O_APPEND != 0,
        inode: match format {
            libc::S_IFBLK => (stat.st_rdev, 0),
            _ => (stat.st_dev, stat.st_ino),
        },
        size: match format {
            libc::S_IFREG => stat.st_size as u64,
            _ => u64::MAX,
        },
    })
}

/// Numbers that were eventfds', and about when (see TRUST_SHIFT).
static EVENTFDS: [AtomicU64; 16] = [const { AtomicU64::new(u64::MAX) }; 16];

/// Anonymous files of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anonymous {
    Eventfd,
    /// A timerfd or signalfd: its AIO reads from these, too.
    Readable,
    Other,
}

impl Anonymous {
    /// The kernel's name for it takes as long as all else that is asked of a file, several times over:
    /// 3 us. So a number that was an eventfd's a moment ago, and is an anonymous file's that can be
    /// written to, is taken to be one still. What else there is of that kind does not take the 8 bytes.
    fn of(fd: RawFd, number: RawFd) -> Anonymous {
        let seen = &EVENTFDS[number as usize % EVENTFDS.len()];
        let now = number as u32 as u64 | monotonic_ns() >> TRUST_SHIFT << 32;
        if seen.load(Relaxed) == now && poll_now(fd, libc::POLLOUT) {
            return Anonymous::Eventfd;
        }
        let what = Anonymous::find_out(fd);
        if what == Anonymous::Eventfd {
            seen.store(now, Relaxed);
        }
        what
    }

    fn find_out(fd: RawFd) -> Anonymous {
        const PREFIX: &[u8] = b"anon_inode:";
        let mut target = [0u8; 64];
        let path = crate::sys::fd_path(fd);
        // SAFETY: a C string, and a buffer of the size given.
        let len = unsafe {
            libc::readlink(
                path.as_ptr().cast(),
                target.as_mut_ptr().cast(),
                target.len(),
            )
        };
        let target = &target[..usize::try_from(len).unwrap_or(0)];
        match target.strip_prefix(PREFIX) {
            Some(name) if name.starts_with(b"[eventfd]") => Anonymous::Eventfd,
            Some(name) if name.starts_with(b"[timerfd]") => Anonymous::Readable,
            Some(name) if name.starts_with(b"[signalfd]") => Anonymous::Readable,
            // Without /proc: of these, an eventfd is what can be written to.
            None if len < 0 && poll_now(fd, libc::POLLOUT) => Anonymous::Eventfd,
            None if len < 0 => Anonymous::Readable,
            _ => Anonymous::Other,
        }
    }
}

/// Whether a regular file has the kernel's newer operations, which AIO needs: the older ones refuse
/// any flag.
fn has_iter(fd: RawFd, access: i32) -> bool {
    const RWF_DSYNC: u32 = 2;
    access == libc::O_WRONLY || knows_flags(fd, RWF_DSYNC)
}

/// Whether reads from a file can be made with these flags (RWF_*): asked with one at the end of all
/// files, which finds nothing.
pub fn knows_flags(fd: RawFd, flags: u32) -> bool {
    let mut byte = 0u8;
    let one = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let end = i64::MAX as u64 - 8192;
    // SAFETY: a vector of ours, of one byte.
    let ret = unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const one, 1, end, 0, flags) };
    ret != -1 || Errno::last() != Errno::EOPNOTSUPP
}

/// Whether somebody has record locks on the file: perhaps this process, whose own a close would
/// drop. Asked as a stranger would: a lock of the open file's own conflicts with those of all
/// processes, this one included.
fn may_have_locks(file: &File) -> bool {
    // SAFETY: whoever calls has a reference.
    if unsafe { (*file.kind.get()).format } != libc::S_IFREG {
        return false;
    }
    // SAFETY: zeros are a valid flock: from the beginning, to the end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: a structure of ours.
    let asked = unsafe { libc::fcntl(file.dup.load(Relaxed), libc::F_OFD_GETLK, &raw mut lock) };
    asked == 0 && i32::from(lock.l_type) != libc::F_UNLCK
}
