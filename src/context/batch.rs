//! A submit under way.

#[cfg(not(loom))]
use super::{AT_SUBMIT_NS, FEW, Submits, at_once};
use super::{After, Context, State};
use crate::habit::Short;
#[cfg(not(loom))]
use crate::order::Rows;
#[cfg(not(loom))]
use crate::rank;
use crate::registry::ContextRef;
use crate::request::{Chunk, Class as Size, FreeList, FreeSlot, List, Req, Stage};
#[cfg(not(loom))]
use crate::sync::Guard;
#[cfg(not(loom))]
use crate::sync::Relaxed;
use crate::sys::Result;
use crate::syscalls::Class;

/// A submit under way: the caller's records are read, and requests built, without the lock.
pub struct Batch<'a> {
    context: &'a ContextRef,
    /// Places for small requests that it has taken.
    small: FreeList,
    /// How many requests there was room for when it began.
    room: usize,
    requests: List,
    len: usize,
    pub(super) expected: Expected,
    /// Of the requests, those that the kernel would complete at once.
    #[cfg(not(loom))]
    at_once: u32,
    /// Those that may have to wait for others of their row.
    #[cfg(not(loom))]
    in_rows: usize,
    /// Those that who submits them may carry out.
    #[cfg(not(loom))]
    for_submitter: usize,
    /// Those of whose end an eventfd tells.
    #[cfg(not(loom))]
    told: usize,
    /// There are some that neither the pool nor who submits carries out.
    #[cfg(not(loom))]
    elsewhere: bool,
}

/// What the requests of a submit are expected to be like.
pub(super) struct Expected {
    pub(super) all_short: bool,
    pub(super) all_alone: bool,
    pub(super) all_brief: bool,
    pub(super) len: u64,
    pub(super) ns: u64,
    /// When they were submitted, if one of them has asked.
    pub(super) submitted_ns: Option<u64>,
}

impl Expected {
    fn nothing() -> Expected {
        Expected {
            all_short: true,
            all_alone: true,
            all_brief: true,
            len: 0,
            ns: 0,
            submitted_ns: None,
        }
    }

    fn add(&mut self, short: Option<Short>, brief: bool) {
        self.len += 1;
        self.all_brief &= brief;
        match short {
            None => self.all_short = false,
            Some(Short { ns, alone }) => {
                self.all_alone &= alone;
                self.ns += u64::from(ns);
            }
        }
    }
}

impl<'a> Batch<'a> {
    #[inline(always)]
    pub(super) fn begin(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        Batch::begin_with(context, wanted, |_, room| room)
    }

    /// `claim` is told how much room there is, and returns how much of it is this submit's.
    #[inline(always)]
    fn begin_with(
        context: &'a ContextRef,
        wanted: usize,
        claim: impl FnOnce(&mut State, usize) -> usize,
    ) -> Result<Batch<'a>> {
        let mut state = context.state.lock();
        state.check_open()?;
        let room = context.room(&state);
        let room = claim(&mut state, room);
        let mut small = FreeList::new(Size::Small);
        small.take_from(&mut state.slabs.of(Size::Small).free, wanted.min(room));
        Ok(Batch {
            context,
            small,
            room,
            requests: List::new(),
            len: 0,
            expected: Expected::nothing(),
            #[cfg(not(loom))]
            at_once: 0,
            #[cfg(not(loom))]
            in_rows: 0,
            #[cfg(not(loom))]
            for_submitter: 0,
            #[cfg(not(loom))]
            told: 0,
            #[cfg(not(loom))]
            elsewhere: false,
        })
    }

    /// A place for one more request; None if there is no room, or no memory.
    pub fn slot(&mut self, class: Size) -> Option<FreeSlot> {
        if self.len == self.room {
            return None;
        }
        if class == Size::Small
            && let Some(slot) = self.small.take()
        {
            return Some(slot);
        }
        loop {
            let mut state = self.context.state.lock();
            let slab = state.slabs.of(class);
            if let Some(slot) = slab.free.take() {
                return Some(slot);
            }
            // The allocator may make system calls: not under the lock.
            let slots = slab.growth(1);
            drop(state);
            let chunk = Chunk::new(class, slots)?;
            self.context.state.lock().slabs.of(class).add(chunk);
        }
    }

    /// One more request, for the queue.
    pub(super) fn push(&mut self, req: Req) {
        let brief = self.len == 0 && self.context.is_brief(&req);
        self.expected.add(self.context.short(&req), brief);
        req.set_stage(Stage::Accepted);
        self.requests.push(req);
        self.len += 1;
    }

    /// Gives the places back that were not used.
    fn give_back(&mut self, state: &mut State) {
        let unused = self.small.len();
        let free = &mut state.slabs.of(Size::Small).free;
        free.take_from(&mut self.small, unused);
    }

    /// Queues the requests. Returns whether who submits is then to hand them over to the kernel.
    fn hand_over(&mut self, state: &mut State, after: &mut After) -> bool {
        after.queued = true;
        let for_kernel = self.context.is_for_kernel_at_submit(state, &self.requests);
        let mut go = List::new();
        if self.context.ring.ring2().is_some() {
            state.order.admit(&mut self.requests, &mut go);
        } else {
            state.order.line_up(&mut self.requests, &mut go);
        }
        state.spread(&mut go);
        if !for_kernel && !Context::leave_to_caller(self.context, state, &self.expected, after) {
            Context::offer(self.context, state, Class::Short, after);
        }
        Context::offer(self.context, state, Class::Long, after);
        for_kernel
    }

    /// Queues what was built, as far as there still is room, and gives back what was not used.
    /// Returns the bytes of the records that were not accepted.
    pub(super) fn enqueue(&mut self) -> Result<usize> {
        let mut after = After::new();
        let mut rejected = 0;
        let mut for_kernel = false;
        let mut state = self.context.state.lock();
        self.give_back(&mut state);
        let open = state.check_open();
        let room = if open.is_ok() {
            self.context.room(&state)
        } else {
            0
        };
        while self.len > room {
            let Some(req) = self.requests.pop_last() else {
                break;
            };
            rejected += req.record_bytes();
            state.slabs.free(req);
            self.len -= 1;
        }
        if self.len != 0 {
            state.in_flight += self.len as u32;
            self.context
                .ring
                .accepted(&mut state.backlog, self.len as u64);
            for_kernel = self.hand_over(&mut state, &mut after);
        }
        drop(state);
        Context::finish_submit(self.context, &mut after);
        if for_kernel {
            Context::hand_over_submitted(self.context);
        }
        open.map(|()| rejected)
    }
}

