//! libaio2
mod abi;
mod capi;
