//! `Decide`: the final verdict on an action, `max(policy, status, holds, limits, risk tier)`, at one log position.
//! Policy's escalation may be lifted there by an approval (see `review`). A model's score that is blended into the risk (see
//! `scores`) may restrict an action and nothing else; profile, watch and every other state go by the rules' score.
//!
//! Order of checks, and why it is this one:
//! 1. *Term*, for the whole entry: a proposer of another term may not speak at all.
//! 2. *Idempotency*: a retry of what was executed gets its record, though policy and agent have moved on since, which
//!    they have (the first execution moved the agent). Being too old or from the future comes with it, since no new
//!    evaluation could cure it.
//! 3. *Policy* in force (its revision, and which of its bundles decides for the agent), then *tenant*: a proposer that knows another revision than this group may know tenants that
//!    this group does not, so the revision is compared first.
//! 4. *Agent version*: the evaluation must fit the agent as it is now; then the *keys* that the body was sealed under.
//! 5. From here on the action is decided: it makes a leaf, whatever the verdict.

use std::cmp::Reverse;

use nethical_protocol::decision::Verdict;
use nethical_protocol::limits::REASONS_MAX;
use nethical_protocol::model::MODEL_SCORE_MAX;
use nethical_protocol::{probe, sometimes};

use super::Ledger;
use super::automatic::Tripped;
use super::expire::{SWEPT_PER_DECISION, Timer};
use super::review::Review;
use crate::agent::{AgentEntry, AgentKey};
use crate::behaviour::Seen;
use crate::command::{DecideV1, RepeatsV1};
use crate::hold::{Held, verdict_of};
use crate::outcome::{DecidedV1, OutcomeV1, ReasonV1, RiskTier, Stale};
use crate::quarantine::RuleNumber;
use crate::quota::{Judgement, Subject};
use crate::risk::Assessment;
use crate::scores::{Class, blend};

impl Ledger {
    pub(super) fn decide(&mut self, decide: &DecideV1) -> OutcomeV1 {
        if let Some(answer) = self.dedup.answer(&decide.request, self.now_ms()) {
            if probe::planted("replay-charges-twice") && matches!(answer, OutcomeV1::Duplicate { .. }) {
                let judgement = self.quota.judge(&subject_of(decide), &decide.costs, self.now_ns);
                self.quota.settle(judgement, true);
            }
            return answer;
        }
        let accepts_stale = probe::planted("stale-evaluation-accepted");
        let Some(policy) = self.policy else { return OutcomeV1::Stale(Stale::NoPolicy) };
        if policy.revision != decide.policy_rev && !accepts_stale {
            sometimes!(true, "the policy changed while an action was evaluated");
            return OutcomeV1::Stale(Stale::Policy);
        }
        // Which bundle decides for an agent follows from the revision; a proposer that asked the other one is as stale.
        let by_canary = policy.is_canary_for(decide.actor.agent);
        if by_canary != decide.by_canary && !accepts_stale {
            return OutcomeV1::Stale(Stale::Policy);
        }
        sometimes!(by_canary, "a canary decided");
        if !self.tenants.contains_key(&decide.actor.tenant) {
            return OutcomeV1::UnknownTenant;
        }
        let agent = self.agents.get(&AgentKey::from(decide.actor)).copied().unwrap_or_default();
        if agent.version() != decide.agent_version && !accepts_stale {
            sometimes!(true, "the agent changed while its action was evaluated");
            return OutcomeV1::Stale(Stale::Agent);
        }
        if let Err(stale) = self.check_keys(decide) {
            return OutcomeV1::Stale(stale);
        }
        self.execute(decide, agent)
    }

