//! Where the risk scores of each cohort stand against their baselines, as the nodes see it. Fed and bounded with the alarms.
//!
//! A question is asked of every node; of a cohort that several nodes have seen, the one that has seen most is told. Names of
//! cohorts are nowhere: whoever knows one asks for it, and gets the cohort with its keyed id.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use rkyv::rancor::Error;
use serde::{Deserialize, Serialize};

use nethical_governance::correlate::{Drift, Level};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::KeyedId;

use crate::alarms::PATIENCE;
use crate::message::KIND_DRIFT;
use crate::node::Core;
use crate::world::Lane;

/// A cohort on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DriftV1 {
    /// Its keyed id; zeros for none.
    pub cohort: [u8; 16],
    /// Log time of the first decision, nanoseconds since 1970.
    pub since_ns: u64,
    /// Decisions in the window.
    pub samples: u64,
    /// Decisions in the baseline.
    pub baseline: u64,
    /// Thousandths.
    pub psi: u32,
    /// Thousandths of a nat.
    pub kl: u32,
    /// Thousandths.
    pub js: u32,
    /// Position in [`Level::ALL`].
    pub level: u8,
}

impl From<Drift> for DriftV1 {
    fn from(drift: Drift) -> Self {
        let Drift { cohort, since_ns, samples, baseline, psi, kl, js, level } = drift;
        Self { cohort: cohort.0, since_ns, samples, baseline, psi, kl, js, level: level as u8 }
    }
}

/// All cohorts of a node.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DriftsV1 {
    /// With the keyed ids of their tenants.
    pub cohorts: Vec<([u8; 16], DriftV1)>,
}

impl DriftsV1 {
    /// The rkyv bytes.
    pub fn to_bytes(&self) -> Bytes {
        let bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, Vec::with_capacity(1_024));
        Bytes::from(bytes.expect("encoding into memory cannot fail"))
    }

    /// Reads and checks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        rkyv::from_bytes::<Self, Error>(bytes)
    }
}

/// Which cohorts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriftQuery {
    /// Those of one tenant.
    pub tenant: Option<String>,
    /// The tenant's cohort of this name.
    pub cohort: Option<String>,
}

/// Cohorts of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftList {
    /// By tenant and cohort.
    pub cohorts: Vec<DriftView>,
    /// Nodes that did not answer: what only they have seen is missing here.
    pub awaiting: Vec<u64>,
}

/// One cohort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftView {
    /// The tenant's name; its keyed id where this node does not know it.
    pub tenant: String,
    /// The drift.
    #[serde(flatten)]
    pub drift: CohortView,
    /// Nodes that have seen it.
    pub nodes: Vec<u64>,
}

/// A cohort's risk scores against their baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortView {
    /// The cohort's keyed id, as leaves have it; empty for actions that name none.
    pub cohort: String,
    /// `learning`, `steady`, `notice`, `warning` or `critical`.
    pub level: String,
    /// Decisions in the window.
    pub samples: u64,
    /// Decisions in the baseline; older ones count for less.
    pub baseline: u64,
    /// Population stability index, thousandths.
    pub psi: u32,
    /// Kullback-Leibler divergence of the window from the baseline, thousandths of a nat.
    pub kl: u32,
    /// Jensen-Shannon distance, thousandths.
    pub js: u32,
    /// Log time of the first decision, nanoseconds since 1970.
    pub since_ns: u64,
}

/// As it is told to people; none for a level of a later release.
pub fn shown(sent: &DriftV1) -> Option<CohortView> {
    let level = Level::ALL.get(usize::from(sent.level))?.as_str().to_owned();
    let cohort = KeyedId(sent.cohort);
    let cohort = if cohort.is_none() { String::new() } else { cohort.to_string() };
    let DriftV1 { since_ns, samples, baseline, psi, kl, js, .. } = *sent;
    Some(CohortView { cohort, level, samples, baseline, psi, kl, js, since_ns })
}

/// What this node tells others.
pub fn report(core: &Core) -> DriftsV1 {
    let cohorts = core.shared.correlation.lock().drifts();
    DriftsV1 { cohorts: cohorts.into_iter().map(|(tenant, drift)| (tenant.0, drift.into())).collect() }
}

