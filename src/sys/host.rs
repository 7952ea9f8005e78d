//! Functions that this layer needs from above: the process's threads and the library's own descriptor table. The module
//! that creates the process's instance sets them before the first thread starts.

use super::Result;
use super::private_fd::is_inside;
use super::thread::Threads;
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

pub struct Host {
    /// The library's threads in this process. A forked child inherits none and has its own.
    pub threads: fn() -> Option<&'static Threads>,
    pub own_table: OwnTable,
}

/// The library's own descriptor table.
pub struct OwnTable {
    /// Counts one more thread that uses the table, which it leaves when it ends.
    pub enter: fn(),
    pub leave: fn(),
    /// A file in the table for reads of zero bytes (see [`super::aio::ring_doorbell`]).
    pub doorbell: fn() -> Option<RawFd>,
    /// Runs a job in a thread that uses the table, and waits for it. An error comes from the job, or means that there
    /// is no such thread.
    pub run: fn(Job, usize) -> Result<i64>,
    /// Holds in the table the file that the calling thread's descriptor names now. The returned word stands for the
    /// file.
    pub hold: fn(RawFd) -> Result<usize>,
    /// The descriptor of a held file, valid in threads that use the table.
    pub fd: fn(usize) -> RawFd,
    /// Releases a held file. Called once.
    pub give_back: fn(usize),
    /// Lets a thread that uses the program's descriptors end the process. False: there is no such thread.
    pub has_process_end: fn() -> bool,
}

/// A job for a thread that uses the library's own table.
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

/// See [`OwnTable::doorbell`]. None if the calling thread does not use the table.
pub fn own_doorbell() -> Option<RawFd> {
    is_inside()
        .then(own_table)?
        .and_then(|table| (table.doorbell)())
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
