//! Two network namespaces with a cable between them, and what the kernel counts in them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fanblade_net::repair::{self, Connection, Obstacle, Taken};
use fanblade_net::{ListenOptions, listen};
use fanblade_testkit::{Namespace, PATIENCE, ip, until, until_up};

/// The blade's address and the client's; the first of each kind.
const V4: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
const V6: [&str; 2] = ["fd00:9::1", "fd00:9::2"];
const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
/// Nobody has it.
const NO_MAC: &str = "02:00:00:00:00:99";
const PORT: u16 = 9001;

/// How long nothing may pass the cable until all that is delayed is over: Linux delays
/// an acknowledgement by up to 200 ms.
const SILENCE: Duration = Duration::from_millis(300);

/// Packets that may seem old: a busy machine may deliver one after its repetition.
const OLD_MAX: u64 = 5;

/// The cable's ends are called `veth0`. It carries only the test's own packets: addresses of one family, no ARP, no
/// neighbour discovery.
pub(crate) struct Cable {
    pub(crate) blade: Namespace,
    pub(crate) client: Namespace,
    addresses: [&'static str; 2],
}

impl Cable {
    /// A cable for IPv4, or for IPv6.
    pub(crate) fn new(is_v4: bool) -> Cable {
        let (blade, client) = (Namespace::new(), Namespace::new());
        let paths = [blade.path(), client.path()];
        let first = ["link", "add", "veth0", "netns", &paths[0], "address", MACS[0]];
        let second = ["type", "veth", "peer", "name", "veth0", "netns", &paths[1], "address", MACS[1]];
        ip(&[&first[..], &second[..]].concat());
        let cable = Cable { blade, client, addresses: if is_v4 { V4 } else { V6 } };
        for end in [&cable.blade, &cable.client] {
            end.ip(&["link", "set", "veth0", "addrgenmode", "none"]);
        }
        // Reports of group memberships do not wait.
        cable.sysctl("ipv6/conf/veth0/mldv2_unsolicited_report_interval", "1");
        for (end, own) in [(&cable.blade, cable.addresses[0]), (&cable.client, cable.addresses[1])] {
            let (prefix, nodad): (_, &[_]) = if is_v4 { (24, &[]) } else { (64, &["nodad"]) };
            end.ip(&[&["addr", "add", &format!("{own}/{prefix}"), "dev", "veth0"], nodad].concat());
            end.ip(&["link", "set", "veth0", "up"]);
        }
        for end in [&cable.blade, &cable.client] {
            end.run(|| until_up("veth0"));
        }
        cable.lose_to_client(false);
        cable.lose_to_blade(false);
        cable.settle();
        cable
    }

    /// Sets a sysctl below `net/` in both namespaces.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        self.client_sysctl(name, value);
        self.blade.run(|| set_sysctl(name, value));
    }

    /// Sets a sysctl of the client.
    pub(crate) fn client_sysctl(&self, name: &str, value: &str) {
        self.client.run(|| set_sysctl(name, value));
    }

    /// Shall packets to the client be lost?
    pub(crate) fn lose_to_client(&self, lose: bool) {
        neighbour(&self.blade, self.addresses[1], if lose { NO_MAC } else { MACS[1] });
    }

    /// Shall packets to the blade be lost?
    pub(crate) fn lose_to_blade(&self, lose: bool) {
        neighbour(&self.client, self.addresses[0], if lose { NO_MAC } else { MACS[0] });
    }

    /// Where the blade listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.addresses[0].parse().unwrap(), PORT)
    }

    /// A listener of the blade that a thread can wait at.
    pub(crate) fn listen(&self, address: SocketAddr, options: &ListenOptions) -> TcpListener {
        let listener = self.blade.run(|| listen(address, options)).unwrap();
        let listener = TcpListener::from(OwnedFd::from(listener));
        listener.set_nonblocking(false).unwrap();
        listener
    }

    /// A connection of the client with a listener of the blade.
    pub(crate) fn connect(&self, listener: &TcpListener) -> Pair {
        let address = self.address();
        let client = self.client.run(|| TcpStream::connect(address)).unwrap();
        Pair::new(listener, client)
    }

    /// Packets that have passed the cable, in both directions.
    pub(crate) fn packets(&self) -> u64 {
        self.blade.run(|| {
            let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let line = table.lines().find_map(|line| line.trim().strip_prefix("veth0:")).unwrap();
            let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
            fields[1] + fields[9]
        })
    }

    /// Waits until nothing passes the cable any more.
    pub(crate) fn settle(&self) {
        until("silence on the cable", || {
            let before = self.packets();
            std::thread::sleep(SILENCE);
            (self.packets() == before).then_some(())
        });
    }

    /// What the kernels of both ends count together under a name of /proc/net/snmp or /proc/net/netstat.
    pub(crate) fn count(&self, name: &str) -> u64 {
        [&self.blade, &self.client].map(|end| end.run(|| count(name))).iter().sum()
    }

    /// Nothing was reset, no packet was strange, and hardly one was taken for an old one.
    #[track_caller]
    pub(crate) fn is_well(&self) {
        for name in ["OutRsts", "InErrs", "TCPChallengeACK", "TCPAbortOnData", "TCPAbortOnTimeout"] {
            assert_eq!(self.count(name), 0, "{name}");
        }
        let old = self.count("PAWSEstab");
        assert!(old <= OLD_MAX, "{old} packets had timestamps that went back");
    }

    /// As [`repair::restore`], in the blade's namespace, for a thread that waits.
    #[track_caller]
    pub(crate) fn restore(&self, connection: &Connection, unacknowledged: &[u8]) -> TcpStream {
        let options = ListenOptions::default();
        waiting(self.blade.run(|| repair::restore(connection, unacknowledged, &options)).unwrap())
    }
}

