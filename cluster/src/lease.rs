//! Leases between partitions: a leader whose group's share of a limit is too small asks the leader of the limit's parent,
//! which may have other groups give back what they do not use (ARCHITECTURE 7).
//!
//! All that is decided is decided in apply, on either side; nothing here counts. A message that is lost costs time: the
//! ask is told again with the same counters and answered with the same grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;

use nethical_governance::command::{HeaderV1, LeaseTakeV1};
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::quota::ahead::AheadV1;
use nethical_governance::quota::lease::{CountersV1, LeaseAskV1, LeaseKey};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::GroupId;
use nethical_protocol::limits::LEASES_ASKED_AHEAD_MAX;
use nethical_protocol::sometimes;

use crate::administer::lead_of;
use crate::ask::{Question, ask_leader};
use crate::lead::Lead;
use crate::message::{KIND_LEASE, KIND_RECALL, LeaseAnswerV1, LeaseQuestionV1, RecallV1, RecalledV1};
use crate::meta;
use crate::node::Core;
use crate::replica::PartitionReplica;

/// A child waits so long for its parent.
const PARENT_PATIENCE: Duration = Duration::from_millis(1_500);
/// A parent waits so long for what other children give back.
const RECALL_PATIENCE: Duration = Duration::from_millis(900);
/// A child waits so long for its actions that keep what it should give back: somewhat longer than they keep what they may
/// not need (`PINNED_AFTER_NS`), so that who lacks nothing else gets it.
const KEPT_PATIENCE: Duration = Duration::from_millis(400);
/// Between two looks at what is kept.
const KEPT_LOOK: Duration = Duration::from_millis(20);
/// An entry of one's own log.
const PROPOSE_PATIENCE: Duration = Duration::from_millis(1_000);
/// So long after everybody has said that nothing is left, nobody is asked again: a limit that is worked at its end would
/// have all partitions write returns of nothing.
const DRAINED: Duration = Duration::from_millis(500);
/// Leases remembered as drained.
const DRAINED_MAX: usize = 4_096;
/// When to come back after a parent could not be asked.
const RETRY_MS: u64 = 500;

/// What a parent said, and its word is in the group's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Granted,
    Refused,
}

type Fetched = Option<Result<Said, Problem>>;

/// An ask that has not left yet, which whoever needs of the lease joins, and where its answer will be.
struct Wish {
    ask: LeaseAskV1,
    tell: watch::Sender<Fetched>,
    /// Nobody waits for it: what was counted ahead is told, and there is no other need.
    is_ahead: bool,
}

/// The leases that a leader is asking for: one ask at a time for each, whoever needs it. And those of which, as a parent,
/// it knows that nobody had any left a moment ago.
#[derive(Default)]
pub struct Fetches {
    /// By lease, where an ask is on its way or about to be: the next one, for who came too late for it. Nobody waits for
    /// an answer to an ask that did not tell of his need: what it brings belongs to those who asked.
    under_way: Mutex<BTreeMap<(LeaseKey, bool), Option<Wish>>>,
    drained: Mutex<BTreeMap<(LeaseKey, bool), Duration>>,
}

/// Critical actions ask apart: what is kept back for them is not for the others.
fn place_of(ask: &LeaseAskV1) -> (LeaseKey, bool) {
    (ask.lease, ask.is_critical)
}

impl Fetches {
    /// Joins the ask for a lease that has not left yet. True where nothing was on its way, so that the caller must see to it.
    fn join(&self, ask: &LeaseAskV1) -> (watch::Receiver<Fetched>, bool) {
        let mut under_way = self.under_way.lock();
        let is_first = !under_way.contains_key(&place_of(ask));
        let next = under_way.entry(place_of(ask)).or_default();
        if let Some(wish) = next {
            if std::mem::take(&mut wish.is_ahead) {
                wish.ask = *ask
            } else {
                wish.ask.join(ask)
            }
            return (wish.tell.subscribe(), is_first);
        }
        let (tell, told) = watch::channel(None);
        *next = Some(Wish { ask: *ask, tell, is_ahead: false });
        (told, is_first)
    }

    /// Has a lease asked for that nobody waits for, unless that is about to be. True as for [`Fetches::join`].
    fn join_ahead(&self, ask: LeaseAskV1) -> bool {
        let mut under_way = self.under_way.lock();
        let is_first = !under_way.contains_key(&place_of(&ask));
        if is_first && under_way.len() >= LEASES_ASKED_AHEAD_MAX {
            return false;
        }
        let next = under_way.entry(place_of(&ask)).or_default();
        next.get_or_insert_with(|| Wish { ask, tell: watch::channel(None).0, is_ahead: true });
        is_first
    }

