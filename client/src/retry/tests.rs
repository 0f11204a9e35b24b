//! Retries against scripted doors: which failures are asked again, where, under which ids, and what giving up says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use nethical_protocol::decision::*;
use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, LogId};

use super::*;

type Log = Arc<Mutex<Vec<(usize, Vec<String>)>>>;
type Script = VecDeque<Result<Vec<Result<(), Problem>>, ClientError>>;

/// Door `number`: answers from its script, then never again; notes who asked what.
struct Scripted {
    number: usize,
    script: Mutex<Script>,
    log: Log,
}

impl Door for Scripted {
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> Attempt<'_> {
        let ids: Vec<String> = actions.iter().map(|action| action.request_id.clone()).collect();
        self.log.lock().expect("log").push((self.number, ids.clone()));
        let next = self.script.lock().expect("script").pop_front();
        Box::pin(async move {
            let Some(next) = next else {
                sleep(deadline).await;
                return Err(ClientError::Lost("silence".into()));
            };
            let answers = ids.into_iter().zip(next?);
            Ok(answers
                .map(|(id, result)| ItemAnswer { result: result.map(|()| decision(&id)), request_id: id })
                .collect())
        })
    }

    fn settle(&self, decision: DecisionId, outcome: ActionOutcome, deadline: Duration) -> SettleAttempt<'_> {
        self.log.lock().expect("log").push((self.number, vec![format!("{decision} {outcome:?}")]));
        let next = self.script.lock().expect("script").pop_front();
        Box::pin(async move {
            let Some(next) = next else {
                sleep(deadline).await;
                return Err(ClientError::Lost("silence".into()));
            };
            next?.remove(0).map(|()| settlement(decision)).map_err(ClientError::Refused)
        })
    }
}

fn settlement(decision_id: DecisionId) -> Settlement {
    let audit = AuditPosition { log: "dev/p/2/1".into(), leaf_index: 2, leaf_hash: String::new(), receipt: None };
    let (state, quota) = ("committed".to_owned(), vec![]);
    Settlement { decision_id, state, quota, settled_at_ns: 1, replayed: false, audit }
}

fn decision(request_id: &str) -> Decision {
    Decision {
        request_id: request_id.to_owned(),
        decision_id: DecisionId { log: LogId { group: GroupId(2), era: 1 }, leaf_index: 1 },
        verdict: Verdict::Allow,
        allowed: true,
        decision: "ALLOW".into(),
        reasons: vec![],
        obligations: vec![],
        transform: None,
        risk: Risk { score: 0, tier: "low".into(), factors: vec![] },
        agent: AgentSummary { state: AgentStatus::Active, epoch: 1 },
        quota: vec![],
        retry_after_ms: None,
        revision: Revision {
            policy: ControlRevision(1),
            state: ControlRevision(1),
            bundle: String::new(),
            canary: false,
        },
        decided_at_ns: 1,
        reservation: None,
        approval: None,
        degraded: false,
        replayed: false,
        audit: AuditPosition { log: "dev/p/2/1".into(), leaf_index: 1, leaf_hash: String::new(), receipt: None },
        ethics: None,
    }
}

fn actions(ids: &[&str]) -> Vec<Action> {
    let line = r#"{"agent_id":"a","kind":"message","name":"n"}"#;
    let action = crate::action::from_line(line).expect("a line");
    ids.iter().map(|id| Action { request_id: (*id).to_owned(), ..action.clone() }).collect()
}

fn doors(scripts: Vec<Script>, overall_ms: u64) -> (Doors, Log) {
    let log = Log::default();
    let doors = scripts.into_iter().enumerate().map(|(number, script)| {
        Box::new(Scripted { number, script: Mutex::new(script), log: log.clone() }) as Box<dyn Door>
    });
    let policy = Policy {
        overall: Duration::from_millis(overall_ms),
        attempt: Duration::from_millis(overall_ms),
        pause: Duration::from_millis(2),
        pause_max: Duration::from_millis(10),
    };
    (Doors::new(doors.collect(), policy), log)
}

