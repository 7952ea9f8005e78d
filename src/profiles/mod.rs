//! The knowledge that is learned from a context's requests.
//!
//! Two things are learned from measured service times. For a context: whether its requests wait, so that each needs a worker of its own, or
//! keep a processor busy ([`Profiles::waits`]; the pool counts by it). For each file, and separately for reads, writes and syncs: a profile
//! ([`crate::policy::profile`]), which says whether they are fast. If they are, a caller that waits for events should carry them out itself
//! and wake no other thread ([`Outlook::is_fast`]): a hand-over can cost more than the request. Profiles are kept in a [`table`]. A file
//! without a profile is expected to be like the last new file.
//!
//! All of it is a hint, and so are its atomics: relaxed, and an update may get lost. Nothing that must be right depends on it, with one
//! exception: a caller must never get caught in a request that does not end. So it carries out only reads and writes at an offset, and
//! syncs, and only of what [`Profiles::is_file`] has found to be a regular file or a block device.

mod table;

use crate::abi::IOCB2_NOP;
use crate::attr::timing;
use crate::policy::outlook::Outlook;
use crate::policy::profile::{Family, FileClass, Kind, Observation, Profile, View};
use crate::policy::tuning::tuning;
use crate::request::{Execute, Req};
use crate::sharing;
use crate::sys::{PAGE, has_flag, hash, monotonic_ns, voluntary_switches, what_is};
use crate::syscall::{Call, Key};
use libc::c_long;
use std::os::fd::RawFd;
// Not loom's, also in a model: they order nothing.
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use table::{Entry, FAMILIES, FamilyTable, Found, NO_FAMILY, Seen, Table};

/// The profile of a file of which nothing is known.
fn new_profile() -> u64 {
    Profile::new(tuning()).to_bits()
}

pub struct Profiles {
    waits: AtomicU32,
    /// Counts device-bound requests: some of them are samples, which a worker carries out itself.
    count: AtomicU32,
    /// Another context uses the same device, for one request at a time.
    shares: AtomicBool,
    /// The family of the last new file.
    newest: AtomicU8,
    files: Table,
    families: FamilyTable<FAMILIES>,
}

/// The answer of a look at a file before its request is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looked {
    /// A regular file or a block device.
    File,
    /// The same, and nothing was known of it: the expectation of the request may have changed.
    NewFile,
    NoFile,
}

/// The last reading of the clock.
#[derive(Clone, Copy)]
pub struct Now {
    pub ns: u64,
    /// Nothing that takes time was done since.
    fresh: bool,
}

impl Now {
    pub fn read() -> Now {
        Now {
            ns: monotonic_ns(),
            fresh: true,
        }
    }

    pub fn ages(&mut self) {
        self.fresh = false;
    }
}

impl Profiles {
    pub fn new() -> Profiles {
        Profiles {
            waits: AtomicU32::new(0),
            count: AtomicU32::new(0),
            shares: AtomicBool::new(false),
            newest: AtomicU8::new(NO_FAMILY),
            files: Table::new(),
            families: FamilyTable::new(),
        }
    }

    /// Whether its requests give up the processor to wait, at least one in three of them.
    pub fn waits(&self) -> bool {
        self.waits.load(Relaxed) >= u32::from(tuning().in_a_row) / 4
    }

    /// The number of requests that may run at a time, so that other contexts are not delayed. A device works through all requests that it
    /// has; a later request waits for all of them.
    pub fn share(&self) -> u32 {
        if self.shares.load(Relaxed) && self.waits() {
            tuning().fairness_cap
        } else {
            u32::MAX
        }
    }

