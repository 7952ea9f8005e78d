//! Poll requests: one thread waits for all of them, in epoll_wait(2). They may be thousands, and
//! may wait for ever, so they are no work for the pool.
//!
//! The thread has the library's own descriptor [`Table`], to which the file of a request is sent with it, through a
//! channel that the thread listens to as well. A pending request is in a list; whoever takes it out of there (the
//! thread, because it is ready, or the keeper, for somebody who cancels) completes it.
//!
//! Where there can be no such table, the thread has the program's, in which a pending request then has a
//! duplicate of its file: what can be polled for has no record locks as a rule, and the kernel would hold it, too.

use super::channel::{self, ENDS, Received, Sender};
use super::table::{TRIES, Table};
use super::{Shared, global};
use crate::policy::route::Route;
use crate::queue::{Context, ContextRef};
use crate::request::Req;
use crate::sync::{Lock, Relaxed};
use crate::sys::host::Inside;
use crate::sys::private_fd::{self, Making, close};
use crate::sys::thread::spawn_detached;
use crate::sys::{Result, ready_now, timespec};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32};

/// The thread ends when there was nothing to wait for so long.
const IDLE_MS: i32 = 3000;
/// So many of the files that may say only once that something has happened are waited for at a time.
const ONCE: usize = 64;
const NONE: RawFd = -1;

pub struct Poller {
    requests: Sender,
    list: Lock<List>,
    /// Held while the thread is started, or ends.
    starting: Lock<()>,
    /// In the library's own table: the epoll, NONE as long as there is no thread; the receiving ends of channels that
    /// it listens to, and of one that it does not yet.
    epoll: AtomicI32,
    receivers: [AtomicI32; RECEIVERS],
    arrived: AtomicI32,
    /// The thread, and all that is said to be in the library's own table, is in the program's.
    here: AtomicBool,
    /// There may be requests whose files epoll is not asked about. The thread's own.
    once: AtomicBool,
}

/// Beside those whose sending ends are there, some are closed and not seen to be.
const RECEIVERS: usize = 2 * ENDS;

struct List {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    /// Counts the requests that have had this place, so that a late event of an earlier one is
    /// known.
    turn: u32,
    pending: Option<Pending>,
}

struct Pending {
    context: ContextRef,
    req: Req,
    obj: u64,
    /// NONE until it has arrived.
    fd: RawFd,
    events: i16,
    /// A pipe, which says in two ways that it is ready, whichever was asked for.
    pipe: bool,
    /// A file that may say only once that something has happened. Epoll asks twice.
    once: bool,
}

/// In the key of an event: it is the channel's, whose descriptor is the rest.
const CHANNEL: u64 = 1 << 63;
/// What comes with a channel that is sent to the table.
pub const CHANNEL_COMES: u64 = u64::MAX;

/// A place for a request that is about to be polled for.
pub struct Ticket {
    place: u32,
    pipe: bool,
    once: bool,
}

impl Poller {
    pub fn new() -> Poller {
        Poller {
            requests: Sender::new(),
            list: Lock::new(List {
                places: Vec::new(),
                free: Vec::new(),
            }),
            starting: Lock::new(()),
            epoll: AtomicI32::new(NONE),
            receivers: [const { AtomicI32::new(NONE) }; RECEIVERS],
            arrived: AtomicI32::new(NONE),
            here: AtomicBool::new(false),
            once: AtomicBool::new(false),
        }
    }

    pub fn release_number(&self, number: RawFd) {
        self.requests.release_number(number);
    }

    /// In a forked child: closes what it has inherited. The child has no thread.
    pub fn abandon(&self) {
        self.requests.abandon();
        if self.is_here() {
            private_fd::close_lent();
            close(self.epoll.load(Relaxed));
        }
    }

    fn is_here(&self) -> bool {
        // Relaxed: it is set before there is a request, and stays.
        self.here.load(Relaxed)
    }

    /// Makes a place for a request, and starts the thread, the first time.
    pub fn prepare(&'static self, shared: &'static Shared, format: u32) -> Result<Ticket> {
        shared.table.reserve().map_err(|_| Errno::EAGAIN)?;
        let mut list = self.list.lock();
        let place = match list.free.pop() {
            Some(place) => Ok(place),
            None => list.grow(),
        };
        drop(list);
        let place = place.inspect_err(|_| shared.table.release())?;
        let ticket = Ticket {
            place,
            pipe: format == libc::S_IFIFO,
            once: format == libc::S_IFREG,
        };
        // From here on the thread stays, if there is one.
        if self.start(shared).is_err() {
            self.give_back(shared, ticket);
            return Err(Errno::EAGAIN);
        }
        Ok(ticket)
    }

