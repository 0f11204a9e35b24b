//! Newtypes for every id. They must not be built from each other by accident, so none of them derefs to its contents.
//!
//! Ids that a person reads or types have `Display` and `FromStr`, and the two are inverse to each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

numeric_id! {
    /// A machine (process) of the cluster. Given by the operator, unique for ever.
    NodeId(u64)
}
numeric_id! {
    /// Raft's node id: one life of one group's replica on one node. Never reused: a replica that lost acknowledged
    /// log comes back under a new one (ARCHITECTURE 5).
    ReplicaId(u64)
}
numeric_id! {
    /// A Raft group. 0 is the meta group, 1 the zone's control group, partitions start at [`GroupId::FIRST_PARTITION`].
    GroupId(u32)
}
numeric_id! {
    /// One of the 4,096 hash slots that agents (or single-placed tenants) fall into, for ever.
    Slot(u16)
}
numeric_id! {
    /// The number that a limit gets in the control group; leaves and buckets name limits by it.
    LimitNumber(u32)
}
numeric_id! {
    /// A position in a zone's history of control changes. Partitions say which one they have applied.
    ControlRevision(u64)
}

impl GroupId {
    /// Members, certificates, zones, slot tables. Never tenant content.
    pub const META: GroupId = GroupId(0);
    /// Tenants, limits, bundles and tenant-wide hold-orders of the zone.
    pub const CONTROL: GroupId = GroupId(1);
    /// The first group that hosts agents.
    pub const FIRST_PARTITION: u32 = 2;

    /// True for groups that host agents' ledgers.
    pub fn is_partition(self) -> bool {
        self.0 >= Self::FIRST_PARTITION
    }
}

/// Which transparency log a leaf is in: a group and an era. A restore opens a new era (ARCHITECTURE 10).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct LogId {
    /// The Raft group that owns the log.
    pub group: GroupId,
    /// Counts restores of that group, from 1.
    pub era: u32,
}

impl LogId {
    /// The checkpoint origin: `<cluster>/p/<group>/<era>` of a partition, `<cluster>/cluster/<era>` of the cluster log,
    /// which the control group keeps.
    pub fn origin(&self, cluster: &str) -> String {
        match self.group {
            GroupId::CONTROL => format!("{cluster}/cluster/{}", self.era),
            group => format!("{cluster}/p/{group}/{}", self.era),
        }
    }

    /// The log of a cluster that has this origin; `None` for what [`LogId::origin`] writes for none.
    pub fn of_origin(cluster: &str, origin: &str) -> Option<Self> {
        let place = origin.strip_prefix(cluster)?.strip_prefix('/')?;
        let (group, era) = match place.strip_prefix("cluster/") {
            Some(era) => (GroupId::CONTROL, era),
            None => {
                let (group, era) = place.strip_prefix("p/")?.split_once('/')?;
                (GroupId(group.parse().ok()?), era)
            }
        };
        let log = Self { group, era: era.parse().ok()? };
        (log.origin(cluster) == origin).then_some(log)
    }
}

/// Where a decision stands in the audit trail: its log and its leaf index. Assigned in apply, so equal on every replica.
///
/// Written `<group>.<era>.<leaf index>`, which makes look-up possible without an index.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct DecisionId {
    /// The log that holds the leaf.
    pub log: LogId,
    /// Position in that log, from 0. Not the Raft index.
    pub leaf_index: u64,
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.log.group, self.log.era, self.leaf_index)
    }
}

/// The text is not of the form `<group>.<era>.<leaf index>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a decision id looks like 3.1.42 (group, era, leaf index); got {0:?}")]
pub struct DecisionIdError(pub String);

impl FromStr for DecisionId {
    type Err = DecisionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || DecisionIdError(text.chars().take(80).collect());
        let mut parts = text.split('.');
        let mut next = || parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        let (group, era, leaf) = (next(), next(), next());
        let (Some(group), Some(era), Some(leaf), None) = (group, era, leaf, parts.next()) else { return Err(refuse()) };
        Ok(DecisionId {
            log: LogId {
                group: GroupId(group.parse().map_err(|_| refuse())?),
                era: era.parse().map_err(|_| refuse())?,
            },
            leaf_index: leaf.parse().map_err(|_| refuse())?,
        })
    }
}

impl Serialize for DecisionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DecisionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A 16-byte keyed hash that stands for a name (tenant, agent, session, tool …) wherever bytes are replicated or logged.
///
/// HMAC-SHA-256 under the tenant key, truncated (audit::keys). Names themselves never leave sealed bodies.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[rkyv(compare(PartialEq), derive(Debug))]
pub struct KeyedId(pub [u8; 16]);

impl KeyedId {
    /// Stands for "not given": no session, no cohort.
    pub const NONE: KeyedId = KeyedId([0; 16]);

    /// True where the request named nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Display for KeyedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_id_reads_back_as_written() {
        let id = DecisionId { log: LogId { group: GroupId(7), era: 2 }, leaf_index: 991 };
        assert_eq!(id.to_string(), "7.2.991");
        assert_eq!("7.2.991".parse::<DecisionId>(), Ok(id));
    }

    #[test]
    fn origins_read_back_as_written_and_no_others_do() {
        for (group, origin) in [(1, "demo/cluster/1"), (2, "demo/p/2/1"), (17, "demo/p/17/1")] {
            let log = LogId { group: GroupId(group), era: 1 };
            assert_eq!((log.origin("demo").as_str(), LogId::of_origin("demo", origin)), (origin, Some(log)));
        }
        for bad in ["demo/p/1/1", "demo/p/02/1", "demo/p/2", "demo/cluster/+1", "other/p/2/1", "demop/2/1", ""] {
            assert_eq!(LogId::of_origin("demo", bad), None, "{bad}");
        }
    }

    #[test]
    fn malformed_decision_ids_are_refused() {
        for text in ["", "7", "7.2", "7.2.", "7.2.3.4", "-1.2.3", "+1.2.3", "a.b.c", "7.2.99999999999999999999999"] {
            assert!(text.parse::<DecisionId>().is_err(), "{text:?} was accepted");
        }
    }
}
