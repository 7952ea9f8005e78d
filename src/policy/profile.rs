//! The profile of a file, learned from the service times of its requests and from their waits; and the transition from a profile and one
//! observation to the next profile.
//!
//! Reads, writes and syncs of a file have a profile each. A new file begins with the profile of its family: files of the same class on the
//! same device. Its own requests then override that. So a program that uses a thousand files need not prove each of them. A family learns
//! only from the first requests of each of its files. So each file counts as much as any other, however many requests it gets.
//!
//! Everything here is a hint. A wrong profile costs time.

#[cfg(loom)]
use super::tuning::TUNING;
use super::tuning::Tuning;

/// Requests that behave alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Read and Write: at an offset.
    Read,
    Write,
    /// fsync and fdatasync.
    Sync,
}

pub const KINDS: usize = 3;

/// The class that a file was found to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileClass {
    /// A regular file; else a block device.
    pub regular: bool,
    /// Open with O_DIRECT: past the page cache.
    pub direct: bool,
}

/// One request, as it was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// How long it took.
    pub ns: u64,
    /// Whether it gave up the processor meanwhile. None: not known.
    pub waited: Option<bool>,
    /// It is a write to a regular file, which takes the file's lock.
    pub locks: bool,
    /// Other requests of its context ran beside it.
    pub crowded: bool,
    /// How many pages it has at most, if it went past the page cache. None: it did not, or this is not known.
    pub pages: Option<u64>,
}

impl Observation {
    /// Whether it waited for a device. A virtual machine's processor may be kept from running while the device works: then a request takes
    /// long for its size, and does not give up the processor.
    fn is_device_bound(&self, tuning: &Tuning) -> Option<bool> {
        let is_long = |pages: u64| self.ns / tuning.fast_ns >= pages;
        if self.pages.is_some_and(is_long) {
            Some(true)
        } else {
            self.waited
        }
    }

    /// A write to a regular file may have waited just for another write of the same program.
    pub fn is_inconclusive(&self, tuning: &Tuning) -> bool {
        let slow = self.ns > tuning.fast_ns || self.waited == Some(true);
        self.locks && self.crowded && slow
    }
}

/// The profile of the requests of one kind to one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// After this many more fast requests, the next is expected to be fast.
    fast_after: u16,
    /// How many in a row have waited. If these are more than `Tuning::in_a_row`, the file is device-bound.
    waits: u8,
    /// How many were bounded, less a penalty for each that was not.
    bounded: u8,
    /// How many were trivial, less those that were not.
    trivial: u8,
    /// How many there were, `Tuning::young` at most.
    age: u8,
}

impl Profile {
    /// The profile of a file of which nothing is known.
    pub const fn new(tuning: &Tuning) -> Profile {
        Profile {
            fast_after: tuning.in_a_row as u16,
            waits: 0,
            bounded: 0,
            trivial: 0,
            age: 0,
        }
    }

    /// The profile of something that is not a file: nothing is expected of it.
    pub const fn none(tuning: &Tuning) -> Profile {
        Profile {
            fast_after: tuning.after_wait,
            ..Profile::new(tuning)
        }
    }

    /// The profile after one more request.
    pub fn after(self, seen: &Observation, tuning: &Tuning) -> Profile {
        let next = Profile {
            waits: self.waits_after(seen.is_device_bound(tuning), tuning),
            bounded: if seen.ns > tuning.bounded_ns {
                self.bounded.saturating_sub(tuning.in_a_row / 4)
            } else {
                (self.bounded + 1).min(tuning.in_a_row)
            },
            age: (self.age + 1).min(tuning.young),
            ..self
        };
        if seen.is_inconclusive(tuning) {
            return next;
        }
        let is_long = seen.ns > tuning.fast_ns;
        Profile {
            fast_after: match seen.waited {
                Some(true) => tuning.after_wait,
                // Perhaps it was only preempted. The next request is asked whether it waits, and decides.
                _ if is_long => self.fast_after.max(1),
                _ => self.fast_after.saturating_sub(1),
            },
            trivial: if seen.ns < tuning.trivial_ns {
                (self.trivial + 1).min(tuning.in_a_row)
            } else {
                self.trivial.saturating_sub(1)
            },
            ..next
        }
    }

    /// The profile of a young file after its family has become better known: the file is expected to be like the family, unless its own
    /// requests have shown the contrary.
    pub fn joined(self, prior: Profile, tuning: &Tuning) -> Profile {
        let has_waited = self.fast_after > u16::from(tuning.in_a_row);
        let always = |count: u8, expected: u8| {
            if count < self.age {
                count
            } else {
                count.max(expected)
            }
        };
        Profile {
            fast_after: if has_waited {
                self.fast_after
            } else {
                self.fast_after.min(prior.fast_after)
            },
            waits: always(self.waits, prior.waits),
            bounded: always(self.bounded, prior.bounded),
            ..self
        }
    }

