//! Aggregates that leave the zone: counts of a tenant's decisions, exact or with noise, each export decided and charged first.
//!
//! An export is an action like any other: of kind `data_access`, named `aggregate.export`, by the tenant's reserved subject.
//! So policy, hold-orders, limits and approvals bind it, its ε is a cost in a unit that limits count, and it makes a leaf.
//! Order matters: count, charge, then draw. The counts are bound into the charged action, and the noise is drawn from dice
//! that the tenant's key and the charge's leaf determine: under one request id there is one charge, one set of counts and
//! one answer, from any node. No count leaves this module without noise where the tenant says so.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::control::{KeyPart, LimitKind, LimitMode, LimitSpec, Placement};
use nethical_protocol::decision::Decision;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::GroupId;
use nethical_protocol::limits::AGGREGATE_CELLS_MAX;
use nethical_protocol::privacy::{
    AggregateAnswer, AggregateBy, AggregateCell, AggregateQuery, AggregateView, EPSILON_MICROS_DEFAULT, EPSILON_UNIT,
    EXPORT_ACTION, EXPORT_SUBJECT, NoiseView, PER_AGENT_DEFAULT, PrivacyMode,
};

use crate::administer;
use crate::ask::{self, Question};
use crate::control::view::{ControlView, Tenant};
use crate::decide::Decider;
use crate::message::{CountAnswerV1, CountAskV1, KIND_COUNT};
use crate::node::Core;

pub mod count;
mod noise;

use noise::Scale;

/// How long counting may take, in all groups at once.
const COUNT_PATIENCE: Duration = Duration::from_secs(20);
/// How long the export's own decision may take.
const DECIDE_PATIENCE: Duration = Duration::from_secs(10);

/// What noise an export has: its cost in millionths of ε, and what one agent may add.
type Noise = Option<(u64, u32)>;

/// Counts, charges, and answers.
///
/// # Errors
/// Coded; nothing was exported. After `outcome-unknown` the same request id tells.
pub async fn export(core: Arc<Core>, decider: Decider, query: AggregateQuery) -> Result<AggregateAnswer, Problem> {
    query.check()?;
    query.check_closed(core.shared.world.clock.wall_ns())?;
    let view = core.shared.view();
    let tenant = view.tenant(&query.tenant).cloned().ok_or_else(|| core.shared.no_tenant(&query.tenant))?;
    let noise = noise_of(&view, &tenant, &query)?;
    let named = named_cells(&view, &query)?;
    let counts = count(&core, &tenant, &query, &named, noise).await?;
    let action = action_of(&tenant, &query, &named, &counts, noise);
    let bound = action.args_json.clone();
    let answer = decider.decide(vec![action], DECIDE_PATIENCE).await.pop();
    let missing = || Problem::new(Code::OutcomeUnknown, "the export's decision was not answered");
    let decision = answer.ok_or_else(missing)?.result?;
    if !decision.allowed {
        return Ok(AggregateAnswer::Denied(Box::new(decision)));
    }
    if noise.is_some() && !is_charged(&decision) {
        return Err(no_budget(&query.tenant));
    }
    let counts = match noise {
        None => counts.into_iter().map(|count| i64::try_from(count).unwrap_or(i64::MAX)).collect(),
        Some(noise) => blurred(&tenant, &decision.audit.leaf_hash, &bound, &counts, noise),
    };
    let cells = count::cells(query.by, &named).into_iter().zip(counts);
    Ok(AggregateAnswer::Exported(Box::new(AggregateView {
        mode: tenant.privacy_mode(),
        by: query.by,
        from_ns: query.from_ns,
        to_ns: query.to_ns,
        cells: cells.map(|(cell, count)| AggregateCell { cell, count }).collect(),
        noise: noise.map(noise_view),
        tenant: query.tenant,
        decision,
    })))
}

