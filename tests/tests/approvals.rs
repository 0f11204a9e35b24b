//! End to end, on real processes: an action is escalated, a person approves it, its group's leader is killed, and the action
//! goes ahead once, named over QUIC.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use nethical_client::action::from_line;
use nethical_client::{Action, Decision, Protocol, Verdict};
use nethical_tests::cluster::Cluster;
use serde_json::{Value, json};

const ASKS: &str = "@id(\"p\") permit(principal, action, resource);\n\
    @id(\"ask\") @verdict(\"escalate\") forbid(principal, action, resource == Tool::\"wire\");\n";

fn ok(cluster: &Cluster, node: u16, args: &[&str]) -> Value {
    let (code, answer) = cluster.cli(node, args).expect("the command line runs");
    assert_eq!(code, 0, "{args:?}: {answer}");
    answer
}

fn wire(amount: u64, approval: &str) -> Action {
    let line = json!({
        "tenant": "bank", "agent_id": "a", "kind": "tool_call", "name": "wire", "args": { "amount": amount },
        "approval": approval,
    });
    from_line(&line.to_string()).expect("a line")
}

async fn decide(cluster: &Cluster, protocol: Protocol, nodes: &[u16], action: Action) -> Decision {
    let client = cluster.client(protocol, nodes).expect("a client");
    client.decide(vec![action]).await.remove(0).result.expect("a decision")
}

fn leader_of(cluster: &Cluster, group: u64) -> u16 {
    let status = cluster.get(1, "/v1/status").expect("a status");
    let groups = status["groups"].as_array().expect("groups");
    let found = groups.iter().find(|found| found["id"] == group).expect("the group");
    found["leader"].as_u64().expect("a leader") as u16
}

#[tokio::test]
async fn an_approval_survives_its_leader_and_counts_once() {
    let cluster = Cluster::start().expect("a cluster");
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("asks.cedar");
    std::fs::write(&bundle, ASKS).expect("written");
    ok(&cluster, 1, &["policy", "put", &bundle.display().to_string(), "--activate"]);

    let escalated = decide(&cluster, Protocol::Http, &[1, 2, 3], wire(5_000, "")).await;
    assert_eq!(escalated.verdict, Verdict::Escalate);
    let id = escalated.approval.expect("an approval").id.to_string();
    let waits = ok(&cluster, 2, &["approval", "list", "--tenant", "bank"]);
    assert_eq!((&waits["approvals"][0]["id"], &waits["awaiting"]), (&json!(id), &json!([])));
    assert_eq!(waits["approvals"][0]["action"]["args"]["amount"], 5_000);

    let approve = ["approval", "approve", &id, "--approver", "ann", "--reason", "agreed"];
    assert_eq!(ok(&cluster, 3, &approve)["state"], "approved");
    assert_eq!(ok(&cluster, 1, &approve)["replayed"], true);
    assert_eq!(cluster.cli(2, &["approval", "deny", &id, "--approver", "ben"]).expect("it runs").0, 1);

    let group = escalated.decision_id.log.group.0;
    let leader = leader_of(&cluster, u64::from(group));
    cluster.kill(leader).expect("killed");
    let others: Vec<u16> = (1..=3).filter(|node| *node != leader).collect();
    let other = decide(&cluster, Protocol::Quic, &others, wire(5_001, &id)).await;
    assert_eq!(
        (other.verdict, other.reasons.last().map(|why| why.code.as_str())),
        (Verdict::Block, Some("approval-mismatch"))
    );
    let used = decide(&cluster, Protocol::Quic, &others, wire(5_000, &id)).await;
    assert_eq!((used.verdict, used.approval.map(|of| of.state)), (Verdict::Allow, Some("used".to_owned())));
    let again = decide(&cluster, Protocol::Http, &others, wire(5_000, &id)).await;
    assert_eq!(
        (again.verdict, again.reasons.last().map(|why| why.code.as_str())),
        (Verdict::Block, Some("approval-used"))
    );
    let shown = ok(&cluster, others[0], &["approval", "show", &id]);
    assert_eq!(
        (&shown["state"], &shown["approver"], &shown["reason"]),
        (&json!("used"), &json!("ann"), &json!("agreed"))
    );
}