    fn execute(&mut self, decide: &DecideV1, mut agent: AgentEntry) -> OutcomeV1 {
        let findings = agent.behaviour.judge(self.now_ns, &seen_of(decide));
        let assessment = agent.risk.assess(self.now_ns, &decide.evaluation, &findings);
        let judgement = self.quota.judge(&subject_of(decide), &decide.costs, self.now_ns);
        let holds = judgement.holds();
        let is_full = decide.reserves() && !self.may_reserve(decide, &holds);
        let review = self.review(decide);
        let blended = blended(decide, &assessment);
        let risk = blended.map_or(assessment.score, |blended| blended.score);
        let (mut said, review_says) = self.voices(decide, &agent, risk, &judgement, review, is_full);
        said.extend(blended.and_then(|blended| blended.voice()));
        let tripped = self.tripped(decide, &agent, &assessment, &findings, verdict_among(&said));
        if let Some((rule, fact)) = tripped {
            said.push((Reverse(verdict_of(fact.effect)), ReasonV1::AutomaticHold(rule)));
        }
        let verdict = verdict_among(&said);
        // What is refused for another reason needs no share.
        if verdict.is_allowed()
            && let Some(short) = self.lease_short(&judgement, decide.is_critical)
        {
            return short;
        }
        let review_says = review_says.filter(|_| review.is_told(verdict));
        let last: Vec<ReasonV1> = blended.map(|blended| blended.reason).into_iter().chain(review_says).collect();
        let reasons = reasons_among(said, tripped.map(|(rule, _)| rule), &last);
        self.update(decide, &mut agent, &assessment, verdict, tripped);
        let retry_after_ns = judgement.retry_after_ns();
        let ahead = match verdict.is_allowed() {
            true => self.quota.asks_ahead(&judgement, decide.is_critical),
            false => Vec::new(),
        };
        let quota = self.quota.settle(judgement, verdict.is_allowed());
        if verdict.is_allowed() && decide.reserves() {
            self.reserve(decide, holds);
        }
        self.carry_review(decide, review, verdict);
        self.take_keys(decide);
        self.sweep_agents(SWEPT_PER_DECISION);
        OutcomeV1::Decided(DecidedV1 {
            verdict,
            reasons,
            status: agent.status,
            epoch: agent.epoch,
            risk,
            tier: agent.risk.tier(),
            risk_terms: assessment.terms,
            quota,
            retry_after_ns,
            control_rev: self.control_rev,
            findings,
            ahead,
        })
    }

    /// Repeats of a denial that were answered from memory: the agent was denied that much more often.
    pub(super) fn note_repeats(&mut self, repeats: &RepeatsV1) -> OutcomeV1 {
        let Some(agent) = self.agents.get_mut(&AgentKey::from(repeats.actor)) else { return OutcomeV1::NoEffect };
        if repeats.count == 0 {
            return OutcomeV1::NoEffect;
        }
        agent.denied = agent.denied.saturating_add(repeats.count);
        OutcomeV1::RepeatsNoted
    }

    /// Everybody who has a say, and what is to be said of an approval.
    fn voices(
        &self,
        decide: &DecideV1,
        agent: &AgentEntry,
        risk: u16,
        judgement: &Judgement,
        review: Review,
        reservations_full: bool,
    ) -> (Vec<Voice>, Option<ReasonV1>) {
        let mut said: Vec<Voice> = Vec::new();
        let mut say = |verdict: Verdict, reason: ReasonV1| {
            if verdict > Verdict::Allow {
                said.push((Reverse(verdict), reason));
            }
        };
        let (by_policy, review_says) = review.verdict(decide);
        say(by_policy, ReasonV1::Policy(decide.evaluation.verdict.0));
        say(agent.status_verdict(), ReasonV1::AgentState(agent.status));
        if let Some(hold) = agent.hold {
            sometimes!(true, "a hold on an agent was enforced");
            say(verdict_of(hold.effect), hold.rule.map_or(ReasonV1::AgentHold, ReasonV1::AutomaticHold));
        }
        self.holds.matching(held_of(decide), |id, verdict| {
            sometimes!(true, "a hold on a tenant or the zone was enforced");
            say(verdict, ReasonV1::Hold(id));
        });
        judgement.refusals().for_each(|reason| say(Verdict::Block, reason));
        if reservations_full {
            say(Verdict::Block, ReasonV1::ReservationsFull);
        }
        // The tier with this action counted: the action that makes an agent elevated is itself restricted.
        let tier = RiskTier::of(risk);
        if tier == RiskTier::Elevated {
            say(Verdict::Restrict, ReasonV1::RiskTier(tier));
        }
        (said, review_says)
    }

