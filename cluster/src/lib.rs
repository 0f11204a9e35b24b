//! The sentence from route to reply: **route → actor → propose → replicate → apply → reply**, over the world traits.
//!
//! Reads no argv, no environment, no clock and no dice but through [`world`]. Doors call [`api::Governor`]; nothing
//! here calls back into a door.

pub mod api;
pub mod world;
