//! References to requests that others own.

use super::{Access, CLAIMED_AT, Claim, Head, List, Req};
use std::cell::Cell;
use std::ptr;
use std::ptr::NonNull;

/// A request's state in the order of the requests of its context (see [`crate::queue::order`]).
#[derive(Clone, Copy, Default)]
pub struct OrderState {
    /// For a request with a claim: how many were accepted before it.
    pub epoch: u64,
    /// The request that it waits for, and the request that waits for it: links of a chain.
    pub leader: Option<RequestRef>,
    pub follower: Option<RequestRef>,
}

/// Refers to a request in flight without owning it. Used only under the context's lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestRef(pub(super) NonNull<Head>);

// SAFETY: used only under the context's lock.
unsafe impl Send for RequestRef {}

impl RequestRef {
    /// Its address, unique among the requests in flight.
    pub fn address(self) -> usize {
        self.0.as_ptr().addr()
    }

    pub fn get(self) -> OrderState {
        // SAFETY: the request is in flight (references are removed when either request ends), and the caller holds the
        // lock that guards the cell.
        unsafe { *self.0.as_ref().order.get() }
    }

    pub fn set(self, order: OrderState) {
        // SAFETY: as above.
        unsafe { *self.0.as_ref().order.get() = order };
    }
}

/// A request's claim, and its neighbours in the list of claims for which others may wait (see
/// [`crate::queue::order::claims`]). It lies behind the request's extension.
#[repr(C)]
pub(super) struct Claimed {
    pub(super) what: u64,
    pub(super) bytes: u32,
    pub(super) access: Access,
    /// Accessed under the context's lock.
    pub(super) before: Cell<Option<RequestRef>>,
    pub(super) after: Cell<Option<RequestRef>>,
}

/// References between requests with claims.
impl RequestRef {
    fn claimed(&self) -> &Claimed {
        // SAFETY: written when the request was built. Afterwards only the cells change, under the context's lock, which
        // every user of a reference holds.
        unsafe { self.0.add(1).byte_add(CLAIMED_AT).cast().as_ref() }
    }

    pub fn claim(self) -> Claim {
        let claimed = self.claimed();
        Claim {
            what: claimed.what,
            // Meaningful only for claims with a position.
            // SAFETY: the call does not change.
            start: unsafe { self.0.as_ref() }.call.args[3],
            bytes: claimed.bytes,
            access: claimed.access,
        }
    }

    /// How many were accepted before it.
    pub fn number(self) -> u64 {
        self.get().epoch
    }

    pub fn set_number(self, number: u64) {
        self.set(OrderState {
            epoch: number,
            ..self.get()
        });
    }

    /// The claims before it and after it in their list.
    pub fn neighbours(self) -> (Option<RequestRef>, Option<RequestRef>) {
        let claimed = self.claimed();
        (claimed.before.get(), claimed.after.get())
    }

    pub fn set_before(self, before: Option<RequestRef>) {
        self.claimed().before.set(before);
    }

    pub fn set_after(self, after: Option<RequestRef>) {
        self.claimed().after.set(after);
    }

    /// `req` waits for this one. The waiting requests are a list: `follower` is the first, and the first one's `prev`
    /// is the last.
    pub fn add_follower(self, req: Req) {
        let mut followers = self.detach_followers();
        followers.push(req);
        self.set(OrderState {
            follower: followers.first(),
            ..self.get()
        });
        // SAFETY: the request is on that list, which only this thread has.
        unsafe { (*(*followers.head).link.get()).prev = followers.tail };
    }

    /// Takes the requests that wait for this one.
    pub fn detach_followers(self) -> List {
        let order = self.get();
        let Some(first) = order.follower else {
            return List::new();
        };
        self.set(OrderState {
            follower: None,
            ..order
        });
        let head = first.0.as_ptr();
        // SAFETY: they wait for this one, so nobody else has them; links are accessed under the context's lock.
        let prev = unsafe { &mut (*(*head).link.get()).prev };
        List {
            head,
            tail: std::mem::replace(prev, ptr::null_mut()),
        }
    }
}
