//! The order in which requests with claims are carried out.
//!
//! When the kernel's io_submit() returns, a request through the page cache or on a stream has been carried out. So such requests never
//! overtake each other, and an fsync() covers the writes that were submitted before it. Here, several threads carry requests out later. If
//! a request would notice that it has overtaken another one, it is held until that one has ended.
//!
//! Each request has a [`Claim`]: the file, the bytes, and the access. [`conflicts`] decides for two claims whether the later request must
//! wait. A request that others may have to wait for is in one of several lists while it is in flight, in the order of submission. A new
//! request searches the lists that can hold it. It then waits for one leader at a time: when the leader ends, it searches again for another
//! that was submitted before it. The links are in the requests, so nothing is allocated, and no request loses its order for lack of memory.

use crate::request::{Access, Claim, List, Req, RequestRef};
use crate::sys::try_box_uninit;

/// Whether the later of two requests must be held until the earlier one has ended.
pub fn conflicts(earlier: &Claim, later: &Claim) -> bool {
    use Access::*;
    if earlier.what != later.what {
        return false;
    }
    match (earlier.access, later.access) {
        (Nothing | DirectRead | Sync, _) | (_, Nothing) => false,
        (StreamRead, to) => to == StreamRead,
        (StreamWrite, to) => to == StreamWrite,
        (_, StreamRead | StreamWrite) => false,
        (before, Sync) => !before.reads(),
        // The kernel does not complete a direct write within io_submit().
        (DirectWrite, _) => false,
        // But it has moved the file's end.
        (DirectAppend, to) => to.appends() || !to.is_direct(),
        (before, to) if before.reads() && to.reads() => false,
        // Its position is not known before it is carried out.
        (Append, _) | (_, Append | DirectAppend) => true,
        // A read shows where the file ended.
        (Grow, to) if to.reads() => later.start < earlier.end(),
        (before, Grow) if before.reads() => earlier.start < later.end(),
        _ => earlier.overlaps(later),
    }
}

/// The list of a request that others may have to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClaimList {
    Reads,
    /// Also appends past the page cache.
    Writes,
    DirectWrites,
    Syncs,
    StreamReads,
    StreamWrites,
}

const CLAIM_LISTS: usize = 6;

impl Access {
    fn list(self) -> Option<ClaimList> {
        match self {
            Access::Nothing | Access::DirectRead => None,
            Access::Read => Some(ClaimList::Reads),
            Access::Write | Access::Grow | Access::Append | Access::DirectAppend => {
                Some(ClaimList::Writes)
            }
            Access::DirectWrite => Some(ClaimList::DirectWrites),
            Access::Sync => Some(ClaimList::Syncs),
            Access::StreamRead => Some(ClaimList::StreamReads),
            Access::StreamWrite => Some(ClaimList::StreamWrites),
        }
    }

    /// The lists of the requests that it may have to wait for.
    fn waits_for(self) -> &'static [ClaimList] {
        match self {
            Access::Nothing => &[],
            Access::Read | Access::DirectRead => &[ClaimList::Writes],
            Access::Write
            | Access::Grow
            | Access::Append
            | Access::DirectWrite
            | Access::DirectAppend => &[ClaimList::Writes, ClaimList::Reads],
            Access::Sync => &[ClaimList::Writes, ClaimList::DirectWrites],
            Access::StreamRead => &[ClaimList::StreamReads],
            Access::StreamWrite => &[ClaimList::StreamWrites],
        }
    }
}

/// Requests in the order of submission.
#[derive(Clone, Copy)]
struct Members {
    first: Option<RequestRef>,
    last: Option<RequestRef>,
}

/// The requests in flight that others may have to wait for.
pub struct Claims {
    lists: [Members; CLAIM_LISTS],
    /// Number of requests that have been added.
    added: u64,
    /// None: each request searches the lists.
    marks: Option<Box<Marks>>,
}

