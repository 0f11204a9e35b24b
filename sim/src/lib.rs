//! The cluster's code in a fake world: simulated time, network and disks, one thread, one seed.
