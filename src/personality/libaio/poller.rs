//! Poll requests: one thread waits for all of them, in epoll_wait(2). There may be thousands, and each may wait for ever, so
//! the pool does not carry them out.
//!
//! The thread uses the library's own descriptor [`Table`]. Each request is sent to it together with its file, through a
//! channel to which the thread also listens. A pending request is in a list. The thread takes it out if it is ready; the
//! keeper takes it out to cancel it. The one that took it out completes it.
//!
//! If there can be no such table, the thread uses the program's table, and a pending request has a duplicate of its file there.
//! As a rule, files that can be polled have no record locks, and the kernel's AIO would hold the file, too.

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

/// If there was no request for this time, the thread ends.
const IDLE_MS: i32 = 3000;
/// How many descriptors ppoll(2) waits for at most: the epoll and files with `Pending::once`. More such files go to the epoll.
const ONCE: usize = 64;
const NONE: RawFd = -1;

pub struct Poller {
    requests: Sender,
    list: Lock<List>,
    /// Held while the thread starts or ends.
    starting: Lock<()>,
    /// Descriptors in the library's own table: the epoll (NONE as long as there is no thread), the receiving ends of the channels
    /// to which the thread listens, and the end of a channel to which it does not listen yet.
    epoll: AtomicI32,
    receivers: [AtomicI32; RECEIVERS],
    arrived: AtomicI32,
    /// The thread and these descriptors are in the program's table instead.
    here: AtomicBool,
    /// There may be pending requests with `Pending::once` that are not in the epoll. Only the thread uses this.
    once: AtomicBool,
}

/// More than `ENDS`, because the thread may not have noticed yet that some sending ends are closed.
const RECEIVERS: usize = 2 * ENDS;

struct List {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    /// Counts the requests that have had this place, so that a late event of an earlier request is recognised.
    turn: u32,
    pending: Option<Pending>,
}

struct Pending {
    context: ContextRef,
    req: Req,
    obj: u64,
    /// NONE until the file has arrived.
    fd: RawFd,
    events: i16,
    /// A pipe: it reports readiness by two event bits, whichever was asked for.
    pipe: bool,
    /// A file that may report an event only once. Epoll would ask it twice.
    once: bool,
}

/// A bit in the key of an event: the event is a channel's, and the rest of the key is its descriptor.
const CHANNEL: u64 = 1 << 63;
/// The number that is sent to the table together with a channel.
pub const CHANNEL_COMES: u64 = u64::MAX;