    /// Gives a place back that was not used.
    pub fn give_back(&self, shared: &Shared, ticket: Ticket) {
        self.list.lock().free.push(ticket.place);
        shared.table.release();
    }

    /// Sees to it that there is a thread, and a channel to it.
    fn start(&'static self, shared: &'static Shared) -> Result<()> {
        let _starting = self.starting.lock();
        // Relaxed: the lock orders it.
        let has_thread = self.epoll.load(Relaxed) != NONE;
        if has_thread && (self.is_here() || self.requests.is_there()) {
            return Ok(());
        }
        shared.table.enter();
        // The program may close what is just being made.
        let mut made = Err(Errno::EAGAIN);
        for _ in 0..TRIES {
            made = self.connect(&shared.table);
            if made.is_ok() || shared.table.is_refused() {
                break;
            }
        }
        if made.is_err() && shared.table.is_refused() {
            made = self.start_here(&shared.table);
        }
        shared.table.leave();
        made
    }

    /// Starts the thread in the program's table.
    fn start_here(&'static self, table: &'static Table) -> Result<()> {
        let _making = Making::begin();
        self.requests.close();
        // SAFETY: a flag.
        let low = Errno::result(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let epoll = private_fd::duplicate(low);
        close(low);
        let epoll = epoll?;
        self.epoll.store(epoll, Relaxed);
        self.here.store(true, Relaxed);
        table.enter();
        let arg = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the poller is never freed.
        let started = unsafe { spawn_detached(poll_main, arg) };
        if started.is_err() {
            table.leave();
            self.epoll.store(NONE, Relaxed);
            close(epoll);
        }
        started
    }

    /// The same as sending it to the thread.
    fn watch_here(&self, key: u64, file: RawFd) -> Result<()> {
        let _making = Making::begin();
        // Under the lock: others may cancel it as soon as they can.
        let mut list = self.list.lock();
        let place = list.places.get_mut(key as u32 as usize);
        let pending = place
            .filter(|place| place.turn == (key >> 32) as u32)
            .and_then(|place| place.pending.as_mut());
        let Some(pending) = pending else {
            return Ok(());
        };
        pending.fd = private_fd::lend(file)?;
        self.watch(libc::EPOLL_CTL_ADD, pending.fd, pending.events, key)
    }

    fn connect(&'static self, table: &'static Table) -> Result<()> {
        let _making = Making::begin();
        if self.epoll.load(Relaxed) == NONE {
            // What is left of the last thread's.
            self.requests.close();
        }
        let (mine, receiver) = self.requests.open()?;
        let made = table
            .send(CHANNEL_COMES, receiver)
            .and_then(|()| table.run(listen, ptr::from_ref(self) as usize));
        private_fd::close(receiver);
        match made {
            Ok(_) => self.requests.add(self.requests.make_room(), mine),
            Err(_) => private_fd::close(mine),
        }
        made.map(drop)
    }

    /// The receiving end of a channel has arrived.
    pub fn arrived(&self, receiver: Option<RawFd>) {
        self.arrived.store(receiver.unwrap_or(NONE), Relaxed);
    }

    /// The request is pending from here on, and its context's event will come.
    pub fn submit(
        &'static self,
        shared: &'static Shared,
        ticket: Ticket,
        context: &ContextRef,
        req: Req,
        obj: u64,
        events: i16,
    ) {
        let file = req.fd();
        let mut list = self.list.lock();
        let place = &mut list.places[ticket.place as usize];
        place.turn = place.turn.wrapping_add(1) & (u32::MAX >> 1);
        let key = key(ticket.place, place.turn);
        place.pending = Some(Pending {
            context: context.clone(),
            req,
            obj,
            fd: NONE,
            events,
            pipe: ticket.pipe,
            once: ticket.once,
        });
        drop(list);
        if self.is_here() {
            if let Err(errno) = self.watch_here(key, file) {
                self.cannot_watch(key, errno);
            }
            return;
        }
        let mut tries = 0;
        loop {
            match self.requests.send(key, file) {
                Ok(()) => return,
                // The thread is about to take what has been sent.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS) => {
                    std::thread::yield_now();
                }
                Err(errno) if tries < TRIES && self.requests.is_gone(errno) => {
                    tries += 1;
                    let _ = self.start(shared);
                }
                Err(errno) => {
                    if let Some(pending) = self.take(key) {
                        finish(self, pending, -(errno as i64));
                    }
                    return;
                }
            }
        }
    }

