//! Attributes: additional services that a request can ask for besides its system call.
//!
//! Each attribute is a module with one type that implements [`Attribute`], and one row of [`TABLE`]; CONTRIBUTING.md
//! adds one step by step. A request stores which attributes it has ([`Bound`]); a request without attributes tests one
//! word.
//!
//! The input of the attributes is kept behind the event, in the order of their numbers, until the request has ended.

mod cache;
mod deadline;
mod ioprio;
mod order;
mod read;
pub mod route;
pub mod timing;
mod worker;

use crate::abi::{
    IOCB_ATTR_CACHE, IOCB_ATTR_DEADLINE, IOCB_ATTR_DRAIN, IOCB_ATTR_IOPRIO, IOCB_ATTR_LINK,
    IOCB_ATTR_ROUTE, IOCB_ATTR_TIMING, IOCB_ATTR_WORKER, iocb_cache, iocb_deadline, iocb_ioprio,
    iocb_route, iocb_timing, iocb_worker,
};
use crate::request::{
    Answers, Bound, EVENT_WORDS, ID, IDS, PAYLOAD_WORDS_MAX, RET, RET_WORDS, Req,
};
use crate::syscall::{Call, carrier};
use nix::errno::Errno;
use std::cell::OnceCell;

/// The behaviour of one attribute. Payloads are words of 8 bytes; a return's payload starts as zeros.
///
/// For each request, `submitted` is called once. Then either only `skipped` is called, or `begins`, perhaps
/// `carry_out`, and `ended`. If an attribute stops the request on the way, `skipped` is called after some of them.
/// After its own error, an attribute is not called again.
pub trait Attribute: Sync {
    /// The request is being accepted. An error becomes the return's `ret`, without a payload.
    fn submitted(&self, _submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        Ok(())
    }

    /// The system call is about to be made, in this thread.
    fn begins(&self, _call: &Call, _answer: &mut Answer) -> Begin {
        Begin::Continue
    }

    /// Makes the system call in its own way, after [`Begin::Override`]; `make` is the plain way. On an error, which
    /// becomes the return's `ret`, it has neither made the call nor changed anything.
    fn carry_out(
        &self,
        call: &Call,
        _answer: &mut Answer,
        make: fn(&Call) -> i64,
    ) -> Result<i64, Errno> {
        Ok(make(call))
    }

    /// The system call has returned.
    fn ended(&self, _answer: &mut Answer) {}

    /// The kernel's AIO has executed the request. `begins` was called in the thread that handed it over. Only for
    /// attributes that observe.
    fn ended_in_kernel(&self, answer: &mut Answer) {
        self.ended(answer);
    }

    /// The request completes without its system call.
    fn skipped(&self, _answer: &mut Answer) {}
}

/// The handled attributes, by number, with their payload types: the request's input, and the event's output. They begin
/// with the last row and end with the first, so TIMING measures only the call.
static TABLE: [Option<Row>; IDS] = ROWS;
const ROWS: [Option<Row>; IDS] = {
    use Needs::{Nothing, OwnWay, Untouched};
    let mut table = [const { None }; IDS];
    table[IOCB_ATTR_TIMING as usize] = row::<(), iocb_timing>(&timing::Timing, Nothing);
    table[IOCB_ATTR_CACHE as usize] = row::<(), iocb_cache>(&cache::Cache, Untouched);
    table[IOCB_ATTR_IOPRIO as usize] = row::<iocb_ioprio, ()>(&ioprio::Ioprio, OwnWay);
    table[IOCB_ATTR_DEADLINE as usize] = row::<iocb_deadline, ()>(&deadline::Deadline, OwnWay);
    table[IOCB_ATTR_DRAIN as usize] = row::<(), ()>(&order::InOrder, OwnWay);
    table[IOCB_ATTR_LINK as usize] = row::<(), ()>(&order::InOrder, OwnWay);
    table[IOCB_ATTR_WORKER as usize] = row::<(), iocb_worker>(&worker::Worker, Nothing);
    table[IOCB_ATTR_ROUTE as usize] = row::<(), iocb_route>(&route::Route, Nothing);
    table
};