/// Where reads and writes are in flight. Most requests find here that they need not search the lists, which may be long.
pub struct Marks {
    reads: Marked,
    writes: Marked,
}

struct Marked {
    /// Number of requests.
    all: u32,
    /// Number of requests that are too long to be marked, and of appends.
    wide: u32,
    /// Number of writes that may make their file longer. Every read looks for these.
    grow: u32,
    /// For each piece of a file, by a hash of file and position: the number of requests in it. A count that has reached the maximum may be
    /// too low, so it stays there.
    pieces: [u16; PIECES],
}

const PIECES: usize = 1024;
/// Size of a piece, and the most pieces of a request that is marked.
const PIECE_SHIFT: u32 = 12;
const PIECES_MAX: u64 = 17;

impl Marked {
    fn mark(&mut self, claim: &Claim) {
        self.all += 1;
        self.grow += u32::from(claim.access == Access::Grow);
        match pieces(claim) {
            None => self.wide += 1,
            Some(pieces) => pieces.for_each(|piece| {
                self.pieces[piece] = self.pieces[piece].saturating_add(1);
            }),
        }
    }

    fn unmark(&mut self, claim: &Claim) {
        self.all -= 1;
        self.grow -= u32::from(claim.access == Access::Grow);
        match pieces(claim) {
            None => self.wide -= 1,
            Some(pieces) => pieces.for_each(|piece| {
                let count = &mut self.pieces[piece];
                if *count != u16::MAX {
                    *count -= 1;
                }
            }),
        }
    }

    /// Whether a request on a file with this claim may have to wait for one of these requests.
    fn may_hold(&self, claim: &Claim) -> bool {
        self.wide != 0
            || self.grow != 0 && claim.access.reads()
            || pieces(claim).is_none_or(|mut pieces| pieces.any(|piece| self.pieces[piece] != 0))
    }
}

/// The pieces of its file that a request touches. None: they are too many or unknown.
fn pieces(claim: &Claim) -> Option<impl Iterator<Item = usize> + use<>> {
    const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;
    let last_byte = claim.end().saturating_sub(1).max(claim.start);
    let (first, last) = (claim.start >> PIECE_SHIFT, last_byte >> PIECE_SHIFT);
    let what = claim.what;
    (!claim.access.appends() && last - first < PIECES_MAX).then(|| {
        (first..=last).map(move |piece| {
            let hash = what.wrapping_add(piece).wrapping_mul(SPREAD);
            (hash >> (64 - PIECES.ilog2())) as usize
        })
    })
}

impl Marks {
    /// None if there is no memory.
    pub fn new() -> Option<Box<Marks>> {
        let mut marks = try_box_uninit::<Marks>().ok()?;
        // SAFETY: numbers, for which zeros are valid.
        unsafe {
            marks.as_mut_ptr().write_bytes(0, 1);
            Some(marks.assume_init())
        }
    }

    fn of(&mut self, list: ClaimList) -> Option<&mut Marked> {
        match list {
            ClaimList::Reads => Some(&mut self.reads),
            ClaimList::Writes => Some(&mut self.writes),
            _ => None,
        }
    }

    /// Whether a request that is not marked itself may have to wait for one that is.
    fn may_hold(&self, claim: &Claim) -> bool {
        match claim.access {
            Access::Read | Access::DirectRead => self.writes.may_hold(claim),
            Access::Write | Access::DirectWrite => {
                self.writes.may_hold(claim) || self.reads.may_hold(claim)
            }
            // It must search for every read in flight.
            Access::Grow => self.writes.may_hold(claim) || self.reads.all != 0,
            _ => true,
        }
    }
}

impl Claims {
    /// `marked`: most requests need not search the lists.
    pub fn new(marked: bool) -> Claims {
        let none = Members {
            first: None,
            last: None,
        };
        Claims {
            lists: [none; CLAIM_LISTS],
            added: 0,
            marks: marked.then(Marks::new).flatten(),
        }
    }

