//! Which attributes a request carries, and how their returns are laid out in its event.

use crate::abi::iocb_attr_ret;

/// Numbers of attributes that there is room for; 0 is none.
pub const IDS: usize = 12;
/// The most words of payload that one attribute has, either way.
pub const PAYLOAD_WORDS_MAX: usize = 3;
/// The most words of payload that all returns of one event have.
pub const PAYLOAD_WORDS_ALL: usize = PAYLOAD_WORDS_MAX * IDS;

/// Where in the return's first word they are; the bytes are lowest.
pub const ID: u32 = 16;
pub const RET: u32 = 32;
/// A return without a payload.
pub const RET_WORDS: usize = size_of::<iocb_attr_ret>() / 8;

/// A return's first word.
pub fn return_head(words: usize, id: u16, ret: i32) -> u64 {
    (words as u64 * 8) | (u64::from(id) << ID) | (u64::from(ret as u32) << RET)
}

/// The attributes that a request carries, and that are handled: a bit for each, by number.
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

    /// The numbers of those that it carries, from the first to the last.
    pub fn rising(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.ids;
        std::iter::from_fn(move || {
            let id = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(id as usize)
        })
    }

    /// The same from the last to the first.
    pub fn falling(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.ids;
        std::iter::from_fn(move || {
            let id = left.checked_ilog2()?;
            left ^= 1 << id;
            Some(id as usize)
        })
    }
}

/// The attributes of one request, with its event, and the words that they were given.
pub struct Answers<'a> {
    pub bound: &'a Bound,
    pub event: &'a mut [u64],
    pub kept: &'a mut [u64],
    /// The time now, if it is known.
    pub now: Option<u64>,
}