    /// What is to be asked for next; where there is nothing, nothing is on its way any more.
    fn next(&self, place: &(LeaseKey, bool)) -> Option<Wish> {
        let mut under_way = self.under_way.lock();
        let next = under_way.get_mut(place).and_then(Option::take);
        if next.is_none() {
            under_way.remove(place);
        }
        next
    }

    fn is_drained(&self, ask: &LeaseAskV1, now: Duration) -> bool {
        self.drained.lock().get(&place_of(ask)).is_some_and(|at| now.saturating_sub(*at) < DRAINED)
    }

    fn note_drained(&self, ask: &LeaseAskV1, now: Duration) {
        let mut drained = self.drained.lock();
        drained.retain(|_, at| now.saturating_sub(*at) < DRAINED);
        if drained.len() < DRAINED_MAX {
            drained.insert(place_of(ask), now);
        }
    }
}

/// Gets all that an action is short of in one round: a greater share from each parent, or its refusal, into the group's own
/// log. Several callers share one ask, so one may find afterwards that another has spent it. Whoever stops waiting leaves
/// the asks on their way; what they bring is there for others, or comes back when the parent wants it.
///
/// # Errors
/// `lease-unavailable` where a parent could not be asked in time, and none has refused; nothing is decided then. Where one
/// has refused, that decides, whatever the others would have said.
pub async fn fetch_all(core: &Arc<Core>, lead: &Arc<Lead>, asks: Vec<LeaseAskV1>) -> Result<(), Problem> {
    let fetched = join_all(asks.iter().map(|ask| fetch(core, lead, *ask))).await;
    let refused = fetched.iter().filter(|fetched| matches!(fetched, Ok(Said::Refused))).count();
    sometimes!(asks.len() > 1 && refused == 0, "shares of several limits came in one round");
    sometimes!(refused > 1, "several parents refused in one round");
    match fetched.into_iter().find_map(Result::err) {
        Some(problem) if refused == 0 => Err(problem),
        _ => Ok(()),
    }
}

async fn fetch(core: &Arc<Core>, lead: &Arc<Lead>, ask: LeaseAskV1) -> Result<Said, Problem> {
    let (mut told, is_first) = lead.fetches.join(&ask);
    if is_first {
        core.shared.world.scope.spawn(fetch_and_tell(core.clone(), lead.clone(), place_of(&ask)));
    }
    let answer = told.wait_for(Option::is_some).await.map(|fetched| fetched.clone());
    answer.ok().flatten().unwrap_or_else(|| Err(unavailable("this leader ended")))
}

/// Tells parents what was counted ahead of their grants, and gets more, while nobody waits: the answers are in the log
/// when they are. Where one is lost, the next action that is counted ahead asks again.
pub fn fetch_ahead(core: &Arc<Core>, lead: &Arc<Lead>, ahead: &[AheadV1]) {
    for one in ahead {
        let ask = lead.machine().lock().ledger.ask_ahead(one);
        if let Some(ask) = ask.filter(|ask| lead.fetches.join_ahead(*ask)) {
            core.shared.world.scope.spawn(fetch_and_tell(core.clone(), lead.clone(), place_of(&ask)));
        }
    }
}

/// Asks until nobody wishes for more.
async fn fetch_and_tell(core: Arc<Core>, lead: Arc<Lead>, place: (LeaseKey, bool)) {
    while let Some(Wish { mut ask, tell, is_ahead }) = lead.fetches.next(&place) {
        if is_ahead {
            tell_ahead(&core, &lead, AheadV1 { lease: ask.lease, is_critical: ask.is_critical }).await;
            continue;
        }
        // What was spent and taken since tells the parent more.
        ask.counters = lead.machine().lock().ledger.share(&ask.lease).counters;
        let fetched = fetch_once(&core, &lead, ask).await;
        sometimes!(fetched.is_err(), "a lease was not to be had");
        tell.send_replace(Some(fetched));
    }
}

/// Asks for what is owed by now; once more where the share began a new life, in which what is owed can be told.
async fn tell_ahead(core: &Arc<Core>, lead: &Arc<Lead>, ahead: AheadV1) {
    let now = || {
        let machine = lead.machine().lock();
        (machine.ledger.ask_ahead(&ahead), machine.ledger.share(&ahead.lease).counters)
    };
    let (Some(ask), _) = now() else { return };
    let fetched = fetch_once(core, lead, ask).await;
    sometimes!(fetched.is_err(), "a lease was not to be had");
    let (again, told) = now();
    if let (Ok(_), Some(again)) = (fetched, again)
        && told.born_ns != ask.counters.born_ns
        && told.debt() > 0
    {
        sometimes!(true, "a share's new life took over what was owed");
        let _ = fetch_once(core, lead, again).await;
    }
}