/// A reserved place for a poll request.
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

    /// In a forked child: closes the inherited descriptors. The child has no thread.
    pub fn abandon(&self) {
        self.requests.abandon();
        if self.is_here() {
            private_fd::close_lent();
            close(self.epoll.load(Relaxed));
        }
    }

    fn is_here(&self) -> bool {
        // Relaxed: it is set before the first request, and stays set.
        self.here.load(Relaxed)
    }

    /// Reserves a place for a request, and starts the thread if there is none.
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
        // A thread that exists does not end from here on, because the place is in use.
        if self.start(shared).is_err() {
            self.give_back(shared, ticket);
            return Err(Errno::EAGAIN);
        }
        Ok(ticket)
    }

    /// Gives an unused place back.
    pub fn give_back(&self, shared: &Shared, ticket: Ticket) {
        self.list.lock().free.push(ticket.place);
        shared.table.release();
    }

    /// Ensures that there is a thread and a channel to it.
    fn start(&'static self, shared: &'static Shared) -> Result<()> {
        let _starting = self.starting.lock();
        // Relaxed: `starting` orders it.
        let has_thread = self.epoll.load(Relaxed) != NONE;
        if has_thread && (self.is_here() || self.requests.is_there()) {
            return Ok(());
        }
        shared.table.enter();
        // The program may close descriptors while they are made.
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
        // SAFETY: it takes only a flag.
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

    /// Does what the thread would do with a request that was sent to it.
    fn watch_here(&self, key: u64, file: RawFd) -> Result<()> {
        let _making = Making::begin();
        // Under the lock, because another thread may cancel the request.
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
            // Closes channels of an earlier thread.
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

    /// From here on the request is pending, and its event will come.
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
                // Too many requests are on their way. The thread takes them.
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
        // `List::grow` has reserved room for all places.
        list.free.push(index);
        Some(pending)
    }

    /// Cancels the context's first poll request of this iocb: the result in its event is 0.
    pub fn cancel(&'static self, table: &'static Table, context: &ContextRef, obj: u64) -> bool {
        self.ask_to_cancel(table, context, Some(obj))
    }

    /// Cancels all poll requests of the context.
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
        // The table exists, because a pending request keeps it.
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

    /// Takes the requests that have come through a channel.
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
                // It was cancelled before it arrived.
                drop(list);
                close(message.file.unwrap_or(NONE));
                continue;
            };
            pending.fd = message.file.unwrap_or(NONE);
            let (fd, events) = (pending.fd, pending.events);
            // Under the lock, because a thread that cancels the request closes this descriptor.
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
        // poll(2) and epoll have the same event bits.
        let mut event = libc::epoll_event {
            events: u32::from(events as u16) | libc::EPOLLONESHOT as u32,
            u64: key,
        };
        // SAFETY: an event of ours.
        let ret = unsafe { libc::epoll_ctl(self.epoll.load(Relaxed), how, fd, &mut event) };
        Errno::result(ret).map(drop)
    }

    /// A poll request is ready: completes it. It can be cancelled until it is taken. The lock is held during a system call that
    /// does not wait.
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
        // Some files report an event only once, so the events that epoll has seen are added.
        let mut mask = ready_now(pending.fd, pending.events) | seen as u16;
        if pending.pipe {
            mask |= ready_now(pending.fd, both_names(pending.events));
        }
        drop(list);
        if let Some(pending) = self.take(key) {
            finish(self, pending, i64::from(mask));
        }
    }

    /// The main loop of the thread.
    fn wait(&'static self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let epoll = self.epoll.load(Relaxed);
        loop {
            if self.once.load(Relaxed) {
                self.wait_for_once(epoll);
            }
            // SAFETY: `events` has room for the number of events that is passed.
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

    /// Waits until the epoll has an event, and meanwhile for the files that are not in it (`Pending::once`).
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
            // With a time limit, because a cancelled request does not end this wait.
            let mut patience = timespec(IDLE_MS as u64 * 1_000_000);
            // SAFETY: `all` has `count` elements, and `patience` is ours. By syscall(), because libc's function is a cancellation
            // point.
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

    /// The program has closed the thread's descriptors in its table.
    fn lose(&self) {
        // A new thread can be started only afterwards, so it has only new requests.
        let _starting = self.starting.lock();
        self.epoll.store(NONE, Relaxed);
        while let Some(mut pending) = self.take_any() {
            // The number may belong to a file of the program by now.
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

    /// The other end of a channel is closed. A child may still hold this end open: then epoll would continue to report it, under a
    /// number that may be another file's by then.
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

    /// Nothing has happened for a while. Returns whether the thread must end.
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

/// Makes the thread listen to a channel that has arrived. If there is no thread, starts it. Runs in the library's own table.
fn listen(poller: usize) -> Result<i64> {
    // SAFETY: `connect` has passed a poller, which is never freed.
    let poller: &'static Poller = unsafe { &*(poller as *const Poller) };
    super::receive_all();
    let receiver = poller.arrived.swap(NONE, Relaxed);
    let place = match poller.place_of(NONE) {
        Some(place) => place,
        None => {
            // All places are in use. The old channel belongs to a table that nobody uses any more, or that makes a new channel.
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
        // SAFETY: it takes only a flag.
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
        // The channel has not arrived, or the program has replaced it by something else.
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
    /// The iocb; None: any.
    obj: Option<u64>,
}

struct Cancel<'a> {
    poller: &'static Poller,
    wanted: Wanted<'a>,
}

/// Cancels one request, in the library's own table. 0: there is none.
fn cancel_one(given: usize) -> Result<i64> {
    // SAFETY: `ask_to_cancel` has passed its own value, and waits until this function returns.
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
    /// Adds a place.
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
        // The program has the same file open, so closing this descriptor alone does not remove it from the epoll.
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

/// The events, and the other bits with the same meaning.
fn both_names(events: i16) -> i16 {
    let more = |one, other| if events & one != 0 { other } else { 0 };
    events | more(libc::POLLIN, libc::POLLRDNORM) | more(libc::POLLOUT, libc::POLLWRNORM)
}

extern "C" fn poll_main(poller: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: it names this thread by a constant string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-poller".as_ptr()) };
    // SAFETY: `listen` or `start_here` has passed a poller, which is never freed.
    let poller: &'static Poller = unsafe { &*poller.cast::<Poller>() };
    let _inside = Inside::begin();
    poller.wait();
    ptr::null_mut()
}
