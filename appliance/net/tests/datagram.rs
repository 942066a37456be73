//! Datagram sockets over real multicast, in a network namespace of the test's own that ends with its thread.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanblade_net::datagram::{self, Batch, DatagramError, DatagramOptions, DatagramSocket, Membership};
use fanblade_net::limits::{DATAGRAM_BATCH_LEN, DATAGRAM_LEN_MAX};
use fanblade_testkit::{Namespace, PATIENCE, ip, is_root, until_up};
use nix::poll::PollFlags;

const OPTIONS: DatagramOptions = DatagramOptions { receive_buffer_bytes: 1 << 20, busy_poll_us: None };
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 2, 3), 26_477);

/// Runs a test on a thread in a namespace of its own, with `lo` and a veth pair `left`, `right` (10.1.1.1, 10.1.1.2),
/// or says why it cannot.
fn in_namespace(test: impl FnOnce() + Send) {
    if !is_root("a network namespace") {
        return;
    }
    Namespace::new().run(|| {
        // A program that this thread starts is in its namespace. Packets that leave by one end of the pair have a
        // local address when they come in by the other.
        let script = "ip link add left type veth peer name right && \
                      ip addr add 10.1.1.1/24 dev left && ip addr add 10.1.1.2/24 dev right && \
                      for i in all left right; do echo 1 > /proc/sys/net/ipv4/conf/$i/accept_local; \
                      echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done && ip link set left up && ip link set right up";
        assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success());
        ["left", "right"].iter().for_each(|end| until_up(end));
        test();
    });
}

fn membership(group: SocketAddrV4, interface: &str, source: Option<[u8; 4]>) -> Membership {
    Membership { group: group.into(), interface: Some(interface.to_owned()), source: source.map(Into::into) }
}

/// A socket whose packets leave from this address by its interface.
fn sender(address: [u8; 4]) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((address, 0))).unwrap();
    socket2::SockRef::from(&socket).set_multicast_if_v4(&address.into()).unwrap();
    socket
}

/// What comes: so many packets, however long they take, and whatever else comes in a moment.
fn receive(socket: &mut DatagramSocket, batch: &mut Batch, count: usize) -> Vec<(Vec<u8>, SocketAddr, Option<u64>)> {
    let mut packets = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is_waiting = packets.len() < count && Instant::now() < deadline;
        let patience = if is_waiting { PATIENCE } else { Duration::from_millis(50) };
        datagram::wait([(socket.as_fd(), PollFlags::POLLIN)], patience).unwrap();
        let take = |packet: datagram::Datagram<'_>| {
            packets.push((packet.bytes.to_vec(), packet.source, packet.received_ns));
        };
        if socket.receive(batch, take).unwrap() == 0 && !is_waiting {
            return packets;
        }
    }
}

fn payloads(packets: &[(Vec<u8>, SocketAddr, Option<u64>)]) -> Vec<&[u8]> {
    packets.iter().map(|(bytes, ..)| bytes.as_slice()).collect()
}

#[test]
fn only_this_group_on_this_interface_comes_with_its_time_and_sender() {
    in_namespace(|| {
        let mut batch = Batch::new();
        let mut on_right = datagram::join(&membership(GROUP, "right", None), &OPTIONS).unwrap();
        let mut on_lo = datagram::join(&membership(GROUP, "lo", None), &OPTIONS).unwrap();
        assert_eq!(on_right.local_addr(), GROUP.into());
        // Somebody else's membership brings another group of the port to the machine.
        let other = SocketAddrV4::new([239, 1, 2, 4].into(), GROUP.port());
        let _other = datagram::join(&membership(other, "right", None), &OPTIONS).unwrap();
        let (left, lo) = (sender([10, 1, 1, 1]), sender([127, 0, 0, 1]));
        let before_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        left.send_to(b"by left", GROUP).unwrap();
        left.send_to(b"other group", other).unwrap();
        lo.send_to(b"by lo", GROUP).unwrap();
        let packets = receive(&mut on_right, &mut batch, 1);
        assert_eq!(payloads(&packets), [b"by left"]);
        assert_eq!(packets[0].1, left.local_addr().unwrap());
        let age_ns = packets[0].2.unwrap() - before_ns;
        assert!(age_ns < 60_000_000_000, "{age_ns}");
        assert_eq!(payloads(&receive(&mut on_lo, &mut batch, 1)), [b"by lo"]);
        // Two programs may take the same group.
        let mut again = datagram::join(&membership(GROUP, "right", None), &OPTIONS).unwrap();
        left.send_to(b"both", GROUP).unwrap();
        assert_eq!(payloads(&receive(&mut on_right, &mut batch, 1)), [b"both"]);
        assert_eq!(payloads(&receive(&mut again, &mut batch, 1)), [b"both"]);
    });
}

#[test]
fn a_source_keeps_other_senders_out() {
    in_namespace(|| {
        let mut batch = Batch::new();
        let group = SocketAddrV4::new([232, 1, 1, 1].into(), 26_477);
        let mut socket = datagram::join(&membership(group, "right", Some([10, 1, 1, 1])), &OPTIONS).unwrap();
        let right = sender([10, 1, 1, 1]);
        ip(&["addr", "add", "10.1.1.7/24", "dev", "left"]);
        sender([10, 1, 1, 7]).send_to(b"wrong", group).unwrap();
        right.send_to(b"right", group).unwrap();
        assert_eq!(payloads(&receive(&mut socket, &mut batch, 1)), [b"right"]);
    });
}