/// What an attribute requires of the execution of its request. An attribute that only observes must change neither the thread that executes
/// the request, nor the set of requests that are executed with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// It only observes, and has an answer on any route.
    Nothing,
    /// It observes something that the library's preparations would change: CACHE would find data in the page cache that
    /// was announced to the device, or just tried without waiting. Or it has no answer if the kernel's AIO executes the
    /// request: the kernel's AIO does not get the request if the attribute is required. Nothing else differs.
    Untouched,
    /// It changes the request. IOPRIO is a thread's priority for one request. DEADLINE is checked once, when the
    /// request begins. DRAIN and LINK act on other requests when this one has ended. So one thread makes the system
    /// call, once and for this request only.
    OwnWay,
}

/// The attributes that require no more than this.
const fn that_need(most: Needs) -> u16 {
    let (mut ids, mut id) = (0, 0);
    while id < IDS {
        if let Some(row) = &ROWS[id]
            && row.needs as u8 <= most as u8
        {
            ids |= 1 << id;
        }
        id += 1;
    }
    ids
}

const NEED_NOTHING: u16 = that_need(Needs::Nothing);
const OBSERVE: u16 = that_need(Needs::Untouched);

/// A handled attribute.
pub struct Row {
    pub handler: &'static dyn Attribute,
    /// Words of payload in the request's attribute.
    pub input: usize,
    /// Words of payload in the return, if the attribute is handled.
    pub output: usize,
    needs: Needs,
}

const fn row<In, Out>(handler: &'static dyn Attribute, needs: Needs) -> Option<Row> {
    const {
        assert!(size_of::<In>() % 8 == 0 && size_of::<In>() / 8 <= PAYLOAD_WORDS_MAX);
        assert!(size_of::<Out>() % 8 == 0 && size_of::<Out>() / 8 <= PAYLOAD_WORDS_MAX);
    }
    Some(Row {
        handler,
        input: size_of::<In>() / 8,
        output: size_of::<Out>() / 8,
        needs,
    })
}

/// The attribute with this number, if it is handled.
pub fn find(id: u16) -> Option<&'static Row> {
    TABLE.get(usize::from(id))?.as_ref()
}

/// The bits of the handled attributes in the features word.
pub fn features() -> u64 {
    (0..IDS)
        .filter(|&id| TABLE[id].is_some())
        .map(|id| 1 << id)
        .sum()
}

/// The data that an attribute can use when its request is accepted.
pub struct Submit<'a> {
    pub call: &'a Call,
    pub input: &'a [u64],
    pub clock: &'a SubmitClock,
}

/// Whether a request continues when it begins.
pub enum Begin {
    Continue,
    /// It continues, and this attribute's `carry_out` makes the system call. At most one attribute may return this.
    Override,
    /// The attribute is not handled for this request, and the errno becomes its `ret`. The request continues without
    /// it, unless the attribute is required.
    Without(Errno),
    /// The system call must not be made. The errno becomes the event's `res`.
    Never(Errno),
}

/// An attribute's data in its request.
pub struct Answer<'a> {
    /// The request's input, which the attribute may change.
    pub input: &'a mut [u64],
    pub out: &'a mut [u64],
    /// The time now, if it is known.
    pub now: Option<u64>,
    /// The return's first word: size, id, ret.
    head: &'a mut u64,
    required: bool,
}

impl Answer<'_> {
    /// The attribute was not handled. The payload, for which there is room, becomes zeros.
    pub fn fail(&mut self, errno: Errno) {
        let ret = -(errno as i32);
        *self.head = *self.head & u64::from(u32::MAX) | u64::from(ret as u32) << RET;
        self.out.fill(0);
    }

    /// As `fail`. An error: the request must not continue without the attribute.
    fn do_without(&mut self, errno: Errno) -> Result<(), Errno> {
        self.fail(errno);
        if self.required { Err(errno) } else { Ok(()) }
    }
}

impl Bound {
    /// Whether the request may be tried without waiting, and announced to its device.
    #[inline]
    pub fn need_nothing(&self) -> bool {
        self.ids & !NEED_NOTHING == 0
    }

    /// Whether the request may be executed together with others.
    #[inline]
    pub fn only_observe(&self) -> bool {
        self.ids & !OBSERVE == 0
    }

    /// Whether the kernel's AIO may execute the request. It cannot answer CACHE, so it must not if CACHE is required.
    pub fn allow_kernel(&self) -> bool {
        self.only_observe() && self.required & !NEED_NOTHING == 0
    }

