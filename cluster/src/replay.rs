//! Recorded decisions before a candidate bundle: which policy verdicts would have been others.
//!
//! Everything comes from the sealed bodies: the action, what detectors found then, what policy could see of the agent. What
//! a body does not give is said, never guessed. What a canary decided is a recorded verdict like any other, and named. Holds, limits and risk are not replayed, since other verdicts would have
//! made other agents of them. Reads only; one page is bounded in leaves.

use std::sync::Arc;

use nethical_audit::leaf::codec::FLAG_CANARY;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_governance::policy::{AgentFacts, Bundle, Sizes};
use nethical_protocol::decision::Verdict;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, LogId};

use crate::api::{Flip, Lacking, ReplayPage, ReplayQuery};
use crate::body::BodyV1;
use crate::node::Core;
use crate::opening::{self, Opened};

/// Leaves read at once.
const READ_LEAVES: u64 = 256;
/// Leaves looked at for one page.
const PAGE_LEAVES: u64 = 2_048;

/// Where a page begins: a group and a leaf; no leaf yet where the first one in time is to be searched.
type Place = (GroupId, Option<u64>);

/// One page of a replay.
pub async fn replay(core: Arc<Core>, query: ReplayQuery, text: String) -> Result<ReplayPage, Problem> {
    let prepared = core.shared.world.prepared.bundle(&text);
    let bundle = prepared.map_err(|error| Problem::new(Code::InvalidPolicy, error.to_string()))?;
    let groups: Vec<GroupId> = core.groups().filter(|group| group.is_partition()).collect();
    let start = place_of(query.cursor.as_deref(), &groups)?;
    let mut page = Page { bundle, out: ReplayPage::default(), is_broken: false };
    let mut looked_at = 0;
    for group in groups.iter().filter(|group| **group >= start.0) {
        let mut at = match start {
            (first, Some(at)) if first == *group => at,
            _ => first_at(&core, *group, query.from_ns).await?,
        };
        loop {
            let found = core.leaves(*group, at, READ_LEAVES.min(PAGE_LEAVES - looked_at)).await?;
            let stored = (at..).zip(&found.records).map(|(index, (_, stored))| (index, stored.as_slice()));
            let opened = opening::open(&core, *group, &stored.collect::<Vec<_>>()).await;
            let seen = found.records.iter().zip(opened);
            let in_time = seen.filter(|((leaf, _), opened)| page.see(leaf, opened, query.to_ns)).count();
            (at, looked_at) = (at + in_time as u64, looked_at + in_time as u64);
            if page.is_broken {
                let detail = format!("leaf {at} of group {group} does not read; see `nethical audit verify`");
                return Err(Problem::new(Code::Internal, detail));
            }
            if in_time < found.records.len() || found.records.is_empty() {
                break;
            }
            if looked_at >= PAGE_LEAVES {
                page.out.cursor = Some(format!("{}.{at}", group.0));
                break;
            }
        }
        if page.out.cursor.is_some() {
            break;
        }
    }
    page.out.leaves = looked_at;
    Ok(page.out)
}

fn place_of(cursor: Option<&str>, groups: &[GroupId]) -> Result<Place, Problem> {
    let first = groups.first().copied().unwrap_or(GroupId::META);
    let Some(text) = cursor else { return Ok((first, None)) };
    let parts = text.split_once('.').and_then(|(group, at)| Some((group.parse().ok()?, at.parse().ok()?)));
    let (group, at): (u32, u64) =
        parts.ok_or_else(|| Problem::new(Code::MalformedRequest, "cursor is what the page before gave"))?;
    Ok((GroupId(group), Some(at)))
}

/// The first leaf of a group at or after a time. Log time never falls, so halving finds it.
pub(crate) async fn first_at(core: &Core, group: GroupId, from_ns: u64) -> Result<u64, Problem> {
    if from_ns == 0 {
        return Ok(0);
    }
    let mut high = core.leaves(group, u64::MAX - 1, 1).await?.size;
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        let found = core.leaves(group, middle, 1).await?;
        let leaf = found.records.first().and_then(|(bytes, _)| LeafV1::decode(bytes).ok());
        match leaf {
            Some(leaf) if leaf.now_ns < from_ns => low = middle + 1,
            // One that cannot be read is not stepped over unseen.
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A page in the making.
struct Page {
    bundle: Arc<Bundle>,
    out: ReplayPage,
    /// A leaf did not read.
    is_broken: bool,
}

impl Page {
    /// Replays a leaf; `false` where it is past the end or does not read.
    fn see(&mut self, bytes: &[u8], opened: &Opened, to_ns: u64) -> bool {
        let Ok(leaf) = LeafV1::decode(bytes) else {
            self.is_broken = true;
            return false;
        };
        if leaf.now_ns > to_ns {
            return false;
        }
        if let LeafEvent::Decision(found) = &leaf.event {
            self.out.decisions += 1;
            match self.judge(&leaf, found, opened) {
                Ok(Some(flip)) => self.out.flips.push(flip),
                Ok(None) => self.out.same += 1,
                Err(why) => self.out.lacking.push(Lacking { decision_id: id_of(&leaf), why }),
            }
        }
        true
    }

    /// The flip, where the candidate gives another verdict; the error says what the body lacks.
    fn judge(&self, leaf: &LeafV1, found: &DecisionLeaf, opened: &Opened) -> Result<Option<Flip>, String> {
        let body = match opened {
            Opened::Body(body) => body,
            Opened::None => return Err("there is no body".to_owned()),
            Opened::Erased => return Err("its subject was erased".to_owned()),
            Opened::Expired => return Err("its body has expired".to_owned()),
            Opened::Unavailable(why) => return Err(why.clone()),
        };
        let BodyV1::Decision { action, evaluation, seen, redacted, .. } = body else {
            return Err("the body holds no action".to_owned());
        };
        if let Some(limit) = seen.lacks(&self.bundle) {
            return Err(format!("the room under limit {limit} was not recorded: no bundle named it then"));
        }
        let bands = seen.bands_for(&self.bundle);
        if redacted.is_some_and(|redacted| redacted.resource_cut) {
            return Err("its resource's id was redacted before it was stored".to_owned());
        }
        let sizes =
            redacted.map_or_else(|| Sizes::of(action), |found| Sizes { amount: found.amount, bytes: found.bytes });
        let said = self.bundle.judge_sized(action, evaluation, AgentFacts::from(seen), &bands, sizes);
        let recorded = evaluation.verdict.0;
        if said.verdict == recorded {
            return Ok(None);
        }
        let named = |rule: &[u8; 8]| self.bundle.describe(*rule).map(|rule| rule.id.to_string());
        Ok(Some(Flip {
            decision_id: id_of(leaf),
            at_ns: leaf.now_ns,
            tenant: action.tenant.clone(),
            agent: action.agent.clone(),
            action: action.name.clone(),
            policy: found.policy_rev,
            canary: found.flags & FLAG_CANARY != 0,
            recorded,
            candidate: said.verdict,
            rules: said.rules.iter().filter_map(named).collect(),
            decided: Verdict::ALL.get(usize::from(found.verdict)).copied().unwrap_or(Verdict::Block),
        }))
    }
}

fn id_of(leaf: &LeafV1) -> DecisionId {
    DecisionId { log: LogId { group: GroupId(leaf.group), era: leaf.era }, leaf_index: leaf.leaf_index }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
