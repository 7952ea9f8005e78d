//! Requests that an engine has started and not yet given back.

use crate::attr;
use crate::profiles;
use crate::request::{Chain, Req};
use arrayvec::ArrayVec;

/// The most that are given back at once.
pub const REAPED: usize = 64;

/// Completions.
pub type Done<Q> = ArrayVec<InFlight<Q>, REAPED>;

/// One operation that an engine carries out, and the owner of its requests.
pub struct InFlight<Q> {
    pub owner: Q,
    /// One request, or the requests of a merged operation.
    pub requests: Chain,
    pub is_merged: bool,
    pub res: i64,
    /// CLOCK_MONOTONIC, for the statistics; 0: not measured.
    pub began: u64,
    /// It was handed over with the order not to wait for anything.
    pub nowait: bool,
    /// The kernel has not carried it out.
    pub is_refused: bool,
}

impl<Q> InFlight<Q> {
    /// Gives back the requests, each with its result. A request that must be carried out again comes as an error. This is so if the kernel
    /// would have had to wait. It is also so for every request behind the point where a merged operation has stopped early. From then on,
    /// each of these is carried out by itself, because the kernel has reported the outcome of at most one of them. If the operation has
    /// stopped within a request, some of its bytes were transferred. A write reports these bytes: they are in the file, and by itself it
    /// would have reported the same. A read is made again.
    pub fn settle(mut self, mut give: impl FnMut(core::result::Result<Req, Req>)) {
        let mut left = u64::try_from(self.res).unwrap_or(0);
        let mut over = self.is_refused;
        while let Some(mut req) = self.requests.pop() {
            let asked = req.call().args[2];
            let stopped = self.is_merged && !over && asked > left;
            over |= stopped;
            if stopped && left != 0 && profiles::writes(req.call()) {
                end(&mut req, left as i64, self.began);
                give(Ok(req));
                continue;
            }
            if over {
                if !self.is_refused {
                    req.set_no_merge();
                }
                give(Err(req));
                continue;
            }
            left = left.saturating_sub(asked);
            let res = if self.is_merged {
                asked as i64
            } else {
                self.res
            };
            end(&mut req, res, self.began);
            give(Ok(req));
        }
    }
}

/// The kernel has carried out a request, which began at this time.
fn end(req: &mut Req, res: i64, began: u64) {
    if !req.bound().is_none() {
        attr::end_in_kernel(req);
    }
    req.set_res(res);
    req.count(began);
}
