//! libaio's interface: programs written for it, or for the kernel's AIO, on this library's core.
//!
//! A context of this kind differs from one of io_setup2() in what its events look like and where
//! they go ([`ring`]), in how its requests come to be ([`submit`]), and in whom they belong to:
//! their files are the ones that their descriptors named at submit ([`files`]). Queue, workers,
//! waiting, fork and exit are the same.

pub mod abi;
mod capi;
pub mod files;
pub mod poller;
pub mod request;
pub mod ring;
pub mod stats;
pub mod submit;
pub mod user;

use files::Files;
use poller::Poller;
use stats::Stats;

/// What the process has of this beside its contexts.
pub struct Shared {
    pub files: Files,
    pub poller: Poller,
    pub stats: Stats,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            files: Files::new(),
            poller: Poller::new(),
            stats: Stats::new(),
        }
    }

    /// In a forked child: closes what it has inherited. No lock is taken.
    pub fn abandon(&self) {
        self.files.abandon();
        self.poller.abandon();
    }
}
