//! The ledger as its callers see it: scripts that read as sentences, and properties against naive models.

mod ahead;
mod approve;
mod automatic;
mod bench;
mod blend;
mod model;
mod reserve;
mod script;
mod show;
mod survival;
