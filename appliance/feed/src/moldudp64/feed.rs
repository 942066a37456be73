//! The feed over multicast: sockets around a [`Receiver`].

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use fanblade_net::datagram::{self, Batch, DatagramError, DatagramOptions, DatagramSocket, Membership};
use fanblade_net::limits::DATAGRAM_BATCH_LEN;
use nix::poll::PollFlags;

use super::clock::{Clock, Running};
use super::snapshots::Snapshots;
use super::{Arrived, Origin, Receiver, ReceiverConfig};
use crate::glimpse::SnapshotConfig;
use crate::{Condition, Event, Feed, FeedCounters, FeedError, Line, Poll, Trouble, UnixNs};

/// What a feed is made from.
#[derive(Debug, Clone)]
pub struct Moldudp64Config {
    /// How packets become messages, with the names of the lines.
    pub receiver: ReceiverConfig,
    /// Where each line comes from.
    pub memberships: Vec<Membership>,
    /// What the kernel may keep of each line while the feed is busy.
    pub receive_buffer_bytes: u32,
    /// SO_BUSY_POLL, microseconds.
    pub busy_poll_us: Option<u32>,
    /// Where a feed gets books that comes late, or has lost messages for good.
    pub snapshots: Option<SnapshotServer>,
    /// Never sleeps: the sequencer's thread takes its CPU for itself.
    pub is_busy: bool,
}

/// The servers that have snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotServer {
    /// The server, and how to log in.
    pub config: SnapshotConfig,
    /// So many attempts are waited for when a session is joined; then it goes on without, and tries again meanwhile.
    pub attempts_max: u32,
}

/// MoldUDP64 by multicast.
#[derive(Debug)]
pub struct Moldudp64Feed {
    receiver: Receiver,
    lines: Vec<Socket>,
    /// Requests leave by it, and replies come back; none without servers. One for each family of addresses.
    requests: Vec<Socket>,
    servers: Vec<SocketAddr>,
    snapshots: Option<Snapshots>,
    batch: Batch,
    clock: Clock,
    condition: Condition,
    receive_buffer_bytes: u32,
    is_busy: bool,
    is_announced: bool,
}

/// A socket, and what has been told of it.
#[derive(Debug)]
struct Socket {
    name: String,
    socket: DatagramSocket,
    drops_told: u64,
    truncated_told: u64,
}

impl Moldudp64Feed {
    /// Joins the groups, and opens the sockets for requests.
    ///
    /// # Errors
    /// An interface that is not there, a group that is none, or what the kernel refuses.
    pub fn open(config: Moldudp64Config) -> Result<Self, DatagramError> {
        let options =
            DatagramOptions { receive_buffer_bytes: config.receive_buffer_bytes, busy_poll_us: config.busy_poll_us };
        let named = |name: &str, socket| Socket { name: name.to_owned(), socket, drops_told: 0, truncated_told: 0 };
        let mut lines = Vec::new();
        for (membership, name) in config.memberships.iter().zip(&config.receiver.lines) {
            lines.push(named(name, datagram::join(membership, &options)?));
        }
        let servers = config.receiver.servers.clone();
        let mut requests: Vec<Socket> = Vec::new();
        for server in &servers {
            if !requests.iter().any(|socket| socket.socket.local_addr().is_ipv4() == server.is_ipv4()) {
                requests.push(named("requests", datagram::unicast(datagram::any(*server), &options)?));
            }
        }
        Ok(Self {
            receiver: Receiver::new(config.receiver),
            lines,
            requests,
            servers,
            snapshots: config
                .snapshots
                .map(|SnapshotServer { config, attempts_max }| Snapshots::new(config, attempts_max, Instant::now())),
            batch: Batch::new(),
            clock: Clock::new(),
            condition: Condition::CatchingUp,
            receive_buffer_bytes: config.receive_buffer_bytes,
            is_busy: config.is_busy,
            is_announced: false,
        })
    }

