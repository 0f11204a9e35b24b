//! The commands, one file each.

pub mod fuzz;
pub mod run;
