//! A passive open: no more than a script needs to get an established connection.
//!
//! It stands for the kernel's socket, from which a lane is lowered as soon as the connection is established.

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use fanblade_abi::lane::segment::Options;
use fanblade_abi::lane::{Header, Lane, Path, Sending, Seq};
use fanblade_abi::packet::{ACK, Segment};
use fanblade_net::lanes::handover::{self, Kept, Place};
use fanblade_net::repair::{Connection, TimestampUnit, Timestamps, WindowScales, Windows};

use crate::connection::GENERATION;
use crate::wire::{BLADE_MAC, CLIENT_MAC, Wire};

/// What a script may set before a client comes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The blade's first sequence number (ISS).
    pub first_number: Seq,
    /// The congestion window that the kernel has when the lane is lowered, in bytes.
    pub in_flight_max: u32,
    /// Added to the clock of milliseconds for TSval.
    pub ts_offset: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        // The numbers wrap within the first bytes of a script, and TSval 20 ms after it has begun (the clock shows
        // 1,000 s then).
        Settings { first_number: Seq(u32::MAX - 1_500), in_flight_max: 14_480, ts_offset: u32::MAX - 1_000_020 }
    }
}

/// A client's SYN has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    settings: Settings,
    syn: Segment,
    client_first: Seq,
    mss: u16,
    scale: Option<u8>,
    has_timestamps: bool,
    has_sack: bool,
    ts_recent: u32,
    syn_window: u16,
    answered_ms: u32,
}

/// The segment size that the blade announces, in bytes.
pub const OWN_MSS: u16 = 1_400;
/// The segment size of a client that announces none, in bytes (RFC 9293, 3.7.1).
const MSS_ABSENT_V4: u16 = 536;
const MSS_ABSENT_V6: u16 = 1_220;
/// The smallest segment size that a client is believed, in bytes (Linux's `TCP_MIN_SND_MSS`).
const MSS_MIN: u16 = 48;
/// The window that the blade advertises, in bytes.
pub const OWN_WINDOW: u16 = 64_000;
/// The shift of the blade's windows, where the client shifts its own.
const OWN_SCALE: u8 = 7;
/// The largest shift (RFC 7323, 2.3).
const SCALE_MAX: u8 = 14;
/// Longest IP packet, in bytes.
const MTU: u16 = 1_500;
/// The timestamps in each segment, in bytes.
const TIMESTAMPS_LEN: u16 = 12;
const HOPS: u8 = 64;
/// An Ethernet header without a tag, and the two addresses that it begins with, in bytes.
const ETHERNET_LEN: usize = 14;
const ADDRESSES_LEN: usize = 12;

