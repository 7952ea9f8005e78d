//! Reading the attributes of a record.

use super::{Submit, SubmitClock, find};
use crate::abi::{IOCB_ATTR_F_REQUIRED, iocb_attr};
use crate::request::{
    Attrs, IDS, Malformed, PAYLOAD_WORDS_MAX, RET_WORDS, ReadAttrs, Scratch, return_head,
};
use crate::syscall::Call;
use libc::{EINVAL, EOPNOTSUPP};
use std::mem::{MaybeUninit, size_of};
use std::ptr;

impl ReadAttrs for SubmitClock {
    unsafe fn read(
        &self,
        mut src: *const u8,
        mut left: usize,
        call: &Call,
        scratch: &mut Scratch,
    ) -> Result<Attrs, Malformed> {
        const HEAD: usize = size_of::<iocb_attr>();
        let mut attrs = Attrs::NONE;
        let mut kept: Kept = [[MaybeUninit::uninit(); PAYLOAD_WORDS_MAX]; IDS];
        while left != 0 {
            if left < HEAD {
                return Err(Malformed);
            }
            // SAFETY: HEAD readable bytes, aligned to 8, because every size so far was a multiple of 8.
            let attr = unsafe { ptr::read_volatile(src.cast::<iocb_attr>()) };
            let bytes = usize::from(attr.bytes);
            if bytes < HEAD || bytes % 8 != 0 || bytes > left {
                return Err(Malformed);
            }
            let out = &mut scratch.0[attrs.event_words..];
            let known = find(attr.id);
            let mut ret = match known {
                None => -EOPNOTSUPP,
                Some(row)
                    if bytes - HEAD != row.input * 8
                        || attr.flags & !IOCB_ATTR_F_REQUIRED != 0
                        || attrs.bound.has(attr.id) =>
                {
                    -EINVAL
                }
                Some(_) => 0,
            };
            let mut words = RET_WORDS;
            if let (0, Some(row)) = (ret, known) {
                let input = zeros(&mut kept[usize::from(attr.id)], row.input);
                for (i, word) in input.iter_mut().enumerate() {
                    // SAFETY: the payload is within the attribute's bytes, which are within `left`.
                    *word = unsafe { ptr::read_volatile(src.add(HEAD).cast::<u64>().add(i)) };
                }
                let room = out[words..].first_chunk_mut();
                let payload = zeros(room.expect("scratch space for every payload"), row.output);
                let submit = Submit {
                    call,
                    input,
                    clock: self,
                };
                match row.handler.submitted(&submit, payload) {
                    Ok(()) => {
                        let required = attr.flags & IOCB_ATTR_F_REQUIRED != 0;
                        attrs.bound.bind(attr.id, required);
                        words += row.output;
                    }
                    Err(errno) => ret = -(errno as i32),
                }
            }
            out[0].write(return_head(words, attr.id, ret));
            out[1].write(attr.cookie);
            if ret != 0 && attr.flags & IOCB_ATTR_F_REQUIRED != 0 && attrs.refused == 0 {
                attrs.refused = ret;
            }
            attrs.event_words += words;
            // SAFETY: `bytes` are within `left`.
            src = unsafe { src.add(bytes) };
            left -= bytes;
        }
        for (id, row) in attrs.bound.rows() {
            let to = &mut scratch.0[attrs.event_words + attrs.kept_words..];
            to[..row.input].copy_from_slice(&kept[id][..row.input]);
            attrs.kept_words += row.input;
        }
        Ok(attrs)
    }
}

/// The input of one record's attributes, by number.
type Kept = [[MaybeUninit<u64>; PAYLOAD_WORDS_MAX]; IDS];

/// Sets all words to zero, and returns the first `len`. Clearing all takes two instructions; clearing `len` would call
/// memset().
fn zeros(words: &mut [MaybeUninit<u64>; PAYLOAD_WORDS_MAX], len: usize) -> &mut [u64] {
    *words = [MaybeUninit::new(0); PAYLOAD_WORDS_MAX];
    // SAFETY: all words are initialised; MaybeUninit<u64> has the layout of u64.
    unsafe { &mut *(ptr::from_mut(&mut words[..len]) as *mut [u64]) }
}
