//! References to contexts in a loom model, where no handle is looked up.

use std::ops::Deref;
use std::sync::Arc;

pub struct Ref<T>(pub Arc<T>);

impl<T> Ref<T> {
    pub fn is(&self, other: &Ref<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Ref(self.0.clone())
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
