//! The library's own descriptor table, for the files of io_submit()'s requests.
//!
//! No descriptor in the program's table stands for a file of the program's: closing one would drop the
//! process's record locks, keeping one would keep the file open, its number could be taken, a child would inherit
//! it. So the threads that carry these requests out share a table of their own. A file gets there through a
//! [channel](super::channel), and leaves it when the last request that uses it is over, before the event of that
//! one can be seen.
//!
//! A thread has the table of the thread that started it. The first one here, the keeper, leaves the
//! program's table and starts all others; what has to be done in here for a thread of the program's
//! ([`Table::run`]), it does. It ends when nothing has been here for a while, and the table with it.
//!
//! Where there can be no such table (no thread, no descriptor, a sandbox that forbids it), io_submit()
//! carries requests out itself, as the kernel does.

use super::channel::{self, ENDS, Message, Received, Sender};
use crate::personality::instance::global;
use crate::sync::{AcqRel, Acquire, AtomicU32, Guard, Lock, Relaxed, Release};
use crate::sys::host::Job;
use crate::sys::private_fd::{self, Making, NO_FILE};
use crate::sys::thread::{self, spawn_detached};
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

/// The keeper ends when nothing has been here for so long.
const IDLE_NS: u64 = 3_000_000_000;
/// It looks so often whether the last of those who use the table has left it just before it could be woken.
const LONG_NS: u64 = 60_000_000_000;
/// So many descriptors in here are not for files.
const SPARE: u64 = 16;
/// So often a channel is made anew for one message.
pub const TRIES: usize = 8;

/// What the keeper's word says: it has nothing to do.
const IDLE: u32 = 0;
/// It has a job.
const ASKED: u32 = 1;
/// It has done it.
const DONE: u32 = 2;

pub struct Table {
    files: Sender,
    /// The receiving ends, in this table.
    receivers: [AtomicI32; ENDS],
    /// In this table, while the channel is made anew.
    listener: AtomicI32,
    /// Held by whoever receives.
    receiving: Lock<()>,
    /// Held by whoever gives the keeper a job, starts it, or ends it.
    turn: Lock<()>,
    /// The keeper's thread number; 0: there is none.
    keeper: AtomicU32,
    /// A futex.
    word: AtomicU32,
    /// The job, what it is given and what came of it: under `turn`, and handed over by `word`.
    job: AtomicUsize,
    given: AtomicUsize,
    answer: AtomicI64,
    /// Threads in here, and files that are held: as long as there are any, the keeper stays.
    users: AtomicU32,
    /// Descriptors that files have in here, or will have.
    places: AtomicU32,
    /// The keeper waits for the last of these to leave.
    dozing: AtomicBool,
    /// There can be none: a sandbox forbids it.
    refused: AtomicBool,
    /// See [`doorbell`].
    doorbell: AtomicI32,
    /// What the guard is told: a futex.
    guard: AtomicU32,
}

