//! Requests: the memory that one holds from submit until its event has left the library, and how
//! a record of the caller's becomes one.
//!
//! The event is laid out at submit, attribute returns included: completing a request fills in
//! numbers, and neither allocates nor fails.

use crate::abi::{IOCB_ATTR_F_REQUIRED, IOCB2_ATTR_BYTES_MAX, io_event2, iocb_attr, iocb2};
use crate::attr::{self, Answers, Bound};
use crate::exec::Manner;
use libc::{EINVAL, EOPNOTSUPP};
use std::alloc::{Layout, alloc, dealloc};
#[cfg(not(loom))]
use std::cell::Cell;
use std::cell::UnsafeCell;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::compiler_fence;
use std::sync::atomic::{AtomicBool, AtomicU8};

/// A system call: what is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: u32,
    /// What its file is known by to those who learn from it.
    pub key: Key,
    pub args: [u64; 6],
}

impl Call {
    /// A call of the program's: its first argument is the program's descriptor, if it has one.
    pub fn new(nr: u32, args: [u64; 6]) -> Call {
        Call {
            nr,
            key: Key::of_descriptor(args[0]),
            args,
        }
    }
}

/// What a file is known by to those who learn from its requests: the program's descriptor; or, where the file
/// was looked at when the request was submitted, a number that its inode gives, together with what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u32);

impl Key {
    const LOOKED_AT: u32 = 1 << 31;
    const FILE: u32 = 1 << 30;
    const REGULAR: u32 = 1 << 29;
    const DIRECT: u32 = 1 << 28;
    const APPENDS: u32 = 1 << 27;
    const NUMBER: u32 = Key::APPENDS - 1;
    /// The part of the number that files of one device have in common.
    #[cfg(not(loom))]
    const DEVICE: u32 = Key::NUMBER & !(Key::NUMBER >> 6);

    fn of_descriptor(fd: u64) -> Key {
        Key(fd as u32 & !Key::LOOKED_AT)
    }

    /// Of a file with that type (S_IFMT) and inode.
    #[cfg(not(loom))]
    pub fn of_file(format: u32, inode: (u64, u64), direct: bool, appends: bool) -> Key {
        let (device, number) = inode;
        let mixed = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        let of_file = mixed(number ^ device.rotate_left(40)) & Key::NUMBER & !Key::DEVICE;
        let mut key = Key::LOOKED_AT | of_file | mixed(device) & Key::DEVICE;
        for (bit, is) in [
            (Key::FILE, matches!(format, libc::S_IFREG | libc::S_IFBLK)),
            (Key::REGULAR, format == libc::S_IFREG),
            (Key::DIRECT, direct),
            (Key::APPENDS, appends),
        ] {
            key |= if is { bit } else { 0 };
        }
        Key(key)
    }

    /// What the file is known by, with what was found. Never 0.
    pub fn file(self) -> u32 {
        let aside = match self.0 & Key::LOOKED_AT {
            0 => 0,
            _ => Key::LOOKED_AT | Key::APPENDS,
        };
        (self.0 & !aside) + 1
    }

    pub fn number(self) -> u32 {
        match self.facts() {
            Some(_) => self.0 & Key::NUMBER,
            None => self.0,
        }
    }

    /// What stands for the device, if the file was looked at when the request was submitted.
    pub fn device(self) -> Option<u64> {
        #[cfg(loom)]
        return None;
        #[cfg(not(loom))]
        self.facts().map(|_| u64::from(self.0 & Key::DEVICE))
    }

    /// What was found when the request was submitted.
    pub fn facts(self) -> Option<Facts> {
        let is = |bit| self.0 & bit != 0;
        is(Key::LOOKED_AT).then(|| Facts {
            file: is(Key::FILE),
            regular: is(Key::REGULAR),
            direct: is(Key::DIRECT),
            appends: is(Key::APPENDS),
        })
    }
}

/// What is known of a file since its request was submitted.
#[derive(Clone, Copy)]
pub struct Facts {
    /// It is a regular file or a block device.
    pub file: bool,
    pub regular: bool,
    /// It is open with O_DIRECT.
    pub direct: bool,
    /// A write goes to its end.
    pub appends: bool,
}

/// Words of an event without attribute returns.
pub const EVENT_WORDS: usize = size_of::<io_event2>() / 8;
const RES_WORD: usize = 2;

/// Words of the largest event and what is kept behind it: every attribute is an unknown one of 16
/// bytes, or each known one once with its payload, and what it was given takes its own room.
const EVENT_WORDS_MAX: usize =
    EVENT_WORDS + IOCB2_ATTR_BYTES_MAX as usize / 8 + attr::PAYLOAD_WORDS_ALL;

/// The head of a request. The words of its event follow it in memory, and behind them what its
/// attributes were given.
///
/// All but the cells is written while the request is built and read-only afterwards, so that a scan of
/// a list, under the context's lock, may look at it while a worker carries it out; the event's
/// words belong to whoever has the [`Req`].
#[repr(C, align(8))]
struct Head {
    /// Written and read under the lock of the list that the request is on.
    link: UnsafeCell<Link>,
    /// Written and read under the context's lock.
    place: UnsafeCell<Place>,
    /// Which worker carries it out, if that one can be interrupted; else NO_WORKER or RIDER. Under
    /// the context's lock.
    worker: UnsafeCell<u16>,
    /// How far it has got: a `Stage`. Its owner's to write, and read by who finds the context in the
    /// middle of a change.
    stage: AtomicU8,
    /// It did not succeed in full, though `res` alone does not say so. The owner's.
    short: UnsafeCell<bool>,
    /// See [`Req::set_apart`].
    apart: AtomicBool,
    /// How it was carried out: a number of whoever does that; 0: it was not. The owner's.
    route: UnsafeCell<u8>,
    /// The next one of its [`Chain`], whose owner's it is.
    next: UnsafeCell<Option<NonNull<Head>>>,
    data: u64,
    call: Call,
    /// 0, or the negative errno with which the request completes without its call being made.
    refused: i32,
    event_words: u32,
    /// Words behind the event: what its attributes were given.
    kept_words: u32,
    /// Bytes of the record that it was made of.
    record_bytes: u32,
    class: Class,
    manner: Manner,
    /// It has a `Side` behind its event.
    legacy: bool,
    bound: Bound,
}

