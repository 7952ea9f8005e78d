//! A table of profiles, which begins with a few files, within the context, and grows as a program uses more of them at a time.
//!
//! It is read and written without a lock, and everything in it is a hint: an update may get lost, and a replaced entry may be found once
//! more. One word has everything that must be right together: the file, when it was looked at, and its class.

use crate::policy::profile::{FileClass, KINDS, Kind};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::OnceLock;
// Not loom's, also in a model: they order nothing.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Files for which there is room from the beginning.
const FIRST: usize = 8;
/// The sizes of the tables that follow when this is not enough. Powers of two. With more files than the last has room for, some start
/// again.
const MORE: [usize; 2] = [128, 4096];
/// A file is in one of this many entries, from the position on that its number says.
const NEAR: usize = 8;

/// The identity of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Never 0.
    pub file: u32,
    /// When the file was looked at.
    pub tick: u32,
    /// The class that was found. None: not a file.
    pub found: Option<Found>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub class: FileClass,
    /// Its family: a number less than [`FAMILIES`], or NO_FAMILY.
    pub family: u8,
}

pub const FAMILIES: usize = 6;
pub const NO_FAMILY: u8 = 6;
/// In place of a family, for a descriptor that names no file.
const NO_FILE: u8 = 7;

/// Bits of an entry's first word: the class, the family, the tick, and above them the file.
const REGULAR: u64 = 1;
const DIRECT: u64 = 2;
const FAMILY: u32 = 2;
const TICK: u32 = 5;
const FILE: u32 = 32;

impl Seen {
    /// A time, cut to the bits that there are for it.
    pub fn tick(ticks: u64) -> u32 {
        ticks as u32 & ((1 << (FILE - TICK)) - 1)
    }

    fn word(self) -> u64 {
        let (bits, family) = match self.found {
            None => (0, NO_FILE),
            Some(Found { class, family }) => {
                let bit = |is, bit| if is { bit } else { 0 };
                (
                    bit(class.regular, REGULAR) | bit(class.direct, DIRECT),
                    family,
                )
            }
        };
        bits | u64::from(family) << FAMILY
            | u64::from(self.tick) << TICK
            | u64::from(self.file) << FILE
    }

    fn of(word: u64) -> Seen {
        let family = (word >> FAMILY) as u8 & NO_FILE;
        Seen {
            file: (word >> FILE) as u32,
            tick: Seen::tick(word >> TICK),
            found: (family != NO_FILE).then_some(Found {
                class: FileClass {
                    regular: word & REGULAR != 0,
                    direct: word & DIRECT != 0,
                },
                family,
            }),
        }
    }
}

/// The profiles of one file, or of one family.
pub struct Entry {
    seen: AtomicU64,
    /// By kind. The upper bits say which file this is about.
    known: [AtomicU64; KINDS],
}

/// The position of these upper bits.
const TAG: u32 = 48;

impl Entry {
    const fn new() -> Entry {
        Entry {
            seen: AtomicU64::new(0),
            known: [const { AtomicU64::new(0) }; KINDS],
        }
    }

    pub fn seen(&self) -> Seen {
        Seen::of(self.seen.load(Relaxed))
    }

    /// The class that the file was found to have.
    #[inline]
    pub fn class(&self) -> Option<FileClass> {
        let word = self.seen.load(Relaxed);
        ((word >> FAMILY) as u8 & NO_FILE != NO_FILE).then_some(FileClass {
            regular: word & REGULAR != 0,
            direct: word & DIRECT != 0,
        })
    }

    fn is(&self, file: u32) -> bool {
        (self.seen.load(Relaxed) >> FILE) as u32 == file
    }

    pub fn see(&self, seen: Seen) {
        self.seen.store(seen.word(), Relaxed);
    }

    fn tag(file: u32) -> u64 {
        // Never 0.
        u64::from(file as u16 | 1 << 15) << TAG
    }

    /// The profile of that file. None: nothing is known.
    pub fn known(&self, file: u32, kind: Kind) -> Option<u64> {
        Entry::part(file, self.known[kind as usize].load(Relaxed))
    }

    fn part(file: u32, word: u64) -> Option<u64> {
        let known = word ^ Entry::tag(file);
        (known >> TAG == 0).then_some(known)
    }

