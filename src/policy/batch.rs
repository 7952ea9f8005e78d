//! Decides which requests the kernel gets together: in one batch by one call, and merged within the batch.
//!
//! All requests of a batch name one file and go in one direction. So an answer for the first request is the answer for every
//! one: whether the thread needs the signal shield, whether requests like these still wait for their device, whether a refusal
//! is about the file's reads or its writes, and whether an append keeps them from being merged.

use super::tuning::Tuning;
use crate::syscall::Key;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Read,
    Write,
}

impl Direction {
    /// Whether a request can bring a signal (SIGXFSZ) upon the thread that hands it over.
    pub fn needs_shield(self) -> bool {
        self == Direction::Write
    }
}

/// The facts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The kernel's AIO can carry it out, and requests like it have lately waited for their device.
    pub for_kernel: bool,
    pub direction: Direction,
    /// The call's number for its file, and the facts that were known of that file when the request was submitted.
    pub file: (u64, Key),
    /// Its offset, if it is a plain read or write, without vectors: these can be merged.
    pub start: Option<u64>,
    /// The bytes of a plain read or write; 0 for others.
    pub bytes: u64,
    /// The kernel must give a result for this request alone.
    pub no_merge: bool,
    /// An eventfd is notified of its completion.
    pub has_eventfd: bool,
}

/// The abilities of the thread that hands a batch over.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// It may hand writes over. That can mean to wait for the file's lock or for a journal.
    pub writes: bool,
    /// The thread that takes the completions notifies eventfds.
    pub eventfds: bool,
}

impl Caller {
    /// A worker. The reaper takes the completions.
    pub const WORKER: Caller = Caller {
        writes: true,
        eventfds: true,
    };
    /// A thread that hands over to a context's own kernel queue, and that may wait or tells the kernel not to wait. The thread that waits
    /// for an eventfd need not be the one that takes completions there.
    pub const OWN_QUEUE: Caller = Caller {
        writes: true,
        eventfds: false,
    };
    /// A submitter that hands over to a context's own kernel queue, and so must not wait.
    pub const SUBMITTER: Caller = Caller {
        writes: false,
        eventfds: false,
    };
}

/// The requests of a batch, or those of a merged operation.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    first: Request,
    last: Request,
    bytes: u64,
}

impl Joined {
    pub fn of(first: Request) -> Joined {
        Joined {
            first,
            last: first,
            bytes: first.bytes,
        }
    }

    pub fn add(&mut self, next: Request) {
        self.last = next;
        self.bytes = self.bytes.saturating_add(next.bytes);
    }

    /// Whether the next request is for the same file, in the same direction.
    fn is_like(&self, next: &Request) -> bool {
        next.file == self.first.file && next.direction == self.first.direction
    }

    /// Whether the next request begins where the last one ends.
    fn is_followed_by(&self, next: &Request) -> bool {
        self.last.start.is_some_and(|start| {
            self.is_like(next) && next.start == Some(start.wrapping_add(self.last.bytes))
        })
    }
}

/// Whether a request may join a batch that this caller hands over. Without a batch: whether it may begin one.
pub fn joins(batch: Option<&Joined>, next: &Request, caller: Caller) -> bool {
    next.for_kernel
        && (caller.writes || next.direction == Direction::Read)
        && (caller.eventfds || !next.has_eventfd)
        && batch.is_none_or(|batch| batch.is_like(next))
}