    /// Counts the action, teaches the profile, holds or ends the agent where a rule or policy said so, and stores the entry.
    fn update(
        &mut self,
        decide: &DecideV1,
        agent: &mut AgentEntry,
        assessment: &Assessment,
        verdict: Verdict,
        tripped: Option<Tripped>,
    ) {
        let key = AgentKey::from(decide.actor);
        if agent.actions == 0 {
            agent.first_ns = self.now_ns;
        }
        agent.last_ns = self.now_ns;
        agent.actions = agent.actions.saturating_add(1);
        agent.denied = agent.denied.saturating_add(u64::from(!verdict.is_allowed()));
        // What was refused and did no wrong is no evidence of good conduct.
        if verdict.is_allowed() || assessment.violates {
            agent.risk.learn(self.now_ns, assessment);
            agent.watch.count(assessment);
        }
        if verdict.is_allowed() {
            agent.behaviour.learn(self.now_ns, &seen_of(decide));
        }
        if let Some(tripped) = tripped {
            self.hold_automatically(key, agent, tripped);
        }
        sometimes!(verdict == Verdict::Terminate, "an agent was terminated");
        if verdict == Verdict::Terminate {
            self.releases.remove(&key);
        }
        if verdict == Verdict::Terminate
            && let Some(hold) = agent.terminate()
        {
            self.disarm(hold.until_ns, Timer::Agent(key));
        }
        self.agents.insert(key, *agent);
    }
}

fn held_of(decide: &DecideV1) -> Held {
    let DecideV1 { actor, cohort, tool, session, region_in_zone, .. } = decide;
    Held { tenant: actor.tenant, cohort: *cohort, tool: *tool, session: *session, region: *region_in_zone }
}

/// What somebody makes of an action, and why; sorts by severity.
type Voice = (Reverse<Verdict>, ReasonV1);

/// The most severe verdict wins.
fn verdict_among(said: &[Voice]) -> Verdict {
    said.iter().map(|(Reverse(verdict), _)| *verdict).max().unwrap_or(Verdict::Allow)
}

/// A model's score blended into the rules' own.
#[derive(Clone, Copy)]
struct Blended {
    score: u16,
    reason: ReasonV1,
}

impl Blended {
    /// A blend that speaks against the action restricts it. It never speaks for one.
    fn voice(self) -> Option<Voice> {
        sometimes!(true, "a model's score was blended in");
        (Class::of(self.score) == Class::Deny).then_some((Reverse(Verdict::Restrict), self.reason))
    }
}

/// The blend for a decision, where the command carries a model's score and the rules' own lies in the gray zone.
fn blended(decide: &DecideV1, assessment: &Assessment) -> Option<Blended> {
    let (rule, model) = (assessment.score, decide.model_score?.min(MODEL_SCORE_MAX));
    Some(Blended { score: blend(rule, model)?, reason: ReasonV1::Blended { rule, model } })
}

/// The most severe reasons, and that of a hold which begins here in any case: the leaf must say why. Those in `last` stand
/// there, whatever their severity, and are never cut.
fn reasons_among(mut said: Vec<Voice>, begins: Option<RuleNumber>, last: &[ReasonV1]) -> Vec<ReasonV1> {
    said.retain(|(_, reason)| !last.contains(reason));
    said.sort_unstable();
    let most = REASONS_MAX - last.len();
    let mut reasons: Vec<ReasonV1> = said.into_iter().take(most).map(|(_, reason)| reason).collect();
    if let Some(begins) = begins.map(ReasonV1::AutomaticHold).filter(|begins| !reasons.contains(begins)) {
        reasons.pop();
        reasons.push(begins);
    }
    reasons.extend(last);
    reasons
}

/// The action as its agent's profile sees it.
pub(super) fn seen_of(decide: &DecideV1) -> Seen {
    Seen {
        kind: decide.kind,
        tool: decide.tool,
        resource: decide.resource,
        session: decide.session,
        facts: decide.evaluation.facts,
    }
}

fn subject_of(decide: &DecideV1) -> Subject {
    Subject {
        actor: decide.actor,
        session: decide.session,
        cohort: decide.cohort,
        tool: decide.tool,
        region: decide.region,
        is_critical: decide.is_critical,
        has_asked: decide.has_asked,
    }
}