    /// Adds requests. Those that may begin are added to `runnable`.
    pub fn add(&mut self, requests: &mut List, runnable: &mut List) {
        while let Some(req) = requests.pop() {
            let reference = req.reference();
            reference.set_number(self.added);
            let claim = reference.claim();
            let may_wait = self
                .marks
                .as_ref()
                .is_none_or(|marks| marks.may_hold(&claim));
            self.enter(reference, &claim);
            if may_wait {
                self.begin_or_wait(req, runnable);
            } else {
                runnable.push(req);
            }
        }
    }

    /// Adds a request if it may begin at once.
    pub fn begin(&mut self, req: &Req) -> bool {
        let reference = req.reference();
        let claim = reference.claim();
        // It comes after all requests that have been added.
        reference.set_number(self.added);
        let may_wait = self
            .marks
            .as_ref()
            .is_none_or(|marks| marks.may_hold(&claim));
        if may_wait && self.leader_of(reference).is_some() {
            return false;
        }
        self.enter(reference, &claim);
        true
    }

    fn enter(&mut self, reference: RequestRef, claim: &Claim) {
        self.added += 1;
        if let Some(list) = claim.access.list() {
            self.stand(reference, list);
            if let Some(marked) = self.marked(list) {
                marked.mark(claim);
            }
        }
    }

    fn marked(&mut self, list: ClaimList) -> Option<&mut Marked> {
        self.marks.as_mut()?.of(list)
    }

    /// A request has ended. Requests that may begin now are added to `runnable`.
    pub fn leave(&mut self, reference: RequestRef, runnable: &mut List) {
        let claim = reference.claim();
        let Some(list) = claim.access.list() else {
            return;
        };
        if let Some(marked) = self.marked(list) {
            marked.unmark(&claim);
        }
        let members = &mut self.lists[list as usize];
        let (before, after) = reference.neighbours();
        match before {
            Some(before) => before.set_after(after),
            None => members.first = after,
        }
        match after {
            Some(after) => after.set_before(before),
            None => members.last = before,
        }
        let mut followers = reference.detach_followers();
        while let Some(req) = followers.pop() {
            self.begin_or_wait(req, runnable);
        }
    }

    fn stand(&mut self, reference: RequestRef, list: ClaimList) {
        let members = &mut self.lists[list as usize];
        reference.set_before(members.last);
        reference.set_after(None);
        match members.last {
            Some(last) => last.set_after(Some(reference)),
            None => members.first = Some(reference),
        }
        members.last = Some(reference);
    }

    fn begin_or_wait(&self, req: Req, runnable: &mut List) {
        match self.leader_of(req.reference()) {
            Some(leader) => leader.add_follower(req),
            None => runnable.push(req),
        }
    }

    /// The last request before it that it must wait for.
    fn leader_of(&self, reference: RequestRef) -> Option<RequestRef> {
        let claim = reference.claim();
        let own = claim.access.list();
        claim.access.waits_for().iter().find_map(|&list| {
            // If it is not in the list yet, it comes after all that are.
            let mut at = if own == Some(list) && reference.number() < self.added {
                reference.neighbours().0
            } else {
                self.lists[list as usize].last
            };
            while let Some(earlier) = at {
                if earlier.number() < reference.number() && conflicts(&earlier.claim(), &claim) {
                    break;
                }
                at = earlier.neighbours().0;
            }
            at
        })
    }

    /// How many requests have been added so far.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Whether one of the first `count` requests that were added is in flight and the kernel would have completed it within io_submit().
    /// `streams`: only stream writes count; else only requests on files.
    pub fn has_at_once(&self, count: u64, streams: bool) -> bool {
        let lists: &[ClaimList] = if streams {
            &[ClaimList::StreamWrites]
        } else {
            &[ClaimList::Reads, ClaimList::Writes]
        };
        self.has(count, lists)
    }

