//! The zone's policy bundles in words, from a node's view of the rules and what nodes report. Reads only.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nethical_governance::canary::Canary;
use nethical_governance::policy::rule_count;
use nethical_protocol::decision::Verdict;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::ControlRevision;

use crate::api::{Agreement, CanaryView, KeptPolicy, PolicyList, PolicyView, VerdictCounts, VerdictPair};
use crate::control::bundles::{BundleDigest, Kept};
use crate::control::view::ControlView;
use crate::message::NodeReportV1;

/// In what order bundles are listed.
const STATES: [&str; 5] = ["active", "canary", "shadow", "previous", "stored"];

/// All kept bundles.
pub fn list(view: &ControlView, reports: &[NodeReportV1]) -> PolicyList {
    PolicyList { bundles: listed(view), agreement: view.store().shadow().map(|digest| agreement(digest, reports)) }
}

/// What all nodes have counted of one candidate.
fn agreement(digest: BundleDigest, reports: &[NodeReportV1]) -> Agreement {
    let mut counts: BTreeMap<(Verdict, Verdict), u64> = BTreeMap::new();
    let counted = reports.iter().filter_map(|report| report.shadow.as_ref()).filter(|shadow| shadow.digest == digest);
    for pair in counted.flat_map(|shadow| &shadow.pairs) {
        *counts.entry((pair.enforced, pair.shadow)).or_default() += pair.count;
    }
    let agreed = counts.iter().filter(|((enforced, shadow), _)| enforced == shadow).map(|(_, count)| count).sum();
    let decisions = counts.values().sum();
    let pair = |((enforced, shadow), count)| VerdictPair { enforced, shadow, count };
    Agreement { digest: hex::encode(digest), decisions, agreed, pairs: counts.into_iter().map(pair).collect() }
}

fn listed(view: &ControlView) -> Vec<KeptPolicy> {
    let entry = |(digest, kept): (&BundleDigest, &Kept)| {
        let (state, since) = view.store().standing(digest);
        let (rules, bytes) = (rule_count(&kept.text), kept.text.len());
        KeptPolicy { digest: hex::encode(digest), rules, bytes, state: state.to_owned(), since: since.0 }
    };
    let mut bundles: Vec<KeptPolicy> = view.store().all().map(entry).collect();
    bundles.sort_by_key(|bundle| (STATES.iter().position(|state| *state == bundle.state), Reverse(bundle.since)));
    bundles
}

/// A kept bundle with its text.
pub fn kept(view: &ControlView, digest: &BundleDigest) -> Result<PolicyView, Problem> {
    view.store().check_kept(digest)?;
    let kept = view.store().get(digest).cloned().unwrap_or_default();
    let (policies, text) = (rule_count(&kept.text), kept.text.to_string());
    Ok(PolicyView { revision: kept.stored.0, digest: hex::encode(digest), policies, text, canary: None })
}

/// The bundle in force with its text, and the canary beside it.
pub fn in_force(view: &ControlView, reports: &[NodeReportV1]) -> Result<PolicyView, Problem> {
    let missing = || Problem::new(Code::NotReady, "no policy is in force yet").retry_after_ms(500);
    let (revision, bundle) = view.policy().ok_or_else(missing)?;
    let (policies, text) = (bundle.policy_count(), view.policy_text().to_owned());
    let canary = view.store().canary().map(|canary| canary_view(bundle.digest(), canary, reports));
    Ok(PolicyView { revision: revision.0, digest: hex::encode(bundle.digest()), policies, text, canary })
}

/// What all nodes have counted of the canary and of the bundle in force beside it.
fn canary_view(
    active: BundleDigest,
    (canary, since): (Canary, ControlRevision),
    reports: &[NodeReportV1],
) -> CanaryView {
    let counted = reports.iter().filter_map(|report| report.canary.as_ref());
    let (mut by_active, mut by_canary) = ([0; 5], [0; 5]);
    for counts in counted.filter(|counts| (counts.active, counts.canary) == (active, canary.digest)) {
        (0..5).for_each(|verdict| by_active[verdict] += counts.by_active[verdict]);
        (0..5).for_each(|verdict| by_canary[verdict] += counts.by_canary[verdict]);
    }
    CanaryView {
        digest: hex::encode(canary.digest),
        percent: canary.percent,
        since: since.0,
        by_active: VerdictCounts::of(by_active),
        by_canary: VerdictCounts::of(by_canary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{PairV1, ShadowReportV1};

    #[test]
    fn agreement_is_the_sum_of_all_nodes_that_count_the_same_candidate() {
        let report = |digest: u8, count| {
            let pair = |enforced, shadow| PairV1 { enforced, shadow, count };
            let pairs = vec![pair(Verdict::Allow, Verdict::Allow), pair(Verdict::Allow, Verdict::Block)];
            let shadow = Some(ShadowReportV1 { digest: [digest; 32], pairs });
            NodeReportV1 {
                node: 1,
                pid: 1,
                ready: true,
                groups: Vec::new(),
                shadow,
                canary: None,
                cosigner: String::new(),
            }
        };
        let found = agreement([1; 32], &[report(1, 2), report(1, 3), report(2, 100)]);
        assert_eq!((found.decisions, found.agreed, found.pairs.len()), (10, 5, 2));
        assert_eq!(found.pairs[1], VerdictPair { enforced: Verdict::Allow, shadow: Verdict::Block, count: 5 });
    }
}