    /// Says what is not as it was asked for.
    fn announce(&self, sink: &mut dyn FnMut(Event<'_>)) {
        let asked_bytes = self.receive_buffer_bytes;
        for Socket { name, socket, .. } in self.lines.iter().chain(&self.requests) {
            let got_bytes = socket.receive_buffer_bytes();
            if got_bytes < asked_bytes {
                sink(Event::Trouble(Trouble::ReceiveBufferShort { line: name, asked_bytes, got_bytes }));
            }
        }
    }

    /// Takes what has come by the lines and from the servers: true if there may be more.
    fn receive(&mut self, unix_ns: UnixNs, now: Running, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let Self { receiver, lines, requests, servers, batch, .. } = self;
        let mut has_more = false;
        for (index, line) in lines.iter_mut().enumerate() {
            has_more |= line.receive(batch, sink, |packet, sink| {
                let received_ns = packet.received_ns.map_or(unix_ns, UnixNs);
                let origin = Origin::Line(index);
                let arrived = Arrived { origin, source: packet.source, bytes: packet.bytes, received_ns };
                receiver.accept(&arrived, now, sink);
            });
            receiver.set_kernel_drops(index, line.drops_told);
        }
        for socket in requests {
            has_more |= socket.receive(batch, sink, |packet, sink| {
                // Anybody can send to a port. Only servers that were asked are heard.
                let Some(server) = servers.iter().position(|server| *server == packet.source) else {
                    sink(Event::Trouble(Trouble::Stranger { source_address: packet.source }));
                    return;
                };
                let received_ns = packet.received_ns.map_or(unix_ns, UnixNs);
                let origin = Origin::Server(server);
                let arrived = Arrived { origin, source: packet.source, bytes: packet.bytes, received_ns };
                receiver.accept(&arrived, now, sink);
            });
        }
        has_more
    }

    /// Sends the requests that are due.
    fn request(&mut self, now: Running, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some((server, request)) = self.receiver.request(now) {
            let Some(socket) =
                self.requests.iter().find(|socket| socket.socket.local_addr().is_ipv4() == server.is_ipv4())
            else {
                return;
            };
            // A request that was not sent is as good as one that was lost.
            if let Err(error) = socket.socket.send_to(&request.encode(), server) {
                let error = &error.to_string();
                sink(Event::Trouble(Trouble::RequestNotSent { server, error }));
                return;
            }
        }
    }
}

impl Socket {
    /// Receives one batch, and returns whether it was full.
    fn receive(
        &mut self,
        batch: &mut Batch,
        sink: &mut dyn FnMut(Event<'_>),
        mut take: impl FnMut(datagram::Datagram<'_>, &mut dyn FnMut(Event<'_>)),
    ) -> bool {
        let line = self.name.as_str();
        let count = match self.socket.receive(batch, |packet| take(packet, &mut *sink)) {
            Ok(count) => count,
            Err(error) => {
                let error = &error.to_string();
                sink(Event::Trouble(Trouble::LineFailed { line, error }));
                0
            }
        };
        let counters = self.socket.counters();
        let dropped = counters.kernel_drops - std::mem::replace(&mut self.drops_told, counters.kernel_drops);
        if dropped > 0 {
            let receive_buffer_bytes = self.socket.receive_buffer_bytes();
            sink(Event::Trouble(Trouble::KernelDropped { line, dropped, receive_buffer_bytes }));
        }
        let truncated = counters.truncated - std::mem::replace(&mut self.truncated_told, counters.truncated);
        if truncated > 0 {
            sink(Event::Trouble(Trouble::PacketsTooLong { line, packets: truncated }));
        }
        count == DATAGRAM_BATCH_LEN
    }
}

impl Feed for Moldudp64Feed {
    fn name(&self) -> &'static str {
        "moldudp64"
    }

    fn poll(&mut self, unix_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        let instant = Instant::now();
        let (now, step_ms) = self.clock.read(instant, unix_ns);
        if let Some(by_ms) = step_ms {
            sink(Event::Trouble(Trouble::ClockStepped { by_ms }));
        }
        if !std::mem::replace(&mut self.is_announced, true) {
            self.announce(sink);
        }
        let mut has_more = self.receive(unix_ns, now, sink);
        self.receiver.tick(now, sink);
        if let Some(snapshots) = &mut self.snapshots {
            has_more |= snapshots.work(&mut self.receiver, instant, (unix_ns, now), sink);
        }
        self.request(now, sink);
        self.condition = self.receiver.condition(now);
        if has_more || self.is_busy || self.receiver.is_backlogged() {
            return Ok(Poll::Busy);
        }
        let pause_ns = self.receiver.due_ns().map_or(IDLE_NS_MAX, |due_ns| due_ns.since(now));
        let snapshots = self.snapshots.as_ref().filter(|_| self.receiver.wants_snapshot());
        let pause = snapshots.and_then(Snapshots::due).map(|due| due.saturating_duration_since(instant));
        let snapshot_ns = pause.map_or(IDLE_NS_MAX, |pause| u64::try_from(pause.as_nanos()).unwrap_or(IDLE_NS_MAX));
        Ok(Poll::IdleUntil(unix_ns.plus(pause_ns.min(snapshot_ns).min(IDLE_NS_MAX))))
    }

    fn counters(&self) -> FeedCounters {
        self.receiver.counters()
    }

    fn wait(&mut self, timeout: Duration) {
        if self.is_busy {
            return;
        }
        let sockets = self.lines.iter().chain(&self.requests).map(|socket| (socket.socket.as_fd(), PollFlags::POLLIN));
        let snapshot = self.snapshots.as_ref().and_then(Snapshots::interest);
        if datagram::wait(sockets.chain(snapshot), timeout).is_err() {
            // It would return the same again at once.
            std::thread::park_timeout(timeout);
        }
    }

    fn condition(&self) -> Condition {
        self.condition
    }

    fn lines(&self) -> Vec<Line> {
        self.receiver.lines(self.clock.now())
    }
}

/// Silence is noticed this much later at most.
const IDLE_NS_MAX: u64 = 50_000_000;
