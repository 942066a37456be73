//! What the swarm is to do: whom to connect to and from where, what to say, and how its clients read.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fanblade_wire::client::{KEY, UpgradeRequest, write_frame};
use fanblade_wire::frame::Opcode;

use super::lists::Lists;
use super::random::{below, mixed};
use super::reading::Reading;
use super::template::Template;

/// All that the engines need to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub addr: SocketAddrV4,
    /// None: the connections stay bare TCP.
    pub upgrade: Option<Upgrade>,
    /// Sent once the upgrade has been answered.
    pub subscribe: Vec<(Opcode, Template)>,
    /// Clients.
    pub connections: u32,
    /// The subjects, and who has which.
    pub subjects: Subjects,
    /// Lists of them instead of one for each client.
    pub lists: Option<Lists>,
    /// How the lists change while they are measured.
    pub changes: Option<Changes>,
    /// The addresses to connect from.
    pub sources: Sources,
    /// Connections begun in a second; None: as fast as they are answered.
    pub connect_rate: Option<u32>,
    /// Connections that are being opened at the same time.
    pub in_flight: u16,
    /// How many clients read as they should.
    pub habits: Habits,
    /// What they read.
    pub reading: Reading,
    /// Threads, each with its share of the connections.
    pub threads: u16,
    /// CPUs for the threads, in turn; empty: wherever the system puts them.
    pub cpus: Vec<usize>,
    /// How long the opening may take beyond what the rate demands.
    pub patience: Duration,
}

/// A change takes one subject out of a list and puts another in its place.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Changes per second of all clients together. 0: none by the clock, only when ordered.
    pub per_s: f64,
    /// What a client says to leave a subject, with the subject's number as `id`; and to take another.
    pub leave: Template,
    /// The same for a subject that takes the place.
    pub take: Template,
}

/// The opening handshake of every client.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// The `Host` header.
    pub host: String,
    /// Path and query.
    pub target: Template,
    /// The subprotocol to ask for.
    pub protocol: Option<String>,
}

impl Upgrade {
    /// An upgrade at a server at `addr`, with that address as the host's name.
    pub fn to(addr: SocketAddrV4, target: &str) -> anyhow::Result<Upgrade> {
        let target = target.parse().map_err(anyhow::Error::msg)?;
        Ok(Upgrade { host: addr.to_string(), target, protocol: None })
    }
}

impl Plan {
    /// The plan for clients of one thread who all have the same subject, and subscribe by the address if at all.
    pub fn simple(addr: SocketAddrV4, connections: u32, upgrade: Option<Upgrade>) -> Plan {
        Plan {
            addr,
            upgrade,
            subscribe: Vec::new(),
            connections,
            subjects: Subjects { count: 1, assignment: Assignment::InTurn, seed: 0 },
            lists: None,
            changes: None,
            sources: Sources::usual(addr, connections),
            connect_rate: None,
            in_flight: 256,
            habits: Habits::default(),
            reading: Reading::default(),
            threads: 1,
            cpus: Vec::new(),
            patience: Duration::from_secs(120),
        }
    }

    pub(crate) fn write_upgrade(&self, client: u32, out: &mut Vec<u8>) {
        let Some(upgrade) = &self.upgrade else { return };
        let mut target = Vec::new();
        upgrade.target.write(client, &self.list(client), &mut target);
        let target = String::from_utf8_lossy(&target);
        let protocol = upgrade.protocol.as_deref();
        UpgradeRequest { host: &upgrade.host, target: &target, key: KEY, protocol, token: None }.write(out);
    }

    /// The subjects that a client begins with.
    pub(crate) fn list(&self, client: u32) -> Vec<u32> {
        self.lists.as_ref().map_or_else(|| vec![self.subjects.of(client)], |lists| lists.of(client))
    }

    pub(crate) fn write_subscription(&self, client: u32, out: &mut Vec<u8>) {
        let (list, mut message) = (self.list(client), Vec::new());
        for (opcode, template) in &self.subscribe {
            message.clear();
            template.write(client, &list, &mut message);
            // RFC 6455 section 10.3 demands an unpredictable mask from clients in the wild; this mask is predictable.
            write_frame(out, *opcode, client.to_le_bytes(), &message);
        }
    }
}

/// `ws://HOST[:PORT][/PATH]`, taken apart: address, host for the header, and path.
pub(crate) fn parse_url(url: &str) -> anyhow::Result<(SocketAddrV4, String, String)> {
    let rest = url.strip_prefix("ws://").with_context(|| format!("`{url}`: the address must begin with ws://"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addrs = with_port.to_socket_addrs().with_context(|| format!("`{url}`: cannot look up the host"))?;
    let addr = addrs.into_iter().find_map(|addr| match addr {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    });
    Ok((
        addr.with_context(|| format!("`{url}`: the host has no IPv4 address, and the swarm supports no other"))?,
        host.to_owned(),
        path.to_owned(),
    ))
}

/// Which subject a client has: a function of its number, so that nobody has to remember it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subjects {
    /// How many there are.
    pub count: u32,
    /// How they are assigned.
    pub assignment: Assignment,
    /// Of the random assignment.
    pub seed: u64,
}

/// How subjects are assigned to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignment {
    /// One at random for each client
    Random,
    /// One after the other
    InTurn,
}

impl Subjects {
    /// A client's subject.
    pub fn of(&self, client: u32) -> u32 {
        match self.assignment {
            Assignment::InTurn => client % self.count,
            Assignment::Random => below(mixed(self.seed ^ u64::from(client)), self.count),
        }
    }
}