    /// Whether the request may begin in one thread and be made in another. IOPRIO is one thread's; CACHE makes the call in its
    /// own way.
    pub fn may_wait_in_epoll(&self) -> bool {
        !self.has(IOCB_ATTR_IOPRIO) && !self.has(IOCB_ATTR_CACHE)
    }

    /// Its attributes, by ascending number.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'static Row)> + use<> {
        self.rising()
            .filter_map(|id| Some((id, TABLE[id].as_ref()?)))
    }

    /// How many words of input are kept for the attributes before this one.
    fn kept_before(&self, id: usize) -> usize {
        let before = self.rows().take_while(|&(here, _)| here < id);
        before.map(|(_, row)| row.input).sum()
    }
}

/// The index of this attribute's payload in an event; None if the attribute failed. Searched and not stored, because
/// most requests have one attribute, which is found first.
fn payload_at(event: &[u64], id: u16) -> Option<usize> {
    let mut at = EVENT_WORDS;
    loop {
        let head = *event.get(at)?;
        if head >> RET == 0 && (head >> ID) as u16 == id {
            return Some(at + RET_WORDS);
        }
        at += usize::from(head as u16) / 8;
    }
}

impl Answers<'_> {
    /// Calls `visit` for each of these attributes, in this order.
    fn each(
        &mut self,
        ids: impl Iterator<Item = usize>,
        mut visit: impl FnMut(usize, &dyn Attribute, &mut Answer) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        for id in ids {
            let Some(row) = &TABLE[id] else { continue };
            let Some(at) = payload_at(self.event, id as u16) else {
                continue;
            };
            let (before, out) = self.event.split_at_mut(at);
            let kept_at = match row.input {
                0 => 0,
                _ => self.bound.kept_before(id),
            };
            let mut answer = Answer {
                input: &mut self.kept[kept_at..][..row.input],
                out: &mut out[..row.output],
                now: self.now,
                head: &mut before[at - RET_WORDS],
                required: self.bound.required & 1 << id != 0,
            };
            visit(id, row.handler, &mut answer)?;
        }
        Ok(())
    }
}

/// Executes a request with attributes; `make` makes the system call. On an error, the call must not be made and the
/// request is skipped. `now` is the time, if it is known.
pub fn carry_out(
    req: &mut Req,
    call: &Call,
    make: fn(&Call) -> i64,
    now: Option<u64>,
) -> Result<i64, Errno> {
    let mut answers = req.answers();
    let bound = answers.bound;
    // With several attributes, the work of one takes time that another must see.
    answers.now = now.filter(|_| bound.ids.is_power_of_two());
    if !bound.has(IOCB_ATTR_IOPRIO) {
        carrier::settle();
    }
    let own_way = begin_all(&mut answers, call)?;
    let mut made = None;
    answers.each(own_way.into_iter(), |_, handler, answer| {
        match handler.carry_out(call, answer, make) {
            Ok(res) => {
                made = Some(res);
                Ok(())
            }
            Err(errno) => answer.do_without(errno),
        }
    })?;
    let res = made.unwrap_or_else(|| make(call));
    end_all(&mut answers);
    Ok(res)
}

/// Returns which one makes the system call in a way of its own.
fn begin_all(answers: &mut Answers, call: &Call) -> Result<Option<usize>, Errno> {
    let mut own_way = None;
    answers.each(
        answers.bound.falling(),
        |id, handler, answer| match handler.begins(call, answer) {
            Begin::Continue => Ok(()),
            Begin::Override => {
                own_way = Some(id);
                Ok(())
            }
            Begin::Without(errno) => answer.do_without(errno),
            Begin::Never(errno) => Err(errno),
        },
    )?;
    Ok(own_way)
}

fn end_all(answers: &mut Answers) {
    let _ = answers.each(answers.bound.rising(), |_, handler, answer| {
        handler.ended(answer);
        Ok(())
    });
}

/// A request that [may wait in the epoll](Bound::may_wait_in_epoll) begins. An error: it must not be made, and the caller skips it.
pub fn begin(req: &mut Req, call: &Call) -> Result<(), Errno> {
    begin_all(&mut req.answers(), call).map(drop)
}

