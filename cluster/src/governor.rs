//! The cluster's face to its doors: [`Governor`] over a node's core. Routes, asks, translates; decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use nethical_audit::publish::Resource;
use nethical_governance::outcome::RiskTier;
use nethical_governance::policy::digest_of;
use nethical_protocol::action::Action;
use nethical_protocol::control::{AckState, ControlAck, EraseSpec, HoldScope, HoldSpec, LimitSpec, TenantSpec};
use nethical_protocol::decision::{ActionOutcome, ItemAnswer, Settlement};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, LimitNumber, NodeId};
use nethical_protocol::privacy::{AggregateAnswer, AggregateQuery};
use nethical_protocol::quarantine::QuarantineSpec;
use nethical_protocol::retention::LegalHoldSpec;
use nethical_protocol::sla::{SlaList, SlaQuery};
use nethical_protocol::status::{ClusterStatus, ReadyCheck};

use crate::api::*;
use crate::ask::{self, Question};
use crate::decide::Decider;
use crate::message::*;
use crate::node::Core;
use crate::world::timeout;
use crate::{
    administer, aggregate, alarms, approvals, bundles, dictionaries, drift, erase, fsck, inspect, legal, publish,
    query, replay, rules, scores, settle, signing, sla, tier,
};

mod status;

/// How long a question to another node may take.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// A node's governor. Cheap to clone.
#[derive(Clone)]
pub struct NodeGovernor {
    core: Arc<Core>,
    decider: Decider,
}

impl NodeGovernor {
    /// Over a node's core.
    pub fn new(core: Arc<Core>) -> Self {
        Self { decider: Decider::new(core.clone()), core }
    }

    /// The core, for the process around it.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Asks the leader of a group, following its hints, until it answers or the time is up.
    async fn ask_leader<T>(
        &self,
        group: GroupId,
        kind: u16,
        body: Bytes,
        here: impl Fn(Bytes) -> BoxFuture<'static, Bytes>,
        read: impl Fn(&[u8]) -> Option<Result<T, Option<u64>>>,
    ) -> Result<T, Problem> {
        let until = self.core.shared.world.clock.now() + ASK_PATIENCE;
        ask::ask_leader(&self.core, group, Question { kind, body, until }, here, read).await
    }

    async fn agent_report(&self, tenant: &str, agent: &str) -> Result<AgentReportV1, Problem> {
        let group = administer::group_of_agent(&self.core, tenant, agent)?;
        let ask = AskAgentV1 { tenant: tenant.to_owned(), agent: agent.to_owned() };
        let core = self.core.clone();
        let local = ask.clone();
        let here = move |_| administer::on_agent(core.clone(), local.clone()).boxed();
        let read = |bytes: &[u8]| match AgentAnswerV1::from_bytes(bytes).ok()? {
            AgentAnswerV1::Agent(report) => Some(Ok(Ok(report))),
            AgentAnswerV1::Problem(problem) => Some(Ok(Err(problem))),
            AgentAnswerV1::NotLeader(hint) => Some(Err(hint)),
        };
        self.ask_leader(group, KIND_AGENT, ask.to_bytes(), here, read).await?
    }

    async fn settle_at_leader(&self, ask: SettleAskV1) -> Result<Settlement, Problem> {
        let group = ask.decision.log.group;
        if !group.is_partition() || !self.core.groups().any(|known| known == group) {
            return Err(Problem::new(Code::NotFound, format!("there is no decision {}", ask.decision)));
        }
        let (core, local) = (self.core.clone(), ask.clone());
        let here = move |_| settle::on_settle(core.clone(), local.clone()).boxed();
        let read = |bytes: &[u8]| match SettleAnswerV1::from_bytes(bytes).ok()? {
            SettleAnswerV1::Done(settlement) => Some(Ok(Ok(settlement))),
            SettleAnswerV1::Problem(problem) => Some(Ok(Err(problem))),
            SettleAnswerV1::NotLeader(hint) => Some(Err(hint)),
        };
        self.ask_leader(group, KIND_SETTLE, ask.to_bytes(), here, read).await?
    }

