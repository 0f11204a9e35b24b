//! The commands, one file each.

pub mod fuzz;
pub mod run;
pub mod scenarios;
