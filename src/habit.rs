//! What a context's requests have lately been seen to do, and so who is to carry them out.
//!
//! Two things are learned from measured service times. Of a context: whether its requests wait, so
//! that each wants a worker of its own, or keep a processor busy ([`Habits::waits`]; the pool
//! counts by it). Of each file, reads and writes apart: whether they are short, so that a caller
//! who waits for events anyway had better carry them out itself than have another thread woken
//! ([`Habits::short`]). On a zram device a hand-over costs more than the read: 268,000 4 KiB reads
//! a second by two workers, 480,000 to 620,000 by the caller and one.
//!
//! All of it is a hint, and so are its atomics: relaxed, and an update may get lost. What must be
//! right is not taken from here, but for one thing: that a caller never gets caught in a request
//! that does not end. So it carries out nothing but reads and writes at an offset, and syncs, of
//! what [`Habits::is_file`] has found to be a regular file or a block device.

use crate::abi::IOCB2_NOP;
use crate::attr::timing;
use crate::neighbours;
use crate::request::{Execute, Req};
use crate::sys::{has_flag, monotonic_ns, type_and_device, voluntary_switches};
use crate::syscall::{Call, Key};
use libc::c_long;
use std::os::fd::RawFd;
// Not loom's, also in a model: nothing is ordered by them.
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// Files that are remembered, reads and writes apart.
const FILES: usize = 16;
/// A request that takes longer is not short, if it waited.
const SHORT_NS: u64 = 50_000;
/// So many short ones in a row, and the next is taken to be short: a cache that misses one in
/// twenty rarely gets there.
const SHORT_IN_A_ROW: u32 = 32;
/// So many more after one was seen to wait, however shortly: a fast disk is no zram device. And the
/// most there can be.
const SHORT_AFTER_WAIT: u32 = 256;
const SHORT_MAX: u32 = 4096;
/// So many more after a write to a regular file that was known to be short: a journal makes a few wait
/// now and then, a worker's as well as a caller's. (4 KiB writes into a sparse file on ext4 on zram, with
/// fdatasync ten times a second, as part of what the kernel's AIO does: 0.88 by SHORT_AFTER_WAIT, 0.92 by
/// SHORT_IN_A_ROW after the first, 0.96 so.)
const SHORT_AFTER_JOURNAL: u32 = 8;
/// A request that takes less is not worth the lock that two threads would have to share for it.
const TINY_NS: u32 = 1_000;
/// A request that takes longer than this is asked whether it waited.
pub const LONG_NS: u64 = 20_000;
/// So many are asked after one that took long for no known reason: it may have waited, or only have
/// been kept from running.
const SUSPECTS: u32 = 8;
/// A shorter one is asked so often (one in): the question takes two system calls.
const SAMPLE: u32 = 64;
/// So many requests that waited in a row, and the file is slow.
const SLOW: u32 = 32;
/// Then as many that did not wait as this is above, more or less in a row, and it is no longer.
const SLOW_MAX: u32 = 36;
/// Of those that the kernel could carry out by itself a worker carries out one in so many, to see
/// whether the file is still slow.
const SLOW_SAMPLE: u32 = 1024;
/// A request that takes less is brief, though it may wait: a caller that waits for it alone may as
/// well do so in the system call. (4 KiB reads of a loop device one at a time, as part of what psync
/// does: 0.78 by a worker, 1.0 by the caller.)
const BRIEF_NS: u64 = 200_000;
/// So many brief ones, and the next is taken to be brief; and so many more after each that was not.
const BRIEF: u32 = 32;
const BRIEF_AFTER_LONG: u32 = 8;
/// Requests that a context may have in a device that another uses for one at a time. (The p99 of these
/// beside 256 reads in flight, as a multiple of what it is alone: on virtio 3.8 by 16, 3.2 by 12, 2.3
/// by 8; on a loop device 2.4, 1.9 and 1.9. Without any, 6 and 8. The 256 then are carried out at
/// 65,000, 60,000 and 54,000 a second on virtio.)
const SHARE: u32 = 8;
/// For so long (about a millisecond: ns >> 20) a descriptor is taken to name what it named.
pub const TRUST_SHIFT: u32 = 20;

pub struct Habits {
    waits: AtomicU32,
    /// Slow requests, to pick those by that a worker carries out all the same.
    count: AtomicU32,
    /// Another context uses the same device, for one request at a time.
    shares: AtomicBool,
    files: [File; FILES],
}

