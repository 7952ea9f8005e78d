//! The ways to carry a request out, and how many requests took each.

/// The way a request took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Route {
    /// Its system call was not made: it was cancelled, refused, or too late.
    NotMade,
    /// A caller that waits for events carried it out.
    InlineWaiting,
    /// Its submitter carried it out, within the call that submitted it.
    InlineSubmit,
    /// A thread carried it out in place of a worker: workers could not be obtained, or could not run, or the process
    /// ended.
    InlineStandIn,
    /// A worker carried it out.
    Thread,
    /// A worker handed it over to the kernel's AIO.
    KernelThread,
    /// A caller that waits for events handed it over to the kernel's AIO.
    KernelWaiting,
    /// Its submitter handed it over to the kernel's AIO, within the call that submitted it.
    KernelSubmit,
    /// It waited for its file to become ready, and then a worker carried it out; or it had asked only for that.
    Readiness,
    /// A worker handed it over to io_uring.
    UringThread,
    /// Its submitter handed it over to io_uring, within the call that submitted it.
    UringSubmit,
}

impl Route {
    pub const COUNT: usize = Route::ALL.len();

    /// All routes, by number.
    pub const ALL: [Route; 11] = [
        Route::NotMade,
        Route::InlineWaiting,
        Route::InlineSubmit,
        Route::InlineStandIn,
        Route::Thread,
        Route::KernelThread,
        Route::KernelWaiting,
        Route::KernelSubmit,
        Route::Readiness,
        Route::UringThread,
        Route::UringSubmit,
    ];

    /// The same route with io_uring in place of the kernel's AIO.
    pub fn by_io_uring(self) -> Route {
        if self == Route::KernelSubmit {
            Route::UringSubmit
        } else {
            Route::UringThread
        }
    }

    /// The words that follow the number of such requests, for people.
    pub fn words(self) -> &'static str {
        match self {
            Route::NotMade => "not made",
            Route::InlineWaiting => "by a thread that waited for events",
            Route::InlineSubmit => "within io_submit",
            Route::InlineStandIn => "in place of a worker thread",
            Route::Thread => "by worker threads",
            Route::KernelThread => "by the kernel's AIO, from worker threads",
            Route::KernelWaiting => "by the kernel's AIO, from a thread that waited for events",
            Route::KernelSubmit => "by the kernel's AIO, within io_submit",
            Route::Readiness => "when the file was ready",
            Route::UringThread => "by io_uring, from worker threads",
            Route::UringSubmit => "by io_uring, from threads that submitted",
        }
    }
}

/// How a request was carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Execution {
    pub route: Route,
    /// The kernel carried it out together with others, as one read or write.
    pub merged: bool,
}

impl From<Route> for Execution {
    fn from(route: Route) -> Execution {
        Execution {
            route,
            merged: false,
        }
    }
}

/// A bit of the number that a request keeps.
const MERGED: u8 = 0x80;

impl From<Execution> for u8 {
    fn from(execution: Execution) -> u8 {
        execution.route as u8 | if execution.merged { MERGED } else { 0 }
    }
}

impl From<Route> for u8 {
    fn from(route: Route) -> u8 {
        route as u8
    }
}

impl From<u8> for Execution {
    fn from(number: u8) -> Execution {
        let route = Route::ALL.get(usize::from(number & !MERGED));
        Execution {
            route: *route.unwrap_or(&Route::NotMade),
            merged: number & MERGED != 0,
        }
    }
}

/// How many requests took each route, and how many of them were merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    pub counts: [u64; Route::COUNT],
    pub merged: u64,
}

impl Routes {
    /// Counts a request, which has kept this number.
    #[inline]
    pub fn count(&mut self, number: u8) {
        if let Some(count) = self.counts.get_mut(usize::from(number & !MERGED)) {
            *count += 1;
        }
        if number & MERGED != 0 {
            self.merged += 1;
        }
    }

    pub fn add(&mut self, more: &Routes) {
        for (sum, more) in self.counts.iter_mut().zip(more.counts) {
            *sum += more;
        }
        self.merged += more.merged;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn all_are_there_by_their_numbers() {
        for (number, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, number);
            for merged in [false, true] {
                let execution = Execution { route, merged };
                assert_eq!(Execution::from(u8::from(execution)), execution);
            }
        }
    }

    #[test]
    fn each_is_counted_by_itself() {
        let mut routes = Routes::default();
        for (times, route) in Route::ALL.into_iter().enumerate() {
            for _ in 0..times {
                routes.count(route.into());
            }
        }
        let merged = Execution {
            route: Route::KernelThread,
            merged: true,
        };
        routes.count(merged.into());
        let mut twice = routes;
        twice.add(&routes);
        assert_eq!(twice.counts, [0, 2, 4, 6, 8, 12, 12, 14, 16, 18, 20]);
        assert_eq!(twice.merged, 2);
    }
}
