//! Requests: the memory of a request, from submit until its event leaves the library, and how the caller's record
//! becomes a request.
//!
//! The event is laid out at submit, including attribute returns. Completing a request only fills in numbers: it neither
//! allocates nor fails.

mod attrs;
mod claim;
mod extension;
mod list;
mod record;
mod reference;
mod slab;

pub use attrs::*;
pub use claim::{Access, Claim};
use extension::CLAIMED_AT;
pub use extension::*;
pub use list::{Carried, Chain, List, Running};
pub use record::{Attrs, Malformed, ReadAttrs, Record, Scratch};
pub use reference::{OrderState, RequestRef};
pub use slab::{Chunk, FreeList, FreeSlot, SizeClass, Slabs};

use crate::abi::{IOCB2_ATTR_BYTES_MAX, io_event2};
use crate::syscall::{Call, Manner};
use std::cell::UnsafeCell;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8};

/// Words of an event without attribute returns.
pub const EVENT_WORDS: usize = size_of::<io_event2>() / 8;
const RES_WORD: usize = 2;

/// Words of the largest event and the input kept behind it. Either every attribute is an unknown one of 16 bytes, or
/// each known one occurs once with its payload; the input needs its own room.
const EVENT_WORDS_MAX: usize = EVENT_WORDS + IOCB2_ATTR_BYTES_MAX as usize / 8 + PAYLOAD_WORDS_ALL;

/// The head of a request. The words of its event follow in memory, and then the input of its attributes.
///
/// All fields except the cells are written while the request is built, and do not change afterwards. So a scan of a
/// list, under the context's lock, may read them while a worker executes the request. The event's words belong to the
/// owner of the [`Req`].
#[repr(C, align(8))]
struct Head {
    /// Written and read under the lock of the list that the request is on.
    link: UnsafeCell<Link>,
    /// Written and read under the context's lock.
    order: UnsafeCell<OrderState>,
    /// The executing worker, if it can be interrupted; otherwise NO_WORKER or OWNER_KERNEL. Guarded by the context's
    /// lock.
    worker: UnsafeCell<u16>,
    /// Its progress: a `Stage`. Written by the owner; read by a thread that finds the context in the middle of a
    /// change.
    stage: AtomicU8,
    /// The call has moved fewer bytes than requested, which `res` alone does not show. Accessed by the owner only.
    partial: UnsafeCell<bool>,
    /// See [`Req::set_no_merge`].
    no_merge: AtomicBool,
    /// Its route, as a number of the layer that executes it; 0: not made. Accessed by the owner only.
    route: UnsafeCell<u8>,
    class: SizeClass,
    manner: Manner,
    /// It has an extension behind its event.
    extended: bool,
    /// See [`Req::set_awaited`]. Under the context's lock.
    awaited: UnsafeCell<u32>,
    /// The next request of its [`Chain`]. Accessed by the chain's owner only.
    next: UnsafeCell<Option<NonNull<Head>>>,
    data: u64,
    call: Call,
    /// 0, or the negative errno with which it completes without its call.
    refused: i32,
    event_words: u32,
    /// Words behind the event: the input of its attributes.
    kept_words: u32,
    /// Bytes of its record.
    record_bytes: u32,
    hints: Hints,
    /// See [`Req::may_be_queued`] and [`Req::set_file`].
    may_be_queued: bool,
    bound: Bound,
}

impl Head {
    #[inline]
    fn new(class: SizeClass, data: u64, call: Call, attrs: &Attrs) -> Head {
        Head {
            link: UnsafeCell::new(Link {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
            }),
            order: UnsafeCell::new(OrderState::default()),
            worker: UnsafeCell::new(NO_WORKER),
            stage: AtomicU8::new(Stage::Idle as u8),
            partial: UnsafeCell::new(false),
            no_merge: AtomicBool::new(false),
            route: UnsafeCell::new(0),
            class,
            manner: Manner::of(&call),
            extended: false,
            awaited: UnsafeCell::new(NOT_AWAITED),
            next: UnsafeCell::new(None),
            data,
            call,
            refused: attrs.refused,
            event_words: attrs.event_words as u32,
            kept_words: attrs.kept_words as u32,
            record_bytes: 0,
            hints: Hints::NONE,
            may_be_queued: true,
            bound: attrs.bound,
        }
    }
}

#[derive(Clone, Copy)]
struct Link {
    next: *mut Head,
    prev: *mut Head,
}

/// The progress of the request in a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The slot is free, its request is not accepted yet, or the request has its result.
    Idle,
    Accepted,
    /// The request is being executed.
    Begun,
}

/// No worker that can be interrupted executes it.
pub const NO_WORKER: u16 = u16::MAX;
/// Not a worker: the kernel executes it in its context's own queue, or is about to.
pub const OWNER_KERNEL: u16 = NO_WORKER - 1;
/// The same: it waits for its file to become ready.
pub const OWNER_READINESS: u16 = NO_WORKER - 2;
/// The same: a thread that stands in for a worker tries it without waiting.
pub const OWNER_STAND_IN: u16 = NO_WORKER - 3;
/// The same, and it was cancelled when its file had just become ready, or while it was tried.
const CANCELLED: u16 = NO_WORKER - 4;

