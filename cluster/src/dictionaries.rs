//! Dictionaries of bodies as administrators give them and see them; which body is packed with which is decided where it is sealed.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use nethical_protocol::error::Problem;

use crate::api::{DictionaryView, GivenDictionary};
use crate::control::dictionaries::KeptDictionary;
use crate::message::ChangeRulesV1;
use crate::node::Core;
use crate::{legal, rules};

/// Keeps a dictionary, and packs a tenant's bodies with it from now on. The same again changes nothing.
pub async fn give(core: Arc<Core>, tenant: String, bytes: Vec<u8>) -> Result<GivenDictionary, Problem> {
    let digest = hex::encode(Sha256::digest(&bytes));
    let ack = rules::change(&core, ChangeRulesV1::Dictionary(tenant, Some(bytes))).await?;
    // So that a question to this node finds it; it is in force either way.
    let _ = legal::heard(&core, ack.revision).await;
    Ok(GivenDictionary { digest, ack })
}

/// All that the zone keeps, by digest.
pub fn views(core: &Core) -> Vec<DictionaryView> {
    let view = core.shared.view();
    let shown = |(digest, kept, packs): (&[u8; 32], &KeptDictionary, Vec<String>)| DictionaryView {
        digest: hex::encode(digest),
        tenant: kept.tenant.clone(),
        bytes: kept.bytes,
        since: kept.since.0,
        packs,
    };
    view.dictionaries().kept().map(shown).collect()
}
