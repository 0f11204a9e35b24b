//! What a wire stands on: a socket, and the cryptography of its handshakes.
//!
//! A node takes both from the operating system. A simulator brings a socket on a network of its own and cryptography
//! whose randomness follows a seed; it changes neither what is verified nor how. All else that is random, and time, come
//! to the wire through its scope and its clock.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use rustls::crypto::CryptoProvider;

use super::QuicError;

/// What the kernel may keep for the socket, each way (granted up to net.core.rmem_max and wmem_max). The usual 208 KiB lose
/// packets as soon as some hundred calls are under way, and a lost packet costs more than the call.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A bound socket and a provider of cryptography.
pub struct Ground {
    /// Where datagrams leave and arrive.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Ciphers, key exchange and the randomness of handshakes.
    pub provider: Arc<CryptoProvider>,
}

impl Ground {
    /// A socket of the operating system, and ring. Port 0 lets the system choose one ([`super::QuicWire::local_address`]).
    pub fn listen(address: SocketAddr) -> Result<Self, QuicError> {
        let socket = bound(address)
            .and_then(|socket| TokioRuntime.wrap_udp_socket(socket))
            .map_err(|error| QuicError::Listen { address, error })?;
        Ok(Self { socket, provider: Arc::new(rustls::crypto::ring::default_provider()) })
    }
}

fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let handle = socket2::SockRef::from(&socket);
    let larger = handle.set_recv_buffer_size(SOCKET_BUFFER_BYTES).and(handle.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    if let Err(error) = larger {
        tracing::warn!(%error, "the peer socket keeps its small buffers");
    }
    Ok(socket)
}
