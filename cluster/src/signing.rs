//! By which keys this node signs and vouches, and how they are turned while it runs (ARCHITECTURE 10).
//!
//! The log says which keys are in force ([`crate::control::signing`]); this only brings it about, one step at a time, and may
//! be cut off behind any of them: the next control leader goes on from what the state says. A seed comes into force once a
//! quorum of the zone's nodes and a replica of every group hold it durably. A node that lacks one signs nothing until a peer has
//! given it; one that has not heard the control group lately signs nothing new. Nothing here delays a decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use nethical_audit::generations::Generations;
use nethical_audit::keys::seeds::{OwnSeed, ZoneSeed};
use nethical_audit::note::cosign::Cosigner;
use nethical_audit::note::{KeyKind, Signer, VerifierKey};
use nethical_protocol::control::ControlAck;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::NodeId;
use nethical_protocol::{probe, sometimes};

use crate::control::signing::{Signing, SigningAskV1, ZoneKey};
use crate::control::{AskV1, ControlMachine};
use crate::message::{ChangeRulesV1, KIND_SEEDS, RulesChangedV1, SeedsAnswerV1, SeedsAskV1, TurnKeyV1};
use crate::node::{Core, Plain};
use crate::rules::{self, confirmed_leader, control_here, control_leader};
use crate::seeds::{Public, public_of};
use crate::store::AuditStore;
use crate::world::{self, Lane, timeout};

/// Between two looks where there is nothing to do and nothing has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks while something is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long another node may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The signers of one log, newest first.
pub struct Signers {
    /// Their public keys.
    pub by: Vec<Public>,
    /// Under the log's name.
    pub signers: Vec<Signer>,
}

/// The public keys that are in force, newest first, as this node knows.
pub fn in_force(core: &Core) -> Vec<Public> {
    let view = core.shared.view();
    let Generations(generations) = generations(core, view.signing());
    let in_force = generations.iter().rev().filter(|generation| generation.is_in_force());
    in_force.map(|generation| generation.public).collect()
}

/// All generations; before the first turn the one of the keyring.
pub fn generations(core: &Core, signing: &Signing) -> Generations {
    let known = signing.generations();
    if !known.0.is_empty() {
        return known;
    }
    let first = |public| nethical_audit::generations::Generation { number: 1, public, since_leaf: 0, until_leaf: None };
    Generations(core.shared.seeds.first().map(first).into_iter().collect())
}

/// The verifier keys in force of a log, newest first.
pub fn keys_of(core: &Core, origin: &str) -> Vec<VerifierKey> {
    let keys = in_force(core).into_iter();
    keys.filter_map(|public| VerifierKey::new(origin, KeyKind::Log, public).ok()).collect()
}

/// Refuses where this node may not sign: it has not heard lately which keys are in force.
fn check_heard(core: &Core) -> Result<(), Problem> {
    let (revision, now) = (core.shared.view().revision(), core.shared.world.clock.now());
    core.shared.contact.check_known(revision, now)
}

/// All by which a log's checkpoints are to be signed now.
///
/// # Errors
/// `not-ready` where a seed that is in force is not here, or the node does not sign; `control-stale` where it has not heard lately which
/// are.
pub fn signers(core: &Core, store: &AuditStore) -> Result<Arc<Signers>, Problem> {
    check_heard(core)?;
    let by = in_force(core);
    let mut known = store.signers.lock();
    if let Some(known) = known.as_ref().filter(|known| known.by == by) {
        return Ok(known.clone());
    }
    let origin = store.log().origin(&core.shared.options.cluster);
    let signer = |public: &Public| {
        let lacking = || Problem::new(Code::NotReady, "a signing key that is in force is on its way to this node");
        let held = core.shared.seeds.zone(public).ok_or_else(lacking)?;
        Signer::from_seed(&origin, &held.seed).map_err(|error| Problem::new(Code::Internal, error.to_string()))
    };
    let signers = by.iter().map(signer).collect::<Result<Vec<_>, Problem>>()?;
    if signers.is_empty() {
        return Err(Problem::new(Code::NotReady, "this node has no signing key"));
    }
    sometimes!(signers.len() > 1, "a checkpoint was signed by two generations of the zone's key");
    let made = Arc::new(Signers { by, signers });
    *known = Some(made.clone());
    Ok(made)
}

