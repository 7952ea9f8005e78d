//! What is to be done, as pure functions of facts: no I/O, no clock, no atomics, no `unsafe`.

pub mod profile;
pub mod tuning;
