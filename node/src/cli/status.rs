//! `nethical status`: nodes and groups as the cluster sees them now.

use clap::Args;

use nethical_protocol::status::ClusterStatus;

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// See `nethical status --help`.
#[derive(Debug, Args)]
#[command(after_help = "Exits 10 where a node is not ready or a group has no leader.\n\n\
    Examples:\n  nethical status\n  nethical status --endpoint http://127.0.0.1:8002 -o json")]
pub struct StatusArgs {
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: StatusArgs, format: Format) -> anyhow::Result<()> {
    let status: ClusterStatus = args.endpoint.connect()?.get(&["v1", "status"], &[]).await?;
    match format {
        Format::Json => output::print_json(&status)?,
        Format::Table => print(&status)?,
    }
    match faults(&status) {
        faults if faults.is_empty() => Ok(()),
        faults => Err(stop(Exit::Unhealthy, faults.join("; "))),
    }
}

/// What keeps the cluster from being healthy, in words.
pub fn faults(status: &ClusterStatus) -> Vec<String> {
    let unready = status.nodes.iter().filter(|node| !node.ready);
    let headless = status.groups.iter().filter(|group| group.leader.is_none());
    let mut faults: Vec<String> = unready.map(|node| format!("node {} is not ready", node.id)).collect();
    faults.extend(headless.map(|group| format!("group {} has no known leader", group.id)));
    faults
}

/// The nodes as a table; `nethical dev` shows it too.
pub fn nodes_table(status: &ClusterStatus) -> comfy_table::Table {
    let mut table = output::table(&["NODE", "REGION", "HTTP", "QUIC", "PID", "READY", "LEADS"]);
    for node in &status.nodes {
        table.add_row([
            node.id.to_string(),
            node.region.clone(),
            node.http.clone(),
            node.quic.clone(),
            node.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            if node.ready { "yes" } else { "NO" }.to_owned(),
            numbers(&node.leader_of),
        ]);
    }
    table
}

fn print(status: &ClusterStatus) -> anyhow::Result<()> {
    output::print_table(&nodes_table(status), "no nodes")?;
    output::print_line("")?;
    let mut table = output::table(&["GROUP", "LEADER", "TERM", "APPLIED", "LEAVES", "REPLICAS"]);
    for group in &status.groups {
        let replicas: Vec<String> = group.replicas.iter().map(ToString::to_string).collect();
        table.add_row([
            group.id.to_string(),
            group.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            group.term.to_string(),
            group.applied.to_string(),
            group.leaves.to_string(),
            replicas.join(" "),
        ]);
    }
    output::print_table(&table, "no groups")
}

fn numbers(groups: &[u32]) -> String {
    if groups.is_empty() {
        return "-".to_owned();
    }
    groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_protocol::status::{GroupStatus, NodeStatus};

    #[test]
    fn a_silent_node_and_a_headless_group_are_named() {
        let node = |id, ready| NodeStatus {
            id,
            region: "us-east-1".into(),
            http: String::new(),
            quic: String::new(),
            pid: None,
            ready,
            leader_of: vec![],
        };
        let group = |id, leader| GroupStatus { id, leader, term: 1, applied: 1, leaves: 0, replicas: vec![1] };
        let status = ClusterStatus { nodes: vec![node(1, true), node(2, false)], groups: vec![group(4, None)] };
        assert_eq!(faults(&status), ["node 2 is not ready", "group 4 has no known leader"]);
        let fine = ClusterStatus { nodes: vec![node(1, true)], groups: vec![group(4, Some(1))] };
        assert!(faults(&fine).is_empty());
    }
}