/// It goes on in this thread, which need not be the one in which it began.
pub fn resume(req: &mut Req, call: &Call) {
    let mut answers = req.answers();
    let worker = answers.bound.has(IOCB_ATTR_WORKER);
    let id = worker.then_some(usize::from(IOCB_ATTR_WORKER));
    let _ = answers.each(id.into_iter(), |_, handler, answer| {
        handler.begins(call, answer);
        Ok(())
    });
}

/// It has ended.
pub fn end(req: &mut Req) {
    end_all(&mut req.answers());
}

/// A request that [allows](Bound::allow_kernel) it is being handed over to the kernel's AIO. If the kernel returns it,
/// it begins again.
pub fn begin_in_kernel(req: &mut Req, call: &Call) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.falling(), |_, handler, answer| {
        // Such attributes let every request begin, and are not required if they may have no answer.
        if let Begin::Without(errno) = handler.begins(call, answer) {
            answer.fail(errno);
        }
        Ok(())
    });
}

/// The kernel's AIO has executed a request.
pub fn end_in_kernel(req: &mut Req) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.rising(), |_, handler, answer| {
        handler.ended_in_kernel(answer);
        Ok(())
    });
}

/// The request completes without its system call.
pub fn skip(req: &mut Req) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.rising(), |_, handler, answer| {
        handler.skipped(answer);
        Ok(())
    });
}

/// The time of a submit, read once and only if a request needs it.
pub struct SubmitClock {
    ns: OnceCell<u64>,
    has_no_queue: bool,
}

impl SubmitClock {
    pub fn new() -> Self {
        SubmitClock {
            ns: OnceCell::new(),
            has_no_queue: false,
        }
    }

    /// For io_issue2(): there is no queue, so no other requests are ordered before or after this one.
    pub fn without_queue() -> Self {
        SubmitClock {
            has_no_queue: true,
            ..SubmitClock::new()
        }
    }

    /// Whether the caller executes the request at once.
    pub fn has_no_queue(&self) -> bool {
        self.has_no_queue
    }

    /// The time, if it has been read.
    pub fn if_read(&self) -> Option<u64> {
        self.ns.get().copied()
    }

    pub fn ns(&self) -> u64 {
        *self.ns.get_or_init(crate::sys::monotonic_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Which attributes leave their request unchanged. The columns: it may be tried and announced; executed together
    /// with others; executed by the kernel's AIO; and so even if the attribute is required.
    #[test]
    fn what_observes_changes_nothing() {
        for (id, expected) in [
            (IOCB_ATTR_TIMING, [true, true, true, true]),
            (IOCB_ATTR_CACHE, [false, true, true, false]),
            (IOCB_ATTR_IOPRIO, [false; 4]),
            (IOCB_ATTR_DEADLINE, [false; 4]),
            (IOCB_ATTR_DRAIN, [false; 4]),
            (IOCB_ATTR_LINK, [false; 4]),
            (IOCB_ATTR_WORKER, [true, true, true, true]),
            (IOCB_ATTR_ROUTE, [true, true, true, true]),
        ] {
            let bound = |required| {
                let mut bound = Bound::NONE;
                bound.bind(IOCB_ATTR_TIMING, true);
                bound.bind(id, required);
                bound
            };
            let one = bound(false);
            let found = [
                one.need_nothing(),
                one.only_observe(),
                one.allow_kernel(),
                bound(true).allow_kernel(),
            ];
            assert_eq!(found, expected, "{id}");
        }
        assert!(Bound::NONE.need_nothing() && Bound::NONE.allow_kernel());
    }

    /// The kernel's AIO may get a request for which such an attribute is required: the attribute must have an answer then.
    #[test]
    fn what_needs_nothing_answers_for_the_kernel() {
        let call = Call::new(crate::abi::IOCB2_NOP, [0; 6]);
        let observers = ROWS.iter().flatten();
        for row in observers.filter(|row| row.needs == Needs::Nothing) {
            let (mut out, mut head) = ([0; PAYLOAD_WORDS_MAX], 0);
            let mut answer = Answer {
                input: &mut [0; PAYLOAD_WORDS_MAX][..row.input],
                out: &mut out[..row.output],
                now: None,
                head: &mut head,
                required: true,
            };
            assert!(matches!(
                row.handler.begins(&call, &mut answer),
                Begin::Continue
            ));
            row.handler.ended_in_kernel(&mut answer);
            assert_eq!(head >> RET, 0);
        }
    }
}
