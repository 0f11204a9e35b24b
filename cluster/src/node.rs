//! A node's core: its replicas, what it knows of its zone, and the look-ups that every part needs.
//!
//! Started by [`crate::start`]. Holds no logic of the sentence's steps; those are in their own modules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use nethical_audit::leaf::LeafV1;
use nethical_protocol::control::TenantSpec;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::ring::{place_group, place_groups};
use nethical_protocol::slot::slot_of;
use nethical_protocol::status::ReadyCheck;

use crate::control::ControlMachine;
use crate::fsck::Fsck;
use crate::lead::Lead;
use crate::message::{AskLeavesV1, FoundingV1, KIND_LEAVES, LeavesV1};
use crate::meta::{self, MetaMachine};
use crate::replica::PartitionReplica;
use crate::replicate::group::{Group, Progress, Replica};
use crate::shared::Shared;
use crate::store::AuditStore;
use crate::wal::Wal;
use crate::world::Lane;

/// New tenants that may wait for their creation.
const TENANTS_ASKED_MAX: usize = 256;
/// How long a read of another node's leaves may take.
const LEAVES_PATIENCE: Duration = Duration::from_secs(5);

/// A group that is not a partition.
pub struct Plain<M: crate::replicate::machine::Machine> {
    /// Its Raft group.
    pub group: Group<M>,
    /// Its state.
    pub machine: Arc<Mutex<M>>,
}

impl<M: crate::replicate::machine::Machine> Clone for Plain<M> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), machine: self.machine.clone() }
    }
}

/// What a node is made of.
pub struct Core {
    /// Seams, options, rules, clocks.
    pub shared: Arc<Shared>,
    /// The node's log.
    pub wal: Wal,
    /// The meta group, where it has a replica here.
    pub meta: RwLock<Option<Plain<MetaMachine>>>,
    /// The control group, where it has a replica here.
    pub control: RwLock<Option<Plain<ControlMachine>>>,
    partitions: RwLock<BTreeMap<GroupId, Arc<PartitionReplica>>>,
    /// The audit logs that have a copy here.
    audits: RwLock<BTreeMap<GroupId, Arc<AuditStore>>>,
    founding: watch::Sender<Option<Arc<FoundingV1>>>,
    asked_tenants: Mutex<Vec<String>>,
    placement: BTreeMap<GroupId, Vec<NodeId>>,
    /// What the partitions have told this node, for when it leads the control group.
    pub heard: crate::rules::Heard,
    /// What this node has gathered for the cluster log, for when it leads the control group.
    pub gathered: crate::cluster_log::Gathered,
    /// What witnesses have signed for this node as control leader.
    pub witnessed: crate::witness::Witnessed,
    /// Nodes that are waited for before a signing key is turned or told destroyed, where this node leads the control group.
    pub signing_awaits: Mutex<Vec<NodeId>>,
    /// Told when a tenant was asked for.
    pub tenants_wanted: Notify,
    /// Told when the control group has something new.
    pub nudged: Notify,
    /// The control leader, as far as it is known.
    pub control_hint: Mutex<Option<NodeId>>,
    /// Why the node cannot serve, for ever: configuration against founding record.
    pub refusal: Mutex<Option<String>>,
    attending: Mutex<BTreeSet<GroupId>>,
    acknowledged: Mutex<BTreeMap<(GroupId, u64), u64>>,
    /// How far the scrubber is.
    pub fsck: Fsck,
    /// Replicas that are being started or replaced.
    pub starting: Mutex<BTreeMap<GroupId, String>>,
}

/// All groups of a zone with so many partitions.
fn groups_of(partitions: u32) -> impl Iterator<Item = GroupId> + use<> {
    (0..GroupId::FIRST_PARTITION + partitions).map(GroupId)
}

impl Core {
    /// A core without replicas.
    pub fn new(shared: Arc<Shared>, wal: Wal) -> Arc<Self> {
        let options = &shared.options;
        Arc::new(Self {
            placement: place_groups(groups_of(options.partitions), &options.nodes, options.replicas),
            shared,
            wal,
            meta: RwLock::default(),
            control: RwLock::default(),
            partitions: RwLock::default(),
            audits: RwLock::default(),
            founding: watch::channel(None).0,
            asked_tenants: Mutex::default(),
            heard: Default::default(),
            gathered: Default::default(),
            witnessed: Default::default(),
            signing_awaits: Mutex::default(),
            tenants_wanted: Notify::new(),
            nudged: Notify::new(),
            control_hint: Mutex::default(),
            refusal: Mutex::default(),
            fsck: Fsck::default(),
            starting: Mutex::default(),
            attending: Mutex::default(),
            acknowledged: Mutex::default(),
        })
    }

    /// The zone's founding record, once it is known and fits.
    pub fn founding(&self) -> Option<Arc<FoundingV1>> {
        self.founding.borrow().clone()
    }

    /// Takes the founding record; one that does not fit this node's configuration stops it from serving.
    pub fn set_founding(&self, record: FoundingV1) {
        match meta::check(&record, &self.shared.options) {
            Ok(()) => {
                self.founding.send_replace(Some(Arc::new(record)));
            }
            Err(why) => {
                tracing::error!(why, "this node does not belong to its zone");
                *self.refusal.lock() = Some(why);
            }
        }
    }

