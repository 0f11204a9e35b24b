//! From decoded items to answers, common to both doors: bounds, the one call of the governor, merging, counting.
//!
//! Refused items never reach the governor; the others keep their order. A governor that breaks its own deadline is
//! answered for with `outcome-unknown`, since it may have proposed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nethical_cluster::api::{Answered, Governor};
use nethical_protocol::action::Action;
use nethical_protocol::decision::ItemAnswer;
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::limits::{DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS};
use nethical_protocol::model::score_in;
use nethical_protocol::privacy::{EPSILON_UNIT, EXPORT_SUBJECT};

use super::{json, request_id};
use crate::telemetry::metrics::Batch;

/// How long past its deadline a governor may take before the door answers in its stead.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// An item as the door decoded it: an action, or why it is none.
pub type Item = Result<Action, Refusal>;

/// An item that never reaches the governor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The id under which it is answered.
    pub request_id: String,
    /// Why.
    pub problem: Problem,
}

impl From<Refusal> for ItemAnswer {
    fn from(refusal: Refusal) -> Self {
        Self { request_id: refusal.request_id, result: Err(refusal.problem) }
    }
}

/// The deadline of a request in milliseconds, bounded; the default where none is asked for.
pub fn deadline(asked_ms: Option<u64>) -> Duration {
    Duration::from_millis(asked_ms.unwrap_or(DEADLINE_DEFAULT_MS).clamp(1, DEADLINE_MAX_MS))
}

/// Refuses an item.
pub fn refuse(request_id: impl Into<String>, problem: Problem) -> Refusal {
    Refusal { request_id: request_id.into(), problem }
}

/// Checks every bound of an action, arguments, context and the score in it included.
pub fn check(action: &Action) -> Result<(), Problem> {
    action.check_bounds()?;
    check_reserved(action)?;
    json::check_object("args", &action.args_json)?;
    json::check_object("context", &action.context_json)?;
    score_in(&action.context_json).map(|_| ())
}

/// Exports of aggregates alone act under their subject's name and spend their unit: nobody else may use the budget up.
fn check_reserved(action: &Action) -> Result<(), Problem> {
    let detail = if action.agent == EXPORT_SUBJECT {
        format!("agent_id {EXPORT_SUBJECT:?} is kept for exports of aggregates; use /v1/aggregates")
    } else if action.cost.iter().any(|cost| cost.unit == EPSILON_UNIT) {
        format!("cost: {EPSILON_UNIT} is spent by exports of aggregates alone; use /v1/aggregates")
    } else {
        return Ok(());
    };
    Err(Problem::new(Code::MalformedRequest, detail))
}

/// Submits items; one answer each, in order. `door` names the door in metrics.
pub async fn submit(
    governor: &Arc<dyn Governor>,
    items: Vec<Item>,
    deadline: Duration,
    door: &'static str,
) -> Vec<ItemAnswer> {
    let batch = Batch::start(door);
    let mut answers: Vec<Option<ItemAnswer>> = Vec::with_capacity(items.len());
    let mut actions = Vec::with_capacity(items.len());
    for item in items {
        match item.and_then(checked) {
            Ok(action) => {
                actions.push(action);
                answers.push(None);
            }
            Err(refusal) => answers.push(Some(refusal.into())),
        }
    }
    let tenants = runs(&actions);
    let decided = decide(governor, actions, deadline).await;
    let mut promises = count(&tenants, &decided);
    let mut decided = decided.into_iter();
    let answers: Vec<ItemAnswer> = answers
        .into_iter()
        .map(|answer| answer.or_else(|| decided.next()).expect("decide answers every action"))
        .collect();
    let took = batch.finish(&answers);
    for promise in &mut promises {
        promise.took = took;
        governor.answered(promise);
    }
    answers
}

/// The tenants of actions in a row, and how many actions each row has.
fn runs(actions: &[Action]) -> Vec<(String, usize)> {
    let rows = actions.chunk_by(|one, next| one.tenant == next.tenant);
    rows.map(|row| (row[0].tenant.clone(), row.len())).collect()
}

/// What each tenant was answered, apart from refusals and redirects: those are the caller's.
fn count(tenants: &[(String, usize)], answers: &[ItemAnswer]) -> Vec<Answered> {
    let mut counted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut rest = answers;
    for (tenant, length) in tenants {
        let (row, behind) = rest.split_at((*length).min(rest.len()));
        rest = behind;
        let held = counted.entry(tenant).or_default();
        for answer in row {
            match answer.result.as_ref().map_err(|problem| problem.code.class()) {
                Ok(_) => held.0 += 1,
                Err(Class::Retry | Class::Unknown | Class::Broken) => held.1 += 1,
                Err(Class::Refused | Class::Redirect) => {}
            }
        }
    }
    let told = counted.into_iter().filter(|(_, (decided, failed))| decided + failed > 0);
    told.map(|(tenant, (decided, failed))| Answered {
        tenant: tenant.to_owned(),
        decided,
        failed,
        took: Duration::ZERO,
    })
    .collect()
}

fn checked(action: Action) -> Item {
    match check(&action) {
        Ok(()) => Ok(action),
        Err(problem) => Err(refuse(request_id::shortened(&action.request_id), problem)),
    }
}