/// By which this node vouches; none where its seed is not here, or it has not heard lately which it is.
pub fn cosigner(core: &Core) -> Option<Arc<Cosigner>> {
    check_heard(core).ok()?;
    let public = own_public(core)?;
    let mut known = core.shared.cosigner.lock();
    if let Some((_, known)) = known.as_ref().filter(|(by, _)| *by == public) {
        return Some(known.clone());
    }
    let held = core.shared.seeds.own(&public)?;
    let made = Arc::new(Cosigner::from_seed(&own_name(core, core.shared.options.node), &held.seed).ok()?);
    *known = Some((public, made.clone()));
    Some(made)
}

/// The public key by which this node vouches.
pub fn own_public(core: &Core) -> Option<Public> {
    let view = core.shared.view();
    let turned = view.signing().cosigner(core.shared.options.node.0).map(|key| key.public);
    turned.or_else(|| core.shared.seeds.first_own())
}

/// The name under which a node vouches.
pub fn own_name(core: &Core, node: NodeId) -> String {
    format!("{}/n/{node}", core.shared.options.cluster)
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing to do.
    Rest,
    /// Something was done, or is awaited.
    Again,
}

/// Keeps this node supplied with seeds, destroys those that are retired and, where it leads the control group, turns keys. Runs
/// until the node stops.
pub async fn tend(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    let (mut changed, mut signed_by) = (core.shared.revision(), in_force(&core));
    loop {
        let look = look(&core).await;
        if let Err(problem) = &look {
            tracing::debug!(%problem, "signing keys are looked after later");
        }
        let by = in_force(&core);
        if by != signed_by {
            // What was made by other keys is made again.
            core.gathered.clear();
            core.witnessed.clear();
            signed_by = by;
        }
        match look {
            Ok(Look::Rest) => {
                let _ = timeout(&*clock, LOOK_EVERY, changed.changed()).await;
            }
            _ => clock.sleep(LOOK_AGAIN).await,
        }
    }
}

async fn look(core: &Arc<Core>) -> Result<Look, Problem> {
    let view = core.shared.view();
    let signing = view.signing();
    let supplied = supply(core, signing).await;
    // A node that nobody can give a seed still destroys, and leads.
    core.shared.seeds.publish(&signing.generations()).await.map_err(broken)?;
    destroy(core, signing).await?;
    let led = lead(core).await?;
    Ok(if supplied? == Look::Again || led == Look::Again { Look::Again } else { Look::Rest })
}

/// Fetches seeds in force that are not here, from whoever holds them.
async fn supply(core: &Core, signing: &Signing) -> Result<Look, Problem> {
    let in_force = signing.keys().iter().map(|key| key.generation).filter(|generation| generation.is_in_force());
    let lacking: Vec<_> = in_force.filter(|known| core.shared.seeds.zone(&known.public).is_none()).collect();
    for generation in &lacking {
        fetch(core, generation.number, generation.public).await?;
    }
    Ok(if lacking.is_empty() { Look::Rest } else { Look::Again })
}

async fn fetch(core: &Core, number: u32, public: Public) -> Result<(), Problem> {
    for node in core.peers() {
        let answer = call(core, node, &SeedsAskV1::Get { public }).await;
        if let Some(SeedsAnswerV1::Seed { generation, term, seed }) = answer
            && public_of(&seed) == public
        {
            sometimes!(true, "a node fetched a signing seed that it lacked");
            return core.shared.seeds.put(ZoneSeed { generation, term, seed }).await.map_err(broken);
        }
    }
    let detail = format!("no node that can be reached holds generation {number} of the zone's signing key");
    tracing::warn!(
        generation = number,
        "this node signs nothing: no node that can be reached holds the zone's signing key"
    );
    Err(Problem::new(Code::NotReady, detail))
}

