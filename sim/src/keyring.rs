//! A machine's keyring file: apart from its data, so that no disk that is lost takes it along, and replaced in one step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use nethical_audit::keys::Keyring;
use nethical_cluster::world::{Clock, KeyringFile, KeyringSeed};
use nethical_protocol::ids::NodeId;

use crate::clock::SimClock;
use crate::dice;
use crate::world::CLUSTER;

/// What writing the file anew takes.
const REPLACED_IN: Duration = Duration::from_millis(8);

/// The file. A clone is the same one.
#[derive(Clone)]
pub struct SimKeyring {
    held: Arc<Mutex<Keyring>>,
    clock: SimClock,
}

impl SimKeyring {
    /// A node's first keys: the zone's are the same on every node, all are different for every seed.
    pub fn new(seed: u64, node: NodeId, clock: SimClock) -> Self {
        let held = Keyring {
            cluster: CLUSTER.to_owned(),
            ring_keys: BTreeMap::from([(1, dice::seed_of(seed, "ring key"))]),
            signing_seed: Some(dice::seed_of(seed, "signing seed")),
            cosigning_seed: Some(dice::seed_of(seed, &format!("cosigning seed of {node}"))),
        };
        Self { held: Arc::new(Mutex::new(held)), clock }
    }

    /// What it holds.
    pub fn read(&self) -> Keyring {
        self.held.lock().clone()
    }
}

impl KeyringFile for SimKeyring {
    fn drop_seed(&self, seed: KeyringSeed) -> BoxFuture<'static, std::io::Result<()>> {
        let file = self.clone();
        async move {
            file.clock.sleep(REPLACED_IN).await;
            let mut held = file.held.lock();
            match seed {
                KeyringSeed::Zone => held.signing_seed = None,
                KeyringSeed::Own => held.cosigning_seed = None,
            }
            Ok(())
        }
        .boxed()
    }
}
