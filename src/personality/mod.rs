//! The interfaces of programs: the functions of `aio2.h` ([`aio2`]) and of libaio ([`libaio`]). Records in, events out. [`instance`] has
//! the objects that exist once in a process.

pub mod aio2;
pub(crate) mod instance;
pub(crate) mod libaio;
