//! The library's own descriptor table, for the files of io_submit()'s requests.
//!
//! The program's table has no descriptor for a held file: closing it would drop the process's record locks, keeping it would keep
//! the file open, the program could reuse its number, and a child would inherit it. So the threads that carry these requests out share a
//! table of their own. A file gets there through a [channel](super::channel). It leaves when the last request that uses it has ended,
//! before that request's event can be seen.
//!
//! A thread has the table of the thread that started it. The first thread here, the keeper, leaves the program's table and starts all
//! others. It also does jobs in this table for threads of the program's ([`Table::run`]). If a worker cannot be started, it tries again
//! from time to time. When the table has had no user for a while, the keeper ends, and the table with it.
//!
//! If there can be no such table (no thread, no descriptor, a sandbox that forbids it), io_submit() carries requests out itself, as
//! the kernel does.

use super::channel::{self, ENDS, Message, Received, Sender};
use crate::personality::instance::global;
use crate::policy::tuning::tuning;
use crate::queue::Pool;
use crate::sync::{AcqRel, Acquire, AtomicU32, Guard, Lock, Relaxed, Release};
use crate::sys::host::Job;
use crate::sys::private_fd::{self, Making, NO_FILE};
use crate::sys::thread::{self, spawn};
use crate::sys::{
    NEVER, Result, Waited, futex_wait, futex_wake, gettid, has_call_filter, is_same_file, limit,
    monotonic_ns,
};
use crate::syscall::carrier;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize};

/// A dozing keeper checks at this interval whether the last user has left just before the keeper could be woken.
const LONG_NS: u64 = 60_000_000_000;
/// How often the keeper tries to start workers, if it could not.
const RETRY_NS: u64 = 10_000_000;
/// Number of descriptors here that are not for files.
const SPARE: u64 = 16;
/// How often a channel is made again for one message.
pub const TRIES: usize = 8;

/// Value of the keeper's word: it has nothing to do.
const IDLE: u32 = 0;
/// Value of the keeper's word: it has a job.
const ASKED: u32 = 1;
/// Value of the keeper's word: it has done the job.
const DONE: u32 = 2;

/// How many keepers there have been, in this process and in those that it was forked from.
static KEEPERS: AtomicU32 = AtomicU32::new(0);

pub struct Table {
    files: Sender,
    /// The receiving ends, which are in this table.
    receivers: [AtomicI32; ENDS],
    /// The listening socket in this table, while the channel is made again.
    listener: AtomicI32,
    /// Held while a thread receives.
    receiving: Lock<()>,
    /// Held by the thread that gives the keeper a job, starts it, or ends it.
    turn: Lock<()>,
    /// The keeper's thread id; 0: there is no keeper.
    keeper: AtomicU32,
    /// State of the keeper's job, a futex: IDLE, ASKED or DONE.
    word: AtomicU32,
    /// The job, its argument and its result. Guarded by `turn`, and handed over by `word`.
    job: AtomicUsize,
    given: AtomicUsize,
    answer: AtomicI64,
    /// Threads in here, plus files that are held. The keeper stays as long as there are any.
    users: AtomicU32,
    /// Descriptors that files have in here, or will have.
    reserved: AtomicU32,
    /// The keeper waits until the last user leaves.
    dozing: AtomicBool,
    /// There can be no table: a sandbox forbids it.
    refused: AtomicBool,
    /// See [`doorbell`].
    doorbell: AtomicI32,
    /// State of the guard, a futex.
    guard: AtomicU32,
}

/// Value of the guard's word: there is no guard.
const NO_GUARD: u32 = 0;
const WATCHING: u32 = 1;
/// The guard must end the process.
const TO_END: u32 = 2;
/// The guard must end, because the keeper ends.
const TO_GO: u32 = 3;

/// Whether the calling thread has this table and not the program's.
pub use crate::sys::private_fd::is_inside;

impl Table {
    pub fn new() -> Table {
        Table {
            files: Sender::new(),
            receivers: [const { AtomicI32::new(NO_FILE) }; ENDS],
            listener: AtomicI32::new(NO_FILE),
            receiving: Lock::new(()),
            turn: Lock::new(()),
            keeper: AtomicU32::new(0),
            word: AtomicU32::new(IDLE),
            job: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
            answer: AtomicI64::new(0),
            users: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            dozing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            doorbell: AtomicI32::new(NO_FILE),
            guard: AtomicU32::new(NO_GUARD),
        }
    }