fn problem(code: Code) -> Problem {
    Problem::new(code, "scripted")
}

fn codes(answers: &[ItemAnswer]) -> Vec<Option<Code>> {
    answers.iter().map(|answer| answer.result.as_ref().err().map(|problem| problem.code)).collect()
}

fn asked(log: &Log) -> Vec<(usize, Vec<String>)> {
    log.lock().expect("log").clone()
}

fn ids(door: usize, ids: &[&str]) -> (usize, Vec<String>) {
    (door, ids.iter().map(|id| (*id).to_owned()).collect())
}

const LONG_MS: u64 = 60_000;

#[tokio::test]
async fn what_was_not_sent_goes_to_the_next_node_under_the_same_ids() {
    let down: Script = [Err(ClientError::NotSent("refused".into()))].into();
    let up: Script = [Ok(vec![Ok(()), Ok(())]), Ok(vec![Ok(())])].into();
    let (doors, log) = doors(vec![down, up], LONG_MS);
    assert_eq!(codes(&doors.decide(actions(&["x", "y"])).await), [None, None]);
    doors.decide(actions(&["z"])).await;
    assert_eq!(
        asked(&log),
        [ids(0, &["x", "y"]), ids(1, &["x", "y"]), ids(1, &["z"])],
        "and the node that works is kept"
    );
}

#[tokio::test]
async fn lost_and_unknown_are_asked_again_under_the_same_ids() {
    let first: Script = [Err(ClientError::Lost("cut".into())), Ok(vec![Ok(())])].into();
    let second: Script = [Ok(vec![Err(problem(Code::OutcomeUnknown))])].into();
    let (doors, log) = doors(vec![first, second], LONG_MS);
    assert_eq!(codes(&doors.decide(actions(&["x"])).await), [None]);
    assert_eq!(asked(&log), [ids(0, &["x"]), ids(1, &["x"]), ids(0, &["x"])]);
}

#[tokio::test]
async fn only_items_without_a_final_answer_are_asked_again() {
    let first: Script = [Ok(vec![
        Ok(()),
        Err(problem(Code::NoQuorum)),
        Err(problem(Code::RequestConflict)),
        Err(problem(Code::RequestTooOld)),
    ])]
    .into();
    let second: Script = [Ok(vec![Ok(())])].into();
    let (doors, log) = doors(vec![first, second], LONG_MS);
    let answers = doors.decide(actions(&["a", "b", "c", "d"])).await;
    assert_eq!(codes(&answers), [None, None, Some(Code::RequestConflict), Some(Code::RequestTooOld)]);
    let order: Vec<_> = answers.iter().map(|answer| answer.request_id.as_str()).collect();
    assert_eq!(order, ["a", "b", "c", "d"]);
    assert_eq!(asked(&log), [ids(0, &["a", "b", "c", "d"]), ids(1, &["b"])]);
}

#[tokio::test]
async fn a_refusal_of_the_whole_call_is_final_and_a_retry_is_not() {
    let refusing: Script = [Err(ClientError::Refused(problem(Code::UnknownTenant)))].into();
    let (doors_refusing, log) = doors(vec![refusing], LONG_MS);
    assert_eq!(codes(&doors_refusing.decide(actions(&["x"])).await), [Some(Code::UnknownTenant)]);
    assert_eq!(asked(&log).len(), 1);
    let shedding: Script = [Err(ClientError::Refused(problem(Code::Overloaded))), Ok(vec![Ok(())])].into();
    let (doors_shedding, _) = doors(vec![shedding], LONG_MS);
    assert_eq!(codes(&doors_shedding.decide(actions(&["x"])).await), [None]);
}

