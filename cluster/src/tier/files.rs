//! Tells which files the cold tier has, and gives out the key of one, so that other people's programs read it.
//!
//! Only a group's leader says it, once a quorum has confirmed that it leads. A key is not given out while its file holds a body
//! that nobody may read any more: what was read under it cannot be taken back, and a file that is made anew has another key.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use nethical_governance::subject::ColdFile;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::GroupId;

use super::cold::{Tier, file_with};
use crate::administer::confirmed_lead;
use crate::ask::{Question, ask_leader};
use crate::message::{AskColdV1, ColdFileV1, ColdFilesV1, KIND_COLD};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::sealing;

/// Keys of cold files given out since the node started.
pub const KEYS_GIVEN_TOTAL: &str = "nethical_audit_cold_keys_given_total";

/// Files of one group in one answer.
const FILES_MAX: u32 = 1_000;
/// How long a group's leader may take to say what files there are.
const LIST_PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take to look through a file's leaves before it gives out its key.
const KEY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a quorum may take to confirm the leader.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);

/// Which files are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColdQuery {
    /// Of this group alone.
    pub group: Option<u32>,
    /// From the file that holds this entry, or comes behind it, on.
    pub from: u64,
    /// How many of each group; a thousand at most, and where nothing is said.
    pub limit: Option<u32>,
}

/// Files of the cold tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdList {
    /// By group, and in order of their entries.
    pub files: Vec<ColdFileView>,
    /// Groups that have more of them.
    pub more: Vec<u32>,
    /// Groups whose leader did not answer.
    pub awaiting: Vec<u32>,
}

/// A file of the cold tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdFileView {
    /// Its group.
    pub group: u32,
    /// Its first entry.
    pub first: u64,
    /// Its last one.
    pub last: u64,
    /// Of its entries, those whose bodies it holds.
    pub bodies: u32,
    /// Its bytes.
    pub bytes: u64,
    /// The object's name below `audit.cold_url`.
    pub object: String,
    /// What the group's leader last found wrong with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flaw: String,
}

/// The key that a file of the cold tier opens with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdKeyView {
    /// The file.
    #[serde(flatten)]
    pub file: ColdFileView,
    /// 32 bytes in base64: the footer key of Parquet Modular Encryption, which opens all columns.
    pub key: String,
}

/// The files of all groups, or of one.
///
/// # Errors
/// `not-found` where there is no such group. Groups that do not answer are in the list.
pub async fn list(core: Arc<Core>, query: ColdQuery) -> Result<ColdList, Problem> {
    let is_asked = |group: &GroupId| group.is_partition() && query.group.is_none_or(|asked| asked == group.0);
    let groups: Vec<GroupId> = core.groups().filter(is_asked).collect();
    if groups.is_empty() {
        return Err(Problem::new(Code::NotFound, "there is no such partition group"));
    }
    let limit = query.limit.unwrap_or(FILES_MAX).clamp(1, FILES_MAX);
    let ask = |group: GroupId| AskColdV1 { group: group.0, from: query.from, limit, with_key: false };
    let asked = groups.iter().map(|group| async { (group.0, self::ask(&core, ask(*group), LIST_PATIENCE).await) });
    let mut list = ColdList::default();
    for (group, found) in join_all(asked).await {
        let Ok((files, has_more)) = found else {
            list.awaiting.push(group);
            continue;
        };
        list.files.extend(files.into_iter().map(|file| view(group, file).0));
        list.more.extend(has_more.then_some(group));
    }
    Ok(list)
}

/// The key of the file that begins with an entry.
///
/// # Errors
/// `not-found` where there is none, `not-ready` while it has to be made anew, `no-quorum` where the leader does not answer.
pub async fn key(core: Arc<Core>, group: GroupId, first: u64) -> Result<ColdKeyView, Problem> {
    if !group.is_partition() || !core.groups().any(|known| known == group) {
        return Err(Problem::new(Code::NotFound, format!("there is no partition group {group}")));
    }
    let ask = AskColdV1 { group: group.0, from: first, limit: 1, with_key: true };
    let (files, _) = self::ask(&core, ask, KEY_PATIENCE).await?;
    let none = || {
        let detail = format!("no file of the cold tier begins with entry {first} of group {group}");
        Problem::new(Code::NotFound, detail)
    };
    let (file, key) = view(group.0, files.into_iter().next().ok_or_else(none)?);
    Ok(ColdKeyView { file, key: STANDARD.encode(key) })
}

fn view(group: u32, file: ColdFileV1) -> (ColdFileView, Vec<u8>) {
    let ColdFileV1 { name: object, first, leaves, bodies, bytes, flaw, key } = file;
    let last = first.saturating_add(u64::from(leaves)).saturating_sub(1);
    (ColdFileView { group, first, last, bodies, bytes, object, flaw }, key)
}

