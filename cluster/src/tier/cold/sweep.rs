//! Looks at what an object store has against what the log says of it: objects that the log does not name go, files that are not
//! there or do not read are told. Nothing is believed of the store, and nothing in the log is changed here.

use std::collections::BTreeMap;

use nethical_audit::body::{away_of, sealed_for};
use nethical_audit::leaf::LeafV1;
use nethical_governance::command::HeaderV1;
use nethical_governance::subject::ColdFile;
use nethical_protocol::sometimes;

use super::{PATIENCE, Tier, Try, folder};
use crate::cold::Body;
use crate::lead::Lead;
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::tier::Rule;
use crate::world::ObjectError;

impl Tier<'_> {
    /// Removes objects of this log that the log does not name: what a leader stored and could not have noted, and what was made
    /// anew. What was listed and is not noted once a later entry of this term is applied, nobody will ever note: a note of this
    /// term stands before that entry, and one of an earlier term before all of this one's. Files that are not listed are told.
    pub(super) async fn collect_garbage(&self, lead: &Lead) {
        let dir = folder(&self.core.shared.options.cluster, self.replica.store.log());
        let Ok(listed) = self.objects.list(&dir).await else { return };
        if self.replica.propose(lead, HeaderV1::Tick, Vec::new(), PATIENCE).await.is_err() {
            return;
        }
        let mut named: BTreeMap<String, ColdFile> = {
            let machine = self.replica.machine.lock();
            let files = machine.ledger.subjects().cold_files();
            files.map(|file| (self.name(file.first, &file.object), *file)).collect()
        };
        for found in listed {
            match named.remove(&found.name) {
                Some(file) if file.bytes != found.bytes => self.tell_lost(&file, "has another length"),
                Some(_) => {}
                None => {
                    tracing::info!(object = found.name, "an object that no log names is removed");
                    sometimes!(true, "an object that no log names was removed");
                    let _ = self.objects.remove(&found.name).await;
                }
            }
        }
        // One that was noted since it was listed is among these, and is there.
        for (name, file) in named {
            if self.objects.get(&name, 0..1).await == Err(ObjectError::Missing) {
                self.tell_lost(&file, "is missing");
            }
        }
    }

    fn tell_lost(&self, file: &ColdFile, what: &str) {
        let (first, last) = (file.first, file.next() - 1);
        let why = format!("the object with the bodies of entries {first} to {last} {what}");
        self.note(Try { first, is_led: true }, &Err(why));
    }
}

/// Reads all cold files of a replica's log and tells what does not fit: files that do not read, bodies in them that nobody may
/// read any more, and bodies that are to be in them and are not.
pub async fn examine(core: &Core, replica: &PartitionReplica) -> Vec<String> {
    let Some(objects) = core.shared.world.objects.clone() else { return Vec::new() };
    let tier = Tier { core, replica, objects: &*objects };
    let files: Vec<ColdFile> = replica.machine.lock().ledger.subjects().cold_files().copied().collect();
    let mut found = Vec::new();
    for file in files {
        if let Err(why) = tier.examine(&file).await {
            found.push(format!("entries {} to {}: {why}", file.first, file.next() - 1));
        }
    }
    found
}

impl Tier<'_> {
    pub(super) async fn examine(&self, file: &ColdFile) -> Result<(), String> {
        let (_, records) = self.fetch(file.first).await?;
        let rule = Rule::of(self.core, &self.replica.store);
        let own = self.replica.store.read(file.first, u64::from(file.leaves)).await;
        let own = own.map_err(|error| error.to_string())?;
        for (record, (leaf, stored)) in records.iter().zip(&own) {
            let of = sealed_for(stored).or_else(|| away_of(stored)?.sealed_for());
            let (Some(of), Ok(leaf)) = (of, LeafV1::decode(leaf)) else { continue };
            let (index, may_read) = (leaf.leaf_index, self.may_read(&rule, &leaf, of));
            match &record.body {
                Body::Clear { .. } if !may_read => return Err(format!("the body of leaf {index} is to be gone")),
                Body::Stored(_) if may_read && away_of(stored).is_some() => {
                    return Err(format!("the body of leaf {index} is nowhere"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
