//! Which life each replica of this node is in. A checksummed file, replaced whole, written before a life begins.
//!
//! A replica that lost acknowledged log never comes back under its old id (ARCHITECTURE 5): the next life has the next
//! number, and a node that finds no identity where its peers know one has lost everything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_protocol::frame;
use nethical_protocol::ids::{GroupId, NodeId, ReplicaId};

use crate::world::{self, Disk};

const KIND_IDENTITY: u16 = 61;
const DIR: &str = "state";
const NAME: &str = "identity";

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct IdentityV1 {
    node: u64,
    cluster: String,
    lives: Vec<(u32, u16)>,
    lost: Vec<u32>,
}

/// This node's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    node: NodeId,
    cluster: String,
    lives: BTreeMap<GroupId, u16>,
    lost: BTreeSet<GroupId>,
}

/// A replica's id: the node and the number of its life there.
pub fn replica_id(node: NodeId, life: u16) -> ReplicaId {
    ReplicaId(node.0 << 16 | u64::from(life))
}

/// The life in a replica's id.
pub fn life_of(replica: u64) -> u16 {
    (replica & 0xffff) as u16
}

impl Identity {
    /// Reads the file; a fresh identity where there is none. A damaged file, or one of another node, is an error.
    pub async fn load(disk: &dyn Disk, node: NodeId, cluster: &str) -> io::Result<Self> {
        let fresh = Self { node, cluster: cluster.to_owned(), lives: BTreeMap::new(), lost: BTreeSet::new() };
        if !disk.list(DIR).await?.iter().any(|name| name == NAME) {
            return Ok(fresh);
        }
        let bytes = world::read_all(disk, &format!("{DIR}/{NAME}")).await?;
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{DIR}/{NAME}: {why}"));
        let (header, body, _) = frame::decode(&bytes).map_err(|error| bad(error.to_string()))?;
        if header.kind != KIND_IDENTITY {
            return Err(bad(format!("frame kind {}", header.kind)));
        }
        let found = rkyv::from_bytes::<IdentityV1, Error>(body).map_err(|error| bad(error.to_string()))?;
        if (found.node, found.cluster.as_str()) != (node.0, cluster) {
            return Err(bad(format!("the data is of node {} in cluster {:?}", found.node, found.cluster)));
        }
        let lives = found.lives.into_iter().map(|(group, life)| (GroupId(group), life)).collect();
        Ok(Self { lives, lost: found.lost.into_iter().map(GroupId).collect(), ..fresh })
    }

    /// The replica of a group here, where it has begun a life.
    pub fn replica(&self, group: GroupId) -> Option<ReplicaId> {
        self.lives.get(&group).map(|life| replica_id(self.node, *life))
    }

    /// True where that life has lost what it acknowledged.
    pub fn is_lost(&self, group: GroupId) -> bool {
        self.lost.contains(&group)
    }

    /// Begins a life: the next one after all that were ever heard of.
    pub fn begin(&mut self, group: GroupId, heard_of: u16) -> ReplicaId {
        let own = self.lives.get(&group).copied().unwrap_or(0);
        let life = own.max(heard_of) + 1;
        self.lives.insert(group, life);
        self.lost.remove(&group);
        replica_id(self.node, life)
    }

    /// Notes that every life here has lost what it acknowledged.
    pub fn lose_all(&mut self) {
        self.lost.extend(self.lives.keys().copied());
    }

    /// Notes that one life has.
    pub fn lose(&mut self, group: GroupId) {
        self.lost.insert(group);
    }

    /// Makes the identity durable.
    pub async fn save(&self, disk: &Arc<dyn Disk>) -> io::Result<()> {
        let content = IdentityV1 {
            node: self.node.0,
            cluster: self.cluster.clone(),
            lives: self.lives.iter().map(|(group, life)| (group.0, *life)).collect(),
            lost: self.lost.iter().map(|group| group.0).collect(),
        };
        let body = rkyv::to_bytes::<Error>(&content).expect("encoding into memory cannot fail");
        disk.create_dir(DIR).await?;
        world::replace(&**disk, DIR, NAME, Bytes::from(frame::encode(KIND_IDENTITY, 0, &body))).await
    }
}
