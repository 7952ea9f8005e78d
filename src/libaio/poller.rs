//! Poll requests: one thread waits for all of them, in epoll_wait(2). They may be thousands, and
//! may wait for ever, so they are no work for the pool.
//!
//! The thread has the library's own descriptor [`Table`], to which the file of a request is sent with it, through a
//! channel that the thread listens to as well. A pending request is in a list; whoever takes it out of there (the
//! thread, because it is ready, or the keeper, for somebody who cancels) completes it.

use super::Shared;
use super::channel::{self, ENDS, Received, Sender};
use super::table::{Inside, TRIES, Table};
use crate::context::Context;
use crate::own::{self, Making, close_here as close};
use crate::registry::ContextRef;
use crate::request::Req;
use crate::sync::{Lock, Relaxed};
use crate::sys::{Result, ready_now, spawn_detached};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicI32;

/// The thread ends when there was nothing to wait for so long.
const IDLE_MS: i32 = 3000;
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
}

/// In the key of an event: it is the channel's, whose descriptor is the rest.
const CHANNEL: u64 = 1 << 63;
/// What comes with a channel that is sent to the table.
pub const CHANNEL_COMES: u64 = u64::MAX;

/// A place for a request that is about to be polled for.
pub struct Ticket {
    place: u32,
    pipe: bool,
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
        }
    }

    pub fn vacate(&self, number: RawFd) {
        self.requests.vacate(number);
    }

    /// In a forked child: closes what it has inherited. The child has no thread.
    pub fn abandon(&self) {
        self.requests.abandon();
    }

    /// Makes a place for a request, and starts the thread, the first time.
    pub fn prepare(&'static self, shared: &'static Shared, pipe: bool) -> Result<Ticket> {
        shared.table.reserve().map_err(|_| Errno::EAGAIN)?;
        let mut list = self.list.lock();
        let place = match list.free.pop() {
            Some(place) => Ok(place),
            None => list.grow(),
        };
        drop(list);
        let place = place.inspect_err(|_| shared.table.release())?;
        // From here on the thread stays, if there is one.
        match self.start(shared) {
            Ok(()) => Ok(Ticket { place, pipe }),
            Err(_) => {
                self.give_back(shared, Ticket { place, pipe });
                Err(Errno::EAGAIN)
            }
        }
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
        if self.epoll.load(Relaxed) != NONE && self.requests.is_there() {
            return Ok(());
        }
        shared.table.enter();
        // The program may close what is just being made.
        let mut made = Err(Errno::EAGAIN);
        for _ in 0..TRIES {
            made = self.connect(&shared.table);
            if made.is_ok() {
                break;
            }
        }
        shared.table.leave();
        made
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
        own::close(receiver);
        match made {
            Ok(_) => self.requests.add(self.requests.make_room(), mine),
            Err(_) => own::close(mine),
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
        });
        drop(list);
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
            let watched = self.watch(libc::EPOLL_CTL_ADD, fd, events, message.number);
            drop(list);
            if let Err(errno) = watched
                && let Some(pending) = self.take(message.number)
            {
                let errno = match errno {
                    Errno::EPERM => Errno::EINVAL,
                    _ => Errno::EAGAIN,
                };
                finish(self, pending, -(errno as i64));
            }
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

    /// A poll request may be ready: completes it, or goes on waiting. All the while it can be found
    /// by those who cancel: the lock is kept for two system calls that do not wait.
    fn ready(&self, key: u64) {
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
        let mask = ready_now(pending.fd, pending.events);
        if mask == 0 {
            // Somebody else has had it.
            let _ = self.watch(libc::EPOLL_CTL_MOD, pending.fd, pending.events, key);
            return;
        }
        let mask = if pending.pipe {
            ready_now(pending.fd, both_names(pending.events))
        } else {
            mask
        };
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
            // SAFETY: room for as many events as said.
            let got = unsafe {
                libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, IDLE_MS)
            };
            if got == 0 && self.end(epoll) {
                return;
            }
            for event in events.iter().take(got.max(0) as usize) {
                if event.u64 & CHANNEL == 0 {
                    self.ready(event.u64);
                    continue;
                }
                let receiver = (event.u64 & !CHANNEL) as RawFd;
                if self.place_of(receiver).is_some() {
                    self.take_requests(receiver);
                }
            }
        }
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
    if is_new && let Some(global) = crate::process::global() {
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
    if let Some(global) = crate::process::global() {
        global.libaio.table.release();
    }
    let Pending {
        context, mut req, ..
    } = pending;
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
    if let Some(global) = crate::process::global() {
        let _inside = Inside::begin(&global.libaio.table);
        poller.wait();
    }
    ptr::null_mut()
}