    /// Makes the table, if there is none.
    pub fn prepare(&'static self) -> Result<()> {
        // SeqCst: pairs with `end`. A thread that has entered before sees that the keeper ends, or the keeper sees it and stays.
        if self.keeper.load(SeqCst) != 0 {
            return Ok(());
        }
        if self.is_refused() {
            return Err(Errno::EPERM);
        }
        let (_making, turn) = self.turn_to_start();
        self.start(&turn)
    }

    /// The number of the last keeper.
    pub fn last_keeper() -> u32 {
        KEEPERS.load(Relaxed)
    }

    /// Whether there can be no such table, now or later.
    pub fn is_refused(&self) -> bool {
        // Relaxed: a hint. A thread that does not see it tries once more.
        self.refused.load(Relaxed)
    }

    /// Returns the turn, and, if the keeper may have to be started, the right to make descriptors. The right comes first in the lock order,
    /// because its holder may want the turn.
    fn turn_to_start(&self) -> (Option<Making>, Guard<'_, ()>) {
        loop {
            let making = (self.keeper.load(Acquire) == 0).then(Making::begin);
            let turn = self.turn.lock();
            // The keeper may have ended meanwhile.
            if making.is_some() || self.keeper.load(Acquire) != 0 {
                return (making, turn);
            }
        }
    }

