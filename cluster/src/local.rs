//! Decisions on this node: hands actions to their agents' actors and turns what apply settled into answers.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::sync::oneshot;

use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_governance::outcome::OutcomeV1;
use nethical_protocol::action::Action;
use nethical_protocol::decision::{Decision, ItemAnswer};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::sometimes;

use crate::actor::Settled;
use crate::answer::{Wish, Words, decision_of};
use crate::apply::AppliedEntry;
use crate::control::view::Tenant;
use crate::decide::Attempt;
use crate::lead::Lead;
use crate::lease;
use crate::node::Core;
use crate::publish;
use crate::redact;
use crate::store::sealer;
use crate::world::{self, timeout};

/// Rounds in which greater shares are asked for in behalf of one action, each for all of which there is too little then.
const LEASES_ASKED_MAX: u32 = 6;

/// The same problem for every action.
pub fn all(actions: &[Action], problem: Problem) -> Vec<ItemAnswer> {
    actions
        .iter()
        .map(|action| ItemAnswer { request_id: action.request_id.clone(), result: Err(problem.clone()) })
        .collect()
}

/// What an answer needs of an action that its actor has by then.
struct Asked {
    request_id: String,
    explain: bool,
    wants_receipt: bool,
    tenant: Option<Arc<Tenant>>,
    /// For obligations that want them redacted; a repeat brings the same ones.
    args_json: String,
}

/// Where an item of an attempt stands before its answer is awaited.
enum Pending {
    Waiting(oneshot::Receiver<Settled>),
    Refused(Problem),
}

/// Starts deciding actions in a term that this node leads. Actors have them, in order, when this returns.
pub fn decide_here(
    core: Arc<Core>,
    lead: Arc<Lead>,
    actions: Vec<Action>,
    until: Duration,
) -> BoxFuture<'static, Attempt> {
    if let Err(problem) = lead.check_may_decide() {
        let leader = None;
        let answers = all(&actions, problem);
        return async move { Attempt { answers, leader } }.boxed();
    }
    let view = core.shared.view();
    let items: Vec<(Asked, Pending)> = actions
        .into_iter()
        .map(|action| {
            let tenant = view.tenant(&action.tenant);
            let asked = Asked {
                request_id: action.request_id.clone(),
                explain: action.explain,
                wants_receipt: action.wants_receipt,
                tenant: tenant.cloned(),
                args_json: action.args_json.clone(),
            };
            let pending = match tenant {
                Some(tenant) if !core.is_at_home(&lead, &tenant.spec, &action.agent) => {
                    let detail = "the action was routed by rules that have changed since";
                    Pending::Refused(Problem::new(Code::NotReady, detail).retry_after_ms(200))
                }
                Some(tenant) => {
                    lead.submit(tenant.clone(), action, until, false).map_or_else(Pending::Refused, Pending::Waiting)
                }
                None => {
                    core.ask_for_tenant(&action.tenant);
                    Pending::Refused(Problem::new(Code::NotReady, "the tenant is being created").retry_after_ms(100))
                }
            };
            (asked, pending)
        })
        .collect();
    async move {
        let answers = items.into_iter().map(|(asked, pending)| answer(&core, &lead, asked, pending, until));
        Attempt { answers: join_all(answers).await, leader: None }
    }
    .boxed()
}

async fn answer(core: &Arc<Core>, lead: &Arc<Lead>, asked: Asked, pending: Pending, until: Duration) -> ItemAnswer {
    let result = match see_through(core, lead, pending, until).await {
        Err(problem) => Err(problem),
        Ok(settled) => match settled {
            Some(Ok(Settled::Applied(entry, at))) => applied(core, lead, &asked, (&entry, at), until).await,
            Some(Ok(Settled::Problem(problem))) => Err(problem),
            Some(Ok(Settled::Short(_))) => {
                let detail = "the partition's shares of limits were spent by others each time that they had grown";
                Err(Problem::new(Code::LeaseUnavailable, detail).retry_after_ms(200))
            }
            Some(Ok(Settled::Unknown)) => Err(Problem::new(Code::OutcomeUnknown, "the entry's fate is not known here")),
            Some(Err(_)) => Err(Problem::new(Code::OutcomeUnknown, "the agent's actor ended before it answered")),
            None => Err(Problem::new(Code::OutcomeUnknown, "the deadline ran out while the entry was on its way")),
        },
    };
    ItemAnswer { request_id: asked.request_id, result }
}

type Awaited = Option<Result<Settled, oneshot::error::RecvError>>;

