//! What programs see: the functions of `aio2.h` ([`aio2`]), and libaio's ([`libaio`]). Records in, events out. What a
//! process has of all this is in [`instance`].

pub mod aio2;
pub(crate) mod instance;
pub(crate) mod libaio;
