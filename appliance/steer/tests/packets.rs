//! The packet table, through the parser on the host and through the programs in the kernel. Counters are compared after
//! the whole table, which shows a packet that is counted twice or in the wrong place.

mod common;

use common::frames::{CLIENT, SERVER, table};
use common::{PORT, is_privileged, load};
use fanblade_steer::abi::packet::{self, Bytes, FIN, RST};
use fanblade_steer::abi::{FlowKey, Verdict};
use fanblade_steer::{Hook, Steer};

#[test]
fn the_parser_says_what_the_table_says() {
    for case in table(true) {
        let parsed = packet::parse(case.frame.as_slice());
        assert_eq!(parsed.map(|segment| segment.packet_len), case.expected, "{}", case.name);
    }
}

#[test]
fn no_prefix_and_no_flipped_byte_leads_the_parser_out_of_bounds() {
    /// Panics where a slice would return `None`: the programs must never read beyond the bound that the verifier knows.
    struct Bounded<'a>(&'a [u8]);
    impl Bytes for Bounded<'_> {
        fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
            assert!(offset <= fanblade_steer::abi::limits::HEADERS_LEN_MAX);
            self.0.read(offset)
        }
        fn frame_len(&self) -> u32 {
            self.0.frame_len()
        }
    }
    for case in table(true) {
        for len in 0..case.frame.len().min(200) {
            let _ = packet::parse(&Bounded(&case.frame[..len]));
        }
        for index in 12..case.frame.len().min(150) {
            let mut frame = case.frame.clone();
            for value in 0..=255 {
                frame[index] = value;
                if let Ok(segment) = packet::parse(&Bounded(&frame)) {
                    assert!(segment.headers_len <= segment.packet_len && segment.packet_len as usize <= frame.len());
                }
            }
        }
    }
}

#[test]
fn ingress_passes_everything_and_counts_it_once() {
    if !is_privileged("ingress_passes_everything_and_counts_it_once") {
        return;
    }
    run_table(Hook::Ingress, XDP_PASS);
}

#[test]
fn egress_passes_everything_and_counts_it_once() {
    if !is_privileged("egress_passes_everything_and_counts_it_once") {
        return;
    }
    run_table(Hook::Egress, TC_ACT_UNSPEC);
}

fn run_table(hook: Hook, action: i32) {
    let mut steer = load();
    let mut cases = table(hook == Hook::Ingress);
    if hook == Hook::Egress {
        // The kernel's test run makes a real socket buffer of the frame, and refuses one without a whole IP header.
        cases.retain(|case| !case.name.starts_with("cut off within IPv"));
    }
    let mut expected = [0; Verdict::ALL.len()];
    for case in &cases {
        let run = steer.run(hook, &case.frame, 1).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(run.action, action, "{}", case.name);
        let verdict = if hook == Hook::Ingress { case.ingress_verdict() } else { case.egress_verdict() };
        expected[verdict as usize] += 1;
        assert_eq!(steer.view().verdict(verdict).unwrap(), expected[verdict as usize], "{}", case.name);
    }
    // Each packet has one verdict, and no other counter has moved.
    let counted = steer.view().verdicts().unwrap();
    assert_eq!(counted.map(|(_name, count)| count), expected);
    assert_eq!(
        counted.iter().map(|(_name, count)| count).sum::<u64>(),
        cases.len() as u64,
        "sum of verdicts = packets"
    );

    // Two flows, over IPv4 and IPv6: each has all packets and bytes that the table says are ours.
    let flows: Vec<_> = steer.view().flows().collect();
    assert_eq!(flows.len(), 2, "{flows:?}");
    let is_v6 = |frame: &[u8]| frame.windows(2).any(|pair| pair == [0x86, 0xdd]);
    for flow in &flows {
        let v6 = flow.client().is_ipv6();
        let of_flow = || cases.iter().filter(|case| case.is_ours && is_v6(&case.frame) == v6);
        let bytes: u64 = of_flow().map(|case| u64::from(case.expected.unwrap())).sum();
        let counters = flow.counters;
        let (counted, other) = match hook {
            Hook::Ingress => ((counters.packets_in, counters.bytes_in), (counters.packets_out, counters.bytes_out)),
            Hook::Egress => ((counters.packets_out, counters.bytes_out), (counters.packets_in, counters.bytes_in)),
        };
        assert_eq!(counted, (of_flow().count() as u64, bytes), "{flow:?}");
        assert_eq!(other, (0, 0));
        assert!(counters.last_ns >= counters.first_ns && counters.first_ns > 0);
        if !v6 {
            assert_eq!(counters.flags_in | counters.flags_out, 0x17, "SYN, ACK, FIN, RST were seen");
        }
    }
    let v4 = flows.iter().find(|flow| flow.client().is_ipv4()).unwrap();
    let (client, server) = if hook == Hook::Ingress { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    assert_eq!(v4.client(), (client, 50_000).into(), "the client is the source, whichever way the packet goes");
    assert_eq!(v4.server(), (server, PORT).into());
}

#[test]
fn a_connection_on_the_ports_of_a_closed_one_begins_from_zero() {
    if !is_privileged("a_connection_on_the_ports_of_a_closed_one_begins_from_zero") {
        return;
    }
    let mut steer = load();
    let named = |steer: &mut Steer, name: &str| {
        let frame = table(true).into_iter().find(|case| case.name == name).unwrap().frame;
        steer.run(Hook::Ingress, &frame, 1).unwrap();
    };
    let packets = |steer: &Steer| steer.view().flows().map(|flow| flow.counters.packets_in).collect::<Vec<_>>();
    for name in ["SYN", "SYN", "ACK", "data"] {
        named(&mut steer, name);
    }
    assert_eq!(packets(&steer), [4], "a repeated SYN is not a new connection");
    named(&mut steer, "RST");
    named(&mut steer, "ACK");
    assert_eq!(packets(&steer), [6], "what comes after the end still counts");
    let flow = steer.view().flows().next().unwrap();
    assert!(flow.counters.is_closed() && flow.counters.flags_in & RST != 0 && flow.counters.flags_in & FIN == 0);
    named(&mut steer, "SYN");
    named(&mut steer, "ACK");
    assert_eq!(packets(&steer), [2]);
    let fresh = steer.view().flow(&flow.key).unwrap().unwrap();
    assert!(!fresh.is_closed() && fresh.first_ns > flow.counters.first_ns);
    assert_eq!(steer.view().flow(&FlowKey::default()).unwrap(), None);
}

/// Not a benchmark: prints the times that the documentation quotes, and fails only if a program is absurdly slow.
#[test]
fn a_packet_costs_less_than_ten_microseconds() {
    if !is_privileged("a_packet_costs_less_than_ten_microseconds") {
        return;
    }
    let mut steer = load();
    for hook in [Hook::Ingress, Hook::Egress] {
        for name in ["data", "IPv6", "IPv6 extension headers", "VLAN in VLAN", "UDP to the same port", "other port"] {
            let case = table(hook == Hook::Ingress).into_iter().find(|case| case.name == name).unwrap();
            let run = steer.run(hook, &case.frame, 1_000_000).unwrap();
            println!("{hook:?} {name}: {} ns", run.duration.as_nanos());
            assert!(run.duration.as_micros() < 10);
        }
    }
}

const XDP_PASS: i32 = 2;
const TC_ACT_UNSPEC: i32 = -1;