/// A submit of io_submit(): its places in flight are reserved at the beginning, because some of its
/// requests may complete before it is over.
#[cfg(not(loom))]
impl<'a> Batch<'a> {
    pub fn reserve_up_to(context: &'a ContextRef, wanted: usize) -> Result<Batch<'a>> {
        Batch::begin_with(context, wanted, |state, room| {
            let room = room.min(wanted);
            state.in_flight += room as u32;
            room
        })
    }

    pub fn is_full(&self) -> bool {
        self.len == self.room
    }

    /// One more request, for the pool.
    pub fn queue(&mut self, req: Req) {
        self.at_once += u32::from(at_once(&req));
        if let Some(side) = req.side() {
            self.in_rows += usize::from(side.row != 0);
            self.for_submitter += usize::from(side.for_submitter);
            self.told += usize::from(side.has_eventfd());
        }
        self.push(req);
    }

    /// The lock, with room for the rows that these requests may begin, as far as there is memory. What
    /// is to be freed when the lock has been released is left in `old`.
    fn lock_with_room(&self, old: &mut Rows) -> Guard<'a, State> {
        let mut state = self.context.state.lock();
        loop {
            let (rows, room) = state.order.rows();
            if room - rows >= self.in_rows {
                return state;
            }
            drop(state);
            let mut more = Rows::new();
            let failed = more.try_reserve(rows + self.in_rows).is_err();
            *old = Rows::new();
            state = self.context.state.lock();
            if failed {
                return state;
            }
            *old = state.order.move_rows(more);
        }
    }

    /// One more request, that somebody else completes.
    pub fn count(&mut self) {
        self.len += 1;
        self.elsewhere = true;
    }

    /// Queues what was built, and gives back what was not used.
    pub fn enqueue_reserved(&mut self) {
        let mut after = After::new();
        let mut old = Rows::new();
        let mut state = self.lock_with_room(&mut old);
        self.give_back(&mut state);
        state.in_flight -= (self.room - self.len) as u32;
        state.at_once += self.at_once;
        self.note_submit(&mut state.submits);
        let for_submitter = self.is_for_submitter(&state);
        let mut for_kernel = false;
        if for_submitter {
            state.spread(&mut self.requests);
            let ns = self.expected.ns / self.len as u64 * u64::from(state.waiting());
            if ns > AT_SUBMIT_NS {
                Context::offer(self.context, &mut state, Class::Short, &mut after);
            }
            if self.len < FEW {
                // So the file's duplicate stays for the next.
                Context::list(self.context, &mut state, &mut after);
            }
        } else if !self.requests.is_empty() {
            for_kernel = self.hand_over(&mut state, &mut after);
        }
        self.context.note_end(&state, &mut after);
        drop(state);
        if self.elsewhere && after.is_nothing() {
            // Those need one of the library's threads, too.
            rank::look();
        }
        Context::finish_submit(self.context, &mut after);
        if for_submitter {
            Context::carry_out_submitted(self.context);
        } else if for_kernel {
            Context::hand_over_submitted(self.context);
        }
    }

    /// Whether the caller had better carry the requests out now than hand them over, as the kernel
    /// does: they are short reads, and it will not come and wait for events, because it is told of
    /// them, or looks for them by itself.
    fn is_for_submitter(&self, state: &State) -> bool {
        let submits = &state.submits;
        let unattended = submits.are_unattended() && state.backlog.waiters.is_empty();
        self.len != 0
            && self.for_submitter == self.len
            && (self.told == self.len || unattended)
            && self.expected.all_short
            && !submits.are_deep()
    }

    fn note_submit(&self, submits: &mut Submits) {
        let context = self.context;
        submits.note(context.in_vain.load(Relaxed), self.told != 0);
        let hints = [
            (&context.nests, submits.are_deep()),
            (&context.polled, submits.are_polled()),
        ];
        // Relaxed: hints. Nothing is written if they stay as they are: others read in that line.
        for (hint, now) in hints {
            if hint.load(Relaxed) != now {
                hint.store(now, Relaxed);
            }
        }
    }
}
