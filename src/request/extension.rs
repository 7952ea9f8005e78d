//! What a personality has of a request beside its system call, in the room behind its event. The core knows of it what
//! the hints say, and what the personality answers.

use super::Req;
#[cfg(not(loom))]
use super::reference::Claimed;
#[cfg(not(loom))]
use super::{Attrs, Claim, Class, FreeSlot, Head};
use crate::syscall::Call;
#[cfg(not(loom))]
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Words of the event of a request with an extension.
#[cfg(not(loom))]
pub const EXTENDED_EVENT_WORDS: usize = 4;
/// Bytes of an extension.
#[cfg(not(loom))]
pub const EXTENSION_BYTES: usize = 72;
/// What it claims follows the extension.
#[cfg(not(loom))]
pub(super) const CLAIMED_AT: usize = EXTENDED_EVENT_WORDS * 8 + EXTENSION_BYTES;
#[cfg(not(loom))]
const _: () = assert!(CLAIMED_AT % align_of::<Claimed>() == 0);

/// What the core needs to know of a request that has an extension.
#[derive(Clone, Copy)]
pub struct Hints(u8);

impl Hints {
    pub const NONE: Hints = Hints(0);
    const AT_ONCE: u8 = 1;
    const FOR_SUBMITTER: u8 = 2;
    const ASKS_IOPRIO: u8 = 4;
    const IS_COUNTED: u8 = 8;
    const HAS_EVENTFD: u8 = 16;

    fn with(self, bit: u8, is: bool) -> Hints {
        Hints(self.0 | if is { bit } else { 0 })
    }

    /// The kernel would have completed it within io_submit().
    pub fn at_once(self, is: bool) -> Hints {
        self.with(Hints::AT_ONCE, is)
    }

    /// Who submits it may carry it out, if it is short.
    pub fn for_submitter(self, is: bool) -> Hints {
        self.with(Hints::FOR_SUBMITTER, is)
    }

    /// It has an I/O priority of its own.
    pub fn asks_ioprio(self, is: bool) -> Hints {
        self.with(Hints::ASKS_IOPRIO, is)
    }

    /// The statistics want to know when it is carried out.
    pub fn is_counted(self, is: bool) -> Hints {
        self.with(Hints::IS_COUNTED, is)
    }

    /// An eventfd tells of its end.
    pub fn has_eventfd(self, is: bool) -> Hints {
        self.with(Hints::HAS_EVENTFD, is)
    }
}

/// What the core asks of the personality whose requests have an extension.
pub struct Personality {
    /// The descriptor of the request's file in the calling thread's table.
    pub fd: fn(&Req) -> RawFd,
    /// Carries the request out; the function makes its call.
    pub execute: fn(&mut Req, fn(&Call) -> i64),
    /// The request was begun then, and has its result: for the statistics.
    pub count: fn(&Req, u64),
    /// The call of a request whose file is held, with the descriptor that this has in the library's own table.
    pub call_inside: fn(&Call) -> Call,
    /// Makes the call of a request that has been left behind.
    pub make_inside: fn(&Call, fn(&Call) -> i64),
    /// See [`Req::ended`].
    pub ended: fn(&mut Req) -> Option<Tell>,
    /// See [`tell`].
    pub tell: fn(&[Tell]),
    /// Gives back what there was to tell, told or not: once.
    pub give_back: fn(&mut Tell),
}

/// Words of a [`Tell`].
const TELL_WORDS: usize = 3;

/// What is left of a request that has ended: something to tell when its event can be seen. What it is only the
/// personality knows.
#[repr(transparent)]
pub struct Tell(MaybeUninit<[u64; TELL_WORDS]>);

impl Tell {
    pub fn new<T>(what: T) -> Tell {
        const { assert!(size_of::<T>() == size_of::<Tell>() && align_of::<T>() <= 8) }
        let what = ManuallyDrop::new(what);
        // SAFETY: of the same size, and whatever is in it; `what` is not used any more.
        unsafe { std::mem::transmute_copy(&what) }
    }

    /// What it was made of.
    ///
    /// # Safety
    /// A `T`.
    pub unsafe fn as_mut<T>(&mut self) -> &mut ManuallyDrop<T> {
        // SAFETY: the caller's promise; size and alignment are checked in `new`.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    /// # Safety
    /// As above.
    pub unsafe fn all<T>(all: &[Tell]) -> &[ManuallyDrop<T>] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(all.as_ptr().cast(), all.len()) }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(personality) = personality() {
            (personality.give_back)(self);
        }
    }
}

/// Tells what is left of requests whose events can be seen.
pub fn tell(all: &[Tell]) {
    if !all.is_empty()
        && let Some(personality) = personality()
    {
        (personality.tell)(all);
    }
}

