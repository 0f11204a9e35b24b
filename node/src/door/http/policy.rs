//! Administration of policy: bundles stored, put in force, rolled back, let go. Bounds what comes in, then asks the governor.

use nethical_protocol::error::{Code, Problem};

use super::admin::{acknowledged, with_ack_status};
use super::call::{Call, Handled};
use super::routes::ok;

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

/// `POST /v1/policies/{digest}/activate`
pub async fn activate(call: Call) -> Handled {
    let digest = digest_from(call.param("digest"))?;
    acknowledged(call.door.governor.activate_policy(digest).await)
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
