//! Requests that wait for their files to become ready: all in one epoll, with one thread, which exists as long as there are any.
//!
//! A thread that has tried a request without success leaves it here: [`Readiness::insert`], under the lock of the request's owner, then
//! [`Readiness::update_epoll`]. When the file is ready, the thread of this module gives the request back ([`Served::ready`]), and a worker
//! makes the call, unless the request has only waited. So this is not a [`super::Engine`]: it carries nothing out, and if a file is
//! reported as ready but is not, that does no harm.
//!
//! Each pool has one. That of a pool whose workers have the library's own descriptor table has its epoll and its thread there, too: the
//! thread gets the table of the worker that starts it.
//!
//! Epoll knows a file by its descriptor, once. Requests for the same descriptor in the same direction form a queue: one of them is given
//! back at a time, and the next one when that one has ended, or may have to wait for a worker ([`Readiness::ended`]). Epoll reports a file
//! once ([`libc::EPOLLONESHOT`]), and is then told again which events are awaited.
//!
//! If a program closes a descriptor for which a request waits, the request waits until it is cancelled. A report about the file that had
//! the number before is recognised by its `generation`. If requests hold their files, each has a descriptor of its own, and epoll forgets
//! it before it is closed: the program has the same file open, so the close alone does not make epoll forget it.
//!
//! If the program closes the epoll itself, its requests wait in threads from then on, also if the program has a file of its own under that
//! number: the epoll is marked ([`Private`]).

use crate::engine::Served;
use crate::policy::tuning::tuning;
use crate::request::{Req, RequestRef};
use crate::sync::Lock;
use crate::sys::Result;
use crate::sys::host::run_inside;
use crate::sys::private_fd::{Private, is_inside};
use crate::sys::processors;
use crate::sys::thread::spawn;
use arrayvec::ArrayVec;
use libc::{c_int, c_short};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use std::collections::TryReserveError;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Requests for which room is made at once.
const ROOM: usize = 64;
/// The most events that are taken at once.
const EVENTS: usize = 64;
/// The most requests that are given back at once.
const BACK: usize = 16;
const NOBODY: u32 = u32::MAX;

pub struct Readiness<Q> {
    waiting: Lock<Waiting<Q>>,
    /// Held while epoll is told about a file, so that the last information that it gets is the current one; and while the thread is
    /// started, or ends.
    updating: Lock<()>,
    epoll: Private,
    /// The epoll is in the library's own descriptor table.
    is_inside: AtomicBool,
    /// The requests hold their files.
    has_held: bool,
}

struct Waiting<Q> {
    has_thread: bool,
    nodes: Vec<Node<Q>>,
    free: Vec<u32>,
    /// By descriptor.
    files: Vec<File>,
    /// Files that epoll must be told about.
    changed: Vec<RawFd>,
}

struct Node<Q> {
    request: Option<(Q, Req)>,
    /// The next node in its queue.
    next: u32,
}

#[derive(Clone, Copy)]
struct File {
    queues: [WaitQueue; 2],
    /// How many times epoll was told about a new file with this descriptor.
    generation: u32,
    /// Epoll knows it; and epoll is going to report it.
    is_registered: bool,
    is_armed: bool,
    is_changed: bool,
}

#[derive(Clone, Copy)]
struct WaitQueue {
    /// The events that its requests wait for.
    events: c_short,
    first: u32,
    last: u32,
    /// A request was given back, and has not ended.
    is_served: bool,
}

impl File {
    const NEW: File = File {
        queues: [WaitQueue {
            events: 0,
            first: NOBODY,
            last: NOBODY,
            is_served: false,
        }; 2],
        generation: 0,
        is_registered: false,
        is_armed: false,
        is_changed: false,
    };

    /// The events that epoll must report for it.
    fn events(&self) -> c_short {
        let wanted = |queue: &WaitQueue| {
            let is_wanted = queue.first != NOBODY && !queue.is_served;
            if is_wanted { queue.events } else { 0 }
        };
        self.queues.iter().map(wanted).fold(0, |all, one| all | one)
    }
}

/// The number of a queue: its file and its direction.
fn number_of(fd: RawFd, events: c_short) -> u32 {
    (fd as u32) << 1 | u32::from(events == libc::POLLOUT)
}

/// The numbers of a file's queues.
fn numbers_of(fd: RawFd) -> [u32; 2] {
    [(fd as u32) << 1, (fd as u32) << 1 | 1]
}

fn named(number: u32) -> (RawFd, usize) {
    ((number >> 1) as RawFd, (number & 1) as usize)
}