/// Destroys what is retired, and what was made for a generation that another seed became.
async fn destroy(core: &Core, signing: &Signing) -> Result<(), Problem> {
    if probe::planted("signing-seed-kept") {
        return Ok(());
    }
    let zone_goes = |number: u32, public: &Public| {
        let key = signing.keys().iter().find(|key| key.generation.number == number);
        key.is_some_and(|key| key.generation.public != *public || !key.generation.is_in_force())
    };
    let own = signing.cosigners().get(&core.shared.options.node.0);
    let own_goes = |number: u32, public: &Public| {
        own.is_some_and(|keys| {
            number as usize <= keys.len() && keys.last().is_some_and(|newest| newest.public != *public)
        })
    };
    if core.shared.seeds.destroy(zone_goes, own_goes).await.map_err(broken)? {
        sometimes!(true, "a signing seed was destroyed");
        tracing::info!("a signing seed was destroyed");
        world::pass(&*core.shared.world.clock, "seeds.destroyed").await;
    }
    Ok(())
}

/// What the control leader has to do, where this node is it.
async fn lead(core: &Arc<Core>) -> Result<Look, Problem> {
    let here = control_here(core).filter(|control| control.group.leadership().borrow().here);
    let is_idle = |signing: &Signing| {
        signing.asked().is_none() && signing.overlapping().is_none() && signing.retiring().next().is_none()
    };
    let Some(here) = here.filter(|control| !is_idle(&Signing::of(control.machine.lock().state.events()))) else {
        core.signing_awaits.lock().clear();
        return Ok(Look::Rest);
    };
    drop(here);
    let lost = |_| Problem::new(Code::NoQuorum, "no quorum confirms this control leader");
    let control = confirmed_leader(core).await.map_err(lost)?;
    let (signing, log_ns) = {
        let machine = control.machine.lock();
        (Signing::of(machine.state.events()), machine.state.now_ns())
    };
    if signing.asked().is_some() {
        turn(core, &control, &signing).await?;
        return Ok(Look::Again);
    }
    if let Some(old) = signing.overlapping() {
        return retire(core, &control, old, log_ns).await;
    }
    let retiring: Vec<ZoneKey> = signing.retiring().cloned().collect();
    settle(core, &control, &retiring).await?;
    Ok(Look::Again)
}

/// Makes a seed, has it held where it must be, and turns the zone to it.
async fn turn(core: &Arc<Core>, control: &Plain<ControlMachine>, signing: &Signing) -> Result<(), Problem> {
    let seeds = &core.shared.seeds;
    let (generation, term) = (signing.newest() + 1, control.group.leadership().borrow().term);
    let before = signing.keys().last().map(|key| key.generation.public).or_else(|| seeds.first());
    let before = before.ok_or_else(|| Problem::new(Code::NotReady, "this node has no signing key to turn from"))?;
    // One that too few nodes could be given is tried again, or a leader without a quorum would pile them up.
    let made = match seeds.made_in(generation, term) {
        Some(made) => made,
        None => make(core, generation, term).await?,
    };
    world::pass(&*core.shared.world.clock, "seeds.made").await;
    let (peers, ask) = (core.peers(), SeedsAskV1::Put { generation, term, seed: made.seed });
    let answers = join_all(peers.iter().map(|node| call(core, *node, &ask))).await;
    let kept = peers.iter().zip(&answers).filter(|(_, answer)| **answer == Some(SeedsAnswerV1::Kept));
    let mut holders: BTreeSet<NodeId> = kept.map(|(node, _)| *node).collect();
    holders.insert(core.shared.options.node);
    *core.signing_awaits.lock() = peers.into_iter().filter(|node| !holders.contains(node)).collect();
    let is_quorum = holders.len() > core.shared.options.nodes.len() / 2;
    let has_holder = |group| core.placed(group).iter().any(|node| holders.contains(node));
    if !is_quorum || !core.groups().all(has_holder) {
        return Err(Problem::new(Code::NoQuorum, "too few nodes hold the new signing seed"));
    }
    world::pass(&*core.shared.world.clock, "seeds.held").await;
    let public = public_of(&made.seed);
    propose(core, control, SigningAskV1::Turn { generation, public, before, term }).await?;
    sometimes!(true, "the zone turned to a new signing key");
    tracing::info!(generation, "the zone has a new signing key");
    Ok(())
}