/// One answer for each action, in order, whatever the governor does.
async fn decide(governor: &Arc<dyn Governor>, actions: Vec<Action>, deadline: Duration) -> Vec<ItemAnswer> {
    if actions.is_empty() {
        return Vec::new();
    }
    let ids: Vec<String> = actions.iter().map(|action| action.request_id.clone()).collect();
    let for_all = |code, detail: &str| {
        tracing::error!(code = %code, actions = ids.len(), "{detail}");
        ids.iter().map(|id| refuse(id.as_str(), Problem::new(code, detail)).into()).collect()
    };
    match tokio::time::timeout(deadline + DEADLINE_GRACE, governor.decide(actions, deadline)).await {
        Err(_) => for_all(Code::OutcomeUnknown, "no answer came inside the deadline"),
        Ok(answers) if answers.len() != ids.len() => for_all(Code::OutcomeUnknown, "answers are missing in the batch"),
        Ok(answers) => answers,
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::action::Cost;

    use super::*;
    use crate::door::scripted::{Scripted, action, decision};

    #[tokio::test]
    async fn refused_items_keep_their_place_and_never_reach_the_governor() {
        let script = Scripted::deciding(vec![Ok(decision("b"))]);
        let governor: Arc<dyn Governor> = script.clone();
        let early = refuse("a", Problem::new(Code::UnknownKind, "no"));
        let long = Action { name: "x".repeat(300), ..action("c") };
        let answers =
            submit(&governor, vec![Err(early.clone()), Ok(action("b")), Ok(long)], deadline(None), "test").await;
        assert_eq!(answers[0], ItemAnswer::from(early));
        assert_eq!(answers[1].result.as_ref().map(|d| d.request_id.as_str()), Ok("b"));
        assert_eq!(
            (answers[2].request_id.as_str(), answers[2].result.as_ref().map_err(|p| p.code)),
            ("c", Err(Code::TooLarge))
        );
        assert_eq!(script.actions(), vec![action("b")]);
    }

    #[tokio::test]
    async fn a_governor_that_never_answers_is_answered_for_as_unknown() {
        let governor: Arc<dyn Governor> = Scripted::silent();
        let answers = submit(&governor, vec![Ok(action("a"))], deadline(Some(50)), "test").await;
        assert_eq!(answers[0].result.as_ref().map_err(|p| p.code), Err(Code::OutcomeUnknown));
    }

    #[tokio::test]
    async fn a_governor_that_answers_too_few_is_answered_for_as_unknown() {
        let governor: Arc<dyn Governor> = Scripted::deciding(vec![Ok(decision("a"))]);
        let answers = submit(&governor, vec![Ok(action("a")), Ok(action("b"))], deadline(None), "test").await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| answer.result.as_ref().is_err_and(|p| p.code == Code::OutcomeUnknown)));
    }

    #[tokio::test]
    async fn each_tenant_is_counted_once_with_what_it_was_answered() {
        let problem = |code| Err(Problem::new(code, "no"));
        let script = Scripted::deciding(vec![
            Ok(decision("a")),
            problem(Code::Overloaded),
            problem(Code::UnknownTenant),
            Ok(decision("d")),
            problem(Code::OutcomeUnknown),
            problem(Code::RequestConflict),
        ]);
        let of = |tenant: &str, id| Ok(Action { tenant: tenant.into(), ..action(id) });
        let items = vec![of("t", "a"), of("u", "b"), of("v", "c"), of("t", "d"), of("t", "e"), of("u", "f")];
        let governor: Arc<dyn Governor> = script.clone();
        submit(&governor, items, deadline(None), "test").await;
        let told: Vec<_> = script.answered_lines().iter().map(|a| (a.tenant.clone(), a.decided, a.failed)).collect();
        assert_eq!(told, [("t".to_owned(), 2, 1), ("u".to_owned(), 0, 1)]);
    }

    #[tokio::test]
    async fn what_never_reaches_the_governor_counts_for_nobody() {
        let script = Scripted::deciding(vec![]);
        let governor: Arc<dyn Governor> = script.clone();
        let long = Action { name: "x".repeat(300), ..action("c") };
        submit(
            &governor,
            vec![Err(refuse("a", Problem::new(Code::UnknownKind, "no"))), Ok(long)],
            deadline(None),
            "test",
        )
        .await;
        assert_eq!(script.answered_lines(), []);
    }

    #[tokio::test]
    async fn what_is_kept_for_exports_is_refused_to_agents() {
        let script = Scripted::deciding(vec![]);
        let governor: Arc<dyn Governor> = script.clone();
        let as_exporter = Action { agent: EXPORT_SUBJECT.into(), ..action("a") };
        let spending = Action { cost: vec![Cost::charged(EPSILON_UNIT, 1)], ..action("b") };
        let answers = submit(&governor, vec![Ok(as_exporter), Ok(spending)], deadline(None), "test").await;
        for answer in answers {
            assert_eq!(answer.result.map_err(|p| p.code), Err(Code::MalformedRequest));
        }
        assert_eq!(script.actions(), []);
    }

    #[test]
    fn deadlines_are_bounded() {
        assert_eq!(deadline(None), Duration::from_millis(DEADLINE_DEFAULT_MS));
        assert_eq!(deadline(Some(0)), Duration::from_millis(1));
        assert_eq!(deadline(Some(u64::MAX)), Duration::from_millis(DEADLINE_MAX_MS));
    }
}
