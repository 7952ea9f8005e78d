//! What is down here and has to be asked of the process, or of the library's own descriptor table: functions that
//! whoever makes the process's instance gives before the first thread is started.

use super::Result;
use super::private_fd::is_inside;
use super::thread::Threads;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

pub struct Host {
    /// The threads of this process: a forked child inherits none, and has others.
    pub threads: fn() -> Option<&'static Threads>,
    pub own_table: OwnTable,
}

/// The library's own descriptor table.
pub struct OwnTable {
    /// One more thread needs it.
    pub enter: fn(),
    pub leave: fn(),
    /// A file in it to read no bytes from (see [`super::aio::ring_doorbell`]).
    pub doorbell: fn() -> Option<RawFd>,
    /// Has a job done by a thread that has it, and waits for that. An error: there is none, or the job's.
    pub run: fn(Job, usize) -> Result<i64>,
    /// Holds in it the file that this number of the calling thread's names now; the word stands for the file.
    pub hold: fn(RawFd) -> Result<usize>,
    /// The descriptor of a file that is held, in a thread that has the table.
    pub fd: fn(usize) -> RawFd,
    /// The file is not held any more: once.
    pub give_back: fn(usize),
    /// Has a thread that has the program's descriptors end the process. False: there is none.
    pub has_process_end: fn() -> bool,
}

/// What is to be done in the library's own table.
pub type Job = fn(usize) -> Result<i64>;

/// Null before the first thread is started.
static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());

pub fn set_host(host: &'static Host) {
    // Release: pairs with the acquire in `host`.
    HOST.store(ptr::from_ref(host).cast_mut(), Release);
}

fn host() -> Option<&'static Host> {
    // SAFETY: null, or what `set_host` was given. Acquire: pairs with the release there.
    unsafe { HOST.load(Acquire).as_ref() }
}

/// The library's threads in this process.
pub fn threads() -> Option<&'static Threads> {
    (host()?.threads)()
}

pub fn own_table() -> Option<&'static OwnTable> {
    Some(&host()?.own_table)
}

/// See [`OwnTable::doorbell`]; for a thread that has the table.
pub fn own_doorbell() -> Option<RawFd> {
    is_inside()
        .then(own_table)?
        .and_then(|table| (table.doorbell)())
}

/// A thread that was started in the library's own table, until it ends.
pub struct Inside(&'static OwnTable);

impl Inside {
    /// The calling thread, which was started by one in there that has counted it ([`OwnTable::enter`]).
    pub fn begin() -> Option<Inside> {
        own_table().map(Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        (self.0.leave)();
    }
}

/// See [`OwnTable::run`].
pub fn run_inside(job: Job, given: usize) -> Result<i64> {
    (own_table().ok_or(Errno::EBADF)?.run)(job, given)
}

/// A file that is held in the library's own table.
pub struct HeldFile {
    file: usize,
    table: &'static OwnTable,
}

impl HeldFile {
    /// See [`OwnTable::hold`].
    pub fn hold(number: RawFd) -> Result<HeldFile> {
        let table = own_table().ok_or(Errno::EAGAIN)?;
        let file = (table.hold)(number)?;
        Ok(HeldFile { file, table })
    }

    /// See [`OwnTable::fd`].
    pub fn fd(&self) -> RawFd {
        (self.table.fd)(self.file)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        (self.table.give_back)(self.file);
    }
}
