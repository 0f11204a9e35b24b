//! Approvals against a naive model: a list of what was asked, by whom, for what, and what was said and done since.

use nethical_governance::command::{HeaderV1, VerdictWord};
use nethical_governance::outcome::{OutcomeV1, ReasonV1};
use nethical_protocol::control::ControlFact;
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::ControlRevision;
use nethical_protocol::limits::{
    APPROVAL_KEPT_S, APPROVALS_PENDING_PER_AGENT_MAX, APPROVALS_PER_AGENT_HOUR_MAX, APPROVALS_PER_GROUP_MAX,
};
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, id};

/// An approval as the model knows it.
struct Asked {
    agent: usize,
    action: usize,
    policy: ControlRevision,
    leaf_index: u64,
    at_ns: u64,
    until_ns: u64,
    /// The first word on it.
    approved: Option<bool>,
    is_used: bool,
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const ACTIONS: [&str; 3] = ["wire", "read", "send"];

impl Asked {
    fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }

    fn is_forgotten(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns + APPROVAL_KEPT_S * SECOND_NS
    }

    fn lifts(&self, agent: usize, action: usize, policy: ControlRevision, now_ns: u64) -> bool {
        let fits = self.agent == agent && self.action == action && self.policy == policy;
        fits && self.approved == Some(true) && !self.is_used && !self.is_over(now_ns)
    }
}

fn has_room(asked: &[Asked], agent: usize, now_ns: u64) -> bool {
    let of_agent = || asked.iter().filter(|one| one.agent == agent);
    let pending = of_agent().filter(|one| one.approved.is_none() && !one.is_over(now_ns)).count();
    let recent = of_agent().filter(|one| now_ns - one.at_ns < 3_600 * SECOND_NS).count();
    pending < APPROVALS_PENDING_PER_AGENT_MAX && recent < APPROVALS_PER_AGENT_HOUR_MAX
}

/// Waits, then does something: what, who, which action, about which approval, for how long.
type Step = (u64, u8, usize, usize, usize, u32);

fn any_step() -> impl Strategy<Value = Step> {
    let wait_ns = prop_oneof![8 => Just(0), 6 => 0..3 * SECOND_NS, 2 => 0..4_000 * SECOND_NS];
    (wait_ns, 0..100u8, 0..AGENTS.len(), 0..ACTIONS.len(), any::<usize>(), prop_oneof![1..10u32, 1..4_000u32])
}

/// Submits an action, which may name an approval, and compares the answer with what the model expects.
fn submit(bench: &mut Bench, asked: &mut Vec<Asked>, step: Step, named: Option<usize>) {
    let (_, what, agent, action, _, ttl_s) = step;
    let mut decide = bench.decision(AGENTS[agent]);
    decide.evaluation.verdict = VerdictWord(Verdict::Escalate);
    (decide.review.digest, decide.review.ttl_s) = (id(ACTIONS[action]), ttl_s);
    decide.review.named = named.map(|at| asked[at].leaf_index);
    // Now and then something else stands in the way.
    let is_blocked = what % 9 == 0;
    if is_blocked {
        bench.apply(HeaderV1::PlaceHoldOrder(bench.order(AGENTS[agent], Default::default(), 0)));
        decide.agent_version = bench.ledger.agent_version(&decide.actor);
    }
    // Time passes first, so that the next leaf is this command's and not an expiry's.
    bench.apply(HeaderV1::Tick);
    let (policy, leaf_index, at_ns) = (decide.policy_rev, bench.ledger.leaf_count(), bench.now_ns);
    let decided = bench.decide(decide);
    let lifted = named.is_some_and(|at| asked[at].lifts(agent, action, policy, at_ns));
    assert_eq!(decided.verdict.is_allowed(), lifted && !is_blocked, "{decided:?}");
    let opened = decided.reasons.iter().any(|reason| matches!(reason, ReasonV1::ApprovalOpened(_)));
    assert_eq!(opened, named.is_none() && !is_blocked && has_room(asked, agent, at_ns), "{decided:?}");
    if let Some(at) = named.filter(|_| decided.verdict.is_allowed()) {
        asked[at].is_used = true;
    }
    if opened {
        let until_ns = at_ns + u64::from(ttl_s) * SECOND_NS;
        let (approved, is_used) = (None, false);
        asked.push(Asked { agent, action, policy, leaf_index, at_ns, until_ns, approved, is_used });
    }
    if is_blocked {
        bench.apply(HeaderV1::LiftHoldOrder(bench.order(AGENTS[agent], Default::default(), 0)));
    }
}

fn say(bench: &mut Bench, one: &mut Asked, approves: bool) {
    let outcome = bench.apply(HeaderV1::DecideApproval(bench.word(one.leaf_index, approves, "ann"))).outcome;
    match one.approved {
        _ if one.is_forgotten(bench.now_ns) => assert_eq!(outcome, OutcomeV1::NoApproval),
        Some(first) if first == approves => assert!(matches!(outcome, OutcomeV1::Duplicate { .. }), "{outcome:?}"),
        None if !one.is_over(bench.now_ns) => {
            assert!(matches!(outcome, OutcomeV1::Reviewed(_)), "{outcome:?}");
            one.approved = Some(approves);
        }
        _ => assert!(matches!(outcome, OutcomeV1::Conflict { .. }), "{outcome:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_approval_lifts_one_escalation_of_its_action_and_the_bounds_hold(
        steps in prop::collection::vec(any_step(), 1..250),
    ) {
        let mut bench = Bench::ready();
        let mut asked: Vec<Asked> = Vec::new();
        for step in steps {
            let (wait_ns, what, _, _, which, _) = step;
            bench.now_ns += wait_ns;
            let named = (!asked.is_empty()).then(|| asked.len() - 1 - which % asked.len().min(6));
            match what {
                0..=1 => drop(bench.fact(ControlFact::Policy { digest: [what; 32] })),
                2..=49 => submit(&mut bench, &mut asked, step, None),
                50..=74 => submit(&mut bench, &mut asked, step, named),
                _ => if let Some(at) = named {
                    say(&mut bench, &mut asked[at], what < 93);
                },
            }
            bench.apply(HeaderV1::Tick);
            let known = asked.iter().filter(|one| !one.is_forgotten(bench.now_ns)).count();
            prop_assert_eq!(bench.ledger.approvals().count(), known);
            prop_assert!(known <= APPROVALS_PER_GROUP_MAX);
        }
    }
}
