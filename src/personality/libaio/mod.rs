//! libaio's interface: programs written for it, or for the kernel's AIO, on this library's core.
//!
//! A context of this kind differs from one of io_setup2() in what its events look like and where
//! they go ([`crate::ring::kernel`]), in how its requests come to be ([`submit`]), and in whom they belong to:
//! their files are the ones that their descriptors named at submit ([`files`]), and workers that have a
//! descriptor table of their own ([`table`]) carry them out. Queue, waiting, fork and exit are the same.

pub mod abi;
mod capi;
mod channel;
pub mod eventfd;
pub mod files;
pub mod poller;
pub mod request;
pub mod stats;
pub mod submit;
pub mod table;

use crate::personality::instance::global;
use crate::queue::{Behaviour, Context};
use crate::request::Class;
use crate::ring::kernel::KernelRing;
use crate::sys::Result;
use files::Files;
use nix::errno::Errno;
use poller::Poller;
use stats::Stats;
use table::Table;

/// What its contexts are like: as the kernel's.
const BEHAVIOUR: Behaviour = Behaviour {
    holds_files: true,
    has_claims: true,
    cancels_at_close: false,
    submit_may_fault: true,
    usual_size: Class::Extended,
};

/// The ring of a context, if it is one of these.
fn ring_of(context: &Context) -> Result<&KernelRing> {
    context.ring().kernel().ok_or(Errno::EINVAL)
}

/// What the process has of this beside its contexts.
pub struct Shared {
    pub table: Table,
    pub files: Files,
    pub poller: Poller,
    pub stats: Stats,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            table: Table::new(),
            files: Files::new(),
            poller: Poller::new(),
            stats: Stats::new(),
        }
    }

    /// The program is about to put something else in the place of a private descriptor.
    pub fn release_number(&self, number: std::os::fd::RawFd) {
        self.table.release_number(number);
        self.poller.release_number(number);
    }

    /// In a forked child: closes what it has inherited. No lock is taken.
    pub fn abandon(&self) {
        self.table.abandon();
        self.poller.abandon();
    }
}

/// In the library's own table: takes the files that have been sent there.
fn receive_all() -> i64 {
    if let Some(global) = global() {
        let libaio = &global.libaio;
        libaio.table.receive(|message| match message.number {
            poller::CHANNEL_COMES => libaio.poller.arrived(message.file),
            _ => libaio.files.arrived(message),
        });
    }
    0
}
