//! Review: an escalation opens an approval, a person's word decides it, and the action uses it once.
//!
//! - An action names the approval that it claims. It counts at that one position, or it does not: it must be approved,
//!   live, unused, of this agent, for exactly this action, and escalated under the policy revision in force.
//! - It lifts policy's escalation and nothing else. Where anything else denies the action, it is not used up.
//! - Who claims an approval that does not count is blocked and told why; nothing new is opened for it. One that is still
//!   pending keeps its action escalated.
//! - A word counts once: the same again is a duplicate, the other one a conflict, and both name the leaf of the first.

use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::KeyedId;
use nethical_protocol::{probe, sometimes};

use super::expire::Timer;
use super::{Lapsed, LapsedV1, Ledger};
use crate::agent::AgentKey;
use crate::approval::{Approval, ApprovalKey, ApprovalState};
use crate::command::{DecideV1, WordV1};
use crate::outcome::{OutcomeV1, ReasonV1, ReviewedV1, Unapproved};
use crate::subject::SubjectId;

const SECOND_NS: u64 = 1_000_000_000;

/// What becomes of policy's escalation of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    /// Policy does not escalate it: no approval is asked for, and one that is named is not looked at.
    NotNeeded,
    /// It goes to a person, who has until then.
    Open(u64),
    /// It would, and the agent or the group has asked for as many as it may.
    Full,
    /// The approval named lifts the escalation.
    Approved(ApprovalKey),
    /// The approval named does not count.
    Refused(Unapproved, u64),
}

impl Review {
    /// What policy's word comes to: the verdict, and what is to be said beside it.
    pub(super) fn verdict(self, decide: &DecideV1) -> (Verdict, Option<ReasonV1>) {
        match self {
            Self::NotNeeded => (decide.evaluation.verdict.0, None),
            Self::Open(until_ns) => (Verdict::Escalate, Some(ReasonV1::ApprovalOpened(until_ns))),
            Self::Full => (Verdict::Block, Some(ReasonV1::ApprovalsFull)),
            Self::Approved(key) => (decide.review.lifted.0, Some(ReasonV1::Approved(key.leaf_index))),
            Self::Refused(Unapproved::Pending, named) => {
                (Verdict::Escalate, Some(ReasonV1::Unapproved(Unapproved::Pending, named)))
            }
            Self::Refused(why, named) => (Verdict::Block, Some(ReasonV1::Unapproved(why, named))),
        }
    }
}

impl Review {
    /// True where the answer speaks of it: an approval that is not opened or used after all is not spoken of.
    pub(super) fn is_told(self, verdict: Verdict) -> bool {
        match self {
            Self::Open(_) => verdict == Verdict::Escalate,
            Self::Approved(_) => verdict.is_allowed(),
            Self::NotNeeded | Self::Full | Self::Refused(..) => true,
        }
    }
}

impl Ledger {
    /// An approval as it stands, with its key.
    pub fn approval(&self, key: &ApprovalKey) -> Option<Approval> {
        self.approvals.get(key).copied()
    }

