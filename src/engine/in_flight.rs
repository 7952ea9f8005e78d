//! Requests that an engine has started, until they are given back.

use crate::attr;
use crate::profiles;
use crate::request::{Chain, Req};
use arrayvec::ArrayVec;

/// Most that are given back at once.
pub const REAPED: usize = 64;

/// What has been done.
pub type Done<Q> = ArrayVec<InFlight<Q>, REAPED>;

/// What an engine carries out as one, and what it belongs to.
pub struct InFlight<Q> {
    pub owner: Q,
    /// A request; or a run of them.
    pub requests: Chain,
    pub is_run: bool,
    pub res: i64,
    /// CLOCK_MONOTONIC, for the statistics; 0 without.
    pub began: u64,
    /// The kernel was not to wait for anything when it was handed over.
    pub nowait: bool,
    /// The kernel has not carried it out.
    pub is_refused: bool,
}

impl<Q> InFlight<Q> {
    /// Gives back the requests, with their results; or, as errors, those that are to be carried out once
    /// more: because the kernel would have had to wait, or, of a run that was not carried out in full, those
    /// behind where it stopped. Each of these then goes by itself: the kernel has said what becomes of one at
    /// most. The one that it stopped in has moved some bytes. A write says so: these are in the file, and
    /// that is what it would have said by itself. A read is made once more.
    pub fn settle(mut self, mut take: impl FnMut(core::result::Result<Req, Req>)) {
        let mut left = u64::try_from(self.res).unwrap_or(0);
        let mut over = self.is_refused;
        while let Some(mut req) = self.requests.pop() {
            let asked = req.call().args[2];
            let stopped = self.is_run && !over && asked > left;
            over |= stopped;
            if stopped && left != 0 && profiles::writes(req.call()) {
                end(&mut req, left as i64, self.began);
                take(Ok(req));
                continue;
            }
            if over {
                if !self.is_refused {
                    req.set_apart();
                }
                take(Err(req));
                continue;
            }
            left = left.saturating_sub(asked);
            let res = if self.is_run { asked as i64 } else { self.res };
            end(&mut req, res, self.began);
            take(Ok(req));
        }
    }
}

/// The kernel has carried a request out that `began` then.
fn end(req: &mut Req, res: i64, began: u64) {
    if !req.bound().is_none() {
        attr::end_in_kernel(req);
    }
    req.set_res(res);
    req.count(began);
}