    fn take(&self, key: u64) -> Option<Pending> {
        let mut list = self.list.lock();
        let index = key as u32;
        let place = list.places.get_mut(index as usize)?;
        if place.turn != (key >> 32) as u32 {
            return None;
        }
        let pending = place.pending.take()?;
        // Room for all places was made when they were.
        list.free.push(index);
        Some(pending)
    }

    /// Cancels that context's first poll request of this iocb: its event will say 0.
    pub fn cancel(&'static self, table: &'static Table, context: &ContextRef, obj: u64) -> bool {
        self.ask_to_cancel(table, context, Some(obj))
    }

    /// Cancels all of that context's.
    pub fn cancel_all(&'static self, table: &'static Table, context: &ContextRef) {
        while self.ask_to_cancel(table, context, None) {}
    }

    fn ask_to_cancel(
        &'static self,
        table: &'static Table,
        context: &ContextRef,
        obj: Option<u64>,
    ) -> bool {
        let wanted = Wanted { context, obj };
        if self.find(&self.list.lock(), &wanted).is_none() {
            return false;
        }
        let cancel = Cancel {
            poller: self,
            wanted,
        };
        if self.is_here() {
            return cancel_one(ptr::from_ref(&cancel) as usize) == Ok(1);
        }
        // What is pending keeps the table.
        table.run(cancel_one, ptr::from_ref(&cancel) as usize) == Ok(1)
    }

    fn find(&self, list: &List, wanted: &Wanted) -> Option<usize> {
        list.places.iter().position(|place| {
            place.pending.as_ref().is_some_and(|pending| {
                pending.context.is(wanted.context)
                    && wanted.obj.is_none_or(|obj| obj == pending.obj)
            })
        })
    }

    /// Takes what has come through a channel.
    fn take_requests(&self, receiver: RawFd) {
        loop {
            let message = match channel::receive(receiver) {
                Received::Message(message) => message,
                Received::Nothing => return,
                Received::End => return self.hang_up(receiver),
            };
            let mut list = self.list.lock();
            let place = list.places.get_mut(message.number as u32 as usize);
            let pending = place
                .filter(|place| place.turn == (message.number >> 32) as u32)
                .and_then(|place| place.pending.as_mut());
            let Some(pending) = pending else {
                // It was cancelled on its way.
                drop(list);
                close(message.file.unwrap_or(NONE));
                continue;
            };
            pending.fd = message.file.unwrap_or(NONE);
            let (fd, events) = (pending.fd, pending.events);
            // Under the lock: who cancels it closes that descriptor.
            let watched = if pending.once && fd != NONE {
                self.once.store(true, Relaxed);
                Ok(())
            } else {
                self.watch(libc::EPOLL_CTL_ADD, fd, events, message.number)
            };
            drop(list);
            if let Err(errno) = watched {
                self.cannot_watch(message.number, errno);
            }
        }
    }

    fn cannot_watch(&self, key: u64, errno: Errno) {
        if let Some(pending) = self.take(key) {
            let errno = match errno {
                Errno::EPERM => Errno::EINVAL,
                _ => Errno::EAGAIN,
            };
            finish(self, pending, -(errno as i64));
        }
    }

    fn watch(&self, how: i32, fd: RawFd, events: i16, key: u64) -> Result<()> {
        // The bits of poll(2) and epoll are the same.
        let mut event = libc::epoll_event {
            events: u32::from(events as u16) | libc::EPOLLONESHOT as u32,
            u64: key,
        };
        // SAFETY: an event of ours.
        let ret = unsafe { libc::epoll_ctl(self.epoll.load(Relaxed), how, fd, &mut event) };
        Errno::result(ret).map(drop)
    }

    /// A poll request is ready: completes it. All the while it can be found by those who cancel: the lock is
    /// kept for a system call that does not wait.
    fn ready(&self, key: u64, seen: i16) {
        let list = self.list.lock();
        let Some(place) = list.places.get(key as u32 as usize) else {
            return;
        };
        let Some(pending) = place.pending.as_ref() else {
            return;
        };
        if place.turn != (key >> 32) as u32 {
            return;
        }
        // Some files say only once that something has happened: it is what epoll has seen.
        let mut mask = ready_now(pending.fd, pending.events) | seen as u16;
        if pending.pipe {
            mask |= ready_now(pending.fd, both_names(pending.events));
        }
        drop(list);
        if let Some(pending) = self.take(key) {
            finish(self, pending, i64::from(mask));
        }
    }

