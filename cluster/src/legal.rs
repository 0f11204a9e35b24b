//! Legal holds and ages as administrators ask for them and see them; what they do is the ledger's business.
//!
//! Reads and answers only: an order becomes a fact by way of [`crate::rules`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nethical_governance::retention::grace_ns;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::ControlRevision;
use nethical_protocol::retention::{LegalHoldSpec, LegalScope};

use crate::api::{LegalHoldView, RetentionView};
use crate::control::legal::{LegalHoldLiftedV1, LegalHoldV1};
use crate::control::view::ControlView;
use crate::message::ChangeRulesV1;
use crate::node::Core;
use crate::{erase, rules};

/// How long an answer waits until this node has heard of what was changed.
const HEARD_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Holds in one answer.
const VIEWS_MAX: usize = 1_000;

/// The order under the tenant's key: names of agents and persons go into no log.
pub(crate) fn hold_of(core: &Core, spec: LegalHoldSpec) -> Result<LegalHoldV1, Problem> {
    spec.check()?;
    let LegalHoldSpec { tenant, agent, person, from_ns, to_ns, reason, by } = spec;
    let view = core.shared.view();
    let keys = &view.tenant(&tenant).ok_or_else(|| core.shared.no_tenant(&tenant))?.keys;
    let scope = match (agent.as_str(), person.as_str()) {
        ("", "") => LegalScope::Tenant,
        (agent, "") => LegalScope::Agent(keys.keyed_id("agent", agent)),
        (_, person) => LegalScope::Person(keys.keyed_id("person", person)),
    };
    Ok(LegalHoldV1 { tenant, scope, from_ns, to_ns, reason, by, at_ns: 0 })
}

/// Sets a legal hold. The same again is answered with the one that stands.
pub async fn set(core: Arc<Core>, spec: LegalHoldSpec) -> Result<LegalHoldView, Problem> {
    let ack = rules::change(&core, ChangeRulesV1::SetLegalHold(spec.clone())).await?;
    let view = heard(&core, ack.revision).await?;
    let asked = hold_of(&core, spec)?;
    let fresh = view.legal_holds().get(&ack.revision).map(|_| ack.revision);
    let same = || {
        let mut standing = view.legal_holds().iter().rev().filter(|(_, (_, end))| end.is_none());
        standing.find(|(_, (hold, _))| hold.is_same(&asked)).map(|(id, _)| *id)
    };
    let gone = || Problem::new(Code::OutcomeUnknown, "the legal hold was set, and lifted meanwhile");
    one(core, fresh.or_else(same).ok_or_else(gone)?).await
}

/// Lifts a legal hold; one that is lifted stays so.
pub async fn lift(core: Arc<Core>, id: u64, by: String) -> Result<LegalHoldView, Problem> {
    let id = ControlRevision(id);
    let ack = rules::change(&core, ChangeRulesV1::LiftLegalHold { id, by }).await?;
    heard(&core, ack.revision).await?;
    one(core, id).await
}

async fn one(core: Arc<Core>, id: ControlRevision) -> Result<LegalHoldView, Problem> {
    let none = || Problem::new(Code::NotFound, format!("there is no legal hold {id}"));
    views(core, Some(id.0), None).await.pop().ok_or_else(none)
}

/// Legal holds, newest first, or one; of all tenants, or of one. Of each the groups that have not heard of it yet: the word of a
/// leader counts and no silence, since time goes on where nobody has heard of a hold.
pub async fn views(core: Arc<Core>, only: Option<u64>, tenant: Option<String>) -> Vec<LegalHoldView> {
    let told: BTreeMap<u32, u64> =
        erase::reports(&core).await.into_iter().map(|report| (report.group, report.control_rev)).collect();
    let groups: Vec<u32> = core.groups().filter(|group| group.is_partition()).map(|group| group.0).collect();
    let awaiting = |revision: ControlRevision| {
        let is_behind = |group: &&u32| told.get(group).is_none_or(|applied| *applied < revision.0);
        groups.iter().filter(is_behind).copied().collect()
    };
    let view = core.shared.view();
    let asked = view.legal_holds().iter().rev().filter(|(id, (hold, _))| {
        only.is_none_or(|only| id.0 == only) && tenant.as_ref().is_none_or(|tenant| hold.tenant == *tenant)
    });
    asked.take(VIEWS_MAX).map(|(id, (hold, end))| view_of(*id, hold, end.as_ref(), awaiting)).collect()
}

/// How long a tenant's bodies are kept, and the legal holds that stand.
pub async fn retention(core: Arc<Core>, tenant: String) -> Result<RetentionView, Problem> {
    let view = core.shared.view();
    let known = view.tenant(&tenant).ok_or_else(|| core.shared.no_tenant(&tenant))?;
    let ages = known.spec.retention.unwrap_or_default().ages();
    let mut legal_holds = views(core, None, Some(tenant.clone())).await;
    legal_holds.retain(|hold| hold.lifted_at_ns.is_none());
    Ok(RetentionView { tenant, ages, dropped_after_s: grace_ns() / 1_000_000_000, legal_holds })
}

/// This node's view, once it has heard of a revision.
pub(crate) async fn heard(core: &Core, revision: ControlRevision) -> Result<Arc<ControlView>, Problem> {
    let clock = &core.shared.world.clock;
    let until = clock.now() + HEARD_PATIENCE;
    loop {
        let view = core.shared.view();
        if view.revision() >= revision {
            return Ok(view);
        }
        if clock.now() >= until {
            let detail = format!("control revision {revision} is on its way to this node; ask for the same again");
            return Err(Problem::new(Code::OutcomeUnknown, detail));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

fn view_of(
    id: ControlRevision,
    hold: &LegalHoldV1,
    end: Option<&(ControlRevision, LegalHoldLiftedV1)>,
    awaiting: impl Fn(ControlRevision) -> Vec<u32>,
) -> LegalHoldView {
    let subject = match hold.scope {
        LegalScope::Tenant => None,
        LegalScope::Agent(id) | LegalScope::Person(id) => Some(id.to_string()),
    };
    LegalHoldView {
        id: id.0,
        tenant: hold.tenant.clone(),
        scope: hold.scope.as_str().to_owned(),
        subject,
        from_ns: (hold.from_ns != 0).then_some(hold.from_ns),
        to_ns: (hold.to_ns != 0).then_some(hold.to_ns),
        reason: hold.reason.clone(),
        set_by: hold.by.clone(),
        set_at_ns: hold.at_ns,
        lifted_by: end.map(|(_, end)| end.by.clone()),
        lifted_at_ns: end.map(|(_, end)| end.at_ns),
        awaiting: awaiting(end.map_or(id, |(lifted, _)| *lifted)),
    }
}
