//! What clients did and were told: the record against which the oracle holds the audit logs.
//!
//! It knows only what a client outside could know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ActionOutcome, Decision, Settlement, Verdict};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;
use nethical_protocol::sometimes;

use crate::workload::{COINS, CREDITS};

mod retention;

pub use retention::LegallyHeld;

/// What a decision says that may never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where it stands.
    pub id: DecisionId,
    /// The verdict.
    pub verdict: Verdict,
    /// RFC 6962 leaf hash, hex.
    pub leaf_hash: String,
    /// Limits that refused it.
    pub violated: Vec<String>,
}

impl Told {
    /// From a decision.
    pub fn of(decision: &Decision) -> Self {
        let violated = decision.quota.iter().filter(|quota| quota.violated).map(|quota| quota.limit.clone());
        Self {
            id: decision.decision_id,
            verdict: decision.verdict,
            leaf_hash: decision.audit.leaf_hash.clone(),
            violated: violated.collect(),
        }
    }
}

/// One request of a client, with all its attempts.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The tenant.
    pub tenant: String,
    /// The agent.
    pub agent: String,
    /// The session that it names.
    pub session: String,
    /// The region that it names.
    pub region: String,
    /// What it asks for in all that a person would approve.
    pub content: String,
    /// Credits asked for.
    pub credits: u64,
    /// It may take what limits keep back.
    pub is_critical: bool,
    /// Millionths of a dollar asked for.
    pub coins: u64,
    /// Tokens reserved, and for how many seconds.
    pub tokens: (u64, u64),
    /// When the first attempt began.
    pub invoked: Duration,
    /// When the first answer came.
    pub answered: Option<Duration>,
    /// The first answer.
    pub told: Option<Told>,
    /// A refusal that ended it without a decision.
    pub refused: Option<Code>,
    /// Attempts so far.
    pub attempts: u32,
}

/// What a client said of a reservation.
#[derive(Debug, Clone)]
pub struct Said {
    /// What.
    pub outcome: ActionOutcome,
    /// It was told that this is the end.
    pub settled: bool,
}

/// A hold-order, as its administrator saw it.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// The agent; empty for the whole tenant, or `session` or `region` with the name of such a part.
    pub agent: String,
    /// Where it lapses by itself: not before this.
    pub lapses: Option<Duration>,
    /// When it was acknowledged.
    pub placed: Option<Duration>,
    /// When the first call to release began.
    pub release_called: Option<Duration>,
}

/// Everything that clients did. A clone is the same history.
#[derive(Clone, Default)]
pub struct History {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    operations: BTreeMap<String, Operation>,
    quarantines: Vec<Quarantine>,
    settlements: BTreeMap<DecisionId, Vec<Said>>,
    orders: u64,
    failed_orders: u64,
    contradictions: Vec<String>,
    replays: u64,
    words: Vec<(DecisionId, bool)>,
    receipts: Vec<(Told, String)>,
    erased: BTreeSet<DecisionId>,
    kept: retention::Kept,
}

impl History {
    /// An attempt at an action begins; gives its number, from 1.
    pub fn attempt(&self, action: &Action, now: Duration) -> u32 {
        let mut inner = self.inner.lock();
        let operation = inner.operations.entry(action.request_id.clone()).or_insert_with(|| Operation {
            tenant: action.tenant.clone(),
            agent: action.agent.clone(),
            session: action.session.clone(),
            region: action.region.clone(),
            content: format!("{} {}/{} {}", action.name, action.resource_type, action.resource_id, action.args_json),
            credits: action.cost.iter().filter(|cost| cost.unit == CREDITS).map(|cost| cost.amount).sum(),
            is_critical: action.is_critical,
            coins: action.cost.iter().filter(|cost| cost.unit == COINS).map(|cost| cost.amount).sum(),
            tokens: action.cost.iter().find(|cost| cost.ttl_s > 0).map_or((0, 0), |cost| (cost.amount, cost.ttl_s)),
            invoked: now,
            answered: None,
            told: None,
            refused: None,
            attempts: 0,
        });
        operation.attempts += 1;
        // A refusal speaks of the attempts before it, not of this one.
        operation.refused = None;
        operation.attempts
    }

    /// A decision came back. Every decision of one request must be the same.
    pub fn decided(&self, decision: &Decision, now: Duration) {
        let told = Told::of(decision);
        let mut inner = self.inner.lock();
        inner.replays += u64::from(decision.replayed);
        inner.receipts.extend(decision.audit.receipt.clone().map(|receipt| (told.clone(), receipt)));
        let Some(operation) = inner.operations.get_mut(&decision.request_id) else {
            let phantom = format!("{} was decided and nobody asked for it", decision.request_id);
            return inner.contradictions.push(phantom);
        };
        match &operation.told {
            None => (operation.told, operation.answered) = (Some(told), Some(now)),
            Some(first) if *first == told => {}
            Some(first) => {
                let contradiction = format!("{}: told {first:?}, then {told:?}", decision.request_id);
                inner.contradictions.push(contradiction);
            }
        }
    }