/// What is known of reads from a file, or of writes to it.
struct File {
    /// How many more short ones there must be.
    short: Known,
    /// When it was a file ([`File::tick`]), and below that bits.
    checked: Known,
    /// How many requests have waited in a row.
    slow: Known,
    /// How many requests were brief.
    brief: Known,
    /// How many more are to be asked whether they wait.
    suspects: AtomicU32,
    /// Running mean of the service time.
    ns: AtomicU32,
}

/// A number that is known of one key, in one word with it, as one is of no use without the other.
struct Known(AtomicU64);

impl Known {
    fn nothing() -> Known {
        Known(AtomicU64::new(0))
    }

    fn of(&self, used: Use) -> Option<u32> {
        Known::part(self.0.load(Relaxed), used)
    }

    fn part(word: u64, used: Use) -> Option<u32> {
        ((word >> 32) as u32 == used.key()).then_some(word as u32)
    }

    fn word(used: Use, number: u32) -> u64 {
        u64::from(used.key()) << 32 | u64::from(number)
    }

    fn set(&self, used: Use, number: u32) {
        self.0.store(Known::word(used, number), Relaxed);
    }

    /// Nothing is written if it stays as it is: two threads that carry out requests of one file
    /// would take the line from each other for each.
    fn learn(&self, used: Use, next: impl FnOnce(Option<u32>) -> u32) {
        let word = self.0.load(Relaxed);
        let learned = Known::word(used, next(Known::part(word, used)));
        if learned != word {
            // One attempt: another's lesson will do as well.
            let _ = self.0.compare_exchange(word, learned, Relaxed, Relaxed);
        }
    }

    fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Bits of [`File::checked`].
const REGULAR: u32 = 1;
const DIRECT: u32 = 2;
const BITS: u32 = 2;

/// When the clock was read the last time.
#[derive(Clone, Copy)]
pub struct Now {
    pub ns: u64,
    /// Nothing that takes time has been done since.
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

/// What is to be expected of a request that is known to be short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Short {
    pub ns: u32,
    /// See [`Habits::alone`].
    pub alone: bool,
}

impl Habits {
    const WAITS_MAX: u32 = 16;

    pub fn new() -> Habits {
        Habits {
            waits: AtomicU32::new(0),
            count: AtomicU32::new(0),
            shares: AtomicBool::new(false),
            files: std::array::from_fn(|_| File {
                short: Known::nothing(),
                checked: Known::nothing(),
                slow: Known::nothing(),
                brief: Known::nothing(),
                suspects: AtomicU32::new(0),
                ns: AtomicU32::new(0),
            }),
        }
    }

    /// They give up the processor to wait, at least one in three of them.
    pub fn waits(&self) -> bool {
        self.waits.load(Relaxed) >= Self::WAITS_MAX / 2
    }

    /// How many requests may run at a time, for the sake of other contexts. What a device is given, it
    /// takes its time for, and whoever comes later waits for all of it.
    pub fn share(&self) -> u32 {
        if self.shares.load(Relaxed) && self.waits() {
            SHARE
        } else {
            u32::MAX
        }
    }

    /// Asks the kernel what the descriptor names, and tells the neighbours.
    fn ask(&self, used: Use, lonely: bool, now: u64) -> bool {
        let device = self.file(used).ask(used, now);
        if let Some(device) = device {
            // Contexts do not move.
            let who = std::ptr::from_ref(self).addr() >> 6;
            let tick = (now >> TRUST_SHIFT) as u32;
            let shares = neighbours::has_delicate(who as u32, device, tick, lonely);
            self.shares.store(shares, Relaxed);
        }
        device.is_some()
    }

    /// Carries a request out and learns from it. `now` becomes the time afterwards, or, of a no-op,
    /// which takes none, stays. Of a `suspect` it is found out whether it waits. `lonely`: no other
    /// of the context's runs beside it.
    pub fn carry_out(
        &self,
        req: &mut Req,
        execute: impl Execute,
        suspect: bool,
        lonely: bool,
        now: &mut Now,
    ) {
        let used = Use::of(req.call());
        let start = now.ns;
        if req.call().nr == IOCB2_NOP {
            // There is nothing to learn: two clock reads would be a fifth of it.
            execute(req, now.fresh.then_some(start));
            return now.ages();
        }
        let ask = suspect
            || is_sample(start, SAMPLE)
            || used.is_some_and(|used| !self.file(used).is_known(used));
        let before = ask.then(voluntary_switches);
        execute(req, (now.fresh && !ask).then_some(start));
        let end = timing::ended_at(req).unwrap_or_else(monotonic_ns);
        let ns = end - start;
        let waited = match before {
            Some(before) => Some(voluntary_switches() > before),
            None if ns > LONG_NS => None,
            None => Some(false),
        };
        self.learn(used, ns, waited, lonely);
        now.ns = end;
        now.ages();
    }

