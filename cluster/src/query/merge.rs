//! Makes one page of what replicas of many groups found, and says where each group goes on. Pure.
//!
//! Within a group nothing is skipped and nothing comes twice, whatever happens between pages: a position is the place of
//! the first entry that was not given yet. Across groups a page is in order of log time as far as everybody looked: behind
//! what a replica has not looked at yet nothing is given.

use std::collections::BTreeMap;

use crate::store::search::{Found, Hit};

/// A page of hits with their groups, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// (group, entry).
    pub(super) hits: Vec<(u32, Hit)>,
    /// Where groups that answered go on.
    pub(super) positions: BTreeMap<u32, u64>,
    /// One of them has more, as far as is known.
    pub(super) more: bool,
}

/// Merges what groups found; each was asked for `limit` entries.
pub(super) fn merge(ascending: bool, limit: usize, parts: BTreeMap<u32, Found>) -> Merged {
    // A group whose replica stopped early, with fewer than a page, may have entries from there on.
    let early = parts.values().filter(|found| !found.is_end && found.hits.len() < limit).map(|found| found.reached_ns);
    let horizon = if ascending { early.min() } else { early.max() };
    let is_known = |hit: &Hit| horizon.is_none_or(|at| if ascending { hit.at_ns <= at } else { hit.at_ns >= at });
    let (mut merged, mut all) = (Merged::default(), Vec::new());
    for (group, found) in parts {
        merged.more |= !found.is_end;
        merged.positions.insert(group, found.reached);
        all.extend(found.hits.into_iter().map(|hit| (group, hit)));
    }
    all.sort_by(|(left_group, left), (right_group, right)| {
        let order = (left.at_ns, left_group, left.leaf_index).cmp(&(right.at_ns, right_group, right.leaf_index));
        if ascending { order } else { order.reverse() }
    });
    let given = all.iter().take(limit).take_while(|(_, hit)| is_known(hit)).count();
    let later = all.split_off(given);
    // The first of each group that was not given is where the group goes on.
    for (group, hit) in later.iter().rev() {
        merged.more = true;
        merged.positions.insert(*group, if ascending { hit.leaf_index } else { hit.leaf_index.saturating_add(1) });
    }
    merged.hits = all;
    merged
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