    /// Asks the kernel which file the descriptor names, notes that, and tells the other users of the device.
    fn look(&self, used: Use, sole_in_flight: bool, now: u64) -> Looked {
        let tick = Seen::tick(now >> tuning().tick_shift);
        let found = used.ask().map(|asked| {
            let Asked { class, device, .. } = asked;
            // Contexts do not move.
            let context = std::ptr::from_ref(self).addr() >> 6;
            let ticks = (now >> tuning().tick_shift) as u32;
            let shares = sharing::has_serial_user(context as u32, device, ticks, sole_in_flight);
            self.shares.store(shares, Relaxed);
            let family = if asked.is_alike {
                self.families.find_or_add(Seen {
                    file: used.family_number(class, device),
                    tick,
                    found: Some(Found { class, family: 0 }),
                })
            } else {
                NO_FAMILY
            };
            Found { class, family }
        });
        let file = used.key.file();
        let seen = Seen { file, tick, found };
        let class = |found: Option<Found>| found.map(|found| found.class);
        let is_new = match self.files.find(seen.file) {
            Some(entry) => {
                let before = entry.seen();
                entry.see(seen);
                let is_other = class(before.found) != class(found);
                if is_other {
                    self.begin(entry, seen);
                }
                is_other
            }
            None => {
                self.begin(self.files.add(seen), seen);
                true
            }
        };
        match found {
            None => Looked::NoFile,
            Some(_) if !is_new => Looked::File,
            Some(Found { family, .. }) => {
                self.newest.store(family, Relaxed);
                Looked::NewFile
            }
        }
    }

    /// A new file in this entry is expected to be like others of its family.
    fn begin(&self, entry: &Entry, seen: Seen) {
        for kind in [Kind::Read, Kind::Write, Kind::Sync] {
            let profile = match seen.found {
                Some(found) => self.prior(found, kind),
                None => Profile::none(tuning()),
            };
            entry.set(seen.file, kind, profile.to_bits());
        }
    }

    fn prior(&self, found: Found, kind: Kind) -> Profile {
        let family = self.families.at(found.family).and_then(|entry| {
            let known = entry.known(entry.seen().file, kind);
            known.map(Family::from_bits)
        });
        family.unwrap_or_default().prior(found.class, tuning())
    }

    /// The current knowledge of a request's file.
    #[inline(always)]
    fn view(&self, used: Use) -> View {
        let (kind, file) = (used.kind, used.key.file());
        let Some(entry) = self.files.find(file) else {
            return self.guess(used);
        };
        View {
            kind,
            class: entry.class(),
            bits: entry.known(file, kind).unwrap_or_else(new_profile),
        }
    }

    /// The expectation of a file that no thread has looked at: it is like the last new file. The thread that carries out its request looks
    /// first.
    #[cold]
    fn guess(&self, used: Use) -> View {
        let (kind, family) = (used.kind, self.newest.load(Relaxed));
        let class = match used.class_at_submit() {
            None => self.families.at(family).and_then(Entry::class),
            Some(class) => class,
        };
        let profile = match class {
            Some(class) => self.prior(Found { class, family }, kind).unbound(),
            None => Profile::new(tuning()),
        };
        View {
            kind,
            class,
            bits: profile.to_bits(),
        }
    }

    /// Changes the profile of a request's file, if it has one.
    fn change(&self, used: Use, next: impl FnOnce(Profile) -> Profile) {
        let file = used.key.file();
        if let Some(entry) = self.files.find(file)
            && entry.class().is_some()
        {
            entry.learn(file, used.kind, |known| {
                next(Profile::from_bits(known.unwrap_or_else(new_profile))).to_bits()
            });
        }
    }

    /// Carries out a request and learns from it. `now` becomes the time afterwards; after a no-op, which takes no time, it stays. If the
    /// request is a `suspect`, it is asked whether it waits. `sole_in_flight`: no other request of the context runs beside it.
    pub fn carry_out(
        &self,
        req: &mut Req,
        execute: impl Execute,
        suspect: bool,
        sole_in_flight: bool,
        now: &mut Now,
    ) {
        let start = now.ns;
        if req.call().nr == IOCB2_NOP {
            // There is nothing to learn, and two readings of the clock would be a large part of a no-op.
            execute(req, now.fresh.then_some(start));
            return now.ages();
        }
        let used = Use::of(req.call()).map(|used| (used, self.view(used)));
        let ask = suspect
            || is_sample(start, tuning().sample)
            || used.is_some_and(|(_, view)| !view.profile().is_settled(tuning()));
        let before = ask.then(voluntary_switches);
        execute(req, (now.fresh && !ask).then_some(start));
        let end = timing::ended_at(req).unwrap_or_else(monotonic_ns);
        let ns = end - start;
        let waited = match before {
            Some(before) => Some(voluntary_switches() > before),
            None if ns > tuning().fast_ns => None,
            None => Some(false),
        };
        // If it was only tried (see `exec::execute_if_cached`), it tells nothing.
        if req.res() != -i64::from(libc::EINTR) {
            let bytes = req.call().plain_bytes();
            self.learn(used, ns, waited, bytes, sole_in_flight);
        }
        now.ns = end;
        now.ages();
    }

