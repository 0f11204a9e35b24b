//! What all parts of a node share: the seams, its options, the zone's rules as it knows them, clocks, control contact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use nethical_audit::body::{COMMAND_ID_BYTES, command_id};
use nethical_audit::keys::Keyring;
use nethical_audit::note::cosign::Cosigner;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, NodeId};
use nethical_protocol::limits::INDEX_CACHE_BYTES_MAX;
use nethical_protocol::ring::RingNode;

use crate::alarms::Correlation;
use crate::canary::CanaryCounts;
use crate::contact::Contact;
use crate::control::RevisedEventV1;
use crate::control::view::{ControlView, ViewError};
use crate::overshoot::Overshoot;
use crate::replicate::group::Timing;
use crate::ringkeys::RingKeys;
use crate::scores::ScoreCounts;
use crate::seeds::{Public, SigningSeeds};
use crate::shadow::ShadowCounts;
use crate::sla::Monitor;
use crate::store::IndexCache;
use crate::text::file::Texts;
use crate::tier::fetch::ColdParts;
use crate::tier::promoted::Promoted;
use crate::timekeeper::Timekeeper;
use crate::wal::OnFatal;
use crate::witness::Witness;
use crate::world::World;

/// What an operator says to a node's cluster half.
#[derive(Debug, Clone)]
pub struct Options {
    /// First part of every log origin.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// The process, for people who look for it.
    pub pid: u32,
    /// All nodes of the zone, sorted by id, this one included.
    pub nodes: Vec<RingNode>,
    /// HTTP and QUIC doors by node, for status.
    pub doors: Vec<(NodeId, String, String)>,
    /// Partition groups of the zone.
    pub partitions: u32,
    /// Replicas of each group.
    pub replicas: usize,
    /// Raft timers.
    pub timing: Timing,
    /// Whether this node may found groups that nobody has founded yet.
    pub bootstrap: bool,
    /// Whether naming an unknown tenant creates it (development clusters).
    pub open_tenants: bool,
    /// Audit segments whose newest leaf is older than this are moved to the warm tier; 0 for never.
    pub warm_after_s: u64,
    /// Warm segments whose newest leaf is older than this are moved to the object store, where there is one; 0 for never.
    pub cold_after_s: u64,
    /// Bytes of disk for parts of cold files that were read again; 0 keeps none.
    pub promoted_bytes: u64,
    /// Who is shown the cluster log's checkpoints.
    pub witnesses: Vec<Witness>,
    /// The bundle that a new zone starts with.
    pub first_policy: String,
}

/// Shared by everything that a node runs.
pub struct Shared {
    /// The seams.
    pub world: World,
    /// What the operator said.
    pub options: Options,
    /// The zone's ring key.
    pub keyring: Keyring,
    /// What this node signs and vouches by.
    pub seeds: SigningSeeds,
    /// What subjects' keys of the groups here are wrapped under.
    pub ring_keys: RingKeys,
    /// By which this node vouched last, with its public key.
    pub cosigner: Mutex<Option<(Public, Arc<Cosigner>)>>,
    /// Told when the disk fails. In production it ends the process: nothing is tried again on a disk that has failed.
    pub on_fatal: OnFatal,
    /// The others' clocks.
    pub timekeeper: Timekeeper,
    /// When the control group was last reached.
    pub contact: Contact,
    /// How often the candidate in the shadow agrees.
    pub shadow: ShadowCounts,
    /// How well scores do beside the rules'.
    pub scores: ScoreCounts,
    /// Adds up what was let through.
    pub overshoot: Mutex<Overshoot>,
    /// Looks at what many agents do together.
    pub correlation: Mutex<Correlation>,
    /// Search indexes of audit segments.
    pub index_cache: IndexCache,
    /// Words of the bodies of tenants that asked for it.
    pub texts: Texts,
    /// Parts of cold files in memory.
    pub cold_parts: ColdParts,
    /// Parts of cold files on the disk, since they were read again.
    pub promoted: Promoted,
    /// What a canary decides.
    pub canary: CanaryCounts,
    /// What the doors answered each tenant.
    pub sla: Monitor,
    process_random: u64,
    sealed_bodies: AtomicU64,
    /// The newest log time of all groups here. Read by the planted bug `apply-reads-other-group` alone.
    pub newest_ns: Arc<AtomicU64>,
    view: RwLock<Arc<ControlView>>,
    revision: watch::Sender<ControlRevision>,
}

impl Shared {
    /// A node that knows no rules yet.
    pub fn new(
        world: World,
        options: Options,
        (keyring, ring_keys, seeds): (Keyring, RingKeys, SigningSeeds),
        (texts, promoted): (Texts, Promoted),
        on_fatal: OnFatal,
    ) -> Arc<Self> {
        let mut random = [0; 8];
        world.scope.fill(&mut random);
        Arc::new(Self {
            process_random: u64::from_le_bytes(random),
            sealed_bodies: AtomicU64::new(0),
            newest_ns: Arc::default(),
            world,
            options,
            keyring,
            seeds,
            ring_keys,
            cosigner: Mutex::default(),
            on_fatal,
            timekeeper: Timekeeper::default(),
            contact: Contact::default(),
            shadow: ShadowCounts::default(),
            scores: ScoreCounts::default(),
            overshoot: Mutex::default(),
            correlation: Mutex::default(),
            index_cache: IndexCache::new(INDEX_CACHE_BYTES_MAX),
            texts,
            cold_parts: ColdParts::default(),
            promoted,
            canary: CanaryCounts::default(),
            sla: Monitor::default(),
            view: RwLock::new(Arc::new(ControlView::default())),
            revision: watch::channel(ControlRevision(0)).0,
        })
    }

    /// The zone's rules as this node knows them.
    pub fn view(&self) -> Arc<ControlView> {
        self.view.read().clone()
    }

    /// Takes events in. Events that are not the next ones change nothing.
    pub fn take_in(&self, events: &[RevisedEventV1]) -> Result<ControlRevision, ViewError> {
        let mut held = self.view.write();
        let mut view = ControlView::clone(&held);
        for event in events {
            view.fold(event, &self.keyring, &self.world.prepared)?;
        }
        let revision = view.revision();
        *held = Arc::new(view);
        drop(held);
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// Why an unknown tenant is refused. A node that has not heard the zone's rules lately, as after its start, cannot
    /// say that there is no such tenant: it asks to try again.
    pub fn no_tenant(&self, name: &str) -> Problem {
        match self.contact.check(self.world.clock.now()) {
            Ok(()) => Problem::new(Code::UnknownTenant, format!("there is no tenant {name:?}")),
            Err(not_heard) => not_heard,
        }
    }

    /// The revision known, now and from now on.
    pub fn revision(&self) -> watch::Receiver<ControlRevision> {
        self.revision.subscribe()
    }

    /// A command id that no other sealed body has.
    pub fn command_id(&self) -> [u8; COMMAND_ID_BYTES] {
        let counter = self.sealed_bodies.fetch_add(1, Ordering::Relaxed);
        command_id(self.options.node.0, self.process_random, counter)
    }

    /// This node's region.
    pub fn region(&self) -> &str {
        let own = |node: &&RingNode| node.node == self.options.node;
        self.options.nodes.iter().find(own).map_or("", |node| node.region.as_str())
    }
}
