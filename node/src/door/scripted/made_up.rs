//! Answers that the doors' tests get, with nothing in them that matters.

use nethical_cluster::api::{ErasureView, LegalHoldView};
use nethical_protocol::control::EraseSpec;

pub(super) fn erasure(id: u64, spec: EraseSpec) -> ErasureView {
    ErasureView {
        id,
        tenant: spec.tenant,
        kind: "agent".into(),
        subject: String::new(),
        reason: spec.reason,
        at_ns: 0,
        state: "erasing".into(),
        awaiting: Vec::new(),
    }
}

pub(super) fn legal_hold(id: u64, tenant: String, awaiting: Vec<u32>) -> LegalHoldView {
    LegalHoldView {
        id,
        tenant,
        scope: "tenant".into(),
        subject: None,
        from_ns: None,
        to_ns: None,
        reason: String::new(),
        set_by: String::new(),
        set_at_ns: 0,
        lifted_by: None,
        lifted_at_ns: None,
        awaiting,
    }
}