    /// A request took so long, and waited meanwhile, as far as is known.
    fn learn(&self, used: Option<Use>, ns: u64, waited: Option<bool>, lonely: bool) {
        if let Some(used) = used {
            self.file(used).learn_slow(used, waited);
            self.file(used).learn_brief(used, ns);
        }
        // What a write to a regular file waits for may have been just another one of ours.
        let crowd = !lonely && used.is_some_and(|used| self.file(used).is_regular_write(used));
        if crowd && (ns > SHORT_NS || waited == Some(true)) {
            return;
        }
        let score = self.waits.load(Relaxed);
        let learned = match waited {
            Some(true) => (score + 2).min(Self::WAITS_MAX),
            Some(false) => score.saturating_sub(1),
            None => score,
        };
        if learned != score {
            self.waits.store(learned, Relaxed);
        }
        if let Some(used) = used {
            self.file(used).learn(used, ns, waited);
        }
    }

    /// What is to be expected of this request, if it is known to be short.
    pub fn short(&self, call: &Call) -> Option<Short> {
        if call.nr == IOCB2_NOP {
            return Some(Short { ns: 0, alone: true });
        }
        let used = Use::of(call)?;
        self.file(used).short(used)
    }

    /// Whether requests like this one may wait, but have lately all been over soon.
    pub fn is_brief(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| self.file(used).is_brief(used))
    }

    /// Whether a caller that is to be back in time can carry out a request that is known to be short: a read, or
    /// what goes past the page cache to a device, which then does it at once. A write to a file may have to wait
    /// for a journal or for dirty pages, however often it did not.
    pub fn fits_in_time(&self, call: &Call) -> bool {
        Use::of(call).is_none_or(|used| match used.kind {
            Kind::Read => true,
            Kind::Write => self.file(used).is_direct(used) && !self.file(used).was(used, REGULAR),
            Kind::Sync => false,
        })
    }

    /// Whether it is a read that may go through the page cache.
    pub fn may_be_cached(&self, call: &Call) -> bool {
        Use::of(call)
            .is_some_and(|used| used.kind == Kind::Read && !self.file(used).is_direct(used))
    }