    /// Sends a file of the program's to this table, with `number`. From now on the kernel holds it.
    pub fn send(&'static self, number: u64, file: RawFd) -> Result<()> {
        self.prepare()?;
        let mut sent = self.files.send(number, file);
        for _ in 0..TRIES {
            match sent {
                Err(errno) if self.files.is_gone(errno) => {}
                _ => break,
            }
            // The program may close the new channel, too.
            if self.reconnect().is_ok() {
                sent = self.files.send(number, file);
            }
        }
        // Too many files are on their way.
        if let Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS) = sent {
            self.run(|_| Ok(super::receive_all()), 0)?;
            sent = self.files.send(number, file);
        }
        sent
    }

    /// Has the files that are on their way received.
    pub fn receive_sent(&'static self) {
        if self.keeper.load(Acquire) != 0 {
            // If there is no keeper any more, no file is on its way.
            let _ = self.run(|_| Ok(super::receive_all()), 0);
        }
    }

    /// Makes a new channel when the program has closed the sending end.
    fn reconnect(&'static self) -> Result<()> {
        // As in `turn_to_start`.
        let _making = Making::begin();
        let turn = self.turn.lock();
        self.start(&turn)?;
        if self.files.is_there() {
            return Ok(());
        }
        let digits = self.ask(&turn, listen, 0)?;
        let connected = self.files.connect(digits);
        let at = connected.map_or(ENDS, |_| self.files.make_room());
        let accepted = self.ask(&turn, accept, at);
        let mine = connected?;
        match accepted {
            Ok(_) => self.files.add(at, mine),
            Err(_) => private_fd::close(mine),
        }
        accepted.map(drop)
    }

    /// Receives all messages that have been sent, and calls `each` for each.
    pub fn receive(&self, mut each: impl FnMut(Message)) {
        debug_assert!(is_inside());
        let _receiving = self.receiving.lock();
        for receiver in &self.receivers {
            loop {
                match receiver.load(Relaxed) {
                    NO_FILE => break,
                    from => match channel::receive(from) {
                        Received::Message(message) => each(message),
                        Received::Nothing => break,
                        Received::End => private_fd::close_here(receiver.swap(NO_FILE, Relaxed)),
                    },
                }
            }
        }
    }

    /// Counts one more thread or file that needs the table. Called before `prepare`.
    pub fn enter(&self) {
        // SeqCst: pairs with `end`.
        self.users.fetch_add(1, SeqCst);
    }

    pub fn leave(&self) {
        // SeqCst: our use of the table is over; pairs with `end` and `until`.
        if self.users.fetch_sub(1, SeqCst) == 1 && self.dozing.load(SeqCst) {
            futex_wake(&self.word, 1);
        }
    }

    /// Reserves a descriptor for a file that is about to be sent. EMFILE: there is none left. If a file had no descriptor on arrival,
    /// it would be lost.
    pub fn reserve(&self) -> Result<()> {
        // Relaxed: a count.
        if u64::from(self.reserved.fetch_add(1, Relaxed)) + SPARE < limit(libc::RLIMIT_NOFILE) {
            return Ok(());
        }
        self.release();
        Err(Errno::EMFILE)
    }

    /// Gives the descriptor back: the file was closed, or was not sent.
    pub fn release(&self) {
        self.reserved.fetch_sub(1, Relaxed);
    }

    /// Whether the program's `number` and this table's `descriptor` name the same file. False if the kernel cannot tell.
    pub fn is_same(&self, number: RawFd, descriptor: RawFd) -> bool {
        let there = self.keeper.load(Relaxed);
        // A sandbox may not allow the call.
        descriptor >= 0
            && !has_call_filter()
            && is_same_file((carrier::tid(), number), (there, descriptor))
    }

    /// Has a thread of this table do a job, and waits for the result.
    pub fn run(&'static self, job: Job, given: usize) -> Result<i64> {
        if is_inside() {
            return job(given);
        }
        let (_making, turn) = self.turn_to_start();
        self.start(&turn)?;
        self.ask(&turn, job, given)
    }

    /// Has the keeper find out how long it may sleep.
    fn rouse_keeper(&self) {
        // The keeper itself does so before it sleeps.
        let is_needed = |keeper: u32| keeper != 0 && keeper != gettid();
        if is_needed(self.keeper.load(Acquire)) {
            let turn = self.turn.lock();
            // It may have ended meanwhile.
            if self.keeper.load(Acquire) != 0 {
                let _ = self.ask(&turn, |_| Ok(0), 0);
            }
        }
    }

    fn ask(&self, _turn: &Guard<()>, job: Job, given: usize) -> Result<i64> {
        self.job.store(job as usize, Relaxed);
        self.given.store(given, Relaxed);
        // Release: pairs with the acquire in `keep`.
        self.word.store(ASKED, Release);
        futex_wake(&self.word, 1);
        self.answer()
    }

    /// Waits until the keeper has done its job. Returns the result.
    fn answer(&self) -> Result<i64> {
        // Acquire: pairs with the release in `keep`.
        while self.word.load(Acquire) != DONE {
            let seen = self.word.load(Relaxed);
            if seen != DONE {
                futex_wait(&self.word, seen, NEVER);
            }
        }
        self.word.store(IDLE, Relaxed);
        match self.answer.load(Relaxed) {
            error @ -4095..0 => Err(Errno::from_raw(-error as i32)),
            value => Ok(value),
        }
    }

    /// Starts the keeper, if there is none. The caller has the right to make descriptors.
    fn start(&'static self, _turn: &Guard<()>) -> Result<()> {
        if self.keeper.load(Acquire) != 0 {
            return Ok(());
        }
        if self.is_refused() {
            return Err(Errno::EPERM);
        }
        // The rest of the last keeper's channels.
        self.files.close();
        let (mine, receiver) = self.files.open()?;
        let at = self.files.make_room();
        for (i, place) in self.receivers.iter().enumerate() {
            place.store(if i == at { receiver } else { NO_FILE }, Relaxed);
        }
        self.word.store(ASKED, Relaxed);
        let main = |this: usize| {
            // SAFETY: `self` below, which is never freed.
            unsafe { &*(this as *const Table) }.keep();
        };
        // The guard comes first: there must be one as long as other threads have the table.
        let made = self
            .start_guard()
            .and_then(|()| spawn(c"aio2-keeper", main, ptr::from_ref(self) as usize))
            .and_then(|()| self.answer());
        // The keeper's table has a copy of it.
        private_fd::close(receiver);
        if made.is_err() {
            self.let_guard_go();
            self.word.store(IDLE, Relaxed);
            private_fd::close(mine);
        } else {
            self.files.add(at, mine);
        }
        made.map(drop)
    }

    /// Starts a thread that keeps the program's table, for work that has to be done there after the program's last thread has ended. If
    /// the last keeper's guard is still there, it stays.
    fn start_guard(&'static self) -> Result<()> {
        let to_watching = |now| matches!(now, NO_GUARD | TO_GO).then_some(WATCHING);
        if self.guard.fetch_update(AcqRel, Relaxed, to_watching) != Ok(NO_GUARD) {
            return Ok(());
        }
        let main = |this: usize| {
            // SAFETY: `self` below, which is never freed.
            unsafe { &*(this as *const Table) }.guard();
        };
        spawn(c"aio2-guard", main, ptr::from_ref(self) as usize)
            .inspect_err(|_| self.guard.store(NO_GUARD, Release))
    }

    /// There is no keeper any more, so no guard is needed.
    fn let_guard_go(&self) {
        let _ = self
            .guard
            .compare_exchange(WATCHING, TO_GO, AcqRel, Relaxed);
        futex_wake(&self.guard, 1);
    }

    /// Tells the guard to end the process. False: there is no guard.
    pub fn has_process_end(&self) -> bool {
        let there = self
            .guard
            .compare_exchange(WATCHING, TO_END, AcqRel, Acquire);
        futex_wake(&self.guard, 1);
        !matches!(there, Err(NO_GUARD | TO_GO))
    }

    /// The guard's main function.
    fn guard(&self) {
        loop {
            // Acquire: pairs with the release of the thread that has changed the word.
            match self.guard.load(Acquire) {
                WATCHING => {
                    futex_wait(&self.guard, WATCHING, NEVER);
                }
                TO_END => return thread::end_process(),
                _ => {
                    let gone = self
                        .guard
                        .compare_exchange(TO_GO, NO_GUARD, AcqRel, Relaxed);
                    if gone.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    fn done(&self, answer: Result<i64>) {
        let answer = answer.unwrap_or_else(|errno| -(errno as i64));
        self.answer.store(answer, Relaxed);
        // Release: pairs with the acquire in `answer`.
        self.word.store(DONE, Release);
        futex_wake(&self.word, 1);
    }

    /// The keeper's main function.
    fn keep(&'static self) {
        let mut receivers = self.receivers.iter().map(|place| place.load(Relaxed));
        let made = receivers
            .find(|&receiver| receiver != NO_FILE)
            .ok_or(Errno::EBADF)
            .and_then(leave_table);
        if made.is_ok() {
            private_fd::set_inside();
            // Relaxed: a thread that has entered and sees the keeper sees its number.
            KEEPERS.fetch_add(1, Relaxed);
            // Release: pairs with the acquire in `prepare`.
            self.keeper.store(gettid(), Release);
        }
        let failed = made.is_err();
        if let Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS) = made {
            self.refused.store(true, Relaxed);
        }
        self.done(made.map(|()| 0));
        if failed {
            return;
        }
        let mut until = self.until();
        loop {
            // Acquire: pairs with the release in `ask`.
            match self.word.load(Acquire) {
                ASKED => {
                    // SAFETY: `ask` has stored a Job there.
                    let job = unsafe { std::mem::transmute::<usize, Job>(self.job.load(Relaxed)) };
                    self.done(job(self.given.load(Relaxed)));
                    until = self.until();
                }
                seen => {
                    let waited = futex_wait(&self.word, seen, until);
                    if waited == Waited::TimedOut {
                        match starving_pool() {
                            Some(pool) => pool.retry(),
                            None if self.end() => return,
                            None => {}
                        }
                    }
                    if waited != Waited::Interrupted {
                        until = self.until();
                    }
                }
            }
        }
    }

    /// The time until which the keeper waits. If the table has users, the last of them wakes it earlier.
    fn until(&self) -> u64 {
        if starving_pool().is_some() {
            return monotonic_ns() + RETRY_NS;
        }
        self.dozing.store(true, SeqCst);
        // SeqCst: pairs with `leave`: the last user to leave sees that the keeper dozes, or the keeper sees that it has left.
        if self.users.load(SeqCst) != 0 {
            return monotonic_ns() + LONG_NS;
        }
        self.dozing.store(false, SeqCst);
        monotonic_ns() + tuning().idle_ns
    }

    /// The keeper has had no job for a while. Returns whether it must end.
    fn end(&self) -> bool {
        // If another thread holds the turn, it is about to give the keeper a job.
        let Some(_turn) = self.turn.try_lock_for(0) else {
            return false;
        };
        if self.users.load(Relaxed) != 0 {
            return false;
        }
        let me = self.keeper.swap(0, SeqCst);
        // SeqCst, both: pairs with `enter` and `prepare`: a thread may have entered and seen the keeper still there.
        let unused = self.users.load(SeqCst) == 0;
        if !unused {
            self.keeper.store(me, SeqCst);
        } else {
            // It is closed with the table.
            self.doorbell.store(NO_FILE, Relaxed);
            self.let_guard_go();
        }
        unused
    }

    /// The program is about to replace a private descriptor.
    pub fn release_number(&self, number: RawFd) {
        self.files.release_number(number);
    }

    /// Called in a forked child: releases inherited descriptors.
    pub fn abandon(&self) {
        self.files.abandon();
    }
}

/// [`Table::run`] in this process's table.
pub fn run(job: Job, given: usize) -> Result<i64> {
    let global = global().ok_or(Errno::EBADF)?;
    global.libaio.table.run(job, given)
}

/// The pool whose workers have this table, if its contexts wait for threads that could not be started.
fn starving_pool() -> Option<&'static Pool> {
    let pool = &global()?.libaio_pool;
    pool.lacks_workers().then_some(pool)
}

/// Has the keeper try again to start workers, until it succeeds or no context waits: perhaps no other thread comes to do so.
pub fn retry_workers() {
    if let Some(global) = global() {
        global.libaio.table.rouse_keeper();
    }
}

/// See [`crate::sys::host::OwnTable::doorbell`]. The calling thread must have the table.
pub fn doorbell() -> Option<RawFd> {
    let table = &global()?.libaio.table;
    // Relaxed, here and below: only a number; the kernel orders access to its file.
    let there = table.doorbell.load(Relaxed);
    if there != NO_FILE {
        return Some(there);
    }
    let mine = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).ok()?;
    let mine = OwnedFd::from(mine).into_raw_fd();
    match table
        .doorbell
        .compare_exchange(NO_FILE, mine, Relaxed, Relaxed)
    {
        Ok(_) => Some(mine),
        Err(first) => {
            private_fd::close_here(mine);
            Some(first)
        }
    }
}

