//! What programs see: the functions of `aio2.h` ([`aio2`]), and libaio's ([`libaio`]). Records in, events out.

pub mod aio2;
pub(crate) mod libaio;
