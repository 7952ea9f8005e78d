//! Requests as others know them: by where they are, without owning them.

use super::Head;
#[cfg(not(loom))]
use super::{Access, CLAIMED_AT, Claim, List, Req};
#[cfg(not(loom))]
use std::cell::Cell;
#[cfg(not(loom))]
use std::ptr;
use std::ptr::NonNull;

/// Where a request stands among the others of its context (see [`crate::queue::order`]).
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// Of a request with a claim: how many were accepted before it.
    pub epoch: u64,
    /// The one that it waits for, and the one that waits for it: links of a chain.
    pub leader: Option<RequestRef>,
    pub follower: Option<RequestRef>,
}

/// What a request is known by, while it is in flight, without owning it. Used under the context's
/// lock alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestRef(pub(super) NonNull<Head>);

// SAFETY: it is used under the context's lock alone.
unsafe impl Send for RequestRef {}

impl RequestRef {
    /// Where it is: tells it from others in flight.
    pub fn address(self) -> usize {
        self.0.as_ptr().addr()
    }

    pub fn get(self) -> Place {
        // SAFETY: the request is in flight (references are taken back when one of the two ends), and the
        // lock that guards the cell is held.
        unsafe { *self.0.as_ref().place.get() }
    }

    pub fn set(self, place: Place) {
        // SAFETY: as above.
        unsafe { *self.0.as_ref().place.get() = place };
    }
}

/// What a request claims, and its neighbours among those that others may wait for (see
/// [`crate::queue::order::claims`]). It lies behind the request's extension.
#[cfg(not(loom))]
#[repr(C)]
pub(super) struct Claimed {
    pub(super) what: u64,
    pub(super) bytes: u32,
    pub(super) access: Access,
    /// Under the context's lock.
    pub(super) before: Cell<Option<RequestRef>>,
    pub(super) after: Cell<Option<RequestRef>>,
}

/// References between requests with claims.
#[cfg(not(loom))]
impl RequestRef {
    fn claimed(&self) -> &Claimed {
        // SAFETY: written when the request was built, and from then on only the cells change, under the
        // context's lock, which whoever has a reference has.
        unsafe { self.0.add(1).byte_add(CLAIMED_AT).cast().as_ref() }
    }

    pub fn claim(self) -> Claim {
        let claimed = self.claimed();
        Claim {
            what: claimed.what,
            // Of what has a position.
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
        self.set(Place {
            epoch: number,
            ..self.get()
        });
    }

    /// Who stands before it and after it.
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

    /// `req` waits for this one. Requests that do are a list, of which the first is in `follower`, and the
    /// last is where the one before the first would be.
    pub fn add_follower(self, req: Req) {
        let mut followers = self.take_followers();
        followers.push(req);
        self.set(Place {
            follower: followers.first(),
            ..self.get()
        });
        // SAFETY: on that list, which nobody else has.
        unsafe { (*(*followers.head).link.get()).prev = followers.tail };
    }

    /// Takes those that wait for this one.
    pub fn take_followers(self) -> List {
        let place = self.get();
        let Some(first) = place.follower else {
            return List::new();
        };
        self.set(Place {
            follower: None,
            ..place
        });
        let head = first.0.as_ptr();
        // SAFETY: they wait for this one, and so are nobody else's; the link is touched under the context's
        // lock.
        let prev = unsafe { &mut (*(*head).link.get()).prev };
        List {
            head,
            tail: std::mem::replace(prev, ptr::null_mut()),
        }
    }
}