/// A new seed, held durably here.
async fn make(core: &Core, generation: u32, term: u64) -> Result<ZoneSeed, Problem> {
    let mut seed = [0; 32];
    core.shared.world.scope.fill(&mut seed);
    let made = ZoneSeed { generation, term, seed };
    core.shared.seeds.put(made).await.map_err(broken)?;
    Ok(made)
}

/// Ends an overlap whose time is over.
async fn retire(
    core: &Arc<Core>,
    control: &Plain<ControlMachine>,
    old: &ZoneKey,
    log_ns: u64,
) -> Result<Look, Problem> {
    let shared = &core.shared;
    let now_ns = shared.timekeeper.base_ns(&*shared.world.clock, shared.options.nodes.len()).unwrap_or(0).max(log_ns);
    if old.retires_ns.is_none_or(|until_ns| now_ns < until_ns) {
        return Ok(Look::Rest);
    }
    let generation = old.generation.number;
    propose(core, control, SigningAskV1::Retire { generation }).await?;
    sometimes!(true, "a signing key was retired");
    tracing::info!(generation, "a signing key of the zone is retired");
    Ok(Look::Again)
}

/// Asks every node whether it still holds what is retired, and says so in the log once none does.
async fn settle(core: &Arc<Core>, control: &Plain<ControlMachine>, retiring: &[ZoneKey]) -> Result<(), Problem> {
    let past: Vec<Public> = retiring.iter().map(|key| key.generation.public).collect();
    let (peers, ask) = (core.peers(), SeedsAskV1::Held { past: past.clone() });
    let answers = join_all(peers.iter().map(|node| call(core, *node, &ask))).await;
    let none = Some(SeedsAnswerV1::Held(Vec::new()));
    let mut awaits: Vec<NodeId> =
        peers.into_iter().zip(answers).filter(|(_, answer)| *answer != none).map(|(node, _)| node).collect();
    awaits.extend((!held_here(core, &past).is_empty()).then_some(core.shared.options.node));
    let is_settled = awaits.is_empty();
    *core.signing_awaits.lock() = awaits;
    if !is_settled {
        sometimes!(true, "a retired signing key waited for a node");
        core.shared.world.clock.sleep(LOOK_EVERY).await;
        return Ok(());
    }
    world::pass(&*core.shared.world.clock, "seeds.settled").await;
    for key in retiring {
        propose(core, control, SigningAskV1::Destroyed { generation: key.generation.number }).await?;
    }
    Ok(())
}

fn held_here(core: &Core, past: &[Public]) -> Vec<Public> {
    if probe::planted("signing-seed-kept") {
        return Vec::new();
    }
    past.iter().filter(|public| core.shared.seeds.zone(public).is_some()).copied().collect()
}

async fn propose(core: &Arc<Core>, control: &Plain<ControlMachine>, ask: SigningAskV1) -> Result<(), Problem> {
    match rules::propose_here(core, control, AskV1::Signing(ask)).await {
        RulesChangedV1::Ack(_) => Ok(()),
        RulesChangedV1::Problem(problem) => Err(problem),
        RulesChangedV1::NotLeader(_) => Err(Problem::new(Code::NotLeader, "another node leads the control group")),
    }
}

async fn call(core: &Core, node: NodeId, ask: &SeedsAskV1) -> Option<SeedsAnswerV1> {
    let answer = core.shared.world.wire.call(node, Lane::Control, KIND_SEEDS, ask.to_bytes(), PATIENCE).await.ok()?;
    SeedsAnswerV1::from_bytes(&answer).ok()
}

/// Another node's word or question. Only nodes of the zone have certificates to ask with.
pub async fn on_seeds(core: Arc<Core>, ask: SeedsAskV1) -> Bytes {
    answer(&core, ask).await.unwrap_or_else(SeedsAnswerV1::Problem).to_bytes()
}