    /// Whether a request had better run alone: a write to a regular file that does not wait for a
    /// device. A second one beside it would wait for the file's lock, that is, use a second
    /// processor to no purpose. (4 KiB writes to a new file on zram, kernel 6.18: 40,000 a second by
    /// several, 80,000 one after another; also over what is there: each takes ten times as long.) And
    /// whatever is done sooner than handed over. (4 KiB reads from the page cache: 840,000 to
    /// 930,000 a second by the caller alone, 740,000 to 830,000 with a worker beside it.)
    pub fn alone(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| self.file(used).alone(used))
    }

    /// Whether a request that is known to be short is for a file, still. Asks the kernel, but not
    /// each time: a descriptor that was closed and given to something else, which then may have the
    /// caller wait, is noticed after about a millisecond. `lonely`: as with `carry_out`.
    pub fn is_file(&self, call: &Call, lonely: bool, now: &mut Now) -> bool {
        match Use::of(call) {
            None => call.nr == IOCB2_NOP,
            Some(used) if self.file(used).was_file(used, now.ns) => true,
            Some(used) => {
                now.ages();
                self.ask(used, lonely, now.ns)
            }
        }
    }

    /// Requests like this one are not for a caller, for a while.
    pub fn distrust(&self, call: &Call) {
        if let Some(used) = Use::of(call) {
            self.file(used).distrust(used);
        }
    }

    /// Whether requests like this one are for a file that was open with O_DIRECT and that has made
    /// all wait lately.
    #[cfg(not(loom))]
    pub fn is_slow(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| self.file(used).is_slow(used))
    }

    /// Whether requests like this one go through the page cache and have all waited lately.
    #[cfg(not(loom))]
    pub fn is_slow_buffered(&self, call: &Call) -> bool {
        Use::of(call)
            .is_some_and(|used| used.kind == Kind::Read && self.file(used).is_slow_and(used, 0))
    }

    /// Whether it is a write to what was a regular file.
    #[cfg(not(loom))]
    pub fn is_regular_write(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| self.file(used).is_regular_write(used))
    }

    /// The same of the file that the descriptor names now.
    #[cfg(not(loom))]
    pub fn is_slow_now(&self, call: &Call) -> bool {
        Use::of(call).is_some_and(|used| {
            self.ask(used, false, monotonic_ns()) && self.file(used).is_slow(used)
        })
    }

    /// Whether the next slow request is one that a worker carries out all the same.
    #[cfg(not(loom))]
    pub fn wants_sample(&self) -> bool {
        self.count.load(Relaxed) % SLOW_SAMPLE == 0
    }

    /// So many slow requests have been seen to.
    #[cfg(not(loom))]
    pub fn count_slow(&self, requests: u32) {
        let count = self.count.load(Relaxed);
        let most = SLOW_SAMPLE - count % SLOW_SAMPLE;
        // Not past the next sample, unless that is it.
        let count = count.wrapping_add(requests.min(most));
        self.count.store(count, Relaxed);
    }

    /// The kernel does not take requests like this one.
    #[cfg(not(loom))]
    pub fn not_for_kernel(&self, call: &Call) {
        if let Some(used) = Use::of(call) {
            self.file(used).slow.forget();
        }
    }

    fn file(&self, used: Use) -> &File {
        &self.files[used.key() as usize % FILES]
    }
}

impl File {
    fn learn(&self, used: Use, ns: u64, waited: Option<bool>) {
        let mine = self.short.of(used).is_some();
        self.short.learn(used, |left| {
            let left = left.unwrap_or(SHORT_IN_A_ROW);
            match waited {
                Some(true) if left < SHORT_IN_A_ROW && self.is_regular_write(used) => {
                    left + SHORT_AFTER_JOURNAL
                }
                Some(true) => File::after_wait(left),
                // It may only have been kept from running.
                _ if ns > SHORT_NS => left,
                _ => left.saturating_sub(1),
            }
        });
        let suspects = match waited {
            None if ns > SHORT_NS => SUSPECTS,
            _ => self.suspects.load(Relaxed).saturating_sub(1),
        };
        if self.suspects.load(Relaxed) != suspects {
            self.suspects.store(suspects, Relaxed);
        }
        let before = if mine { self.ns.load(Relaxed) } else { 0 };
        let ns = ns.min(SHORT_NS) as u32;
        // Of what is as expected, nothing is written, as in `Known::learn`.
        if ns.abs_diff(before) > before / 4 {
            self.ns.store(before - before / 8 + ns / 8, Relaxed);
        }
    }

    fn learn_slow(&self, used: Use, waited: Option<bool>) {
        self.slow.learn(used, |before| {
            let before = before.unwrap_or(0);
            match waited {
                Some(true) if before + 1 < SLOW => before + 1,
                Some(true) => SLOW_MAX,
                Some(false) if before > SLOW => before - 1,
                Some(false) => 0,
                None => before,
            }
        });
    }

    #[cfg(not(loom))]
    fn is_slow(&self, used: Use) -> bool {
        used.kind != Kind::Sync && self.is_slow_and(used, DIRECT)
    }

    /// Slow, and past the page cache (DIRECT) or not (0).
    #[cfg(not(loom))]
    fn is_slow_and(&self, used: Use, direct: u32) -> bool {
        self.slow.of(used).is_some_and(|count| count > SLOW)
            && self.bits(used).is_some_and(|bits| bits & DIRECT == direct)
    }

    /// What it was found to be when it was looked at last.
    fn bits(&self, used: Use) -> Option<u32> {
        match used.key.facts() {
            Some(facts) => {
                let bit = |is, bit| if is { bit } else { 0 };
                Some(bit(facts.regular, REGULAR) | bit(facts.direct, DIRECT))
            }
            None => self.checked.of(used),
        }
    }

    fn distrust(&self, used: Use) {
        self.short.learn(used, |left| {
            File::after_wait(left.unwrap_or(SHORT_IN_A_ROW))
        });
        self.brief.forget();
    }

