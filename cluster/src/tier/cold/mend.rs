//! Reads all files of the groups that a node leads, tells what is lost or damaged, and makes a file anew from bodies that are
//! still here. Where no replica has them any more, the object store had the only copy: then it is told, and nothing else can be
//! done here.

use nethical_governance::subject::ColdFile;
use nethical_protocol::ids::LogId;
use nethical_protocol::sometimes;

use super::state::Wrong;
use super::{Tier, file_with, object_name};
use crate::lead::Lead;
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::tier::Rule;

/// A file of the cold tier that is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Its log.
    pub log: LogId,
    /// The object's name.
    pub object: String,
    /// Its first leaf.
    pub first: u64,
    /// Its last one.
    pub last: u64,
    /// What was found.
    pub why: String,
    /// Why it is not mended, and what to do.
    pub tried: String,
}

/// Reads all cold files of the groups that this node leads, and mends those that it can. As many bytes as the files have go
/// over the network, so this is for whoever asks for it.
pub async fn inspect(core: &Core) {
    let Some(objects) = core.shared.world.objects.clone() else { return };
    for replica in core.partitions() {
        let Some(lead) = replica.lead() else { continue };
        let files: Vec<ColdFile> = replica.machine.lock().ledger.subjects().cold_files().copied().collect();
        let tier = Tier { core, replica: &replica, objects: &*objects };
        for file in files {
            let _alone = replica.cold.alone.lock().await;
            if lead.has_ended() {
                break;
            }
            // What has expired since the last look is no flaw.
            let _ = tier.renew_where_due(&lead, &Rule::of(core, &replica.store), &file).await;
            let Some((file, _)) = file_with(&replica, file.first) else { continue };
            let found = match tier.examine(&file).await {
                Ok(()) => Ok(()),
                Err(why) => {
                    // Which object it is, is said beside it.
                    let named = format!("{}: ", tier.name(file.first, &file.object));
                    let why = why.strip_prefix(&named).unwrap_or(&why).to_owned();
                    tier.mended(&lead, &file).await.map_err(|tried| Wrong { why, tried })
                }
            };
            if found.is_ok() {
                // What was missing and is back has nothing against it any more.
                tier.note_led(&lead, file.first, &Ok(()));
            }
            replica.cold.note_flaw(file.first, found);
        }
    }
}

/// What the last look at a replica's files found, of those that have not been made anew since.
pub fn flaws(core: &Core, replica: &PartitionReplica) -> Vec<Flaw> {
    let (log, cluster) = (replica.store.log(), &core.shared.options.cluster);
    let found = replica.cold.flaws();
    let machine = replica.machine.lock();
    let named = |(first, Wrong { why, tried }): (u64, Wrong)| {
        let (file, _) = machine.ledger.subjects().cold_at(first)?;
        let object = object_name(cluster, log, first, &file.object);
        Some(Flaw { log, object, first, last: file.next() - 1, why, tried })
    };
    found.into_iter().filter_map(named).collect()
}

impl Tier<'_> {
    /// Mends a file; an error says why that could not be, and what to do.
    async fn mended(&self, lead: &Lead, file: &ColdFile) -> Result<(), String> {
        match self.mend(lead, file).await.map_err(|why| format!("{why}; ask again"))? {
            true => Ok(()),
            false => Err("its bodies are nowhere else: put the object back from a copy of the store".to_owned()),
        }
    }

    /// Makes a file anew from the bodies that are here, in place of one that is lost or damaged. False where they are not here
    /// any more.
    pub(super) async fn mend(&self, lead: &Lead, file: &ColdFile) -> Result<bool, String> {
        self.reach().await?;
        let is_it = |first, next| (first, next) == (file.first, file.next());
        if self.replica.store.warm_among(is_it).is_empty() {
            return Ok(false);
        }
        let control_rev = self.replica.machine.lock().ledger.control_revision();
        let records = self.own_records(file.first, file.next()).await?;
        self.put(lead, file.first, records, control_rev, Some(file.object)).await?;
        sometimes!(true, "a cold file was made anew from bodies that were still here");
        Ok(true)
    }
}
