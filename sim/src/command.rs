//! The commands, one file each.

pub mod bench;
pub mod fuzz;
pub mod run;
