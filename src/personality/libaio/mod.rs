//! libaio's interface: runs programs for libaio or for the kernel's AIO on this library's core.
//!
//! A context of this kind differs from one of io_setup2() in the layout and place of its events ([`crate::ring::kernel`]), in how
//! requests are made ([`submit`]), and in the files that they use: those that their descriptors named at submit ([`files`]). Workers
//! with a descriptor table of their own ([`table`]) carry them out. Queue, waiting, fork and exit are the same.

pub mod abi;
mod capi;
mod channel;
pub mod eventfd;
pub mod files;
pub mod request;
mod rights;
pub mod stats;
pub mod submit;
pub mod table;

use crate::personality::instance::global;
use crate::queue::{Behaviour, Context};
use crate::request::SizeClass;
use crate::ring::kernel::KernelRing;
use crate::sys::Result;
use files::Files;
use nix::errno::Errno;
use stats::Stats;
use table::Table;

/// Its contexts behave as the kernel's do.
const BEHAVIOUR: Behaviour = Behaviour {
    holds_files: true,
    has_claims: true,
    cancels_at_close: false,
    submit_may_fault: true,
    usual_size: SizeClass::Extended,
};

/// A context's ring, if the context is of this kind.
fn ring_of(context: &Context) -> Result<&KernelRing> {
    context.ring().kernel().ok_or(Errno::EINVAL)
}

/// The objects that the process has for this personality beside its contexts.
pub struct Shared {
    pub table: Table,
    pub files: Files,
    pub stats: Stats,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            table: Table::new(),
            files: Files::new(),
            stats: Stats::new(),
        }
    }

    /// The program is about to replace a private descriptor.
    pub fn release_number(&self, number: std::os::fd::RawFd) {
        self.table.release_number(number);
    }

    /// Called in a forked child: closes inherited descriptors. Takes no lock.
    pub fn abandon(&self) {
        self.table.abandon();
    }
}

/// Receives the files that have been sent. Called in the library's own table.
fn receive_all() -> i64 {
    if let Some(global) = global() {
        let libaio = &global.libaio;
        libaio
            .table
            .receive(|message| libaio.files.arrived(message));
    }
    0
}