    async fn hold_agent(&self, spec: HoldSpec, lift: bool) -> Result<HoldView, Problem> {
        let HoldScope::Agent { tenant, agent } = &spec.scope else {
            return Err(Problem::new(Code::InvalidControl, "not a hold on one agent"));
        };
        self.ensure_tenant(tenant).await?;
        let group = administer::group_of_agent(&self.core, tenant, agent)?;
        let mut random = [0; 16];
        self.core.shared.world.scope.fill(&mut random);
        let issued_at_ms = self.core.shared.world.clock.wall_ns() / 1_000_000;
        let ask =
            HoldV1 { spec: spec.clone(), lift, request_id: format!("hold-{}", hex::encode(random)), issued_at_ms };
        let (core, local) = (self.core.clone(), ask.clone());
        let here = move |_| administer::on_hold(core.clone(), local.clone()).boxed();
        let read = |bytes: &[u8]| match HeldV1::from_bytes(bytes).ok()? {
            HeldV1::Done { decision_id, missing, .. } => Some(Ok(Ok((decision_id, missing)))),
            // The tenant is on its way into the group: ask again.
            HeldV1::Problem(problem) if problem.code == Code::NotReady => Some(Err(None)),
            HeldV1::Problem(problem) => Some(Ok(Err(problem))),
            HeldV1::NotLeader(hint) => Some(Err(hint)),
        };
        let (decision_id, missing) = self.ask_leader(group, KIND_HOLD, ask.to_bytes(), here, read).await??;
        // One entry in the agent's own group: in force from there on.
        let ack = ControlAck { revision: ControlRevision(0), state: AckState::Acknowledged, awaiting: Vec::new() };
        Ok(HoldView { hold: spec, ack, missing, decision_id: Some(decision_id) })
    }

    /// Words that the release of a scope still needs, as this node knows; 0 where one word does or nothing is held.
    fn missing(&self, spec: &HoldSpec) -> u8 {
        let missing = self.core.shared.view().missing(&spec.scope, self.core.shared.world.clock.wall_ns());
        if missing == 1 && !spec.is_guarded() && spec.approver.is_empty() { 0 } else { missing }
    }

    /// In an open zone, a hold on an agent of a tenant nobody has named yet creates the tenant.
    async fn ensure_tenant(&self, name: &str) -> Result<(), Problem> {
        if self.core.shared.view().tenant(name).is_some() || !self.core.shared.options.open_tenants {
            return Ok(());
        }
        let spec = TenantSpec::named(name);
        let ack = rules::change(&self.core, ChangeRulesV1::PutTenant(spec)).await?;
        self.see(ack.revision).await;
        Ok(())
    }

    /// Waits a moment until this node's own view has come so far.
    async fn see(&self, revision: ControlRevision) {
        let mut known = self.core.shared.revision();
        let reached = known.wait_for(|known| *known >= revision);
        let _ = timeout(&*self.core.shared.world.clock, ASK_PATIENCE, reached).await;
    }

    async fn change(&self, ask: ChangeRulesV1) -> Result<ControlAck, Problem> {
        let ack = rules::change(&self.core, ask).await?;
        self.see(ack.revision).await;
        Ok(ack)
    }
}

