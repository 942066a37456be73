//! Compares the flow counters with those of the sockets, the TCP stacks and the interface.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::network::{accept_all, interface_counts, pair, tcp_info};
use common::{PORT, is_privileged, load};
use fanblade_steer::abi::{FlowCounters, Verdict};
use fanblade_steer::{Steer, SteerError, XdpMode};
use fanblade_testkit::{Namespace, PATIENCE, until};

/// IPv4 and TCP with timestamps, without other options.
const HEADERS_LEN: u64 = 20 + 32;
/// Further options of a SYN: maximum segment size, window scale.
const SYN_OPTIONS_LEN: u64 = 8;
const ETHERNET_LEN: u64 = 14;

/// One connection: its two sockets.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    requested: u64,
    answered: u64,
}

impl Connection {
    /// The flow as the sockets and the TCP stacks see it; `None` while segments are still under way.
    fn expected(&self) -> Option<[u64; 4]> {
        let (client, server) = (tcp_info(&self.client), tcp_info(&self.server));
        // The server's socket is made at the end of the handshake: it counts the SYN, but not the SYN-ACK.
        if (client.segments_in, client.segments_out) != (server.segments_out + 1, server.segments_in) {
            return None;
        }
        assert_eq!(client.bytes_sent - client.bytes_resent, self.requested);
        assert_eq!(server.bytes_sent - server.bytes_resent, self.answered);
        let bytes = |packets: u64, payload: u64| payload + packets * HEADERS_LEN + SYN_OPTIONS_LEN;
        Some([
            client.segments_out,
            bytes(client.segments_out, client.bytes_sent),
            client.segments_in,
            bytes(client.segments_in, server.bytes_sent),
        ])
    }
}

/// Makes a connection for each pair of sizes, and sends so many bytes each way.
fn exchange(blade: &Namespace, client: &Namespace, sizes: &[(u64, u64)]) -> Vec<Connection> {
    let listener = blade.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
    let mut connections = Vec::new();
    for &(request, answer) in sizes {
        let mut client = client.run(|| TcpStream::connect((Ipv4Addr::new(10, 9, 0, 1), PORT)).unwrap());
        let mut server = until("a connection", || accept_all(&listener).pop());
        transfer(&mut client, &mut server, request);
        transfer(&mut server, &mut client, answer);
        connections.push(Connection { client, server, requested: request, answered: answer });
    }
    connections
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, len: u64) {
    let len = usize::try_from(len).unwrap();
    let mut from = from.try_clone().unwrap();
    let sender = thread::spawn(move || from.write_all(&vec![1; len]).unwrap());
    to.read_exact(&mut vec![0; len]).unwrap();
    sender.join().unwrap();
}

fn counts(flow: &FlowCounters) -> [u64; 4] {
    [flow.packets_in, flow.bytes_in, flow.packets_out, flow.bytes_out]
}

/// Waits until every flow agrees with its sockets. Acknowledgements may still be under way for a moment.
fn assert_flows_agree(steer: &Steer, connections: &[Connection]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut differences = Vec::new();
        for connection in connections {
            let address = connection.client.local_addr().unwrap();
            let flow = steer.view().flows().find(|flow| flow.client() == address).expect("every connection is a flow");
            let expected = connection.expected();
            if expected != Some(counts(&flow.counters)) {
                differences.push(format!("{address}: counted {:?}, sockets {expected:?}", counts(&flow.counters)));
            }
        }
        if differences.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "packets and bytes in, packets and bytes out:\n{}", differences.join("\n"));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Has each side received every packet that the other has sent?
