//! A governor for the doors' tests: answers from a script, remembers what it was asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use nethical_audit::publish::Resource;
use nethical_cluster::api::*;
use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::control::{AckState, ControlAck, EraseSpec, HoldSpec, LimitMode, LimitSpec, TenantSpec};
use nethical_protocol::decision::*;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, LogId};
use nethical_protocol::privacy::{AggregateAnswer, AggregateCell, AggregateQuery, AggregateView, PrivacyMode};
use nethical_protocol::quarantine::QuarantineSpec;
use nethical_protocol::retention::{LegalHoldSpec, RetentionAges};
use nethical_protocol::sla::{SlaList, SlaQuery};
use nethical_protocol::status::{ClusterStatus, ReadyCheck};

#[path = "scripted/made_up.rs"]
mod made_up;
#[path = "scripted/trail.rs"]
mod trail;

pub(crate) use trail::entry;

use made_up::{erasure, legal_hold};

/// See the module.
#[derive(Default)]
pub(crate) struct Scripted {
    silent: bool,
    decisions: Mutex<VecDeque<Result<Decision, Problem>>>,
    actions: Mutex<Vec<Action>>,
    deadlines: Mutex<Vec<Duration>>,
    calls: Mutex<Vec<String>>,
    refusal: Mutex<Option<Problem>>,
    checks: Mutex<Vec<ReadyCheck>>,
    pending: Mutex<bool>,
    answered: Mutex<Vec<Answered>>,
    trail: Mutex<trail::Trail>,
}

impl Scripted {
    /// Gives these decisions, one an action, and nothing once they are used up.
    pub(crate) fn deciding(decisions: Vec<Result<Decision, Problem>>) -> Arc<Self> {
        Arc::new(Self { decisions: Mutex::new(decisions.into()), ..Self::default() })
    }

    /// Never answers a decision.
    pub(crate) fn silent() -> Arc<Self> {
        Arc::new(Self { silent: true, ..Self::default() })
    }

    /// Every call but decisions answers this from now on.
    pub(crate) fn refuse(&self, problem: Problem) {
        *self.refusal.lock() = Some(problem);
    }

    /// Control changes stay pending from now on.
    pub(crate) fn leave_pending(&self) {
        *self.pending.lock() = true;
    }

    pub(crate) fn set_checks(&self, checks: Vec<ReadyCheck>) {
        *self.checks.lock() = checks;
    }

    pub(crate) fn actions(&self) -> Vec<Action> {
        self.actions.lock().clone()
    }

    pub(crate) fn deadlines(&self) -> Vec<Duration> {
        self.deadlines.lock().clone()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }

    pub(crate) fn answered_lines(&self) -> Vec<Answered> {
        self.answered.lock().clone()
    }

    fn answer<T: Send + 'static>(&self, call: String, value: T) -> Answer<'_, T> {
        self.calls.lock().push(call);
        let answer = self.refusal.lock().clone().map_or(Ok(value), Err);
        async move { answer }.boxed()
    }

    fn ack(&self) -> ControlAck {
        let pending = *self.pending.lock();
        let (state, awaiting) = if pending { (AckState::Pending, vec![3]) } else { (AckState::Acknowledged, vec![]) };
        ControlAck { revision: ControlRevision(9), state, awaiting }
    }

    fn hold(&self, hold: HoldSpec) -> HoldView {
        HoldView { hold, ack: self.ack(), missing: 0, decision_id: Some(decision("x").decision_id) }
    }
}

/// A small action of agent `agent-1`.
pub(crate) fn action(request_id: &str) -> Action {
    Action {
        request_id: request_id.to_owned(),
        client_chosen: true,
        issued_at_ms: 1,
        tenant: "airline".into(),
        agent: "agent-1".into(),
        session: String::new(),
        cohort: String::new(),
        region: String::new(),
        kind: ActionKind::ToolCall,
        name: "search".into(),
        resource_type: String::new(),
        resource_id: String::new(),
        args_json: "{}".into(),
        context_json: "{}".into(),
        cost: vec![],
        explain: false,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
    }
}

