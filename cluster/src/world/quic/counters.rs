//! What happened on the wire, counted. Everything that is dropped, refused or broken off is counted here.
//!
//! Each count is also a metric `nethical_wire_<name>_total`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// The counters of one wire.
        #[derive(Default)]
        pub struct WireCounters { $($name: AtomicU64,)* }

        /// What the counters stood at.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct WireCounts { $($(#[$doc])* pub $name: u64,)* }

        impl WireCounters {
            $(
                pub(super) fn $name(&self) {
                    self.$name.fetch_add(1, Ordering::Relaxed);
                    metrics::counter!(concat!("nethical_wire_", stringify!($name), "_total")).increment(1);
                }
            )*

            /// Reads all of them.
            pub fn read(&self) -> WireCounts {
                WireCounts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that this node made to a peer.
    dialled;
    /// Dials that brought no connection.
    dials_failed;
    /// Incoming connections in use after their certificate was checked.
    accepted;
    /// Incoming connections refused: bad or missing certificate, no node id in it, or too many at once.
    refused;
    /// Connections closed because of bytes that are not frames of this protocol, in either direction.
    malformed;
    /// Streams of an older connection of a peer that were stopped because a newer one took their lane over.
    superseded;
    /// Answers that could not be sent: too large for a frame, or the service panicked.
    unanswered;
}