async fn fetch_once(core: &Arc<Core>, lead: &Lead, ask: LeaseAskV1) -> Result<Said, Problem> {
    let founding = core.founding().ok_or_else(|| unavailable("this node has not joined its zone yet"))?;
    let parent = meta::group_of(&founding, ask.lease.slot);
    let question = LeaseQuestionV1 { group: parent.0, ask };
    let until = core.shared.world.clock.now() + PARENT_PATIENCE;
    let body = Question { kind: KIND_LEASE, body: question.to_bytes(), until };
    let here = core.clone();
    let here = move |_| on_lease(here.clone(), question.clone()).boxed();
    let read = |bytes: &[u8]| match LeaseAnswerV1::from_bytes(bytes).ok()? {
        LeaseAnswerV1::Granted(take) => Some(Ok(Ok(take))),
        LeaseAnswerV1::Unavailable(why) => Some(Ok(Err(why))),
        LeaseAnswerV1::NotLeader(hint) => Some(Err(hint)),
    };
    let answer = ask_leader(core, parent, body, here, read).await.map_err(|problem| unavailable(&problem.detail))?;
    let take = answer.map_err(|why| unavailable(&why))?;
    if take.lease != ask.lease {
        return Err(unavailable("the parent answered for another limit"));
    }
    let replica = core.partition(lead.group()).ok_or_else(|| unavailable("the group has no replica here"))?;
    let said = if take.refused { Said::Refused } else { Said::Granted };
    let take = HeaderV1::LeaseTake(take);
    replica.propose(lead, take, Vec::new(), PROPOSE_PATIENCE).await.map_err(|problem| unavailable(&problem.detail))?;
    Ok(said)
}

/// Nothing was decided: the share is spent, and why no greater one is to be had now.
pub fn unavailable(why: &str) -> Problem {
    let detail = format!("this partition's share of a limit is spent, and its parent could not be asked: {why}");
    Problem::new(Code::LeaseUnavailable, detail).retry_after_ms(RETRY_MS)
}

/// The parent's side, where this node leads it.
pub async fn on_lease(core: Arc<Core>, question: LeaseQuestionV1) -> Bytes {
    let answer = match lead_of(&core, GroupId(question.group)) {
        Ok((replica, lead)) => grant(&core, &replica, &lead, question.ask).await,
        Err(hint) => LeaseAnswerV1::NotLeader(hint),
    };
    answer.to_bytes()
}

/// Grants from what is left; where that is too little, has the others give back what they do not use, and tries again.
async fn grant(core: &Arc<Core>, replica: &PartitionReplica, lead: &Lead, ask: LeaseAskV1) -> LeaseAnswerV1 {
    let first = match granted_in(replica, lead, ask).await {
        Ok(first) => first,
        Err(why) => return LeaseAnswerV1::Unavailable(why),
    };
    if first.covers(&ask) {
        return LeaseAnswerV1::Granted(first.take(&ask, false));
    }
    let now = core.shared.world.clock.now();
    if lead.fetches.is_drained(&ask, now) {
        sometimes!(true, "a lease was refused without another recall");
        return LeaseAnswerV1::Granted(first.take(&ask, true));
    }
    let rest = first.rest_of(&ask);
    let freed = join_all(first.others.iter().map(|child| freed_by(core, replica, lead, (*child, rest)))).await;
    let everybody = freed.iter().all(Option::is_some);
    let came_back = freed.into_iter().flatten().any(|freed| freed > 0);
    let again = if came_back { granted_in(replica, lead, rest).await } else { Ok(first) };
    match again {
        Ok(again) if again.covers(&ask) => LeaseAnswerV1::Granted(again.take(&ask, false)),
        // Only where everybody has answered is it certain that nobody had anything left.
        Ok(again) if everybody => {
            sometimes!(again.given(&ask) > 0, "a parent had less left than who waited needed");
            lead.fetches.note_drained(&ask, now);
            LeaseAnswerV1::Granted(again.take(&ask, true))
        }
        Ok(again) if again.given(&ask) > 0 => LeaseAnswerV1::Granted(again.take(&ask, false)),
        Ok(_) => LeaseAnswerV1::Unavailable("a partition that may hold some of the limit does not answer".to_owned()),
        Err(why) => LeaseAnswerV1::Unavailable(why),
    }
}

/// Has one child give back what it does not use, and notes it; gives how much that was, or nothing where that is not known.
async fn freed_by(
    core: &Arc<Core>,
    replica: &PartitionReplica,
    lead: &Lead,
    (child, ask): (u32, LeaseAskV1),
) -> Option<u64> {
    let told = recall(core, child, ask.lease).await.ok()?;
    let noted = LeaseAskV1 { child, counters: told.counters, need: 0, waiting: 0, want: 0, pinned: 0, ..ask };
    granted_in(replica, lead, noted).await.ok().map(|noted| noted.freed)
}

