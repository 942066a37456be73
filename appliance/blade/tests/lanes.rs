//! A real connection leaves its socket, is served by the kernel programs, and comes back, while a Linux peer talks to
//! it and notices nothing.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use fanblade_abi::FlowKey;
use fanblade_abi::lane::{Item, Lane, Path, Reason, Record, Sending, checksum};
use fanblade_net::ListenOptions;
use fanblade_net::lanes::handover::{self, Kept, Place};
use fanblade_net::repair::{Taken, restore, take};
use fanblade_steer::lanes::{LaneOptions, Lanes};
use fanblade_testkit::{Namespace, ip, is_root, until, until_up};

const PORT: u16 = 9_001;
const LANE: u32 = 5;
const PATH: u16 = 2;
/// A busy machine may hold packets for longer than the client waits (its timeout is 200 ms here).
const RETRANSMITTED_MAX: u64 = 2;

#[test]
fn a_connection_goes_down_and_up_over_ipv4() {
    down_and_up("10.63.0.1/24", "10.63.0.2/24");
}

#[test]
fn a_connection_goes_down_and_up_over_ipv6() {
    down_and_up("fd63::1/64", "fd63::2/64");
}

fn down_and_up(blade: &str, client: &str) {
    if !is_root("a connection as a lane") {
        return;
    }
    let mut world = match World::new(blade, client) {
        Ok(world) => world,
        Err(error) => return println!("skipped: a connection as a lane: {error}"),
    };
    let (mut server, mut client) = world.connect();
    for round in 0..4_u8 {
        talk(&mut server, &mut client, round);
        let connection_kept = world.lower(server, round);
        world.serve(&mut client, round);
        world.hear(&mut client, round);
        server = world.raise(&mut client, connection_kept, round);
    }
    talk(&mut server, &mut client, 99);
    let resets = || tcp_counter("OutRsts");
    assert_eq!((resets(), world.client_side.run(resets)), (0, 0), "resets");
}

/// Both sides say something, and hear it.
fn talk(server: &mut TcpStream, client: &mut TcpStream, round: u8) {
    client.write_all(&[round; 100]).unwrap();
    assert_eq!(read(server, 100), [round; 100]);
    server.write_all(&[round + 1; 70_000]).unwrap();
    assert_eq!(read(client, 70_000), [round + 1; 70_000]);
}

struct World {
    client_side: Namespace,
    _blade_side: Namespace,
    blade: SocketAddr,
    path: Path,
    lanes: Lanes,
    /// On the client's end of the cable, which takes frames only with a program.
    _peer: Lanes,
    listener: TcpListener,
    flow: FlowKey,
    place: u32,
}