    /// Learns from a request of this many `bytes` that took `ns`, and whether it waited meanwhile, if that is known.
    fn learn(
        &self,
        used: Option<(Use, View)>,
        ns: u64,
        waited: Option<bool>,
        bytes: Option<u64>,
        sole_in_flight: bool,
    ) {
        let seen = Observation {
            ns,
            waited,
            locks: used.is_some_and(|(_, view)| view.is_regular_write()),
            crowded: !sole_in_flight,
            pages: bytes
                .filter(|_| used.is_some_and(|(_, view)| view.is_direct()))
                .map(|bytes| bytes.div_ceil(PAGE as u64).max(1)),
        };
        if let Some((used, view)) = used {
            self.change(used, |profile| profile.after(&seen, tuning()));
            if waited == Some(false) && Outlook::File(view).is_device_bound(tuning()) {
                // Perhaps the file has changed: the next one is a sample, too.
                self.count.store(0, Relaxed);
            }
            if view.profile().is_young(tuning()) {
                self.learn_family(used, &seen);
            }
        }
        if seen.is_inconclusive(tuning()) {
            return;
        }
        let score = self.waits.load(Relaxed);
        let learned = match waited {
            Some(true) => (score + 2).min(u32::from(tuning().in_a_row) / 2),
            Some(false) => score.saturating_sub(1),
            None => score,
        };
        if learned != score {
            self.waits.store(learned, Relaxed);
        }
    }

    /// The family of a young file learns from it, and the file from its family.
    fn learn_family(&self, used: Use, seen: &Observation) {
        let entry = self.files.find(used.key.file());
        let Some(found) = entry.and_then(|entry| entry.seen().found) else {
            return;
        };
        if let Some(entry) = self.families.at(found.family) {
            entry.learn(entry.seen().file, used.kind, |known| {
                let family = known.map(Family::from_bits).unwrap_or_default();
                family.after(seen, tuning()).to_bits()
            });
        }
        let prior = self.prior(found, used.kind);
        self.change(used, |profile| profile.joined(prior, tuning()));
    }

    /// The outlook of a request, from its call and its file's profile.
    #[cfg(not(loom))]
    #[inline]
    pub fn outlook(&self, call: &Call) -> Outlook {
        if call.nr == IOCB2_NOP {
            return Outlook::Nop;
        }
        match Use::of(call) {
            Some(used) => Outlook::File(self.view(used)),
            None => Outlook::Other,
        }
    }

    /// Whether a request that is known to be fast is still for a file. Asks the kernel, but not each time: if the descriptor was closed and
    /// given to something else, for which the caller might have to wait, that is noticed at the next tick. `sole_in_flight`: as in
    /// `carry_out`.
    pub fn is_file(&self, call: &Call, sole_in_flight: bool, now: &mut Now) -> Looked {
        let Some(used) = Use::of(call) else {
            return if call.nr == IOCB2_NOP {
                Looked::File
            } else {
                Looked::NoFile
            };
        };
        let tick = Seen::tick(now.ns >> tuning().tick_shift);
        match self.files.find(used.key.file()).map(Entry::seen) {
            Some(seen) if seen.found.is_some() && seen.tick == tick => Looked::File,
            _ => {
                now.ages();
                self.look(used, sole_in_flight, now.ns)
            }
        }
    }

    /// For a while, requests like this one are not for a caller.
    pub fn distrust(&self, call: &Call) {
        if let Some(used) = Use::of(call) {
            self.change(used, |profile| profile.distrusted(tuning()));
        }
    }

