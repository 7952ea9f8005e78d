//! How many workers a context may have: enough for its requests to run side by side, but not so many that another context finds none.
//!
//! A worker whose request does not end is lost to the pool, but costs little. So such workers do not count, and the pool grows by as many,
//! up to a bound. Within the bound, a context gets at most a part of the rest. Beyond it, there are some more workers; a context without a
//! worker gets one of these. So the next context finds a worker, however many contexts hang.

/// The workers of one class. README and man/aio2.7 state these numbers.
#[derive(Clone, Copy)]
pub struct Limits {
    /// The most for one context.
    pub per_context: u32,
    /// The most for all contexts together, without workers that hang.
    pub together: u32,
    /// The most together for contexts that have some already.
    pub shared: u32,
    /// A context gets this part of the rest of `shared`: 1/`part`.
    pub part: u32,
    /// The most in all.
    pub most: u32,
}

/// Workers for requests that end by themselves.
pub const FINITE_WORKERS: Limits = Limits {
    per_context: 128,
    together: 256,
    shared: 2048,
    part: 8,
    most: if cfg!(loom) { 2 } else { 4096 },
};

/// Workers for requests that may not end by themselves.
pub const INDEFINITE_WORKERS: Limits = Limits {
    per_context: 2048,
    together: u32::MAX,
    shared: 4096,
    part: 1,
    most: if cfg!(loom) { 0 } else { 6144 },
};

/// Counts of the pool's workers of one class.
#[derive(Clone, Copy)]
pub struct Facts {
    /// Workers that serve the context.
    pub own: u32,
    /// Workers that serve any context.
    pub busy: u32,
    /// Busy workers whose request does not end.
    pub hung: u32,
}

/// Whether the context may have one more worker.
pub fn may_have_one_more(facts: Facts, limits: Limits) -> bool {
    let moving = facts.busy.saturating_sub(facts.hung);
    let left_of_moving = limits.together.saturating_sub(moving);
    if facts.own == 0 {
        return left_of_moving != 0 && facts.busy < limits.most;
    }
    let left_of_shared = limits.shared.saturating_sub(facts.busy);
    let share = left_of_moving.min(left_of_shared / limits.part);
    facts.own < limits.per_context.min(share)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LIMITS: Limits = FINITE_WORKERS;

    /// Contexts that each want more than they can get, and whose workers all hang from time to time.
    fn hang(contexts: usize) -> (Vec<u32>, u32) {
        let (mut own, mut hung) = (vec![0u32; contexts], 0);
        loop {
            let busy = own.iter().sum();
            let facts = |own| Facts { own, busy, hung };
            match own
                .iter()
                .position(|&own| may_have_one_more(facts(own), LIMITS))
            {
                Some(next) => own[next] += 1,
                None if hung == busy => return (own, busy),
                None => hung = busy,
            }
        }
    }

    #[test]
    fn one_alone_has_as_many_as_it_can_use() {
        for hung in [0, 128] {
            let facts = |own| Facts {
                own,
                busy: own,
                hung: hung.min(own),
            };
            assert!((0..128).all(|own| may_have_one_more(facts(own), LIMITS)));
            assert!(!may_have_one_more(facts(128), LIMITS));
        }
    }

    #[test]
    fn however_many_hang_another_finds_a_worker() {
        for contexts in [1, 2, 3, 10, 40, 200, 1000] {
            let (own, busy) = hang(contexts);
            assert!(own.iter().all(|&own| own != 0), "{contexts}");
            assert!(own.iter().all(|&own| own <= 128), "{contexts}");
            let new = Facts {
                own: 0,
                busy,
                hung: busy,
            };
            assert!(may_have_one_more(new, LIMITS), "{contexts}");
        }
    }

    #[test]
    fn those_that_move_leave_some_at_once() {
        let two = Facts {
            own: 0,
            busy: 128,
            hung: 0,
        };
        assert!(may_have_one_more(two, LIMITS));
        let full = Facts {
            own: 0,
            busy: 256,
            hung: 0,
        };
        assert!(!may_have_one_more(full, LIMITS));
        assert!(may_have_one_more(Facts { hung: 1, ..full }, LIMITS));
    }
}