#[tokio::test]
async fn giving_up_says_unknown_once_an_attempt_may_have_happened() {
    let lost: Script =
        [Err(ClientError::Lost("cut".into())), Ok(vec![Err(problem(Code::NoQuorum).retry_after_ms(LONG_MS * 2))])]
            .into();
    let (lossy, _) = doors(vec![lost], 1_000);
    assert_eq!(codes(&lossy.decide(actions(&["x"])).await), [Some(Code::OutcomeUnknown)]);
    let shed: Script = [Ok(vec![Err(problem(Code::NoQuorum).retry_after_ms(LONG_MS * 2))])].into();
    let (shedding, _) = doors(vec![shed], 1_000);
    assert_eq!(
        codes(&shedding.decide(actions(&["x"])).await),
        [Some(Code::NoQuorum)],
        "it did not happen, and says so"
    );
    let elsewhere: Script = [
        Err(ClientError::Lost("cut".into())),
        Err(ClientError::Refused(problem(Code::Unauthenticated))),
        Ok(vec![Ok(())]),
    ]
    .into();
    let (passing, _) = doors(vec![elsewhere], LONG_MS);
    assert_eq!(codes(&passing.decide(actions(&["x"])).await), [None], "a node that refuses the caller settles nothing");
}

#[tokio::test]
async fn silence_ends_with_the_overall_deadline_as_unknown() {
    let (doors, _) = doors(vec![Script::new(), Script::new()], 50);
    assert_eq!(codes(&doors.decide(actions(&["x"])).await), [Some(Code::OutcomeUnknown)]);
}

#[tokio::test]
async fn nodes_own_waits_are_kept_and_the_budget_slows_retries_down() {
    let (doors, _) = doors(vec![Script::new()], LONG_MS);
    let wait = Duration::from_secs(3);
    assert!(doors.pause(1, Some(wait)) >= wait, "never earlier than asked");
    while doors.spend() {}
    assert!(doors.pause(1, None) >= doors.policy.pause_max, "no budget left: the slowest pace");
    for _ in 0..BUDGET_PER_RETRY {
        doors.earn();
    }
    assert!(doors.pause(1, None) <= doors.policy.pause, "ten answers earn one quick retry");
}

async fn settled(scripts: Vec<Script>, overall_ms: u64) -> (Option<Code>, Vec<usize>) {
    let (doors, log) = doors(scripts, overall_ms);
    let id = decision("x").decision_id;
    let answer = doors.settle(id, ActionOutcome::Released).await;
    assert!(asked(&log).iter().all(|(_, what)| what == &[format!("{id} Released")]), "always the same");
    (answer.err().map(|problem| problem.code), asked(&log).iter().map(|(door, _)| *door).collect())
}

#[tokio::test]
async fn settlements_are_asked_again_by_the_rules_of_decisions() {
    let lost: Script = [Err(ClientError::Lost("cut".into())), Ok(vec![Ok(())])].into();
    let down: Script = [Err(ClientError::NotSent("refused".into()))].into();
    assert_eq!(settled(vec![lost, down], LONG_MS).await, (None, vec![0, 1, 0]));
    for code in [Code::ReservationExpired, Code::ReservationConflict, Code::NoReservation, Code::RequestTooOld] {
        let refusing: Script = [Ok(vec![Err(problem(code))])].into();
        assert_eq!(settled(vec![refusing], LONG_MS).await, (Some(code), vec![0]), "{code} is an answer");
    }
    let shed: Script = [Ok(vec![Err(problem(Code::Overloaded).retry_after_ms(LONG_MS * 2))])].into();
    assert_eq!(settled(vec![shed], 1_000).await, (Some(Code::Overloaded), vec![0]), "it did not happen, and says so");
    let lost: Script =
        [Err(ClientError::Lost("cut".into())), Ok(vec![Err(problem(Code::Overloaded).retry_after_ms(LONG_MS * 2))])]
            .into();
    assert_eq!(settled(vec![lost], 1_000).await, (Some(Code::OutcomeUnknown), vec![0, 0]));
    assert_eq!(settled(vec![Script::new()], 50).await, (Some(Code::OutcomeUnknown), vec![0]));
}