    /// Whether it is device-bound (see [`Outlook::is_device_bound`]) for the file that the descriptor names now.
    #[cfg(not(loom))]
    pub fn is_device_bound_now(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| {
            self.look(used, false, monotonic_ns()) != Looked::NoFile
                && self.outlook(call).is_device_bound(tuning())
        })
    }

    /// Whether a worker carries out the next device-bound request itself, as a sample.
    #[cfg(not(loom))]
    pub fn wants_sample(&self) -> bool {
        self.count.load(Relaxed) % tuning().device_bound_sample == 0
    }

    /// Counts device-bound requests that were carried out.
    pub fn count_device_bound(&self, requests: u32) {
        let count = self.count.load(Relaxed);
        let most = tuning().device_bound_sample - count % tuning().device_bound_sample;
        // Not past the next sample, unless that was the first of these.
        let count = count.wrapping_add(requests.min(most));
        self.count.store(count, Relaxed);
    }

    /// The kernel queue does not take requests like this one.
    pub fn not_for_kernel(&self, call: &Call) {
        if let Some(used) = Use::of(call) {
            self.change(used, Profile::unbound);
        }
    }
}

/// In a model, reads wait for their device.
#[cfg(loom)]
impl Profiles {
    pub fn outlook(&self, call: &Call) -> Outlook {
        if call.nr == IOCB2_NOP {
            Outlook::Nop
        } else if c_long::from(call.nr) == libc::SYS_pread64 {
            Outlook::File(View::DEVICE_BOUND_READ)
        } else {
            Outlook::Other
        }
    }

    pub fn is_device_bound_now(&self, call: &Call) -> bool {
        self.outlook(call).is_device_bound(tuning())
    }

    pub fn wants_sample(&self) -> bool {
        false
    }
}

/// The file and the kind of a request: each pair of them has a profile.
#[derive(Clone, Copy)]
struct Use {
    key: Key,
    fd: RawFd,
    kind: Kind,
}

impl Use {
    fn of(call: &Call) -> Option<Use> {
        let kind = match c_long::from(call.nr) {
            libc::SYS_pread64 | libc::SYS_preadv => Kind::Read,
            libc::SYS_pwrite64 | libc::SYS_pwritev => Kind::Write,
            // Offset -1 is the descriptor's own position.
            libc::SYS_preadv2 if call.args[3] != u64::MAX => Kind::Read,
            libc::SYS_pwritev2 if call.args[3] != u64::MAX => Kind::Write,
            libc::SYS_fsync | libc::SYS_fdatasync => Kind::Sync,
            _ => return None,
        };
        Some(Use {
            key: call.key,
            fd: call.args[0] as RawFd,
            kind,
        })
    }

    /// The number of the files of a class on a device. Never 0.
    fn family_number(self, class: FileClass, device: u64) -> u32 {
        let device = self.key.device().unwrap_or(device);
        let bits = u32::from(class.regular) | u32::from(class.direct) << 1 | 1 << 2;
        hash(device) & !7 | bits
    }

    /// The class when the request was submitted, if the file was looked at then. Some(None): not a file.
    fn class_at_submit(self) -> Option<Option<FileClass>> {
        let facts = self.key.facts()?;
        Some(facts.file.then_some(FileClass {
            regular: facts.regular,
            direct: facts.direct,
        }))
    }

    /// Asks the kernel what it is. None: not a file. If it was looked at when the request was submitted, the inode stands for the device.
    fn ask(self) -> Option<Asked> {
        if let Some(class) = self.class_at_submit() {
            return class.map(|class| Asked {
                class,
                device: self.key.number().into(),
                is_alike: true,
            });
        }
        let named = what_is(self.fd);
        let regular = named.format == libc::S_IFREG;
        (regular || named.format == libc::S_IFBLK).then(|| Asked {
            class: FileClass {
                regular,
                direct: has_flag(self.fd, libc::O_DIRECT),
            },
            device: named.device,
            is_alike: !regular || named.bytes != 0,
        })
    }
}

/// The kernel's answer about a file.
struct Asked {
    class: FileClass,
    device: u64,
    /// It is like others of its class. A file without a size may be one whose content is made up at each read, as in /proc: such a file
    /// says nothing about others.
    is_alike: bool,
}

/// Whether to take a sample, one time in `period` (a power of two). The lower bits of the clock are random enough, and a counter would be
/// one more cache line that the threads share.
fn is_sample(now: u64, period: u32) -> bool {
    hash(now) & (period - 1) == 0
}

/// Whether a request writes, and so may raise a signal in the thread that carries it out.
pub fn writes(call: &Call) -> bool {
    Use::of(call).is_some_and(|used| used.kind == Kind::Write)
}
