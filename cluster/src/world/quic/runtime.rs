//! quinn's own tasks inside the node's scope, so that killing the scope kills the sockets too.
//!
//! Timers and sockets are tokio's. Without this a killed node in a test would go on answering packets.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::world::Scope;

/// tokio's runtime, with tasks owned by a scope.
pub(super) struct ScopeRuntime {
    scope: Scope,
}

impl ScopeRuntime {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

impl fmt::Debug for ScopeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeRuntime")
    }
}

impl Runtime for ScopeRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.scope.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
