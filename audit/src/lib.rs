//! The transparency log: leaves, the RFC 6962 tree, signed C2SP checkpoints, proofs, sealed bodies, segments, verification.
//!
//! Pure code: bytes in, bytes out. Files are read and written by callers. A leaf commits to its body and never
//! contains it, so that a body can be erased while every proof stays valid (ARCHITECTURE 3, 4).

pub mod body;
pub mod checkpoint;
pub mod cluster;
pub mod filter;
pub mod generations;
pub mod keys;
pub mod leaf;
pub mod note;
pub mod proof;
pub mod publish;
pub mod reader;
pub mod retention;
pub mod segment;
pub mod tree;
mod unpack;
pub mod verify;
pub mod witness;
