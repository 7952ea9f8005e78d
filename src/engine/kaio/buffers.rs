//! The buffers of requests for a ring. The reaper submits these requests. It would wait for a buffer that is not in memory: one that is
//! swapped out, belongs to a file, or must be supplied by the program (userfaultfd(2)). All other requests would wait with it.

use super::direction;
use crate::policy::batch::Direction;
use crate::request::Req;
use crate::ring::page_bytes;
use crate::sys::for_vectors;
use crate::sys::paging::{PAGES, are_there, bring_in};
use arrayvec::ArrayVec;
use std::ops::Range;

/// Calls `look` with the pages of each buffer. If the vectors of a request cannot be read, the kernel cannot read them either.
fn for_buffers(batch: &[Req], mut look: impl FnMut(Range<u64>)) {
    let page = page_bytes() as u64;
    let mut look = |at: u64, bytes: u64| {
        let end = at.saturating_add(bytes).checked_next_multiple_of(page);
        look(at & !(page - 1)..end.unwrap_or(0));
    };
    for req in batch {
        let [_, at, count, ..] = req.call().args;
        match req.call().plain_bytes() {
            Some(bytes) => look(at, bytes),
            None => drop(for_vectors(at, count, &mut look)),
        }
    }
}

/// Whether all of these are plain reads and writes whose buffers are in memory. The answer may be no although it should be yes.
fn has_all(batch: &[Req]) -> bool {
    // Reading vectors may wait for their memory.
    if !batch.iter().all(|req| req.call().plain_bytes().is_some()) {
        return false;
    }
    let mut pages = ArrayVec::<u64, PAGES>::new();
    let mut has_room = true;
    for_buffers(batch, |buffer| {
        let mut buffer = buffer.step_by(page_bytes());
        has_room &= buffer.all(|page| pages.try_push(page).is_ok());
    });
    has_room && are_there(&pages)
}

/// Brings the buffers of these requests, which all go in one direction, into memory, so that no other thread waits for them. It may wait
/// itself, unless `nowait`. False: it would have to wait. If a buffer cannot be obtained at all, the request fails at once when it is
/// submitted.
pub fn prepare_buffers(batch: &[Req], nowait: bool) -> bool {
    if has_all(batch) {
        return true;
    }
    let is_written = batch
        .first()
        .is_some_and(|req| direction(req.call()) == Direction::Read);
    if !nowait {
        for_buffers(batch, |buffer| {
            if !buffer.is_empty() {
                bring_in(buffer, is_written);
            }
        });
    }
    !nowait
}
