//! Statistics.
use super::files::FileRef;
use crate::request::Call;

pub struct Path;

/// CLOCK_MONOTONIC if statistics are wanted, else 0.
pub fn now() -> u64 { 0 }
pub fn count(_file: &FileRef, _call: &Call, _res: i64, _submitted: u64, _began: u64) {}
