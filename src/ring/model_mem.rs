//! The ring's memory in a loom model: the same header and words, without a mapping.

use super::Header;
use crate::sync::AtomicU64;
use crate::sys::Result;
use std::os::fd::{OwnedFd, RawFd};

pub struct RingMem {
    header: Header,
    data: Vec<AtomicU64>,
    pub sealed: bool,
}

/// Small, so that a few events fill the ring.
pub fn page_bytes() -> usize {
    64
}

impl RingMem {
    pub fn new(ring_bytes: usize) -> Result<RingMem> {
        let data = (0..ring_bytes / 8).map(|_| AtomicU64::new(0)).collect();
        Ok(RingMem {
            header: Header::model(),
            data,
            sealed: true,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn data(&self) -> &[AtomicU64] {
        &self.data
    }

    pub fn header_bytes(&self) -> usize {
        page_bytes()
    }

    pub fn view(&self) -> usize {
        0
    }

    pub fn fd(&self) -> RawFd {
        -1
    }

    pub fn open_read_only(&self) -> Result<OwnedFd> {
        unreachable!("not part of any model")
    }
}
