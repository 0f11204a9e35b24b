//! A file of keys on disk: two slots, each replaced in place and both written by every change.
//!
//! A slot that still remembered a destroyed key would make its destruction a lie. What a file system or a drive keeps of
//! overwritten blocks is out of reach; slots are sealed under the keyring, which rests apart. Nothing in here knows what keys
//! are for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use nethical_audit::keys::slot::{self, Kind};

use crate::world::{Disk, Scope, read_all};

/// Two slots of one kind.
pub struct Slots {
    /// Where.
    pub disk: Arc<dyn Disk>,
    /// The node's dice.
    pub scope: Scope,
    /// Of what.
    pub kind: Kind,
    /// What they are sealed under.
    pub at_rest: [u8; 32],
    /// The folder.
    pub dir: &'static str,
    /// Their names in it.
    pub names: [&'static str; 2],
}

impl Slots {
    /// Whole slots with their sequences, whoever wrote them last.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn read(
        disk: &dyn Disk,
        kind: Kind,
        at_rest: &[u8; 32],
        dir: &str,
        names: [&str; 2],
    ) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let present = disk.list(dir).await?;
        let mut whole = Vec::new();
        for name in names.into_iter().filter(|name| present.iter().any(|there| there == name)) {
            let path = format!("{dir}/{name}");
            disk.open(&path, false).await?.settle().await?;
            whole.extend(slot::open(kind, &read_all(disk, &path).await?, at_rest));
        }
        Ok(whole)
    }

    /// The same, of these slots.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn whole(&self) -> io::Result<Vec<(Vec<u8>, u64)>> {
        Self::read(&*self.disk, self.kind, &self.at_rest, self.dir, self.names).await
    }

    /// Writes both slots. Durable when it returns, and neither remembers what was there before.
    ///
    /// # Errors
    /// Where the disk fails; then either may hold the old or the new contents.
    pub async fn write(&self, sequence: u64, contents: &[u8]) -> io::Result<()> {
        let mut nonce = [0; 12];
        self.scope.fill(&mut nonce);
        let bytes = Bytes::from(slot::seal(self.kind, sequence, &self.at_rest, nonce, contents));
        // The slot that is older by now goes first: whatever a crash leaves, one slot is whole.
        let first = (sequence % 2) as usize;
        for name in [self.names[first], self.names[1 - first]] {
            let file = self.disk.open(&format!("{}/{name}", self.dir), true).await?;
            // Over what was there before it is cut: a cut gives blocks back unwritten.
            let mut over = bytes.to_vec();
            over.resize(bytes.len().max(file.len().await? as usize), 0);
            file.write_and_sync(0, over.into()).await?;
            file.set_len(bytes.len() as u64).await?;
            file.sync().await?;
            self.disk.sync_dir(self.dir).await?;
        }
        Ok(())
    }
}
