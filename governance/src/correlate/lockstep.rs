//! Agents that do exactly the same in a minute. Once may be chance, or a script that everybody runs; most of the same
//! agents again within the window, doing what nobody did before it, is a cluster.

use std::collections::{BTreeMap, VecDeque};

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::ALARM_AGENTS_MAX;

use super::filter::Filter;
use super::usual::{Excess, Usual};
use super::{Pattern, mix};

/// Agents that make a cluster.
const CLUSTER_MIN: u64 = 4;
/// Groups of one minute that are compared with later ones, largest first.
const GROUPS_MAX: usize = 8;
/// Octaves above the usual size of such a group.
const OCTAVES: u32 = 1;
/// 8 KiB a generation: 6,500 signatures.
const SIGNATURES_WORDS: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Group {
    count: u64,
    /// The agents with the smallest keyed ids.
    sample: Vec<KeyedId>,
}

/// A group that was unusually large.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    cell: u64,
    sample: Vec<KeyedId>,
}

/// What lockstep there is in a tenant.
#[derive(Debug, Clone)]
pub(super) struct Lockstep {
    /// Signatures that were shared before the window.
    known: Filter,
    /// Shared signatures of the window: (minute, signature), oldest first.
    shared: VecDeque<(u64, u64)>,
    suspects: VecDeque<Suspect>,
    usual: Usual,
}

impl Lockstep {
    pub fn new() -> Self {
        let (shared, suspects, usual) = (VecDeque::new(), VecDeque::new(), Usual::default());
        Self { known: Filter::new(SIGNATURES_WORDS), shared, suspects, usual }
    }

    /// Ends a minute with the signatures of its agents, in order of agents, out of so many that acted.
    pub fn close(&mut self, cell: u64, signed: Vec<(u64, KeyedId)>, acted: u64) -> Option<(Excess, Vec<KeyedId>)> {
        self.forget(cell);
        let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
        for (signature, agent) in signed {
            let group = groups.entry(signature).or_default();
            group.count += 1;
            if group.sample.len() < ALARM_AGENTS_MAX {
                group.sample.push(agent);
            }
        }
        let mut shared: Vec<(u64, Group)> = groups.into_iter().filter(|(_, group)| group.count > 1).collect();
        shared.sort_by_key(|(signature, group)| (u64::MAX - group.count, *signature));
        let is_minority = |group: &Group| group.count * 2 <= acted;
        let known = &self.known;
        let fresh = shared.iter().filter(|(signature, group)| !known.knows(mix(*signature)) && is_minority(group));
        let fresh: Vec<Group> = fresh.take(GROUPS_MAX).map(|(_, group)| group.clone()).collect();
        self.remember(cell, shared.iter().map(|(signature, _)| *signature));
        let found = fresh.iter().filter_map(|group| self.judge(cell, group)).max_by_key(|(excess, _)| excess.observed);
        let suspect = |group: &&Group| self.excess(group).is_some();
        let suspects: Vec<Vec<KeyedId>> = fresh.iter().filter(suspect).map(|group| group.sample.clone()).collect();
        self.suspects.extend(suspects.into_iter().map(|sample| Suspect { cell, sample }));
        self.usual.learn(fresh.first().map_or(0, |group| group.count));
        found
    }

    fn excess(&self, group: &Group) -> Option<Excess> {
        self.usual.excess(group.count, CLUSTER_MIN, OCTAVES, 0)
    }

    /// A group with which most of an earlier one is in step again.
    fn judge(&self, cell: u64, group: &Group) -> Option<(Excess, Vec<KeyedId>)> {
        let excess = self.excess(group)?;
        let again = self.suspects.iter().any(|suspect| suspect.cell < cell && overlap(&suspect.sample, &group.sample));
        again.then(|| (excess, group.sample.clone()))
    }

    /// As many signatures as two hundred an open minute; more of them share too little to matter.
    fn remember(&mut self, cell: u64, signatures: impl Iterator<Item = u64>) {
        self.shared.extend(signatures.take(200).map(|signature| (cell, signature)));
    }

    fn forget(&mut self, cell: u64) {
        let over = |then: u64| cell >= then + Pattern::AnomalousCluster.cells();
        let (shared, suspects) = (&self.shared, &self.suspects);
        let (old, ended) = (
            shared.iter().take_while(|(then, _)| over(*then)).count(),
            suspects.iter().take_while(|suspect| over(suspect.cell)).count(),
        );
        let known = &mut self.known;
        self.shared.drain(..old).for_each(|(_, signature)| known.insert(mix(signature)));
        self.suspects.drain(..ended);
    }
}

/// More than half of the smaller sample is in the other one.
fn overlap(left: &[KeyedId], right: &[KeyedId]) -> bool {
    let both = left.iter().filter(|agent| right.contains(agent)).count();
    both * 2 > left.len().min(right.len())
}
