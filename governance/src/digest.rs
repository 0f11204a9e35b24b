//! The digest of a whole ledger, by which replicas find out that they differ.
//!
//! SHA-256 over a canonical encoding: sections in a fixed order, each with its count in front, integers little endian,
//! everything in key order. What follows from other state (timers, indexes) is left out. Each section is hashed by
//! itself and the sections' digests together, so that a section may later keep its digest up to date as it changes.
//! A full pass over 10,000 agents takes about 2 ms.

use nethical_protocol::control::{HoldEffect, HoldFact, KeyPart, LimitFact, LimitKind, LimitMode, Overrun, Placement};
use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::quarantine::{QuarantineFact, QuarantineWhenFact};
use nethical_protocol::retention::{LegalHoldFact, LegalScope, RetentionClass};
use sha2::{Digest, Sha256};

use crate::agent::{AgentEntry, AgentKey};
use crate::approval::{Approval, ApprovalKey};
use crate::dedup::{Dedup, Record};
use crate::ledger::Ledger;
use crate::quota::bucket::Bucket;
use crate::quota::lease::{Account, CountersV1, LeaseKey, Share};
use crate::quota::table::Limit;
use crate::quota::{BucketKey, Quota};
use crate::release::Release;
use crate::reservation::{Reservation, ReservationKey};
use crate::retention::{Ages, LegalHold, Retention};
use crate::subject::{ColdFile, Entry, ErasedV1, Ring, SubjectId};

impl Ledger {
    /// Equal on replicas that have applied the same entries, whatever snapshots they came by.
    pub fn digest(&self) -> [u8; 32] {
        let mut whole = Sha256::new_with_prefix(b"nethical ledger 1");
        for section in [
            head(self),
            section(self.tenants.iter(), |out, (tenant, placement)| {
                out.id(*tenant).byte(placement_byte(*placement));
            }),
            section(self.quota.limits.iter(), |out, limit| out.limit(limit)),
            section(self.holds.iter(), |out, fact| out.zone_hold(fact)),
            section(self.agents.iter(), |out, (key, entry)| out.agent(key, entry)),
            section(self.quota.buckets.iter(), |out, (key, bucket)| out.bucket(key, bucket)),
            section(self.dedup.records.iter(), |out, (id, record)| out.record(*id, record)),
            section(self.quota.leases.shares.iter(), |out, (lease, share)| out.share(lease, share)),
            section(self.quota.leases.accounts.iter(), |out, (place, account)| out.account(place, account)),
            section(self.reservations.iter(), |out, (key, held)| out.reservation(key, held)),
            section(self.approvals.iter(), |out, (key, known)| out.approval(key, known)),
            section(self.releases.iter(), |out, (key, release)| out.release(key, release)),
            section(self.quarantine.iter(), |out, (revision, fact)| out.quarantine(revision, &fact)),
            section(self.subjects.entries.iter(), |out, (id, entry)| out.subject(id, entry)),
            section(self.subjects.erasing.iter(), |out, (at, erased)| out.erased(*at, erased)),
        ] {
            whole.update(section);
        }
        // Ledgers from before there was any retention keep their digests.
        if self.retention != Retention::default() {
            whole.update(section(self.retention.tenants.iter(), |out, (tenant, held)| out.ages(*tenant, held)));
            whole.update(section(self.retention.holds.iter(), |out, ((_, id), hold)| out.legal_hold(*id, hold)));
        }
        if !self.subjects.cold.is_empty() {
            whole.update(section(self.subjects.cold.values(), |out, file| out.cold(file)));
        }
        whole.finalize().into()
    }
}

fn head(ledger: &Ledger) -> [u8; 32] {
    let mut out = Canonical::default();
    out.u64(u64::from(ledger.group)).u64(ledger.now_ns).u64(ledger.next_leaf).u64(ledger.control_rev.0);
    match ledger.policy {
        None => out.byte(0),
        Some(policy) => match policy.canary {
            None => out.byte(1).u64(policy.revision.0).bytes(&policy.digest),
            Some(canary) => {
                let head = out.byte(2).u64(policy.revision.0).bytes(&policy.digest);
                head.bytes(&canary.digest).byte(canary.percent)
            }
        },
    };
    out.u64(ledger.quota.leases.forgotten_ns).ring(&ledger.subjects.ring);
    out.sweeps(ledger.swept_to, &ledger.quota).dedup(&ledger.dedup);
    out.finish()
}