/// An allowing decision.
pub(crate) fn decision(request_id: &str) -> Decision {
    Decision {
        request_id: request_id.to_owned(),
        decision_id: DecisionId { log: LogId { group: GroupId(2), era: 1 }, leaf_index: 42 },
        verdict: Verdict::Allow,
        allowed: true,
        decision: "ALLOW".into(),
        reasons: vec![],
        obligations: vec![],
        transform: None,
        risk: Risk { score: 120, tier: "low".into(), factors: vec![] },
        agent: AgentSummary { state: AgentStatus::Active, epoch: 1 },
        quota: vec![],
        retry_after_ms: None,
        revision: Revision {
            policy: ControlRevision(1),
            state: ControlRevision(2),
            bundle: String::new(),
            canary: false,
        },
        decided_at_ns: 1_700_000_000_000_000_000,
        reservation: None,
        approval: None,
        degraded: false,
        replayed: false,
        audit: AuditPosition { log: "dev/p/2/1".into(), leaf_index: 42, leaf_hash: "ab".repeat(32), receipt: None },
        ethics: None,
    }
}

fn approval(id: DecisionId, state: &str) -> ApprovalView {
    ApprovalView {
        id,
        state: state.to_owned(),
        void: false,
        tenant: Some("airline".into()),
        agent: Some("agent-1".into()),
        action: None,
        reasons: vec![],
        opened_at_ns: 1,
        expires_at_ns: 2,
        decided_in: None,
        ended_in: None,
        approver: None,
        reason: None,
        replayed: false,
    }
}

/// A decision with another verdict.
pub(crate) fn with_verdict(verdict: Verdict) -> Decision {
    let word = legacy_word(verdict, AgentStatus::Active).to_owned();
    let reason = Reason { code: "policy".into(), detail: "rule r1".into() };
    Decision { verdict, allowed: verdict.is_allowed(), decision: word, reasons: vec![reason], ..decision("r") }
}

/// A denial by the limit `per-minute`.
pub(crate) fn over_quota() -> Decision {
    let quota = |limit: &str, remaining, violated| QuotaState {
        limit: limit.into(),
        unit: "requests".into(),
        cap: 60,
        remaining,
        reset_s: 55,
        violated,
        mode: LimitMode::Enforce,
    };
    Decision {
        reasons: vec![Reason { code: "quota-exceeded".into(), detail: "per-minute".into() }],
        quota: vec![quota("per-minute", 0, true), quota("daily", 12, false)],
        retry_after_ms: Some(1_200),
        ..with_verdict(Verdict::Block)
    }
}

