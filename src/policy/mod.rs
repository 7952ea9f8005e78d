//! Decisions from facts alone: plain data in, an answer out, without I/O, clock, atomics or unsafe.

pub mod batch;
pub mod decide;
pub mod fairness;
pub mod nesting;
pub mod outlook;
pub mod profile;
pub mod returning;
pub mod route;
pub mod tuning;
pub mod waiting;
