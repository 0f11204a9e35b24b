//! Carries out a plan's faults: begins each at its time and ends it at its own. All chance comes from the fault's number.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_cluster::world::memory::MemoryDisk;
use nethical_protocol::ids::NodeId;
use nethical_protocol::sometimes;

use crate::dice;
use crate::fault::{Entry, Fault};
use crate::links::Effect;
use crate::objects::{Ailment, Harm as ObjectHarm};
use crate::plan::Plan;
use crate::probes::Meddler;
use crate::trace::Field;
use crate::world::{Death, Fleet};

/// Numbers of the darkness that a place of the code brought, so that they meet no fault's number.
const STOPS_FROM: u32 = 1 << 30;
/// A disk may still end its node for a rotten file this long after the machine is back.
const ROT_SHOWS_FOR: Duration = Duration::from_secs(10);

/// Does to a fleet what a plan says. A clone is the same.
#[derive(Clone)]
pub struct Nemesis {
    fleet: Fleet,
    meddler: Meddler,
    seed: u64,
}

impl Nemesis {
    /// A nemesis of a run.
    pub fn new(plan: &Plan, fleet: Fleet, meddler: Meddler) -> Self {
        let stops = std::sync::atomic::AtomicU32::new(STOPS_FROM);
        let world = fleet.clone();
        meddler.on_stop(move |node, dark_ms| {
            let fault = stops.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            world.darken(node, fault, Death::Power);
            world.after(Duration::from_millis(dark_ms), move |world| world.lighten(node, fault));
        });
        Self { fleet, meddler, seed: plan.seed }
    }

    /// Carries out all faults; done when the last one is over.
    pub async fn run(self, faults: &[Entry]) {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (place, entry) in faults.iter().enumerate() {
            moments.extend([(entry.at_ms, true, place), (entry.at_ms + entry.for_ms, false, place)]);
        }
        // Ends come before beginnings of the same instant.
        moments.sort_unstable();
        for (at_ms, begins, place) in moments {
            self.fleet.clock().reach(Duration::from_millis(at_ms)).await;
            let entry = &faults[place];
            self.note(entry, begins);
            match begins {
                true => self.begin(entry),
                false => self.end(entry),
            }
        }
    }

    fn note(&self, entry: &Entry, begins: bool) {
        let (words, nodes) = (entry.fault.words(), entry.fault.nodes());
        self.fleet.event(
            None,
            "fault",
            &[
                ("id", Field::Number(u64::from(entry.id))),
                ("phase", Field::Text(if begins { "begin" } else { "end" })),
                ("fault", Field::Text(entry.fault.name())),
                ("what", Field::Text(&words)),
                ("nodes", Field::Nodes(&nodes)),
            ],
        );
    }

