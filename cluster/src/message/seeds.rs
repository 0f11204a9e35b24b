//! What nodes say to each other of signing seeds. Carries secrets; goes over mutually authenticated streams alone.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_protocol::control::ControlAck;
use nethical_protocol::error::Problem;

/// Node → node: signing seeds ([`SeedsAskV1`] → [`SeedsAnswerV1`]).
pub const KIND_SEEDS: u16 = 95;

message! {
    /// Which key is to be turned.
    enum TurnKeyV1 {
        /// The zone's.
        Zone {
            /// Why.
            reason: String,
            /// How long the old key signs beside the new one, seconds.
            overlap_s: u64,
        },
        /// The one by which a node vouches.
        Node {
            /// The node.
            node: u64,
            /// The public key by which it vouched before.
            before: [u8; 32],
            /// The new one.
            public: [u8; 32],
            /// Why.
            reason: String,
        },
    }

    /// Seeds of the zone's signing key, and of the asked node's own.
    enum SeedsAskV1 {
        /// Hold this seed durably: it is to come into force.
        Put {
            /// Its generation.
            generation: u32,
            /// The control group's term in which it was made.
            term: u64,
            /// The seed.
            seed: [u8; 32],
        },
        /// Give me the seed with this public key.
        Get {
            /// The public key.
            public: [u8; 32],
        },
        /// Which of these do you still hold?
        Held {
            /// Public keys.
            past: Vec<[u8; 32]>,
        },
        /// Whom do you wait for, as control leader?
        Awaited,
        /// Turn the key by which you vouch.
        TurnOwn {
            /// Why.
            reason: String,
        },
    }

    /// The answer.
    enum SeedsAnswerV1 {
        /// It is durable here.
        Kept,
        /// A seed.
        Seed {
            /// Its generation.
            generation: u32,
            /// The term in which it was made.
            term: u64,
            /// The seed.
            seed: [u8; 32],
        },
        /// Those of the ones asked for that are still here.
        Held(Vec<[u8; 32]>),
        /// Nodes.
        Awaited(Vec<u64>),
        /// The key is turned.
        Turned(ControlAck),
        /// It is not here, cannot be kept, or is not turned.
        Problem(Problem),
    }
}
