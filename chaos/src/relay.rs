//! One link as a pair of sockets: datagrams in at the listening address, out to the target, and the answers back.
//!
//! Each sender gets a session with a socket of its own towards the target, so that the target can tell senders apart
//! and answers find their way. Everything is bounded: sessions, datagrams in flight, their size. What does not fit is
//! dropped and counted, as a network would. Dropping the [`Relay`] ends all of its tasks.
#![allow(clippy::disallowed_methods, reason = "a real network fault needs real sockets and real time")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::plan::{Direction, Fate, Plan};

/// Senders that a relay tells apart; the one that was silent for longest makes room.
pub const SESSIONS_MAX: usize = 64;
/// Datagrams delayed at once in each direction of a session; with full-size QUIC packets about 1.5 MB.
pub const IN_FLIGHT_MAX: usize = 1_024;
/// The largest UDP payload; a larger datagram does not exist.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// An address of another machine, or of every interface of this one.
    #[error("{0} is not a loopback address: a relay only ever disturbs this machine (use 127.0.0.1 or [::1])")]
    NotLoopback(SocketAddr),
    /// Datagrams would go round for ever.
    #[error("{0} is both where to listen and where to send")]
    Circle(SocketAddr),
    /// The port is taken, or there are no more sockets.
    #[error("no socket at {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Datagrams of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Arrived at the relay.
    pub taken: u64,
    /// Sent on.
    pub passed: u64,
    /// Lost by the dice.
    pub lost: u64,
    /// Lost to a cut.
    pub cut: u64,
    /// Dropped because too many were in flight.
    pub overflowed: u64,
}

/// A running link.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    plan: Plan,
    started: Instant,
    listener: UdpSocket,
    target: SocketAddr,
    /// Set by hand, beside the plan's cuts.
    held: watch::Sender<[bool; 2]>,
    counts: watch::Sender<[Counts; 2]>,
}

