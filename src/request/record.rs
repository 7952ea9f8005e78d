//! Turning a caller's record into a request.

use super::{Bound, EVENT_WORDS, EVENT_WORDS_MAX, FreeSlot, Head, RES_WORD, Req, SizeClass};
use crate::abi::{IOCB2_ATTR_BYTES_MAX, iocb2};
use crate::syscall::Call;
use std::mem::{MaybeUninit, size_of};
use std::ptr;

/// The record is malformed, so the records after it cannot be read either.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Room to lay out an event before its slot is known.
pub struct Scratch(pub [MaybeUninit<u64>; EVENT_WORDS_MAX]);

impl Scratch {
    pub fn new() -> Self {
        Scratch([MaybeUninit::uninit(); EVENT_WORDS_MAX])
    }
}

/// A checked copy of the caller's record. Its attribute returns are in the scratch space.
pub struct Record {
    pub bytes: usize,
    data: u64,
    call: Call,
    attrs: Attrs,
}

/// The result of reading a record's attributes.
pub struct Attrs {
    pub refused: i32,
    pub event_words: usize,
    /// Words behind the event: the input of the attributes.
    pub kept_words: usize,
    pub bound: Bound,
}

/// Reads the attributes of a record, and knows their meaning.
pub trait ReadAttrs {
    /// Writes their returns to the scratch space, behind the event, and their input behind the returns.
    ///
    /// # Safety
    /// As for [`Record::read`], for the `left` bytes of attributes at `src`.
    unsafe fn read(
        &self,
        src: *const u8,
        left: usize,
        call: &Call,
        scratch: &mut Scratch,
    ) -> Result<Attrs, Malformed>;
}

impl Record {
    /// Reads the record at `src`, of which `avail` bytes are readable.
    ///
    /// Each field is read once, because the caller's memory may change meanwhile: the library must use the value that
    /// it checked.
    ///
    /// # Safety
    /// `src` is aligned to 8, and `avail` bytes from it on are readable.
    #[inline(always)]
    pub unsafe fn read(
        src: *const u8,
        avail: usize,
        reader: &impl ReadAttrs,
        scratch: &mut Scratch,
    ) -> Result<Record, Malformed> {
        if avail < size_of::<iocb2>() {
            return Err(Malformed);
        }
        // SAFETY: 64 readable, aligned bytes. Volatile, so that each field is read once.
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
                reader.read(attrs, attr_bytes, &record.call, scratch)?
            };
        }
        Ok(record)
    }

    pub fn class(&self) -> SizeClass {
        SizeClass::of(self.attrs.event_words + self.attrs.kept_words)
    }

    pub fn event_bytes(&self) -> usize {
        self.attrs.event_words * 8
    }

    /// Builds the request in a slot of its class.
    #[inline(always)]
    pub fn build(&self, slot: FreeSlot, scratch: &Scratch) -> Req {
        assert!(slot.class == self.class());
        let head = Head {
            record_bytes: self.bytes as u32,
            ..Head::new(slot.class, self.data, self.call, &self.attrs)
        };
        let req = Req(slot.at);
        let words = self.attrs.event_words + self.attrs.kept_words;
        // SAFETY: the slot is free, so nobody else accesses it. Its class is the record's (asserted), so it has room
        // for the head, the event and the kept input. `Attrs::read` wrote the scratch space from the event's end to
        // `words`.
        unsafe {
            slot.at.as_ptr().write(head);
            let event = req.event_ptr();
            event.write(self.event_bytes() as u64); // flags: 0
            event.add(1).write(self.data);
            event.add(RES_WORD).write(0);
            let returns = scratch.0[EVENT_WORDS..].as_ptr().cast::<u64>();
            ptr::copy_nonoverlapping(returns, event.add(EVENT_WORDS), words - EVENT_WORDS);
        }
        req
    }
}

impl Attrs {
    pub const NONE: Attrs = Attrs {
        refused: 0,
        event_words: EVENT_WORDS,
        kept_words: 0,
        bound: Bound::NONE,
    };
}
