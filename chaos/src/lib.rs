//! A hostile network for real nodes, without root: a user-space UDP relay for each link between two of them.
//!
//! Stands outside the sentence: nodes are started with a relay's address where a peer's would be, and never know. It
//! delays, loses and cuts by a seeded plan, so that a run can be had again. It reads nothing of what passes (QUIC is
//! encrypted anyway), keeps nothing, and refuses every address that is not of this machine.

pub mod plan;
pub mod relay;
