//! The cluster's code in a fake world: simulated time, network and disks, one thread, one seed.
//!
//! A run starts the real nodes of `nethical-cluster` over the seams of its `world` module, lets clients work while the
//! network is cut, machines crash, disks fail and clocks jump, and holds what clients were told against the audit logs.
//! The same plan gives the same trace, byte for byte, in every process.
//!
//! It decides nothing about the cluster and reaches around none of its seams.

// The world.
pub mod clock;
pub mod dice;
pub mod keyring;
pub mod links;
pub mod objects;
pub mod probes;
pub mod quic;
pub mod udp;
pub mod wire;
pub mod witness;
pub mod world;

// What happens in it, as data and in deed.
pub mod engine;
pub mod fault;
pub mod nemesis;
pub mod order;
pub mod plan;
pub mod run;
pub mod runtimes;
pub mod scenario;
pub mod shrink;
pub mod swarm;
pub mod workload;

// What is made of it.
pub mod check;
pub mod findings;
pub mod history;
pub mod html;
pub mod monitor;
pub mod trace;
pub mod watch;