    /// The thread's life.
    fn wait(&'static self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let epoll = self.epoll.load(Relaxed);
        loop {
            if self.once.load(Relaxed) {
                self.wait_for_once(epoll);
            }
            // SAFETY: room for as many events as said.
            let got = unsafe {
                libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, IDLE_MS)
            };
            if got == 0 && self.end(epoll) {
                return;
            }
            if got < 0 && self.is_here() && Errno::last() != Errno::EINTR {
                return self.lose();
            }
            for event in events.iter().take(got.max(0) as usize) {
                if event.u64 & CHANNEL == 0 {
                    self.ready(event.u64, event.events as i16);
                    continue;
                }
                let receiver = (event.u64 & !CHANNEL) as RawFd;
                if self.place_of(receiver).is_some() {
                    self.take_requests(receiver);
                }
            }
        }
    }

    /// Waits until epoll has something, and for the files about which it is not asked meanwhile.
    fn wait_for_once(&self, epoll: RawFd) {
        let pollfd = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        loop {
            let mut all = [pollfd(NONE, 0); ONCE];
            let mut keys = [0; ONCE];
            let mut count = 1;
            all[0] = pollfd(epoll, libc::POLLIN);
            for (place, at) in self.list.lock().places.iter().zip(0..) {
                let pending = place.pending.as_ref();
                let Some(pending) = pending.filter(|one| one.once && one.fd != NONE) else {
                    continue;
                };
                if count < ONCE {
                    all[count] = pollfd(pending.fd, pending.events);
                    keys[count] = key(at, place.turn);
                    count += 1;
                } else {
                    let key = key(at, place.turn);
                    let _ = self.watch(libc::EPOLL_CTL_ADD, pending.fd, pending.events, key);
                }
            }
            if count == 1 {
                return self.once.store(false, Relaxed);
            }
            // Not for ever: what is cancelled meanwhile does not end it.
            let mut patience = timespec(IDLE_MS as u64 * 1_000_000);
            // SAFETY: as many as said, and a time of ours. By syscall(): libc's own is a cancellation point.
            unsafe {
                let all = all.as_mut_ptr();
                libc::syscall(libc::SYS_ppoll, all, count, &raw mut patience, 0, 8);
            }
            for (one, key) in all.iter().zip(keys).take(count).skip(1) {
                if one.revents != 0 {
                    self.ready(key, one.revents);
                }
            }
            if all[0].revents != 0 {
                return;
            }
        }
    }

    /// The program has closed all that the thread had in its table.
    fn lose(&self) {
        // Whoever starts another thread then does so for requests of its own.
        let _starting = self.starting.lock();
        self.epoll.store(NONE, Relaxed);
        while let Some(mut pending) = self.take_any() {
            // It may be the program's by now.
            pending.fd = NONE;
            finish(self, pending, -i64::from(libc::EBADF));
        }
    }

    fn take_any(&self) -> Option<Pending> {
        let mut list = self.list.lock();
        let index = list
            .places
            .iter()
            .position(|place| place.pending.is_some())?;
        list.free.push(index as u32);
        list.places[index].pending.take()
    }

    /// The other end of a channel is closed. A child may still have this one, and epoll would go on telling of it by a
    /// number that is a file's.
    fn hang_up(&self, receiver: RawFd) {
        let place = self.place_of(receiver);
        if let Some(place) = place {
            place.store(NONE, Relaxed);
        }
        let _ = self.watch(libc::EPOLL_CTL_DEL, receiver, 0, 0);
        close(receiver);
    }

    fn place_of(&self, receiver: RawFd) -> Option<&AtomicI32> {
        let is_here = |place: &&AtomicI32| place.load(Relaxed) == receiver;
        self.receivers.iter().find(is_here)
    }

    /// Nothing has happened for a while: whether the thread is to go.
    fn end(&self, epoll: RawFd) -> bool {
        let Some(_starting) = self.starting.try_lock_for(0) else {
            return false;
        };
        let list = self.list.lock();
        if list.free.len() != list.places.len() {
            return false;
        }
        drop(list);
        self.epoll.store(NONE, Relaxed);
        for place in &self.receivers {
            close(place.swap(NONE, Relaxed));
        }
        close(epoll);
        true
    }
}

