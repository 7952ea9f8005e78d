//! Which requests may begin: IOCB_ATTR_DRAIN and IOCB_ATTR_LINK.
//!
//! A drain divides a context's requests into epochs: the requests before it, the drain itself, and the requests after it. The requests of
//! one epoch may run; all later ones are held until the last request of that epoch has completed. So a request needs only the number of its
//! epoch, and without drains this costs one comparison.
//!
//! Of a chain, all requests except the first are also held, each until the one before it has succeeded.
//!
//! Requests with claims have neither attribute but an order of their own ([`claims`]). The context's lock is held for everything here.

pub mod claims;

use crate::abi::{IOCB_ATTR_DRAIN, IOCB_ATTR_LINK};
use crate::request::{List, OrderState, Req, RequestRef};

pub struct Order {
    /// Requests that were accepted and may not begin yet, in the order of submission.
    pub held: List,
    /// The epoch whose requests may run.
    current: u64,
    /// The epoch of requests that are submitted now. Free-running.
    last: u64,
    /// Requests of the current epoch that have not completed.
    remaining: u32,
    /// Requests are ordered by their claims. Requests that wait there are not in `held`.
    has_claims: bool,
    pub claims: claims::Claims,
}

impl Order {
    pub fn new(_has_claims: bool) -> Order {
        Order {
            held: List::new(),
            current: 0,
            last: 0,
            remaining: 0,
            has_claims: _has_claims,
            claims: claims::Claims::new(_has_claims),
        }
    }

    /// Adds a submit's requests. Those that may begin are added to `runnable`.
    pub fn admit(&mut self, requests: &mut List, runnable: &mut List) {
        if self.has_claims {
            return self.claims.add(requests, runnable);
        }
        let mut leader: Option<RequestRef> = None;
        while let Some(req) = requests.pop() {
            let (drains, links) = (
                req.bound().has(IOCB_ATTR_DRAIN),
                req.bound().has(IOCB_ATTR_LINK),
            );
            self.last = self.last.wrapping_add(drains.into());
            let reference = req.reference();
            reference.set(OrderState {
                epoch: self.last,
                leader,
                follower: None,
            });
            if let Some(leader) = leader {
                leader.set(OrderState {
                    follower: Some(reference),
                    ..leader.get()
                });
            }
            if self.remaining == 0 && self.held.is_empty() {
                self.current = self.last;
            }
            let is_current = self.last == self.current;
            self.remaining += u32::from(is_current);
            if is_current && leader.is_none() {
                runnable.push(req);
            } else {
                self.held.push(req);
            }
            self.last = self.last.wrapping_add(drains.into());
            leader = links.then_some(reference);
        }
    }

    /// A request has completed, and its event is about to be published. Requests that may begin now are added to `runnable`. If the request
    /// was linked and has failed, returns the next one of its chain, which the caller must cancel.
    pub fn ended(&mut self, req: &Req, runnable: &mut List) -> Option<Req> {
        if self.has_claims {
            self.claims.leave(req.reference(), runnable);
            return None;
        }
        let OrderState {
            epoch,
            leader,
            follower,
        } = req.reference().get();
        if let Some(leader) = leader {
            // This request was taken out while it was held.
            leader.set(OrderState {
                follower: None,
                ..leader.get()
            });
        }
        if epoch == self.current {
            self.remaining -= 1;
        }
        let mut to_cancel = None;
        if let Some(follower) = follower {
            let order = follower.get();
            follower.set(OrderState {
                leader: None,
                ..order
            });
            if !req.succeeded() {
                to_cancel = Some(self.remove(follower, runnable));
            } else if order.epoch == self.current {
                runnable.push(self.held.remove(follower));
            }
        }
        if self.remaining == 0 && to_cancel.is_none() {
            self.advance(runnable);
        }
        to_cancel
    }

    /// Takes out a held request. Requests that may begin without it are added to `runnable`.
    pub fn remove(&mut self, reference: RequestRef, runnable: &mut List) -> Req {
        let req = self.held.remove(reference);
        let epoch = reference.get().epoch;
        if req.bound().has(IOCB_ATTR_DRAIN) && epoch != self.current {
            self.join(epoch, runnable);
        }
        req
    }

    /// A drain was taken out before it began: requests that were submitted after it now belong to the epoch before it, and so on.
    fn join(&mut self, drain: u64, runnable: &mut List) {
        self.last = self.last.wrapping_sub(2);
        let mut held = std::mem::replace(&mut self.held, List::new());
        while let Some(req) = held.pop() {
            let order = req.reference().get();
            // Free-running: a later epoch is ahead by less than half of the numbers.
            if (order.epoch.wrapping_sub(drain) as i64) < 0 {
                self.held.push(req);
                continue;
            }
            let epoch = order.epoch.wrapping_sub(2);
            req.reference().set(OrderState { epoch, ..order });
            let is_current = epoch == self.current;
            self.remaining += u32::from(is_current);
            if is_current && order.leader.is_none() {
                runnable.push(req);
            } else {
                self.held.push(req);
            }
        }
    }

    /// The current epoch is over, so the next one begins.
    fn advance(&mut self, runnable: &mut List) {
        let Some(first) = self.held.first() else {
            return;
        };
        self.current = first.get().epoch;
        let mut waiting = List::new();
        while self
            .held
            .first()
            .is_some_and(|first| first.get().epoch == self.current)
        {
            let Some(req) = self.held.pop() else { break };
            self.remaining += 1;
            if req.reference().get().leader.is_none() {
                runnable.push(req);
            } else {
                waiting.push(req);
            }
        }
        waiting.append(&mut self.held);
        self.held = waiting;
    }
}