impl<Q> Waiting<Q> {
    /// Makes room for one more request, with this descriptor.
    fn make_room(&mut self, fd: usize) -> core::result::Result<(), TryReserveError> {
        self.nodes.try_reserve(ROOM)?;
        let free = self.free.len();
        self.free.try_reserve(self.nodes.capacity() - free)?;
        let files = self.files.len();
        if fd >= files {
            self.files.try_reserve(fd + 1 - files)?;
            self.changed.try_reserve(fd + 1 - self.changed.len())?;
            self.files.resize(fd + 1, File::NEW);
        }
        Ok(())
    }

    fn mark_changed(&mut self, fd: RawFd) {
        let file = &mut self.files[fd as usize];
        if !file.is_changed {
            file.is_changed = true;
            // There is room for each file once.
            self.changed.push(fd);
        }
    }

    /// Takes the node behind `before` out of its queue.
    fn remove_after(&mut self, number: u32, before: u32) -> Option<(Q, Req)> {
        let (fd, way) = named(number);
        let queue = &mut self.files[fd as usize].queues[way];
        let at = match before {
            NOBODY => queue.first,
            _ => self.nodes[before as usize].next,
        };
        let node = self.nodes.get_mut(at as usize)?;
        let (request, next) = (node.request.take(), node.next);
        match before {
            NOBODY => queue.first = next,
            _ => self.nodes[before as usize].next = next,
        }
        if queue.last == at {
            queue.last = before;
        }
        // Room for all nodes was made together with them.
        self.free.push(at);
        request
    }

    /// Takes the first request of a queue, unless one of its requests was given back and has not ended.
    fn serve(&mut self, number: u32) -> Option<(Q, Req)> {
        let (fd, way) = named(number);
        if self.files[fd as usize].queues[way].is_served {
            return None;
        }
        let first = self.remove_after(number, NOBODY);
        self.files[fd as usize].queues[way].is_served = first.is_some();
        first
    }

    fn is_unused(&self) -> bool {
        self.free.len() == self.nodes.len()
    }
}

impl<Q> Readiness<Q> {
    /// `has_held`: the requests hold their files.
    pub fn new(has_held: bool) -> Readiness<Q> {
        Readiness {
            waiting: Lock::new(Waiting {
                has_thread: false,
                nodes: Vec::new(),
                free: Vec::new(),
                files: Vec::new(),
                changed: Vec::new(),
            }),
            updating: Lock::new(()),
            epoll: Private::new(),
            is_inside: AtomicBool::new(false),
            has_held,
        }
    }

    /// Has a request wait behind those for the same file. The caller holds the lock of the owner until the owner has noted that. If there
    /// is no room ([`Readiness::prepare`]), the request comes back. From here on [`Req::awaited`] identifies it.
    pub fn insert(
        &self,
        owner: &Q,
        req: Req,
        fd: RawFd,
        events: c_short,
    ) -> core::result::Result<(), Req>
    where
        Q: Clone,
    {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.nodes.len() < waiting.nodes.capacity() || !waiting.free.is_empty();
        if !waiting.has_thread || !has_room || fd as usize >= waiting.files.len() {
            return Err(req);
        }
        let number = number_of(fd, events);
        req.set_awaited(Some(number));
        let node = Node {
            request: Some((owner.clone(), req)),
            next: NOBODY,
        };
        let at = match waiting.free.pop() {
            Some(at) => {
                waiting.nodes[at as usize] = node;
                at
            }
            None => {
                waiting.nodes.push(node);
                waiting.nodes.len() as u32 - 1
            }
        };
        let queue = &mut waiting.files[fd as usize].queues[named(number).1];
        queue.events = events;
        match std::mem::replace(&mut queue.last, at) {
            NOBODY => queue.first = at,
            last => waiting.nodes[last as usize].next = at,
        }
        waiting.mark_changed(fd);
        Ok(())
    }

    /// Takes back a request, if it still waits. Then epoll must be told.
    pub fn remove(&self, number: u32, reference: RequestRef) -> Option<Req> {
        let mut waiting = self.waiting.lock();
        let (fd, way) = named(number);
        let (mut before, mut at) = (NOBODY, waiting.files[fd as usize].queues[way].first);
        loop {
            let node = waiting.nodes.get(at as usize)?;
            let request = node.request.as_ref();
            if request.is_some_and(|(_, req)| req.reference() == reference) {
                break;
            }
            (before, at) = (at, node.next);
        }
        let removed = waiting.remove_after(number, before);
        waiting.mark_changed(fd);
        drop(waiting);
        let (_owner, req) = removed?;
        req.set_awaited(None);
        Some(req)
    }