    /// Tokens that a request reserved; `None` where it reserved nothing.
    pub fn tokens(&self, request_id: &str) -> Option<u64> {
        let inner = self.inner.lock();
        inner.operations.get(request_id).map(|operation| operation.tokens.0).filter(|tokens| *tokens > 0)
    }

    /// A client is about to say what was used; gives the saying's number.
    pub fn said(&self, decision: DecisionId, outcome: ActionOutcome) -> usize {
        let mut inner = self.inner.lock();
        let said = inner.settlements.entry(decision).or_default();
        said.push(Said { outcome, settled: false });
        said.len() - 1
    }

    /// What came of it.
    pub fn settled(&self, decision: DecisionId, number: usize, answer: Result<Settlement, Problem>) {
        sometimes!(answer.as_ref().is_ok_and(|settled| settled.replayed), "a settlement was told again");
        sometimes!(answer.as_ref().is_err(), "a settlement was refused");
        if let Some(said) = self.inner.lock().settlements.get_mut(&decision).and_then(|said| said.get_mut(number)) {
            said.settled = answer.is_ok();
        }
    }

    /// Everything that was said of reservations.
    pub fn settlements(&self) -> BTreeMap<DecisionId, Vec<Said>> {
        self.inner.lock().settlements.clone()
    }

    /// True where a request has had its decision.
    pub fn is_told(&self, request_id: &str) -> bool {
        self.inner.lock().operations.get(request_id).is_some_and(|operation| operation.told.is_some())
    }

    /// The approval that a request opened, where it was escalated.
    pub fn escalated(&self, request_id: &str) -> Option<DecisionId> {
        let inner = self.inner.lock();
        let told = inner.operations.get(request_id)?.told.as_ref()?;
        (told.verdict == Verdict::Escalate).then_some(told.id)
    }

    /// True where a request was allowed.
    pub fn is_allowed(&self, request_id: &str) -> bool {
        let inner = self.inner.lock();
        let told = inner.operations.get(request_id).and_then(|operation| operation.told.as_ref());
        told.is_some_and(|told| told.verdict.is_allowed())
    }

    /// A person's word on an approval was acknowledged.
    pub fn worded(&self, id: DecisionId, approves: bool) {
        self.inner.lock().words.push((id, approves));
    }

    /// All words that were acknowledged.
    pub fn words(&self) -> Vec<(DecisionId, bool)> {
        self.inner.lock().words.clone()
    }

    /// Something was answered that contradicts what was asked.
    pub fn contradicted(&self, what: String) {
        self.inner.lock().contradictions.push(what);
    }

    /// A refusal came back that another attempt would not change.
    pub fn refused(&self, request_id: &str, code: Code) {
        // An earlier attempt without an answer may have happened all the same, and be refused as its own repetition.
        if let Some(operation) = self.inner.lock().operations.get_mut(request_id).filter(|one| one.attempts == 1) {
            operation.refused = Some(code);
        }
    }

    /// A hold-order was acknowledged, or was not; gives its number.
    pub fn quarantined(&self, agent: String, placed: Option<Duration>, lapses: Option<Duration>) -> usize {
        let mut inner = self.inner.lock();
        inner.quarantines.push(Quarantine { agent, lapses, placed, release_called: None });
        inner.orders += u64::from(placed.is_some());
        inner.failed_orders += u64::from(placed.is_none());
        inner.quarantines.len() - 1
    }

    /// The first call to release a quarantine begins.
    pub fn release_called(&self, number: usize, now: Duration) {
        if let Some(quarantine) = self.inner.lock().quarantines.get_mut(number) {
            quarantine.release_called = Some(now);
        }
    }

    /// An order was carried out, or was not.
    pub fn ordered(&self, done: bool) {
        let mut inner = self.inner.lock();
        inner.orders += u64::from(done);
        inner.failed_orders += u64::from(!done);
    }

    /// Orders that were carried out, and those that were not.
    pub fn orders(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.orders, inner.failed_orders)
    }

    /// The agent of these decisions is erased. Gives those of which that is new.
    pub fn erased(&self, told: &[DecisionId]) -> Vec<DecisionId> {
        let mut inner = self.inner.lock();
        told.iter().copied().filter(|id| inner.erased.insert(*id)).collect()
    }

    /// Decisions whose agent was erased after they were told.
    pub fn all_erased(&self) -> BTreeSet<DecisionId> {
        self.inner.lock().erased.clone()
    }

    /// All operations by request id.
    pub fn operations(&self) -> BTreeMap<String, Operation> {
        self.inner.lock().operations.clone()
    }

    /// All quarantines.
    pub fn quarantines(&self) -> Vec<Quarantine> {
        self.inner.lock().quarantines.clone()
    }

    /// Answers that contradict each other.
    pub fn contradictions(&self) -> Vec<String> {
        self.inner.lock().contradictions.clone()
    }

    /// Proofs that came with decisions.
    pub fn receipts(&self) -> Vec<(Told, String)> {
        self.inner.lock().receipts.clone()
    }

    /// Recorded outcomes that were answered again.
    pub fn replays(&self) -> u64 {
        self.inner.lock().replays
    }
}
