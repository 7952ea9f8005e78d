//! Attributes: what a request may ask beside its system call.
//!
//! Each is a module of its own with one type that implements [`Attribute`], and one row of
//! [`TABLE`]; CONTRIBUTING.md adds one step by step. A request remembers which it carries
//! ([`Bound`]); one without attributes tests one word.
//!
//! What an attribute was given is kept behind the event, in the order of the attributes' numbers,
//! until the request has ended.

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

/// One attribute's behaviour. Payloads are in words of 8 bytes; a return's begins as zeros.
///
/// On the way of a request `submitted` is called once; then either `skipped` alone, or `begins`,
/// perhaps `carry_out`, and `ended`; or, if an attribute stops it on the way, `skipped` after some
/// of them. After an error of its own an attribute is not asked again.
pub trait Attribute: Sync {
    /// The request is being accepted. An error becomes the return's `ret`, without a payload.
    fn submitted(&self, _submit: &Submit, _out: &mut [u64]) -> Result<(), Errno> {
        Ok(())
    }

    /// The system call is about to be made, in this thread.
    fn begins(&self, _call: &Call, _answer: &mut Answer) -> Begin {
        Begin::Goes
    }

    /// Makes the system call in a way of its own, after [`Begin::GoesMyWay`]: `make` is the plain
    /// way. With an error, which becomes the return's `ret`, it has not, and has not changed
    /// anything.
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

    /// The kernel's AIO has carried the request out, after `begins` in the thread that handed it over. Only of
    /// attributes that observe.
    fn ended_in_kernel(&self, answer: &mut Answer) {
        self.ended(answer);
    }

    /// The request completes without its system call having been made.
    fn skipped(&self, _answer: &mut Answer) {}
}

/// The attributes that are handled, by their number, with the types of their payloads: what the
/// request gives, what its event returns. They begin with the last row and end with the first:
/// TIMING measures the call and nothing else.
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

/// What an attribute needs of the way in which its request is carried out. If it only observes, it must not change
/// what happens: neither who carries the request out, nor together with which others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// It only observes, and has an answer on every way.
    Nothing,
    /// It observes what the library's own preparations would change: CACHE would find in the page cache what the
    /// device was told of beforehand, or what was just tried in vain. Or it has no answer if the kernel carries the request out, which
    /// therefore does not get the request if the attribute is required. All else is as without it.
    Untouched,
    /// It changes the request. IOPRIO is the priority of one thread for one request. DEADLINE has a moment at which
    /// the request begins, and after which it is not asked again. DRAIN and LINK act on other requests when this one
    /// has ended. So one thread makes the system call, once, and by itself.
    OwnWay,
}

/// The attributes that need no more than this.
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

/// An attribute that is handled.
pub struct Row {
    pub handler: &'static dyn Attribute,
    /// Words of payload that the request's attribute has.
    pub input: usize,
    /// Words of payload that the return has if the attribute is handled.
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

/// The attribute with that number, if it is handled.
pub fn find(id: u16) -> Option<&'static Row> {
    TABLE.get(usize::from(id))?.as_ref()
}

/// The bits of the features word that stand for the attributes handled.
pub fn features() -> u64 {
    (0..IDS)
        .filter(|&id| TABLE[id].is_some())
        .map(|id| 1 << id)
        .sum()
}

/// What an attribute may look at when its request is accepted.
pub struct Submit<'a> {
    pub call: &'a Call,
    pub input: &'a [u64],
    pub clock: &'a SubmitClock,
}

/// Whether a request goes on when it begins.
pub enum Begin {
    Goes,
    /// It goes on, and this attribute's `carry_out` makes the system call. One at most may say so.
    GoesMyWay,
    /// This attribute is not handled here, which becomes its `ret`. The request goes on without it,
    /// unless it is required.
    Without(Errno),
    /// The system call must not be made. This becomes the event's `res`.
    Never(Errno),
}

/// An attribute's place in its request.
pub struct Answer<'a> {
    /// What the request gave. It belongs to the attribute from then on.
    pub input: &'a mut [u64],
    pub out: &'a mut [u64],
    /// The time now, if it is known.
    pub now: Option<u64>,
    /// The return's first word: bytes, id, ret.
    head: &'a mut u64,
    required: bool,
}

impl Answer<'_> {
    /// It is not handled after all. The payload, for which there is room, is zeros.
    pub fn fail(&mut self, errno: Errno) {
        let ret = -(errno as i32);
        *self.head = *self.head & u64::from(u32::MAX) | u64::from(ret as u32) << RET;
        self.out.fill(0);
    }

    /// The same; an error: the request must not go on without it.
    fn do_without(&mut self, errno: Errno) -> Result<(), Errno> {
        self.fail(errno);
        if self.required { Err(errno) } else { Ok(()) }
    }
}

