//! Ordered requests: waiting, being handed over together, or running.

use super::{
    CANCELLED, Head, Link, NO_WORKER, OWNER_KERNEL, OWNER_READINESS, OWNER_STAND_IN, Req,
    RequestRef, Stage,
};
use crate::syscall::{Call, Manner};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Acquire;

/// A list of requests, in order. Its methods are called under the lock that guards it.
pub struct List {
    pub(super) head: *mut Head,
    pub(super) tail: *mut Head,
}

// SAFETY: it owns the requests on it.
unsafe impl Send for List {}

impl List {
    pub const fn new() -> List {
        List {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    pub fn push(&mut self, req: Req) {
        self.link(req.0.as_ptr());
    }

    /// Puts a request back at the front.
    pub fn push_front(&mut self, req: Req) {
        let at = req.0.as_ptr();
        // SAFETY: as in `link`.
        unsafe {
            *(*at).link.get() = Link {
                next: self.head,
                prev: ptr::null_mut(),
            }
        };
        match NonNull::new(self.head) {
            // SAFETY: the request is on this list.
            Some(head) => unsafe { (*(*head.as_ptr()).link.get()).prev = at },
            None => self.tail = at,
        }
        self.head = at;
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut List) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.head = other.head;
        } else {
            // SAFETY: we have both lists exclusively.
            unsafe {
                (*(*self.tail).link.get()).next = other.head;
                (*(*other.head).link.get()).prev = self.tail;
            }
        }
        self.tail = other.tail;
        *other = List::new();
    }