#[test]
fn groups_of_ipv6_are_joined_as_well() {
    in_namespace(|| {
        let group: SocketAddr = "[ff15::1:2]:26477".parse().unwrap();
        let membership = Membership { group, interface: Some("right".to_owned()), source: None };
        let mut socket = datagram::join(&membership, &OPTIONS).unwrap();
        let add = ["-6", "addr", "add", "fd00::1/64", "dev", "left", "nodad"];
        ip(&add);
        let sender = UdpSocket::bind("[fd00::1]:0").unwrap();
        let left = nix::net::if_::if_nametoindex("left").unwrap();
        socket2::SockRef::from(&sender).set_multicast_if_v6(left).unwrap();
        sender.send_to(b"six", group).unwrap();
        let packets = receive(&mut socket, &mut Batch::new(), 1);
        assert_eq!(payloads(&packets), [b"six"]);
        assert_eq!(packets[0].1, sender.local_addr().unwrap());
    });
}

#[test]
fn what_does_not_fit_is_counted() {
    let mut batch = Batch::new();
    let options = DatagramOptions { receive_buffer_bytes: 64 << 10, ..OPTIONS };
    let mut socket = datagram::unicast("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    assert_eq!(socket.receive_buffer_bytes(), 64 << 10);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| sender.send_to(bytes, socket.local_addr()).unwrap();
    send(&[1; DATAGRAM_LEN_MAX]);
    send(&[2; DATAGRAM_LEN_MAX + 1]);
    send(&[3; 10]);
    let packets = receive(&mut socket, &mut batch, 2);
    assert_eq!(payloads(&packets), [&[1; DATAGRAM_LEN_MAX][..], &[3; 10]]);
    assert_eq!((socket.counters().packets, socket.counters().truncated), (2, 1));

    // Ten times what the buffer holds; the kernel tells with the first packet after the loss.
    let sent = 10 * (64 << 10) / 1_000;
    for _ in 0..sent {
        sender.send_to(&[4; 1_000], socket.local_addr()).unwrap();
    }
    // On a busy machine some of them may still be on their way, and leave no room for the one that tells.
    let (mut kept, mut told) = (0, 0);
    for tells in 1.. {
        kept += receive(&mut socket, &mut batch, 0).len() as u64;
        sender.send_to(b"tell", socket.local_addr()).unwrap();
        let last = receive(&mut socket, &mut batch, 0);
        told += last.iter().filter(|(bytes, ..)| bytes == b"tell").count() as u64;
        kept += last.len() as u64;
        if told > 0 && socket.counters().kernel_drops + kept == sent + tells {
            break;
        }
        assert!(tells < 100, "{kept} kept of {sent}, {} dropped", socket.counters().kernel_drops);
    }
    assert!(kept > DATAGRAM_BATCH_LEN as u64 && kept < sent, "{kept} of {sent}");
}

#[test]
fn requests_and_replies() {
    let mut batch = Batch::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = server.local_addr().unwrap();
    let mut socket = datagram::unicast(datagram::any(peer), &OPTIONS).unwrap();
    socket.send_to(b"request", peer).unwrap();
    let mut bytes = [0; 100];
    let (len, from) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"request");
    server.send_to(b"reply", from).unwrap();
    let packets = receive(&mut socket, &mut batch, 1);
    assert_eq!((payloads(&packets), packets[0].1), (vec![&b"reply"[..]], peer));

    // A server that is gone is silence, not an error.
    drop(server);
    socket.send_to(b"anybody?", peer).unwrap();
    assert_eq!(receive(&mut socket, &mut batch, 0), []);
}

#[test]
fn waiting_ends_with_the_first_packet_or_in_time() {
    let idle = datagram::unicast("127.0.0.1:0".parse().unwrap(), &OPTIONS).unwrap();
    let socket = datagram::unicast("127.0.0.1:0".parse().unwrap(), &OPTIONS).unwrap();
    let begin = Instant::now();
    datagram::wait([&idle, &socket].map(|socket| (socket.as_fd(), PollFlags::POLLIN)), Duration::from_millis(20))
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(20));
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", socket.local_addr()).unwrap();
    datagram::wait([&idle, &socket].map(|socket| (socket.as_fd(), PollFlags::POLLIN)), Duration::from_secs(600))
        .unwrap();
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn mistakes_say_what_to_do() {
    let told = |membership: &Membership| datagram::join(membership, &OPTIONS).expect_err("must fail").to_string();
    let text = told(&membership(GROUP, "nosuch0", None));
    assert!(
        text.starts_with("there is no interface `nosuch0` to take group 239.1.2.3:26477 from; there are: lo"),
        "{text}"
    );
    let text = told(&membership(SocketAddrV4::new([10, 0, 0, 1].into(), 1), "lo", None));
    assert!(text.starts_with("10.0.0.1:1 is not a multicast group"), "{text}");
    let text = told(&membership(GROUP, "lo", Some([239, 0, 0, 1])));
    assert!(text.starts_with("the source of group 239.1.2.3:26477 must be the unicast address"), "{text}");
    // Held by left socket that shares with nobody.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = datagram::unicast(taken.local_addr().unwrap(), &OPTIONS).expect_err("must fail");
    assert!(matches!(error, DatagramError::Bind { .. }), "{error}");
    in_namespace(|| {
        let unrouted = Membership { group: GROUP.into(), interface: None, source: None };
        let text = told(&unrouted);
        assert!(text.contains("name the interface, GROUP:PORT@INTERFACE"), "{text}");
    });
}
