//! In a model, no worker hands over to the kernel: the callers of [`crate::engine::own_queue`] do.

use crate::engine::{Completes, Engine, Reaped, Start};
use crate::request::Req;
use crate::sys::Result;
use arrayvec::ArrayVec;
use std::marker::PhantomData;

pub struct Kaio<Q>(PhantomData<fn(Q)>);

impl<Q: Completes> Kaio<Q> {
    pub fn new(_has_held: bool) -> Result<Kaio<Q>> {
        Ok(Kaio(PhantomData))
    }

    pub fn has_ring(&self) -> bool {
        false
    }
}

impl<Q: Completes> Engine<Q> for Kaio<Q> {
    fn supports(req: &Req) -> bool {
        super::supports(req)
    }

    fn room(&self) -> usize {
        0
    }

    fn start<const N: usize>(&'static self, _: &Q, _: &mut ArrayVec<Req, N>, _: Start) -> bool {
        true
    }

    fn reap(&self, _until: u64) -> Reaped<Q> {
        Reaped::nothing()
    }

    fn wake(&self) {}

    fn abandon(&self) {}
}
