//! The zone's policy bundles in words, from this node's view of the rules. Reads only.

use std::cmp::Reverse;

use nethical_governance::policy::rule_count;
use nethical_protocol::error::Problem;

use crate::api::{KeptPolicy, PolicyList, PolicyView};
use crate::control::bundles::{BundleDigest, Kept};
use crate::control::view::ControlView;
use crate::node::Core;

/// In what order bundles are listed.
const STATES: [&str; 4] = ["active", "shadow", "previous", "stored"];

/// All kept bundles.
pub async fn list(core: &Core) -> PolicyList {
    PolicyList { bundles: listed(&core.shared.view()) }
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
    Ok(PolicyView { revision: kept.stored.0, digest: hex::encode(digest), policies, text })
}