impl Head {
    #[inline]
    fn new(class: Class, data: u64, call: Call, attrs: &Attrs) -> Head {
        Head {
            link: UnsafeCell::new(Link {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
            }),
            place: UnsafeCell::new(Place::default()),
            worker: UnsafeCell::new(NO_WORKER),
            stage: AtomicU8::new(Stage::Idle as u8),
            short: UnsafeCell::new(false),
            apart: AtomicBool::new(false),
            route: UnsafeCell::new(0),
            next: UnsafeCell::new(None),
            data,
            call,
            refused: attrs.refused,
            event_words: attrs.event_words as u32,
            kept_words: attrs.kept_words as u32,
            record_bytes: 0,
            class,
            manner: Manner::of(&call),
            legacy: false,
            bound: attrs.bound,
        }
    }
}

#[derive(Clone, Copy)]
struct Link {
    next: *mut Head,
    prev: *mut Head,
}

/// Where a request stands among the others of its context (see [`crate::order`]).
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// Of a request of io_submit(): how many were accepted before it.
    pub epoch: u64,
    /// The one that it waits for, and the one that waits for it: links of a chain.
    pub leader: Option<Tie>,
    pub follower: Option<Tie>,
}

/// How far the request in a place has got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is none, or it is not accepted yet; or it has its result.
    Idle,
    Accepted,
    /// It is being carried out.
    Begun,
}

/// No worker that can be interrupted.
pub const NO_WORKER: u16 = u16::MAX;
/// In place of a worker: the kernel carries it out in its context's seat, or is about to.
pub const RIDER: u16 = NO_WORKER - 1;

/// What a request is known by, while it is in flight, without owning it. Used under the context's
/// lock alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tie(NonNull<Head>);

// SAFETY: it is used under the context's lock alone.
unsafe impl Send for Tie {}

impl Tie {
    /// Where it is: tells it from others in flight.
    pub fn address(self) -> usize {
        self.0.as_ptr().addr()
    }

    pub fn get(self) -> Place {
        // SAFETY: the request is in flight (ties are taken back when one of the two ends), and the
        // lock that guards the cell is held.
        unsafe { *self.0.as_ref().place.get() }
    }

    pub fn set(self, place: Place) {
        // SAFETY: as above.
        unsafe { *self.0.as_ref().place.get() = place };
    }
}

/// What a request of io_submit() claims, and its neighbours among those that others may wait for (see
/// [`crate::order::claims`]). It lies behind the request's [`Side`].
#[cfg(not(loom))]
#[repr(C)]
struct Claimed {
    what: u64,
    bytes: u32,
    access: Access,
    /// Under the context's lock.
    before: Cell<Option<Tie>>,
    after: Cell<Option<Tie>>,
}

/// Ties of requests of io_submit().
#[cfg(not(loom))]
impl Tie {
    fn claimed(&self) -> &Claimed {
        // SAFETY: written when the request was built, and from then on only the cells change, under the
        // context's lock, which whoever has a tie has.
        unsafe { self.0.add(1).byte_add(CLAIMED_AT).cast().as_ref() }
    }

    pub fn claim(self) -> Claim {
        let claimed = self.claimed();
        Claim {
            what: claimed.what,
            // Of what has a position.
            // SAFETY: the call does not change.
            start: unsafe { self.0.as_ref() }.call.args[3],
            bytes: claimed.bytes,
            access: claimed.access,
        }
    }

    /// How many were accepted before it.
    pub fn number(self) -> u64 {
        self.get().epoch
    }

    pub fn set_number(self, number: u64) {
        self.set(Place {
            epoch: number,
            ..self.get()
        });
    }

    /// Who stands before it and after it.
    pub fn neighbours(self) -> (Option<Tie>, Option<Tie>) {
        let claimed = self.claimed();
        (claimed.before.get(), claimed.after.get())
    }

    pub fn set_before(self, before: Option<Tie>) {
        self.claimed().before.set(before);
    }

    pub fn set_after(self, after: Option<Tie>) {
        self.claimed().after.set(after);
    }

    /// `req` waits for this one. Requests that do are a list, of which the first is in `follower`, and the
    /// last is where the one before the first would be.
    pub fn add_follower(self, req: Req) {
        let mut followers = self.take_followers();
        followers.push(req);
        self.set(Place {
            follower: followers.first(),
            ..self.get()
        });
        // SAFETY: on that list, which nobody else has.
        unsafe { (*(*followers.head).link.get()).prev = followers.tail };
    }

    /// Takes those that wait for this one.
    pub fn take_followers(self) -> List {
        let place = self.get();
        let Some(first) = place.follower else {
            return List::new();
        };
        self.set(Place {
            follower: None,
            ..place
        });
        let head = first.0.as_ptr();
        // SAFETY: they wait for this one, and so are nobody else's; the link is touched under the context's
        // lock.
        let prev = unsafe { &mut (*(*head).link.get()).prev };
        List {
            head,
            tail: std::mem::replace(prev, ptr::null_mut()),
        }
    }
}