impl Handshake {
    /// Reads a SYN, which `parse` has taken apart.
    #[must_use]
    pub fn begin(settings: Settings, frame: &[u8], syn: &Segment, now_ms: u32) -> Option<Handshake> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        let is_ipv6 = !is_mapped(&syn.dst);
        let mut handshake = Handshake {
            settings,
            syn: *syn,
            client_first: Seq(tcp.sequence_number()),
            mss: if is_ipv6 { MSS_ABSENT_V6 } else { MSS_ABSENT_V4 },
            scale: None,
            has_timestamps: false,
            has_sack: false,
            ts_recent: 0,
            syn_window: tcp.window_size(),
            answered_ms: now_ms,
        };
        for option in tcp.options_iterator().flatten() {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) => handshake.mss = mss.max(MSS_MIN),
                TcpOptionElement::WindowScale(scale) => handshake.scale = Some(scale.min(SCALE_MAX)),
                TcpOptionElement::SelectiveAcknowledgementPermitted => handshake.has_sack = true,
                TcpOptionElement::Timestamp(value, _) => {
                    (handshake.has_timestamps, handshake.ts_recent) = (true, value);
                }
                _ => {}
            }
        }
        Some(handshake)
    }

    /// The number of the blade's first byte of data.
    #[must_use]
    pub fn first_byte(&self) -> Seq {
        self.settings.first_number.plus(1)
    }

    /// The client's first number, which its SYN had.
    #[must_use]
    pub fn client_first(&self) -> Seq {
        self.client_first
    }

    /// The frame of the SYN-ACK: the options that the client has, in Linux's order.
    #[must_use]
    pub fn answer(&self, wire: Wire, now_ms: u32) -> Vec<u8> {
        use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, Timestamp, WindowScale};
        let mut options = vec![MaximumSegmentSize(OWN_MSS)];
        match (self.has_timestamps, self.has_sack) {
            (true, true) => options.push(SelectiveAcknowledgementPermitted),
            (true, false) => options.extend([Noop, Noop]),
            (false, true) => options.extend([Noop, Noop, SelectiveAcknowledgementPermitted]),
            (false, false) => {}
        }
        if self.has_timestamps {
            options.push(Timestamp(now_ms.wrapping_add(self.settings.ts_offset), self.ts_recent));
        }
        if self.scale.is_some() {
            options.extend([Noop, WindowScale(OWN_SCALE)]);
        }
        let (blade_port, client_port) = (self.syn.dst_port, self.syn.src_port);
        let mut header = TcpHeader::new(blade_port, client_port, self.settings.first_number.0, OWN_WINDOW);
        (header.syn, header.ack) = (true, true);
        header.acknowledgment_number = self.client_first.plus(1).0;
        let (blade, client) = (self.syn.dst, self.syn.src);
        let ethernet = PacketBuilder::ethernet2(BLADE_MAC, CLIENT_MAC);
        let tcp = if is_mapped(&blade) {
            ethernet.ipv4(last_four(&blade), last_four(&client), HOPS).tcp_header(header)
        } else {
            ethernet.ipv6(blade, client, HOPS).tcp_header(header)
        };
        let mut frame = Vec::new();
        let tcp = tcp.options(&options).expect("the options fit");
        tcp.write(&mut frame, &[]).expect("a vector takes all");
        // The same packet behind the wire's own link header, with its tag.
        let packet = frame.split_off(ETHERNET_LEN);
        frame.truncate(ADDRESSES_LEN);
        frame.extend_from_slice(&wire.enter(&packet)[ADDRESSES_LEN..]);
        frame
    }

    /// The lane, what a socket wants back, and the path, as they are lowered from a socket whose handshake `ack` has
    /// ended. `None`: it does not.
    #[must_use]
    pub fn end(&self, wire: Wire, ack: &Header, now_ms: u32) -> Option<(Lane, Kept, Path)> {
        let first = self.first_byte();
        if ack.flags & ACK == 0 || ack.ack != first || ack.seq != self.client_first.plus(1) {
            return None;
        }
        let path = self.path(wire);
        let place = Place { path: 0, worker: 0, generation: GENERATION, session: 0 };
        let (mut lane, kept) = handover::lane(&self.connection(ack, now_ms), &path, place).ok()?;
        lane.sending.flags &= !Sending::HELD;
        if let Options::Timestamps { value, .. } = ack.options {
            (lane.receiving.ts_recent, lane.receiving.has_ts_recent) = (value, 1);
        }
        Some((lane, kept, path))
    }

    /// What the kernel would tell of its socket.
    fn connection(&self, ack: &Header, now_ms: u32) -> Connection {
        let (client, blade) = (Ipv6Addr::from(self.syn.src), Ipv6Addr::from(self.syn.dst));
        let first = self.first_byte();
        let scales = self.scale.map(|send| WindowScales { send, receive: OWN_SCALE });
        let snd_wnd = u32::from(ack.window) << self.scale.unwrap_or(0);
        let options_len = if self.has_timestamps { TIMESTAMPS_LEN } else { 0 };
        let rtt = now_ms.wrapping_sub(self.answered_ms);
        Connection {
            local: (blade.to_canonical(), self.syn.dst_port).into(),
            peer: (client.to_canonical(), self.syn.src_port).into(),
            snd_una: first,
            snd_nxt: first,
            rcv_nxt: ack.seq,
            windows: Windows {
                snd_wl1: ack.seq,
                snd_wnd,
                max_window: snd_wnd.max(u32::from(self.syn_window)),
                rcv_wnd: u32::from(OWN_WINDOW),
                rcv_wup: ack.seq,
            },
            mss_bytes: self.mss - options_len,
            mss_limit_bytes: self.mss,
            window_scales: scales,
            sack: self.has_sack,
            timestamps: self
                .has_timestamps
                .then_some(Timestamps { offset: self.settings.ts_offset, unit: TimestampUnit::Millisecond }),
            cwnd_bytes: self.settings.in_flight_max,
            smoothed_rtt: Some(Duration::from_millis(rtt.into())),
        }
    }

    fn path(&self, wire: Wire) -> Path {
        Path {
            blade: self.syn.dst,
            blade_port: self.syn.dst_port,
            vlan: wire.vlan.unwrap_or_default(),
            mtu: MTU,
            flags: wire.path_flags(!is_mapped(&self.syn.dst)),
            next_hop: CLIENT_MAC,
            interface_mac: BLADE_MAC,
            hops: HOPS,
            ..Path::default()
        }
    }
}

fn is_mapped(address: &[u8; 16]) -> bool {
    std::net::Ipv6Addr::from(*address).to_ipv4_mapped().is_some()
}

fn last_four(address: &[u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = *address;
    [a, b, c, d]
}