    /// The same for requests on this file alone (`Claim::what`).
    pub fn has_at_once_on(&self, count: u64, what: u64) -> bool {
        [ClaimList::Reads, ClaimList::Writes].iter().any(|&list| {
            let mut at = self.lists[list as usize].first;
            while let Some(one) = at.filter(|one| one.number() < count) {
                if one.claim().what == what {
                    return true;
                }
                at = one.neighbours().1;
            }
            false
        })
    }

    /// Whether one of them, stream writes included, is in flight, other than the one at address `in_hand`.
    pub fn has_others(&self, count: u64, in_hand: usize) -> bool {
        let lists = [ClaimList::Reads, ClaimList::Writes, ClaimList::StreamWrites];
        lists.iter().any(|&list| {
            let first = match self.lists[list as usize].first {
                Some(first) if first.address() == in_hand => first.neighbours().1,
                first => first,
            };
            first.is_some_and(|first| first.number() < count)
        })
    }

    /// Whether one of the first `count` requests that were added is in flight and must not be lost when the process ends. Reads do not
    /// count.
    pub fn has_owed(&self, count: u64) -> bool {
        let lists = [
            ClaimList::Writes,
            ClaimList::DirectWrites,
            ClaimList::Syncs,
            ClaimList::StreamWrites,
        ];
        self.has(count, &lists)
    }