/// How much event a slot has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Small,
    /// A small one with the room that a request of io_submit() wants beside its event.
    #[cfg(not(loom))]
    Extended,
    Medium,
    Large,
}

/// A small slot: requests without attributes, or with one.
const SMALL_BYTES: usize = 256;
const SMALL_WORDS: usize = (SMALL_BYTES - size_of::<Head>()) / 8;
/// A medium slot: requests with each known attribute once.
const MEDIUM_BYTES: usize = 384;
const MEDIUM_WORDS: usize = (MEDIUM_BYTES - size_of::<Head>()) / 8;
const LARGE_BYTES: usize = (size_of::<Head>() + EVENT_WORDS_MAX * 8).next_multiple_of(64);

const _: () = assert!(SMALL_WORDS >= EVENT_WORDS + 2 + attr::PAYLOAD_WORDS_MAX);

#[cfg(not(loom))]
use crate::libaio::{abi::EVENT_WORDS as LEGACY_WORDS, request::Side};
#[cfg(not(loom))]
use crate::order::claims::{Access, Claim};
#[cfg(not(loom))]
const CLAIMED_AT: usize = LEGACY_WORDS * 8 + size_of::<Side>();
#[cfg(not(loom))]
const EXTENDED_BYTES: usize =
    (size_of::<Head>() + CLAIMED_AT + size_of::<Claimed>()).next_multiple_of(64);
#[cfg(not(loom))]
const _: () = assert!(CLAIMED_AT % align_of::<Claimed>() == 0);

impl Class {
    fn of(words: usize) -> Class {
        if words <= SMALL_WORDS {
            Class::Small
        } else if words <= MEDIUM_WORDS {
            Class::Medium
        } else {
            Class::Large
        }
    }

    const fn slot_bytes(self) -> usize {
        match self {
            Class::Small => SMALL_BYTES,
            #[cfg(not(loom))]
            Class::Extended => EXTENDED_BYTES,
            Class::Medium => MEDIUM_BYTES,
            Class::Large => LARGE_BYTES,
        }
    }
}

/// A request: the right to carry it out and to write its event. Exactly one exists for each
/// accepted request; it goes back to the [`Slab`] that it came from.
pub struct Req(NonNull<Head>);

// SAFETY: a Req is the only owner of its event's words, and the rest of the request does not
// change, but for the links, which are touched under a lock only (see `List`).
unsafe impl Send for Req {}

impl Req {
    fn head(&self) -> &Head {
        // SAFETY: a Req points to a built request in a slab that outlives it (the context's, which
        // is dropped only when no request is in flight).
        unsafe { self.0.as_ref() }
    }

    fn event_ptr(&self) -> *mut u64 {
        // SAFETY: the event's words begin one Head after the head, within the slot.
        unsafe { self.0.as_ptr().add(1).cast() }
    }

    pub fn call(&self) -> &Call {
        &self.head().call
    }

    /// It is one of io_submit().
    pub fn is_legacy(&self) -> bool {
        self.head().legacy
    }

    pub fn tie(&self) -> Tie {
        Tie(self.0)
    }

    /// The descriptor to use in this thread.
    pub fn fd(&self) -> RawFd {
        #[cfg(not(loom))]
        if let Some(side) = self.side() {
            return side.fd();
        }
        self.call().args[0] as RawFd
    }

    /// Whether others than whoever submits it can carry it out.
    pub fn may_be_queued(&self) -> bool {
        #[cfg(not(loom))]
        if let Some(side) = self.side() {
            return side.is_held();
        }
        true
    }

    /// From here on this stands for its file in the call. Before it is on any list.
    #[cfg(not(loom))]
    pub fn set_file(&mut self, file: u64) {
        // SAFETY: &mut self of the one owner, and nobody else has seen it.
        unsafe { self.0.as_mut() }.call.args[0] = file;
    }

    /// Which worker carries it out. Called under the context's lock.
    pub fn set_worker(&self, worker: u16) {
        // SAFETY: the lock guards the cell.
        unsafe { *self.head().worker.get() = worker };
    }

    /// It has done less than it was asked for.
    pub fn set_short(&mut self) {
        // SAFETY: &mut self of the one owner; nobody else looks at it.
        unsafe { *self.head().short.get() = true };
    }

    /// It was to be carried out together with others, and is to be by itself from now on.
    pub fn set_apart(&self) {
        // Relaxed: the owner's. It changes hands under a lock.
        self.head().apart.store(true, Relaxed);
    }

    pub fn is_apart(&self) -> bool {
        self.head().apart.load(Relaxed)
    }

    /// It is about to be carried out in this way.
    pub fn set_route(&mut self, route: impl Into<u8>) {
        // SAFETY: &mut self of the one owner; nobody else looks at it.
        unsafe { *self.head().route.get() = route.into() };
    }

    pub fn route<T: From<u8>>(&self) -> T {
        // SAFETY: the owner's.
        unsafe { *self.head().route.get() }.into()
    }

    /// Whether it has succeeded in full.
    pub fn succeeded(&self) -> bool {
        // SAFETY: the owner's.
        self.res() >= 0 && !unsafe { *self.head().short.get() }
    }

    pub fn refused(&self) -> i32 {
        self.head().refused
    }

    pub fn manner(&self) -> Manner {
        self.head().manner
    }