impl Governor for NodeGovernor {
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> BoxFuture<'_, Vec<ItemAnswer>> {
        self.decider.decide(actions, deadline)
    }

    fn settle(&self, decision: DecisionId, outcome: ActionOutcome) -> Answer<'_, Settlement> {
        self.settle_at_leader(SettleAskV1 { decision, outcome }).boxed()
    }

    fn approvals(&self, query: ApprovalQuery) -> Answer<'_, ApprovalList> {
        approvals::list(self.core.clone(), query).boxed()
    }

    fn approval(&self, id: DecisionId) -> Answer<'_, ApprovalView> {
        approvals::one(self.core.clone(), id).boxed()
    }

    fn decide_approval(&self, word: ApprovalWord) -> Answer<'_, ApprovalView> {
        approvals::decide(self.core.clone(), word).boxed()
    }

    fn put_tenant(&self, spec: TenantSpec) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::PutTenant(spec)).boxed()
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantSpec>> {
        let view = self.core.shared.view();
        async move { Ok(view.tenants().map(|tenant| tenant.spec.clone()).collect()) }.boxed()
    }

    fn put_limit(&self, spec: LimitSpec) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::PutLimit(spec)).boxed()
    }

    fn remove_limit(&self, tenant: String, id: String) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::RemoveLimit { tenant, id }).boxed()
    }

    fn put_quarantine_rules(&self, spec: QuarantineSpec) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::PutQuarantine(spec)).boxed()
    }

    fn quarantine_rules(&self) -> Answer<'_, Vec<QuarantineSpec>> {
        let view = self.core.shared.view();
        async move { Ok(view.quarantine().iter().cloned().collect()) }.boxed()
    }

    fn limits(&self, tenant: Option<String>) -> Answer<'_, Vec<LimitSpec>> {
        let view = self.core.shared.view();
        let wanted = move |spec: &LimitSpec| tenant.as_ref().is_none_or(|name| *name == spec.tenant);
        async move { Ok(view.limits().map(|(_, spec)| LimitSpec::clone(spec)).filter(wanted).collect()) }.boxed()
    }

    fn limit_usage(&self, tenant: String, agent: String) -> Answer<'_, Vec<LimitUsage>> {
        async move {
            let report = self.agent_report(&tenant, &agent).await?;
            let view = self.core.shared.view();
            let known = |(number, cap, remaining, reset_ns): &(u32, u64, u64, u64)| {
                let limit = view.limit(LimitNumber(*number))?;
                let (used, reset_s) = (cap.saturating_sub(*remaining), reset_ns.div_ceil(1_000_000_000));
                Some(LimitUsage { limit: LimitSpec::clone(limit), used, remaining: *remaining, reset_s })
            };
            Ok(report.quota.iter().filter_map(known).collect())
        }
        .boxed()
    }

    fn put_policy(&self, text: String) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::PutPolicy(text)).boxed()
    }

    fn policy(&self) -> Answer<'_, PolicyView> {
        let view = self.core.shared.view();
        async move {
            let reports = if view.store().canary().is_some() { self.reports().await } else { Vec::new() };
            bundles::in_force(&view, &reports)
        }
        .boxed()
    }

    fn store_policy(&self, text: String) -> Answer<'_, StoredPolicy> {
        async move {
            let digest = hex::encode(digest_of(&text));
            let ack = self.change(ChangeRulesV1::StoreBundle(text)).await?;
            Ok(StoredPolicy { digest, ack })
        }
        .boxed()
    }

    fn policies(&self) -> Answer<'_, PolicyList> {
        async move {
            let view = self.core.shared.view();
            let reports = if view.shadow().is_some() { self.reports().await } else { Vec::new() };
            Ok(bundles::list(&view, &reports))
        }
        .boxed()
    }

    fn kept_policy(&self, digest: [u8; 32]) -> Answer<'_, PolicyView> {
        let view = self.core.shared.view();
        async move { bundles::kept(&view, &digest) }.boxed()
    }

    fn activate_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::ActivateBundle(digest)).boxed()
    }

    fn canary_policy(&self, digest: [u8; 32], percent: u8) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::CanaryBundle(digest, percent)).boxed()
    }

    fn rollback_policy(&self) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::RollbackPolicy).boxed()
    }

    fn shadow_policy(&self, digest: Option<[u8; 32]>) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::ShadowPolicy(digest)).boxed()
    }

    fn replay_policy(&self, query: ReplayQuery, text: String) -> Answer<'_, ReplayPage> {
        replay::replay(self.core.clone(), query, text).boxed()
    }

    fn remove_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::RemoveBundle(digest)).boxed()
    }

    fn place_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView> {
        async move {
            if matches!(spec.scope, HoldScope::Agent { .. }) {
                return self.hold_agent(spec, false).await;
            }
            let ack = self.change(ChangeRulesV1::PlaceHold(spec.clone())).await?;
            let missing = self.missing(&spec);
            Ok(HoldView { hold: spec, ack, missing, decision_id: None })
        }
        .boxed()
    }

    fn lift_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView> {
        async move {
            if matches!(spec.scope, HoldScope::Agent { .. }) {
                return self.hold_agent(spec, true).await;
            }
            let ack = rules::lift_all(&self.core, &spec).await?;
            self.see(ack.revision).await;
            Ok(HoldView { missing: self.missing(&spec), hold: spec, ack, decision_id: None })
        }
        .boxed()
    }

    fn alarms(&self, query: AlarmQuery) -> Answer<'_, AlarmList> {
        alarms::list(self.core.clone(), query).boxed()
    }

    fn scores(&self, query: ScoreQuery) -> Answer<'_, ScoreReport> {
        scores::report(self.core.clone(), query).boxed()
    }

    fn fsck(&self, begin: bool) -> Answer<'_, FsckList> {
        fsck::list(self.core.clone(), begin).map(Ok).boxed()
    }

    fn tiers(&self) -> Answer<'_, TierList> {
        tier::list(self.core.clone()).map(Ok).boxed()
    }

    fn cold_files(&self, query: ColdQuery) -> Answer<'_, ColdList> {
        tier::files::list(self.core.clone(), query).boxed()
    }

    fn cold_key(&self, group: GroupId, first: u64) -> Answer<'_, ColdKeyView> {
        tier::files::key(self.core.clone(), group, first).boxed()
    }

    fn drift(&self, query: DriftQuery) -> Answer<'_, DriftList> {
        drift::list(self.core.clone(), query).boxed()
    }

    fn agent(&self, tenant: String, agent: String) -> Answer<'_, AgentView> {
        async move {
            let report = self.agent_report(&tenant, &agent).await?;
            let tier = RiskTier::ALL[usize::from(report.tier).min(3)].as_str().to_owned();
            let AgentReportV1 { group, known, status, epoch, risk, actions, denied, violations, .. } = report;
            Ok(AgentView { tenant, agent, group, known, state: status, epoch, risk, tier, actions, denied, violations })
        }
        .boxed()
    }

    fn entries(&self, query: EntryQuery) -> Answer<'_, EntryPage> {
        query::entries(self.core.clone(), query).boxed()
    }

    fn erase(&self, spec: EraseSpec) -> Answer<'_, ErasureView> {
        async move {
            let ack = self.change(ChangeRulesV1::Erase(spec)).await?;
            let late = || Problem::new(Code::NotReady, "the erasure is on its way to this node").retry_after_ms(200);
            erase::views(self.core.clone(), Some(ack.revision.0)).await.pop().ok_or_else(late)
        }
        .boxed()
    }

    fn erasures(&self, only: Option<u64>) -> Answer<'_, Vec<ErasureView>> {
        erase::views(self.core.clone(), only).map(Ok).boxed()
    }

    fn set_legal_hold(&self, spec: LegalHoldSpec) -> Answer<'_, LegalHoldView> {
        legal::set(self.core.clone(), spec).boxed()
    }

    fn lift_legal_hold(&self, id: u64, by: String) -> Answer<'_, LegalHoldView> {
        legal::lift(self.core.clone(), id, by).boxed()
    }

    fn legal_holds(&self, only: Option<u64>, tenant: Option<String>) -> Answer<'_, Vec<LegalHoldView>> {
        legal::views(self.core.clone(), only, tenant).map(Ok).boxed()
    }

    fn retention(&self, tenant: String) -> Answer<'_, RetentionView> {
        legal::retention(self.core.clone(), tenant).boxed()
    }

    fn give_dictionary(&self, tenant: String, bytes: Vec<u8>) -> Answer<'_, GivenDictionary> {
        dictionaries::give(self.core.clone(), tenant, bytes).boxed()
    }

    fn leave_dictionary(&self, tenant: String) -> Answer<'_, ControlAck> {
        self.change(ChangeRulesV1::Dictionary(tenant, None)).boxed()
    }

    fn dictionaries(&self) -> Answer<'_, Vec<DictionaryView>> {
        std::future::ready(Ok(dictionaries::views(&self.core))).boxed()
    }

    fn checkpoint(&self, group: GroupId) -> Answer<'_, String> {
        inspect::checkpoint(self.core.clone(), group).boxed()
    }

    fn published(&self, group: GroupId, resource: Resource) -> Answer<'_, Bytes> {
        publish::published(self.core.clone(), group, resource).boxed()
    }

    fn receipt(&self, id: DecisionId) -> Answer<'_, ReceiptView> {
        publish::receipt(self.core.clone(), id).boxed()
    }

    fn raw_leaves(&self, group: GroupId, from: u64, count: u64) -> Answer<'_, RawLeaves> {
        inspect::raw_leaves(self.core.clone(), group, from, count).boxed()
    }

    fn verifier_keys(&self) -> Answer<'_, VerifierKeys> {
        self.all_keys().boxed()
    }

    fn rotate_keys(&self, spec: RotateSpec) -> Answer<'_, VerifierKeys> {
        async move {
            let ack = match spec.node {
                Some(node) => signing::turn_own(&self.core, NodeId(node), spec.reason).await?,
                None => {
                    self.change(ChangeRulesV1::TurnKey(TurnKeyV1::Zone {
                        overlap_s: spec.overlap_s(),
                        reason: spec.reason,
                    }))
                    .await?
                }
            };
            self.see(ack.revision).await;
            self.all_keys().await
        }
        .boxed()
    }

    fn aggregate(&self, query: AggregateQuery) -> Answer<'_, AggregateAnswer> {
        aggregate::export(self.core.clone(), self.decider.clone(), query).boxed()
    }

    fn answered(&self, answered: &Answered) {
        let shared = &self.core.shared;
        if !shared.sla.note(shared.world.clock.now(), answered, shared.view().tenant(&answered.tenant).is_some()) {
            metrics::counter!("nethical_sla_uncounted_total").increment(answered.decided + answered.failed);
        }
    }

    fn sla(&self, query: SlaQuery) -> Answer<'_, SlaList> {
        sla::list(self.core.clone(), query).boxed()
    }

    fn status(&self) -> Answer<'_, ClusterStatus> {
        self.cluster_status().map(Ok).boxed()
    }

    fn ready(&self) -> Vec<ReadyCheck> {
        self.core.ready()
    }
}