/// What noise the tenant's mode asks for. With noise there must be a limit that its cost is charged to.
fn noise_of(view: &ControlView, tenant: &Tenant, query: &AggregateQuery) -> Result<Noise, Problem> {
    if tenant.privacy_mode() == PrivacyMode::Standard {
        return match query.epsilon_micros.is_none() && query.per_agent_max.is_none() {
            true => Ok(None),
            false => Err(Problem::new(
                Code::MalformedRequest,
                "epsilon_micros and per_agent_max are for tenants in mode differential; this one's counts are exact",
            )),
        };
    }
    if !view.limits().any(|(_, limit)| limit.tenant == query.tenant && is_budget(limit)) {
        return Err(no_budget(&query.tenant));
    }
    let epsilon_micros = query.epsilon_micros.unwrap_or(EPSILON_MICROS_DEFAULT);
    Ok(Some((epsilon_micros, query.per_agent_max.unwrap_or(PER_AGENT_DEFAULT))))
}

/// True where a limit counts the ε of every export of its tenant in one counter.
fn is_budget(limit: &LimitSpec) -> bool {
    let only = |named: &str, own: &str| named.is_empty() || named == own;
    limit.unit == EPSILON_UNIT
        && limit.mode == LimitMode::Enforce
        && !matches!(limit.kind, LimitKind::Concurrency { .. })
        && only(&limit.agent, EXPORT_SUBJECT)
        && only(&limit.tool, EXPORT_ACTION)
        && limit.cohort.is_empty()
        // An export is in the region of whoever leads: keyed by it, every region would have a budget of its own.
        && !limit.key.contains(&KeyPart::Region)
}

fn no_budget(tenant: &str) -> Problem {
    let detail =
        format!("tenant {tenant} exports with noise, and no enforced limit in {EPSILON_UNIT} binds its exports");
    Problem::new(Code::NoPrivacyBudget, detail)
}

/// The record says so itself: a limit that was removed between look and charge has charged nothing.
fn is_charged(decision: &Decision) -> bool {
    decision.quota.iter().any(|quota| quota.unit == EPSILON_UNIT && quota.mode == LimitMode::Enforce)
}

/// The names of cells that hang on more than what is counted by: the caller's, or the rules of the bundle in force.
fn named_cells(view: &ControlView, query: &AggregateQuery) -> Result<Vec<String>, Problem> {
    if query.by != AggregateBy::Rule || !query.cells.is_empty() {
        return Ok(query.cells.clone());
    }
    let missing = || Problem::new(Code::NotReady, "no policy is in force on this node yet").retry_after_ms(500);
    let (_, bundle) = view.policy().ok_or_else(missing)?;
    match bundle.rule_ids().count() {
        rules if rules > AGGREGATE_CELLS_MAX => Err(Problem::new(
            Code::MalformedRequest,
            format!("cells: the bundle in force has {rules} rules; name up to {AGGREGATE_CELLS_MAX} of them"),
        )),
        _ => Ok(bundle.rule_ids().map(str::to_owned).collect()),
    }
}

/// The counts of all groups that host agents of the tenant; of none where one does not answer.
async fn count(
    core: &Arc<Core>,
    tenant: &Tenant,
    query: &AggregateQuery,
    named: &[String],
    noise: Noise,
) -> Result<Vec<u64>, Problem> {
    let groups: Vec<GroupId> = match tenant.spec.placement {
        Placement::Single => vec![administer::group_of_agent(core, &query.tenant, EXPORT_SUBJECT)?],
        Placement::Spread => core.groups().filter(|group| group.is_partition()).collect(),
    };
    let ask = |group: GroupId| CountAskV1 {
        group: group.0,
        tenant: query.tenant.clone(),
        by: query.by,
        cells: named.to_vec(),
        from_ns: query.from_ns,
        to_ns: query.to_ns,
        per_agent_max: noise.map(|(_, most)| most),
    };
    let asked = groups.into_iter().map(|group| count_in(core, group, ask(group)));
    let mut sums = vec![0u64; count::cells(query.by, named).len()];
    for counts in join_all(asked).await {
        for (sum, count) in sums.iter_mut().zip(counts?) {
            *sum = sum.saturating_add(count);
        }
    }
    Ok(sums)
}