    pub fn bound(&self) -> &Bound {
        &self.head().bound
    }

    pub fn event(&self) -> &[u64] {
        // SAFETY: `event_words` words were written when the request was built; &self of the one
        // owner keeps writers away.
        unsafe { std::slice::from_raw_parts(self.event_ptr(), self.head().event_words as usize) }
    }

    pub fn event_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above, and &mut self of the one owner.
        unsafe {
            std::slice::from_raw_parts_mut(self.event_ptr(), self.head().event_words as usize)
        }
    }

    pub fn answers(&mut self) -> Answers<'_> {
        let head = self.head();
        let (event, kept) = (head.event_words as usize, head.kept_words as usize);
        // SAFETY: `build` wrote both, one behind the other, into a slot that has room for them;
        // &mut self of the one owner.
        unsafe {
            let at = self.event_ptr();
            Answers {
                bound: &head.bound,
                event: std::slice::from_raw_parts_mut(at, event),
                kept: std::slice::from_raw_parts_mut(at.add(event), kept),
                now: None,
            }
        }
    }

    pub fn event_bytes(&self) -> u32 {
        self.head().event_words * 8
    }

    pub fn record_bytes(&self) -> usize {
        self.head().record_bytes as usize
    }

    /// A request of libaio's, in an extended slot: its event is complete but for what is to be set, and
    /// `data` is what it is found by.
    #[cfg(not(loom))]
    pub fn build_legacy(
        slot: FreeSlot,
        data: u64,
        call: Call,
        event: [u64; LEGACY_WORDS],
        side: Side,
        claim: Claim,
    ) -> Req {
        assert!(slot.class == Class::Extended);
        debug_assert!(claim.start == 0 || claim.start == call.args[3]);
        let attrs = Attrs {
            event_words: LEGACY_WORDS,
            ..Attrs::NONE
        };
        let head = Head {
            legacy: true,
            ..Head::new(slot.class, data, call, &attrs)
        };
        let req = Req(slot.at);
        let claimed = Claimed {
            what: claim.what,
            bytes: claim.bytes,
            access: claim.access,
            before: Cell::new(None),
            after: Cell::new(None),
        };
        // SAFETY: the slot is free, so nobody else looks at it, and one of this class has room for the
        // head, the event, the side and what it claims.
        unsafe {
            slot.at.as_ptr().write(head);
            req.event_ptr().cast::<[u64; LEGACY_WORDS]>().write(event);
            req.event_ptr().add(LEGACY_WORDS).cast::<Side>().write(side);
            let behind = req.event_ptr().byte_add(CLAIMED_AT);
            behind.cast::<Claimed>().write(claimed);
        }
        req
    }

    /// An eventfd tells of its end.
    #[cfg(not(loom))]
    pub fn has_eventfd(&self) -> bool {
        self.side().is_some_and(Side::has_eventfd)
    }

    #[cfg(not(loom))]
    pub fn side_mut(&mut self) -> Option<&mut Side> {
        // SAFETY: written when the request was built; &mut self of the one owner.
        self.head()
            .legacy
            .then(|| unsafe { &mut *self.event_ptr().add(LEGACY_WORDS).cast() })
    }

    #[cfg(not(loom))]
    pub fn side(&self) -> Option<&Side> {
        // SAFETY: as above.
        self.head()
            .legacy
            .then(|| unsafe { &*self.event_ptr().add(LEGACY_WORDS).cast() })
    }

    pub fn res(&self) -> i64 {
        self.event()[RES_WORD] as i64
    }

    pub fn set_res(&mut self, res: i64) {
        self.event_mut()[RES_WORD] = res as u64;
        self.set_stage(Stage::Idle);
    }

    pub fn set_stage(&self, stage: Stage) {
        // Release: who reads it is a signal handler in this thread, or has waited for this thread's lock
        // and not got it, and then reads the call.
        self.head().stage.store(stage as u8, Release);
    }
}

/// Why a record was not taken: it, and what follows it, is malformed.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Where an event is laid out before its slot is known.
pub struct Scratch([MaybeUninit<u64>; EVENT_WORDS_MAX]);

impl Scratch {
    pub fn new() -> Self {
        Scratch([MaybeUninit::uninit(); EVENT_WORDS_MAX])
    }
}

/// A record of the caller's, checked and copied; its attribute returns are in the scratch space.
pub struct Record {
    pub bytes: usize,
    data: u64,
    call: Call,
    attrs: Attrs,
}

/// What has become of a record's attributes.
struct Attrs {
    refused: i32,
    event_words: usize,
    /// Words behind the event: what the attributes were given.
    kept_words: usize,
    bound: Bound,
}

impl Record {
    /// Reads the record at `src`, of which `avail` bytes may be read.
    ///
    /// Every field is read once: the caller's memory may change meanwhile, and what was checked
    /// must be what is used.
    ///
    /// # Safety
    /// `src` is aligned to 8 and `avail` bytes behind it are readable.
    #[inline(always)]
    pub unsafe fn read(
        src: *const u8,
        avail: usize,
        clock: &attr::SubmitClock,
        scratch: &mut Scratch,
    ) -> Result<Record, Malformed> {
        if avail < size_of::<iocb2>() {
            return Err(Malformed);
        }
        // SAFETY: 64 readable, aligned bytes. Volatile: read once, as they are now.
        let iocb = unsafe { ptr::read_volatile(src.cast::<iocb2>()) };
        let bytes = iocb.bytes as usize;
        let attr_bytes = bytes.wrapping_sub(size_of::<iocb2>());
        if attr_bytes > IOCB2_ATTR_BYTES_MAX as usize || bytes > avail || bytes % 8 != 0 {
            return Err(Malformed);
        }
        let mut record = Record {
            bytes,
            data: iocb.data,
            call: Call::new(iocb.nr, iocb.args),
            attrs: Attrs::NONE,
        };
        if attr_bytes != 0 {
            // SAFETY: the record's `bytes` are within `avail`.
            record.attrs = unsafe {
                let attrs = src.add(size_of::<iocb2>());
                Attrs::read(attrs, attr_bytes, &record.call, clock, scratch)?
            };
        }
        Ok(record)
    }