fn arrives_whole(connections: &[Connection]) -> bool {
    let deadline = Instant::now() + Duration::from_secs(3);
    while connections.iter().any(|connection| connection.expected().is_none()) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

#[test]
fn flows_agree_with_the_sockets_the_stacks_and_the_interface() {
    if !is_privileged("flows_agree_with_the_sockets_the_stacks_and_the_interface") {
        return;
    }
    let (blade, client) = pair(false);
    let mut steer = load();
    blade.run(|| {
        assert_eq!(steer.attach_ingress("veth0").unwrap(), XdpMode::Native);
        steer.attach_egress("veth0").unwrap();
    });
    let before = client.run(|| interface_counts("veth0"));
    let sizes: Vec<_> = (0..24).map(|n| (n * n * 37 + 1, n * 5000 + 100)).collect();
    let connections = exchange(&blade, &client, &sizes);
    assert_flows_agree(&steer, &connections);

    // All flows together are all that the client's interface has sent and received: nothing was missed or counted
    // twice.
    let after = client.run(|| interface_counts("veth0"));
    let [received, received_bytes, sent, sent_bytes] = std::array::from_fn(|index| after[index] - before[index]);
    let mut total = [0; 4];
    for flow in steer.view().flows() {
        for (sum, count) in total.iter_mut().zip(counts(&flow.counters)) {
            *sum += count;
        }
    }
    // veth counts the bytes of packets that go into an XDP program from the IP header on, and the bytes of packets from
    // the other end from the Ethernet header on.
    let on_the_wire = [sent, sent_bytes, received, received_bytes - received * ETHERNET_LEN];
    assert_eq!(total, on_the_wire, "packets and bytes in, packets and bytes out");
    assert_eq!(steer.view().verdict(Verdict::IngressCounted).unwrap(), sent);
    assert_eq!(steer.view().verdict(Verdict::EgressCounted).unwrap(), received);

    // After the connections' end the flows are still there, and are closed.
    drop(connections);
    until("the end of each flow", || steer.view().flows().all(|flow| flow.counters.is_closed()).then_some(()));
    assert_eq!(steer.view().flows().count(), sizes.len());
}

#[test]
fn large_sends_count_as_the_packets_that_they_become() {
    if !is_privileged("large_sends_count_as_the_packets_that_they_become") {
        return;
    }
    // A busy machine may drop packets of such a burst between the two stacks, and then their counts differ for good.
    for is_last in [false, false, false, false, true] {
        let (blade, client) = pair(true);
        let mut steer = load();
        blade.run(|| {
            assert_eq!(steer.attach_ingress("veth0").unwrap(), XdpMode::Native);
            steer.attach_egress("veth0").unwrap();
        });
        let connections = exchange(&blade, &client, &[(5_000_000, 5_000_000)]);
        if !is_last && !arrives_whole(&connections) {
            continue;
        }
        assert_flows_agree(&steer, &connections);
        let flow = steer.view().flows().next().unwrap().counters;
        let handed_over = steer.view().verdict(Verdict::EgressCounted).unwrap();
        assert!(handed_over < flow.packets_out / 2, "{handed_over}: there was no large send in this test");
        return;
    }
}

#[test]
fn the_loopback_interface_has_the_generic_mode() {
    if !is_privileged("the_loopback_interface_has_the_generic_mode") {
        return;
    }
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut steer = load();
        assert_eq!(steer.attach_ingress("lo").unwrap(), XdpMode::Generic);
        steer.attach_egress("lo").unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        common::network::echo(&mut client, &mut server);
        assert_flows_agree(&steer, &[Connection { client, server, requested: 1, answered: 1 }]);
    });
}

#[test]
fn interfaces_that_cannot_be_had_are_named() {
    if !is_privileged("interfaces_that_cannot_be_had_are_named") {
        return;
    }
    let (blade, client) = pair(true);
    let mut first = load();
    let mut second = load();
    blade.run(|| {
        assert_eq!(first.attach_ingress("veth0").unwrap(), XdpMode::Native);
        let error = second.attach_ingress("veth0").unwrap_err();
        assert!(matches!(error, SteerError::InterfaceTaken { .. }), "{error}");
        assert!(error.to_string().contains("ip link show dev veth0"), "{error}");
        // An interface takes several tcx programs.
        first.attach_egress("veth0").unwrap();
        second.attach_egress("veth0").unwrap();
        let error = second.attach_ingress("veth7").unwrap_err();
        assert!(matches!(error, SteerError::UnknownInterface { .. }), "{error}");
    });
    // When the first is dropped, its place becomes free, as soon as no process that another test is just starting
    // holds a copy of our descriptors.
    drop(first);
    assert_eq!(until("its place", || blade.run(|| second.attach_ingress("veth0")).ok()), XdpMode::Native);

    client.ip(&["tuntap", "add", "tunnel0", "mode", "tun"]);
    client.run(|| {
        let error = second.attach_ingress("tunnel0").unwrap_err();
        assert!(matches!(error, SteerError::NotEthernet { .. }), "{error}");
    });
}
