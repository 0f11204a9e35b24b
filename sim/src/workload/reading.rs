//! Somebody who goes through the oldest entries of the audit trail again and again while things fail, and believes nothing that clients were not told.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{EntryQuery, EntryView, Governor};
use nethical_cluster::world::Clock;

use super::Stage;

/// Between two pages.
const PAUSE: Duration = Duration::from_millis(250);
/// Entries of a page.
const PAGE: usize = 30;
/// Pages until it begins anew.
const PAGES: u32 = 8;

impl Stage {
    /// Reads the oldest entries, again and again, for so long; every page through any node.
    pub async fn read_on(self, for_ms: u64, dice: &mut ChaCha12Rng) {
        let until = self.fleet.clock().now() + Duration::from_millis(for_ms);
        let (mut cursor, mut pages) = (None, 0);
        while self.fleet.clock().now() < until {
            self.fleet.clock().sleep(PAUSE).await;
            let query = EntryQuery {
                order: Some("asc".to_owned()),
                limit: Some(PAGE),
                cursor: cursor.clone(),
                ..EntryQuery::default()
            };
            let node = self.any_node(dice);
            let Some(living) = self.fleet.node(node) else { continue };
            let governor = living.governor.clone();
            let asked = living.scope.spawn(async move { governor.entries(query).await });
            if let Ok(Ok(page)) = asked.await {
                self.hold_against_told(&page.entries);
                pages += 1;
                cursor = (page.more && pages % PAGES > 0).then_some(page.cursor);
            }
        }
    }

    /// A body names the request that it was said in: its client was told of this entry and of no other.
    fn hold_against_told(&self, entries: &[EntryView]) {
        let operations = self.history.operations();
        for entry in entries {
            let Some(request) = entry.decision.as_ref().map(|decision| &decision.request_id) else { continue };
            let told = operations.get(request).and_then(|operation| operation.told.as_ref());
            if let Some(told) = told.filter(|told| told.id != entry.decision_id) {
                let what = format!("{} is shown with what was said in {}", entry.decision_id, told.id);
                self.fleet.watch().violated("search", what);
            }
        }
    }
}