/// How many of a thousand clients do not read as they should, and how the slow ones read. A client's number decides
/// whether it is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habits {
    /// Of a thousand clients, those that stop reading.
    pub stalled_per_mille: u16,
    /// Those that read slowly.
    pub slow_per_mille: u16,
    /// What each of these reads.
    pub slow_bytes_per_s: u32,
}

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Reads whatever comes at once.
    Reader,
    /// Reads a given number of bytes a second and no more.
    Slow,
    /// Reads nothing once it has subscribed.
    Stalled,
}

impl Habits {
    /// A client's habit.
    pub fn of(&self, client: u32) -> Habit {
        if self.stalled_per_mille == 0 && self.slow_per_mille == 0 {
            return Habit::Reader;
        }
        // Another sequence than the subjects'.
        let at = (mixed(u64::from(client) << 32 | 0x5eed) % 1_000) as u16;
        match at {
            at if at < self.stalled_per_mille => Habit::Stalled,
            at if at < self.stalled_per_mille + self.slow_per_mille => Habit::Slow,
            _ => Habit::Reader,
        }
    }
}

/// Addresses to connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// Any address: the kernel chooses.
    Any,
    /// `count` addresses from `first` on, each for equally many clients.
    Range {
        /// The first address.
        first: Ipv4Addr,
        /// How many.
        count: u32,
    },
}

impl Sources {
    /// The addresses to connect from by default. Loopback has 16 million addresses.
    pub fn usual(addr: SocketAddrV4, connections: u32) -> Sources {
        let count = connections.div_ceil(CONNECTIONS_PER_SOURCE).max(1);
        if addr.ip().is_loopback() { Sources::Range { first: LOOPBACK_FIRST, count } } else { Sources::Any }
    }

    pub(crate) fn of(&self, client: u32) -> Option<Ipv4Addr> {
        match self {
            Sources::Any => None,
            Sources::Range { first, count } => Some(Ipv4Addr::from(u32::from(*first) + client % count)),
        }
    }

    /// Checks whether there are enough ports.
    pub fn check(&self, connections: u32) -> anyhow::Result<()> {
        let addresses = match self {
            Sources::Any => 1,
            Sources::Range { count, .. } => *count,
        };
        let ports = ephemeral_ports()?;
        let most = u64::from(addresses) * u64::from(ports);
        ensure!(
            u64::from(connections) <= most,
            "{connections} connections need more source addresses than {addresses}, with {ports} ephemeral ports each \
             (net.ipv4.ip_local_port_range): name more with --sources"
        );
        Ok(())
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Sources, String> {
        let wrong = || format!("`{text}` is not a range of addresses: write FIRST-LAST");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first: Ipv4Addr = first.parse().map_err(|_| wrong())?;
        let last: Ipv4Addr = last.parse().map_err(|_| wrong())?;
        let count = u32::from(last).checked_sub(u32::from(first)).ok_or_else(wrong)?.saturating_add(1);
        Ok(Sources::Range { first, count })
    }
}

fn ephemeral_ports() -> anyhow::Result<u32> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let mut ports = text.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (ports.next(), ports.next()) else { bail!("{path} says {text:?}") };
    Ok(last.saturating_sub(first) + 1)
}

/// Far fewer than there are ephemeral ports (28,232 by default), so that a free one is found at once.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;
const LOOPBACK_FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let (addr, host, path) = parse_url("ws://127.0.0.1:7400/v1/stream?x=1").unwrap();
        assert_eq!((addr.to_string().as_str(), host.as_str()), ("127.0.0.1:7400", "127.0.0.1:7400"));
        assert_eq!(path, "/v1/stream?x=1");
        assert_eq!(parse_url("ws://127.0.0.1").unwrap().2, "/");
        assert!(parse_url("http://127.0.0.1/").is_err() && parse_url("ws://[::1]:80/").is_err());
    }

    #[test]
    fn subjects_are_spread_evenly_and_stay() {
        let random = Subjects { count: 100, assignment: Assignment::Random, seed: 1 };
        let mut clients = [0; 100];
        (0..100_000).for_each(|client| clients[random.of(client) as usize] += 1);
        assert!(clients.iter().all(|&count| (800..1_200).contains(&count)), "{clients:?}");
        assert_eq!(random.of(77), random.of(77));
        let in_turn = Subjects { assignment: Assignment::InTurn, ..random };
        assert_eq!((in_turn.of(7), in_turn.of(107)), (7, 7));
    }

    #[test]
    fn habits_have_their_shares() {
        let habits = Habits { stalled_per_mille: 10, slow_per_mille: 500, slow_bytes_per_s: 1 };
        let of = |habit| (0..100_000).filter(|&client| habits.of(client) == habit).count();
        assert!((800..1_200).contains(&of(Habit::Stalled)) && (49_000..51_000).contains(&of(Habit::Slow)));
        assert_eq!(Habits::default().of(5), Habit::Reader);
    }

    #[test]
    fn sources_suffice_or_are_refused() {
        let addr = "127.0.0.1:80".parse().unwrap();
        let million = Sources::usual(addr, 1_000_000);
        million.check(1_000_000).unwrap();
        assert_eq!(million.of(125), Some(LOOPBACK_FIRST));
        let few: Sources = "10.0.0.2-10.0.0.3".parse().unwrap();
        assert_eq!(few.of(3), Some(Ipv4Addr::new(10, 0, 0, 3)));
        assert!(few.check(1_000_000).unwrap_err().to_string().contains("--sources"));
        assert_eq!(Sources::usual("10.0.0.1:80".parse().unwrap(), 5).of(1), None);
        assert!("10.0.0.9-10.0.0.2".parse::<Sources>().is_err() && "x".parse::<Sources>().is_err());
    }
}
