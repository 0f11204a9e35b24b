//! Text search in what was said and done, for tenants that asked for it: what a word is, the words of a segment's bodies, where they
//! rest, and how they come and go. Pages of entries are made elsewhere ([`crate::query`]).

pub mod file;
pub mod index;
pub mod tend;
pub mod words;
