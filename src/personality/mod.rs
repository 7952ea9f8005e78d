//! What programs see: the functions of `aio2.h` ([`aio2`]) and of libaio ([`libaio`]). Records in, events out. [`instance`] has what
//! exists once in a process.

pub mod aio2;
pub(crate) mod instance;
pub(crate) mod libaio;
