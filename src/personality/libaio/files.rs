//! The files of requests. A request uses the file that its descriptor named at submit, even if the number names another one later.
//!
//! Within io_submit() a request is carried out with the program's number, as in the kernel. If it is left to other threads, the file is
//! sent to the library's own descriptor [`Table`]. As long as the file has requests in flight and the kernel can say that the number
//! still names it, it is sent only once; else once for each submit. The last request gives the file back before its event can be
//! seen: from then on the program's own close() is the last one again, with all its effects.

use super::channel::Message;
use super::table::{Table, is_inside};
use crate::personality::instance::global;
use crate::policy::tuning::tuning;
use crate::request::{Access, Claim};
use crate::sync::{AcqRel, Acquire, AtomicU32, Lock, Relaxed, Release};
use crate::sys::private_fd::close_here as close;
use crate::sys::{Result, monotonic_ns, poll_now};
use nix::errno::Errno;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64};

const SHARDS: usize = 16;

/// Files and eventfds that one submit remembers: a program seldom uses more of them in one call.
pub const REMEMBERED: usize = 4;

/// The facts that a request must know of its file, found out at submit.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    pub reads: bool,
    pub writes: bool,
    /// S_IFMT of its mode; 0 for the kernel's anonymous files.
    pub format: u32,
    /// The identity of the file, common to all its descriptors: of a block device the device, else the file system and the inode.
    pub inode: (u64, u64),
    /// A read or write does not wait within the kernel's io_submit().
    pub direct: bool,
    /// It has no position: a pipe, a socket, a terminal.
    pub stream: bool,
    pub eventfd: bool,
    /// The kernel's AIO can read from it, or write to it, if it is open for that.
    pub can_read: bool,
    pub can_write: bool,
    pub nonblocking: bool,
    /// A write goes to the end of the file.
    pub appends: bool,
    /// Its length when it was looked at.
    pub size: u64,
}

/// An open file of the program's that is held for requests.
pub struct File {
    /// Requests that use it. It goes from 0 to 1 and from 1 to 0 only under the shard's lock.
    refs: AtomicU32,
    /// Its descriptor in the library's own table; or SENT, or LOST.
    own: AtomicI32,
    /// The program's number, by which it is found; -1: it is not found.
    number: AtomicI32,
    /// The next file in the shard, or on the free list. Guarded by the lock of either.
    next: AtomicPtr<File>,
    /// The number by which a message names it.
    index: u32,
}

/// The file is on its way.
const SENT: RawFd = -1;
/// The file has not arrived, because there was no descriptor for it.
const LOST: RawFd = -2;

pub struct Files {
    shards: [Lock<Shard>; SHARDS],
    free: Lock<Free>,
    /// All files. Each chunk has twice as many as the one before it.
    chunks: [AtomicPtr<File>; CHUNKS],
}

/// The files that are found by number.
struct Shard(*mut File);

// SAFETY: files are never freed, and the list is changed only under the lock.
unsafe impl Send for Shard {}

struct Free {
    first: *mut File,
    chunks: usize,
}

// SAFETY: as for Shard.
unsafe impl Send for Free {}

const FIRST_CHUNK: usize = 32;
const CHUNKS: usize = 20;