/// What the word of the guard says: there is none.
const NO_GUARD: u32 = 0;
const WATCHING: u32 = 1;
/// The process is to end.
const TO_END: u32 = 2;
/// The keeper goes.
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
            places: AtomicU32::new(0),
            dozing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            doorbell: AtomicI32::new(NO_FILE),
            guard: AtomicU32::new(NO_GUARD),
        }
    }

    /// Makes the table, unless it is there.
    pub fn prepare(&'static self) -> Result<()> {
        // SeqCst: pairs with `end`. Whoever has entered before sees that the keeper goes, or it stays.
        if self.keeper.load(SeqCst) != 0 {
            return Ok(());
        }
        if self.is_refused() {
            return Err(Errno::EPERM);
        }
        let (_making, turn) = self.turn_to_start();
        self.start(&turn)
    }

    /// Whether there can be no such table, now or later.
    pub fn is_refused(&self) -> bool {
        // Relaxed: whoever does not see it tries once more.
        self.refused.load(Relaxed)
    }

    /// The turn, and, as it may have to be started, the right to make descriptors: that comes first, because who has it
    /// may want the turn.
    fn turn_to_start(&self) -> (Option<Making>, Guard<'_, ()>) {
        loop {
            let making = (self.keeper.load(Acquire) == 0).then(Making::begin);
            let turn = self.turn.lock();
            // It may have ended since.
            if making.is_some() || self.keeper.load(Acquire) != 0 {
                return (making, turn);
            }
        }
    }

    /// Sends a file of the program's here: from now on the kernel holds it. `number` comes with it.
    pub fn send(&'static self, number: u64, file: RawFd) -> Result<()> {
        self.prepare()?;
        let mut sent = self.files.send(number, file);
        for _ in 0..TRIES {
            match sent {
                Err(errno) if self.files.is_gone(errno) => {}
                _ => break,
            }
            // The program may close what is just being made, too.
            if self.reconnect().is_ok() {
                sent = self.files.send(number, file);
            }
        }
        // Too many are on their way.
        if let Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS) = sent {
            self.run(|_| Ok(super::receive_all()), 0)?;
            sent = self.files.send(number, file);
        }
        sent
    }

    /// Makes a new channel: the program has closed the sending end.
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

    /// Takes what has been sent, and tells of each.
    pub fn receive(&self, mut take: impl FnMut(Message)) {
        debug_assert!(is_inside());
        let _receiving = self.receiving.lock();
        for receiver in &self.receivers {
            loop {
                match receiver.load(Relaxed) {
                    NO_FILE => break,
                    from => match channel::receive(from) {
                        Received::Message(message) => take(message),
                        Received::Nothing => break,
                        Received::End => private_fd::close_here(receiver.swap(NO_FILE, Relaxed)),
                    },
                }
            }
        }
    }

    /// One more thread or file that needs the table: before it is prepared.
    pub fn enter(&self) {
        // SeqCst: pairs with `end`.
        self.users.fetch_add(1, SeqCst);
    }

    pub fn leave(&self) {
        // SeqCst: what was done with the table is over; pairs with `end`.
        if self.users.fetch_sub(1, SeqCst) == 1 && self.dozing.load(SeqCst) {
            futex_wake(&self.word, 1);
        }
    }

    /// Keeps a descriptor for a file that is about to be sent, or says that there is none: one that had none when it
    /// arrives would be lost.
    pub fn reserve(&self) -> Result<()> {
        // Relaxed: a count.
        if u64::from(self.places.fetch_add(1, Relaxed)) + SPARE < limit(libc::RLIMIT_NOFILE) {
            return Ok(());
        }
        self.release();
        Err(Errno::EMFILE)
    }

    /// The file is closed, or was not sent.
    pub fn release(&self) {
        self.places.fetch_sub(1, Relaxed);
    }

    /// Whether the program's number names what that descriptor of this table does. If the kernel
    /// cannot say, it does not.
    pub fn is_same(&self, number: RawFd, descriptor: RawFd) -> bool {
        let there = self.keeper.load(Relaxed);
        // A sandbox may not know the call.
        descriptor >= 0
            && !has_call_filter()
            && is_same_file((carrier::tid(), number), (there, descriptor))
    }

    /// Has that done by a thread in here, and waits for it.
    pub fn run(&'static self, job: Job, given: usize) -> Result<i64> {
        if is_inside() {
            return job(given);
        }
        let (_making, turn) = self.turn_to_start();
        self.start(&turn)?;
        self.ask(&turn, job, given)
    }

    fn ask(&self, _turn: &Guard<()>, job: Job, given: usize) -> Result<i64> {
        self.job.store(job as usize, Relaxed);
        self.given.store(given, Relaxed);
        // Release: pairs with the acquire in `keep`.
        self.word.store(ASKED, Release);
        futex_wake(&self.word, 1);
        self.answer()
    }

    /// Waits for the keeper's word.
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

    /// Starts the keeper, unless it is there. With the right to make descriptors.
    fn start(&'static self, _turn: &Guard<()>) -> Result<()> {
        if self.keeper.load(Acquire) != 0 {
            return Ok(());
        }
        if self.is_refused() {
            return Err(Errno::EPERM);
        }
        // What is left of the last one's.
        self.files.close();
        let (mine, receiver) = self.files.open()?;
        let at = self.files.make_room();
        for (i, place) in self.receivers.iter().enumerate() {
            place.store(if i == at { receiver } else { NO_FILE }, Relaxed);
        }
        self.word.store(ASKED, Relaxed);
        // SAFETY: the table is never freed.
        let started = unsafe { spawn_detached(keeper_main, ptr::from_ref(self).cast_mut().cast()) };
        let made = started.and_then(|()| self.answer());
        // The keeper has it.
        private_fd::close(receiver);
        if made.is_err() {
            self.word.store(IDLE, Relaxed);
            private_fd::close(mine);
        } else {
            self.files.add(at, mine);
            self.start_guard();
        }
        made.map(drop)
    }

    /// Starts a thread that keeps the program's table, for what has to be done there when the program's last thread has
    /// ended.
    fn start_guard(&'static self) {
        let free = self
            .guard
            .compare_exchange(NO_GUARD, WATCHING, AcqRel, Relaxed);
        if free.is_err() {
            // The last one's is about to see that it is to stay.
            let _ = self
                .guard
                .compare_exchange(TO_GO, WATCHING, AcqRel, Relaxed);
            return;
        }
        let arg = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the table is never freed.
        if unsafe { spawn_detached(guard_main, arg) }.is_err() {
            self.guard.store(NO_GUARD, Release);
        }
    }

    /// Has the guard end the process. False: there is none.
    pub fn has_process_end(&self) -> bool {
        let there = self
            .guard
            .compare_exchange(WATCHING, TO_END, AcqRel, Acquire);
        futex_wake(&self.guard, 1);
        !matches!(there, Err(NO_GUARD | TO_GO))
    }

    /// The guard's life.
    fn guard(&self) {
        loop {
            // Acquire: pairs with the release of whoever tells it something.
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

    /// The keeper's life.
    fn keep(&'static self) {
        let mut receivers = self.receivers.iter().map(|place| place.load(Relaxed));
        let made = receivers
            .find(|&receiver| receiver != NO_FILE)
            .ok_or(Errno::EBADF)
            .and_then(leave_table);
        if made.is_ok() {
            private_fd::set_inside();
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
                    // SAFETY: what `ask` has stored there: a Job.
                    let job = unsafe { std::mem::transmute::<usize, Job>(self.job.load(Relaxed)) };
                    self.done(job(self.given.load(Relaxed)));
                }
                seen => {
                    let waited = futex_wait(&self.word, seen, until);
                    if waited == Waited::TimedOut && self.end() {
                        return;
                    }
                    if waited != Waited::Interrupted {
                        until = self.until();
                    }
                }
            }
        }
    }

    /// Until when the keeper waits: as long as somebody uses the table, until that one leaves.
    fn until(&self) -> u64 {
        self.dozing.store(true, SeqCst);
        // SeqCst: the last to leave sees that the keeper dozes, or is seen here.
        if self.users.load(SeqCst) != 0 {
            return monotonic_ns() + LONG_NS;
        }
        self.dozing.store(false, SeqCst);
        monotonic_ns() + IDLE_NS
    }

    /// Nothing has been asked for a while: whether the keeper is to go.
    fn end(&self) -> bool {
        // Whoever has it is about to ask.
        let Some(_turn) = self.turn.try_lock_for(0) else {
            return false;
        };
        if self.users.load(Relaxed) != 0 {
            return false;
        }
        let me = self.keeper.swap(0, SeqCst);
        // SeqCst, both: somebody may have entered, and have found the keeper still there.
        let unused = self.users.load(SeqCst) == 0;
        if !unused {
            self.keeper.store(me, SeqCst);
        } else {
            // It goes with the table.
            self.doorbell.store(NO_FILE, Relaxed);
            let _ = self
                .guard
                .compare_exchange(WATCHING, TO_GO, AcqRel, Relaxed);
            futex_wake(&self.guard, 1);
        }
        unused
    }

    /// The program is about to put something else in the place of a private descriptor.
    pub fn release_number(&self, number: RawFd) {
        self.files.release_number(number);
    }

    /// In a forked child: gives back what it has inherited.
    pub fn abandon(&self) {
        self.files.abandon();
    }
}

