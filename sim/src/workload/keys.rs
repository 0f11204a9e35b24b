//! Somebody turns signing keys, and holds what nodes publish meanwhile to what the control group says: no checkpoint is signed
//! by a key that was never in force, and none by retired keys alone once every node must have heard of it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::generations::{Generation, Generations};
use nethical_audit::note::Note;
use nethical_audit::publish::Resource;
use nethical_cluster::api::{Governor, RotateSpec, VerifierKeys};
use nethical_cluster::contact::revocation_bound;
use nethical_cluster::control::signing::Signing;
use nethical_cluster::world::Clock;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, LogId};

use super::Stage;
use crate::trace::Field;
use crate::world::{CLUSTER, Living};

/// Between two looks at what is published.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// Looks at most, and behind a complete turn.
const LOOKS_MAX: usize = 60;
const LOOKS_BEHIND: usize = 12;
/// How much later than the revocation bound a checkpoint may still come that a node made within it.
const ON_ITS_WAY: Duration = Duration::from_secs(4);

/// What was seen of the zone's keys: since when each was known to be retired.
#[derive(Default)]
struct Seen(BTreeMap<[u8; 32], Option<Duration>>);

impl Seen {
    fn note(&mut self, generations: &Generations, now: Duration) {
        for Generation { public, until_leaf, .. } in &generations.0 {
            let retired = self.0.entry(*public).or_default();
            *retired = retired.or(until_leaf.map(|_| now));
        }
    }

    /// What is wrong with a published checkpoint, where something is.
    fn judge(&self, origin: &str, note: &str, now: Duration) -> Option<String> {
        let heard_by = |retired: Duration| retired + revocation_bound() + ON_ITS_WAY;
        let keys = |may: &dyn Fn(&Option<Duration>) -> bool| {
            let publics = self.0.iter().filter(|(_, retired)| may(retired)).map(|(public, _)| *public);
            let known = publics.map(|public| Generation { number: 0, public, since_leaf: 0, until_leaf: None });
            Generations(known.collect()).keys(origin)
        };
        let known = keys(&|_| true);
        let note_read = Note::parse(note).ok()?;
        let own = note_read.signatures().iter().filter(|signature| signature.name == origin);
        if let Some(stranger) = own.clone().find(|line| known.iter().all(|key| key.id() != line.key_id)) {
            return Some(format!("{origin} is signed by the key {:08x}, which was never in force", stranger.key_id));
        }
        let current = keys(&|retired| retired.is_none_or(|retired| now < heard_by(retired)));
        match Checkpoint::open(note, origin, &current) {
            Ok(_) => None,
            Err(error) => Some(format!("{origin}: {error}: its lines are by {} keys, all retired", own.count())),
        }
    }
}

impl Stage {
    /// Turns the zone's key, or a node's own where `node` is not 0, and looks on until that is complete, and for a while.
    pub async fn rotate_keys(self, overlap_s: u64, node: u64, dice: &mut ChaCha12Rng) {
        let spec = RotateSpec { overlap_s: Some(overlap_s), node: (node > 0).then_some(node), ..RotateSpec::default() };
        let mut seen = Seen::default();
        self.see_keys(&mut seen);
        let asked = self.administer(dice, move |governor| {
            let spec = spec.clone();
            async move { governor.rotate_keys(spec).await.or_else(is_asked) }
        });
        let asked = asked.await;
        self.history.ordered(asked.is_ok());
        let words = asked.as_ref().map_or_else(ToString::to_string, |_| format!("overlap {overlap_s} s, node {node}"));
        self.fleet.event(None, "keys", &[("what", Field::Text(&words))]);
        let mut behind = 0;
        for at in 0..LOOKS_MAX {
            self.fleet.clock().sleep(LOOK_EVERY).await;
            self.look_at_signatures(&mut seen, at).await;
            behind = if self.is_turned() { behind + 1 } else { 0 };
            if behind >= LOOKS_BEHIND {
                break;
            }
        }
    }

    /// True where every living replica of the control group has all turns behind it.
    fn is_turned(&self) -> bool {
        let controls =
            self.fleet.living().into_iter().filter_map(|(_, living)| living.governor.core().control.read().clone());
        controls.into_iter().all(|control| {
            let signing = Signing::of(control.machine.lock().state.events());
            signing.asked().is_none() && signing.overlapping().is_none() && signing.retiring().next().is_none()
        })
    }

    /// Takes in what living nodes know of keys, and the control group's own state.
    fn see_keys(&self, seen: &mut Seen) {
        let now = self.now();
        for (_, living) in self.fleet.living() {
            let core = living.governor.core();
            seen.note(&nethical_cluster::signing::generations(core, core.shared.view().signing()), now);
            if let Some(control) = core.control.read().clone() {
                let generations = Signing::of(control.machine.lock().state.events()).generations();
                seen.note(&generations, now);
                self.tell_witness(&generations);
            }
        }
    }

    /// The witness's people start it with each new key.
    fn tell_witness(&self, generations: &Generations) {
        let origin = LogId { group: GroupId::CONTROL, era: 1 }.origin(CLUSTER);
        self.fleet.witness().learn(generations.keys(&origin));
    }

    /// Every node is asked for the checkpoint of one log after the other.
    async fn look_at_signatures(&self, seen: &mut Seen, at: usize) {
        let groups: Vec<GroupId> = std::iter::once(GroupId::CONTROL).chain(self.fleet.partitions()).collect();
        let group = groups[at % groups.len()];
        let origin = LogId { group, era: 1 }.origin(CLUSTER);
        for (node, living) in self.fleet.living() {
            let Living { scope, governor } = living;
            let asked = scope.spawn(async move { governor.published(group, Resource::Checkpoint).await });
            let Ok(Ok(note)) = asked.await else { continue };
            // What came into force while it was made counts.
            self.see_keys(seen);
            let note = String::from_utf8_lossy(&note).into_owned();
            if let Some(what) = seen.judge(&origin, &note, self.now()) {
                self.fleet.watch().violated("signing", format!("node {node} shows a checkpoint: {what}"));
            }
        }
    }
}

/// A turn that is under way, or whose overlap has not ended yet, was asked for.
fn is_asked(problem: Problem) -> Result<VerifierKeys, Problem> {
    if problem.code == Code::InvalidControl { Ok(VerifierKeys::default()) } else { Err(problem) }
}
