//! Somebody says how long bodies are kept, and somebody orders that an agent's are kept whatever their age; both hold the nodes
//! to it: what was once expired stays so, and what a hold covers is not erased.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{EntryQuery, Governor, LegalHoldView};
use nethical_cluster::world::Clock;
use nethical_protocol::control::{Placement, TenantSpec};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::retention::{Age, LegalHoldSpec, RetentionSpec};

use super::{SPREAD, Stage, in_force};
use crate::trace::Field;

/// Between two looks at what has expired.
const LOOK_EVERY: Duration = Duration::from_millis(1_500);
/// Looks behind each change.
const LOOKS: usize = 12;
/// Entries in one look.
const LOOKED_AT: usize = 200;

impl Stage {
    /// Sets how long the spread tenant's bodies are kept, and looks at them for a while.
    pub async fn keep(self, routine_s: u64, notable_s: u64, dice: &mut ChaCha12Rng) {
        let (routine, notable) = (Some(Age::seconds(routine_s)), Some(Age::seconds(notable_s)));
        let retention = Some(RetentionSpec { routine, notable, administrative: None });
        let spec = TenantSpec { placement: Placement::Spread, retention, ..TenantSpec::named(SPREAD) };
        let put = self.administer(dice, move |governor| {
            let spec = spec.clone();
            async move { governor.put_tenant(spec).await.and_then(in_force) }
        });
        let put = put.await;
        self.history.ordered(put.is_ok());
        let what = format!("routine {routine_s} s, notable {notable_s} s");
        let words = put.map_or_else(|problem| format!("{what}: {problem}"), |()| what.clone());
        self.fleet.event(None, "keep", &[("what", Field::Text(&words))]);
        for _ in 0..LOOKS {
            self.look_for_expired(dice).await;
            self.fleet.clock().sleep(LOOK_EVERY).await;
        }
    }

    /// Orders that an agent's records are kept, and lifts the order after a while.
    pub async fn legal_hold(self, agent: String, for_ms: u64, dice: &mut ChaCha12Rng) {
        let number = self.history.legally_held(agent.clone(), self.now());
        let spec = LegalHoldSpec {
            tenant: SPREAD.to_owned(),
            agent: agent.clone(),
            // Each order is one of its own.
            reason: format!("file {number}"),
            ..LegalHoldSpec::default()
        };
        let set = self.administer(dice, move |governor| {
            let spec = spec.clone();
            async move { governor.set_legal_hold(spec).await.and_then(is_heard) }
        });
        let set = set.await;
        self.note_legal("legal-hold", &agent, &set);
        let Ok(view) = set else { return };
        self.history.legal_hold_stands(number, self.now());
        self.fleet.clock().sleep(Duration::from_millis(for_ms)).await;
        self.history.legal_hold_lift_called(number, self.now());
        let lifted = self.administer(dice, move |governor| async move {
            governor.lift_legal_hold(view.id, String::new()).await.and_then(is_heard)
        });
        let lifted = lifted.await;
        if lifted.is_ok() {
            self.history.legal_hold_lifted(number, self.now());
        }
        self.note_legal("legal-lift", &agent, &lifted);
    }

    fn note_legal(&self, kind: &'static str, agent: &str, answer: &Result<LegalHoldView, Problem>) {
        self.history.ordered(answer.is_ok());
        let words = answer.as_ref().map_or_else(ToString::to_string, |view| view.id.to_string());
        self.fleet.event(None, kind, &[("what", Field::Text(&format!("{agent} {words}")))]);
    }

    /// Any node is asked; what was expired before must not be shown, unless an order came late for its agent.
    async fn look_for_expired(&self, dice: &mut ChaCha12Rng) {
        let node = self.any_node(dice);
        let Some(living) = self.fleet.node(node) else { return };
        let (tenant, order) = (Some(SPREAD.to_owned()), Some("asc".to_owned()));
        let query = EntryQuery { tenant, order, limit: Some(LOOKED_AT), ..EntryQuery::default() };
        let (before, governor) = (self.history.all_expired(), living.governor.clone());
        let asked = living.scope.spawn(async move { governor.entries(query).await });
        let Ok(Ok(page)) = asked.await else { return };
        for entry in &page.entries {
            let id = entry.decision_id;
            match entry.body_state.as_deref() {
                Some("expired") => self.history.expired(id),
                None if entry.body.is_some() && before.contains(&id) && !self.history.was_ever_held(id) => {
                    let what = format!("node {node} shows {id}, which had expired before");
                    self.fleet.watch().violated("retention", what);
                }
                _ => {}
            }
        }
    }
}

/// An order that some group has not heard of yet is not acknowledged.
fn is_heard(view: LegalHoldView) -> Result<LegalHoldView, Problem> {
    match view.awaiting.as_slice() {
        [] => Ok(view),
        groups => Err(Problem::new(Code::NotReady, format!("groups {groups:?} are awaited"))),
    }
}