    pub fn class(&self) -> Class {
        Class::of(self.attrs.event_words + self.attrs.kept_words)
    }

    pub fn event_bytes(&self) -> usize {
        self.attrs.event_words * 8
    }

    /// Makes the request in a slot of its class.
    #[inline(always)]
    pub fn build(&self, slot: FreeSlot, scratch: &Scratch) -> Req {
        assert!(slot.class == self.class());
        let head = Head {
            record_bytes: self.bytes as u32,
            ..Head::new(slot.class, self.data, self.call, &self.attrs)
        };
        let req = Req(slot.at);
        let words = self.attrs.event_words + self.attrs.kept_words;
        // SAFETY: the slot is free, so nobody else looks at it, and has room for the head, and an
        // event and what is kept of its class, which is the record's (asserted). `Attrs::read` wrote
        // the scratch space from the event's end to `words`.
        unsafe {
            slot.at.as_ptr().write(head);
            let event = req.event_ptr();
            event.write(self.event_bytes() as u64); // and flags: 0
            event.add(1).write(self.data);
            event.add(RES_WORD).write(0);
            let returns = scratch.0[EVENT_WORDS..].as_ptr().cast::<u64>();
            ptr::copy_nonoverlapping(returns, event.add(EVENT_WORDS), words - EVENT_WORDS);
        }
        req
    }
}

impl Attrs {
    const NONE: Attrs = Attrs {
        refused: 0,
        event_words: EVENT_WORDS,
        kept_words: 0,
        bound: Bound::NONE,
    };

    /// # Safety
    /// As for [`Record::read`], for the `left` bytes of attributes at `src`.
    unsafe fn read(
        mut src: *const u8,
        mut left: usize,
        call: &Call,
        clock: &attr::SubmitClock,
        scratch: &mut Scratch,
    ) -> Result<Attrs, Malformed> {
        const HEAD: usize = size_of::<iocb_attr>();
        let mut attrs = Attrs::NONE;
        let mut kept: Kept = [[MaybeUninit::uninit(); attr::PAYLOAD_WORDS_MAX]; attr::IDS];
        while left != 0 {
            if left < HEAD {
                return Err(Malformed);
            }
            // SAFETY: HEAD readable bytes, aligned to 8 (every size so far was a multiple of it).
            let attr = unsafe { ptr::read_volatile(src.cast::<iocb_attr>()) };
            let bytes = usize::from(attr.bytes);
            if bytes < HEAD || bytes % 8 != 0 || bytes > left {
                return Err(Malformed);
            }
            let out = &mut scratch.0[attrs.event_words..];
            let known = attr::find(attr.id);
            let mut ret = match known {
                None => -EOPNOTSUPP,
                Some(row)
                    if bytes - HEAD != row.input * 8
                        || attr.flags & !IOCB_ATTR_F_REQUIRED != 0
                        || attrs.bound.has(attr.id) =>
                {
                    -EINVAL
                }
                Some(_) => 0,
            };
            let mut words = attr::RET_WORDS;
            if let (0, Some(row)) = (ret, known) {
                let input = zeros(&mut kept[usize::from(attr.id)], row.input);
                for (i, word) in input.iter_mut().enumerate() {
                    // SAFETY: the payload is within the attribute's bytes, which are within `left`.
                    *word = unsafe { ptr::read_volatile(src.add(HEAD).cast::<u64>().add(i)) };
                }
                let room = out[words..].first_chunk_mut();
                let payload = zeros(room.expect("scratch space for every payload"), row.output);
                let submit = attr::Submit { call, input, clock };
                match row.handler.submitted(&submit, payload) {
                    Ok(()) => {
                        let required = attr.flags & IOCB_ATTR_F_REQUIRED != 0;
                        attrs.bound.bind(attr.id, required);
                        words += row.output;
                    }
                    Err(errno) => ret = -(errno as i32),
                }
            }
            out[0].write(attr::head(words, attr.id, ret));
            out[1].write(attr.cookie);
            if ret != 0 && attr.flags & IOCB_ATTR_F_REQUIRED != 0 && attrs.refused == 0 {
                attrs.refused = ret;
            }
            attrs.event_words += words;
            // SAFETY: `bytes` are within `left`.
            src = unsafe { src.add(bytes) };
            left -= bytes;
        }
        for (id, row) in attrs.bound.rows() {
            let to = &mut scratch.0[attrs.event_words + attrs.kept_words..];
            to[..row.input].copy_from_slice(&kept[id][..row.input]);
            attrs.kept_words += row.input;
        }
        Ok(attrs)
    }
}

/// What the attributes of one record were given, by their numbers.
type Kept = [[MaybeUninit<u64>; attr::PAYLOAD_WORDS_MAX]; attr::IDS];