    fn waits_after(self, waited: Option<bool>, tuning: &Tuning) -> u8 {
        match waited {
            None => self.waits,
            Some(true) if self.waits + 1 < tuning.in_a_row => self.waits + 1,
            Some(true) => tuning.waits_max,
            Some(false) if self.waits > tuning.in_a_row => self.waits - 1,
            Some(false) => 0,
        }
    }

    /// For a while, its requests are not for a caller.
    pub fn distrusted(self, tuning: &Tuning) -> Profile {
        Profile {
            fast_after: tuning.after_wait,
            bounded: 0,
            ..self
        }
    }

    /// Whether it waits for a device is not known any more.
    pub fn unbound(self) -> Profile {
        Profile { waits: 0, ..self }
    }

    /// Whether the next request need not be asked whether it waits.
    pub fn is_settled(self, tuning: &Tuning) -> bool {
        self.fast_after == 0 && !self.is_young(tuning)
    }

    /// Whether its family learns from its requests.
    pub fn is_young(self, tuning: &Tuning) -> bool {
        self.age < tuning.young
    }

    /// In the lower 48 bits.
    pub const fn to_bits(self) -> u64 {
        self.fast_after as u64
            | (self.waits as u64) << 13
            | (self.bounded as u64) << 19
            | (self.trivial as u64) << 25
            | (self.age as u64) << 31
    }

    #[inline]
    pub fn from_bits(bits: u64) -> Profile {
        let part = |at: u32, width: u32| (bits >> at & ((1 << width) - 1)) as u16;
        Profile {
            fast_after: part(0, 13),
            waits: part(13, 6) as u8,
            bounded: part(19, 6) as u8,
            trivial: part(25, 6) as u8,
            age: part(31, 3) as u8,
        }
    }
}

/// The profile of a family: points for each property, from the first requests of one kind to files of one class on one device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Family {
    fast: u8,
    device_bound: u8,
    bounded: u8,
}

impl Family {
    /// The family after one more request of one of its young files.
    pub fn after(self, seen: &Observation, tuning: &Tuning) -> Family {
        if seen.is_inconclusive(tuning) {
            return self;
        }
        let is_long = seen.ns > tuning.fast_ns;
        let count = |points: u8, agrees: Option<bool>| match agrees {
            None => points,
            Some(true) => (points + 1).min(tuning.in_a_row),
            Some(false) => points.saturating_sub(tuning.young),
        };
        let fast = match seen.waited {
            Some(true) => Some(false),
            // Perhaps it was only preempted.
            _ if is_long => None,
            _ => Some(true),
        };
        Family {
            fast: count(self.fast, fast),
            device_bound: count(self.device_bound, seen.is_device_bound(tuning)),
            bounded: count(self.bounded, Some(seen.ns <= tuning.bounded_ns)),
        }
    }

    /// The profile of a new file of the family. A property is expected if it has at least half of the points: the young requests of one
    /// file alone cannot take a full family below that. A wait is expected only past the page cache, because the content of the cache
    /// depends on the file.
    pub fn prior(self, class: FileClass, tuning: &Tuning) -> Profile {
        let holds = |points| points >= tuning.in_a_row / 2;
        let new = Profile::new(tuning);
        Profile {
            fast_after: if holds(self.fast) { 0 } else { new.fast_after },
            waits: if class.direct && holds(self.device_bound) {
                tuning.waits_max
            } else {
                0
            },
            bounded: if holds(self.bounded) {
                tuning.in_a_row
            } else {
                0
            },
            ..new
        }
    }

    /// In the lower 48 bits.
    pub fn to_bits(self) -> u64 {
        u64::from(self.fast) | u64::from(self.device_bound) << 8 | u64::from(self.bounded) << 16
    }

    pub fn from_bits(bits: u64) -> Family {
        Family {
            fast: bits as u8,
            device_bound: (bits >> 8) as u8,
            bounded: (bits >> 16) as u8,
        }
    }
}

/// The basis of the expectation of one request: its kind, and the profile of its file.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub kind: Kind,
    /// None: it is not a file, or nobody has looked yet.
    pub class: Option<FileClass>,
    /// The bits of the profile: most questions need only a part of it.
    pub bits: u64,
}

