//! A ledger as bytes and back: what a restarting or a new replica starts from instead of the whole log.
//!
//! The records in here are frozen: a later form is a new version beside this one, never an edit. Bodies are not in it,
//! nor what follows from the rest (timers, indexes). Bytes come from disks and peers: whatever they are, reading them
//! gives a ledger or an error. A restored ledger has the same digest as the one that was written.
//!
//! Envelope, little endian, 24 bytes, then rkyv's bytes of [`SnapshotV2`]:
//! ```text
//!  0  magic    4   "NTHS"
//!  4  version  2   2
//!  6  reserved 2   0
//!  8  length   8   bytes of body
//! 16  checksum 4   crc32c over bytes 0..16 and the body
//! 20  reserved 4   0, so that the body starts at a multiple of 8
//! ```

use nethical_protocol::control::{HoldEffect, HoldFact, LimitFact, TenantFact};
use nethical_protocol::decision::AgentStatus;
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};
use nethical_protocol::limits::{COSTS_PER_ACTION_MAX, LIMITS_MATCHING_MAX, SNAPSHOT_BYTES_MAX};
use nethical_protocol::probe;
use nethical_protocol::quarantine::QuarantineFact;
use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::agent::{AgentEntry, AgentHold, AgentKey};
use crate::behaviour::Behaviour;
use crate::canary::Canary;
use crate::command::CostV1;
use crate::dedup::{DedupBounds, Record};
use crate::ledger::{Ledger, PolicyInForce};
use crate::quarantine::{RuleNumber, Watch};
use crate::quota::BucketKey;
use crate::quota::bucket::Bucket;
use crate::quota::lease::{Account, CountersV1, LeaseKey, Share};
use crate::quota::rolling::{Cell, Cells};
use crate::quota::table::Limit;
use crate::reservation::{Hold, Reservation, ReservationKey};
use crate::risk::{RECENT_MAX, RiskProfile};

mod people;
mod retention;
mod subjects;

const MAGIC: [u8; 4] = *b"NTHS";
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 24;
/// No log reaches this; a ledger that claims it would overflow while it counts on.
const LEAVES_MAX: u64 = 1 << 62;

/// Why bytes are not a snapshot, or a ledger does not fit one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not our magic.
    #[error("the bytes do not start with a ledger snapshot")]
    Magic,
    /// A version that this release does not read.
    #[error("snapshot version {0} is not known here; this release reads {VERSION}")]
    Version(u16),
    /// Fewer or more bytes than the header promises.
    #[error("the snapshot's length does not match its header")]
    Length,
    /// Over the bound.
    #[error("a snapshot of {0} bytes is over the bound of {SNAPSHOT_BYTES_MAX}")]
    TooLarge(usize),
    /// Bytes changed.
    #[error("the snapshot's checksum does not match its bytes")]
    Checksum,
    /// The bytes are whole, and no snapshot.
    #[error("the snapshot's contents are not valid: {0}")]
    Contents(String),
}

/// All of a ledger's state. Frozen.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SnapshotV2 {
    group: u32,
    now_ns: u64,
    next_leaf: u64,
    control_rev: ControlRevision,
    policy: Option<(ControlRevision, [u8; 32])>,
    /// (digest, percent), beside the policy.
    canary: Option<([u8; 32], u8)>,
    tenants: Vec<TenantFact>,
    /// With the revisions since which it counts and has its amounts.
    limits: Vec<(LimitFact, ControlRevision, ControlRevision)>,
    holds: Vec<HoldFact>,
    agents: Vec<AgentV1>,
    agents_swept_to: Option<AgentKeyV1>,
    buckets: Vec<BucketV1>,
    buckets_swept_to: Option<BucketKeyV1>,
    dedup_entries_max: u64,
    dedup_window_ms: u64,
    dedup_low_water_ms: u64,
    records: Vec<RecordV1>,
    shares: Vec<ShareV1>,
    accounts: Vec<AccountV1>,
    shares_forgotten_ns: u64,
    reservations: Vec<ReservationV1>,
    approvals: Vec<people::ApprovalV1>,
    releases: Vec<people::ReleaseV1>,
    quarantine: Vec<(ControlRevision, QuarantineFact)>,
    subjects: subjects::SubjectsV1,
    retention: retention::RetentionV1,
}