    /// A partition replica of this node.
    pub fn partition(&self, group: GroupId) -> Option<Arc<PartitionReplica>> {
        self.partitions.read().get(&group).cloned()
    }

    /// All partition replicas of this node, in order.
    pub fn partitions(&self) -> Vec<Arc<PartitionReplica>> {
        self.partitions.read().values().cloned().collect()
    }

    /// Adds or replaces a partition replica.
    pub fn put_partition(&self, replica: Arc<PartitionReplica>) {
        self.partitions.write().insert(replica.group.id(), replica);
    }

    /// This node's copy of a group's audit log: a partition's, or the cluster log, which the control group keeps.
    pub fn audit(&self, group: GroupId) -> Option<Arc<AuditStore>> {
        self.audits.read().get(&group).cloned()
    }

    /// All audit logs that have a copy here, in order of their groups.
    pub fn audits(&self) -> Vec<Arc<AuditStore>> {
        self.audits.read().values().cloned().collect()
    }

    /// Adds or replaces a copy.
    pub fn put_audit(&self, store: Arc<AuditStore>) {
        self.audits.write().insert(store.log().group, store);
    }

    /// True for groups that keep an audit log: partitions, and the control group.
    pub fn has_audit(&self, group: GroupId) -> bool {
        group != GroupId::META && self.groups().any(|known| known == group)
    }

    /// A replica of any group, for Raft messages.
    pub fn replica(&self, group: GroupId) -> Option<Arc<dyn Replica>> {
        match group {
            GroupId::META => self.meta.read().as_ref().map(|plain| Arc::new(plain.group.clone()) as Arc<dyn Replica>),
            GroupId::CONTROL => {
                self.control.read().as_ref().map(|plain| Arc::new(plain.group.clone()) as Arc<dyn Replica>)
            }
            group => self.partition(group).map(|replica| Arc::new(replica.group.clone()) as Arc<dyn Replica>),
        }
    }