/// Makes them zeros, and gives the first `len`. (All of them: that is two instructions, and a call of
/// memset() for `len` is 10 ns.)
fn zeros(words: &mut [MaybeUninit<u64>; attr::PAYLOAD_WORDS_MAX], len: usize) -> &mut [u64] {
    *words = [MaybeUninit::new(0); attr::PAYLOAD_WORDS_MAX];
    // SAFETY: all were written just now; MaybeUninit<u64> has the layout of u64.
    unsafe { &mut *(ptr::from_mut(&mut words[..len]) as *mut [u64]) }
}

/// A request's place that is not in use.
pub struct FreeSlot {
    at: NonNull<Head>,
    class: Class,
}

/// Places that are not in use, of one class, linked through their first word.
pub struct FreeList {
    class: Class,
    first: *mut Head,
    len: usize,
}

// SAFETY: it owns the places.
unsafe impl Send for FreeList {}

impl FreeList {
    pub const fn new(class: Class) -> FreeList {
        FreeList {
            class,
            first: ptr::null_mut(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn take(&mut self) -> Option<FreeSlot> {
        let at = NonNull::new(self.first)?;
        // SAFETY: a free place begins with the pointer to the next one (`push`).
        self.first = unsafe { at.cast::<*mut Head>().read() };
        self.len -= 1;
        Some(FreeSlot {
            at,
            class: self.class,
        })
    }

    fn push(&mut self, at: NonNull<Head>) {
        // SAFETY: the place is unused and large enough for a pointer.
        unsafe { at.cast::<*mut Head>().write(self.first) };
        self.first = at.as_ptr();
        self.len += 1;
    }

    /// Moves up to `wanted` places from `other` to this list.
    pub fn take_from(&mut self, other: &mut FreeList, wanted: usize) {
        assert!(self.class == other.class);
        if self.len == 0 && other.len <= wanted {
            std::mem::swap(self, other);
            return;
        }
        for _ in 0..wanted {
            let Some(slot) = other.take() else { break };
            self.push(slot.at);
        }
    }
}

/// A piece of memory for several requests of one class, before it joins a [`Slab`].
pub struct Chunk {
    at: NonNull<ChunkHead>,
}

#[repr(C, align(64))]
struct ChunkHead {
    next: *mut ChunkHead,
    slots: usize,
    class: Class,
}

impl Chunk {
    fn layout(class: Class, slots: usize) -> Option<Layout> {
        let bytes = slots
            .checked_mul(class.slot_bytes())?
            .checked_add(size_of::<ChunkHead>())?;
        Layout::from_size_align(bytes, 64).ok()
    }

    /// None if there is no memory. Called without a lock: the allocator may make system calls.
    pub fn new(class: Class, slots: usize) -> Option<Chunk> {
        let layout = Self::layout(class, slots)?;
        // SAFETY: the layout is not empty.
        let at = NonNull::new(unsafe { alloc(layout) })?.cast::<ChunkHead>();
        // SAFETY: fresh memory, large and aligned enough for a ChunkHead.
        unsafe {
            at.write(ChunkHead {
                next: ptr::null_mut(),
                slots,
                class,
            })
        };
        Some(Chunk { at })
    }
}

/// Free slots of one class, and the chunks that they come from. Grows, and gives its memory back
/// when it is dropped.
pub struct Slab {
    pub free: FreeList,
    chunks: *mut ChunkHead,
    /// Slots in all chunks.
    slots: usize,
}

// SAFETY: it owns the chunks; the pointers go nowhere else.
unsafe impl Send for Slab {}

impl Slab {
    pub const fn new(class: Class) -> Slab {
        Slab {
            free: FreeList::new(class),
            chunks: ptr::null_mut(),
            slots: 0,
        }
    }

    /// How many slots the next chunk should have, to serve `wanted` more requests: four times as
    /// many in all, so that a program soon has what it ever needs, in pieces that the allocator has
    /// an easy time with.
    pub fn growth(&self, wanted: usize) -> usize {
        let (first, most) = match self.free.class {
            Class::Small => (16, 1024),
            #[cfg(not(loom))]
            Class::Extended => (16, 1024),
            Class::Medium => (8, 512),
            Class::Large => (4, 64),
        };
        wanted.max(self.slots * 3).clamp(first, most)
    }

    pub fn add(&mut self, chunk: Chunk) {
        // SAFETY: the chunk is ours now, and was made with `slots` slots of its class behind the
        // head.
        unsafe {
            let head = chunk.at.as_ptr();
            let ChunkHead { class, slots, .. } = *head;
            assert!(class == self.free.class);
            let first = head.add(1).cast::<u8>();
            for i in (0..slots).rev() {
                let slot = NonNull::new_unchecked(first.add(i * class.slot_bytes()).cast::<Head>());
                let stage = AtomicU8::new(Stage::Idle as u8);
                (&raw mut (*slot.as_ptr()).stage).write(stage);
                self.free.push(slot);
            }
            (*head).next = self.chunks;
            // For `each_left`: first what it reads.
            compiler_fence(SeqCst);
            self.chunks = head;
            self.slots += slots;
        }
    }

    /// Tells of each request that is not done.
    #[cfg(not(loom))]
    fn each_left(&self, tell: &mut impl FnMut(Stage, &Call)) {
        let mut chunk = self.chunks;
        while let Some(here) = NonNull::new(chunk) {
            // SAFETY: chunks stay as long as the slab does. Of each place the stage has been written,
            // and the call before it says that there is a request.
            unsafe {
                let ChunkHead { next, slots, class } = *here.as_ptr();
                let first = here.as_ptr().add(1).cast::<u8>();
                for i in 0..slots {
                    let slot = first.add(i * class.slot_bytes()).cast::<Head>();
                    // Acquire: pairs with the release in `set_stage`.
                    match (*slot).stage.load(Acquire) {
                        stage if stage == Stage::Accepted as u8 => {
                            tell(Stage::Accepted, &(*slot).call)
                        }
                        stage if stage == Stage::Begun as u8 => tell(Stage::Begun, &(*slot).call),
                        _ => {}
                    }
                }
                chunk = next;
            }
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        while let Some(chunk) = NonNull::new(self.chunks) {
            // SAFETY: made by `Chunk::new` with this layout; no request is in use any more: the
            // context is dropped when none is in flight.
            unsafe {
                self.chunks = (*chunk.as_ptr()).next;
                let layout = Chunk::layout((*chunk.as_ptr()).class, (*chunk.as_ptr()).slots);
                dealloc(chunk.as_ptr().cast(), layout.unwrap_unchecked());
            }
        }
    }
}

/// The memory of a context's requests.
pub struct Slabs {
    small: Slab,
    #[cfg(not(loom))]
    extended: Slab,
    medium: Slab,
    large: Slab,
}

impl Slabs {
    pub const fn new() -> Slabs {
        Slabs {
            small: Slab::new(Class::Small),
            #[cfg(not(loom))]
            extended: Slab::new(Class::Extended),
            medium: Slab::new(Class::Medium),
            large: Slab::new(Class::Large),
        }
    }

    pub fn of(&mut self, class: Class) -> &mut Slab {
        match class {
            Class::Small => &mut self.small,
            #[cfg(not(loom))]
            Class::Extended => &mut self.extended,
            Class::Medium => &mut self.medium,
            Class::Large => &mut self.large,
        }
    }

    /// Tells of each request that is not done, also in the middle of a change.
    #[cfg(not(loom))]
    pub fn each_left(&self, mut tell: impl FnMut(Stage, &Call)) {
        for slab in [&self.small, &self.extended, &self.medium, &self.large] {
            slab.each_left(&mut tell);
        }
    }

    /// Takes back a request whose event has left the library, or that was not accepted after all.
    pub fn free(&mut self, req: Req) {
        req.set_stage(Stage::Idle);
        let class = req.head().class;
        self.of(class).free.push(req.0);
    }
}

/// A list of requests, in order. Its methods are called under the lock that guards it.
pub struct List {
    head: *mut Head,
    tail: *mut Head,
}

// SAFETY: it owns the requests that are on it.
unsafe impl Send for List {}

impl List {
    pub const fn new() -> List {
        List {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    pub fn push(&mut self, req: Req) {
        self.link(req.0.as_ptr());
    }

    /// Puts a request at the front, from where it was taken.
    pub fn push_front(&mut self, req: Req) {
        let at = req.0.as_ptr();
        // SAFETY: as in `link`.
        unsafe {
            *(*at).link.get() = Link {
                next: self.head,
                prev: ptr::null_mut(),
            }
        };
        match NonNull::new(self.head) {
            // SAFETY: on this list.
            Some(head) => unsafe { (*(*head.as_ptr()).link.get()).prev = at },
            None => self.tail = at,
        }
        self.head = at;
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut List) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.head = other.head;
        } else {
            // SAFETY: both are on lists that we have exclusively.
            unsafe {
                (*(*self.tail).link.get()).next = other.head;
                (*(*other.head).link.get()).prev = self.tail;
            }
        }
        self.tail = other.tail;
        *other = List::new();
    }

    pub fn pop(&mut self) -> Option<Req> {
        let at = NonNull::new(self.head)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    pub fn first(&self) -> Option<Tie> {
        NonNull::new(self.head).map(Tie)
    }

    /// Takes out one that is on this list.
    pub fn remove(&mut self, tie: Tie) -> Req {
        self.unlink(tie.0.as_ptr());
        Req(tie.0)
    }

    /// The first request that `wanted` says yes to.
    pub fn search(&self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<Tie> {
        self.find(wanted).map(Tie)
    }

    /// Whether it has one that is `wanted`.
    #[cfg(not(loom))]
    pub fn any(&self, wanted: impl Fn(Tie) -> bool) -> bool {
        let mut at = NonNull::new(self.head);
        while let Some(here) = at {
            if wanted(Tie(here)) {
                return true;
            }
            // SAFETY: as in `find`.
            at = NonNull::new(unsafe { (*here.as_ref().link.get()).next });
        }
        false
    }

    pub fn first_is(&self, wanted: impl FnOnce(&Call) -> bool) -> bool {
        // SAFETY: as in `find`.
        unsafe { self.head.as_ref() }.is_some_and(|head| wanted(&head.call))
    }

    /// Takes the first request if it is `wanted`.
    pub fn pop_if(&mut self, wanted: impl FnOnce(&Req) -> bool) -> Option<Req> {
        let first = Req(NonNull::new(self.head)?);
        if !wanted(&first) {
            return None;
        }
        self.unlink(first.0.as_ptr());
        Some(first)
    }

    pub fn pop_last(&mut self) -> Option<Req> {
        let at = NonNull::new(self.tail)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    pub fn front(&self) -> Option<&[u64]> {
        let at = NonNull::new(self.head)?;
        // SAFETY: requests on this list are owned by it, and the words live as long as the request,
        // which stays while the list is borrowed.
        unsafe {
            Some(std::slice::from_raw_parts(
                at.as_ptr().add(1).cast(),
                at.as_ref().event_words as usize,
            ))
        }
    }

    /// Takes the first request that `wanted` says yes to.
    pub fn remove_first(&mut self, wanted: impl FnMut(u64, &Call) -> bool) -> Option<Req> {
        let at = self.find(wanted)?;
        self.unlink(at.as_ptr());
        Some(Req(at))
    }

    fn find(&self, mut wanted: impl FnMut(u64, &Call) -> bool) -> Option<NonNull<Head>> {
        let mut at = NonNull::new(self.head);
        while let Some(here) = at {
            // SAFETY: a request stays while it is on a list, and what is read here does not change.
            let head = unsafe { here.as_ref() };
            if wanted(head.data, &head.call) {
                break;
            }
            // SAFETY: links are read under the list's lock.
            at = NonNull::new(unsafe { (*head.link.get()).next });
        }
        at
    }

    fn link(&mut self, at: *mut Head) {
        // SAFETY: whoever calls has the request, or (`Running`) the right to link it; links are
        // only touched under the lock that guards the list, which &mut self stands for.
        unsafe {
            *(*at).link.get() = Link {
                next: ptr::null_mut(),
                prev: self.tail,
            }
        };
        match NonNull::new(self.tail) {
            // SAFETY: on this list.
            Some(tail) => unsafe { (*(*tail.as_ptr()).link.get()).next = at },
            None => self.head = at,
        }
        self.tail = at;
    }

    fn unlink(&mut self, at: *mut Head) {
        // SAFETY: `at` is on this list, and so are its neighbours.
        unsafe {
            let Link { next, prev } = *(*at).link.get();
            match NonNull::new(prev) {
                Some(prev) => (*(*prev.as_ptr()).link.get()).next = next,
                None => self.head = next,
            }
            match NonNull::new(next) {
                Some(next) => (*(*next.as_ptr()).link.get()).prev = prev,
                None => self.tail = prev,
            }
        }
    }
}

/// Requests that are being carried out, and that whoever does that has in an order. (They are not for a
/// [`List`]: they are on [`Running`]'s.)
pub struct Chain {
    head: Option<NonNull<Head>>,
    tail: Option<NonNull<Head>>,
}

// SAFETY: it owns the requests that are in it.
unsafe impl Send for Chain {}

impl Chain {
    pub const fn new() -> Chain {
        Chain {
            head: None,
            tail: None,
        }
    }

    pub fn push(&mut self, req: Req) {
        // SAFETY: ours now, and so is the cell.
        unsafe { *req.head().next.get() = None };
        match self.tail {
            // SAFETY: in this chain, which owns it.
            Some(tail) => unsafe { *tail.as_ref().next.get() = Some(req.0) },
            None => self.head = Some(req.0),
        }
        self.tail = Some(req.0);
    }

    pub fn push_front(&mut self, req: Req) {
        // SAFETY: ours now, and so is the cell.
        unsafe { *req.head().next.get() = self.head };
        self.head = Some(req.0);
        self.tail = self.tail.or(self.head);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Req> {
        let at = self.head?;
        // SAFETY: in this chain, which owns it.
        self.head = unsafe { *at.as_ref().next.get() };
        if self.head.is_none() {
            self.tail = None;
        }
        Some(Req(at))
    }
}

/// The requests that are being carried out. It does not own them: whoever carries one out does.
pub struct Running {
    list: List,
    /// By their manner.
    counts: [u32; 3],
}

impl Running {
    pub const fn new() -> Running {
        Running {
            list: List::new(),
            counts: [0; 3],
        }
    }

    pub fn len(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Those that end by themselves.
    pub fn short(&self) -> u32 {
        self.transfers() + self.counts[Manner::Sync as usize]
    }

    /// Those that may have a file's lock for a while.
    pub fn transfers(&self) -> u32 {
        self.counts[Manner::Transfer as usize]
    }

    pub fn enter(&mut self, req: &Req) {
        self.list.link(req.0.as_ptr());
        self.counts[req.manner() as usize] += 1;
    }

    pub fn leave(&mut self, req: &Req) {
        self.list.unlink(req.0.as_ptr());
        self.counts[req.manner() as usize] -= 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = Carried<'_>> {
        let mut at = NonNull::new(self.list.head);
        std::iter::from_fn(move || {
            let here = at?;
            // SAFETY: a request stays while it is on the list, whose lock guards the cells; what else
            // is read here does not change.
            unsafe {
                let head = here.as_ref();
                at = NonNull::new((*head.link.get()).next);
                Some(Carried {
                    tie: Tie(here),
                    data: head.data,
                    call: &head.call,
                    worker: *head.worker.get(),
                })
            }
        })
    }

    /// Takes a request from whoever carries it out.
    ///
    /// # Safety
    /// It is on the list, and who has it never goes on.
    #[cfg(not(loom))]
    pub unsafe fn bereave(&mut self, tie: Tie) -> Req {
        Req(tie.0)
    }
}

/// A request that is being carried out.
pub struct Carried<'a> {
    pub tie: Tie,
    pub data: u64,
    pub call: &'a Call,
    worker: u16,
}

impl Carried<'_> {
    /// Which worker does so, if that one can be interrupted.
    pub fn worker(&self) -> Option<u16> {
        (self.worker < RIDER).then_some(self.worker)
    }

    #[cfg(not(loom))]
    pub fn is_rider(&self) -> bool {
        self.worker == RIDER
    }

    /// Whether it has its result.
    #[cfg(not(loom))]
    pub fn is_done(&self) -> bool {
        // SAFETY: the request is on the list. Acquire: pairs with the release in `set_stage`.
        unsafe { self.tie.0.as_ref() }.stage.load(Acquire) == Stage::Idle as u8
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        debug_assert!(self.len() == 0);
    }
}
