//! The commands, one file each.

pub mod bench;
pub mod coverage;
pub mod fuzz;
pub mod mutants;
pub mod run;
pub mod scenarios;
pub mod shrink;
pub mod verify;