    /// A request that was given back has ended, or others need not wait for it: the next one follows. True: epoll must be told.
    pub fn ended(&self, number: u32) -> bool {
        let mut waiting = self.waiting.lock();
        let (fd, way) = named(number);
        let queue = &mut waiting.files[fd as usize].queues[way];
        queue.is_served = false;
        let has_next = queue.first != NOBODY;
        if has_next {
            waiting.mark_changed(fd);
        }
        has_next
    }

    /// In a forked child: closes inherited descriptors. Takes no lock.
    pub fn abandon(&self) {
        // The child has no copy of the library's own table.
        if !self.is_inside.load(Relaxed) {
            self.epoll.close();
        }
    }

    /// The program is about to use this descriptor number for something else.
    pub fn release_number(&self, fd: RawFd) {
        if !self.is_inside.load(Relaxed) {
            self.epoll.release_number(fd);
        }
    }

    fn epoll_ctl(&self, how: c_int, fd: RawFd, events: c_short, generation: u32) -> Result<()> {
        // poll(2) and epoll have the same event bits.
        let mut event = libc::epoll_event {
            events: u32::from(events as u16) | libc::EPOLLONESHOT as u32,
            u64: u64::from(generation) << 32 | fd as u64,
        };
        let epoll = self.epoll.get();
        if !self.epoll.is_at(epoll) {
            return Err(Errno::EBADF);
        }
        // SAFETY: an event of ours.
        let ret = unsafe { libc::epoll_ctl(epoll, how, fd, &mut event) };
        Errno::result(ret).map(drop)
    }

    /// Tells epoll which events of a file are awaited.
    fn update_file(&self, fd: RawFd, file: File) -> Result<()> {
        let events = file.events();
        // Before the call: epoll may report the file at once.
        let set = |generation, is_registered| {
            let file = &mut self.waiting.lock().files[fd as usize];
            (file.generation, file.is_registered, file.is_armed) =
                (generation, is_registered, is_registered && events != 0);
        };
        if events == 0 {
            if file.is_armed || file.is_registered && self.has_held {
                set(file.generation, false);
                // It fails if the file is closed, or if another file has its number.
                let _ = self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, 0);
            }
            return Ok(());
        }
        if file.is_registered {
            set(file.generation, true);
            match self.epoll_ctl(libc::EPOLL_CTL_MOD, fd, events, file.generation) {
                Err(Errno::ENOENT) => {}
                other => return other.inspect_err(|_| set(file.generation, false)),
            }
        }
        let generation = file.generation.wrapping_add(1);
        set(generation, true);
        match self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, events, generation) {
            // The same file had this number before.
            Err(Errno::EEXIST) => self.epoll_ctl(libc::EPOLL_CTL_MOD, fd, events, generation),
            other => other,
        }
        .inspect_err(|_| set(generation, false))
    }

    /// Takes the first requests that wait for the events that epoll has reported.
    fn dequeue_ready(&self, event: &libc::epoll_event) -> ArrayVec<(Q, Req), 2> {
        const WRONG: c_short = libc::POLLERR | libc::POLLHUP;
        let (key, seen) = (event.u64, event.events as c_short);
        let fd = key as u32 as RawFd;
        let mut waiting = self.waiting.lock();
        let Some(file) = waiting.files.get_mut(fd as usize) else {
            return ArrayVec::new();
        };
        if file.generation != (key >> 32) as u32 {
            return ArrayVec::new();
        }
        // Epoll does not report it again.
        file.is_armed = false;
        let queues = file.queues;
        let is_seen = |number: &u32| seen & (queues[named(*number).1].events | WRONG) != 0;
        let numbers = numbers_of(fd).into_iter().filter(is_seen);
        let ready = numbers.filter_map(|number| waiting.serve(number)).collect();
        if waiting.files[fd as usize].events() != 0 || self.has_held {
            waiting.mark_changed(fd);
        }
        ready
    }
}

impl<Q: Served> Readiness<Q> {
    /// Makes sure that there is room for a request for this descriptor, and a thread. False: it cannot be obtained.
    pub fn prepare(&'static self, fd: RawFd) -> bool {
        let mut waiting = self.waiting.lock();
        if fd < 0 || waiting.make_room(fd as usize).is_err() {
            return false;
        }
        let has_thread = waiting.has_thread;
        drop(waiting);
        has_thread || self.start()
    }