/// Null before the first request with an extension.
static PERSONALITY: AtomicPtr<Personality> = AtomicPtr::new(ptr::null_mut());

/// From here on there may be requests with extensions of this one.
#[cfg(not(loom))]
pub fn set_personality(personality: &'static Personality) {
    // Release: pairs with the acquire in `personality`.
    PERSONALITY.store(ptr::from_ref(personality).cast_mut(), Release);
}

pub fn personality() -> Option<&'static Personality> {
    // SAFETY: null, or what `set_personality` was given. Acquire: pairs with the release there.
    unsafe { PERSONALITY.load(Acquire).as_ref() }
}

impl Req {
    /// A request with an extension, in an extended slot: its event is complete but for what is to be set, and
    /// `data` is what it is found by.
    #[cfg(not(loom))]
    pub fn build_extended<T: Copy>(
        slot: FreeSlot,
        data: u64,
        call: Call,
        event: [u64; EXTENDED_EVENT_WORDS],
        (extension, hints): (T, Hints),
        claim: Claim,
    ) -> Req {
        const {
            assert!(size_of::<T>() <= EXTENSION_BYTES && align_of::<T>() <= 8);
        }
        assert!(slot.class == Class::Extended);
        debug_assert!(claim.start == 0 || claim.start == call.args[3]);
        let attrs = Attrs {
            event_words: EXTENDED_EVENT_WORDS,
            ..Attrs::NONE
        };
        let head = Head {
            extended: true,
            hints,
            may_be_queued: false,
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
        // head, the event, the extension and what it claims.
        unsafe {
            slot.at.as_ptr().write(head);
            req.event_ptr()
                .cast::<[u64; EXTENDED_EVENT_WORDS]>()
                .write(event);
            req.event_ptr()
                .add(EXTENDED_EVENT_WORDS)
                .cast::<T>()
                .write(extension);
            let behind = req.event_ptr().byte_add(CLAIMED_AT);
            behind.cast::<Claimed>().write(claimed);
        }
        req
    }

    /// It has an extension, and claims something.
    fn has_extension(&self) -> bool {
        self.head().extended
    }

    /// The extension.
    ///
    /// # Safety
    /// It is a `T`.
    #[cfg(not(loom))]
    pub unsafe fn extension<T>(&self) -> Option<&T> {
        // SAFETY: written when the request was built; the caller's promise.
        self.has_extension()
            .then(|| unsafe { &*self.event_ptr().add(EXTENDED_EVENT_WORDS).cast() })
    }

    /// # Safety
    /// As above.
    #[cfg(not(loom))]
    pub unsafe fn extension_mut<T>(&mut self) -> Option<&mut T> {
        // SAFETY: as above; &mut self of the one owner.
        self.has_extension()
            .then(|| unsafe { &mut *self.event_ptr().add(EXTENDED_EVENT_WORDS).cast() })
    }

    pub fn personality(&self) -> Option<&'static Personality> {
        self.has_extension().then(personality)?
    }

    /// The descriptor to use in this thread.
    pub fn fd(&self) -> RawFd {
        match self.personality() {
            Some(personality) => (personality.fd)(self),
            None => self.call().args[0] as RawFd,
        }
    }

    /// Whether others than whoever submits it can carry it out.
    pub fn may_be_queued(&self) -> bool {
        self.head().may_be_queued
    }

    /// It has its result, and nothing more is done for it: what its extension holds is given back before its event
    /// can be seen. What comes back is told after that.
    pub fn ended(&mut self) -> Option<Tell> {
        (self.personality()?.ended)(self)
    }

    /// Its file is held, and from here on this stands for it in the call. Before it is on any list.
    #[cfg(not(loom))]
    pub fn set_file(&mut self, file: u64) {
        // SAFETY: &mut self of the one owner, and nobody else has seen it.
        let head = unsafe { self.0.as_mut() };
        head.call.args[0] = file;
        head.may_be_queued = true;
    }

    /// The request was begun then, and has its result: for the statistics, if there are any.
    pub fn count(&self, began: u64) {
        if let Some(personality) = self.personality() {
            (personality.count)(self, began);
        }
    }

    fn hints(&self, bit: u8) -> bool {
        self.head().hints.0 & bit != 0
    }

    pub fn at_once(&self) -> bool {
        self.hints(Hints::AT_ONCE)
    }

    pub fn is_for_submitter(&self) -> bool {
        self.hints(Hints::FOR_SUBMITTER)
    }

    pub fn asks_ioprio(&self) -> bool {
        self.hints(Hints::ASKS_IOPRIO)
    }

    pub fn is_counted(&self) -> bool {
        self.hints(Hints::IS_COUNTED)
    }

    pub fn has_eventfd(&self) -> bool {
        self.hints(Hints::HAS_EVENTFD)
    }
}
