//! Records of ages and legal holds. Frozen like the rest.

use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::limits::{LEGAL_HOLDS_MAX, TENANTS_MAX};
use nethical_protocol::retention::{LegalHoldFact, RetentionAges};

use super::{SnapshotError, contents};
use crate::retention::{Ages, LegalHold, Retention};

/// Tenant, ages, since when, what had expired and what could be dropped by then.
type AgesV1 = (KeyedId, RetentionAges, u64, [u64; 3], [u64; 3]);
/// Id, what it covers, since when, until when, what could be dropped when it was set.
type HoldV1 = (ControlRevision, LegalHoldFact, u64, u64, [u64; 3]);

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct RetentionV1 {
    tenants: Vec<AgesV1>,
    holds: Vec<HoldV1>,
}

pub(super) fn record(retention: &Retention) -> RetentionV1 {
    let tenant = |(tenant, held): (&KeyedId, &Ages)| (*tenant, held.ages, held.since_ns, held.expired, held.dropped);
    let hold = |(&(_, id), hold): (&(KeyedId, ControlRevision), &LegalHold)| {
        (id, hold.fact, hold.since_ns, hold.until_ns, hold.dropped)
    };
    RetentionV1 {
        tenants: retention.tenants.iter().map(tenant).collect(),
        holds: retention.holds.iter().map(hold).collect(),
    }
}

pub(super) fn read(record: RetentionV1) -> Result<Retention, SnapshotError> {
    let counts = (record.tenants.len(), record.holds.len());
    if counts.0 > TENANTS_MAX || counts.1 > LEGAL_HOLDS_MAX {
        return Err(contents("ages and legal holds are out of their bounds"));
    }
    let tenant = |(tenant, ages, since_ns, expired, dropped)| (tenant, Ages { ages, since_ns, expired, dropped });
    let hold = |(id, fact, since_ns, until_ns, dropped): HoldV1| {
        ((fact.tenant, id), LegalHold { fact, since_ns, until_ns, dropped })
    };
    let retention = Retention {
        tenants: record.tenants.into_iter().map(tenant).collect(),
        holds: record.holds.into_iter().map(hold).collect(),
    };
    let restored = (retention.tenants.len(), retention.holds.len());
    if restored == counts { Ok(retention) } else { Err(contents("a tenant's ages or a legal hold occur twice")) }
}
