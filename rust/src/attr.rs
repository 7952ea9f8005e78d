use crate::ffi;

/// The answer to an attribute that a request has asked for: [`Timing`], [`Cache`], [`Worker`], [`Route`].
///
/// [`Event::answer`](crate::Event::answer) finds it by its type. No other type can implement this.
pub trait Answer: sealed::Answer {}

pub(crate) mod sealed {
    pub trait Answer: Sized {
        const ID: u16;
        /// Of the words of the payload, of which there are enough: three at most.
        fn from_payload(words: [u64; 3]) -> Self;
    }
}

/// The two numbers of a structure of C that share a word.
pub(crate) fn low(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub(crate) fn high(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
}

/// The other way round.
pub(crate) fn pair(first: u32, second: u32) -> u64 {
    let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([
        first[0], first[1], first[2], first[3], second[0], second[1], second[2], second[3],
    ])
}

/// When a request was submitted, began and ended: nanoseconds of `CLOCK_MONOTONIC`. See [`Request::timing`](crate::Request::timing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// When it was submitted.
    pub submit_ns: u64,
    /// When its system call began.
    pub start_ns: u64,
    /// When its system call returned.
    pub end_ns: u64,
}

impl Answer for Timing {}
impl sealed::Answer for Timing {
    const ID: u16 = ffi::ATTR_TIMING;
    fn from_payload([submit_ns, start_ns, end_ns]: [u64; 3]) -> Timing {
        Timing {
            submit_ns,
            start_ns,
            end_ns,
        }
    }
}

/// The part of a buffered read that was in the page cache. See [`Request::cache`](crate::Request::cache).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Whether all of it was served without waiting for the device.
    pub hit: bool,
    /// Of the bytes asked for, those that were there before.
    pub bytes_cached: u64,
    /// The bytes asked for.
    pub bytes_asked: u64,
}

impl Answer for Cache {}
impl sealed::Answer for Cache {
    const ID: u16 = ffi::ATTR_CACHE;
    fn from_payload([hit, bytes_cached, bytes_asked]: [u64; 3]) -> Cache {
        Cache {
            hit: low(hit) != 0,
            bytes_cached,
            bytes_asked,
        }
    }
}

/// Which thread and processor carried a request out. See [`Request::worker`](crate::Request::worker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// The thread, as gettid(2) says.
    pub tid: u32,
    /// The processor.
    pub cpu: u32,
}

impl Answer for Worker {}
impl sealed::Answer for Worker {
    const ID: u16 = ffi::ATTR_WORKER;
    fn from_payload([both, ..]: [u64; 3]) -> Worker {
        Worker {
            tid: low(both),
            cpu: high(both),
        }
    }
}

/// Which way a request was carried out. See [`Request::route`](crate::Request::route).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The way.
    pub way: Way,
    /// The kernel carried it out together with others that follow each other in the same file.
    pub merged: bool,
}

/// A way of carrying requests out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// The system call was not made: cancelled, refused or too late.
    NotMade,
    /// By a thread of the program, within a call of the library.
    Inline,
    /// By a worker thread.
    Thread,
    /// By the kernel's AIO.
    KernelAio,
    /// By io_uring.
    IoUring,
    /// It waited until its file was ready, without a thread of its own.
    Readiness,
    /// A way that a later version of the library has.
    Other(u32),
}

impl Answer for Route {}
impl sealed::Answer for Route {
    const ID: u16 = ffi::ATTR_ROUTE;
    fn from_payload([both, ..]: [u64; 3]) -> Route {
        let way = match low(both) {
            0 => Way::NotMade,
            1 => Way::Inline,
            2 => Way::Thread,
            3 => Way::KernelAio,
            4 => Way::IoUring,
            5 => Way::Readiness,
            other => Way::Other(other),
        };
        Route {
            way,
            merged: high(both) & 1 != 0,
        }
    }
}
