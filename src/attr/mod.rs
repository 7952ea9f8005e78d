//! Attributes: what a request may ask beside its system call.
//!
//! Each is a module of its own with one type that implements [`Attribute`], and one row of
//! [`TABLE`]. A request remembers, for each attribute that it carries, where in its event the
//! return's payload is ([`Bound`]); a request without attributes tests one word.

mod timing;

use crate::abi::IOCB_ATTR_TIMING;
use crate::request::Req;
use nix::errno::Errno;
use std::cell::OnceCell;

/// One attribute's behaviour. Payloads are in words of 8 bytes.
pub trait Attribute: Sync {
    /// Words of payload that the request's attribute has.
    fn payload_in(&self) -> usize;
    /// Words of payload that the return has if the attribute is handled.
    fn payload_out(&self) -> usize;
    /// The request is being accepted. An error becomes the return's `ret`.
    fn submitted(&self, input: &[u64], out: &mut [u64], clock: &SubmitClock) -> Result<(), Errno>;
    /// The system call is about to be made.
    fn begins(&self, out: &mut [u64]);
    /// The system call has returned.
    fn ended(&self, out: &mut [u64]);
    /// The request completes without its system call having been made.
    fn skipped(&self, out: &mut [u64]);
}

/// The attributes that are handled, by their number.
static TABLE: [Option<&dyn Attribute>; IDS] = {
    let mut table: [Option<&dyn Attribute>; IDS] = [None; IDS];
    table[IOCB_ATTR_TIMING as usize] = Some(&timing::Timing);
    table
};

const IDS: usize = 8;
/// The most words of payload that one attribute has.
pub const PAYLOAD_WORDS_MAX: usize = 3;
/// The most words of payload that all returns of one event have.
pub const PAYLOAD_WORDS_ALL: usize = PAYLOAD_WORDS_MAX * IDS;

/// The attribute with that number, if it is handled.
pub fn find(id: u16) -> Option<&'static dyn Attribute> {
    TABLE.get(usize::from(id)).copied().flatten()
}

/// The bits of the features word that stand for the attributes handled.
pub fn features() -> u64 {
    (0..IDS)
        .filter(|&id| TABLE[id].is_some())
        .map(|id| 1 << id)
        .sum()
}

/// The attributes that a request carries: for each, the place of its return's payload in the
/// event, in words; 0 for those it does not carry.
#[derive(Clone, Copy)]
pub struct Bound([u16; IDS]);

impl Bound {
    pub const NONE: Bound = Bound([0; IDS]);

    pub fn has(&self, id: u16) -> bool {
        self.0[usize::from(id)] != 0
    }

    pub fn bind(&mut self, id: u16, payload_at: usize) {
        self.0[usize::from(id)] = payload_at as u16;
    }

    fn is_none(&self) -> bool {
        u128::from_ne_bytes(bytes_of(self.0)) == 0
    }
}

fn bytes_of(words: [u16; IDS]) -> [u8; 2 * IDS] {
    // SAFETY: plain numbers of the same size.
    unsafe { std::mem::transmute(words) }
}

/// Where a request is on its way.
#[derive(Clone, Copy)]
pub enum Step {
    Begins,
    Ended,
    Skipped,
}

/// Tells every attribute of the request.
pub fn tell(req: &mut Req, step: Step) {
    let bound = req.bound();
    if bound.is_none() {
        return;
    }
    for (id, &at) in bound.0.iter().enumerate() {
        let (true, Some(handler)) = (at != 0, TABLE[id]) else {
            continue;
        };
        let out = &mut req.event_mut()[usize::from(at)..][..handler.payload_out()];
        match step {
            Step::Begins => handler.begins(out),
            Step::Ended => handler.ended(out),
            Step::Skipped => handler.skipped(out),
        }
    }
}

/// The time of a submit: read once, and only if a request asks.
pub struct SubmitClock(OnceCell<u64>);

impl SubmitClock {
    pub fn new() -> Self {
        SubmitClock(OnceCell::new())
    }

    pub fn ns(&self) -> u64 {
        *self.0.get_or_init(crate::sys::monotonic_ns)
    }
}
