//! libaio2: asynchronous system calls with attributes and a shared completion ring, in user space.
//!
//! C callers see `include/aio2.h`. The way of a request:
//!
//! [`personality`] (the boundary) → [`request`] (a checked copy) → [`queue`] (its context) → [`engine`] (for example a
//! worker, which makes the system call) → [`queue`] again (completion) → [`ring`] (published).

#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(any(test, panic = "abort")))]
compile_error!("a panic must not unwind into C: build with panic = \"abort\"");

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little"
)))]
compile_error!("libaio2 is for 64-bit little-endian Linux");

pub mod abi;
mod attr;
mod engine;
mod hooks;
#[cfg(not(loom))]
pub mod personality;
mod policy;
#[cfg(not(loom))]
mod process;
mod profiles;
mod queue;
#[cfg(not(loom))]
mod registry;
#[cfg(loom)]
#[path = "registry_model.rs"]
mod registry;
mod request;
mod ring;
mod sharing;
mod sync;
mod sys;
mod syscall;

#[cfg(all(test, not(loom)))]
mod header_test;
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