async fn ask(core: &Arc<Core>, ask: AskColdV1, patience: Duration) -> Result<(Vec<ColdFileV1>, bool), Problem> {
    let (group, body) = (GroupId(ask.group), ask.to_bytes());
    let question = Question { kind: KIND_COLD, body, until: core.shared.world.clock.now() + patience };
    let here = |body: Bytes| answer(core.clone(), body).boxed();
    let read = |bytes: &[u8]| match ColdFilesV1::from_bytes(bytes).ok()? {
        ColdFilesV1::NotLeader(hint) => Some(Err(hint)),
        ColdFilesV1::Files(files, has_more) => Some(Ok(Ok((files, has_more)))),
        ColdFilesV1::Refused(why) => Some(Ok(Err(Problem::new(Code::NotReady, why).retry_after_ms(5_000)))),
    };
    ask_leader(core, group, question, here, read).await?
}

/// Another node's question.
pub async fn on_ask(core: Arc<Core>, ask: AskColdV1) -> Bytes {
    here(&core, &ask).await.to_bytes()
}

async fn answer(core: Arc<Core>, body: Bytes) -> Bytes {
    match AskColdV1::from_bytes(&body) {
        Ok(ask) => on_ask(core, ask).await,
        Err(_) => Bytes::new(),
    }
}

async fn here(core: &Core, ask: &AskColdV1) -> ColdFilesV1 {
    let replica = match confirmed_lead(core, GroupId(ask.group), CONFIRM_PATIENCE).await {
        Ok((replica, _)) => replica,
        Err(hint) => return ColdFilesV1::NotLeader(hint),
    };
    match ask.with_key {
        true => key_here(core, &replica, ask.from).await,
        false => files_here(core, &replica, ask),
    }
}

fn files_here(core: &Core, replica: &PartitionReplica, ask: &AskColdV1) -> ColdFilesV1 {
    let limit = ask.limit.clamp(1, FILES_MAX) as usize;
    let mut files: Vec<ColdFile> = {
        let machine = replica.machine.lock();
        let behind = machine.ledger.subjects().cold_files().filter(|file| file.next() > ask.from);
        behind.take(limit + 1).copied().collect()
    };
    let has_more = files.len() > limit;
    files.truncate(limit);
    let read = super::cold::flaws(core, replica).into_iter().map(|flaw| (flaw.first, flaw.why));
    let flaws: Vec<(u64, String)> = read.chain(replica.cold.failed()).collect();
    ColdFilesV1::Files(files.iter().map(|file| told(core, replica, file, &flaws)).collect(), has_more)
}

fn told(core: &Core, replica: &PartitionReplica, file: &ColdFile, flaws: &[(u64, String)]) -> ColdFileV1 {
    let ColdFile { first, leaves, bytes, bodies, object, .. } = *file;
    let name = super::cold::object_name(&core.shared.options.cluster, replica.store.log(), first, &object);
    let flaw = flaws.iter().find(|(at, _)| *at == first).map(|(_, why)| why.clone()).unwrap_or_default();
    ColdFileV1 { name, first, leaves, bodies, bytes, flaw, key: Vec::new() }
}

/// The key of a file none of whose bodies has to go.
async fn key_here(core: &Core, replica: &PartitionReplica, first: u64) -> ColdFilesV1 {
    let found = file_with(replica, first).filter(|(file, _)| file.first == first);
    let Some((file, wrapped)) = found else { return ColdFilesV1::Files(Vec::new(), false) };
    let refused = |why: String| ColdFilesV1::Refused(why);
    match Tier::has_to_go(core, replica, &file).await {
        Ok(false) => {}
        Ok(true) => {
            return refused("the file holds bodies that are to go, and is made anew without them first".to_owned());
        }
        Err(why) => return refused(why),
    }
    // Applied meanwhile, an erasure or another file says so here.
    let is_current = file_with(replica, first).is_some_and(|(now, _)| now == file);
    if !is_current || replica.machine.lock().ledger.subjects().erased_since(&file).next().is_some() {
        return refused("the file is being made anew".to_owned());
    }
    match sealing::open(&core.shared, replica.group.id(), &wrapped) {
        Ok(key) => {
            metrics::counter!(KEYS_GIVEN_TOTAL).increment(1);
            tracing::warn!(group = %replica.group.id(), first, "the key of a cold file was given out");
            let file = told(core, replica, &file, &[]);
            ColdFilesV1::Files(vec![ColdFileV1 { key: key.to_vec(), ..file }], false)
        }
        Err(problem) => refused(problem.detail),
    }
}
