//! What the contexts of a personality are like.

use crate::request::Class as Size;

/// What a personality says of a context when it makes it.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// A request goes to the file that its descriptor names at submit. This is held in the library's own descriptor
    /// table, and whoever has that table carries the request out. If not: the descriptor stays the program's, and also
    /// callers carry requests out, at any time.
    pub holds_files: bool,
    /// Each request claims something of its file, which says what it has to wait for ([`super::order::claims`]), and
    /// what has to be done before a fork, or the end of the process; all have an extension. If not: their attributes say
    /// what they wait for.
    pub has_claims: bool,
    /// When a context is closed, what is queued is cancelled and what runs is interrupted. If not: all of it is
    /// carried out.
    pub cancels_at_close: bool,
    /// A submit may wait for the program's memory to be brought in.
    pub submit_may_fault: bool,
    /// How large most requests are.
    pub usual_size: Size,
}

impl Behaviour {
    /// A caller that waits may carry requests out.
    #[inline]
    pub fn callers_carry_out(&self) -> bool {
        !self.holds_files
    }
}
