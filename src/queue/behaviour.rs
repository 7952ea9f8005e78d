//! How the contexts of a personality behave.

use crate::request::SizeClass;

/// The facts that a personality states about a context when it makes it.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// A request uses the file that its descriptor names at submit. This file is held in the library's own descriptor table, and a thread
    /// that has that table carries the request out. If false, the descriptor stays the program's, and callers also carry requests out, at
    /// any time.
    pub holds_files: bool,
    /// Each request claims something of its file. The claim decides which requests the request must wait for ([`super::order::claims`]),
    /// and whether it must be carried out before a fork or the end of the process. All requests have an extension. If false, attributes
    /// decide which requests a request must wait for.
    pub has_claims: bool,
    /// When a context is closed, queued requests are cancelled and running ones interrupted. If false, all of them are carried out.
    pub cancels_at_close: bool,
    /// A submit may wait until the program's memory has been paged in.
    pub submit_may_fault: bool,
    /// The size of most requests.
    pub usual_size: SizeClass,
}

impl Behaviour {
    /// A caller that waits may carry requests out.
    #[inline]
    pub fn callers_carry_out(&self) -> bool {
        !self.holds_files
    }
}