    /// All groups of the zone.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        groups_of(self.shared.options.partitions)
    }

    /// The nodes on which a group is placed, the preferred leader first.
    pub fn placed(&self, group: GroupId) -> Vec<NodeId> {
        let options = &self.shared.options;
        let placed = self.placement.get(&group).cloned();
        placed.unwrap_or_else(|| place_group(group, &options.nodes, options.replicas))
    }

    /// The other nodes of the zone.
    pub fn peers(&self) -> Vec<NodeId> {
        let own = self.shared.options.node;
        self.shared.options.nodes.iter().map(|node| node.node).filter(|node| *node != own).collect()
    }

    /// True where an agent's slot belongs to the group that a term leads.
    pub fn is_at_home(&self, lead: &Lead, tenant: &TenantSpec, agent: &str) -> bool {
        let slot = slot_of(&tenant.tenant, agent, tenant.placement);
        self.founding().is_some_and(|founding| meta::group_of(&founding, slot) == lead.group())
    }

    /// Notes that this node's replica of a group is there to found it.
    pub fn attend(&self, group: GroupId) {
        self.attending.lock().insert(group);
    }

    /// True where it is.
    pub fn attends(&self, group: GroupId) -> bool {
        self.attending.lock().contains(&group)
    }

    /// Notes what replicas have acknowledged to a leader of this node.
    pub fn note_acknowledged(&self, group: GroupId, progress: &Progress) {
        let mut held = self.acknowledged.lock();
        for (replica, index) in &progress.matched {
            let highest = held.entry((group, *replica)).or_default();
            *highest = (*highest).max(*index);
        }
    }

    /// The highest index that a replica has ever acknowledged to a leader of this node's present life.
    pub fn acknowledged(&self, group: GroupId, replica: u64, progress: &Progress) -> Option<u64> {
        self.note_acknowledged(group, progress);
        self.acknowledged.lock().get(&(group, replica)).copied()
    }

    /// Asks for a tenant's creation, in open zones; it happens in the background.
    pub fn ask_for_tenant(&self, name: &str) {
        let mut asked = self.asked_tenants.lock();
        if asked.len() < TENANTS_ASKED_MAX && !asked.iter().any(|known| known == name) {
            asked.push(name.to_owned());
            self.tenants_wanted.notify_one();
        }
    }

    /// The tenants asked for since the last call.
    pub fn take_asked_tenants(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked_tenants.lock())
    }

    /// One leaf of a group that has a replica here.
    pub async fn leaf(&self, group: GroupId, index: u64) -> Result<(LeafV1, [u8; 32]), Problem> {
        let broken = |why: String| Problem::new(Code::Internal, format!("leaf {index} of group {group}: {why}"));
        let records = self.leaves(group, index, 1).await?;
        let absent = || Problem::new(Code::NotReady, format!("leaf {index} of group {group} is on its way here"));
        let (bytes, _) = records.records.first().ok_or_else(|| absent().retry_after_ms(200))?;
        let leaf = LeafV1::decode(bytes).map_err(|error| broken(error.to_string()))?;
        Ok((leaf, nethical_audit::tree::leaf_hash(bytes)))
    }

    /// Stored leaves with their bodies: from this node's replica, or from another's where this node has none, has not
    /// copied them yet, or finds them damaged.
    pub async fn leaves(&self, group: GroupId, from: u64, count: u64) -> Result<LeavesV1, Problem> {
        let here = self.leaves_here(group, from, count).await;
        if let Some(Ok(found)) = &here
            && (!found.records.is_empty() || from >= found.size)
        {
            return Ok(LeavesV1 { size: found.size, records: found.records.clone() });
        }
        let mut last = here.unwrap_or_else(|| Err(Problem::new(Code::NotFound, format!("there is no group {group}"))));
        let (own, ask) = (self.shared.options.node, AskLeavesV1 { group: group.0, from, count });
        for node in self.placed(group).into_iter().filter(|node| *node != own) {
            let call = self.shared.world.wire.call(node, Lane::Bulk, KIND_LEAVES, ask.to_bytes(), LEAVES_PATIENCE);
            match call.await.map(|bytes| LeavesV1::from_bytes(&bytes)) {
                Ok(Ok(found)) if !found.records.is_empty() || from >= found.size => return Ok(found),
                Ok(_) => {}
                Err(error) if last.is_err() => {
                    last = Err(Problem::new(Code::NoQuorum, error.to_string()).retry_after_ms(500));
                }
                Err(_) => {}
            }
        }
        last
    }

    /// Stored leaves of this node's replica; none where it has none.
    pub async fn leaves_here(&self, group: GroupId, from: u64, count: u64) -> Option<Result<LeavesV1, Problem>> {
        let store = self.audit(group)?;
        let size = store.trail.end();
        let records = store.read(from, count).await;
        let broken = |error| Problem::new(Code::Internal, format!("audit of group {group}: {error}"));
        Some(records.map(|records| LeavesV1 { size, records }).map_err(broken))
    }

    /// The named checks of readiness. Health is progress, not role: a node that applies nothing is not ready.
    pub fn ready(&self) -> Vec<ReadyCheck> {
        let check = |name: &str, result: Result<String, String>| ReadyCheck {
            name: name.to_owned(),
            ok: result.is_ok(),
            detail: result.unwrap_or_else(|why| why),
        };
        let refusal = self.refusal.lock().clone();
        vec![
            check("configuration", refusal.map_or_else(|| Ok("fits the zone".to_owned()), Err)),
            check(
                "founding",
                self.founding()
                    .map(|f| format!("epoch {}", f.epoch))
                    .ok_or("the zone's founding record is not known yet".to_owned()),
            ),
            check("replicas", self.check_replicas()),
            check("leaders", self.check_leaders()),
            check(
                "control",
                self.shared
                    .contact
                    .check(self.shared.world.clock.now())
                    .map(|()| "reached".to_owned())
                    .map_err(|p| p.detail),
            ),
            check("policy", self.check_policy()),
            check("sealer", self.check_sealer()),
        ]
    }

    fn check_replicas(&self) -> Result<String, String> {
        if let Some((group, why)) = self.starting.lock().first_key_value() {
            return Err(format!("group {group} {why}"));
        }
        let stopped = self.partitions().into_iter().find(|replica| !replica.group.is_running());
        match stopped {
            Some(replica) => Err(format!("group {} has stopped", replica.group.id())),
            None => Ok(format!("{} partition replicas run", self.partitions.read().len())),
        }
    }

    fn check_leaders(&self) -> Result<String, String> {
        let leaderless = |replica: &Arc<PartitionReplica>| {
            let seen = *replica.group.leadership().borrow();
            seen.leader.is_none() || (seen.here && replica.lead().is_none())
        };
        match self.partitions().iter().find(|replica| leaderless(replica)) {
            Some(replica) => Err(format!("group {} has no leader that may decide", replica.group.id())),
            None => Ok("every group here has one".to_owned()),
        }
    }

    fn check_policy(&self) -> Result<String, String> {
        let lacks = |replica: &Arc<PartitionReplica>| replica.machine.lock().ledger.policy().is_none();
        match self.partitions().iter().find(|replica| lacks(replica)) {
            Some(replica) => Err(format!("no policy is in force in group {} yet", replica.group.id())),
            None => match self.shared.view().policy() {
                Some((revision, _)) => Ok(format!("revision {revision} is in force")),
                None => Err("this node has no policy bundle yet".to_owned()),
            },
        }
    }

    fn check_sealer(&self) -> Result<String, String> {
        let lags = |replica: &Arc<PartitionReplica>| replica.machine.lock().trail().is_lagging();
        match self.partitions().iter().find(|replica| lags(replica)) {
            Some(replica) => Err(format!("the sealer of group {} is behind", replica.group.id())),
            None => Ok("keeps up".to_owned()),
        }
    }

    /// True where every check passes.
    pub fn is_ready(&self) -> bool {
        self.ready().iter().all(|check| check.ok)
    }
}
