//! What two machines must agree on bit for bit: ids, units, limits, errors, frames, messages, slots and the ring.
//!
//! Pure code: no clock, no dice, no sockets, no files, no hash-map iteration. Every other crate uses this one and it
//! uses none of them. In the sentence *door → route → actor → propose → replicate → apply → reply* it is the grammar.

pub mod action;
pub mod control;
pub mod decision;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod message;
pub mod model;
pub mod person;
pub mod privacy;
pub mod probe;
pub mod quarantine;
pub mod retention;
pub mod ring;
pub mod sla;
pub mod slot;
pub mod status;
pub mod tiers;