/// Counters, whether refused to all, units kept; times as in [`Share`]; of what is counted ahead the three times.
type ShareV1 = (LeaseKey, CountersV1, bool, u64, [u64; 4], [u64; 3]);
/// (lease, child, granted, returned, spent, until).
type AccountV1 = (LeaseKey, u32, u64, u64, u64, u64);
type AgentKeyV1 = (Slot, KeyedId, KeyedId);
type BucketKeyV1 = (Slot, LimitNumber, ControlRevision, KeyedId);

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AgentV1 {
    key: AgentKeyV1,
    status: AgentStatus,
    epoch: u64,
    hold: Option<(HoldEffect, u64, u64, Option<RuleNumber>)>,
    risk_score: u16,
    risk_at_ns: u64,
    judged: u64,
    violations: u64,
    recent_ns: [u64; RECENT_MAX],
    actions: u64,
    denied: u64,
    first_ns: u64,
    last_ns: u64,
    behaviour: Behaviour,
    watch: Watch,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct BucketV1 {
    key: BucketKeyV1,
    counter: CounterV1,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum CounterV1 {
    Rate {
        at_ns: u64,
        level: u128,
        period_ns: u64,
    },
    Budget {
        at_ns: u64,
        spent: u64,
    },
    Lifetime {
        spent: u64,
    },
    Concurrency {
        live: u64,
    },
    /// (time of the latest charge, amount) of each cell.
    Rolling(Vec<(u64, u64)>),
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct RecordV1 {
    id: KeyedId,
    content: [u8; 8],
    leaf_index: u64,
    issued_at_ms: u64,
    slot: Slot,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ReservationV1 {
    leaf_index: u64,
    agent: AgentKeyV1,
    at_ns: u64,
    until_ns: u64,
    costs: Vec<(KeyedId, u64)>,
    /// Counter, unit, revision of the limit's amounts, units held.
    holds: Vec<(BucketKeyV1, KeyedId, ControlRevision, u64)>,
}

impl Ledger {
    /// The whole ledger, enveloped and checksummed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let body = rkyv::to_bytes::<rancor::Error>(&self.to_record()).map_err(contents)?;
        if body.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge(body.len()));
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// The ledger that [`Ledger::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes)?;
        let mut aligned = AlignedVec::<16>::with_capacity(body.len());
        aligned.extend_from_slice(body);
        let record = rkyv::from_bytes::<SnapshotV2, rancor::Error>(&aligned).map_err(contents)?;
        Self::from_record(record)
    }

    fn to_record(&self) -> SnapshotV2 {
        let dedup = &self.dedup;
        SnapshotV2 {
            group: self.group,
            now_ns: self.now_ns,
            next_leaf: self.next_leaf,
            control_rev: self.control_rev,
            policy: self.policy.map(|policy| (policy.revision, policy.digest)),
            canary: self.policy.and_then(|policy| policy.canary).map(|canary| (canary.digest, canary.percent)),
            tenants: self.tenants.iter().map(|(id, at)| TenantFact { tenant: *id, placement: *at }).collect(),
            limits: self.quota.limits.iter().map(limit_record).collect(),
            holds: self.holds.iter().filter(|_| !probe::planted("holds-not-in-snapshot")).cloned().collect(),
            agents: self.agents.iter().map(|(key, entry)| agent_record(key, entry)).collect(),
            agents_swept_to: self.swept_to.map(agent_key_record),
            buckets: self.quota.buckets.iter().map(|(key, bucket)| bucket_record(key, bucket)).collect(),
            buckets_swept_to: self.quota.swept_to.map(bucket_key_record),
            dedup_entries_max: dedup.bounds.entries_max as u64,
            dedup_window_ms: dedup.bounds.window_ms,
            dedup_low_water_ms: dedup.low_water_ms,
            records: dedup
                .records
                .iter()
                .filter(|_| !probe::planted("requests-not-in-snapshot"))
                .map(|(id, record)| dedup_record(*id, record))
                .collect(),
            shares: self.quota.leases.shares.iter().map(share_record).collect(),
            accounts: self.quota.leases.accounts.iter().map(account_record).collect(),
            shares_forgotten_ns: self.quota.leases.forgotten_ns,
            reservations: self.reservations.iter().map(|(key, held)| reservation_record(key, held)).collect(),
            approvals: self.approvals.iter().map(people::approval_record).collect(),
            releases: self.releases.iter().map(people::release_record).collect(),
            quarantine: self.quarantine.iter().collect(),
            subjects: subjects::record(&self.subjects),
            retention: retention::record(&self.retention),
        }
    }

    fn from_record(record: SnapshotV2) -> Result<Self, SnapshotError> {
        if !(1..=LEAVES_MAX).contains(&record.next_leaf) {
            return Err(contents("the number of leaves is absurd"));
        }
        let entries_max = usize::try_from(record.dedup_entries_max).map_err(contents)?;
        let bounds = DedupBounds { entries_max, window_ms: record.dedup_window_ms };
        let mut ledger = Self::with_bounds(record.group, bounds);
        let counts = [
            record.tenants.len(),
            record.limits.len(),
            record.holds.len(),
            record.agents.len(),
            record.buckets.len(),
            record.records.len(),
            record.shares.len(),
            record.accounts.len(),
            record.reservations.len(),
            record.approvals.len(),
            record.releases.len(),
            record.quarantine.len(),
        ];
        ledger.now_ns = record.now_ns;
        ledger.next_leaf = record.next_leaf;
        ledger.control_rev = record.control_rev;
        let canary = record.canary.map(|(digest, percent)| Canary { digest, percent });
        ledger.policy = record.policy.map(|(revision, digest)| PolicyInForce { revision, digest, canary });
        ledger.tenants = record.tenants.into_iter().map(|fact| (fact.tenant, fact.placement)).collect();
        for (fact, born, changed) in record.limits {
            let placement = ledger.tenants.get(&fact.tenant).copied().unwrap_or_default();
            ledger.quota.limits.restore(fact, born, changed, placement);
        }
        record.holds.into_iter().for_each(|fact| ledger.holds.place(fact));
        ledger.agents = record.agents.into_iter().map(agent_of).collect();
        ledger.swept_to = record.agents_swept_to.map(agent_key_of);
        ledger.quota.restore(record.buckets.into_iter().map(bucket_of).collect::<Result<_, _>>()?);
        ledger.quota.swept_to = record.buckets_swept_to.map(bucket_key_of);
        ledger.dedup.restore(record.dedup_low_water_ms, record.records.into_iter().map(record_of));
        ledger.quota.leases.shares = record.shares.into_iter().map(share_of).collect();
        ledger.quota.leases.accounts = record.accounts.into_iter().map(account_of).collect();
        ledger.quota.leases.forgotten_ns = record.shares_forgotten_ns;
        for reservation in record.reservations {
            let (key, held) = reservation_of(reservation)?;
            ledger.reservations.insert(key, held);
        }
        for approval in record.approvals {
            let (key, known) = people::approval_of(approval)?;
            ledger.approvals.insert(key, known);
        }
        ledger.releases = record.releases.into_iter().map(people::release_of).collect::<Result<_, _>>()?;
        record.quarantine.into_iter().for_each(|(revision, fact)| ledger.quarantine.set(revision, fact));
        ledger.subjects = subjects::read(record.subjects)?;
        ledger.retention = retention::read(record.retention)?;
        ledger.rearm_all();
        let restored = [
            ledger.tenants.len(),
            ledger.quota.limits.len(),
            ledger.holds.len(),
            ledger.agents.len(),
            ledger.quota.buckets.len(),
            ledger.dedup.len(),
            ledger.quota.leases.shares.len(),
            ledger.quota.leases.accounts.len(),
            ledger.reservations.len(),
            ledger.approvals.len(),
            ledger.releases.len(),
            ledger.quarantine.len(),
        ];
        if restored == counts { Ok(ledger) } else { Err(contents("a key occurs twice")) }
    }
}

fn contents(why: impl ToString) -> SnapshotError {
    SnapshotError::Contents(why.to_string())
}

/// Checks magic, version, length and checksum, in that order; gives the body.
fn open(bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    if bytes.get(..4) != Some(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(SnapshotError::Length)?;
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    if body.len() > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::TooLarge(body.len()));
    }
    let mut length = [0; 8];
    length.copy_from_slice(&header[8..16]);
    if u64::from_le_bytes(length) != body.len() as u64 || header[20..] != [0; 4] {
        return Err(SnapshotError::Length);
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), body);
    let is_whole = header[16..20] == checksum.to_le_bytes() || probe::planted("snapshot-without-checksum");
    if !is_whole { Err(SnapshotError::Checksum) } else { Ok(body) }
}

