//! Requests in an order: waiting, handed over together, and being carried out.

#[cfg(not(loom))]
use super::Stage;
use super::{Head, Link, OWNER_KERNEL, OWNER_READINESS, Req, RequestRef};
use crate::syscall::{Call, Manner};
use std::ptr::{self, NonNull};
#[cfg(not(loom))]
use std::sync::atomic::Ordering::Acquire;

/// A list of requests, in order. Its methods are called under the lock that guards it.
pub struct List {
    pub(super) head: *mut Head,
    pub(super) tail: *mut Head,
}

// SAFETY: it owns the requests that are on it.
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

    /// Puts a request at the front, from where it was taken.
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
            // SAFETY: on this list.
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
            // SAFETY: both are on lists that we have exclusively.
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

    /// Takes out one that is on this list.
    pub fn remove(&mut self, reference: RequestRef) -> Req {
        self.unlink(reference.0.as_ptr());
        Req(reference.0)
    }

    /// The first request that `wanted` says yes to.
    pub fn search(&self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<RequestRef> {
        self.find(wanted).map(RequestRef)
    }

    /// Whether it has one that is `wanted`.
    #[cfg(not(loom))]
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

    /// The first one's call.
    pub fn peek(&self) -> Option<&Call> {
        // SAFETY: as in `find`; the request stays while the list is borrowed.
        unsafe { self.head.as_ref() }.map(|head| &head.call)
    }

    /// Takes the first request if it is `wanted`.
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
        // SAFETY: requests on this list are owned by it, and the words live as long as the request,
        // which stays while the list is borrowed.
        unsafe {
            Some(std::slice::from_raw_parts(
                at.as_ptr().add(1).cast(),
                at.as_ref().event_words as usize,
            ))
        }
    }

    /// Takes the first request that `wanted` says yes to.
    pub fn remove_first(&mut self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<Req> {
        let at = self.find(wanted)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    fn find(&self, mut wanted: impl FnMut(u64, &Call) -> bool) -> Option<NonNull<Head>> {
        let mut at = NonNull::new(self.head);
        while let Some(here) = at {
            // SAFETY: a request stays while it is on a list, and what is read here does not change.
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
        // SAFETY: whoever calls has the request, or (`Running`) the right to link it; links are
        // only touched under the lock that guards the list, which &mut self stands for.
        unsafe {
            *(*at).link.get() = Link {
                next: ptr::null_mut(),
                prev: self.tail,
            }
        };
        match NonNull::new(self.tail) {
            // SAFETY: on this list.
            Some(tail) => unsafe { (*(*tail.as_ptr()).link.get()).next = at },
            None => self.head = at,
        }
        self.tail = at;
    }

    fn unlink(&mut self, at: *mut Head) {
        // SAFETY: `at` is on this list, and so are its neighbours.
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

/// Requests that are being carried out, and that whoever does that has in an order. (They are not for a
/// [`List`]: they are on [`Running`]'s.)
pub struct Chain {
    head: Option<NonNull<Head>>,
    tail: Option<NonNull<Head>>,
}

// SAFETY: it owns the requests that are in it.
unsafe impl Send for Chain {}

impl Chain {
    pub const fn new() -> Chain {
        Chain {
            head: None,
            tail: None,
        }
    }

    pub fn push(&mut self, req: Req) {
        // SAFETY: ours now, and so is the cell.
        unsafe { *req.head().next.get() = None };
        match self.tail {
            // SAFETY: in this chain, which owns it.
            Some(tail) => unsafe { *tail.as_ref().next.get() = Some(req.0) },
            None => self.head = Some(req.0),
        }
        self.tail = Some(req.0);
    }

    pub fn push_front(&mut self, req: Req) {
        // SAFETY: ours now, and so is the cell.
        unsafe { *req.head().next.get() = self.head };
        self.head = Some(req.0);
        self.tail = self.tail.or(self.head);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Req> {
        let at = self.head?;
        // SAFETY: in this chain, which owns it.
        self.head = unsafe { *at.as_ref().next.get() };
        if self.head.is_none() {
            self.tail = None;
        }
        Some(Req(at))
    }
}

/// The requests that are being carried out. It does not own them: whoever carries one out does.
pub struct Running {
    list: List,
    /// By their manner, without those that wait for their files.
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

    /// Those that end by themselves.
    pub fn short(&self) -> u32 {
        self.transfers() + self.counts[Manner::Sync as usize]
    }

    /// Those that may have a file's lock for a while.
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

    /// It does not any more, and leaves the list.
    pub fn end_waiting(&mut self, req: &Req) {
        self.list.unlink(req.0.as_ptr());
        self.waiting -= 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = Carried<'_>> {
        let mut at = NonNull::new(self.list.head);
        std::iter::from_fn(move || {
            let here = at?;
            // SAFETY: a request stays while it is on the list, whose lock guards the cells; what else
            // is read here does not change.
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

    /// Takes a request from whoever carries it out.
    ///
    /// # Safety
    /// It is on the list, and who has it never goes on.
    #[cfg(not(loom))]
    pub unsafe fn recover(&mut self, reference: RequestRef) -> Req {
        Req(reference.0)
    }
}

/// A request that is being carried out.
pub struct Carried<'a> {
    pub reference: RequestRef,
    pub data: u64,
    pub call: &'a Call,
    worker: u16,
}

impl Carried<'_> {
    /// Which worker does so, if that one can be interrupted.
    pub fn worker(&self) -> Option<u16> {
        (self.worker < OWNER_READINESS).then_some(self.worker)
    }

    /// For which file it waits to become ready (see [`Req::set_awaited`]).
    #[cfg(not(loom))]
    pub fn awaited(&self) -> Option<u32> {
        // SAFETY: the request is on the list, whose lock guards the cell.
        let number = || unsafe { *self.reference.0.as_ref().awaited.get() };
        (self.worker == OWNER_READINESS).then(number)
    }

    #[cfg(not(loom))]
    pub fn is_in_kernel(&self) -> bool {
        self.worker == OWNER_KERNEL
    }

    /// Whether it has its result.
    #[cfg(not(loom))]
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
