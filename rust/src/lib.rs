//! Asynchronous system calls on Linux: a safe interface to libaio2.
//!
//! A [`Request`] is a system call with the buffer and the file that it needs. [`Context::submit`] takes it, never waits for I/O, and owns it until
//! its [`Event`] is taken, which gives the buffer back. Nothing else can reach the buffer meanwhile: neither a
//! `forget` of the context nor an early drop lets it go while the kernel or a worker may write to it.
//!
//! ```
//! use aio2::{Context, Request, Timing};
//! use std::{fs::File, sync::Arc};
//!
//! # fn main() -> std::io::Result<()> {
//! let file = Arc::new(File::open("/etc/passwd")?);
//! let context = Context::new()?;
//! let mut requests: Vec<Request> =
//!     (0..4).map(|i| Request::read_at(file.clone(), vec![0; 100], i * 100).timing()).collect();
//! while !requests.is_empty() {
//!     context.submit(&mut requests)?;
//! }
//! for event in context.events() {
//!     let event = event?;
//!     let timing: Timing = event.answer().expect("it was asked for")?;
//!     println!("{} bytes after {} ns", event.bytes_read()?.len(), timing.end_ns - timing.submit_ns);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In asynchronous code a [`Reactor`] gives a future for each request instead.
//!
//! The library has to be installed, and pkg-config has to find its `aio2.pc` (`PKG_CONFIG_PATH`). A program that runs needs
//! `libaio2.so.0`.
//!
//! A buffer that is in a request cannot be used:
//!
//! ```compile_fail
//! # let file = std::fs::File::open("/etc/passwd").unwrap();
//! let buffer = aio2::Buffer::zeroed(100);
//! let request = aio2::Request::read_at(file, buffer, 0);
//! println!("{}", buffer[0]); // moved
//! ```

#![cfg(target_os = "linux")]

mod attr;
mod buffer;
mod context;
mod ffi;
mod reactor;
mod request;

pub use attr::{Answer, Cache, Route, Timing, Way, Worker};
pub use buffer::Buffer;
pub use context::{Builder, Context, Events};
pub use reactor::{Pending, Reactor};
pub use request::{Event, Id, Request};