/// The keeper's part in [`Table::reconnect`].
fn listen(_: usize) -> Result<i64> {
    let table = &global().ok_or(Errno::EBADF)?.libaio.table;
    let (listener, digits) = channel::listen()?;
    table.listener.store(listener, Relaxed);
    Ok(digits)
}

fn accept(at: usize) -> Result<i64> {
    let table = &global().ok_or(Errno::EBADF)?.libaio.table;
    let listener = table.listener.swap(NO_FILE, Relaxed);
    let place = table.receivers.get(at);
    let accepted = match place {
        None => Err(Errno::EBADF),
        Some(_) => channel::accept(listener),
    };
    private_fd::close_here(listener);
    let receiver = accepted?;
    // First receive the files that are still on their way through the end that this one replaces.
    super::receive_all();
    let _receiving = table.receiving.lock();
    if let Some(place) = place {
        private_fd::close_here(place.swap(receiver, Relaxed));
    }
    Ok(0)
}

/// Gives the calling thread a table of its own, in which only `keep` is open.
fn leave_table(keep: RawFd) -> Result<()> {
    const UNSHARE: u32 = 2;
    const LAST: u32 = u32::MAX;
    let range = |first: u32, last: u32, flags: u32| {
        // SAFETY: integers.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
    };
    let keep = keep as u32;
    // Recent kernels do not even copy the descriptors that are closed.
    if range(0, keep - 1, UNSHARE).is_ok() {
        return range(keep + 1, LAST, 0);
    }
    // SAFETY: a flag, which affects only this thread's table.
    Errno::result(unsafe { libc::unshare(libc::CLONE_FILES) })?;
    // SAFETY: a constant.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(0, 1 << 20) as u32;
    for other in (0..most.max(keep + 1)).filter(|&other| other != keep) {
        // SAFETY: the table is this thread's own.
        unsafe { libc::syscall(libc::SYS_close, other) };
    }
    Ok(())
}