fn agent_key_record(key: AgentKey) -> AgentKeyV1 {
    (key.slot, key.tenant, key.agent)
}

fn agent_key_of((slot, tenant, agent): AgentKeyV1) -> AgentKey {
    AgentKey { slot, tenant, agent }
}

fn agent_record(key: &AgentKey, entry: &AgentEntry) -> AgentV1 {
    AgentV1 {
        key: agent_key_record(*key),
        status: entry.status,
        epoch: entry.epoch,
        hold: entry.hold.map(|hold| (hold.effect, hold.until_ns, hold.leaf_index, hold.rule)),
        risk_score: entry.risk.score,
        risk_at_ns: entry.risk.at_ns,
        judged: entry.risk.judged,
        violations: entry.risk.violations,
        recent_ns: entry.risk.recent_ns,
        actions: entry.actions,
        denied: entry.denied,
        first_ns: entry.first_ns,
        last_ns: entry.last_ns,
        behaviour: entry.behaviour,
        watch: entry.watch,
    }
}

fn agent_of(record: AgentV1) -> (AgentKey, AgentEntry) {
    let risk = RiskProfile {
        score: record.risk_score,
        at_ns: record.risk_at_ns,
        judged: record.judged,
        violations: record.violations,
        recent_ns: record.recent_ns,
    };
    let entry = AgentEntry {
        status: record.status,
        epoch: record.epoch,
        hold: record.hold.map(|(effect, until_ns, leaf_index, rule)| AgentHold { effect, until_ns, leaf_index, rule }),
        risk,
        actions: record.actions,
        denied: record.denied,
        first_ns: record.first_ns,
        last_ns: record.last_ns,
        behaviour: record.behaviour,
        watch: record.watch,
    };
    (agent_key_of(record.key), entry)
}

