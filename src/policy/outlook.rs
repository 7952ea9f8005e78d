//! The outlook of one request, from its call and from its file's profile.

#![cfg_attr(loom, allow(dead_code))]

use super::profile::{Kind, View};
use super::tuning::Tuning;

/// The known facts about a request.
#[derive(Clone, Copy, Debug)]
pub enum Outlook {
    /// It is a no-op.
    Nop,
    /// It is a read or write at an offset, or a sync. If its descriptor is a file's, it ends by itself.
    File(View),
    /// It is something else, or there is no request. It may wait for ever.
    Other,
}

impl Outlook {
    #[inline]
    fn file_is(&self, property: impl FnOnce(&View) -> bool) -> bool {
        match self {
            Outlook::File(view) => property(view),
            _ => false,
        }
    }

    /// Whether it is known to be fast: a caller can carry it out as well as a worker.
    #[inline]
    pub fn is_fast(&self, t: &Tuning) -> bool {
        match self {
            Outlook::Nop => true,
            Outlook::File(view) => view.is_fast(t),
            Outlook::Other => false,
        }
    }

    /// Whether it may wait, but requests like it have lately all ended soon.
    #[inline]
    pub fn is_bounded(&self, t: &Tuning) -> bool {
        self.file_is(|view| view.is_bounded(t))
    }

    /// See [`View::fits_in_time`].
    #[inline]
    pub fn fits_in_time(&self) -> bool {
        !self.file_is(|view| !view.fits_in_time())
    }

    /// Whether it is a read that may go through the page cache.
    #[inline]
    pub fn may_be_cached(&self) -> bool {
        self.file_is(|view| view.kind == Kind::Read && !view.is_direct())
    }

    /// Whether it is serial. A write to a regular file is serial if it does not wait for a device: a second one beside it would wait for
    /// the file's lock, and use a second processor for nothing. A request that takes less time than its hand-over is serial, too.
    #[inline]
    pub fn is_serial(&self, t: &Tuning) -> bool {
        self.file_is(|view| view.is_serial(t))
    }

    /// Whether its file was open with O_DIRECT, and all requests for the file have waited lately.
    #[inline]
    pub fn is_device_bound(&self, t: &Tuning) -> bool {
        self.file_is(|view| view.kind != Kind::Sync && view.is_device_bound(true, t))
    }

    /// Whether it is a read through the page cache, and all reads of the file have waited lately.
    #[inline]
    pub fn is_device_bound_buffered(&self, t: &Tuning) -> bool {
        self.file_is(|view| view.kind == Kind::Read && view.is_device_bound(false, t))
    }

    /// Whether it is a write to a file that was found to be regular.
    #[inline]
    pub fn is_regular_write(&self) -> bool {
        self.file_is(View::is_regular_write)
    }

    /// Whether it writes, and so may raise a signal in the thread that carries it out.
    #[inline]
    pub fn writes(&self) -> bool {
        self.file_is(|view| view.kind == Kind::Write)
    }

    /// Whether a submitter may carry it out: it is known to be fast, or it is a read that can be tried without waiting and such attempts are
    /// not known to fail.
    #[inline]
    pub fn may_run_at_submit(&self, t: &Tuning) -> bool {
        self.is_fast(t) || self.may_be_cached() && !self.is_device_bound_buffered(t)
    }
}