/// No file.
const NOT_AWAITED: u32 = u32::MAX;

/// A request: the right to execute it and to write its event. Each accepted request has exactly one; it returns to its
/// [`Slabs`].
pub struct Req(NonNull<Head>);

// SAFETY: a Req is the only owner of its event's words. The rest of the request does not change, except for the links,
// which are accessed only under a lock (see `List`).
unsafe impl Send for Req {}

impl Req {
    fn head(&self) -> &Head {
        // SAFETY: a Req points to a built request. Its slab belongs to the context, which is dropped only when no
        // request is in flight.
        unsafe { self.0.as_ref() }
    }

    fn event_ptr(&self) -> *mut u64 {
        // SAFETY: the event's words begin one Head after the head, inside the slot.
        unsafe { self.0.as_ptr().add(1).cast() }
    }

    pub fn call(&self) -> &Call {
        &self.head().call
    }

    pub fn reference(&self) -> RequestRef {
        RequestRef(self.0)
    }

    /// Sets the worker that executes it. Called under the context's lock.
    pub fn set_worker(&self, worker: u16) {
        // SAFETY: the lock guards the cell.
        unsafe { *self.head().worker.get() = worker };
    }

    /// Whether it was cancelled while it was tried, or when its file had just become ready. Called under the context's lock.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the lock guards the cell.
        unsafe { *self.head().worker.get() == CANCELLED }
    }

    /// It waits for a file to become ready: the number that the waiting module gives. None: no more. Called under the
    /// context's lock.
    pub fn set_awaited(&self, number: Option<u32>) {
        // SAFETY: the lock guards the cell.
        unsafe { *self.head().awaited.get() = number.unwrap_or(NOT_AWAITED) };
    }

    /// That number, as long as it is not said that the request waits no more.
    #[inline]
    pub fn awaited(&self) -> Option<u32> {
        // SAFETY: as above.
        Some(unsafe { *self.head().awaited.get() }).filter(|&number| number != NOT_AWAITED)
    }

    /// Whether it has begun, and has no result.
    pub fn has_begun(&self) -> bool {
        // Relaxed: its owner's.
        self.head().stage.load(Relaxed) == Stage::Begun as u8
    }

    /// The call has moved fewer bytes than requested.
    pub fn set_partial(&mut self) {
        // SAFETY: the only owner calls with &mut self; nobody else accesses the cell.
        unsafe { *self.head().partial.get() = true };
    }

    /// The request must not be executed together with others any more.
    pub fn set_no_merge(&self) {
        // Relaxed: only the owner accesses it, and ownership changes under a lock.
        self.head().no_merge.store(true, Relaxed);
    }

    pub fn no_merge(&self) -> bool {
        self.head().no_merge.load(Relaxed)
    }

    /// The route on which the request is about to be executed.
    pub fn set_route(&mut self, route: impl Into<u8>) {
        // SAFETY: the only owner calls with &mut self; nobody else accesses the cell.
        unsafe { *self.head().route.get() = route.into() };
    }

    pub fn route<T: From<u8>>(&self) -> T {
        // SAFETY: only the owner accesses the cell.
        unsafe { *self.head().route.get() }.into()
    }

    /// Whether it succeeded completely.
    pub fn succeeded(&self) -> bool {
        // SAFETY: only the owner accesses the cell.
        self.res() >= 0 && !unsafe { *self.head().partial.get() }
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
        // SAFETY: `event_words` words were written when the request was built; the only owner's &self excludes writers.
        unsafe { std::slice::from_raw_parts(self.event_ptr(), self.head().event_words as usize) }
    }

    pub fn event_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above; the only owner calls with &mut self.
        unsafe {
            std::slice::from_raw_parts_mut(self.event_ptr(), self.head().event_words as usize)
        }
    }

    pub fn answers(&mut self) -> Answers<'_> {
        let head = self.head();
        let (event, kept) = (head.event_words as usize, head.kept_words as usize);
        // SAFETY: `build` wrote both, one after the other, into a slot with room for them; the only owner calls with
        // &mut self.
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

    pub fn res(&self) -> i64 {
        self.event()[RES_WORD] as i64
    }

    pub fn set_res(&mut self, res: i64) {
        self.event_mut()[RES_WORD] = res as u64;
        self.set_stage(Stage::Idle);
    }

    /// How many bytes the call of a request that has begun has moved so far. The place of the result keeps the number.
    pub fn moved(&self) -> u64 {
        self.event()[RES_WORD]
    }

    pub fn set_moved(&mut self, moved: u64) {
        self.event_mut()[RES_WORD] = moved;
    }

    pub fn set_stage(&self, stage: Stage) {
        // Release: pairs with the acquires in `Slab::each_unfinished` and `Carried::is_done`. Their thread is a signal
        // handler in this thread, or has waited in vain for this thread's lock; it then reads the call.
        self.head().stage.store(stage as u8, Release);
    }
}

/// A way to execute a request. The time is given if it is known. A generic parameter and not a function pointer,
/// because an indirect call would slow down a no-op noticeably.
pub trait Execute: Copy + Fn(&mut Req, Option<u64>) {}
impl<F: Copy + Fn(&mut Req, Option<u64>)> Execute for F {}
