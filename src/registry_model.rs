//! References to contexts in a loom model, where no handle is looked up.

use crate::context::Context;
use std::ops::Deref;
use std::sync::Arc;

#[derive(Clone)]
pub struct ContextRef(pub Arc<Context>);

impl ContextRef {
    pub fn is(&self, other: &ContextRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for ContextRef {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}