impl Bound {
    /// Whether the request may be tried before it is carried out, and its device be told of it.
    #[inline]
    pub fn need_nothing(&self) -> bool {
        self.ids & !NEED_NOTHING == 0
    }

    /// Whether the request may be carried out together with others.
    #[inline]
    pub fn only_observe(&self) -> bool {
        self.ids & !OBSERVE == 0
    }

    /// Whether the kernel's AIO may carry the request out. That cannot answer CACHE, which is to keep the request
    /// from being made if it is required.
    pub fn allow_kernel(&self) -> bool {
        self.only_observe() && self.required & !NEED_NOTHING == 0
    }

    /// Those that it carries, from the first to the last.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'static Row)> + use<> {
        self.rising()
            .filter_map(|id| Some((id, TABLE[id].as_ref()?)))
    }

    /// How many words of what the attributes before this one were given are kept.
    fn kept_before(&self, id: usize) -> usize {
        let before = self.rows().take_while(|&(here, _)| here < id);
        before.map(|(_, row)| row.input).sum()
    }
}

/// Where in an event the payload of this attribute's return is, in words, as long as it has not
/// failed. Searched for rather than remembered: most requests have one attribute, and it is the
/// first.
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
    /// Does something with each of these, in this order.
    fn each(
        &mut self,
        ids: impl Iterator<Item = usize>,
        mut tell: impl FnMut(usize, &dyn Attribute, &mut Answer) -> Result<(), Errno>,
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
            tell(id, row.handler, &mut answer)?;
        }
        Ok(())
    }
}

/// Carries a request with attributes out: `make` makes the system call. An error: it must not be
/// made, and the request is to be skipped. `now` is the time, if it is known.
pub fn carry_out(
    req: &mut Req,
    call: &Call,
    make: fn(&Call) -> i64,
    now: Option<u64>,
) -> Result<i64, Errno> {
    let mut answers = req.answers();
    let bound = answers.bound;
    // What one attribute does first takes time that another sees.
    answers.now = now.filter(|_| bound.ids.is_power_of_two());
    if !bound.has(IOCB_ATTR_IOPRIO) {
        carrier::settle();
    }
    let mut own_way = None;
    answers.each(bound.falling(), |id, handler, answer| {
        match handler.begins(call, answer) {
            Begin::Goes => Ok(()),
            Begin::GoesMyWay => {
                own_way = Some(id);
                Ok(())
            }
            Begin::Without(errno) => answer.do_without(errno),
            Begin::Never(errno) => Err(errno),
        }
    })?;
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
    let _ = answers.each(bound.rising(), |_, handler, answer| {
        handler.ended(answer);
        Ok(())
    });
    Ok(res)
}

/// A request, one that [allows](Bound::allow_kernel) it, is being handed over to the kernel's AIO. It may come back, and
/// then begins once more.
pub fn begin_in_kernel(req: &mut Req, call: &Call) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.falling(), |_, handler, answer| {
        handler.begins(call, answer);
        Ok(())
    });
}

/// The kernel's AIO has carried a request out.
pub fn end_in_kernel(req: &mut Req) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.rising(), |_, handler, answer| {
        handler.ended_in_kernel(answer);
        Ok(())
    });
}

/// The request completes without its system call having been made.
pub fn skip(req: &mut Req) {
    let mut answers = req.answers();
    let _ = answers.each(answers.bound.rising(), |_, handler, answer| {
        handler.skipped(answer);
        Ok(())
    });
}

/// The time of a submit: read once, and only if a request asks.
pub struct SubmitClock {
    ns: OnceCell<u64>,
    alone: bool,
}

impl SubmitClock {
    pub fn new() -> Self {
        SubmitClock {
            ns: OnceCell::new(),
            alone: false,
        }
    }

    /// Of io_issue2(): there is no queue, and so no request before this one or after it.
    pub fn alone() -> Self {
        SubmitClock {
            alone: true,
            ..SubmitClock::new()
        }
    }

    /// Whether the request is carried out at once, by its caller.
    pub fn is_alone(&self) -> bool {
        self.alone
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

    /// Which attributes leave their request as it is: it may be tried and announced, carried out together with
    /// others, and by the kernel's AIO; the last also if it is required.
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
                Begin::Goes
            ));
            row.handler.ended_in_kernel(&mut answer);
            assert_eq!(head >> RET, 0);
        }
    }
}