/// The cohorts of all nodes, of one tenant or of all.
pub async fn list(core: Arc<Core>, query: DriftQuery) -> Result<DriftList, Problem> {
    let view = core.shared.view();
    let tenant = match &query.tenant {
        None => None,
        Some(name) => Some(view.tenant(name).ok_or_else(|| core.shared.no_tenant(name))?),
    };
    let cohort = match (&query.cohort, tenant) {
        (None, _) => None,
        (Some(name), Some(tenant)) => Some(tenant.keys.keyed_id("cohort", name)),
        (Some(_), None) => {
            return Err(Problem::new(Code::MalformedRequest, "a cohort is one of a tenant: name it too"));
        }
    };
    let only = tenant.map(|tenant| tenant.id);
    let wire = &core.shared.world.wire;
    let asked = core.peers().into_iter().map(|peer| async move {
        let answer = wire.call(peer, Lane::Control, KIND_DRIFT, Bytes::new(), PATIENCE).await;
        (peer.0, answer.ok().and_then(|bytes| DriftsV1::from_bytes(&bytes).ok()))
    });
    let mut said = vec![(core.shared.options.node.0, Some(report(&core)))];
    said.extend(join_all(asked).await);
    let awaiting = said.iter().filter(|(_, cohorts)| cohorts.is_none()).map(|(node, _)| *node).collect();
    let is_asked = |tenant: &[u8; 16], sent: &DriftV1| {
        only.is_none_or(|id| id.0 == *tenant) && cohort.is_none_or(|id| id.0 == sent.cohort)
    };
    let names: BTreeMap<KeyedId, &str> =
        view.tenants().map(|tenant| (tenant.id, tenant.spec.tenant.as_str())).collect();
    let name = |tenant: [u8; 16]| {
        names.get(&KeyedId(tenant)).map_or_else(|| KeyedId(tenant).to_string(), |name| (*name).to_owned())
    };
    let told = merged(said.into_iter().filter_map(|(node, sent)| Some((node, sent?))), is_asked);
    let view = |((tenant, _), (nodes, sent))| Some(DriftView { tenant: name(tenant), drift: shown(&sent)?, nodes });
    let mut cohorts: Vec<DriftView> = told.into_iter().filter_map(view).collect();
    cohorts.sort_by(|left, right| (&left.tenant, &left.drift.cohort).cmp(&(&right.tenant, &right.drift.cohort)));
    Ok(DriftList { cohorts, awaiting })
}

type Merged = BTreeMap<([u8; 16], [u8; 16]), (Vec<u64>, DriftV1)>;

/// By tenant and cohort, from the node that has seen most of it.
fn merged(said: impl Iterator<Item = (u64, DriftsV1)>, is_asked: impl Fn(&[u8; 16], &DriftV1) -> bool) -> Merged {
    let mut told = Merged::new();
    for (node, sent) in said {
        for (tenant, drift) in sent.cohorts.into_iter().filter(|(tenant, drift)| is_asked(tenant, drift)) {
            let (nodes, most) = told.entry((tenant, drift.cohort)).or_insert_with(|| (Vec::new(), drift));
            nodes.push(node);
            if drift.baseline + drift.samples > most.baseline + most.samples {
                *most = drift;
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(cohort: u8, samples: u64, level: Level) -> Drift {
        Drift { cohort: KeyedId([cohort; 16]), since_ns: 5, samples, baseline: 100, psi: 312, kl: 90, js: 120, level }
    }

    #[test]
    fn a_cohort_is_told_once_by_whoever_has_seen_most() {
        let of = |cohorts: Vec<Drift>| {
            let sent = DriftsV1 { cohorts: cohorts.into_iter().map(|drift| ([9; 16], drift.into())).collect() };
            DriftsV1::from_bytes(&sent.to_bytes()).expect("reads")
        };
        let said = [
            (1, of(vec![drift(1, 30, Level::Learning), drift(2, 5, Level::Learning)])),
            (2, of(vec![drift(1, 60, Level::Warning), drift(0, 7, Level::Steady)])),
        ];
        let told = merged(said.clone().into_iter(), |_, _| true);
        let views: Vec<_> = told.values().map(|(nodes, sent)| (nodes.clone(), shown(sent).expect("known"))).collect();
        let short: Vec<_> =
            views.iter().map(|(nodes, view)| (nodes.as_slice(), view.level.as_str(), view.samples)).collect();
        assert_eq!(
            short,
            [(&[2][..], "steady", 7), (&[1, 2][..], "warning", 60), (&[1][..], "learning", 5)],
            "no cohort is one as well"
        );
        assert!(views[0].1.cohort.is_empty() && views[1].1.cohort == "01".repeat(16), "{views:?}");
        assert_eq!(merged(said.into_iter(), |_, sent| sent.cohort == [2; 16]).len(), 1);
        let later = DriftV1 { level: 9, ..drift(1, 1, Level::Steady).into() };
        assert_eq!(shown(&later), None, "of a later release");
    }
}
