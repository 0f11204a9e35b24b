//! The meta group: the founding record with its slot table. Never tenant content.
//!
//! The record is written once, by the group's first leader, and every node checks its own configuration against it:
//! a node that was told other partitions or another cluster refuses to run.

use bytes::Bytes;

use nethical_protocol::ids::GroupId;
use nethical_protocol::ring::fill_slots;

use crate::message::FoundingV1;
use crate::replicate::machine::{Fault, Machine, Reply};
use crate::shared::Options;

/// The meta group's state.
#[derive(Default)]
pub struct MetaMachine {
    /// The record, once it is written.
    pub founding: Option<FoundingV1>,
}

impl Machine for MetaMachine {
    fn apply(&mut self, _term: u64, _index: u64, payload: &Bytes, _wanted: bool) -> Result<Reply, Fault> {
        let record = FoundingV1::from_bytes(payload).map_err(|error| Fault(format!("a founding record: {error}")))?;
        // The first one stands: a second leader may have written the same before it saw it.
        self.founding.get_or_insert(record);
        Ok(Reply::of(()))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        Ok(self.founding.as_ref().map(|record| record.to_bytes().to_vec()).unwrap_or_default())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.founding = match bytes {
            [] => None,
            bytes => Some(FoundingV1::from_bytes(bytes).map_err(|error| Fault(format!("a founding record: {error}")))?),
        };
        Ok(())
    }

    fn passed(&mut self, _term: u64, _index: u64) {}
}

/// The record that a node with these options would write.
pub fn founding_of(options: &Options, public_key: [u8; 32]) -> FoundingV1 {
    FoundingV1 {
        cluster: options.cluster.clone(),
        partitions: options.partitions,
        epoch: 1,
        slots: fill_slots(options.partitions).into_iter().map(|group| group.0).collect(),
        nodes: options.nodes.iter().map(|node| (node.node.0, node.region.clone())).collect(),
        public_key,
    }
}

/// What stands between a node's configuration and the zone that it wants to serve.
pub fn check(record: &FoundingV1, options: &Options) -> Result<(), String> {
    if record.cluster != options.cluster {
        return Err(format!(
            "this data belongs to cluster {:?}; the configuration says {:?}",
            record.cluster, options.cluster
        ));
    }
    if record.partitions != options.partitions {
        let told = options.partitions;
        return Err(format!(
            "the zone was founded with {} partitions; the configuration says {told}",
            record.partitions
        ));
    }
    Ok(())
}

/// The group of a slot.
pub fn group_of(record: &FoundingV1, slot: nethical_protocol::ids::Slot) -> GroupId {
    GroupId(record.slots[usize::from(slot.0)])
}