fn set_sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

fn neighbour(end: &Namespace, address: &str, mac: &str) {
    end.ip(&["neigh", "replace", address, "lladdr", mac, "dev", "veth0", "nud", "permanent"]);
}

/// A counter of this thread's namespace. Each table is a line of names and a line of values.
fn count(name: &str) -> u64 {
    ["snmp", "netstat"]
        .iter()
        .find_map(|file| {
            let table = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
            let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("Tcp")).collect();
            lines.chunks_exact(2).find_map(|pair| {
                let at = pair[0].split(' ').position(|field| field == name)?;
                pair[1].split(' ').nth(at)?.parse().ok()
            })
        })
        .unwrap_or_else(|| panic!("no counter {name}"))
}

/// A stream for a thread that waits, but not for ever.
pub(crate) fn waiting(socket: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Both ends of a connection, and how many bytes each has said. Every connection says bytes of its own.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    /// `None` while nobody has the connection.
    pub(crate) server: Option<TcpStream>,
    down: usize,
    up: usize,
    seed: u16,
}

impl Pair {
    pub(crate) fn new(listener: &TcpListener, client: TcpStream) -> Pair {
        client.set_nodelay(true).unwrap();
        let client = waiting(client.into());
        let server = waiting(listener.accept().unwrap().0.into());
        let seed = client.local_addr().unwrap().port();
        Pair { client, server: Some(server), down: 0, up: 0, seed }
    }

    pub(crate) fn server(&mut self) -> &mut TcpStream {
        self.server.as_mut().unwrap()
    }

    /// The next bytes from the blade to the client, which are sent by somebody.
    pub(crate) fn next_down(&mut self, len: usize) -> Vec<u8> {
        self.down += len;
        pattern(self.seed, self.down - len, len)
    }

    /// The next bytes from the client to the blade.
    pub(crate) fn next_up(&mut self, len: usize) -> Vec<u8> {
        self.up += len;
        pattern(self.seed.wrapping_mul(31), self.up - len, len)
    }

    /// The client reads these bytes, and no others.
    #[track_caller]
    pub(crate) fn client_reads(&mut self, bytes: &[u8]) {
        reads(&mut self.client, bytes);
    }

    /// Each side says something, and the other hears all of it.
    #[track_caller]
    pub(crate) fn talk(&mut self, down: usize, up: usize) {
        let (down, up) = (self.next_down(down), self.next_up(up));
        self.server().write_all(&down).unwrap();
        self.client.write_all(&up).unwrap();
        self.client_reads(&down);
        reads(self.server(), &up);
    }

    /// Takes the connection, which must be quiet, and closes its socket.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Connection {
        let server = self.server.take().unwrap();
        take(&server)
    }

    /// The same once it is quiet: acknowledgements may be under way.
    #[track_caller]
    pub(crate) fn take_when_quiet(&mut self) -> Connection {
        let server = self.server.take().unwrap();
        until("a quiet connection", || match repair::take(server.as_fd()).unwrap() {
            Taken::Connection(connection) => Some(connection),
            Taken::Kept(_) => None,
        })
    }

    /// Why the socket keeps its connection.
    #[track_caller]
    pub(crate) fn obstacle(&mut self) -> Obstacle {
        obstacle(self.server())
    }
}

/// Why a socket keeps its connection.
#[track_caller]
pub(crate) fn obstacle(socket: &impl AsFd) -> Obstacle {
    match repair::take(socket.as_fd()).unwrap() {
        Taken::Kept(obstacle) => obstacle,
        Taken::Connection(connection) => panic!("taken: {connection:?}"),
    }
}

/// Takes a connection that must be quiet.
#[track_caller]
pub(crate) fn take(socket: &TcpStream) -> Connection {
    match repair::take(socket.as_fd()).unwrap() {
        Taken::Connection(connection) => connection,
        Taken::Kept(obstacle) => panic!("not taken: {obstacle}"),
    }
}

#[track_caller]
pub(crate) fn reads(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    let wrong = read.iter().zip(bytes).position(|(read, meant)| read != meant);
    assert_eq!(wrong, None, "the first wrong byte of {}", bytes.len());
}

/// Bytes that differ from those of other connections, and elsewhere.
fn pattern(seed: u16, from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| at.wrapping_mul(at >> 3 | 31).wrapping_add(seed.into()).to_le_bytes())
        .map(|bytes| bytes[0] ^ bytes[1])
        .collect()
}