impl World {
    /// The thread enters the blade's namespace.
    fn new(blade: &str, client: &str) -> Result<World, fanblade_steer::SteerError> {
        let blade_side = Namespace::enter_new();
        let client_side = Namespace::new();
        let options = LaneOptions { ports: vec![PORT], lanes_max: 64, ..LaneOptions::default() };
        let mut lanes = Lanes::load(&options)?;
        let mut peer = Lanes::load(&LaneOptions { ports: vec![1], lanes_max: 1, ..LaneOptions::default() })?;
        let (va, vb) = ("02:fa:00:00:00:01", "02:fa:00:00:00:02");
        let netns = client_side.path();
        ip(&["link", "add", "va", "address", va, "type", "veth", "peer", "name", "vb", "address", vb, "netns", &netns]);
        ip(&["link", "add", "spare", "type", "veth", "peer", "name", "other"]);
        let end = |name: &'static str, address: &str| {
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["addr", "add", address, "dev", name], nodad].concat());
            ip(&["link", "set", name, "up"]);
        };
        end("va", blade);
        client_side.run(|| {
            end("vb", client);
            until_up("vb");
            peer.attach_receive("vb").unwrap();
        });
        until_up("va");
        lanes.attach_receive("va")?;
        lanes.attach_guard("va")?;
        lanes.attach_drops()?;
        lanes.keep_ready("spare")?;
        let address: IpAddr = blade.split('/').next().unwrap().parse().unwrap();
        let blade = SocketAddr::new(address, PORT);
        let path = Path {
            blade: handover::bytes(address),
            blade_port: PORT,
            mtu: 1_500,
            // The client's kernel leaves checksums to a card that is not there.
            flags: Path::UNSUMMED | if address.is_ipv6() { Path::IPV6 } else { 0 },
            next_hop: [2, 0xfa, 0, 0, 0, 2],
            interface_mac: [2, 0xfa, 0, 0, 0, 1],
            interface: nix::net::if_::if_nametoindex("va").unwrap(),
            hops: 64,
            ..Path::default()
        };
        lanes.set_path(PATH.into(), &path)?;
        let listener = TcpListener::bind(blade).unwrap();
        let flow = FlowKey::default();
        Ok(World { client_side, _blade_side: blade_side, blade, path, lanes, _peer: peer, listener, flow, place: 0 })
    }

    fn connect(&mut self) -> (TcpStream, TcpStream) {
        let blade = self.blade;
        let client = self.client_side.run(|| TcpStream::connect(blade).unwrap());
        let (server, peer) = self.listener.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        let (src, dst) = (handover::bytes(peer.ip()), self.path.blade);
        self.flow = FlowKey { src, dst, src_port: peer.port(), dst_port: PORT };
        (server, client)
    }

    /// From socket to lane.
    fn lower(&mut self, server: TcpStream, round: u8) -> Kept {
        let sending = Sending {
            client: self.flow.src,
            client_port: self.flow.src_port,
            path: PATH,
            flags: Sending::USED | Sending::HELD,
            generation: round.into(),
            ..Sending::default()
        };
        self.lanes.set_lane(LANE, &Lane { sending, ..Lane::default() }).unwrap();
        // Nobody speaks meanwhile, so that the order does not matter. An engine enters the flow first.
        let connection = until("the connection is quiet", || match take(server.as_fd()).unwrap() {
            Taken::Connection(connection) => Some(connection),
            Taken::Kept(_) => None,
        });
        self.lanes.enter(&self.flow, LANE).unwrap();
        drop(server);
        let place = Place { path: PATH, worker: 0, generation: round.into(), session: 1 };
        let (lane, kept) = handover::lane(&connection, &self.path, place).unwrap();
        self.lanes.set_lane(LANE, &lane).unwrap();
        self.lanes.release(LANE).unwrap();
        if connection.owes_acknowledgement() {
            self.send(&[]);
        }
        kept
    }

    /// Sends one packet, or an acknowledgement only.
    fn send(&mut self, payload: &[u8]) {
        let lane = self.lanes.lane(LANE).unwrap();
        self.lanes.stage(0, payload).unwrap();
        let item = Item {
            lane: LANE,
            seq: lane.sending.snd_nxt,
            len: u16::try_from(payload.len()).unwrap(),
            sum: checksum::fold(checksum::sum(payload)),
            generation: lane.sending.generation,
            ..Item::default()
        };
        self.lanes.set_item(self.place, &item);
        let sent = self.lanes.send(self.path.interface, self.place, 1).unwrap();
        assert_eq!((sent.frames, sent.lost, sent.unknown), (1, 0, 0), "{:?}", self.lanes.item(self.place));
        assert_eq!(self.lanes.item(self.place).outcome, Item::SENT);
        self.place += 1;
    }

    /// The lane's packets arrive at the client, and are acknowledged.
    fn serve(&mut self, client: &mut TcpStream, round: u8) {
        let lens = [1, 7, 512, 1_000, 1_380].into_iter().cycle().take(200);
        let mut sent = Vec::new();
        for (at, len) in (0_u8..).zip(lens) {
            let payload: Vec<u8> = (0..=250).cycle().map(|byte: u8| byte.wrapping_add(at ^ round)).take(len).collect();
            until("room in the window", || {
                let lane = self.lanes.lane(LANE).unwrap();
                let len = u32::try_from(len).unwrap();
                lane.admit(lane.sending.generation, lane.sending.snd_nxt, len).is_ok().then_some(())
            });
            self.send(&payload);
            sent.extend(payload);
        }
        assert!(read(client, sent.len()) == sent, "other bytes");
        self.until_acknowledged();
        assert!(self.lanes.next_record(|record, _| *record).is_none(), "the client has said nothing");
    }

    fn until_acknowledged(&self) {
        until("all is acknowledged", || {
            let lane = self.lanes.lane(LANE).unwrap();
            assert_eq!(lane.receiving.raised, 0, "{lane:?}");
            (lane.receiving.snd_una == lane.sending.snd_nxt).then_some(())
        });
        let lane = self.lanes.lane(LANE).unwrap();
        assert!(lane.receiving.has_ts_recent == 1 && lane.receiving.srtt > 0, "{lane:?}");
    }

    /// Short words of the client come by the ring buffer, and are acknowledged by what the lane sends.
    fn hear(&mut self, client: &mut TcpStream, round: u8) {
        let before = self.client_side.run(|| tcp_counter("RetransSegs"));
        for at in 0..50_u8 {
            client.write_all(&[round ^ at; 30]).unwrap();
            let (record, bytes) = self.next_record();
            assert_eq!((record.kind, record.lane, &bytes[..]), (Record::DATA, LANE, &[round ^ at; 30][..]));
            // By an answer, or by an acknowledgement only.
            let answer = [at; 10];
            self.send(if at % 2 == 0 { &answer } else { &[] });
            if at % 2 == 0 {
                assert_eq!(read(client, 10), [at; 10]);
            }
        }
        self.until_acknowledged();
        // What was not acknowledged would be said again by now.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(self.client_side.run(|| tcp_counter("RetransSegs")), before);
    }

    /// From lane to socket, because the client says more than a lane takes. What it says meanwhile is held, and then
    /// given to the kernel: the client has to say nothing again.
    fn raise(&mut self, client: &mut TcpStream, kept: Kept, round: u8) -> TcpStream {
        let before = self.client_side.run(|| tcp_counter("RetransSegs"));
        client.write_all(&[round ^ 0x55; 5_000]).unwrap();
        let (record, frame) = self.next_record();
        assert_eq!((record.kind, record.reason), (Record::RAISE, Reason::LongData as u8));
        self.lanes.hold(LANE).unwrap();
        let lane = self.lanes.lane(LANE).unwrap();
        let connection = handover::connection(&lane, &self.path, kept);
        let socket = restore(&connection, &[], &ListenOptions::default()).unwrap();
        assert!(self.lanes.leave(&self.flow, LANE).unwrap());
        self.lanes.give_back(record.interface, &frame).unwrap();
        while let Some((record, frame)) = self.lanes.next_record(|record, bytes| (*record, bytes.to_vec())) {
            assert_eq!(record.kind, Record::HELD);
            self.lanes.give_back(record.interface, &frame).unwrap();
        }
        let mut server = TcpStream::from(socket);
        server.set_nonblocking(false).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(read(&mut server, 5_000), [round ^ 0x55; 5_000]);
        let again = self.client_side.run(|| tcp_counter("RetransSegs")) - before;
        assert!(again <= RETRANSMITTED_MAX, "{again} segments were said again");
        server
    }

    fn next_record(&mut self) -> (Record, Vec<u8>) {
        until("a record", || self.lanes.next_record(|record, bytes| (*record, bytes.to_vec())))
    }
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// A counter of TCP of this thread's namespace.
fn tcp_counter(name: &str) -> u64 {
    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|other| other == name).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}
