//! The cluster's code in a fake world: simulated time, network and disks, one thread, one seed.
//!
//! A run starts the real nodes of `nethical-cluster` over the seams of its `world` module, lets clients work while the
//! network is cut, machines crash and all power fails at once, and holds what clients were told against the audit logs.
//! The same seed gives the same trace, byte for byte, in every process.
//!
//! It decides nothing about the cluster and reaches around none of its seams.

// The world.
pub mod clock;
pub mod dice;
pub mod wire;
pub mod world;

// What happens in it.
pub mod plan;
pub mod run;
pub mod workload;

// What is made of it.
pub mod history;
pub mod monitor;
pub mod oracle;
pub mod trace;
