//! How a request that may wait for somebody else is carried out.

use super::route::Route;

/// A request that may wait for somebody else, and that a worker has taken.
#[derive(Clone, Copy, Default, Debug)]
pub struct Patient {
    /// It can wait without a thread: its attributes allow that, and its descriptor is in the program's table; or it only waits.
    pub may_wait_in_epoll: bool,
    /// There may be an epoll.
    pub has_readiness: bool,
    /// It has waited in the epoll, and its file was reported as ready.
    pub has_waited: bool,
}

/// Whether it is tried without waiting, before a thread waits for it.
#[inline]
pub fn is_tried(req: &Patient) -> bool {
    req.may_wait_in_epoll && req.has_readiness
}

/// Where a request waits that was tried in vain. [`Route::Readiness`]: in the epoll. [`Route::Thread`]: in the worker. It waits in the
/// epoll only once: if epoll and the call disagreed, it would be tried again and again.
#[inline]
pub fn would_wait(req: &Patient) -> Route {
    if is_tried(req) && !req.has_waited {
        Route::Readiness
    } else {
        Route::Thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that may wait for somebody else waits in the epoll if it can, and only once.
    #[test]
    fn what_waits_for_its_file_needs_no_thread() {
        let yes = Patient {
            may_wait_in_epoll: true,
            has_readiness: true,
            has_waited: false,
        };
        let no_readiness = Patient {
            has_readiness: false,
            ..yes
        };
        let own_thread = Patient {
            may_wait_in_epoll: false,
            ..yes
        };
        let waited = Patient {
            has_waited: true,
            ..yes
        };
        for (req, is_tried_first, route) in [
            (yes, true, Route::Readiness),
            (no_readiness, false, Route::Thread),
            (own_thread, false, Route::Thread),
            (waited, true, Route::Thread),
        ] {
            assert_eq!(
                (is_tried(&req), would_wait(&req)),
                (is_tried_first, route),
                "{req:?}"
            );
        }
    }
}