extern "C" fn guard_main(table: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-guard".as_ptr()) };
    // SAFETY: what `start_guard` gave: never freed.
    let table: &'static Table = unsafe { &*table.cast::<Table>() };
    table.guard();
    ptr::null_mut()
}

extern "C" fn keeper_main(table: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-keeper".as_ptr()) };
    // SAFETY: what `start` gave: never freed.
    let table: &'static Table = unsafe { &*table.cast::<Table>() };
    table.keep();
    ptr::null_mut()
}

/// [`Table::run`] in this process's table.
pub fn run(job: Job, given: usize) -> Result<i64> {
    let global = global().ok_or(Errno::EBADF)?;
    global.libaio.table.run(job, given)
}

/// See [`crate::sys::host::OwnTable::doorbell`]. Called by a thread that has the table.
pub fn doorbell() -> Option<RawFd> {
    let table = &global()?.libaio.table;
    // Relaxed, here and below: a number. What it names the kernel keeps in order.
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
    // What is still on its way through the one whose place it takes.
    super::receive_all();
    let _receiving = table.receiving.lock();
    if let Some(place) = place {
        private_fd::close_here(place.swap(receiver, Relaxed));
    }
    Ok(0)
}

/// Gives the calling thread a table of its own, in which nothing is open but `keep`.
fn leave_table(keep: RawFd) -> Result<()> {
    const UNSHARE: u32 = 2;
    const LAST: u32 = u32::MAX;
    let range = |first: u32, last: u32, flags: u32| {
        // SAFETY: integers.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
    };
    let keep = keep as u32;
    // Recent kernels do not even copy what is closed.
    if range(0, keep - 1, UNSHARE).is_ok() {
        return range(keep + 1, LAST, 0);
    }
    // SAFETY: a flag: this thread's table alone.
    Errno::result(unsafe { libc::unshare(libc::CLONE_FILES) })?;
    // SAFETY: a constant.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(0, 1 << 20) as u32;
    for other in (0..most.max(keep + 1)).filter(|&other| other != keep) {
        // SAFETY: in the thread's own table: nobody else's.
        unsafe { libc::syscall(libc::SYS_close, other) };
    }
    Ok(())
}