async fn count_in(core: &Arc<Core>, group: GroupId, ask: CountAskV1) -> Result<Vec<u64>, Problem> {
    let until = core.shared.world.clock.now() + COUNT_PATIENCE;
    let (own, local) = (core.clone(), ask.clone());
    let here = move |_| count::on_count(own.clone(), local.clone()).boxed();
    let read = |bytes: &[u8]| match CountAnswerV1::from_bytes(bytes).ok()? {
        CountAnswerV1::Counts(counts) => Some(Ok(Ok(counts))),
        CountAnswerV1::Problem(problem) => Some(Ok(Err(problem))),
        CountAnswerV1::NotLeader(hint) => Some(Err(hint)),
    };
    let question = Question { kind: KIND_COUNT, body: ask.to_bytes(), until };
    ask::ask_leader(core, group, question, here, read).await?
}

/// The export as an action. Its arguments name everything that the answer hangs on; of the counts a keyed digest.
fn action_of(tenant: &Tenant, query: &AggregateQuery, named: &[String], counts: &[u64], noise: Noise) -> Action {
    let numbers: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let mut args = serde_json::json!({
        "mode": tenant.privacy_mode().as_str(),
        "by": query.by.as_str(),
        "cells": named,
        "from_ns": query.from_ns,
        "to_ns": query.to_ns,
        "counted": tenant.keys.content_digest(&[b"aggregate", &numbers]).to_string(),
    });
    if let Some((epsilon_micros, per_agent_max)) = noise {
        args["epsilon_micros"] = epsilon_micros.into();
        args["per_agent_max"] = per_agent_max.into();
    }
    Action {
        request_id: query.request_id.clone(),
        client_chosen: query.client_chosen,
        issued_at_ms: query.issued_at_ms,
        tenant: query.tenant.clone(),
        agent: EXPORT_SUBJECT.to_owned(),
        session: String::new(),
        cohort: String::new(),
        region: String::new(),
        kind: ActionKind::DataAccess,
        name: EXPORT_ACTION.to_owned(),
        resource_type: "aggregate".to_owned(),
        resource_id: query.by.as_str().to_owned(),
        args_json: args.to_string(),
        context_json: "{}".to_owned(),
        cost: noise.map(|(epsilon_micros, _)| Cost::charged(EPSILON_UNIT, epsilon_micros)).into_iter().collect(),
        explain: false,
        approval: query.approval.clone(),
        is_critical: false,
        wants_receipt: false,
    }
}

/// The counts with noise. The dice are a pseudo-random function, under the tenant's key, of the charge's leaf and of what was
/// charged: a node's own dice could not be thrown again by another node, and two answers under one charge would halve the
/// noise. Whoever holds the key can take the noise off; whoever holds the key can read the trail.
fn blurred(
    tenant: &Tenant,
    leaf_hash: &str,
    bound: &str,
    counts: &[u64],
    (epsilon_micros, most): (u64, u32),
) -> Vec<i64> {
    let context = [leaf_hash.as_bytes(), bound.as_bytes()].concat();
    let mut dice = ChaCha12Rng::from_seed(tenant.keys.derive(b"nethical/aggregate-noise/v1", &context));
    let scale = Scale::new(most, epsilon_micros);
    let exact = counts.iter().map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
    exact.map(|count| count.saturating_add(scale.draw(&mut dice))).collect()
}

fn noise_view((epsilon_micros, per_agent_max): (u64, u32)) -> NoiseView {
    let scale = Scale::new(per_agent_max, epsilon_micros);
    NoiseView {
        epsilon_micros,
        per_agent_max,
        scale_thousandths: scale.thousandths(),
        half_width_95: scale.half_width_95(),
    }
}

#[cfg(test)]
mod tests;