    fn begin(&self, entry: &Entry) {
        let (fleet, id) = (&self.fleet, entry.id);
        let link = |from: &[u64], to: &[u64], effect| fleet.links().begin(id, from, to, effect);
        match &entry.fault {
            Fault::Cut { from, to } => link(from, to, Effect::Cut(None)),
            Fault::Flap { from, to, period_ms } => {
                link(from, to, Effect::Cut(Some(Duration::from_millis(*period_ms))));
            }
            Fault::Loss { from, to, permille } => link(from, to, Effect::Loss(*permille)),
            Fault::Duplicate { permille } => link(&[], &[], Effect::Duplicate(*permille)),
            Fault::Reorder { jitter_ms } => link(&[], &[], Effect::Jitter(*jitter_ms)),
            Fault::Gray { from, to, delay_ms } => link(from, to, Effect::Delay(*delay_ms)),
            Fault::Bandwidth { from, to, bytes_per_s } => link(from, to, Effect::Bandwidth(*bytes_per_s)),
            Fault::Power { nodes } => nodes.iter().for_each(|node| fleet.darken(NodeId(*node), id, Death::Power)),
            Fault::Kill { node } => fleet.darken(NodeId(*node), id, Death::Process),
            Fault::Wipe { node } => fleet.darken(NodeId(*node), id, Death::Wipe),
            Fault::Rot { node, file } => self.mangle(NodeId(*node), id, file, |disk, path, dice| disk.rot(path, dice)),
            Fault::Misdirected { node, file } => {
                self.mangle(NodeId(*node), id, file, |disk, path, dice| disk.misdirect(path, dice));
            }
            Fault::Vanished { node, file } => self.mangle(NodeId(*node), id, file, |disk, path, _| disk.vanish(path)),
            Fault::Truncated { node, file } => {
                self.mangle(NodeId(*node), id, file, |disk, path, dice| disk.shorten(path, dice));
            }
            Fault::ClockJump { node, by_ms } => fleet.machine_clock(NodeId(*node)).jump(*by_ms),
            Fault::ClockDrift { node, ppm } => fleet.machine_clock(NodeId(*node)).drift(*ppm),
            Fault::SlowDisk { node, delay_ms } => {
                fleet.disk(NodeId(*node)).slow_syncs(Duration::from_millis(*delay_ms));
            }
            Fault::StalledDisk { node } => fleet.disk(NodeId(*node)).stall_syncs(true),
            Fault::FailingDisk { node } => {
                fleet.ail(NodeId(*node), id);
                fleet.disk(NodeId(*node)).fail_syncs(true);
            }
            Fault::FullDisk { node } => {
                fleet.ail(NodeId(*node), id);
                fleet.disk(NodeId(*node)).set_bytes_max(Some(0));
            }
            Fault::LyingDisk { nodes } => {
                nodes.iter().for_each(|node| fleet.disk(NodeId(*node)).lie_about_syncs(true));
            }
            Fault::AwayStore { nodes } => fleet.objects().ail(id, Ailment::Away(nodes.clone())),
            Fault::SlowStore { delay_ms } => {
                fleet.objects().ail(id, Ailment::Slow(Duration::from_millis(*delay_ms)));
            }
            Fault::DoubtfulStore { permille } => fleet.objects().ail(id, Ailment::Doubtful(*permille)),
            Fault::LostObject { part } => self.harm_object(id, part, ObjectHarm::Lost),
            Fault::ChangedObject { part } => self.harm_object(id, part, ObjectHarm::Changed),
            Fault::StopAt { .. } | Fault::WaitAt { .. } | Fault::Buggify { .. } => {
                self.meddler.begin(self.seed, id, entry.fault.clone());
            }
        }
    }

    fn end(&self, entry: &Entry) {
        let (fleet, id) = (&self.fleet, entry.id);
        match &entry.fault {
            Fault::Cut { .. }
            | Fault::Flap { .. }
            | Fault::Loss { .. }
            | Fault::Duplicate { .. }
            | Fault::Reorder { .. }
            | Fault::Gray { .. }
            | Fault::Bandwidth { .. } => fleet.links().end(id),
            Fault::Power { nodes } => self.lighten_all(nodes, entry),
            Fault::Kill { node } | Fault::Wipe { node } => fleet.lighten(NodeId(*node), id),
            Fault::Rot { node, .. }
            | Fault::Misdirected { node, .. }
            | Fault::Vanished { node, .. }
            | Fault::Truncated { node, .. } => {
                fleet.lighten(NodeId(*node), id);
                self.recover_later(NodeId(*node), id);
            }
            Fault::ClockJump { node, by_ms } => fleet.machine_clock(NodeId(*node)).jump(-by_ms),
            Fault::ClockDrift { node, .. } => fleet.machine_clock(NodeId(*node)).drift(0),
            Fault::SlowDisk { node, .. } => fleet.disk(NodeId(*node)).slow_syncs(Duration::ZERO),
            Fault::StalledDisk { node } => fleet.disk(NodeId(*node)).stall_syncs(false),
            Fault::FailingDisk { node } => {
                fleet.disk(NodeId(*node)).fail_syncs(false);
                fleet.recover(NodeId(*node), id);
            }
            Fault::FullDisk { node } => {
                fleet.disk(NodeId(*node)).set_bytes_max(None);
                fleet.recover(NodeId(*node), id);
            }
            Fault::LyingDisk { nodes } => nodes.iter().for_each(|node| {
                // The lie comes to light: power fails, and only what was truly synced is there.
                fleet.darken(NodeId(*node), id, Death::Clean);
                fleet.disk(NodeId(*node)).lie_about_syncs(false);
                fleet.lighten(NodeId(*node), id);
            }),
            Fault::AwayStore { .. } | Fault::SlowStore { .. } | Fault::DoubtfulStore { .. } => {
                fleet.objects().recover(id)
            }
            // Nobody puts it right but the cluster.
            Fault::LostObject { .. } | Fault::ChangedObject { .. } => {}
            Fault::StopAt { .. } | Fault::WaitAt { .. } | Fault::Buggify { .. } => self.meddler.end(id),
        }
    }

