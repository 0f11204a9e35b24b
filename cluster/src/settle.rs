//! Settling reservations, as the group's leader does it: what the client says becomes a command, and its leaf an answer.
//!
//! The decision's own leaf says what was reserved and for whom, so nobody has to name the tenant again. Nothing is
//! decided here: whether the reservation lives is judged in apply.

use std::sync::Arc;

use bytes::Bytes;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_governance::command::{HeaderV1, SettleV1};
use nethical_governance::outcome::{EndV1, OutcomeV1};
use nethical_protocol::decision::{ActionOutcome, Settlement};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, KeyedId, Slot};

use crate::administer::{PATIENCE, lead_of};
use crate::answer::settlement_of;
use crate::control::view::Tenant;
use crate::lead::Lead;
use crate::message::{SettleAnswerV1, SettleAskV1};
use crate::node::Core;
use crate::replica::PartitionReplica;

/// Settles a reservation, where this node leads the decision's group.
pub async fn on_settle(core: Arc<Core>, ask: SettleAskV1) -> Bytes {
    let (replica, lead) = match lead_of(&core, ask.decision.log.group) {
        Ok(found) => found,
        Err(hint) => return SettleAnswerV1::NotLeader(hint).to_bytes(),
    };
    let answer = match settle_here(&core, &replica, &lead, &ask).await {
        Ok(settlement) => SettleAnswerV1::Done(settlement),
        Err(problem) if problem.code == Code::NotLeader => SettleAnswerV1::NotLeader(None),
        Err(problem) => SettleAnswerV1::Problem(problem),
    };
    answer.to_bytes()
}

async fn settle_here(
    core: &Core,
    replica: &PartitionReplica,
    lead: &Lead,
    ask: &SettleAskV1,
) -> Result<Settlement, Problem> {
    let decided = decision_leaf(core, replica, ask.decision).await?;
    let view = core.shared.view();
    let missing = || Problem::new(Code::NotReady, "the tenant has not reached this node yet").retry_after_ms(200);
    let tenant = view.tenants().find(|tenant| tenant.id == decided.tenant).cloned().ok_or_else(missing)?;
    let settle = settle_of(&tenant, &decided, ask)?;
    let (entry, at) = replica.propose(lead, HeaderV1::SettleReservation(settle), Vec::new(), PATIENCE).await?;
    let cluster = &core.shared.options.cluster;
    let (leaf, hash, replayed, same) = match &entry.results[at].outcome {
        OutcomeV1::Settled(_) => {
            let record = entry.results[at].record.as_ref().expect("a settlement makes a leaf");
            (LeafV1::clone(&record.leaf), record.hash, false, true)
        }
        OutcomeV1::Duplicate { leaf_index } | OutcomeV1::Conflict { leaf_index } => {
            let (leaf, hash) = core.leaf(ask.decision.log.group, *leaf_index).await?;
            (leaf, hash, true, matches!(entry.results[at].outcome, OutcomeV1::Duplicate { .. }))
        }
        OutcomeV1::Stale(_) => return Err(Problem::new(Code::NotLeader, "leadership moved")),
        _ => return Err(forgotten(ask.decision)),
    };
    let LeafEvent::ReservationEnded(ended) = &leaf.event else {
        return Err(Problem::new(Code::Internal, format!("leaf {} is no reservation's end", leaf.leaf_index)));
    };
    match same {
        true => Ok(settlement_of(cluster, &view, &leaf, &hash, ended, replayed)),
        false => Err(ended_otherwise(&leaf, ended.end)),
    }
}

/// The decision that reserved, from the audit trail.
async fn decision_leaf(core: &Core, replica: &PartitionReplica, id: DecisionId) -> Result<DecisionLeaf, Problem> {
    let missing = || Problem::new(Code::NotFound, format!("there is no decision {id}"));
    let (size, log) = {
        let machine = replica.machine.lock();
        (machine.tree().0, machine.log())
    };
    if log != id.log || id.leaf_index >= size {
        return Err(missing());
    }
    let (leaf, _) = core.leaf(id.log.group, id.leaf_index).await?;
    match leaf.event {
        LeafEvent::Decision(decided) if decided.reserved != 0 && decided.verdict < 2 => Ok(*decided),
        LeafEvent::Decision(_) => {
            Err(Problem::new(Code::NoReservation, format!("decision {id} reserved nothing or was denied")))
        }
        _ => Err(missing()),
    }
}