/// Waits until an action is settled; where the group's shares of limits are too small, gets greater ones, all at once, and
/// asks again.
async fn see_through(
    core: &Arc<Core>,
    lead: &Arc<Lead>,
    pending: Pending,
    until: Duration,
) -> Result<Awaited, Problem> {
    let mut waiting = match pending {
        Pending::Refused(problem) => return Err(problem),
        Pending::Waiting(settled) => settled,
    };
    let mut rounds = 0;
    loop {
        let left = until.saturating_sub(lead.now());
        let settled = timeout(&*core.shared.world.clock, left, waiting).await;
        let Some(Ok(Settled::Short(short))) = settled else { return Ok(settled) };
        if rounds == LEASES_ASKED_MAX {
            return Ok(Some(Ok(Settled::Short(short))));
        }
        rounds += 1;
        let (asks, tenant, action) = *short;
        let left = until.saturating_sub(lead.now());
        let fetched = timeout(&*core.shared.world.clock, left, lease::fetch_all(core, lead, asks)).await;
        fetched.unwrap_or_else(|| Err(lease::unavailable("the deadline ran out")))?;
        waiting = lead.submit(tenant, action, until, true)?;
    }
}

async fn applied(
    core: &Arc<Core>,
    lead: &Arc<Lead>,
    asked: &Asked,
    (entry, at): (&AppliedEntry, usize),
    until: Duration,
) -> Result<Decision, Problem> {
    world::pass(&*core.shared.world.clock, "reply.before").await;
    // A verdict that would leave after the revocation bound must not leave (ARCHITECTURE 2).
    if lead.check_contact().is_err() {
        sometimes!(true, "a verdict was withheld because contact to the control group was lost");
        return Err(Problem::new(Code::OutcomeUnknown, "contact to the control group was lost while it was decided"));
    }
    let result = &entry.results[at];
    match &result.outcome {
        OutcomeV1::Decided(decided) => {
            lease::fetch_ahead(core, lead, &decided.ahead);
            let record = result.record.as_ref().expect("a decision makes a leaf");
            let mut decision = decision(core, asked, &record.leaf, &record.hash, false)?;
            if asked.wants_receipt {
                decision.audit.receipt = receipt(core, lead, entry, record.leaf.leaf_index);
            }
            Ok(decision)
        }
        OutcomeV1::Duplicate { leaf_index } => {
            let (leaf, hash) = core.leaf(lead.group(), *leaf_index).await?;
            let mut decision = decision(core, asked, &leaf, &hash, true)?;
            if asked.wants_receipt {
                let left = until.saturating_sub(lead.now());
                let found = publish::receipt(core.clone(), decision.decision_id);
                let found = timeout(&*core.shared.world.clock, left, found).await;
                decision.audit.receipt = found.and_then(Result::ok).map(|view| view.receipt);
            }
            Ok(decision)
        }
        OutcomeV1::Conflict { leaf_index } => {
            let detail = format!(
                "this request id was used for another action, which is leaf {leaf_index} of group {}",
                lead.group()
            );
            Err(Problem::new(Code::RequestConflict, detail))
        }
        OutcomeV1::TooOld { low_water_ms } => {
            let detail = format!("requests issued before {low_water_ms} ms since 1970 are not remembered any more");
            Err(Problem::new(Code::RequestTooOld, detail))
        }
        OutcomeV1::FromFuture => {
            Err(Problem::new(Code::RequestFromFuture, "the time in the request id is ahead of the cluster's"))
        }
        OutcomeV1::UnknownTenant => {
            Err(Problem::new(Code::NotReady, "the tenant has not reached this group yet").retry_after_ms(100))
        }
        other => Err(Problem::new(Code::Internal, format!("a decision ended as {other:?}"))),
    }
}

/// The proof of a leaf that this entry made, against a checkpoint of the tree that ends with it; none where this node may
/// not sign. It can be had later, too, so no decision is withheld for it.
fn receipt(core: &Core, lead: &Lead, entry: &AppliedEntry, leaf_index: u64) -> Option<String> {
    let replica = core.partition(lead.group())?;
    let proof = entry.proofs.of(leaf_index, |size, root| sealer::sign(core, &replica.store, size, root));
    sometimes!(proof.is_some(), "a decision was answered with its proof");
    proof
}

fn decision(core: &Core, asked: &Asked, leaf: &LeafV1, hash: &[u8; 32], replayed: bool) -> Result<Decision, Problem> {
    let LeafEvent::Decision(recorded) = &leaf.event else {
        return Err(Problem::new(Code::RequestConflict, "this request id was used for a hold-order"));
    };
    let (cluster, view) = (&core.shared.options.cluster, core.shared.view());
    let taxonomy = &core.shared.world.prepared.taxonomy;
    let wish = Wish { explain: asked.explain, replayed };
    let mut decision =
        decision_of(Words { cluster, view: &view, taxonomy }, &asked.request_id, leaf, hash, recorded, wish);
    if let Some(tenant) = &asked.tenant {
        redact::oblige(&core.shared.world.prepared.detectors, tenant, &asked.args_json, &mut decision);
    }
    Ok(decision)
}