    /// Machines get their power back one after another, within the second after the fault.
    fn lighten_all(&self, nodes: &[u64], entry: &Entry) {
        let mut dice = dice::fork(self.seed, &format!("fault {} end", entry.id));
        for node in nodes {
            let (id, node) = (entry.id, NodeId(*node));
            let late = Duration::from_millis(if nodes.len() > 1 { dice.random_range(0..800) } else { 0 });
            self.fleet.after(late, move |fleet| fleet.lighten(node, id));
        }
    }

    /// The machine goes dark and one of its durable files changes meanwhile.
    fn mangle(&self, node: NodeId, id: u32, kind: &str, harm: Harm) {
        let fleet = &self.fleet;
        fleet.ail(node, id);
        fleet.darken(node, id, Death::Clean);
        let mut dice = dice::fork(self.seed, &format!("fault {id}"));
        let disk = fleet.disk(node);
        let files = files_of(&disk, kind);
        if files.is_empty() {
            return;
        }
        let path = &files[dice.random_range(0..files.len())];
        let done = harm(&disk, path, &mut dice);
        sometimes!(done, "a durable file was mangled");
        if done {
            fleet.event(Some(node), "mangled", &[("what", Field::Text(path))]);
            fleet.watch().forget(node);
        }
    }

    /// One object of the store is lost or changes.
    fn harm_object(&self, id: u32, part: &str, harm: ObjectHarm) {
        let mut dice = dice::fork(self.seed, &format!("fault {id}"));
        let harmed = self.fleet.objects().harm(part, harm, &mut dice);
        sometimes!(harmed.is_some(), "an object of the store was harmed");
        if let Some(name) = harmed {
            self.fleet.event(None, "harmed", &[("what", Field::Text(&name))]);
        }
    }

    fn recover_later(&self, node: NodeId, id: u32) {
        self.fleet.after(ROT_SHOWS_FOR, move |fleet| fleet.recover(node, id));
    }
}

/// Does something to a file of a disk; false where it could not be done.
type Harm = fn(&MemoryDisk, &str, &mut ChaCha12Rng) -> bool;

/// The durable files of a kind. A closed audit segment is one that has a successor in its folder.
fn files_of(disk: &MemoryDisk, kind: &str) -> Vec<String> {
    let all: Vec<String> = disk.durable_files().into_iter().map(|(path, _)| path).collect();
    if kind == crate::fault::WARM {
        return all.into_iter().filter(|path| kind_of(path) == "audit" && path.ends_with(".warm")).collect();
    }
    if kind != "segment" {
        return all.into_iter().filter(|path| kind_of(path) == kind).collect();
    }
    let segments: Vec<String> =
        all.into_iter().filter(|path| kind_of(path) == "audit" && path.ends_with(".seg")).collect();
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let pairs = segments.windows(2).filter(|pair| folder(&pair[0]) == folder(&pair[1]));
    pairs.map(|pair| pair[0].clone()).collect()
}

/// Which kind of file a path is, in the words of plans.
fn kind_of(path: &str) -> &'static str {
    match path.split('/').next() {
        Some("wal") => "wal",
        Some("audit") => "audit",
        Some("snap") => "snapshot",
        Some("text") => crate::fault::TEXT,
        Some("promoted") => crate::fault::PROMOTED,
        _ => "other",
    }
}