/// Whether a request of a batch may be merged with those before it. An eventfd is notified of each request by itself.
pub fn merges(before: &Joined, next: &Request, tuning: &Tuning) -> bool {
    let goes_alone = |one: &Request| one.no_merge || one.has_eventfd;
    before.is_followed_by(next)
        && before.bytes.saturating_add(next.bytes) <= tuning.batch_bytes
        && !goes_alone(&before.last)
        && !goes_alone(next)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::policy::tuning::TUNING;
    use crate::syscall::Call;
    use crate::tests::Random;

    const T: &Tuning = &Tuning {
        batch_bytes: 1 << 16,
        ..TUNING
    };
    const BLOCK: u64 = 4096;

    fn file(number: u64, fd: u64) -> (u64, Key) {
        (number, Call::new(0, [fd, 0, 0, 0, 0, 0]).key)
    }

    fn read(start: u64) -> Request {
        Request {
            for_kernel: true,
            direction: Direction::Read,
            file: file(3, 3),
            start: Some(start),
            bytes: BLOCK,
            no_merge: false,
            has_eventfd: false,
        }
    }

    fn write(start: u64) -> Request {
        Request {
            direction: Direction::Write,
            ..read(start)
        }
    }

    fn batch(requests: &[Request]) -> Option<Joined> {
        let (first, rest) = requests.split_first()?;
        let mut batch = Joined::of(*first);
        rest.iter().for_each(|next| batch.add(*next));
        Some(batch)
    }

    fn follow(count: u64, one: fn(u64) -> Request) -> Vec<Request> {
        (0..count).map(|i| one(i * BLOCK)).collect()
    }

    fn with_eventfd(one: Request) -> Request {
        Request {
            has_eventfd: true,
            ..one
        }
    }

    fn no_merge(one: Request) -> Request {
        Request {
            no_merge: true,
            ..one
        }
    }

    #[test]
    fn joining() {
        const OWN: Caller = Caller::OWN_QUEUE;
        const WORKER: Caller = Caller::WORKER;
        const SUBMITTER: Caller = Caller::SUBMITTER;
        const FAR: u64 = 1 << 30;
        let not_for_kernel = Request {
            for_kernel: false,
            ..read(0)
        };
        let vector = Request {
            start: None,
            bytes: 0,
            ..read(0)
        };
        let of = |number, fd| Request {
            file: file(number, fd),
            ..read(0)
        };
        let answer = |before: &[Request], next: Request, caller| {
            joins(batch(before).as_ref(), &next, caller)
        };
        let yes = |what, before: &[Request], next, caller| {
            assert!(answer(before, next, caller), "{what}");
        };
        let no = |what, before: &[Request], next, caller| {
            assert!(!answer(before, next, caller), "{what}");
        };
        yes("a read begins", &[], read(0), OWN);
        yes("by one that must not wait", &[], read(0), SUBMITTER);
        yes("a write begins", &[], write(0), OWN);
        no("by one that must not wait", &[], write(0), SUBMITTER);
        no("what is not for the kernel", &[], not_for_kernel, WORKER);
        yes(
            "with an eventfd, by a worker",
            &[],
            with_eventfd(read(0)),
            WORKER,
        );
        no(
            "with an eventfd, by a caller",
            &[],
            with_eventfd(read(0)),
            OWN,
        );
        yes("a vector", &[], vector, OWN);
        yes("a read joins a read", &[read(0)], read(FAR), OWN);
        yes("a write joins a write", &[write(0)], write(FAR), WORKER);
        no("a write behind a read", &[read(0)], write(FAR), OWN);
        no("where the read ends", &[read(0)], write(BLOCK), OWN);
        no("by a worker", &[read(0)], write(FAR), WORKER);
        no("by one that submits", &[read(0)], write(FAR), SUBMITTER);
        no("a read behind a write", &[write(0)], read(FAR), WORKER);
        no("not for the kernel", &[read(0)], not_for_kernel, OWN);
        no("with an eventfd", &[read(0)], with_eventfd(read(FAR)), OWN);
        no("of another file", &[read(0)], of(4, 4), OWN);
        no("of the number's new file", &[read(0)], of(3, 4), OWN);
    }

    #[test]
    fn merging() {
        let answer = |before: &[Request], next: Request| {
            batch(before).is_some_and(|before| merges(&before, &next, T))
        };
        let yes = |what, before: &[Request], next| assert!(answer(before, next), "{what}");
        let no = |what, before: &[Request], next| assert!(!answer(before, next), "{what}");
        let full = T.batch_bytes / BLOCK;
        yes("those that follow", &[read(0)], read(BLOCK));
        yes("writes, too", &follow(2, write), write(2 * BLOCK));
        no("elsewhere", &[read(0)], read(2 * BLOCK));
        no("the other way", &[read(0)], write(BLOCK));
        no("the next is alone", &[read(0)], no_merge(read(BLOCK)));
        no("the last is alone", &[no_merge(read(0))], read(BLOCK));
        no("the next is told of", &[read(0)], with_eventfd(read(BLOCK)));
        no("the last is told of", &[with_eventfd(read(0))], read(BLOCK));
        yes(
            "all there is room for",
            &follow(full - 1, read),
            read(T.batch_bytes - BLOCK),
        );
        no("and not more", &follow(full, read), read(T.batch_bytes));
    }

    /// Random requests and callers: every property of a batch's first request holds for the whole batch.
    #[test]
    fn all_of_a_batch_are_alike() {
        let mut random = Random(1);
        let (mut writes, mut merged) = (0, 0);
        for _ in 0..20_000 {
            let caller = Caller {
                writes: random.below(2) == 0,
                eventfds: random.below(2) == 0,
            };
            let mut known = None;
            let mut members = Vec::<Request>::new();
            for _ in 0..24 {
                let end = members
                    .last()
                    .map_or(0, |last| last.start.unwrap_or(0) + last.bytes);
                let start = match random.below(8) {
                    0 => None,
                    1 => Some(random.next() >> 1),
                    _ => Some(end),
                };
                let mut one_in = |n| random.below(n) == 0;
                let next = Request {
                    for_kernel: !one_in(16),
                    direction: if one_in(2) {
                        Direction::Read
                    } else {
                        Direction::Write
                    },
                    file: file(3 + u64::from(one_in(8)), 3 + u64::from(one_in(8))),
                    start,
                    bytes: start.map_or(0, |_| BLOCK),
                    no_merge: one_in(8),
                    has_eventfd: one_in(8),
                };
                if joins(known.as_ref(), &next, caller) {
                    members.push(next);
                    known = batch(&members);
                }
            }
            let Some(first) = members.first() else {
                continue;
            };
            let is_write = |one: &Request| one.direction == Direction::Write;
            for one in &members {
                assert!(one.for_kernel);
                assert!(!is_write(one) || first.direction.needs_shield());
                assert!(!is_write(one) || caller.writes);
                assert!(!one.has_eventfd || caller.eventfds);
                assert_eq!((one.file, one.direction), (first.file, first.direction));
            }
            for pair in members.windows(2) {
                let follows = pair[0].start.map(|start| start + BLOCK) == pair[1].start;
                let run = Joined::of(pair[0]);
                if merges(&run, &pair[1], T) {
                    merged += 1;
                    assert!(follows && pair.iter().all(|one| !one.no_merge && !one.has_eventfd));
                }
            }
            writes += usize::from(members.len() > 1 && is_write(first));
        }
        assert!(writes > 100 && merged > 100);
    }
}