/// The command: units by their keyed ids, each of which must have been reserved.
fn settle_of(tenant: &Tenant, decided: &DecisionLeaf, ask: &SettleAskV1) -> Result<SettleV1, Problem> {
    let costs = decided.costs.iter().enumerate();
    let reserved: Vec<KeyedId> =
        costs.filter(|(at, _)| decided.reserved >> at & 1 == 1).map(|(_, (unit, _))| *unit).collect();
    let said: &[(String, u64)] = match &ask.outcome {
        ActionOutcome::Used(used) => used,
        ActionOutcome::Released => &[],
    };
    let is_release = ask.outcome == ActionOutcome::Released;
    let mut used = Vec::with_capacity(said.len());
    let mut text = Vec::new();
    for (name, amount) in said {
        let unit = tenant.keys.keyed_id("unit", name);
        if !reserved.contains(&unit) {
            let detail = format!("decision {} reserved no {name:?}", ask.decision);
            return Err(Problem::new(Code::MalformedRequest, detail));
        }
        used.push((unit, *amount));
        text.extend_from_slice(&unit.0);
        text.extend_from_slice(&amount.to_le_bytes());
    }
    let index = ask.decision.leaf_index.to_le_bytes();
    let content = tenant.keys.content_mac(&[b"settle", &index, &[u8::from(is_release)], &text]);
    Ok(SettleV1 { slot: Slot(decided.slot), decision: ask.decision.leaf_index, content, is_release, used })
}

fn ended_otherwise(leaf: &LeafV1, end: u8) -> Problem {
    let at = leaf.leaf_index;
    match usize::from(end) == EndV1::Expired as usize {
        true => Problem::new(Code::ReservationExpired, format!("the reservation expired at leaf {at}")),
        false => Problem::new(Code::ReservationConflict, format!("leaf {at} settled it with another outcome")),
    }
}

fn forgotten(id: DecisionId) -> Problem {
    let detail = format!("the reservation of decision {id} ended so long ago that the group forgot how");
    Problem::new(Code::RequestTooOld, detail)
}

#[cfg(test)]
mod tests {
    use nethical_audit::keys::TenantKeys;
    use nethical_protocol::control::TenantSpec;
    use nethical_protocol::ids::{GroupId, LogId};

    use super::*;

    fn tenant() -> Tenant {
        let spec = TenantSpec::named("t");
        Tenant { spec, keys: TenantKeys::new(&[7; 32]), id: KeyedId([1; 16]) }
    }

    fn settle(outcome: ActionOutcome) -> Result<SettleV1, Problem> {
        let tenant = tenant();
        let costs = ["requests", "tokens", "usd"].map(|unit| (tenant.keys.keyed_id("unit", unit), 5)).to_vec();
        let decided = DecisionLeaf { slot: 9, costs, reserved: 0b110, ..DecisionLeaf::default() };
        let log = LogId { group: GroupId(2), era: 1 };
        let ask = SettleAskV1 { decision: DecisionId { log, leaf_index: 42 }, outcome };
        let travelled = SettleAskV1::from_bytes(&ask.to_bytes()).expect("our own bytes");
        assert_eq!(travelled, ask);
        settle_of(&tenant, &decided, &travelled)
    }

    fn used(unit: &str, amount: u64) -> ActionOutcome {
        ActionOutcome::Used(vec![(unit.to_owned(), amount)])
    }

    #[test]
    fn only_reserved_units_can_be_settled_and_each_outcome_has_its_own_content() {
        let tokens = settle(used("tokens", 3)).expect("tokens are reserved");
        let unit = tenant().keys.keyed_id("unit", "tokens");
        assert_eq!((tokens.slot, tokens.decision, &tokens.used[..]), (Slot(9), 42, &[(unit, 3)][..]));
        assert_eq!(settle(used("tokens", 3)).expect("the same again").content, tokens.content);
        for unit in ["requests", "tokens.input"] {
            assert_eq!(settle(used(unit, 3)).map_err(|problem| problem.code), Err(Code::MalformedRequest), "{unit}");
        }
        let others = [used("tokens", 4), used("usd", 3), ActionOutcome::Used(vec![]), ActionOutcome::Released];
        let mut contents: Vec<_> = others.map(|outcome| settle(outcome).expect("well formed").content).into();
        contents.push(tokens.content);
        contents.sort();
        contents.dedup();
        assert_eq!(contents.len(), 5);
    }
}