    pub fn set(&self, file: u32, kind: Kind, known: u64) {
        self.known[kind as usize].store(known | Entry::tag(file), Relaxed);
    }

    /// Writes nothing if nothing changes: else two threads that carry out requests of one file would take the cache line from each other
    /// each time.
    pub fn learn(&self, file: u32, kind: Kind, next: impl FnOnce(Option<u64>) -> u64) {
        let word = self.known[kind as usize].load(Relaxed);
        let learned = next(Entry::part(file, word)) | Entry::tag(file);
        if learned != word {
            // One attempt: if another thread was faster, its update is as good.
            let _ = self.known[kind as usize].compare_exchange(word, learned, Relaxed, Relaxed);
        }
    }

    fn copy_to(&self, other: &Entry) {
        for (from, to) in self.known.iter().zip(&other.known) {
            to.store(from.load(Relaxed), Relaxed);
        }
        other.seen.store(self.seen.load(Relaxed), Relaxed);
    }
}

/// A fixed number of entries, all searched: for families.
pub struct FamilyTable<const N: usize>([Entry; N]);

impl<const N: usize> FamilyTable<N> {
    pub const fn new() -> FamilyTable<N> {
        FamilyTable([const { Entry::new() }; N])
    }

    pub fn at(&self, index: u8) -> Option<&Entry> {
        self.0.get(usize::from(index))
    }

    /// The index of that family. A new family replaces the family whose last look is the oldest.
    pub fn find_or_add(&self, seen: Seen) -> u8 {
        let at = find(&self.0, seen.file).unwrap_or_else(|| oldest(&self.0, seen.tick));
        self.0[at].see(seen);
        at as u8
    }
}

fn find(entries: &[Entry], file: u32) -> Option<usize> {
    entries.iter().position(|entry| entry.is(file))
}

fn oldest(entries: &[Entry], now: u32) -> usize {
    let age = |entry: &Entry| match entry.seen() {
        Seen { file: 0, .. } => u32::MAX,
        seen => Seen::tick(u64::from(now.wrapping_sub(seen.tick))),
    };
    let ages = entries.iter().map(age).enumerate();
    // Of several, the first, so that it is found quickly.
    ages.rev()
        .max_by_key(|&(_, age)| age)
        .map_or(0, |(at, _)| at)
}

pub struct Table {
    first: [Entry; FIRST],
    more: [OnceLock<Box<[Entry]>>; MORE.len()],
}

impl Table {
    pub const fn new() -> Table {
        Table {
            first: [const { Entry::new() }; FIRST],
            more: [const { OnceLock::new() }; MORE.len()],
        }
    }

    /// The entries in which a file may be.
    #[inline]
    fn near(&self, file: u32) -> &[Entry] {
        let entries = self.more.iter().rev().find_map(OnceLock::get);
        match entries {
            None => &self.first,
            Some(entries) => {
                // Near the end of the table they begin a little earlier, so that they are in one piece.
                let at = file as usize & (entries.len() - 1);
                &entries[at.min(entries.len() - NEAR)..][..NEAR]
            }
        }
    }

    #[inline]
    pub fn find(&self, file: u32) -> Option<&Entry> {
        self.near(file).iter().find(|entry| entry.is(file))
    }

    /// Gives a new file an entry. May allocate.
    pub fn add(&self, seen: Seen) -> &Entry {
        let is_full = |near: &[Entry]| near.iter().all(|entry| !entry.is(0));
        if is_full(self.near(seen.file)) {
            self.grow();
        }
        let near = self.near(seen.file);
        let entry = &near[oldest(near, seen.tick)];
        entry.see(seen);
        entry
    }

    /// Makes the next larger table, if there is one and memory for it. Updates by other threads meanwhile may get lost.
    fn grow(&self) {
        let is_unused = |more: &&OnceLock<_>| more.get().is_none();
        let Some((more, len)) = self.more.iter().zip(MORE).find(|(more, _)| is_unused(more)) else {
            return;
        };
        let Some(larger) = entries(len) else { return };
        let smaller = self.more.iter().rev().find_map(OnceLock::get);
        for entry in smaller.map_or(&self.first[..], |entries| entries) {
            let file = entry.seen().file as usize;
            let at = (file & (len - 1)).min(len - NEAR);
            if let Some(to) = larger[at..][..NEAR].iter().find(|to| to.is(0))
                && file != 0
            {
                entry.copy_to(to);
            }
        }
        // If another thread was sooner, its table is used.
        let _ = more.set(larger);
    }
}

