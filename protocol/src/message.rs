//! Frames that clients and nodes exchange: their kinds and the rkyv types of their bodies, frozen per version.
//!
//! Consensus frames belong to the cluster crate; what is here is spoken at the QUIC door and between doors.

use crate::action::Action;
use crate::decision::{ActionOutcome, ItemAnswer, Settlement};
use crate::error::Problem;
use crate::ids::DecisionId;

/// ALPN of the client door.
pub const ALPN_CLIENT: &[u8] = b"nethical/1";
/// ALPN between nodes.
pub const ALPN_PEER: &[u8] = b"nethical-peer/1";

/// Client → node: decide these.
pub const KIND_DECIDE: u16 = 1;
/// Node → client: the answers, in request order.
pub const KIND_DECIDED: u16 = 2;
/// Node → client: the frame itself was refused; the connection may go on where its framing is intact.
pub const KIND_PROBLEM: u16 = 3;
/// Client → node: what became of an action that reserved.
pub const KIND_SETTLE: u16 = 4;
/// Node → client: the reservation's end; a settlement that is refused is a [`KIND_PROBLEM`].
pub const KIND_SETTLED: u16 = 5;

/// Body of [`KIND_DECIDE`]. Between nodes it also names the group and table epoch that the sender routed by.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DecideV1 {
    /// Milliseconds that the sender will wait; the node answers before that.
    pub deadline_ms: u64,
    /// What to decide, at most [`crate::limits::BATCH_ACTIONS_MAX`].
    pub actions: Vec<Action>,
}

/// Body of [`KIND_DECIDED`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DecidedV1 {
    /// One for each action, in request order.
    pub answers: Vec<ItemAnswer>,
}

/// Body of [`KIND_PROBLEM`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ProblemV1 {
    /// What is wrong.
    pub problem: Problem,
}

/// Body of [`KIND_SETTLE`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettleV1 {
    /// Milliseconds that the sender will wait; the node answers before that.
    pub deadline_ms: u64,
    /// The decision that reserved: the reservation's id.
    pub decision: DecisionId,
    /// What was used, or that nothing was.
    pub outcome: ActionOutcome,
}

/// Body of [`KIND_SETTLED`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettledV1 {
    /// The end.
    pub settlement: Settlement,
}

/// What a body is expected to take; vectors grow from here.
const BODY_BYTES_HINT: usize = 4 * 1024;

/// Encodes a body with rkyv.
macro_rules! body_codec {
    ($($name:ident),*) => {$(
        impl $name {
            /// The rkyv bytes of this body.
            pub fn to_bytes(&self) -> Vec<u8> {
                // Into a plain vector: archived types are unaligned, and an aligned one would be copied once more.
                rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, Vec::with_capacity(BODY_BYTES_HINT))
                    .expect("encoding into memory cannot fail")
            }

            /// Reads and checks a body. Bytes that are not one give an error, never a panic.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, rkyv::rancor::Error> {
                rkyv::from_bytes::<Self, rkyv::rancor::Error>(bytes)
            }
        }
    )*};
}

body_codec!(DecideV1, DecidedV1, ProblemV1, SettleV1, SettledV1);