    fn after_wait(left: u32) -> u32 {
        (left + SHORT_AFTER_WAIT).min(SHORT_MAX)
    }

    /// Of how many more short ones it wants to know.
    fn left(&self, used: Use) -> u32 {
        self.short.of(used).unwrap_or(SHORT_IN_A_ROW)
    }

    fn is_known(&self, used: Use) -> bool {
        self.left(used) == 0 && self.suspects.load(Relaxed) == 0
    }

    /// A write to a regular file: it locks the file.
    fn is_regular_write(&self, used: Use) -> bool {
        used.kind == Kind::Write && self.was(used, REGULAR)
    }

    /// A sync of it takes as long as the last one did: nothing piles up in the page cache.
    fn is_even(&self, used: Use) -> bool {
        used.kind != Kind::Sync || self.is_direct(used)
    }

    /// Past the page cache.
    fn is_direct(&self, used: Use) -> bool {
        self.was(used, DIRECT)
    }

    /// Whether it had this bit when the kernel was asked last.
    fn was(&self, used: Use, bit: u32) -> bool {
        self.bits(used).is_some_and(|bits| bits & bit != 0)
    }

    fn alone(&self, used: Use) -> bool {
        let left = self.left(used);
        self.is_regular_write(used) && left <= SHORT_IN_A_ROW
            || left == 0 && self.ns.load(Relaxed) < TINY_NS
    }

    fn short(&self, used: Use) -> Option<Short> {
        let left = self.left(used);
        // One after another is the caller's as well as a worker's.
        let known = left == 0 || left < SHORT_IN_A_ROW && self.is_regular_write(used);
        (known && self.is_even(used)).then(|| Short {
            ns: self.ns.load(Relaxed),
            alone: self.alone(used),
        })
    }

    fn is_brief(&self, used: Use) -> bool {
        self.brief.of(used) == Some(BRIEF) && self.is_even(used)
    }

    fn learn_brief(&self, used: Use, ns: u64) {
        self.brief.learn(used, |before| match before {
            Some(count) if ns > BRIEF_NS => count.saturating_sub(BRIEF_AFTER_LONG),
            Some(count) => (count + 1).min(BRIEF),
            None => 0,
        });
    }

    /// Whether it was a file a moment ago.
    fn was_file(&self, used: Use, now: u64) -> bool {
        let is_now = |checked: u32| checked >> BITS == File::tick(now);
        self.checked.of(used).is_some_and(is_now)
    }

    /// The time, as far as [`File::checked`] has room for it.
    fn tick(now: u64) -> u32 {
        (now >> TRUST_SHIFT) as u32 & (u32::MAX >> BITS)
    }

    /// Asks the kernel, which device it is on; None if it is no file. Of one that was looked at when the
    /// request was submitted, the inode stands for the device.
    fn ask(&self, used: Use, now: u64) -> Option<u64> {
        if let Some(facts) = used.key.facts() {
            self.checked.set(used, File::tick(now) << BITS);
            return facts.file.then(|| u64::from(used.key.number()));
        }
        let (format, device) = type_and_device(used.fd);
        let regular = match format {
            libc::S_IFREG => REGULAR,
            libc::S_IFBLK => 0,
            _ => {
                self.short.forget();
                return None;
            }
        };
        let direct = if has_flag(used.fd, libc::O_DIRECT) {
            DIRECT
        } else {
            0
        };
        self.checked
            .set(used, File::tick(now) << BITS | regular | direct);
        Some(device)
    }
}

/// What requests do that are alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// At an offset, both.
    Read,
    Write,
    /// fsync and fdatasync.
    Sync,
}

/// What is known of a file is known of these apart.
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

    /// Never 0 for a descriptor that can be open.
    fn key(self) -> u32 {
        self.key
            .number()
            .wrapping_mul(3)
            .wrapping_add(self.kind as u32 + 1)
    }
}

/// Whether to take a sample, one time in `period` (a power of two). The clock's lower bits are
/// random enough, and a counter would be one more line that the threads have to share.
fn is_sample(now: u64, period: u32) -> bool {
    now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & u64::from(period - 1) == 0
}

/// Whether a request writes, and so may bring signals upon the thread that carries it out.
pub fn writes(call: &Call) -> bool {
    Use::of(call).is_some_and(|used| used.kind == Kind::Write)
}
