//! Expiries make leaves that no command asked for: in their place, on every replica, by replay and by snapshot.

use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_governance::command::*;
use nethical_protocol::action::ActionKind;
use nethical_protocol::control::*;
use nethical_protocol::ids::{GroupId, KeyedId, LimitNumber, Slot};

use super::*;
use crate::world::memory::MemoryDisk;

const LOG: LogId = LogId { group: GroupId(7), era: 1 };
const SECOND_NS: u64 = 1_000_000_000;
const ID: KeyedId = KeyedId([1; 16]);

async fn machine() -> PartitionMachine {
    let store = AuditStore::open(Arc::new(MemoryDisk::new()), "test", LOG).await.expect("it opens");
    PartitionMachine::new(store).expect("a fresh log")
}

fn control() -> HeaderV1 {
    let limit = LimitFact {
        number: LimitNumber(1),
        tenant: ID,
        unit: ID,
        kind: LimitKind::Lifetime { cap: 10 },
        key: vec![],
        mode: LimitMode::Enforce,
        overrun: Overrun::Debt,
        reserve: 0,
        agent: KeyedId::NONE,
        tool: KeyedId::NONE,
        cohort: KeyedId::NONE,
    };
    let tenant = TenantFact { tenant: ID, placement: Placement::Single };
    let facts = [ControlFact::Tenant(tenant), ControlFact::Policy { digest: [1; 32] }, ControlFact::Limit(limit)];
    let facts = (1..).zip(facts).map(|(at, fact)| RevisedFact { revision: ControlRevision(at), fact }).collect();
    HeaderV1::ApplyControl(ApplyControlV1 { from_rev: ControlRevision(0), to_rev: ControlRevision(3), facts })
}

fn decide(ledger: &Ledger, amount: u64, ttl_s: u32) -> HeaderV1 {
    let actor = ActorKeys { slot: Slot(0), tenant: ID, agent: ID };
    let (request, content) = (KeyedId::NONE, [0; 8]);
    let (session, cohort, tool, region, resource) = Default::default();
    HeaderV1::Decide(DecideV1 {
        request: RequestKey { id: request, content, issued_at_ms: 0, client_chosen: false },
        actor,
        session,
        cohort,
        tool,
        region,
        resource,
        kind: ActionKind::ToolCall,
        costs: vec![CostV1 { unit: ID, amount, is_reserved: ttl_s > 0 }],
        reserve_ttl_s: ttl_s,
        policy_rev: ControlRevision(2),
        by_canary: false,
        agent_version: ledger.agent_version(&actor),
        evaluation: EvaluationV1::default(),
        body_commitment: [0; 32],
        review: ReviewV1::default(),
        is_critical: false,
        has_asked: false,
        region_in_zone: KeyedId::NONE,
        model_score: None,
        sealing: None,
    })
}

/// Applies one command and gives the entry's bytes.
fn apply(machine: &mut PartitionMachine, index: u64, now_ns: u64, header: HeaderV1) -> Bytes {
    let commands = vec![CommandV1 { header, body: vec![] }];
    let entry = EntryV1 { apply_version: APPLY_VERSION, term: 1, now_ns, commands };
    let bytes = Bytes::from(rkyv::to_bytes::<Error>(&entry).expect("into memory").into_vec());
    machine.apply(1, index, &bytes, false).expect("it applies");
    bytes
}

#[tokio::test]
async fn an_expiry_is_a_leaf_before_those_of_the_commands_that_came_later() {
    let mut first = machine().await;
    let mut log = vec![apply(&mut first, 1, SECOND_NS, control())];
    let reserving = decide(&first.ledger, 8, 1);
    log.push(apply(&mut first, 2, SECOND_NS + 1, reserving));
    let snapshot = first.snapshot().expect("a snapshot");
    // All ten are there again: the expiry came first.
    let spending = decide(&first.ledger, 10, 0);
    log.push(apply(&mut first, 3, 3 * SECOND_NS, spending));

    let stored = first.growth.store().read(0, 9).await.expect("all are there");
    let events: Vec<LeafEvent> = stored.iter().map(|(leaf, _)| LeafV1::decode(leaf).expect("ours").event).collect();
    let words: Vec<&str> = events.iter().map(LeafEvent::as_str).collect();
    assert_eq!(words, ["era-opened", "control", "decision", "reservation-ended", "decision"]);
    let LeafEvent::ReservationEnded(ended) = &events[3] else { panic!("an end") };
    assert_eq!((ended.decision, ended.end, ended.quota[0].0.remaining), (2, 2, 10));
    let LeafEvent::Decision(last) = &events[4] else { panic!("a decision") };
    assert_eq!((last.verdict, last.quota[0].remaining), (0, 0));

    let mut replayed = machine().await;
    for (index, bytes) in (1..).zip(&log) {
        replayed.apply(1, index, bytes, false).expect("it applies");
    }
    let mut restored = machine().await;
    restored.restore(&snapshot).expect("it restores");
    restored.apply(1, 3, &log[2], false).expect("it applies");
    assert_eq!((replayed.tree(), restored.tree()), (first.tree(), first.tree()));
}
