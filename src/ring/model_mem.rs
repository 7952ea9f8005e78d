//! The ring's memory in a loom model: the same header and words, without a mapping.

use super::Header;
use crate::sync::AtomicU64;

pub struct RingMem {
    header: Header,
    data: Vec<AtomicU64>,
}

impl RingMem {
    pub fn model(ring_bytes: usize) -> RingMem {
        RingMem {
            header: Header::model(),
            data: (0..ring_bytes / 8).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn data(&self) -> &[AtomicU64] {
        &self.data
    }
}
