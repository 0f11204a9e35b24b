//! How the cluster is, put together from what every node says of itself. A node that does not answer is missing, never guessed.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use nethical_protocol::error::Problem;
use nethical_protocol::ids::GroupId;
use nethical_protocol::status::{ClusterStatus, GroupStatus, NodeStatus};

use super::NodeGovernor;
use crate::api::VerifierKeys;
use crate::message::{KIND_REPORT, NodeReportV1};
use crate::world::Lane;
use crate::{administer, inspect, signing};

/// How long a node may take to report itself.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

impl NodeGovernor {
    /// Asks every node how it is; those that do not answer are missing.
    pub(super) async fn reports(&self) -> Vec<NodeReportV1> {
        let wire = &self.core.shared.world.wire;
        let asked = self
            .core
            .peers()
            .into_iter()
            .map(|peer| wire.call(peer, Lane::Control, KIND_REPORT, Bytes::new(), REPORT_PATIENCE));
        let answers = join_all(asked).await;
        let mut reports = vec![administer::report(&self.core)];
        reports.extend(answers.into_iter().flatten().filter_map(|bytes| NodeReportV1::from_bytes(&bytes).ok()));
        reports
    }

    /// All verifier keys, with those that running nodes vouch under.
    pub(super) async fn all_keys(&self) -> Result<VerifierKeys, Problem> {
        let awaits = signing::awaited(&self.core).await;
        let mut keys = inspect::verifier_keys(&self.core, &awaits)?;
        let cosigners = self.reports().await.into_iter().map(|report| report.cosigner);
        keys.cosigners = cosigners.filter(|vkey| !vkey.is_empty()).collect();
        keys.cosigners.sort();
        Ok(keys)
    }

    /// Nodes and groups as all nodes that answer see them.
    pub(super) async fn cluster_status(&self) -> ClusterStatus {
        let reports = self.reports().await;
        let nodes = self.core.shared.options.nodes.iter().map(|node| {
            let doors = self.core.shared.options.doors.iter().find(|(id, _, _)| *id == node.node);
            let report = reports.iter().find(|report| report.node == node.node.0);
            NodeStatus {
                id: node.node.0,
                region: node.region.clone(),
                http: doors.map(|(_, http, _)| http.clone()).unwrap_or_default(),
                quic: doors.map(|(_, _, quic)| quic.clone()).unwrap_or_default(),
                pid: report.map(|report| report.pid),
                ready: report.is_some_and(|report| report.ready),
                leader_of: report
                    .map(|report| report.groups.iter().filter(|g| g.leads).map(|g| g.group).collect())
                    .unwrap_or_default(),
            }
        });
        let nodes = nodes.collect();
        let groups = self.core.groups().filter_map(|group| group_status(group, &reports)).collect();
        ClusterStatus { nodes, groups }
    }
}

/// A group as its leader sees it, or as the replica with the greatest term does.
fn group_status(group: GroupId, reports: &[NodeReportV1]) -> Option<GroupStatus> {
    let seen = reports.iter().flat_map(|report| report.groups.iter().map(move |found| (report.node, found)));
    let (node, best) =
        seen.filter(|(_, found)| found.group == group.0).max_by_key(|(_, found)| (found.leads, found.term))?;
    let leader = if best.leads { Some(node) } else { best.leader };
    let replicas = best.voters.clone();
    Some(GroupStatus { id: group.0, leader, term: best.term, applied: best.applied, leaves: best.leaves, replicas })
}