    /// All approvals that are remembered, by slot and leaf index.
    pub fn approvals(&self) -> impl Iterator<Item = (ApprovalKey, Approval)> + '_ {
        self.approvals.iter().map(|(key, known)| (*key, *known))
    }

    /// Judges policy's escalation at this position; changes nothing.
    pub(super) fn review(&self, decide: &DecideV1) -> Review {
        if decide.evaluation.verdict.0 != Verdict::Escalate {
            return Review::NotNeeded;
        }
        let Some(named) = decide.review.named else { return self.may_open(decide) };
        let key = ApprovalKey { slot: decide.actor.slot, leaf_index: named };
        match self.unapproved(decide, &key) {
            None => Review::Approved(key),
            Some(why) => Review::Refused(why, named),
        }
    }

    fn may_open(&self, decide: &DecideV1) -> Review {
        let agent = AgentKey::from(decide.actor);
        if decide.review.digest.is_none() || !self.approvals.has_room(&agent, self.now_ns) {
            sometimes!(true, "an agent asked for too many approvals");
            return Review::Full;
        }
        let ttl_ns = u64::from(decide.review.ttl_s.max(1)).saturating_mul(SECOND_NS);
        Review::Open(self.now_ns.saturating_add(ttl_ns))
    }

    /// Why the approval named does not count; `None` where it does.
    fn unapproved(&self, decide: &DecideV1, key: &ApprovalKey) -> Option<Unapproved> {
        let agent = AgentKey::from(decide.actor);
        let Some(known) = self.approvals.get(key).filter(|known| known.agent == agent) else {
            return Some(Unapproved::Unknown);
        };
        let fits = known.digest == decide.review.digest || probe::planted("approval-digest-ignored");
        let is_used = known.state == ApprovalState::Used && !probe::planted("approval-used-twice");
        match known.state {
            _ if !fits => Some(Unapproved::Mismatch),
            ApprovalState::Denied => Some(Unapproved::Denied),
            ApprovalState::Expired => Some(Unapproved::Expired),
            _ if is_used => Some(Unapproved::Used),
            _ if known.policy_rev != decide.policy_rev => Some(Unapproved::Void),
            ApprovalState::Pending => Some(Unapproved::Pending),
            ApprovalState::Approved | ApprovalState::Used => None,
        }
    }

    /// Opens or uses the approval of a decision that is made; its leaf is the next one.
    pub(super) fn carry_review(&mut self, decide: &DecideV1, review: Review, verdict: Verdict) {
        let (at_ns, leaf_index) = (self.now_ns, self.next_leaf);
        match review {
            Review::Open(until_ns) if verdict == Verdict::Escalate => {
                let key = ApprovalKey { slot: decide.actor.slot, leaf_index };
                let opened = Approval {
                    agent: AgentKey::from(decide.actor),
                    digest: decide.review.digest,
                    policy_rev: decide.policy_rev,
                    at_ns,
                    until_ns,
                    state: ApprovalState::Pending,
                    word_leaf: 0,
                    end_leaf: 0,
                };
                self.arm(until_ns, Timer::Approval(key));
                self.approvals.insert(key, opened);
            }
            Review::Approved(key) if verdict.is_allowed() => {
                sometimes!(true, "an approval was used");
                self.approvals.move_on(&key, ApprovalState::Used, leaf_index);
            }
            _ => {}
        }
    }

    /// A person's word on an approval.
    pub(super) fn decide_approval(&mut self, word: &WordV1) -> OutcomeV1 {
        let key = ApprovalKey { slot: word.slot, leaf_index: word.decision };
        let Some(known) = self.approvals.get(&key).copied() else { return OutcomeV1::NoApproval };
        let state = if word.approves { ApprovalState::Approved } else { ApprovalState::Denied };
        if known.state == ApprovalState::Pending {
            let subject = SubjectId { slot: key.slot, tenant: known.agent.tenant, subject: known.agent.agent };
            if let Err(stale) = self.check_key(&subject, word.sealing.as_ref()) {
                return OutcomeV1::Stale(stale);
            }
            let leaf_index = self.next_leaf;
            let Some(now) = self.approvals.move_on(&key, state, leaf_index) else { return OutcomeV1::NoApproval };
            self.take_key(subject, word.sealing.as_ref());
            return OutcomeV1::Reviewed(reviewed(&key, &now, word.approver));
        }
        // Denied is all that a denial can lead to; everything else with a word was approved.
        let was_approved = known.word_leaf != 0 && known.state != ApprovalState::Denied;
        let same = known.word_leaf != 0 && was_approved == word.approves;
        let leaf_index = if known.word_leaf != 0 { known.word_leaf } else { known.end_leaf };
        if same { OutcomeV1::Duplicate { leaf_index } } else { OutcomeV1::Conflict { leaf_index } }
    }

    /// Called at its time, before the command that moved time: it expires, with a leaf of its own where that changes
    /// anything, and later is forgotten.
    pub(super) fn lapse_approval(&mut self, key: ApprovalKey, due_ns: u64) {
        let Some(known) = self.approvals.get(&key).copied() else { return };
        if due_ns > known.until_ns {
            return self.approvals.forget(&key);
        }
        self.arm(known.due_ns(due_ns), Timer::Approval(key));
        if known.state.is_open() {
            sometimes!(true, "an approval expired");
            let leaf_index = self.next_leaf;
            self.next_leaf += 1;
            let Some(now) = self.approvals.move_on(&key, ApprovalState::Expired, leaf_index) else { return };
            let what = LapsedV1::Approval(reviewed(&key, &now, KeyedId::NONE));
            self.lapsed.push(Lapsed { leaf_index, what });
        }
    }
}

fn reviewed(key: &ApprovalKey, now: &Approval, approver: KeyedId) -> ReviewedV1 {
    ReviewedV1 {
        state: now.state,
        decision: key.leaf_index,
        slot: key.slot,
        tenant: now.agent.tenant,
        agent: now.agent.agent,
        digest: now.digest,
        approver,
    }
}
