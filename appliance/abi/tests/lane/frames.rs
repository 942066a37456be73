//! Packets as another implementation (etherparse) reads and writes them.

use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice, VlanId};
use fanblade_abi::lane::{Lane, Path, Receiving, Sending, Seq, checksum, send};

/// A TCP segment, as both sides of a test see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// TSval and TSecr.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// SACK blocks, at most three.
    pub(crate) sack: Vec<(u32, u32)>,
    pub(crate) payload: Vec<u8>,
}

/// What a connection's packets have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) is_v6: bool,
    pub(crate) vlan: Option<u16>,
}

impl Addresses {
    pub(crate) const PLAIN: Addresses = Addresses { is_v6: false, vlan: None };

    pub(crate) fn path(self) -> Path {
        let flags = if self.is_v6 { Path::IPV6 } else { 0 } | if self.vlan.is_some() { Path::TAGGED } else { 0 };
        Path {
            blade: self.address(BLADE),
            blade_port: BLADE_PORT,
            vlan: self.vlan.unwrap_or_default(),
            mtu: 1_500,
            flags,
            next_hop: NEXT_HOP,
            interface_mac: INTERFACE_MAC,
            interface: 3,
            hops: 64,
            class: 0,
            reserved: [0; 22],
        }
    }

    /// A lane that has just been lowered, with nothing in flight.
    pub(crate) fn lane(self, has_timestamps: bool) -> Lane {
        let (client, blade) = (self.address(CLIENT), self.address(BLADE));
        Lane {
            sending: Sending {
                client,
                client_port: CLIENT_PORT,
                path: 0,
                sum: checksum::sum_of_connection(&client, &blade, CLIENT_PORT, BLADE_PORT),
                mss: 1_448,
                snd_nxt: Seq(1_000),
                acked: Seq(5_000),
                ts_offset: 77,
                in_flight_max: 14_480,
                flags: Sending::USED | if has_timestamps { Sending::TIMESTAMPS } else { 0 },
                worker: 0,
                generation: 9,
                packets: 0,
                bytes: 0,
                session: 1,
            },
            receiving: Receiving {
                snd_una: Seq(1_000),
                rcv_nxt: Seq(5_000),
                window: 64_000,
                window_max: 64_000,
                ts_recent: 400,
                has_ts_recent: 1,
                advertised: 500,
                scale: 7,
                own_scale: 7,
                ..Receiving::default()
            },
        }
    }

    fn address(self, last: u8) -> [u8; 16] {
        let mut address = [0; 16];
        if self.is_v6 {
            address[0] = 0xfd;
        } else {
            address[10..14].copy_from_slice(&[0xff, 0xff, 10, 63]);
        }
        address[15] = last;
        address
    }

    /// The frame of a segment from the client to the blade.
    pub(crate) fn client_frame(self, segment: &Segment) -> Vec<u8> {
        let mut header = TcpHeader::new(CLIENT_PORT, BLADE_PORT, segment.seq.0, segment.window);
        header.acknowledgment_number = segment.ack.0;
        let bit = |at: u8| segment.flags & 1 << at != 0;
        (header.fin, header.syn, header.rst, header.psh) = (bit(0), bit(1), bit(2), bit(3));
        (header.ack, header.urg, header.ece, header.cwr) = (bit(4), bit(5), bit(6), bit(7));
        let mut options = Vec::new();
        if let Some((value, echo)) = segment.timestamps {
            options.extend([TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(value, echo)]);
        }
        if let Some((first, others)) = segment.sack.split_first() {
            let other = |at: usize| others.get(at).copied();
            let blocks = TcpOptionElement::SelectiveAcknowledgement(*first, [other(0), other(1), None]);
            options.extend([TcpOptionElement::Noop, TcpOptionElement::Noop, blocks]);
        }
        let ethernet = PacketBuilder::ethernet2(NEXT_HOP, INTERFACE_MAC);
        let (client, blade) = (self.address(CLIENT), self.address(BLADE));
        let mut frame = Vec::new();
        let last_four = |address: [u8; 16]| *address.last_chunk::<4>().unwrap();
        let tcp = match (self.vlan, self.is_v6) {
            (None, false) => ethernet.ipv4(last_four(client), last_four(blade), 64).tcp_header(header),
            (None, true) => ethernet.ipv6(client, blade, 64).tcp_header(header),
            (Some(vlan), is_v6) => {
                let tagged = ethernet.single_vlan(VlanId::try_new(vlan).unwrap());
                if is_v6 {
                    tagged.ipv6(client, blade, 64).tcp_header(header)
                } else {
                    let ip = etherparse::IpHeaders::Ipv4(
                        etherparse::Ipv4Header::new(
                            0,
                            64,
                            etherparse::IpNumber::TCP,
                            last_four(client),
                            last_four(blade),
                        )
                        .unwrap(),
                        etherparse::Ipv4Extensions::default(),
                    );
                    tagged.ip(ip).tcp_header(header)
                }
            }
        };
        tcp.options(&options).unwrap().write(&mut frame, &segment.payload).unwrap();
        frame
    }