fn bucket_key_record(key: BucketKey) -> BucketKeyV1 {
    (key.slot, key.limit, key.born, key.key)
}

fn bucket_key_of((slot, limit, born, key): BucketKeyV1) -> BucketKey {
    BucketKey { slot, limit, born, key }
}

fn bucket_record(key: &BucketKey, bucket: &Bucket) -> BucketV1 {
    let counter = match bucket {
        Bucket::Rate { at_ns, level, period_ns } => {
            CounterV1::Rate { at_ns: *at_ns, level: *level, period_ns: *period_ns }
        }
        Bucket::Budget { at_ns, spent } => CounterV1::Budget { at_ns: *at_ns, spent: *spent },
        Bucket::Lifetime { spent } => CounterV1::Lifetime { spent: *spent },
        Bucket::Concurrency { live } => CounterV1::Concurrency { live: *live },
        Bucket::Rolling(cells) => CounterV1::Rolling(cells.iter().map(|cell| (cell.last_ns, cell.amount)).collect()),
    };
    BucketV1 { key: bucket_key_record(*key), counter }
}

fn bucket_of(record: BucketV1) -> Result<(BucketKey, Bucket), SnapshotError> {
    let bucket = match record.counter {
        CounterV1::Rate { at_ns, level, period_ns } => Bucket::Rate { at_ns, level, period_ns },
        CounterV1::Budget { at_ns, spent } => Bucket::Budget { at_ns, spent },
        CounterV1::Lifetime { spent } => Bucket::Lifetime { spent },
        CounterV1::Concurrency { live } => Bucket::Concurrency { live },
        CounterV1::Rolling(cells) => {
            let cells = cells.into_iter().map(|(last_ns, amount)| Cell { last_ns, amount }).collect();
            let cells = Cells::restore(cells).ok_or_else(|| contents("the cells of a rolling window are out of order"));
            Bucket::Rolling(cells?)
        }
    };
    Ok((bucket_key_of(record.key), bucket))
}