    fn has(&self, count: u64, lists: &[ClaimList]) -> bool {
        lists.iter().any(|&list| {
            let first = self.lists[list as usize].first;
            first.is_some_and(|first| first.number() < count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Access::*;
    use super::*;
    use crate::abi::IOCB2_NOP;
    use crate::request::{Chunk, Hints, SizeClass, Slabs};
    use crate::syscall::Call;

    const FILE: (u64, u64) = (7, 1);

    fn on_file(access: Access, start: u64, bytes: u32) -> Claim {
        match access {
            StreamRead | StreamWrite => Claim::of_stream(FILE, access == StreamWrite),
            _ => Claim::of_file(FILE, start, bytes, access),
        }
    }

    /// Whether the later request (the column) waits for the earlier one (the row), depending on where the later one is.
    #[test]
    fn what_waits_for_what() {
        const ALL: [Access; 11] = [
            Nothing,
            Read,
            Write,
            Grow,
            Append,
            DirectRead,
            DirectWrite,
            DirectAppend,
            Sync,
            StreamRead,
            StreamWrite,
        ];
        // x: always. o: if they overlap. b: also if the later one is before the earlier. a: also if it is behind it.
        #[rustfmt::skip]
        let table = [
            // -  R  W  G  A  dR dW dA S  sR sW
            (Nothing,      "..........."),
            (Read,         "..oax.ox..."),
            (Write,        ".oooxooxx.."),
            (Grow,         ".booxboxx.."),
            (Append,       ".xxxxxxxx.."),
            (DirectRead,   "..........."),
            (DirectWrite,  "........x.."),
            (DirectAppend, ".xxxx..xx.."),
            (Sync,         "..........."),
            (StreamRead,   ".........x."),
            (StreamWrite,  "..........x"),
        ];
        for (earlier, row) in table {
            for (later, expected) in ALL.into_iter().zip(row.chars()) {
                let waits =
                    |start| conflicts(&on_file(earlier, 100, 10), &on_file(later, start, 10));
                let (before, overlapping, behind) = (waits(50), waits(105), waits(200));
                let expected = match expected {
                    'x' => (true, true, true),
                    'o' => (false, true, false),
                    'b' => (true, true, false),
                    'a' => (false, true, true),
                    _ => (false, false, false),
                };
                let found = (before, overlapping, behind);
                assert_eq!(found, expected, "{earlier:?}, then {later:?}");
            }
        }
    }

    #[test]
    fn other_bytes_and_other_files_do_not_wait() {
        let first = on_file(Write, 4096, 4096);
        assert!(!conflicts(&first, &on_file(Write, 8192, 1)));
        assert!(!conflicts(&first, &on_file(Write, 0, 4096)));
        assert!(conflicts(&first, &on_file(Read, 8191, 1)));
        assert!(conflicts(&first, &on_file(Read, 0, 4097)));
        assert!(!conflicts(&first, &on_file(Read, 5000, 0)));
        for inode in [(7, 2), (8, 1), (8, 0)] {
            for access in [Read, Write, Append, Sync] {
                let other = Claim::of_file(inode, 4096, 4096, access);
                assert!(!conflicts(&first, &other), "{inode:?} {access:?}");
                assert!(!conflicts(&other, &first), "{inode:?} {access:?}");
            }
        }
        let end = on_file(Write, u64::MAX - 10, 4096);
        assert!(conflicts(&end, &on_file(Read, u64::MAX - 1, 1)));
    }

    /// Requests, each named by a letter, and those that have begun.
    struct Flight {
        slabs: Slabs,
        claims: Claims,
        begun: Vec<Req>,
    }

    impl Flight {
        fn new() -> Flight {
            let mut slabs = Slabs::new();
            let slab = slabs.of(SizeClass::Extended);
            slab.add(Chunk::new(SizeClass::Extended, 32).unwrap());
            let claims = Claims::new(true);
            Flight {
                slabs,
                claims,
                begun: Vec::new(),
            }
        }

        fn submit(&mut self, requests: &[(char, Access, u64, u32)]) {
            let (mut list, mut runnable) = (List::new(), List::new());
            for &(name, access, start, bytes) in requests {
                let slot = self.slabs.of(SizeClass::Extended).free.pop().unwrap();
                let call = Call::new(IOCB2_NOP, [0, 0, 0, start, 0, 0]);
                let claim = on_file(access, start, bytes);
                let event = [name as u64, 0, 0, 0];
                list.push(Req::build_extended(
                    slot,
                    0,
                    call,
                    event,
                    ((), Hints::NONE),
                    claim,
                ));
            }
            self.claims.add(&mut list, &mut runnable);
            self.begin(runnable);
        }

        fn begin(&mut self, mut runnable: List) {
            while let Some(req) = runnable.pop() {
                self.begun.push(req);
            }
        }

        fn names(&self) -> String {
            let name = |req: &Req| char::from(req.event()[0] as u8);
            self.begun.iter().map(name).collect()
        }

        fn end(&mut self, name: char) -> String {
            let is_it = |req: &Req| req.event()[0] == name as u64;
            let at = self.begun.iter().position(is_it).expect("it runs");
            let req = self.begun.remove(at);
            let mut runnable = List::new();
            self.claims.leave(req.reference(), &mut runnable);
            self.slabs.free(req);
            self.begin(runnable);
            self.names()
        }
    }

    #[test]
    fn a_sync_covers_every_write_before_it() {
        let mut flight = Flight::new();
        flight.submit(&[('a', Write, 0, 10), ('d', DirectWrite, 20, 10)]);
        flight.submit(&[('r', Read, 40, 10), ('s', Sync, 0, 0), ('l', Write, 60, 10)]);
        assert_eq!(flight.names(), "adrl");
        assert!(flight.claims.has_owed(4));
        assert_eq!(flight.end('a'), "drl");
        assert_eq!(flight.end('d'), "rls");
        assert_eq!(flight.end('r'), "ls");
        assert_eq!(flight.end('s'), "l");
        assert!(!flight.claims.has_owed(4) && flight.claims.has_owed(5));
        assert_eq!(flight.end('l'), "");
        assert!(!flight.claims.has_owed(5));
    }

    #[test]
    fn appends_go_one_by_one() {
        let mut flight = Flight::new();
        flight.submit(&[
            ('a', Append, 0, 10),
            ('b', Append, 0, 10),
            ('c', DirectAppend, 0, 10),
        ]);
        flight.submit(&[
            ('r', Read, 0, 1),
            ('s', Sync, 0, 0),
            ('x', DirectRead, 0, 1),
        ]);
        assert_eq!(flight.names(), "a");
        assert_eq!(flight.end('a'), "b");
        // `x` need not wait for `c`.
        assert_eq!(flight.end('b'), "cx");
        assert_eq!(flight.end('x'), "c");
        assert_eq!(flight.end('c'), "rs");
        assert_eq!(flight.end('r'), "s");
        assert_eq!(flight.end('s'), "");
    }

    /// A waiting request has one leader at a time, and never one that was submitted after it.
    #[test]
    fn each_waits_for_all_before_it() {
        let mut flight = Flight::new();
        flight.submit(&[
            ('a', Write, 0, 10),
            ('b', Write, 10, 10),
            ('r', Read, 0, 20),
        ]);
        flight.submit(&[
            ('c', Write, 5, 10),
            ('d', Read, 100, 10),
            ('e', Write, 30, 1),
        ]);
        assert_eq!(flight.names(), "abde");
        assert_eq!(flight.end('b'), "ade");
        flight.submit(&[('f', Write, 0, 40)]);
        assert_eq!(flight.end('a'), "der");
        assert_eq!(flight.end('e'), "dr");
        assert_eq!(flight.end('r'), "dc");
        assert_eq!(flight.end('c'), "df");
        assert_eq!(flight.end('d'), "f");
        assert_eq!(flight.end('f'), "");
    }

    /// A request that must be held never misses a mark, and unmarking leaves no mark.
    #[test]
    fn marks_are_seen_by_all_that_wait() {
        const ON_FILES: [Access; 7] = [
            Read,
            Write,
            Grow,
            Append,
            DirectRead,
            DirectWrite,
            DirectAppend,
        ];
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut any = || {
            let access = ON_FILES[random(7) as usize];
            let start = [random(200), random(1 << 18), u64::MAX - random(8192)][random(3) as usize];
            let bytes = [random(3), random(9000), random(1 << 31)][random(3) as usize];
            Claim::of_file((7, random(3)), start, bytes as u32, access)
        };
        let mut marks = Marks::new().unwrap();
        let (mut held, mut passed) = (0, 0);
        for _ in 0..20_000 {
            let (earlier, later) = (any(), any());
            let list = earlier.access.list();
            if let Some(marked) = list.and_then(|list| marks.of(list)) {
                marked.mark(&earlier);
            }
            let may_hold = marks.may_hold(&later);
            assert!(
                may_hold || !conflicts(&earlier, &later),
                "{earlier:?} {later:?}"
            );
            held += u32::from(conflicts(&earlier, &later));
            passed += u32::from(!may_hold);
            if let Some(marked) = list.and_then(|list| marks.of(list)) {
                marked.unmark(&earlier);
            }
        }
        assert!(held > 1000 && passed > 1000);
        for marked in [&marks.reads, &marks.writes] {
            assert_eq!((marked.all, marked.wide, marked.grow), (0, 0, 0));
            assert!(marked.pieces.iter().all(|&count| count == 0));
        }
    }

    #[test]
    fn streams_have_an_order_for_each_direction() {
        let mut flight = Flight::new();
        flight.submit(&[('r', StreamRead, 0, 1), ('w', StreamWrite, 0, 1)]);
        flight.submit(&[('x', StreamRead, 0, 1), ('y', StreamWrite, 0, 1)]);
        assert_eq!(flight.names(), "rw");
        assert!(flight.claims.has_at_once(4, true) && !flight.claims.has_at_once(4, false));
        assert_eq!(flight.end('w'), "ry");
        assert_eq!(flight.end('y'), "r");
        assert!(!flight.claims.has_owed(4));
        assert_eq!(flight.end('r'), "x");
        assert_eq!(flight.end('x'), "");
    }
}