async fn answer(core: &Arc<Core>, ask: SeedsAskV1) -> Result<SeedsAnswerV1, Problem> {
    let seeds = &core.shared.seeds;
    Ok(match ask {
        SeedsAskV1::Put { generation, term, seed } => {
            seeds.put(ZoneSeed { generation, term, seed }).await.map_err(broken)?;
            SeedsAnswerV1::Kept
        }
        SeedsAskV1::Get { public } => {
            let absent = || Problem::new(Code::NotFound, "that signing seed is not here");
            let ZoneSeed { generation, term, seed } = seeds.zone(&public).ok_or_else(absent)?;
            SeedsAnswerV1::Seed { generation, term, seed }
        }
        SeedsAskV1::Held { past } => {
            destroy(core, core.shared.view().signing()).await?;
            SeedsAnswerV1::Held(held_here(core, &past))
        }
        SeedsAskV1::Awaited => SeedsAnswerV1::Awaited(awaited_here(core)),
        SeedsAskV1::TurnOwn { reason } => SeedsAnswerV1::Turned(turn_own_here(core, reason).await?),
    })
}

fn awaited_here(core: &Core) -> Vec<u64> {
    core.signing_awaits.lock().iter().map(|node| node.0).collect()
}

/// The nodes that the control leader waits for.
pub async fn awaited(core: &Core) -> Vec<u64> {
    match control_leader(core) {
        Some(leader) if leader == core.shared.options.node => awaited_here(core),
        Some(leader) => match call(core, leader, &SeedsAskV1::Awaited).await {
            Some(SeedsAnswerV1::Awaited(nodes)) => nodes,
            _ => Vec::new(),
        },
        None => Vec::new(),
    }
}

/// Turns the key by which a node vouches, on that node.
///
/// # Errors
/// `not-found` where there is no such node; what the node or the control group says.
pub async fn turn_own(core: &Arc<Core>, node: NodeId, reason: String) -> Result<ControlAck, Problem> {
    if node == core.shared.options.node {
        return turn_own_here(core, reason).await;
    }
    if !core.peers().contains(&node) {
        return Err(Problem::new(Code::NotFound, format!("there is no node {node}")));
    }
    let ask = SeedsAskV1::TurnOwn { reason }.to_bytes();
    // It stores, asks the control group, and that waits for everybody.
    let call = core.shared.world.wire.call(node, Lane::Control, KIND_SEEDS, ask, 5 * PATIENCE);
    let unknown = |why: String| Problem::new(Code::OutcomeUnknown, why);
    let answer = call.await.map_err(|error| unknown(error.to_string()))?;
    match SeedsAnswerV1::from_bytes(&answer) {
        Ok(SeedsAnswerV1::Turned(ack)) => Ok(ack),
        Ok(SeedsAnswerV1::Problem(problem)) => Err(problem),
        _ => Err(unknown(format!("node {node} did not say whether it has turned its key"))),
    }
}

/// The seed never leaves this node; it vouches by it once the control group has its public key.
async fn turn_own_here(core: &Arc<Core>, reason: String) -> Result<ControlAck, Problem> {
    let (seeds, node) = (&core.shared.seeds, core.shared.options.node.0);
    check_heard(core)?;
    let turned = core.shared.view().signing().cosigners().get(&node).map_or(1, Vec::len);
    let before = own_public(core).ok_or_else(|| Problem::new(Code::NotReady, "this node vouches by no key"))?;
    let generation = turned as u32 + 1;
    // One that was made before a crash, or before the control group could be asked, serves.
    let public = match seeds.own_made(generation) {
        Some((public, _)) => public,
        None => {
            let mut seed = [0; 32];
            core.shared.world.scope.fill(&mut seed);
            seeds.put_own(OwnSeed { generation, seed }).await.map_err(broken)?;
            public_of(&seed)
        }
    };
    world::pass(&*core.shared.world.clock, "seeds.own").await;
    rules::change(core, ChangeRulesV1::TurnKey(TurnKeyV1::Node { node, before, public, reason })).await
}

fn broken(error: std::io::Error) -> Problem {
    Problem::new(Code::Internal, format!("the signing seeds: {error}"))
}