impl Relay {
    /// Listens at `listen` (port 0 for any) and passes on to `target`. Both must be loopback addresses.
    pub async fn start(listen: SocketAddr, target: SocketAddr, plan: Plan) -> Result<Self, RelayError> {
        for address in [listen, target] {
            if !address.ip().is_loopback() {
                return Err(RelayError::NotLoopback(address));
            }
        }
        if listen == target {
            return Err(RelayError::Circle(listen));
        }
        let at = |source| RelayError::Socket { address: listen, source };
        let listener = UdpSocket::bind(listen).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        let (held, counts) = (watch::Sender::new([false; 2]), watch::Sender::new([Counts::default(); 2]));
        let shared = Arc::new(Shared { plan, started: Instant::now(), listener, target, held, counts });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen_on(shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts one direction until it is healed.
    pub fn cut(&self, direction: Direction) {
        self.shared.held.send_modify(|held| held[direction as usize] = true);
    }

    /// Ends a cut made by hand; the plan's own cuts go on.
    pub fn heal(&self, direction: Direction) {
        self.shared.held.send_modify(|held| held[direction as usize] = false);
    }

    /// What has passed so far, by direction.
    pub fn counts(&self) -> watch::Receiver<[Counts; 2]> {
        self.shared.counts.subscribe()
    }
}

impl Shared {
    fn count(&self, direction: Direction, add: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(|counts| add(&mut counts[direction as usize]));
    }

    fn is_cut(&self, direction: Direction) -> bool {
        self.held.borrow()[direction as usize] || self.plan.is_cut(direction, self.started.elapsed())
    }
}

/// One sender's way through the relay. Dropping it ends its tasks.
struct Session {
    way_in: Way,
    last_used: u64,
    _tasks: JoinSet<()>,
}

/// Takes datagrams from all senders. Ends only with the relay.
async fn listen_on(shared: Arc<Shared>) {
    let mut sessions: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let (mut opened, mut clock) = (0u64, 0u64);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error on this socket tells of an earlier datagram that nobody wanted; the next one may be wanted.
        let Ok((size, sender)) = shared.listener.recv_from(&mut buffer).await else { continue };
        clock += 1;
        if !sessions.contains_key(&sender) {
            let Ok(session) = open(&shared, sender, opened).await else { continue };
            opened += 1;
            make_room(&mut sessions);
            sessions.insert(sender, session);
        }
        if let Some(session) = sessions.get_mut(&sender) {
            session.last_used = clock;
            session.way_in.take(&buffer[..size]);
        }
    }
}

fn make_room(sessions: &mut BTreeMap<SocketAddr, Session>) {
    if sessions.len() < SESSIONS_MAX {
        return;
    }
    let oldest = sessions.iter().min_by_key(|(_, session)| session.last_used).map(|(sender, _)| *sender);
    oldest.and_then(|sender| sessions.remove(&sender));
}

async fn open(shared: &Arc<Shared>, sender: SocketAddr, session: u64) -> io::Result<Session> {
    let any_port = SocketAddr::new(shared.target.ip(), 0);
    let upstream = Arc::new(UdpSocket::bind(any_port).await?);
    upstream.connect(shared.target).await?;
    let mut tasks = JoinSet::new();
    let exit = Exit::Target(upstream.clone());
    let way_in = Way::open(shared, Direction::ToTarget, session, exit, &mut tasks);
    let way_back = Way::open(shared, Direction::FromTarget, session, Exit::Sender(sender), &mut tasks);
    tasks.spawn(answer_from(upstream, way_back));
    Ok(Session { way_in, last_used: 0, _tasks: tasks })
}

/// Takes the target's answers to one sender.
async fn answer_from(upstream: Arc<UdpSocket>, mut way_back: Way) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match upstream.recv(&mut buffer).await {
            Ok(size) => way_back.take(&buffer[..size]),
            // Nobody listens at the target now; a node that is restarted will.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

/// One direction of one session: judges each datagram and hands it to the delay line.
struct Way {
    shared: Arc<Shared>,
    direction: Direction,
    session: u64,
    position: u64,
    line: mpsc::Sender<Parcel>,
}

/// A datagram under way: due when, in which place, what.
type Parcel = (Instant, u64, Vec<u8>);

impl Way {
    fn open(shared: &Arc<Shared>, direction: Direction, session: u64, exit: Exit, tasks: &mut JoinSet<()>) -> Self {
        let (line, parcels) = mpsc::channel(IN_FLIGHT_MAX);
        tasks.spawn(deliver(shared.clone(), direction, parcels, exit));
        Self { shared: shared.clone(), direction, session, position: 0, line }
    }

    fn take(&mut self, datagram: &[u8]) {
        let position = self.position;
        self.position += 1;
        let fate = self.shared.plan.fate(self.direction, self.session, position);
        let is_cut = self.shared.is_cut(self.direction);
        let is_full = match fate {
            Fate::After(delay) if !is_cut => {
                self.line.try_send((Instant::now() + delay, position, datagram.to_vec())).is_err()
            }
            _ => false,
        };
        self.shared.count(self.direction, |counts| {
            counts.taken += 1;
            counts.cut += u64::from(is_cut);
            counts.lost += u64::from(!is_cut && fate == Fate::Lost);
            counts.overflowed += u64::from(is_full);
        });
    }
}

/// Where a direction ends.
enum Exit {
    Target(Arc<UdpSocket>),
    Sender(SocketAddr),
}

/// Holds datagrams until they are due, the earliest first. The heap and the channel in front of it are both bounded.
async fn deliver(shared: Arc<Shared>, direction: Direction, mut parcels: mpsc::Receiver<Parcel>, exit: Exit) {
    let mut waiting: BinaryHeap<Reverse<Parcel>> = BinaryHeap::new();
    loop {
        let due = waiting.peek().map(|Reverse((due, ..))| *due);
        tokio::select! {
            parcel = parcels.recv(), if waiting.len() < IN_FLIGHT_MAX => match parcel {
                Some(parcel) => waiting.push(Reverse(parcel)),
                None => return,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some(Reverse((_, _, datagram))) = waiting.pop() else { continue };
                let sent = match &exit {
                    Exit::Target(upstream) => upstream.send(&datagram).await,
                    Exit::Sender(sender) => shared.listener.send_to(&datagram, sender).await,
                };
                shared.count(direction, |counts| counts.passed += u64::from(sent.is_ok()));
            }
        }
    }
}