impl Governor for Scripted {
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> BoxFuture<'_, Vec<ItemAnswer>> {
        self.deadlines.lock().push(deadline);
        let answers = actions.iter().filter_map(|action| {
            let result = self.decisions.lock().pop_front()?;
            let result = result.map(|decision| Decision { request_id: action.request_id.clone(), ..decision });
            Some(ItemAnswer { request_id: action.request_id.clone(), result })
        });
        let answers = answers.collect();
        self.actions.lock().extend(actions);
        if self.silent { futures::future::pending().boxed() } else { async move { answers }.boxed() }
    }

    fn approvals(&self, query: ApprovalQuery) -> Answer<'_, ApprovalList> {
        let approvals = vec![approval(decision("x").decision_id, "pending")];
        self.answer(format!("approvals {query:?}"), ApprovalList { approvals, awaiting: vec![], cursor: None })
    }

    fn alarms(&self, query: AlarmQuery) -> Answer<'_, AlarmList> {
        self.answer(format!("alarms {query:?}"), AlarmList { alarms: vec![], awaiting: vec![] })
    }

    fn scores(&self, query: ScoreQuery) -> Answer<'_, ScoreReport> {
        self.answer(format!("scores {query:?}"), ScoreReport::default())
    }

    fn fsck(&self, begin: bool) -> Answer<'_, FsckList> {
        self.answer(format!("fsck {begin}"), FsckList::default())
    }

    fn tiers(&self) -> Answer<'_, TierList> {
        self.answer("tiers".to_owned(), TierList::default())
    }

    fn cold_files(&self, query: ColdQuery) -> Answer<'_, ColdList> {
        self.answer(format!("cold files {query:?}"), ColdList::default())
    }

    fn cold_key(&self, group: GroupId, first: u64) -> Answer<'_, ColdKeyView> {
        let (file, key) = (ColdFileView { group: group.0, first, ..ColdFileView::default() }, String::new());
        self.answer(format!("cold key {group} {first}"), ColdKeyView { file, key })
    }

    fn drift(&self, query: DriftQuery) -> Answer<'_, DriftList> {
        self.answer(format!("drift {query:?}"), DriftList::default())
    }

    fn approval(&self, id: DecisionId) -> Answer<'_, ApprovalView> {
        self.answer(format!("approval {id}"), approval(id, "pending"))
    }

    fn decide_approval(&self, word: ApprovalWord) -> Answer<'_, ApprovalView> {
        let state = if word.approves { "approved" } else { "denied" };
        self.answer(format!("decide_approval {word:?}"), approval(word.id, state))
    }

    fn put_tenant(&self, spec: TenantSpec) -> Answer<'_, ControlAck> {
        self.answer(format!("put_tenant {spec:?}"), self.ack())
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantSpec>> {
        self.answer("tenants".into(), vec![TenantSpec::named("airline")])
    }

    fn put_limit(&self, spec: LimitSpec) -> Answer<'_, ControlAck> {
        self.answer(format!("put_limit {spec:?}"), self.ack())
    }

    fn settle(&self, decision: DecisionId, outcome: ActionOutcome) -> Answer<'_, Settlement> {
        let audit = AuditPosition { log: "dev/p/2/1".into(), leaf_index: 43, leaf_hash: String::new(), receipt: None };
        let (state, quota) = ("committed".to_owned(), vec![]);
        let settlement = Settlement { decision_id: decision, state, quota, settled_at_ns: 5, replayed: false, audit };
        self.answer(format!("settle {decision} {outcome:?}"), settlement)
    }

    fn remove_limit(&self, tenant: String, id: String) -> Answer<'_, ControlAck> {
        self.answer(format!("remove_limit {tenant} {id}"), self.ack())
    }

    fn put_quarantine_rules(&self, spec: QuarantineSpec) -> Answer<'_, ControlAck> {
        self.answer(format!("put_quarantine_rules {spec:?}"), self.ack())
    }

    fn quarantine_rules(&self) -> Answer<'_, Vec<QuarantineSpec>> {
        self.answer("quarantine_rules".into(), vec![])
    }

    fn limits(&self, tenant: Option<String>) -> Answer<'_, Vec<LimitSpec>> {
        self.answer(format!("limits {tenant:?}"), vec![])
    }

    fn limit_usage(&self, tenant: String, agent: String) -> Answer<'_, Vec<LimitUsage>> {
        self.answer(format!("limit_usage {tenant} {agent}"), vec![])
    }

    fn put_policy(&self, text: String) -> Answer<'_, ControlAck> {
        self.answer(format!("put_policy {text}"), self.ack())
    }

    fn policy(&self) -> Answer<'_, PolicyView> {
        let text = "permit(principal, action, resource);".to_owned();
        self.answer("policy".into(), PolicyView { revision: 1, digest: "d".into(), policies: 1, text, canary: None })
    }

    fn store_policy(&self, text: String) -> Answer<'_, StoredPolicy> {
        self.answer(format!("store_policy {text}"), StoredPolicy { digest: "d".into(), ack: self.ack() })
    }

    fn policies(&self) -> Answer<'_, PolicyList> {
        self.answer("policies".into(), PolicyList::default())
    }

    fn kept_policy(&self, digest: [u8; 32]) -> Answer<'_, PolicyView> {
        let (digest, text) = (hex::encode(digest), String::new());
        self.answer(
            format!("kept_policy {digest}"),
            PolicyView { revision: 1, digest, policies: 0, text, canary: None },
        )
    }

    fn activate_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck> {
        self.answer(format!("activate_policy {}", hex::encode(digest)), self.ack())
    }

    fn canary_policy(&self, digest: [u8; 32], percent: u8) -> Answer<'_, ControlAck> {
        self.answer(format!("canary_policy {percent} {}", hex::encode(digest)), self.ack())
    }

    fn rollback_policy(&self) -> Answer<'_, ControlAck> {
        self.answer("rollback_policy".into(), self.ack())
    }

    fn shadow_policy(&self, digest: Option<[u8; 32]>) -> Answer<'_, ControlAck> {
        self.answer(format!("shadow_policy {:?}", digest.map(hex::encode)), self.ack())
    }

    fn replay_policy(&self, query: ReplayQuery, text: String) -> Answer<'_, ReplayPage> {
        self.answer(format!("replay_policy {query:?} {text}"), ReplayPage::default())
    }

    fn remove_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck> {
        self.answer(format!("remove_policy {}", hex::encode(digest)), self.ack())
    }

    fn place_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView> {
        self.answer(format!("place_hold {spec:?}"), self.hold(spec))
    }

    fn lift_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView> {
        self.answer(format!("lift_hold {spec:?}"), self.hold(spec))
    }

    fn agent(&self, tenant: String, agent: String) -> Answer<'_, AgentView> {
        let view = AgentView {
            tenant: tenant.clone(),
            agent: agent.clone(),
            group: 2,
            known: true,
            state: AgentStatus::Active,
            epoch: 1,
            risk: 10,
            tier: "low".into(),
            actions: 3,
            denied: 1,
            violations: 0,
        };
        self.answer(format!("agent {tenant} {agent}"), view)
    }

    fn entries(&self, query: EntryQuery) -> Answer<'_, EntryPage> {
        let page = self.trail.lock().page(&query);
        async move { self.answer(format!("entries {query:?}"), ()).await.and(page) }.boxed()
    }

    fn checkpoint(&self, group: GroupId) -> Answer<'_, String> {
        self.answer(format!("checkpoint {group}"), "dev/p/2/1\n43\nAAAA\n".into())
    }

    fn published(&self, group: GroupId, resource: Resource) -> Answer<'_, Bytes> {
        self.answer(format!("published {group} {}", resource.path()), Bytes::from_static(b"published"))
    }

    fn receipt(&self, id: DecisionId) -> Answer<'_, ReceiptView> {
        let receipt = "c2sp.org/tlog-proof@v1\nindex 42\n".to_owned();
        self.answer(
            format!("receipt {id}"),
            ReceiptView { decision_id: id, leaf: String::new(), receipt, cluster: None },
        )
    }

    fn erase(&self, spec: EraseSpec) -> Answer<'_, ErasureView> {
        let said = format!("erase {spec:?}");
        self.answer(said, erasure(7, spec))
    }

    fn erasures(&self, only: Option<u64>) -> Answer<'_, Vec<ErasureView>> {
        let found = only.filter(|id| *id > 100).is_none().then(|| erasure(only.unwrap_or(7), EraseSpec::default()));
        self.answer(format!("erasures {only:?}"), found.into_iter().collect())
    }

    fn set_legal_hold(&self, spec: LegalHoldSpec) -> Answer<'_, LegalHoldView> {
        let said = format!("set_legal_hold {spec:?}");
        self.answer(said, legal_hold(7, spec.tenant, if spec.reason == "pending" { vec![3] } else { vec![] }))
    }

    fn lift_legal_hold(&self, id: u64, by: String) -> Answer<'_, LegalHoldView> {
        self.answer(format!("lift_legal_hold {id} {by:?}"), legal_hold(id, "t".into(), vec![]))
    }

    fn legal_holds(&self, only: Option<u64>, tenant: Option<String>) -> Answer<'_, Vec<LegalHoldView>> {
        let found = only.filter(|id| *id > 100).is_none().then(|| legal_hold(only.unwrap_or(7), "t".into(), vec![]));
        self.answer(format!("legal_holds {only:?} {tenant:?}"), found.into_iter().collect())
    }

    fn retention(&self, tenant: String) -> Answer<'_, RetentionView> {
        let said = format!("retention {tenant}");
        let ages = RetentionAges::default();
        self.answer(said, RetentionView { tenant, ages, dropped_after_s: 3_600, legal_holds: Vec::new() })
    }

    fn give_dictionary(&self, tenant: String, bytes: Vec<u8>) -> Answer<'_, GivenDictionary> {
        let ack = self.ack();
        self.answer(format!("give_dictionary {tenant} {bytes:?}"), GivenDictionary { digest: "0d".into(), ack })
    }

    fn leave_dictionary(&self, tenant: String) -> Answer<'_, ControlAck> {
        self.answer(format!("leave_dictionary {tenant}"), self.ack())
    }

    fn dictionaries(&self) -> Answer<'_, Vec<DictionaryView>> {
        self.answer("dictionaries".into(), Vec::new())
    }

    fn raw_leaves(&self, group: GroupId, from: u64, count: u64) -> Answer<'_, RawLeaves> {
        self.answer(format!("raw_leaves {group} {from} {count}"), RawLeaves { from, leaves: vec![], bodies: vec![] })
    }

    fn verifier_keys(&self) -> Answer<'_, VerifierKeys> {
        self.answer(
            "verifier_keys".into(),
            VerifierKeys {
                cluster: "dev".into(),
                vkeys: vec!["dev+1+k".into()],
                cluster_log: "dev+2+k".into(),
                ..VerifierKeys::default()
            },
        )
    }

    fn rotate_keys(&self, spec: RotateSpec) -> Answer<'_, VerifierKeys> {
        self.answer(format!("rotate_keys {spec:?}"), VerifierKeys::default())
    }

    fn aggregate(&self, query: AggregateQuery) -> Answer<'_, AggregateAnswer> {
        let call = format!("aggregate {query:?}");
        let denied = self.decisions.lock().pop_front().and_then(Result::ok);
        let view = AggregateView {
            tenant: query.tenant,
            mode: PrivacyMode::Standard,
            by: query.by,
            from_ns: query.from_ns,
            to_ns: query.to_ns,
            cells: vec![AggregateCell { cell: "allow".into(), count: 7 }],
            noise: None,
            decision: decision(&query.request_id),
        };
        let exported = AggregateAnswer::Exported(Box::new(view));
        self.answer(call, denied.map_or(exported, |denied| AggregateAnswer::Denied(Box::new(denied))))
    }

    fn answered(&self, answered: &Answered) {
        self.answered.lock().push(answered.clone());
    }

    fn sla(&self, query: SlaQuery) -> Answer<'_, SlaList> {
        self.answer(format!("sla {query:?}"), SlaList::default())
    }

    fn status(&self) -> Answer<'_, ClusterStatus> {
        self.answer("status".into(), ClusterStatus::default())
    }

    fn ready(&self) -> Vec<ReadyCheck> {
        self.checks.lock().clone()
    }
}

/// A problem of class retry with its time.
pub(crate) fn overloaded() -> Problem {
    Problem::new(Code::Overloaded, "too many are waiting").retry_after_ms(2_100)
}