fn limit_record(limit: &Limit) -> (LimitFact, ControlRevision, ControlRevision) {
    (limit.fact.clone(), limit.born, limit.changed)
}

fn reservation_record(key: &ReservationKey, held: &Reservation) -> ReservationV1 {
    let hold = |hold: &Hold| (bucket_key_record(hold.key), hold.unit, hold.changed, hold.amount);
    ReservationV1 {
        leaf_index: key.leaf_index,
        agent: agent_key_record(held.agent),
        at_ns: held.at_ns,
        until_ns: held.until_ns,
        costs: held.costs.iter().map(|cost| (cost.unit, cost.amount)).collect(),
        holds: held.holds.iter().map(hold).collect(),
    }
}

fn reservation_of(record: ReservationV1) -> Result<(ReservationKey, Reservation), SnapshotError> {
    let ReservationV1 { leaf_index, agent, at_ns, until_ns, costs, holds } = record;
    if until_ns == 0 || costs.len() > COSTS_PER_ACTION_MAX + 1 || holds.len() > LIMITS_MATCHING_MAX {
        return Err(contents("a reservation is out of its bounds"));
    }
    let agent = agent_key_of(agent);
    let costs = costs.into_iter().map(|(unit, amount)| CostV1 { unit, amount, is_reserved: true }).collect();
    let hold = |(key, unit, changed, amount)| Hold { key: bucket_key_of(key), unit, changed, amount };
    let holds = holds.into_iter().map(hold).collect();
    Ok((ReservationKey { slot: agent.slot, leaf_index }, Reservation { agent, at_ns, until_ns, costs, holds }))
}

fn share_record((lease, share): (&LeaseKey, &Share)) -> ShareV1 {
    let Share { counters, until_ns, refused_until_ns, enough_at_ns, is_refused_to_all, .. } = *share;
    let Share { pinned, pinned_until_ns, owed_until_ns, tight_until_ns, tight_critical_until_ns, .. } = *share;
    let times = [until_ns, refused_until_ns, enough_at_ns, pinned_until_ns];
    (*lease, counters, is_refused_to_all, pinned, times, [owed_until_ns, tight_until_ns, tight_critical_until_ns])
}

fn share_of((lease, counters, is_refused_to_all, pinned, times, ahead): ShareV1) -> (LeaseKey, Share) {
    let [until_ns, refused_until_ns, enough_at_ns, pinned_until_ns] = times;
    let [owed_until_ns, tight_until_ns, tight_critical_until_ns] = ahead;
    let share = Share {
        counters,
        until_ns,
        refused_until_ns,
        enough_at_ns,
        is_refused_to_all,
        pinned,
        pinned_until_ns,
        owed_until_ns,
        tight_until_ns,
        tight_critical_until_ns,
    };
    (lease, share)
}

fn account_record(((lease, child), account): (&(LeaseKey, u32), &Account)) -> AccountV1 {
    let Account { granted, returned, spent, until_ns } = *account;
    (*lease, *child, granted, returned, spent, until_ns)
}

fn account_of((lease, child, granted, returned, spent, until_ns): AccountV1) -> ((LeaseKey, u32), Account) {
    ((lease, child), Account { granted, returned, spent, until_ns })
}

fn dedup_record(id: KeyedId, record: &Record) -> RecordV1 {
    let Record { content, leaf_index, issued_at_ms, slot } = *record;
    RecordV1 { id, content, leaf_index, issued_at_ms, slot }
}

fn record_of(record: RecordV1) -> (KeyedId, Record) {
    let RecordV1 { id, content, leaf_index, issued_at_ms, slot } = record;
    (id, Record { content, leaf_index, issued_at_ms, slot })
}