impl View {
    /// For models.
    #[cfg(loom)]
    pub const DEVICE_BOUND_READ: View = View {
        kind: Kind::Read,
        class: Some(FileClass {
            regular: false,
            direct: true,
        }),
        bits: Profile {
            waits: TUNING.waits_max,
            ..Profile::new(&TUNING)
        }
        .to_bits(),
    };

    #[inline]
    pub fn profile(&self) -> Profile {
        Profile::from_bits(self.bits)
    }

    #[inline]
    fn is(&self, property: fn(&FileClass) -> bool) -> bool {
        self.class.as_ref().is_some_and(property)
    }

    /// A write to a regular file: it takes the file's lock.
    #[inline]
    pub fn is_regular_write(&self) -> bool {
        self.kind == Kind::Write && self.is(|class| class.regular)
    }

    #[inline]
    pub fn is_direct(&self) -> bool {
        self.is(|class| class.direct)
    }

    /// Whether a sync of it takes as long as the last one: nothing accumulates in the page cache.
    #[inline]
    fn is_even(&self) -> bool {
        self.kind != Kind::Sync || self.is_direct()
    }

    /// Whether it is expected to be fast. Writes to a regular file go to a caller sooner: since they run one after another, a caller
    /// carries them out as well as a worker.
    #[inline]
    pub fn is_fast(&self, tuning: &Tuning) -> bool {
        let left = self.profile().fast_after;
        let known = left == 0 || left < u16::from(tuning.in_a_row) && self.is_regular_write();
        known && self.is_even()
    }

    /// Whether it may wait, but is expected to end soon.
    #[inline]
    pub fn is_bounded(&self, tuning: &Tuning) -> bool {
        self.profile().bounded == tuning.in_a_row && self.is_even()
    }

    /// Whether it should run alone: it takes its file's lock, or takes less time than its hand-over.
    #[inline]
    pub fn is_serial(&self, tuning: &Tuning) -> bool {
        let left = self.profile().fast_after;
        self.is_regular_write() && left <= u16::from(tuning.in_a_row)
            || left == 0 && self.profile().trivial > tuning.in_a_row / 2
    }

    /// Whether all requests to the file have waited lately; `direct`: past the page cache, or through it.
    #[inline]
    pub fn is_device_bound(&self, direct: bool, tuning: &Tuning) -> bool {
        self.profile().waits > tuning.in_a_row
            && self.class.is_some_and(|class| class.direct == direct)
    }

