//! Kernel queues with a reaper of the library's: a worker hands requests over to io_uring or the kernel's AIO.
//!
//! A read or a write past the page cache that waits for its device occupies a worker for that time. If many are in flight, switching
//! between workers costs more than the requests do. And a write that allocates holds its file's lock until it completes, so that such
//! writes run one by one. The kernel's queues have neither fault: one worker hands over many requests, and one thread takes the
//! completions. io_submit(2) may block, but here it blocks a worker, and the pool allows for that.
//!
//! It takes plain reads and writes of files opened with O_DIRECT for which many requests in a row have waited
//! ([`crate::policy::outlook::Outlook::is_device_bound`]). Nothing depends on it: if the kernel does not take a request, a worker carries
//! it out. Each pool has one ([`Kaio`]), made when it is first needed.
//!
//! A seccomp filter may be installed at any time, for all threads at once, and it may kill a process that makes a call of the kernel's AIO.
//! So each such call is made right after the check that there is no filter ([`crate::sys::aio`]), and no call is needed to get completions
//! back: events are taken from the kernel's ring, which is mapped in the process (`InKernel::reap`). The kernel itself never takes an
//! event from the ring: io_getevents(2) only serves to sleep. The reaper does not even sleep there: each request that is handed over adds
//! to an eventfd (`Doorbell`).

#[cfg(not(loom))]
mod buffers;
mod doorbell;
pub mod in_kernel;
#[cfg(not(loom))]
mod reaper;
#[cfg(loom)]
#[path = "kaio/reaper_model.rs"]
mod reaper;

use crate::policy::batch::{Direction, Request};
use crate::profiles;
use crate::request::Req;
use crate::sys::aio::{KernelIocb, PREAD, PREADV, PWRITE, PWRITEV};
use crate::syscall::Call;
use arrayvec::ArrayVec;
use libc::c_long;
pub use reaper::Kaio;

/// The most that are handed over by one call.
pub const BATCH: usize = 16;
/// Requests on their way to the kernel.
pub type Batch = ArrayVec<Req, BATCH>;

impl KernelIocb {
    /// None: such a call is not handed over.
    fn of(call: &Call) -> Option<KernelIocb> {
        let [fd, buf, nbytes, offset, _, flags] = call.args;
        let (opcode, flags) = match c_long::from(call.nr) {
            libc::SYS_pread64 => (PREAD, 0),
            libc::SYS_pwrite64 => (PWRITE, 0),
            libc::SYS_preadv => (PREADV, 0),
            libc::SYS_pwritev => (PWRITEV, 0),
            libc::SYS_preadv2 => (PREADV, flags),
            libc::SYS_pwritev2 => (PWRITEV, flags),
            _ => return None,
        };
        const SAME: u64 = (libc::RWF_DSYNC | libc::RWF_SYNC) as u64;
        /// One call transfers no more than this; but the kernel checks the whole buffer.
        const MOST: u64 = 0x7fff_f000;
        (flags & !SAME == 0 && (offset as i64) >= 0 && nbytes <= MOST).then_some(KernelIocb {
            rw_flags: flags as u32 | call.append_flag(),
            opcode,
            fd: fd as u32,
            buf,
            nbytes,
            offset: offset as i64,
            ..KernelIocb::default()
        })
    }
}

/// Whether a request can be handed over at all.
pub fn supports(req: &Req) -> bool {
    req.bound().allow_kernel()
        && req.refused() == 0
        && !req.asks_ioprio()
        && KernelIocb::of(req.call()).is_some()
}

pub fn direction(call: &Call) -> Direction {
    if profiles::writes(call) {
        Direction::Write
    } else {
        Direction::Read
    }
}

/// The facts that decide whether a request joins others (see [`crate::policy::batch`]).
pub fn facts(req: &Req, for_kernel: bool) -> Request {
    let call = req.call();
    let plain = call.plain_bytes();
    Request {
        for_kernel,
        direction: direction(call),
        file: (call.args[0], call.key),
        start: plain.map(|_| call.args[3]),
        bytes: plain.unwrap_or(0),
        no_merge: req.no_merge(),
        has_eventfd: req.has_eventfd(),
    }
}
