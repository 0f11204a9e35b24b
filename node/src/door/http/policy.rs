//! Administration of policy: bundles stored, put in force, compared, rolled back, let go. Bounds what comes in, then asks the governor.

use serde::Deserialize;

use nethical_protocol::error::{Code, Problem};

use super::admin::{acknowledged, with_ack_status};
use super::call::{Call, Handled};
use super::routes::ok;

/// Which bundle to evaluate beside the one in force; null for none. It must be named, so that no slip ends a shadow.
#[derive(Deserialize)]
struct ShadowBody {
    #[serde(deserialize_with = "Option::deserialize")]
    digest: Option<String>,
}

/// For how many agents to put a bundle in force. A slip in the name is refused, or it would be in force for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    canary_percent: Option<u8>,
}

/// `GET /v1/policy`
pub async fn active(call: Call) -> Handled {
    ok(call.door.governor.policy().await)
}

/// `PUT /v1/policy`, Cedar text
pub async fn put(call: Call) -> Handled {
    check_text(&call)?;
    acknowledged(call.door.governor.put_policy(call.body).await)
}

/// `POST /v1/policy/rollback`
pub async fn rollback(call: Call) -> Handled {
    acknowledged(call.door.governor.rollback_policy().await)
}

/// `GET /v1/policies`
pub async fn list(call: Call) -> Handled {
    ok(call.door.governor.policies().await)
}

/// `POST /v1/policies`, Cedar text
pub async fn store(call: Call) -> Handled {
    check_text(&call)?;
    let stored = call.door.governor.store_policy(call.body).await?;
    with_ack_status(&stored, &stored.ack)
}

/// `GET /v1/policies/{digest}`
pub async fn kept(call: Call) -> Handled {
    let digest = digest_from(call.param("digest"))?;
    ok(call.door.governor.kept_policy(digest).await)
}

/// `DELETE /v1/policies/{digest}`
pub async fn remove(call: Call) -> Handled {
    let digest = digest_from(call.param("digest"))?;
    acknowledged(call.door.governor.remove_policy(digest).await)
}

/// `POST /v1/policies/{digest}/activate?canary_percent=`
pub async fn activate(call: Call) -> Handled {
    let digest = digest_from(call.param("digest"))?;
    let Share { canary_percent } = call.query()?;
    acknowledged(match canary_percent {
        None => call.door.governor.activate_policy(digest).await,
        Some(percent) => call.door.governor.canary_policy(digest, percent).await,
    })
}

/// `PUT /v1/policy/shadow`
pub async fn shadow(call: Call) -> Handled {
    let ShadowBody { digest } = call.json()?;
    let digest = digest.as_deref().map(digest_from).transpose()?;
    acknowledged(call.door.governor.shadow_policy(digest).await)
}

/// `POST /v1/policy/replay?from_ns=&to_ns=&cursor=`, Cedar text
pub async fn replay(call: Call) -> Handled {
    check_text(&call)?;
    let query = call.query()?;
    ok(call.door.governor.replay_policy(query, call.body).await)
}

fn check_text(call: &Call) -> Result<(), Problem> {
    match call.body.trim().is_empty() {
        true => Err(Problem::new(Code::InvalidPolicy, "the body holds no policy")),
        false => Ok(()),
    }
}

fn digest_from(text: &str) -> Result<[u8; 32], Problem> {
    let read = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    read.ok_or_else(|| Problem::new(Code::MalformedRequest, "digest is a SHA-256 of 64 hex digits"))
}