/// The digest of one section: how many items, then each.
fn section<T>(items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Canonical, T)) -> [u8; 32] {
    let mut out = Canonical::default();
    let mut count = 0u64;
    for item in items {
        write(&mut out, item);
        out.spill();
        count += 1;
    }
    out.u64(count);
    out.finish()
}

/// Collects bytes and hashes them by the block, since hashing a few bytes at a time is slow.
#[derive(Default)]
struct Canonical {
    hash: Sha256,
    pending: Vec<u8>,
}

impl Canonical {
    const SPILL_BYTES: usize = 16 * 1024;

    fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn id(&mut self, id: KeyedId) -> &mut Self {
        self.bytes(&id.0)
    }

    fn slot(&mut self, slot: Slot) -> &mut Self {
        self.bytes(&slot.0.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.pending.extend_from_slice(bytes);
        self
    }

    fn spill(&mut self) {
        if self.pending.len() >= Self::SPILL_BYTES {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hash.update(&self.pending);
        self.hash.finalize().into()
    }

    fn sweeps(&mut self, agents: Option<AgentKey>, quota: &Quota) -> &mut Self {
        match agents {
            None => self.byte(0),
            Some(key) => self.byte(1).agent_key(&key),
        };
        match quota.swept_to {
            None => self.byte(0),
            Some(key) => self.byte(1).bucket_key(&key),
        }
    }

    fn dedup(&mut self, dedup: &Dedup) -> &mut Self {
        self.u64(dedup.bounds.entries_max as u64).u64(dedup.bounds.window_ms).u64(dedup.low_water_ms)
    }

    fn limit(&mut self, limit: &Limit) {
        let LimitFact { number, tenant, unit, kind, key, mode, overrun, reserve, agent, tool, cohort } = &limit.fact;
        self.u64(u64::from(number.0))
            .u64(limit.born.0)
            .u64(limit.changed.0)
            .id(*tenant)
            .id(*unit)
            .id(*agent)
            .id(*tool)
            .id(*cohort);
        match *kind {
            LimitKind::Rate { amount, period_s, burst } => self.byte(0).u64(amount).u64(period_s).u64(burst),
            LimitKind::Budget { cap, window_s } => self.byte(1).u64(cap).u64(window_s),
            LimitKind::Lifetime { cap } => self.byte(2).u64(cap),
            LimitKind::Rolling { cap, window_s } => self.byte(3).u64(cap).u64(window_s),
            LimitKind::Concurrency { cap } => self.byte(4).u64(cap),
        };
        self.byte(match mode {
            LimitMode::Enforce => 0,
            LimitMode::Shadow => 1,
            LimitMode::Soft => 2,
        });
        self.byte(u8::from(*overrun == Overrun::Cap)).u64(*reserve);
        self.u64(key.len() as u64);
        for part in key {
            self.byte(key_part_byte(*part));
        }
    }

    fn zone_hold(&mut self, fact: &HoldFact) {
        let HoldFact { id, tenant, cohort, tool, effect, until_ns, session, region } = fact;
        self.u64(id.0).id(*tenant).id(*cohort).id(*tool).byte(effect_byte(*effect)).u64(*until_ns);
        self.id(*session).id(*region);
    }

    fn agent_key(&mut self, key: &AgentKey) -> &mut Self {
        self.slot(key.slot).id(key.tenant).id(key.agent)
    }

    fn agent(&mut self, key: &AgentKey, entry: &AgentEntry) {
        let AgentEntry { status, epoch, hold, risk, behaviour, watch, actions, denied, first_ns, last_ns } = entry;
        self.agent_key(key).byte(*status as u8).u64(*epoch);
        match hold {
            None => self.byte(0),
            Some(hold) => self
                .byte(1)
                .byte(effect_byte(hold.effect))
                .u64(hold.until_ns)
                .u64(hold.leaf_index)
                .u64(hold.rule.map_or(0, |rule| rule.0)),
        };
        self.u64(u64::from(risk.score)).u64(risk.at_ns).u64(risk.judged).u64(risk.violations);
        for at_ns in risk.recent_ns {
            self.u64(at_ns);
        }
        self.u64(*actions).u64(*denied).u64(*first_ns).u64(*last_ns);
        behaviour.put(&mut self.pending);
        for count in watch.severities.iter().chain([&watch.elevated]) {
            self.bytes(&count.to_le_bytes());
        }
    }

    fn ring(&mut self, ring: &Ring) -> &mut Self {
        let Ring { current, past, turned_rev, done_rev, erased_rev } = ring;
        self.byte(u8::from(current.is_some())).u64(current.unwrap_or(0)).u64(past.len() as u64);
        for number in past {
            self.u64(*number);
        }
        self.u64(turned_rev.0).u64(done_rev.0).u64(erased_rev.0)
    }

    fn subject(&mut self, id: &SubjectId, entry: &Entry) {
        self.slot(id.slot).id(id.tenant).id(id.subject).u64(u64::from(entry.generation));
        match entry.key {
            None => self.byte(0),
            Some(key) => self.byte(1).u64(key.ring).bytes(&key.bytes),
        };
    }

    fn ages(&mut self, tenant: KeyedId, held: &Ages) {
        let Ages { ages, since_ns, expired, dropped } = held;
        self.id(tenant).u64(*since_ns);
        for number in RetentionClass::ALL.map(|class| ages.of(class).ns()).iter().chain(expired).chain(dropped) {
            self.u64(*number);
        }
    }

    fn legal_hold(&mut self, id: ControlRevision, hold: &LegalHold) {
        let LegalHold { fact: LegalHoldFact { tenant, scope, from_ns, to_ns }, since_ns, until_ns, dropped } = hold;
        self.u64(id.0).id(*tenant).u64(*from_ns).u64(*to_ns).u64(*since_ns).u64(*until_ns);
        match scope {
            LegalScope::Tenant => self.byte(0),
            LegalScope::Agent(agent) => self.byte(1).id(*agent),
            LegalScope::Person(person) => self.byte(2).id(*person),
        };
        for at_ns in dropped {
            self.u64(*at_ns);
        }
    }

    fn erased(&mut self, at: ControlRevision, erased: &ErasedV1) {
        let ErasedV1 { subject, below } = erased;
        self.u64(at.0).slot(subject.slot).id(subject.tenant).id(subject.subject).u64(u64::from(*below));
    }

    fn cold(&mut self, file: &ColdFile) {
        self.u64(file.first).u64(u64::from(file.leaves)).bytes(&file.object).u64(file.bytes);
        self.u64(u64::from(file.bodies)).u64(file.control_rev.0);
    }

    fn quarantine(&mut self, revision: ControlRevision, fact: &QuarantineFact) {
        self.u64(revision.0).id(fact.tenant).u64(fact.rules.len() as u64);
        for rule in &fact.rules {
            self.byte(effect_byte(rule.effect)).u64(rule.ttl_ns);
            match rule.when {
                QuarantineWhenFact::Elevated { actions } => self.byte(0).u64(u64::from(actions)),
                QuarantineWhenFact::Violations { count, severity, within_ns } => {
                    self.byte(1).byte(count).u64(u64::from(severity)).u64(within_ns)
                }
                QuarantineWhenFact::Finding { detector, severity } => {
                    self.byte(2).byte(detector).u64(u64::from(severity))
                }
            };
        }
    }

    fn bucket_key(&mut self, key: &BucketKey) -> &mut Self {
        self.slot(key.slot).u64(u64::from(key.limit.0)).u64(key.born.0).id(key.key)
    }

    fn bucket(&mut self, key: &BucketKey, bucket: &Bucket) {
        self.bucket_key(key);
        match bucket {
            Bucket::Rate { at_ns, level, period_ns } => {
                self.byte(0).u64(*at_ns).bytes(&level.to_le_bytes()).u64(*period_ns)
            }
            Bucket::Budget { at_ns, spent } => self.byte(1).u64(*at_ns).u64(*spent),
            Bucket::Lifetime { spent } => self.byte(2).u64(*spent),
            Bucket::Concurrency { live } => self.byte(4).u64(*live),
            Bucket::Rolling(cells) => {
                self.byte(3).u64(cells.iter().len() as u64);
                cells.iter().fold(self, |out, cell| out.u64(cell.last_ns).u64(cell.amount))
            }
        };
    }

    fn lease(&mut self, lease: &LeaseKey) -> &mut Self {
        let LeaseKey { slot, limit, born, key, window_ns } = lease;
        self.slot(*slot).u64(u64::from(limit.0)).u64(born.0).id(*key).u64(*window_ns)
    }

    fn share(&mut self, lease: &LeaseKey, share: &Share) {
        let Share { counters, until_ns, refused_until_ns, enough_at_ns, is_refused_to_all, .. } = share;
        let Share { pinned, pinned_until_ns, owed_until_ns, tight_until_ns, tight_critical_until_ns, .. } = share;
        let CountersV1 { born_ns, granted, returned, spent, spent_at_ns } = counters;
        self.lease(lease).u64(*born_ns).u64(*granted).u64(*returned).u64(*spent).u64(*spent_at_ns);
        self.u64(*until_ns)
            .u64(*refused_until_ns)
            .u64(*enough_at_ns)
            .byte(u8::from(*is_refused_to_all))
            .u64(*pinned)
            .u64(*pinned_until_ns)
            .u64(*owed_until_ns)
            .u64(*tight_until_ns)
            .u64(*tight_critical_until_ns);
    }

    fn account(&mut self, (lease, child): &(LeaseKey, u32), account: &Account) {
        let Account { granted, returned, spent, until_ns } = account;
        self.lease(lease).u64(u64::from(*child)).u64(*granted).u64(*returned).u64(*spent).u64(*until_ns);
    }

    fn reservation(&mut self, key: &ReservationKey, held: &Reservation) {
        let Reservation { agent, at_ns, until_ns, costs, holds } = held;
        self.u64(key.leaf_index).agent_key(agent).u64(*at_ns).u64(*until_ns).u64(costs.len() as u64);
        for cost in costs {
            self.id(cost.unit).u64(cost.amount);
        }
        self.u64(holds.len() as u64);
        for hold in holds {
            self.bucket_key(&hold.key).id(hold.unit).u64(hold.changed.0).u64(hold.amount);
        }
    }

    fn approval(&mut self, key: &ApprovalKey, known: &Approval) {
        let Approval { agent, digest, policy_rev, at_ns, until_ns, state, word_leaf, end_leaf } = known;
        self.u64(key.leaf_index).agent_key(agent).id(*digest).u64(policy_rev.0).u64(*at_ns).u64(*until_ns);
        self.byte(*state as u8).u64(*word_leaf).u64(*end_leaf);
    }

    fn release(&mut self, key: &AgentKey, release: &Release) {
        let Release { needed, names, voices } = release;
        self.agent_key(key).byte(*needed).u64(names.len() as u64).u64(voices.len() as u64);
        for id in names.iter().chain(voices) {
            self.id(*id);
        }
    }

    fn record(&mut self, id: KeyedId, record: &Record) {
        let Record { content, leaf_index, issued_at_ms, slot } = record;
        self.id(id).bytes(content).u64(*leaf_index).u64(*issued_at_ms).slot(*slot);
    }
}

fn placement_byte(placement: Placement) -> u8 {
    match placement {
        Placement::Single => 0,
        Placement::Spread => 1,
    }
}

fn effect_byte(effect: HoldEffect) -> u8 {
    match effect {
        HoldEffect::Block => 0,
        HoldEffect::Restrict => 1,
    }
}

fn key_part_byte(part: KeyPart) -> u8 {
    match part {
        KeyPart::Tenant => 0,
        KeyPart::Cohort => 1,
        KeyPart::Agent => 2,
        KeyPart::Session => 3,
        KeyPart::Tool => 4,
        KeyPart::Region => 5,
    }
}
