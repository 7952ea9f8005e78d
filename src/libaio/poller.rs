//! Poll requests: one thread waits for all of them, in epoll_wait(2). They may be thousands, and
//! may wait for ever, so they are no work for the pool.
//!
//! A pending request is in a table; whoever takes it out of there (the thread, because it is ready,
//! or somebody who cancels) completes it. Each has a descriptor of its own, because epoll knows a
//! file once for each descriptor.

use crate::context::Context;
use crate::own::{close, duplicate};
use crate::registry::ContextRef;
use crate::request::Req;
use crate::sync::Lock;
use crate::sys::{Result, ready_now, spawn_detached};
use nix::errno::Errno;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::{Acquire, Release};

pub struct Poller {
    /// -1 until there is a thread.
    epoll: AtomicI32,
    table: Lock<Table>,
}

struct Table {
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
    fd: RawFd,
    events: i16,
    /// A pipe, which says in two ways that it is ready, whichever was asked for.
    pipe: bool,
    poller: &'static Poller,
}

/// The key of no request: there are not so many places.
const NOBODY: u64 = u64::MAX;

/// A place for a request that is about to be polled for.
pub struct Ticket {
    place: u32,
    fd: RawFd,
    pipe: bool,
}

impl Poller {
    pub fn new() -> Poller {
        Poller {
            epoll: AtomicI32::new(-1),
            table: Lock::new(Table {
                places: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    fn fd(&self) -> RawFd {
        self.epoll.load(Acquire)
    }

    /// In a forked child: closes what it has inherited, the descriptors of pending requests
    /// included. No lock is taken: nobody else is there to have it.
    pub fn abandon(&self) {
        match self.epoll.swap(-1, Acquire) {
            -1 => {}
            epoll => close(epoll),
        }
    }

    /// What can fail, before the request is accepted. -EINVAL: the file is what it is for ever.
    pub fn prepare(&'static self, fd: RawFd, pipe: bool) -> Result<Ticket> {
        self.start()?;
        let fd = duplicate(fd).map_err(|_| Errno::EAGAIN)?;
        // The one question is whether it can be asked about at all.
        let mut asked = self.watch(libc::EPOLL_CTL_ADD, fd, 0, NOBODY);
        if matches!(asked, Err(Errno::EBADF | Errno::EINVAL)) {
            // The program has closed all its descriptors, and ours with them: begin anew.
            self.epoll.store(-1, Release);
            asked = self
                .start()
                .and_then(|()| self.watch(libc::EPOLL_CTL_ADD, fd, 0, NOBODY));
        }
        if let Err(errno) = asked {
            close(fd);
            return Err(if errno == Errno::EPERM {
                Errno::EINVAL
            } else {
                Errno::EAGAIN
            });
        }
        let mut table = self.table.lock();
        match table.free.pop().map(Ok).unwrap_or_else(|| table.grow()) {
            Ok(place) => Ok(Ticket { place, fd, pipe }),
            Err(errno) => {
                drop(table);
                let _ = self.watch(libc::EPOLL_CTL_DEL, fd, 0, 0);
                close(fd);
                Err(errno)
            }
        }
    }

    /// Starts the thread, the first time.
    fn start(&'static self) -> Result<()> {
        if self.epoll.load(Acquire) >= 0 {
            return Ok(());
        }
        let _table = self.table.lock();
        if self.epoll.load(Acquire) >= 0 {
            return Ok(());
        }
        // SAFETY: a flag.
        let low = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if low < 0 {
            return Err(Errno::EAGAIN);
        }
        let high = duplicate(low).map_err(|_| Errno::EAGAIN);
        close(low);
        let epoll = high?;
        // Release: pairs with the acquire above and in the thread.
        self.epoll.store(epoll, Release);
        // SAFETY: the poller is never freed.
        let started = unsafe { spawn_detached(poll_main, ptr::from_ref(self).cast_mut().cast()) };
        if started.is_err() {
            self.epoll.store(-1, Release);
            close(epoll);
        }
        started.map_err(|_| Errno::EAGAIN)
    }

    /// The request is pending from here on, and its context's event will come.
    pub fn submit(
        &'static self,
        ticket: Ticket,
        context: &ContextRef,
        req: Req,
        obj: u64,
        events: i16,
    ) {
        let mut table = self.table.lock();
        let place = &mut table.places[ticket.place as usize];
        place.turn = place.turn.wrapping_add(1);
        let key = key(ticket.place, place.turn);
        place.pending = Some(Pending {
            context: context.clone(),
            req,
            obj,
            fd: ticket.fd,
            events,
            pipe: ticket.pipe,
            poller: self,
        });
        drop(table);
        if let Err(errno) = self.watch(libc::EPOLL_CTL_MOD, ticket.fd, events, key)
            && let Some(pending) = self.take(key)
        {
            finish(pending, -(errno as i64));
        }
    }

    fn watch(&self, how: i32, fd: RawFd, events: i16, key: u64) -> Result<()> {
        // The bits of poll(2) and epoll are the same.
        let mut event = libc::epoll_event {
            events: u32::from(events as u16) | libc::EPOLLONESHOT as u32,
            u64: key,
        };
        // SAFETY: an event of ours.
        match unsafe { libc::epoll_ctl(self.fd(), how, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        }
    }

    fn take(&self, key: u64) -> Option<Pending> {
        let mut table = self.table.lock();
        let index = key as u32;
        let place = table.places.get_mut(index as usize)?;
        if place.turn != (key >> 32) as u32 {
            return None;
        }
        let pending = place.pending.take()?;
        // Room for all places was made when they were.
        table.free.push(index);
        Some(pending)
    }

    /// Cancels that context's first poll request of this iocb: its event will say 0.
    pub fn cancel(&self, context: &ContextRef, obj: u64) -> bool {
        self.cancel_one(context, |pending| pending == obj)
    }

    /// Cancels all of that context's.
    pub fn cancel_all(&self, context: &ContextRef) {
        while self.cancel_one(context, |_| true) {}
    }

    fn cancel_one(&self, context: &ContextRef, wanted: impl Fn(u64) -> bool) -> bool {
        let mut table = self.table.lock();
        let found = table.places.iter().position(|place| {
            place
                .pending
                .as_ref()
                .is_some_and(|pending| pending.context.is(context) && wanted(pending.obj))
        });
        let Some(index) = found else { return false };
        let pending = table.places[index].pending.take();
        table.free.push(index as u32);
        drop(table);
        if let Some(pending) = pending {
            finish(pending, 0);
        }
        true
    }

    /// A poll request may be ready: completes it, or goes on waiting. All the while it can be found
    /// by those who cancel: the lock is kept for two system calls that do not wait.
    fn ready(&self, key: u64) {
        let table = self.table.lock();
        let Some(place) = table.places.get(key as u32 as usize) else {
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
        drop(table);
        if let Some(pending) = self.take(key) {
            finish(pending, i64::from(mask));
        }
    }
}

impl Table {
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

fn finish(pending: Pending, res: i64) {
    // The file has other descriptors, so that closing this one does not make epoll forget it.
    let _ = pending.poller.watch(libc::EPOLL_CTL_DEL, pending.fd, 0, 0);
    close(pending.fd);
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
    // SAFETY: what `start` gave: never freed.
    let poller: &'static Poller = unsafe { &*poller.cast::<Poller>() };
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let epoll = poller.fd();
    loop {
        // SAFETY: room for as many events as said.
        let got = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
        if got < 0 && Errno::last() != Errno::EINTR {
            // Only if the program has closed our descriptor. Those that wait cannot be told.
            return ptr::null_mut();
        }
        for event in events.iter().take(got.max(0) as usize) {
            poller.ready(event.u64);
        }
    }
}