/// Empty entries; the kernel gives memory only to those that are used. None: there is no memory.
fn entries(len: usize) -> Option<Box<[Entry]>> {
    let layout = Layout::array::<Entry>(len)
        .ok()
        .filter(|layout| layout.size() != 0)?;
    // SAFETY: the layout is not empty, and the box frees with the same one. Zeros are empty entries.
    unsafe {
        let at = alloc_zeroed(layout).cast::<Entry>();
        (!at.is_null()).then(|| Box::from_raw(std::ptr::slice_from_raw_parts_mut(at, len)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const CLASS: FileClass = FileClass {
        regular: true,
        direct: false,
    };

    fn seen(file: u32, tick: u32) -> Seen {
        Seen {
            file,
            tick,
            found: Some(Found {
                class: CLASS,
                family: 3,
            }),
        }
    }

    fn add(table: &Table, file: u32, tick: u32) {
        table
            .add(seen(file, tick))
            .set(file, Kind::Write, u64::from(file));
    }

    fn has(table: &Table, file: u32) -> bool {
        let known = |entry: &Entry| entry.known(file, Kind::Write);
        table.find(file).and_then(known) == Some(file.into())
    }

    fn grown(table: &Table) -> usize {
        table
            .more
            .iter()
            .filter(|more| more.get().is_some())
            .count()
    }

    #[test]
    fn words_are_what_they_were_made_of() {
        let found = |regular, direct, family| {
            Some(Found {
                class: FileClass { regular, direct },
                family,
            })
        };
        for found in [
            None,
            found(true, false, 0),
            found(false, true, 6),
            found(true, true, 3),
        ] {
            for (file, tick) in [(1, 0), (u32::MAX, Seen::tick(u64::MAX)), (1 << 31, 12_345)] {
                let seen = Seen { file, tick, found };
                assert!(Seen::of(seen.word()) == seen);
            }
        }
    }

    /// Descriptors, and numbers like those of inodes.
    #[test]
    fn a_thousand_files_are_all_remembered() {
        let inode = |i: u32| (i.wrapping_mul(0x9e37_79b9) >> 5).max(1);
        for number in [|i| i + 1, inode] {
            let table = Table::new();
            for i in 0..FIRST as u32 {
                add(&table, number(i), i);
            }
            assert_eq!(grown(&table), 0);
            for i in FIRST as u32..1024 {
                add(&table, number(i), i);
            }
            assert_eq!(grown(&table), 2);
            assert!((0..1024).all(|i| has(&table, number(i))));
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let table = Table::new();
        (1..20_000).for_each(|file| add(&table, file, file));
        let kept = (1..20_000).filter(|&file| has(&table, file)).count();
        assert!(kept <= MORE[1] && kept > MORE[1] / 2, "{kept}");
        // The last ones that were used.
        assert!((19_000..20_000).all(|file| has(&table, file)));
    }

    #[test]
    fn what_is_known_of_one_is_not_taken_for_another() {
        let table = Table::new();
        add(&table, 5, 1);
        let entry = table.find(5).unwrap();
        assert!(entry.known(5, Kind::Read).is_none());
        entry.see(seen(6, 2));
        assert!(entry.known(6, Kind::Write).is_none() && table.find(5).is_none());
        entry.learn(6, Kind::Write, |before| before.map_or(7, |_| 8));
        assert_eq!(entry.known(6, Kind::Write), Some(7));
    }

    #[test]
    fn families_give_way_to_new_ones() {
        let families = FamilyTable::<FAMILIES>::new();
        let first = families.find_or_add(seen(1, 10));
        for family in 2..=FAMILIES as u32 {
            assert_ne!(families.find_or_add(seen(family, 10 + family)), first);
        }
        assert_eq!(families.find_or_add(seen(1, 30)), first);
        assert_ne!(families.find_or_add(seen(99, 31)), first);
        assert_eq!(families.find_or_add(seen(1, 32)), first);
    }
}