/// The right to use a file.
pub struct FileRef(&'static File);

impl FileRef {
    /// Its descriptor in the library's own table. The calling thread must have that table.
    pub fn fd(&self) -> RawFd {
        debug_assert!(is_inside());
        // Acquire: pairs with the release in `arrived`.
        let own = self.0.own.load(Acquire);
        if own != SENT {
            return own;
        }
        super::receive_all();
        self.0.own.load(Acquire)
    }

    pub fn is_same(&self, other: &FileRef) -> bool {
        ptr::eq(self.0, other.0)
    }

    /// One more right to the same file.
    pub fn again(&self) -> FileRef {
        // Relaxed: `self` keeps the count above 0.
        self.0.refs.fetch_add(1, Relaxed);
        FileRef(self.0)
    }

    /// The right as a number that fits into a request.
    pub fn into_raw(self) -> usize {
        let at = ptr::from_ref(self.0) as usize;
        std::mem::forget(self);
        at
    }

    /// # Safety
    /// `raw` is a result of `into_raw`, and is used only once.
    pub unsafe fn from_raw(raw: usize) -> FileRef {
        // SAFETY: as the caller promises; files are never freed.
        FileRef(unsafe { &*(raw as *const File) })
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        // Release: our use of the file is over before it is closed; pairs with the acquire in `last_gone`.
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
        // A child that was forked meanwhile has no files.
        if let Some(global) = global() {
            global.libaio.files.last_gone(&global.libaio.table, self.0);
        }
    }
}

/// See [`crate::sys::host::OwnTable::hold`].
pub fn hold_here(number: RawFd) -> Result<usize> {
    let libaio = &global().ok_or(Errno::EAGAIN)?.libaio;
    let held = libaio.files.hold(&libaio.table, number)?;
    Ok(held.into_raw())
}

/// See [`crate::sys::host::OwnTable::fd`].
pub fn fd_of(held: usize) -> RawFd {
    // SAFETY: made by `into_raw`, and only borrowed here.
    unsafe { ManuallyDrop::new(FileRef::from_raw(held)) }.fd()
}

/// See [`crate::sys::host::OwnTable::give_back`].
pub fn give_back(held: usize) {
    // SAFETY: made by `hold_here`; the caller promises to give it back once.
    drop(unsafe { FileRef::from_raw(held) });
}

impl Files {
    pub fn new() -> Files {
        Files {
            shards: std::array::from_fn(|_| Lock::new(Shard(ptr::null_mut()))),
            free: Lock::new(Free {
                first: ptr::null_mut(),
                chunks: 0,
            }),
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    fn shard(&self, number: RawFd) -> &Lock<Shard> {
        &self.shards[number as usize % SHARDS]
    }

    /// Whether requests hold a file that had this number.
    pub fn are_held(&self, number: RawFd) -> bool {
        number >= 0 && self.shard(number).lock().find(number).is_some()
    }

    /// Holds the file that `number` names now. If that fails, only this thread can carry the request out, now.
    pub fn hold(&'static self, table: &'static Table, number: RawFd) -> Result<FileRef> {
        let shard = self.shard(number);
        let found = shard.lock().find(number).map(|file| {
            // Relaxed: the lock orders it.
            file.refs.fetch_add(1, Relaxed);
            FileRef(file)
        });
        if let Some(found) = found {
            if table.is_same(number, found.0.own.load(Acquire)) {
                return Ok(found);
            }
            // From here on it is not found, and it lives until its last request ends.
            shard.lock().unlink(found.0);
        }
        self.hold_separately(table, number)
    }

    /// The same with a descriptor of its own.
    pub fn hold_separately(&'static self, table: &'static Table, number: RawFd) -> Result<FileRef> {
        table.enter();
        let held = self.send(table, number);
        if held.is_err() {
            table.leave();
        }
        held
    }

    fn send(&'static self, table: &'static Table, number: RawFd) -> Result<FileRef> {
        let file = self.pop_free()?;
        let sent = table.reserve().and_then(|()| {
            file.own.store(SENT, Relaxed);
            let sent = table.send(u64::from(file.index), number);
            sent.inspect_err(|_| table.release())
        });
        if let Err(errno) = sent {
            self.put_free(file);
            return Err(errno);
        }
        file.number.store(number, Relaxed);
        file.refs.store(1, Relaxed);
        let mut shard = self.shard(number).lock();
        if let Some(old) = shard.find(number) {
            shard.unlink(old);
        }
        file.next.store(shard.0, Relaxed);
        shard.0 = ptr::from_ref(file).cast_mut();
        Ok(FileRef(file))
    }

    /// A message has arrived. Called in the library's own table.
    pub fn arrived(&'static self, message: Message) {
        let file = usize::try_from(message.number)
            .ok()
            .and_then(|index| self.at(index))
            .filter(|file| file.own.load(Relaxed) == SENT);
        match file {
            // Release: pairs with the acquire in `fd`.
            Some(file) => file.own.store(message.file.unwrap_or(LOST), Release),
            None => close(message.file.unwrap_or(LOST)),
        }
    }

    fn at(&self, index: usize) -> Option<&'static File> {
        let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
        let first = FIRST_CHUNK * ((1 << chunk) - 1);
        // Acquire: pairs with the release in `grow`.
        let files = self.chunks.get(chunk)?.load(Acquire);
        // SAFETY: `index` is within the chunk, which is never freed.
        (!files.is_null()).then(|| unsafe { &*files.add(index - first) })
    }

    fn pop_free(&self) -> Result<&'static File> {
        let mut free = self.free.lock();
        if free.first.is_null() {
            self.grow(&mut free)?;
        }
        // SAFETY: a file on the free list has no user, and is never freed.
        let file: &'static File = unsafe { &*free.first };
        free.first = file.next.load(Relaxed);
        Ok(file)
    }

    fn put_free(&self, file: &'static File) {
        let mut free = self.free.lock();
        file.next.store(free.first, Relaxed);
        free.first = ptr::from_ref(file).cast_mut();
    }

    fn grow(&self, free: &mut Free) -> Result<()> {
        let chunk = free.chunks;
        let place = self.chunks.get(chunk).ok_or(Errno::ENOMEM)?;
        let count = FIRST_CHUNK << chunk;
        let first = FIRST_CHUNK * ((1 << chunk) - 1);
        let mut files = Vec::new();
        files.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        files.extend((first..first + count).map(|index| File {
            refs: AtomicU32::new(0),
            own: AtomicI32::new(LOST),
            number: AtomicI32::new(-1),
            next: AtomicPtr::new(ptr::null_mut()),
            index: index as u32,
        }));
        let files = Vec::leak(files);
        for file in files.iter() {
            file.next.store(free.first, Relaxed);
            free.first = ptr::from_ref(file).cast_mut();
        }
        // Release: pairs with the acquire in `at`.
        place.store(files.as_mut_ptr(), Release);
        free.chunks += 1;
        Ok(())
    }

    /// Drops the last reference, unless another thread has got one meanwhile.
    fn last_gone(&'static self, table: &'static Table, file: &'static File) {
        let number = file.number.load(Relaxed);
        let mut shard = self.shard(number).lock();
        // Acquire: pairs with the release in `drop`: the other users are done with the file.
        if file.refs.fetch_sub(1, AcqRel) != 1 {
            return;
        }
        shard.unlink(file);
        drop(shard);
        let at = ptr::from_ref(file) as usize;
        if table.run(close_file, at).is_err() {
            // The table is gone, and everything in it was closed.
            table.release();
            self.put_free(file);
        }
        table.leave();
    }
}

/// Closes a file that has no user any more. Called in the library's own table.
fn close_file(at: usize) -> Result<i64> {
    // SAFETY: `last_gone` has given it; files are never freed.
    let file = unsafe { FileRef::from_raw(at) };
    close(file.fd());
    let file = ManuallyDrop::new(file).0;
    if let Some(global) = global() {
        global.libaio.table.release();
        global.libaio.files.put_free(file);
    }
    Ok(0)
}

impl Shard {
    fn iter(&self) -> impl Iterator<Item = &'static File> + use<> {
        let mut at = self.0;
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

    /// Removes a file from the list, if it is there.
    fn unlink(&mut self, gone: &'static File) {
        let next = gone.next.load(Relaxed);
        if ptr::eq(self.0, gone) {
            self.0 = next;
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

/// A file's device and its number there.
fn inode_of(stat: &libc::stat) -> (u64, u64) {
    if stat.st_mode & libc::S_IFMT == libc::S_IFBLK {
        (stat.st_rdev, 0)
    } else {
        (stat.st_dev, stat.st_ino)
    }
}

/// Zeros if there is no file.
fn stat_of(fd: RawFd) -> libc::stat {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a structure of ours. If the call fails, it is valid as zeros.
    unsafe {
        libc::fstat(fd, stat.as_mut_ptr());
        stat.assume_init()
    }
}

/// How the claims of requests call the file that the program has under a number ([`Claim::what`]).
pub fn claimed(fd: RawFd) -> u64 {
    Claim::of_file(inode_of(&stat_of(fd)), 0, 0, Access::Nothing).what
}

/// Finds out about the file that the program has under a number. -EBADF if it is open only as a path.
pub fn look(fd: RawFd) -> Result<Kind> {
    // SAFETY: an fcntl without an argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags == -1 || flags & libc::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let stat = stat_of(fd);
    let format = stat.st_mode & libc::S_IFMT;
    let seekable = matches!(format, libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR);
    let access = flags & libc::O_ACCMODE;
    let anonymous = (format == 0).then(|| Anonymous::of(fd));
    let eventfd = anonymous == Some(Anonymous::Eventfd);
    // Files whose content is generated when they are read have no blocks, and most of them have only the old file operations.
    let made_up = format == libc::S_IFREG && stat.st_blocks == 0;
    let old = made_up && !has_iter(fd, access);
    Ok(Kind {
        reads: matches!(access, libc::O_RDONLY | libc::O_RDWR),
        writes: matches!(access, libc::O_WRONLY | libc::O_RDWR),
        format,
        inode: inode_of(&stat),
        direct: flags & libc::O_DIRECT != 0,
        stream: match format {
            0 | libc::S_IFIFO | libc::S_IFSOCK => true,
            // SAFETY: integers; it does not move the position.
            _ => !seekable && unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } == -1,
        },
        eventfd,
        can_read: match anonymous {
            Some(what) => what != Anonymous::Other,
            None => format != libc::S_IFDIR && !old,
        },
        // /dev/full can be written only with write(2).
        can_write: !matches!(format, 0 | libc::S_IFDIR)
            && !old
            && (format != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 7)),
        nonblocking: flags & libc::O_NONBLOCK != 0,
        appends: flags & libc::O_APPEND != 0,
        size: match format {
            libc::S_IFREG => stat.st_size as u64,
            _ => u64::MAX,
        },
    })
}

/// Numbers that have named eventfds, each with the time, rounded (see `Tuning::tick_shift`).
static EVENTFDS: [AtomicU64; 16] = [const { AtomicU64::new(u64::MAX) }; 16];

/// The kernel's anonymous files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anonymous {
    Eventfd,
    /// A timerfd, signalfd or userfaultfd. The kernel's AIO reads from these, too.
    Readable,
    Other,
}

impl Anonymous {
    /// Asking for the kernel's name of a file takes several times as long as all other questions about it. So if a number named an
    /// eventfd a moment ago, and now names an anonymous file that can be written, it is taken for an eventfd. A write of 8 bytes fails on
    /// other files of that kind.
    fn of(fd: RawFd) -> Anonymous {
        let seen = &EVENTFDS[fd as usize % EVENTFDS.len()];
        let now = fd as u32 as u64 | monotonic_ns() >> tuning().tick_shift << 32;
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
        // SAFETY: a C string, and a buffer of the given size.
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
            Some(name) if name.starts_with(b"[userfaultfd]") => Anonymous::Readable,
            Some(name) if name.starts_with(b"[signalfd]") => Anonymous::Readable,
            // Without /proc: of these files, only an eventfd can be written.
            None if len < 0 && poll_now(fd, libc::POLLOUT) => Anonymous::Eventfd,
            None if len < 0 => Anonymous::Readable,
            _ => Anonymous::Other,
        }
    }
}

/// Whether a regular file has the kernel's newer operations, which AIO needs. The older ones refuse every flag.
fn has_iter(fd: RawFd, access: i32) -> bool {
    const RWF_DSYNC: u32 = 2;
    access == libc::O_WRONLY || knows_flags(fd, RWF_DSYNC)
}

/// Whether reads of a file can have these flags (RWF_*). Tries one beyond the end of every file, which reads nothing.
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
