//! Unit tests of what needs no C caller.