    fn start(&'static self) -> bool {
        let _updating = self.updating.lock();
        if self.waiting.lock().has_thread {
            return true;
        }
        let make = || Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?.0);
        if self.epoll.open(make).is_none() {
            return false;
        }
        // Relaxed: starting a thread orders it.
        self.is_inside.store(is_inside(), Relaxed);
        let main = |this: usize| {
            processors::let_waker_go_on();
            // SAFETY: `self` below, which is never freed.
            unsafe { &*(this as *const Readiness<Q>) }.live();
        };
        let started = spawn(c"aio2-readiness", main, ptr::from_ref(self) as usize).is_ok();
        if started {
            self.waiting.lock().has_thread = true;
        } else {
            self.epoll.close();
        }
        started
    }

    /// Tells epoll of all changes; the caller holds no lock. Gives back the requests of files that epoll refuses.
    pub fn update_epoll(&'static self) {
        // Relaxed: it changes only while no request waits.
        if self.is_inside.load(Relaxed) && !is_inside() {
            let update = |this: usize| {
                // SAFETY: `self` below, which is never freed.
                unsafe { &*(this as *const Readiness<Q>) }.update_epoll();
                Ok(0)
            };
            // It fails if that table is gone, and with it the epoll.
            let _ = run_inside(update, ptr::from_ref(self) as usize);
            return;
        }
        loop {
            let mut back = ArrayVec::<(Q, Req, Errno), BACK>::new();
            let updating = self.updating.lock();
            let is_over = loop {
                if back.len() + 2 > BACK {
                    break false;
                }
                let mut waiting = self.waiting.lock();
                let Some(fd) = waiting.changed.pop() else {
                    break true;
                };
                let file = &mut waiting.files[fd as usize];
                file.is_changed = false;
                let file = *file;
                drop(waiting);
                if let Err(errno) = self.update_file(fd, file) {
                    let mut waiting = self.waiting.lock();
                    let firsts = numbers_of(fd).map(|number| waiting.serve(number));
                    let firsts = firsts.into_iter().flatten();
                    back.extend(firsts.map(|(owner, req)| (owner, req, errno)));
                }
            };
            drop(updating);
            if is_over && back.is_empty() {
                return;
            }
            for (owner, req, errno) in back {
                owner.ready(req, Err(errno));
            }
        }
    }

    /// The main loop of the thread.
    fn live(&'static self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let idle_ms = (tuning().idle_ns / 1_000_000) as c_int;
        loop {
            let epoll = self.epoll.get();
            let is_ours = self.epoll.is_at(epoll);
            let mut wait = || {
                let (nr, at) = (libc::SYS_epoll_pwait, events.as_mut_ptr());
                // The size is a whole word: the last argument is on the stack, and all of its word is passed on.
                let (none, size) = (ptr::null::<libc::sigset_t>(), 8usize);
                // Not libc's function: it is a cancellation point.
                // SAFETY: room for as many events as said.
                unsafe { libc::syscall(nr, epoll, at, EVENTS, idle_ms, none, size) }
            };
            let count = if is_ours { wait() } else { -1 };
            let goes_on = || is_ours && Errno::last() == Errno::EINTR;
            match count {
                0 if self.end(None) => return,
                1.. => {
                    for event in &events[..count as usize] {
                        let ready = self.dequeue_ready(event);
                        if self.has_held {
                            self.update_epoll();
                        }
                        for (owner, req) in ready {
                            owner.ready(req, Ok(event.events as c_short));
                        }
                    }
                    self.update_epoll();
                }
                // The program has closed it, and may have a file of its own there; or it has just got another number.
                ..0 if !goes_on() && self.end(Some(epoll)) => return,
                _ => {}
            }
        }
    }

    /// Whether the thread ends: because no request waits, or because its epoll is `lost` and reports nothing any more.
    fn end(&self, lost: Option<RawFd>) -> bool {
        let updating = self.updating.lock();
        let mut waiting = self.waiting.lock();
        let ends = match lost {
            None => waiting.is_unused(),
            Some(epoll) => self.epoll.get() == epoll,
        };
        if !ends {
            return false;
        }
        waiting.has_thread = false;
        for file in &mut waiting.files {
            (file.is_registered, file.is_armed) = (false, false);
        }
        let numbers = (waiting.files.len() as u32) << 1;
        drop(waiting);
        self.epoll.close();
        drop(updating);
        // If there are workers, they wait for the files of the remaining requests.
        for number in 0..numbers {
            loop {
                let next = self.waiting.lock().remove_after(number, NOBODY);
                let Some((owner, req)) = next else { break };
                owner.ready(req, Err(Errno::EBADF));
            }
        }
        true
    }
}