    pub fn pop(&mut self) -> Option<Req> {
        let at = NonNull::new(self.head)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    pub fn first(&self) -> Option<RequestRef> {
        NonNull::new(self.head).map(RequestRef)
    }

    /// Removes a request that is on this list.
    pub fn remove(&mut self, reference: RequestRef) -> Req {
        self.unlink(reference.0.as_ptr());
        Req(reference.0)
    }

    /// The first request for which `wanted` is true.
    pub fn search(&self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<RequestRef> {
        self.find_before(None, wanted).map(RequestRef)
    }

    /// Whether `wanted` is true for any request.
    pub fn any(&self, wanted: impl Fn(RequestRef) -> bool) -> bool {
        let mut at = NonNull::new(self.head);
        while let Some(here) = at {
            if wanted(RequestRef(here)) {
                return true;
            }
            // SAFETY: as in `find`.
            at = NonNull::new(unsafe { (*here.as_ref().link.get()).next });
        }
        false
    }

    /// The call of the first request.
    pub fn peek(&self) -> Option<&Call> {
        // SAFETY: as in `find`; the request stays while the list is borrowed.
        unsafe { self.head.as_ref() }.map(|head| &head.call)
    }

    /// Takes the first request if `wanted` is true for it.
    pub fn pop_if(&mut self, wanted: impl FnOnce(&Req) -> bool) -> Option<Req> {
        let first = Req(NonNull::new(self.head)?);
        if !wanted(&first) {
            return None;
        }
        self.unlink(first.0.as_ptr());
        Some(first)
    }

    pub fn pop_last(&mut self) -> Option<Req> {
        let at = NonNull::new(self.tail)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    pub fn front(&self) -> Option<&[u64]> {
        let at = NonNull::new(self.head)?;
        // SAFETY: the list owns its requests, and the words live as long as the request, which stays while the list is
        // borrowed.
        unsafe {
            Some(std::slice::from_raw_parts(
                at.as_ptr().add(1).cast(),
                at.as_ref().event_words as usize,
            ))
        }
    }

    /// Takes the first request for which `wanted` is true.
    pub fn remove_first(&mut self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<Req> {
        self.remove_before(None, wanted)
    }

    /// The same, but looks only at the requests before `end`, if that is on this list.
    pub fn remove_before(
        &mut self,
        end: Option<RequestRef>,
        wanted: impl FnMut(u64, &Call) -> bool,
    ) -> Option<Req> {
        let at = self.find_before(end, wanted)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    fn find_before(
        &self,
        end: Option<RequestRef>,
        mut wanted: impl FnMut(u64, &Call) -> bool,
    ) -> Option<NonNull<Head>> {
        let mut at = NonNull::new(self.head);
        while let Some(here) = at {
            if Some(RequestRef(here)) == end {
                return None;
            }
            // SAFETY: a request stays while it is on a list, and the fields read here do not change.
            let head = unsafe { here.as_ref() };
            if wanted(head.data, &head.call) {
                break;
            }
            // SAFETY: links are read under the list's lock.
            at = NonNull::new(unsafe { (*head.link.get()).next });
        }
        at
    }

    fn link(&mut self, at: *mut Head) {
        // SAFETY: the caller owns the request, or (`Running`) has the right to link it. Links are accessed only under
        // the list's lock, which &mut self represents.
        unsafe {
            *(*at).link.get() = Link {
                next: ptr::null_mut(),
                prev: self.tail,
            }
        };
        match NonNull::new(self.tail) {
            // SAFETY: the request is on this list.
            Some(tail) => unsafe { (*(*tail.as_ptr()).link.get()).next = at },
            None => self.head = at,
        }
        self.tail = at;
    }

    fn unlink(&mut self, at: *mut Head) {
        // SAFETY: `at` and its neighbours are on this list.
        unsafe {
            let Link { next, prev } = *(*at).link.get();
            match NonNull::new(prev) {
                Some(prev) => (*(*prev.as_ptr()).link.get()).next = next,
                None => self.head = next,
            }
            match NonNull::new(next) {
                Some(next) => (*(*next.as_ptr()).link.get()).prev = prev,
                None => self.tail = prev,
            }
        }
    }
}

/// Running requests, kept in order by the thread that executes them. (A [`List`] cannot hold them, because they are
/// already linked in [`Running`].)
pub struct Chain {
    head: Option<NonNull<Head>>,
    tail: Option<NonNull<Head>>,
}

// SAFETY: it owns its requests.
unsafe impl Send for Chain {}

impl Chain {
    pub const fn new() -> Chain {
        Chain {
            head: None,
            tail: None,
        }
    }

    pub fn push(&mut self, req: Req) {
        // SAFETY: the chain owns the request now, including its cell.
        unsafe { *req.head().next.get() = None };
        match self.tail {
            // SAFETY: the chain owns the request.
            Some(tail) => unsafe { *tail.as_ref().next.get() = Some(req.0) },
            None => self.head = Some(req.0),
        }
        self.tail = Some(req.0);
    }

    pub fn push_front(&mut self, req: Req) {
        // SAFETY: the chain owns the request now, including its cell.
        unsafe { *req.head().next.get() = self.head };
        self.head = Some(req.0);
        self.tail = self.tail.or(self.head);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Req> {
        let at = self.head?;
        // SAFETY: the chain owns the request.
        self.head = unsafe { *at.as_ref().next.get() };
        if self.head.is_none() {
            self.tail = None;
        }
        Some(Req(at))
    }
}

/// The requests that run. The executing threads own them; this list does not.
pub struct Running {
    list: List,
    /// Indexed by [`Manner`], without those that wait for their files.
    counts: [u32; 3],
    /// How many these are.
    waiting: u32,
}

impl Running {
    pub const fn new() -> Running {
        Running {
            list: List::new(),
            counts: [0; 3],
            waiting: 0,
        }
    }

    pub fn len(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// The number of requests that end by themselves.
    pub fn finite(&self) -> u32 {
        self.transfers() + self.counts[Manner::Sync as usize]
    }

    /// The number of requests that may hold a file's lock for a while.
    pub fn transfers(&self) -> u32 {
        self.counts[Manner::Transfer as usize]
    }

    pub fn enter(&mut self, req: &Req) {
        self.list.link(req.0.as_ptr());
        self.counts[req.manner() as usize] += 1;
    }

    pub fn leave(&mut self, req: &Req) {
        self.list.unlink(req.0.as_ptr());
        self.counts[req.manner() as usize] -= 1;
    }

    /// How many wait for their files to become ready: nobody carries them out meanwhile.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// One that was being carried out waits for its file from here on.
    pub fn begin_waiting(&mut self, reference: RequestRef) {
        // SAFETY: the request is on the list, whose lock guards the cell.
        let head = unsafe { reference.0.as_ref() };
        self.counts[head.manner as usize] -= 1;
        self.waiting += 1;
        // SAFETY: as above.
        unsafe { *head.worker.get() = OWNER_READINESS };
    }

    /// It does not any more, and leaves the list. True: it was cancelled after its file had become ready.
    pub fn end_waiting(&mut self, req: &Req) -> bool {
        self.list.unlink(req.0.as_ptr());
        self.waiting -= 1;
        req.is_cancelled()
    }

    /// Cancels a request that is `wanted` and waits for its file or is tried, as soon as it leaves the list ([`Req::is_cancelled`]). False:
    /// there is none.
    pub fn cancel_waiting(&mut self, wanted: impl Fn(u64, &Call) -> bool) -> bool {
        let waits = |one: &Carried| [OWNER_READINESS, OWNER_STAND_IN].contains(&one.worker);
        let found = self
            .iter()
            .find(|one| waits(one) && wanted(one.data, one.call));
        let Some(reference) = found.map(|one| one.reference) else {
            return false;
        };
        // SAFETY: the request is on the list, whose lock guards the cell.
        unsafe { *reference.0.as_ref().worker.get() = CANCELLED };
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = Carried<'_>> {
        let mut at = NonNull::new(self.list.head);
        std::iter::from_fn(move || {
            let here = at?;
            // SAFETY: a request stays while it is on the list, whose lock guards the cells; the other fields do not
            // change.
            unsafe {
                let head = here.as_ref();
                at = NonNull::new((*head.link.get()).next);
                Some(Carried {
                    reference: RequestRef(here),
                    data: head.data,
                    call: &head.call,
                    worker: *head.worker.get(),
                })
            }
        })
    }

    /// Takes a request from the thread that executes it.
    ///
    /// # Safety
    /// The request is on the list, and that thread never continues.
    pub unsafe fn recover(&mut self, reference: RequestRef) -> Req {
        Req(reference.0)
    }
}

/// A request that runs.
pub struct Carried<'a> {
    pub reference: RequestRef,
    pub data: u64,
    pub call: &'a Call,
    worker: u16,
}

impl Carried<'_> {
    /// The worker that executes it, if that worker can be interrupted.
    pub fn worker(&self) -> Option<u16> {
        (self.worker < CANCELLED).then_some(self.worker)
    }

    /// For which file it waits to become ready (see [`Req::set_awaited`]).
    pub fn awaited(&self) -> Option<u32> {
        // SAFETY: the request is on the list, whose lock guards the cell.
        let number = || unsafe { *self.reference.0.as_ref().awaited.get() };
        (self.worker == OWNER_READINESS).then(number)
    }

    /// Whether a thread makes its call that cannot be interrupted.
    pub fn is_made_plainly(&self) -> bool {
        self.worker == NO_WORKER
    }

    pub fn is_in_kernel(&self) -> bool {
        self.worker == OWNER_KERNEL
    }

    /// Whether it has its result.
    pub fn is_done(&self) -> bool {
        // SAFETY: the request is on the list. Acquire: pairs with the release in `set_stage`.
        unsafe { self.reference.0.as_ref() }.stage.load(Acquire) == Stage::Idle as u8
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        debug_assert!(self.len() == 0 && self.waiting == 0);
    }
}