    /// The frame of the lane's next packet, as the sending program makes it, and the acknowledgement that it has.
    pub(crate) fn lane_frame(self, lane: &Lane, payload: &[u8], now_ms: u32) -> (Vec<u8>, Seq) {
        let path = self.path();
        let len = u32::try_from(payload.len()).unwrap();
        let headers_len = send::headers_len(&path, &lane.sending);
        let mut frame = Frame(vec![0xee; headers_len]);
        let sum = checksum::fold(checksum::sum(payload));
        let told = send::headers(&mut frame, lane, &path, len, sum, now_ms);
        frame.0.extend_from_slice(payload);
        assert_eq!(frame.0.len() - self.link_len(), send::packet_len(&path, &lane.sending, len) as usize);
        (frame.0, told)
    }

    fn link_len(self) -> usize {
        14 + if self.vlan.is_some() { 4 } else { 0 }
    }

    /// What the client reads of a frame of the blade. Every field that does not change is compared here.
    pub(crate) fn client_reads(self, frame: &[u8]) -> Segment {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let ethernet = packet.link.as_ref().unwrap().to_header().unwrap();
        let ethernet = ethernet.ethernet2().unwrap();
        assert_eq!((ethernet.destination, ethernet.source), (NEXT_HOP, INTERFACE_MAC));
        assert_eq!(packet.vlan_ids().first().map(|id| id.value()), self.vlan);
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP: {frame:02x?}") };
        let right = if self.is_v6 {
            let ip = packet.net.as_ref().unwrap().ipv6_ref().unwrap().header();
            assert_eq!((ip.source(), ip.destination()), (self.address(BLADE), self.address(CLIENT)));
            tcp.calc_checksum_ipv6(ip.source(), ip.destination()).unwrap()
        } else {
            let ip = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header();
            assert_eq!(ip.source()[..], self.address(BLADE)[12..]);
            assert_eq!(ip.destination()[..], self.address(CLIENT)[12..]);
            assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            assert!(ip.dont_fragment() && ip.identification() == 0);
            tcp.calc_checksum_ipv4(ip.source(), ip.destination()).unwrap()
        };
        assert_eq!(tcp.checksum(), right, "checksum of {frame:02x?}");
        assert_eq!((tcp.source_port(), tcp.destination_port()), (BLADE_PORT, CLIENT_PORT));
        let mut segment = Segment {
            seq: Seq(tcp.sequence_number()),
            ack: Seq(tcp.acknowledgment_number()),
            flags: tcp.slice()[13],
            window: tcp.window_size(),
            payload: tcp.payload().to_vec(),
            ..Segment::default()
        };
        for option in tcp.options_iterator() {
            match option.unwrap() {
                TcpOptionElement::Noop => {}
                TcpOptionElement::Timestamp(value, echo) => segment.timestamps = Some((value, echo)),
                other => panic!("{other:?}"),
            }
        }
        segment
    }
}

struct Frame(Vec<u8>);

impl send::Put for Frame {
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        self.0[offset..offset + N].copy_from_slice(&bytes);
    }
}

const BLADE: u8 = 1;
const CLIENT: u8 = 2;
const BLADE_PORT: u16 = 9_001;
const CLIENT_PORT: u16 = 50_123;
const NEXT_HOP: [u8; 6] = [2, 0xfa, 0, 0, 0, 2];
const INTERFACE_MAC: [u8; 6] = [2, 0xfa, 0, 0, 0, 1];