/// What the parent's log made of an ask.
struct Answered {
    life_ns: (u64, u64),
    granted: u64,
    freed: u64,
    wait_ns: u64,
    others: Vec<u32>,
}

impl Answered {
    /// What the child may spend beyond what it knew of.
    fn given(&self, ask: &LeaseAskV1) -> u64 {
        let known = if self.life_ns.0 == ask.counters.born_ns { ask.counters.granted } else { 0 };
        self.granted.saturating_sub(known)
    }

    /// True where that is enough for all who wait there.
    fn covers(&self, ask: &LeaseAskV1) -> bool {
        self.given(ask) >= ask.waiting
    }

    /// What they need besides, as the child would ask for it once it has heard of this.
    fn rest_of(&self, ask: &LeaseAskV1) -> LeaseAskV1 {
        let given = self.given(ask);
        if given == 0 {
            return *ask;
        }
        let born_ns = self.life_ns.0;
        let told = if born_ns == ask.counters.born_ns { ask.counters } else { CountersV1::default() };
        let waiting = ask.waiting.saturating_sub(given);
        let counters = CountersV1 { born_ns, granted: self.granted, ..told };
        LeaseAskV1 { counters, need: ask.need.min(waiting), waiting, want: waiting, ..*ask }
    }

    fn take(&self, ask: &LeaseAskV1, refused: bool) -> LeaseTakeV1 {
        let Self { life_ns, granted, wait_ns, .. } = *self;
        LeaseTakeV1 {
            lease: ask.lease,
            life_ns,
            granted,
            refused,
            wait_ns,
            is_critical: ask.is_critical,
            pinned: ask.pinned,
            pinned_ns: ask.pinned_ns,
        }
    }
}

/// One ask through the parent's log.
async fn granted_in(replica: &PartitionReplica, lead: &Lead, ask: LeaseAskV1) -> Result<Answered, String> {
    let proposed = replica.propose(lead, HeaderV1::LeaseGrant(ask), Vec::new(), PROPOSE_PATIENCE).await;
    let (entry, at) = proposed.map_err(|problem| problem.detail)?;
    match entry.results[at].outcome.clone() {
        OutcomeV1::LeaseGranted { life_ns, granted, freed, wait_ns, others } => {
            Ok(Answered { life_ns, granted, freed, wait_ns, others })
        }
        _ => Err("the limit's parent does not know the limit or its window yet".to_owned()),
    }
}

/// Has a child give back what it does not use.
async fn recall(core: &Arc<Core>, child: u32, lease: LeaseKey) -> Result<RecalledV1, Problem> {
    let message = RecallV1 { group: child, lease };
    let until = core.shared.world.clock.now() + RECALL_PATIENCE;
    let question = Question { kind: KIND_RECALL, body: message.to_bytes(), until };
    let here = core.clone();
    let here = move |_| on_recall(here.clone(), message.clone()).boxed();
    let read = |bytes: &[u8]| {
        let told = RecalledV1::from_bytes(bytes).ok()?;
        Some(if told.leads { Ok(told) } else { Err(told.hint) })
    };
    ask_leader(core, GroupId(child), question, here, read).await
}

/// The child's side of a recall, where this node leads it.
pub async fn on_recall(core: Arc<Core>, message: RecallV1) -> Bytes {
    let told = match lead_of(&core, GroupId(message.group)) {
        Ok((replica, lead)) => give_back(&replica, &lead, message.lease).await,
        Err(hint) => Some(RecalledV1 { leads: false, hint, counters: CountersV1::default() }),
    };
    told.map(|told| told.to_bytes()).unwrap_or_default()
}

/// What has been given back is told only once it is in the log. A child that has nothing to give says so at once; one whose
/// actions wait with what it has waits until they have spent it or need it no more.
async fn give_back(replica: &PartitionReplica, lead: &Lead, lease: LeaseKey) -> Option<RecalledV1> {
    let told = |counters| RecalledV1 { leads: true, hint: None, counters };
    let until = lead.now() + KEPT_PATIENCE;
    loop {
        let (share, clock) = (replica.machine.lock().ledger.share(&lease), &lead.shared().world.clock);
        if share.counters.balance() == 0 {
            return Some(told(share.counters));
        }
        if share.counters.balance() > share.kept(clock.wall_ns()) || lead.now() >= until {
            break;
        }
        sometimes!(true, "a recall waited for an action that kept a share");
        clock.sleep(KEPT_LOOK).await;
    }
    let proposed = replica.propose(lead, HeaderV1::LeaseReturn(lease), Vec::new(), PROPOSE_PATIENCE).await;
    let (entry, at) = proposed.ok()?;
    match entry.results[at].outcome {
        OutcomeV1::LeaseChanged(counters) => Some(told(counters)),
        _ => None,
    }
}