/// Has the thread listen to a channel that has arrived, and starts it, if there is none. Done in the table.
fn listen(poller: usize) -> Result<i64> {
    // SAFETY: what `connect` has given: never freed.
    let poller: &'static Poller = unsafe { &*(poller as *const Poller) };
    super::receive_all();
    let receiver = poller.arrived.swap(NONE, Relaxed);
    let place = match poller.place_of(NONE) {
        Some(place) => place,
        None => {
            // Of a table that nobody uses any more, or that makes itself a new one.
            let place = &poller.receivers[receiver.max(0) as usize % RECEIVERS];
            let old = place.load(Relaxed);
            poller.take_requests(old);
            if place.load(Relaxed) == old {
                poller.hang_up(old);
            }
            place
        }
    };
    let is_new = poller.epoll.load(Relaxed) == NONE;
    if is_new {
        // SAFETY: a flag.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let made = Errno::result(epoll).inspect_err(|_| close(receiver))?;
        poller.epoll.store(made, Relaxed);
    }
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: CHANNEL | receiver as u64,
    };
    let epoll = poller.epoll.load(Relaxed);
    // SAFETY: an event of ours.
    let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, receiver, &mut event) };
    if let Err(errno) = Errno::result(added) {
        // It has not come, or is something that the program has put in its place.
        close(receiver);
        if is_new {
            poller.epoll.store(NONE, Relaxed);
            close(epoll);
        }
        return Err(errno);
    }
    place.store(receiver, Relaxed);
    if is_new && let Some(global) = global() {
        global.libaio.table.enter();
        let arg = ptr::from_ref(poller).cast_mut().cast();
        // SAFETY: the poller is never freed.
        if let Err(errno) = unsafe { spawn_detached(poll_main, arg) } {
            global.libaio.table.leave();
            poller.epoll.store(NONE, Relaxed);
            poller.hang_up(receiver);
            close(epoll);
            return Err(errno);
        }
    }
    Ok(0)
}

struct Wanted<'a> {
    context: &'a ContextRef,
    /// The iocb; None: whichever.
    obj: Option<u64>,
}

struct Cancel<'a> {
    poller: &'static Poller,
    wanted: Wanted<'a>,
}

/// Cancels one request, in the table. 0: there is none.
fn cancel_one(given: usize) -> Result<i64> {
    // SAFETY: what `ask_to_cancel` has given, which waits for this.
    let Cancel { poller, wanted } = unsafe { &*(given as *const Cancel) };
    let mut list = poller.list.lock();
    let Some(index) = poller.find(&list, wanted) else {
        return Ok(0);
    };
    let pending = list.places[index].pending.take();
    list.free.push(index as u32);
    drop(list);
    if let Some(pending) = pending {
        finish(poller, pending, 0);
    }
    Ok(1)
}

impl List {
    /// One more place.
    fn grow(&mut self) -> Result<u32> {
        self.places.try_reserve(1).map_err(|_| Errno::EAGAIN)?;
        let all = self.places.len() + 1;
        let free = self.free.len();
        self.free
            .try_reserve(all - free)
            .map_err(|_| Errno::EAGAIN)?;
        self.places.push(Place {
            turn: 0,
            pending: None,
        });
        Ok(all as u32 - 1)
    }
}

fn key(place: u32, turn: u32) -> u64 {
    u64::from(turn) << 32 | u64::from(place)
}

fn finish(poller: &Poller, pending: Pending, res: i64) {
    if pending.fd != NONE {
        // The program has the file, too, so that closing this descriptor does not make epoll forget it.
        let _ = poller.watch(libc::EPOLL_CTL_DEL, pending.fd, 0, 0);
        close(pending.fd);
    }
    if let Some(global) = global() {
        global.libaio.table.release();
    }
    let Pending {
        context, mut req, ..
    } = pending;
    if res > 0 {
        req.set_route(Route::Readiness);
    }
    req.set_res(res);
    Context::complete_elsewhere(&context, req);
}

/// The events, and the other names of the same.
fn both_names(events: i16) -> i16 {
    let more = |one, other| if events & one != 0 { other } else { 0 };
    events | more(libc::POLLIN, libc::POLLRDNORM) | more(libc::POLLOUT, libc::POLLWRNORM)
}

extern "C" fn poll_main(poller: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-poller".as_ptr()) };
    // SAFETY: what `listen` gave: never freed.
    let poller: &'static Poller = unsafe { &*poller.cast::<Poller>() };
    let _inside = Inside::begin();
    poller.wait();
    ptr::null_mut()
}
