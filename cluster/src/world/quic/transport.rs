//! Numbers of the QUIC transport: windows with what they cost, timeouts, resets, close codes.
//!
//! Nothing here depends on what the streams carry.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AsyncUdpSocket, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TransportConfig, VarInt,
};
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use ring::{hkdf, hmac};
use rustls_pki_types::PrivateKeyDer;

use super::runtime::ScopeRuntime;
use crate::world::{Lane, Scope};

/// A connection that hears nothing for this long is dead.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection with nothing to say says so this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Before the first measurement, so that a lost first packet is sent again after 300 ms and not after a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Unread bytes that one stream may have here: one frame of the largest size in flight. 20 MB/s at 200 ms.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Unread bytes that one connection may have here: the four lanes that share one, none able to starve another. With 64
/// peers that all fill it and a node that reads nothing, 1 GiB.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Bytes that wait for acknowledgement or for the network, per connection.
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of the id that a caller makes up for the other side: the most that QUIC allows.
const FIRST_ID_BYTES: usize = 20;
/// Handshakes that wait for the accept loop; further ones are refused by quinn.
const INCOMING_MAX: usize = 128;

/// The node stops.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(0);
/// The certificate names no node, or another one than was dialled.
pub(super) const CLOSE_IDENTITY: VarInt = VarInt::from_u32(1);
/// Bytes that are not frames of this protocol.
pub(super) const CLOSE_MALFORMED: VarInt = VarInt::from_u32(2);
/// A newer connection of the same peer took over.
pub(super) const CLOSE_SUPERSEDED: VarInt = VarInt::from_u32(3);
/// One stream failed, which ends the connection.
pub(super) const CLOSE_STREAM: VarInt = VarInt::from_u32(4);
/// The peer moved or left.
pub(super) const CLOSE_MOVED: VarInt = VarInt::from_u32(5);

/// Closes a connection that is still open. One that has ended keeps the reason for which it did.
pub(super) fn close(connection: &Connection, code: VarInt, why: &str) {
    if connection.close_reason().is_none() {
        connection.close(code, why.as_bytes());
    }
}

/// Windows and timeouts, the same on both sides.
pub(super) fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("three seconds fit a QUIC timeout");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(Lane::ALL.len() as u32))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    Arc::new(transport)
}

/// Which stream goes first where the network is the bottleneck: snapshots wait for everything else.
pub(super) fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Pulse | Lane::Control => 1,
        Lane::Log | Lane::Decide => 0,
        Lane::Bulk => -1,
    }
}

/// The key of stateless resets. Made from the node's private key, so that a restarted node can tell its peers at once
/// that their connections are gone, instead of leaving them to the idle timeout.
pub(super) fn reset_secret(key: &PrivateKeyDer<'_>) -> hmac::Key {
    let own = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&own, b"nethical peer reset 1").as_ref())
}

/// Starts QUIC on the socket. Everything random comes from the scope's dice: ids of connections, keys of tokens, padding.
pub(super) fn endpoint(
    scope: &Scope,
    socket: Arc<dyn AsyncUdpSocket>,
    secret: &hmac::Key,
    mut server: ServerConfig,
    mut client: quinn::ClientConfig,
) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::new(Arc::new(secret.clone()));
    let mut seed = [0; 32];
    scope.fill(&mut seed);
    let dice = scope.clone();
    config.rng_seed(Some(seed)).cid_generator(move || Box::new(Ids(dice.fork_dice())));
    server.transport_config(transport()).max_incoming(INCOMING_MAX).migration(false).token_key(token_key(scope));
    let dice = scope.clone();
    client.transport_config(transport()).initial_dst_cid_provider(Arc::new(move || first_id(&dice)));
    let runtime = Arc::new(ScopeRuntime::new(scope.clone()));
    let mut endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// The key of the tokens by which a caller proves that it receives at its address: good for this start of the node.
fn token_key(scope: &Scope) -> Arc<hkdf::Prk> {
    let mut secret = [0; 64];
    scope.fill(&mut secret);
    Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret))
}

/// What a caller calls the other side by until that names itself.
fn first_id(scope: &Scope) -> ConnectionId {
    let mut id = [0; FIRST_ID_BYTES];
    scope.fill(&mut id);
    ConnectionId::new(&id)
}

/// Connection ids from the scope's dice. Unlike quinn's own they carry no key of this process, so that packets of a
/// connection from before a restart are answered with a reset.
struct Ids(ChaCha12Rng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        self.0.fill_bytes(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
