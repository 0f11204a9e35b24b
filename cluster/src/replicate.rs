//! Replicate: every openraft group of this node, behind one facade. Nothing outside this folder names openraft.
//!
//! A [`group::Group`] is one replica of one Raft group: it proposes bytes, says who leads, and hands committed entries
//! in order to a [`machine::Machine`]. The rules that keep openraft 0.10 safe are kept here: leader restore is off,
//! votes are durable on return and ordered with appends, a stopped core is noticed, terms have one leader.

pub mod codec;
pub mod group;
pub mod leadership;
pub mod log_store;
pub mod machine;
pub mod network;
pub mod runtime;
pub mod snapshot;
pub mod types;
