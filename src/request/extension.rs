//! A personality's data of a request besides its system call, stored behind the event. The core knows only the hints
//! and the results of the personality's functions.

use super::reference::Claimed;
use super::{Attrs, Claim, FreeSlot, Head, Req, SizeClass};
use crate::sys::Result;
use crate::syscall::{Call, Tried};
use libc::c_short;
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Words in the event of a request with an extension.
pub const EXTENDED_EVENT_WORDS: usize = 4;
/// Bytes of an extension.
pub const EXTENSION_BYTES: usize = 72;
/// The claim follows the extension.
pub(super) const CLAIMED_AT: usize = EXTENDED_EVENT_WORDS * 8 + EXTENSION_BYTES;
const _: () = assert!(CLAIMED_AT % align_of::<Claimed>() == 0);

/// Facts about a request with an extension that the core needs.
#[derive(Clone, Copy)]
pub struct Hints(u8);

impl Hints {
    pub const NONE: Hints = Hints(0);
    const AT_ONCE: u8 = 1;
    const FOR_SUBMITTER: u8 = 2;
    const ASKS_IOPRIO: u8 = 4;
    const IS_COUNTED: u8 = 8;
    const HAS_EVENTFD: u8 = 16;
    const AWAITS_FILE: u8 = 32;

    fn with(self, bit: u8, is: bool) -> Hints {
        Hints(self.0 | if is { bit } else { 0 })
    }

    /// The kernel would have completed it within io_submit().
    pub fn at_once(self, is: bool) -> Hints {
        self.with(Hints::AT_ONCE, is)
    }

    /// Its submitter may execute it if it is short.
    pub fn for_submitter(self, is: bool) -> Hints {
        self.with(Hints::FOR_SUBMITTER, is)
    }

    /// It has an I/O priority of its own.
    pub fn asks_ioprio(self, is: bool) -> Hints {
        self.with(Hints::ASKS_IOPRIO, is)
    }

    /// The statistics need the time when it is executed.
    pub fn is_counted(self, is: bool) -> Hints {
        self.with(Hints::IS_COUNTED, is)
    }

    /// An eventfd is signalled when it ends.
    pub fn has_eventfd(self, is: bool) -> Hints {
        self.with(Hints::HAS_EVENTFD, is)
    }

    /// It only waits until its file is ready. It can be cancelled.
    pub fn awaits_file(self, is: bool) -> Hints {
        self.with(Hints::AWAITS_FILE, is)
    }
}

/// Functions of the personality whose requests have an extension.
pub struct Personality {
    /// The descriptor of the request's file in the calling thread's table.
    pub fd: fn(&Req) -> RawFd,
    /// Executes the request; the given function makes its call.
    pub execute: fn(&mut Req, fn(&Call) -> i64),
    /// Whether a request that only waits for its file waits in the epoll, or else in a thread.
    pub try_to_execute: fn(&Req) -> Tried,
    /// The file for which a request waits is ready, with these events; or the request cannot wait. Fills in the result.
    pub ready: fn(&mut Req, Result<c_short>),
    /// The request was cancelled. Fills in the result.
    pub cancelled: fn(&mut Req),
    /// The request, which was begun at that time, has its result. For the statistics.
    pub count: fn(&Req, u64),
    /// The call of a request with a held file, with that file's descriptor in the library's own table.
    pub call_inside: fn(&Call) -> Call,
    /// Makes the call of an abandoned request.
    pub make_inside: fn(&Call, fn(&Call) -> i64),
    /// See [`Req::ended`].
    pub ended: fn(&mut Req) -> Option<Notification>,
    /// See [`notify`].
    pub notify: fn(&[Notification]),
    /// Releases the objects that a [`Notification`] holds, whether or not it was sent. Called once.
    pub give_back: fn(&mut Notification),
}

/// Words of a [`Notification`].
const NOTIFICATION_WORDS: usize = 3;

/// A notification that an ended request leaves. It is sent when the event is visible. Only the personality knows its
/// content.
#[repr(transparent)]
pub struct Notification(MaybeUninit<[u64; NOTIFICATION_WORDS]>);

impl Notification {
    pub fn new<T>(what: T) -> Notification {
        const { assert!(size_of::<T>() == size_of::<Notification>() && align_of::<T>() <= 8) }
        let what = ManuallyDrop::new(what);
        // SAFETY: both types have the same size and any bits are valid; `what` is not used again.
        unsafe { std::mem::transmute_copy(&what) }
    }

