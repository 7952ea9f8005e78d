//! The attributes of a request, and the layout of their returns in its event.

use crate::abi::iocb_attr_ret;

/// The limit of attribute numbers; 0 is not an attribute.
pub const IDS: usize = 12;
/// The most words of payload of one attribute, in either direction.
pub const PAYLOAD_WORDS_MAX: usize = 3;
/// The most words of payload in all returns of one event.
pub const PAYLOAD_WORDS_ALL: usize = PAYLOAD_WORDS_MAX * IDS;

/// Shifts of the fields in a return's first word; its size in bytes is in the lowest bits.
pub const ID: u32 = 16;
pub const RET: u32 = 32;
/// A return without a payload.
pub const RET_WORDS: usize = size_of::<iocb_attr_ret>() / 8;

/// A return's first word.
pub fn return_head(words: usize, id: u16, ret: i32) -> u64 {
    (words as u64 * 8) | (u64::from(id) << ID) | (u64::from(ret as u32) << RET)
}

/// The handled attributes of a request: bit n stands for attribute number n.
#[derive(Clone, Copy)]
pub struct Bound {
    pub ids: u16,
    pub required: u16,
}

impl Bound {
    pub const NONE: Bound = Bound {
        ids: 0,
        required: 0,
    };

    #[inline]
    pub fn is_none(&self) -> bool {
        self.ids == 0
    }

    pub fn has(&self, id: u16) -> bool {
        self.ids & 1 << id != 0
    }

    pub fn bind(&mut self, id: u16, required: bool) {
        self.ids |= 1 << id;
        self.required |= u16::from(required) << id;
    }

    /// The numbers of its attributes, ascending.
    pub fn rising(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.ids;
        std::iter::from_fn(move || {
            let id = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(id as usize)
        })
    }

    /// The numbers of its attributes, descending.
    pub fn falling(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.ids;
        std::iter::from_fn(move || {
            let id = left.checked_ilog2()?;
            left ^= 1 << id;
            Some(id as usize)
        })
    }
}

/// The attributes of one request, its event, and their input.
pub struct Answers<'a> {
    pub bound: &'a Bound,
    pub event: &'a mut [u64],
    pub kept: &'a mut [u64],
    /// The time now, if it is known.
    pub now: Option<u64>,
}