    /// Whether a caller with a time limit may carry it out if it is expected to be fast: a read, or a write past the page cache to a
    /// device, which carries it out at once. A write to a file may have to wait for a journal or for dirty pages, even if it never did
    /// before.
    #[inline]
    pub fn fits_in_time(&self) -> bool {
        match self.kind {
            Kind::Read => true,
            Kind::Write => self.is(|class| class.direct && !class.regular),
            Kind::Sync => false,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tuning::TUNING;
    use super::*;

    const T: &Tuning = &TUNING;
    const NEW: Profile = Profile::new(T);
    const CACHED: FileClass = FileClass {
        regular: true,
        direct: false,
    };
    const DIRECT: FileClass = FileClass {
        regular: true,
        direct: true,
    };
    const DEVICE: FileClass = FileClass {
        regular: false,
        direct: true,
    };
    const FAST: Observation = Observation {
        ns: 2_000,
        waited: Some(false),
        locks: false,
        crowded: false,
        pages: None,
    };
    const WAITS: Observation = Observation {
        ns: 100_000,
        waited: Some(true),
        ..FAST
    };
    const LONG: Observation = Observation {
        ns: 100_000,
        waited: None,
        ..FAST
    };
    const AGES: Observation = Observation {
        ns: 10_000_000,
        ..WAITS
    };

    /// A number of equal observations.
    type Seen = (usize, Observation);

    fn all(start: Profile, seen: &[Seen]) -> Profile {
        seen.iter()
            .flat_map(|(count, seen)| std::iter::repeat_n(seen, *count))
            .fold(start, |profile, seen| profile.after(seen, T))
    }

    fn family(seen: &[Seen]) -> Family {
        seen.iter()
            .flat_map(|(count, seen)| std::iter::repeat_n(seen, *count))
            .fold(Family::default(), |family, seen| family.after(seen, T))
    }

    fn view(kind: Kind, class: FileClass, profile: Profile) -> View {
        View {
            kind,
            class: Some(class),
            bits: profile.to_bits(),
        }
    }

    /// After these observations, in this order, a request of that kind and class is expected to be: fast, bounded, serial, device-bound.
    #[test]
    fn what_is_expected_after_what_was_seen() {
        let locks = |seen: Observation| Observation {
            locks: true,
            ..seen
        };
        let crowded = |seen: Observation| Observation {
            crowded: true,
            ..locks(seen)
        };
        let trivial = Observation { ns: 300, ..FAST };
        let of_pages = |pages| Observation {
            ns: 10 * T.fast_ns,
            pages: Some(pages),
            ..FAST
        };
        use Kind::*;
        #[rustfmt::skip]
        let table: &[(&str, Kind, FileClass, &[Seen], &str)] = &[
            ("nothing",                  Read,  CACHED, &[], ""),
            ("not often enough",         Read,  CACHED, &[(31, FAST)], ""),
            ("fast",                     Read,  CACHED, &[(32, FAST)], "fb"),
            ("trivial",                  Read,  CACHED, &[(64, trivial)], "fbs"),
            ("most are",                 Read,  CACHED, &[(64, trivial), (15, FAST)], "fbs"),
            ("one waited",               Read,  CACHED, &[(32, FAST), (1, WAITS)], "b"),
            ("and was made up for",      Read,  CACHED, &[(32, FAST), (1, WAITS), (256, FAST)], "fb"),
            ("so are a hundred",         Read,  CACHED, &[(99, WAITS), (256, FAST)], "fb"),
            ("past the cache, too",      Read,  DIRECT, &[(99, WAITS), (256, FAST)], "fb"),
            ("one was not run",          Read,  CACHED, &[(32, FAST), (1, LONG)], "b"),
            ("or so it seems",           Read,  CACHED, &[(32, FAST), (1, LONG), (1, FAST)], "fb"),
            ("none was run",             Read,  CACHED, &[(100, LONG)], "b"),
            ("one took ages",            Read,  CACHED, &[(32, FAST), (1, AGES)], ""),
            ("all wait, past the cache", Read,  DIRECT, &[(32, WAITS)], "bd"),
            ("long for their size",      Read,  DIRECT, &[(32, of_pages(10))], "d"),
            ("not for this size",        Read,  DIRECT, &[(32, of_pages(11))], ""),
            ("not all in a row",         Read,  DIRECT, &[(30, WAITS), (1, FAST), (30, WAITS)], "b"),
            ("three do not",             Read,  DIRECT, &[(32, WAITS), (3, FAST)], "bd"),
            ("four do not",              Read,  DIRECT, &[(32, WAITS), (4, FAST)], "b"),
            ("a write, one after another", Write, CACHED, &[(1, locks(FAST))], "fs"),
            ("a write that waited",      Write, CACHED, &[(32, locks(FAST)), (1, locks(WAITS))], "b"),
            ("a write, a crowd",         Write, CACHED, &[(32, locks(FAST)), (9, crowded(WAITS))], "fbs"),
            ("a write that waits",       Write, CACHED, &[(1, locks(WAITS))], ""),
            ("a write to a device",      Write, DEVICE, &[(32, FAST)], "fb"),
            ("a sync of a file",         Sync,  CACHED, &[(99, FAST)], ""),
            ("a sync past the cache",    Sync,  DIRECT, &[(99, FAST)], "fb"),
        ];
        for (name, kind, class, seen, expected) in table {
            let view = view(*kind, *class, all(NEW, seen));
            let mut found = String::new();
            for (letter, is) in [
                ('f', view.is_fast(T)),
                ('b', view.is_bounded(T)),
                ('s', view.is_serial(T)),
                ('d', view.is_device_bound(class.direct, T)),
            ] {
                found.extend(is.then_some(letter));
            }
            assert_eq!(found, *expected, "{name}: {view:?}");
        }
    }

    /// The expectation of a new file of a family after young requests of other files.
    #[test]
    fn a_new_file_is_expected_to_be_like_its_family() {
        #[rustfmt::skip]
        let table: &[(&str, FileClass, &[Seen], &str)] = &[
            ("nothing",              CACHED, &[], ""),
            ("too little",           CACHED, &[(15, FAST)], ""),
            ("fast",                 CACHED, &[(16, FAST)], "fb"),
            ("one file waits",       CACHED, &[(32, FAST), (4, WAITS)], "fb"),
            ("two files do",         CACHED, &[(32, FAST), (8, WAITS)], "b"),
            ("and others do not",    CACHED, &[(32, FAST), (8, WAITS), (16, FAST)], "fb"),
            ("all wait",             CACHED, &[(99, WAITS)], "b"),
            ("past the page cache",  DIRECT, &[(16, WAITS)], "bd"),
            ("now they do not",      DIRECT, &[(32, WAITS), (5, FAST)], "b"),
            ("they take ages",       DEVICE, &[(16, AGES)], "d"),
        ];
        for (name, class, seen, expected) in table {
            let view = view(Kind::Read, *class, family(seen).prior(*class, T));
            let mut found = String::new();
            for (letter, is) in [
                ('f', view.is_fast(T)),
                ('b', view.is_bounded(T)),
                ('d', view.is_device_bound(class.direct, T)),
            ] {
                found.extend(is.then_some(letter));
            }
            assert_eq!(found, *expected, "{name}: {view:?}");
        }
    }

    /// A file that is unlike its family keeps a caller waiting once, and does not make the others slow.
    #[test]
    fn what_a_file_does_itself_overrides_its_family() {
        let fast = family(&[(99, FAST)]);
        let prior = fast.prior(CACHED, T);
        assert!(view(Kind::Read, CACHED, prior).is_fast(T));
        assert!(!prior.is_settled(T) && prior.is_young(T));
        let slow = prior.after(&WAITS, T);
        assert!(!view(Kind::Read, CACHED, slow).is_fast(T));
        let after_one_file = std::iter::repeat_n(&WAITS, T.young.into())
            .fold(fast, |family, seen| family.after(seen, T));
        assert_eq!(after_one_file.prior(CACHED, T), fast.prior(CACHED, T));

        let slow = family(&[(99, WAITS)]);
        let prior = slow.prior(DIRECT, T);
        assert!(view(Kind::Read, DIRECT, prior).is_device_bound(true, T));
        let other = all(prior, &[(4, FAST)]);
        assert!(!view(Kind::Read, DIRECT, other).is_device_bound(true, T));
        assert!(view(Kind::Read, DIRECT, all(other, &[(28, FAST)])).is_fast(T));
    }

    #[test]
    fn a_young_file_joins_its_family_unless_it_is_unlike() {
        let fast = family(&[(16, FAST)]).prior(CACHED, T);
        let expected = |seen: &[Seen]| {
            let view = view(Kind::Read, CACHED, all(NEW, seen).joined(fast, T));
            (view.is_fast(T), view.is_bounded(T))
        };
        assert_eq!(expected(&[]), (true, true));
        assert_eq!(expected(&[(2, FAST)]), (true, true));
        assert_eq!(expected(&[(1, LONG)]), (true, true));
        assert_eq!(expected(&[(1, WAITS)]), (false, true));
        assert_eq!(expected(&[(1, FAST), (1, AGES)]), (false, false));

        let slow = family(&[(16, WAITS)]).prior(DIRECT, T);
        let is_bound = |seen: &[Seen]| {
            view(Kind::Read, DIRECT, all(NEW, seen).joined(slow, T)).is_device_bound(true, T)
        };
        assert!(is_bound(&[(2, WAITS)]) && !is_bound(&[(1, FAST), (1, WAITS)]));
    }

    #[test]
    fn what_is_no_file_is_nothing() {
        let none = View {
            kind: Kind::Read,
            class: None,
            bits: Profile::none(T).to_bits(),
        };
        assert!(!none.is_fast(T) && !none.is_bounded(T) && !none.is_serial(T));
        assert!(!none.is_device_bound(true, T) && !none.is_device_bound(false, T));
    }

    #[test]
    fn distrust_takes_requests_from_callers_and_no_more() {
        let known = all(NEW, &[(99, FAST)]);
        assert!(known.is_settled(T));
        let distrusted = known.distrusted(T);
        let view = view(Kind::Read, CACHED, distrusted);
        assert!(!view.is_fast(T) && !view.is_bounded(T));
        assert_eq!(all(distrusted, &[(256, FAST)]).fast_after, 0);
    }

    #[test]
    fn one_that_took_long_has_the_next_asked() {
        let known = all(NEW, &[(99, FAST), (1, LONG)]);
        assert!(!known.is_settled(T));
        assert!(all(known, &[(1, FAST)]).is_settled(T));
    }

    #[test]
    fn bits_are_the_same_profile() {
        let most = Profile {
            fast_after: T.after_wait,
            waits: T.waits_max,
            bounded: T.in_a_row,
            trivial: T.in_a_row,
            age: T.young,
        };
        for profile in [
            NEW,
            most,
            Profile::none(T),
            all(most, &[(3, FAST), (2, LONG)]),
        ] {
            assert!(profile.to_bits() < 1 << 48);
            assert_eq!(Profile::from_bits(profile.to_bits()), profile);
        }
        for family in [
            Family::default(),
            family(&[(20, FAST), (3, WAITS)]),
            family(&[(99, AGES)]),
        ] {
            assert!(family.to_bits() < 1 << 48);
            assert_eq!(Family::from_bits(family.to_bits()), family);
        }
    }
}