    /// The value from which it was made.
    ///
    /// # Safety
    /// It was made from a `T`.
    pub unsafe fn as_mut<T>(&mut self) -> &mut ManuallyDrop<T> {
        // SAFETY: the caller guarantees the type; `new` checks size and alignment.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    /// # Safety
    /// As above.
    pub unsafe fn all<T>(all: &[Notification]) -> &[ManuallyDrop<T>] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(all.as_ptr().cast(), all.len()) }
    }
}

impl Drop for Notification {
    fn drop(&mut self) {
        if let Some(personality) = personality() {
            (personality.give_back)(self);
        }
    }
}

/// Sends the notifications of requests whose events are visible.
pub fn notify(all: &[Notification]) {
    if !all.is_empty()
        && let Some(personality) = personality()
    {
        (personality.notify)(all);
    }
}

/// Null before the first request with an extension.
static PERSONALITY: AtomicPtr<Personality> = AtomicPtr::new(ptr::null_mut());

/// From here on requests may have extensions of this personality.
pub fn set_personality(personality: &'static Personality) {
    // Release: pairs with the acquire in `personality`.
    PERSONALITY.store(ptr::from_ref(personality).cast_mut(), Release);
}

pub fn personality() -> Option<&'static Personality> {
    // SAFETY: null, or what `set_personality` was given. Acquire: pairs with the release there.
    unsafe { PERSONALITY.load(Acquire).as_ref() }
}

impl Req {
    /// Builds a request with an extension, in an extended slot. Its event is complete except for the result. The
    /// request can be found by `data`.
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
        assert!(slot.class == SizeClass::Extended);
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
        // SAFETY: the slot is free, so nobody else accesses it. A slot of this class has room for the head, the event,
        // the extension and the claim.
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

    /// Whether it has an extension, and so a claim.
    fn has_extension(&self) -> bool {
        self.head().extended
    }

    /// The extension.
    ///
    /// # Safety
    /// The extension is a `T`.
    pub unsafe fn extension<T>(&self) -> Option<&T> {
        // SAFETY: written when the request was built; the caller guarantees the type.
        self.has_extension()
            .then(|| unsafe { &*self.event_ptr().add(EXTENDED_EVENT_WORDS).cast() })
    }

    /// # Safety
    /// As above.
    pub unsafe fn extension_mut<T>(&mut self) -> Option<&mut T> {
        // SAFETY: as above; the only owner calls with &mut self.
        self.has_extension()
            .then(|| unsafe { &mut *self.event_ptr().add(EXTENDED_EVENT_WORDS).cast() })
    }

    pub fn personality(&self) -> Option<&'static Personality> {
        self.has_extension().then(personality)?
    }

    /// The descriptor of its file in this thread.
    pub fn fd(&self) -> RawFd {
        match self.personality() {
            Some(personality) => (personality.fd)(self),
            None => self.call().args[0] as RawFd,
        }
    }

    /// Whether threads other than its submitter can execute it.
    pub fn may_be_queued(&self) -> bool {
        self.head().may_be_queued
    }

    /// Called when the request has its result and nothing else remains to do. Releases the objects that its extension
    /// holds, before the event is visible. The notification is sent after that.
    pub fn ended(&mut self) -> Option<Notification> {
        (self.personality()?.ended)(self)
    }

    /// The file for which it waits is ready, with these events; or it cannot wait. True if it ends with that.
    pub fn ready(&mut self, events: Result<c_short>) -> bool {
        let personality = self.personality();
        if let Some(personality) = personality {
            (personality.ready)(self, events);
        }
        personality.is_some()
    }

    /// The request's file is held; from here on `file` replaces the descriptor in the call. Called before the request
    /// is on any list.
    pub fn set_file(&mut self, file: u64) {
        // SAFETY: the only owner calls with &mut self, and nobody else has seen the request.
        let head = unsafe { self.0.as_mut() };
        head.call.args[0] = file;
        head.may_be_queued = true;
    }

    /// The request, which was begun at that time, has its result. Does nothing without statistics.
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

    pub fn awaits_file(&self) -> bool {
        self.hints(Hints::AWAITS_FILE)
    }
}
