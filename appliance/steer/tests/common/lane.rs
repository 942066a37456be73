//! A lane and its client's packets, on the host and in the maps.

use fanblade_steer::abi::FlowKey;
use fanblade_steer::abi::lane::receive::DATA_LEN_MAX;
use fanblade_steer::abi::lane::record::FRAME_LEN_MAX;
use fanblade_steer::abi::lane::segment::is_sum_right;
use fanblade_steer::abi::lane::{
    Drop, Header, Lane, LaneVerdict, Outcome, Path, Receiving, Record, Sending, Seq, checksum, send,
};
use fanblade_steer::abi::packet::{self, Other};
use fanblade_steer::lanes::{LaneOptions, Lanes};

use super::PORT;

pub const XDP_DROP: i32 = 1;
pub const XDP_PASS: i32 = 2;
pub const XDP_REDIRECT: i32 = 4;
pub const CLIENT_PORT: u16 = 50_123;
pub const INTERFACE: u32 = 3;
/// The clock of the programs in these tests.
pub const NOW_NS: u64 = 987_654_321_234_567;
pub const NOW_MS: u32 = 987_654_321;

/// What a lane's packets look like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub is_v6: bool,
    pub vlan: Option<u16>,
    pub has_timestamps: bool,
}

impl Kind {
    pub const PLAIN: Kind = Kind { is_v6: false, vlan: None, has_timestamps: true };

    pub fn all() -> impl Iterator<Item = Kind> {
        (0..8).map(|number| Kind {
            is_v6: number & 1 != 0,
            vlan: (number & 2 != 0).then_some(7),
            has_timestamps: number & 4 != 0,
        })
    }

    pub fn path(self) -> Path {
        let flags = if self.is_v6 { Path::IPV6 } else { 0 } | if self.vlan.is_some() { Path::TAGGED } else { 0 };
        Path {
            blade: self.address(1),
            blade_port: PORT,
            vlan: self.vlan.unwrap_or_default(),
            mtu: 1_500,
            flags,
            next_hop: [2, 0xfa, 0, 0, 0, 2],
            interface_mac: [2, 0xfa, 0, 0, 0, 1],
            interface: INTERFACE,
            hops: 64,
            class: 8,
            reserved: [0; 22],
        }
    }

    /// A lane with 300 bytes in flight.
    pub fn lane(self) -> Lane {
        let (client, blade) = (self.address(2), self.address(1));
        Lane {
            sending: Sending {
                client,
                client_port: CLIENT_PORT,
                path: 0,
                sum: checksum::sum_of_connection(&client, &blade, CLIENT_PORT, PORT),
                mss: 1_448,
                snd_nxt: Seq(1_300),
                acked: Seq(5_000),
                ts_offset: 77,
                in_flight_max: 14_480,
                flags: Sending::USED | if self.has_timestamps { Sending::TIMESTAMPS } else { 0 },
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
                has_ts_recent: u8::from(self.has_timestamps),
                advertised: 500,
                scale: 7,
                own_scale: 7,
                ..Receiving::default()
            },
        }
    }

    pub fn flow(self) -> FlowKey {
        FlowKey { src: self.address(2), dst: self.address(1), src_port: CLIENT_PORT, dst_port: PORT }
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

    /// The frame of a segment from the client.
    pub fn client_frame(self, segment: &Segment) -> Vec<u8> {
        self.frame((2, CLIENT_PORT), (1, PORT), segment)
    }

    /// The frame of a segment to the client, as the kernel's TCP would send it.
    pub fn kernel_frame(self, segment: &Segment) -> Vec<u8> {
        self.frame((1, PORT), (2, CLIENT_PORT), segment)
    }

    fn frame(self, from: (u8, u16), to: (u8, u16), segment: &Segment) -> Vec<u8> {
        let mut tcp = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        tcp.extend([segment.seq.to_be_bytes(), segment.ack.to_be_bytes()].concat());
        let header_len = u8::try_from(20 + segment.options.len()).unwrap();
        tcp.extend([header_len << 2 | segment.reserved, segment.flags]);
        tcp.extend(segment.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&segment.options);
        tcp.extend(&segment.payload);
        let (src, dst) = (self.address(from.0), self.address(to.0));
        let len = u16::try_from(tcp.len()).unwrap();
        let pseudo = checksum::sum(&src) + checksum::sum(&dst) + u64::from(6_u16.to_be()) + u64::from(len.to_be());
        let sum = !checksum::fold(pseudo + checksum::sum(&tcp));
        tcp[16..18].copy_from_slice(&sum.to_ne_bytes());

        let mut frame = vec![2, 0xfa, 0, 0, 0, 1, 2, 0xfa, 0, 0, 0, 2];
        if let Some(vlan) = self.vlan {
            frame.extend([[0x81, 0], vlan.to_be_bytes()].concat());
        }
        if self.is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(src);
            frame.extend(dst);
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + len).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(&src[12..]);
            frame.extend(&dst[12..]);
        }
        frame.extend(tcp);
        frame
    }
}

/// A segment of the client.
#[derive(Clone, Debug)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// The reserved bits beside the header's length.
    pub reserved: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    /// The acknowledgement of half of what is in flight.
    pub fn of(kind: Kind) -> Segment {
        let options = if kind.has_timestamps { timestamps(500, NOW_MS.wrapping_add(77 - 30)) } else { Vec::new() };
        Segment { seq: 5_000, ack: 1_150, flags: packet::ACK, reserved: 0, window: 499, options, payload: Vec::new() }
    }
}

/// NOP, NOP, timestamps.
pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [[1, 1, 8, 10], value.to_be_bytes(), echo.to_be_bytes()].concat()
}

/// The lane's packet, and the acknowledgement that it has.
pub fn lane_frame(lane: &Lane, path: &Path, payload: &[u8], now_ms: u32) -> (Vec<u8>, Seq) {
    struct Frame(Vec<u8>);
    impl send::Put for Frame {
        fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
            self.0[offset..offset + N].copy_from_slice(&bytes);
        }
    }
    let mut frame = Frame(vec![0xee; send::headers_len(path, &lane.sending)]);
    let sum = checksum::fold(checksum::sum(payload));
    let told = send::headers(&mut frame, lane, path, u32::try_from(payload.len()).unwrap(), sum, now_ms);
    frame.0.extend(payload);
    (frame.0, told)
}

/// What the receiving program should do with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub verdict: LaneVerdict,
    pub record: Option<(Record, Vec<u8>)>,
}

/// Takes a frame for the lane of this index, as the program should. The ring buffer has room.
pub fn host_takes(lane: &mut Lane, index: u32, path: &Path, frame: &[u8]) -> Expected {
    let only = |verdict| Expected { verdict, record: None };
    let segment = match packet::parse(frame) {
        Ok(segment) => segment,
        Err(other) => return only(of_other(other)),
    };
    lane.receiving.packets += 1;
    lane.receiving.bytes += u64::from(segment.packet_len);
    let generation = lane.sending.generation;
    let told = |verdict, kind, reason, bytes: &[u8]| {
        let len = u32::try_from(bytes.len()).unwrap();
        let record = Record { lane: index, generation, kind, reason, len, interface: LOOPBACK };
        Expected { verdict, record: Some((record, bytes.to_vec())) }
    };
    if lane.sending.has(Sending::HELD) || lane.receiving.raised != 0 {
        if frame.len() > FRAME_LEN_MAX as usize {
            return only(LaneVerdict::ReceiveHeldLost);
        }
        return told(LaneVerdict::ReceiveHeld, Record::HELD, 0, frame);
    }
    let header = Header::read(frame, &segment).unwrap();
    let tcp = &frame[segment.tcp_at as usize..][..segment.tcp_len() as usize];
    let field = u16::from_ne_bytes([tcp[16], tcp[17]]);
    let is_right = is_sum_right(&segment, checksum::sum(tcp), field, path.has(Path::UNSUMMED));
    if header.payload_len <= DATA_LEN_MAX && !is_right {
        return only(LaneVerdict::ReceiveBadSum);
    }
    match lane.receive(&header, NOW_MS, NOW_NS) {
        Outcome::Taken => only(LaneVerdict::ReceiveTaken),
        Outcome::Data { len } => {
            let payload = &frame[segment.payload_at as usize..][..len as usize];
            let expected = told(LaneVerdict::ReceiveData, Record::DATA, 0, payload);
            lane.receiving.received(len);
            expected
        }
        Outcome::Answer => told(LaneVerdict::ReceiveAnswer, Record::ANSWER, 0, &[]),
        Outcome::Drop(Drop::ResetOutside) => only(LaneVerdict::ReceiveResetOutside),
        Outcome::Drop(Drop::TooOld) => told(LaneVerdict::ReceiveTooOld, Record::ANSWER, 0, &[]),
        Outcome::Drop(Drop::NoAck) => only(LaneVerdict::ReceiveNoAck),
        Outcome::Raise(reason) => {
            let bytes = if frame.len() > FRAME_LEN_MAX as usize { &[] } else { frame };
            told(LaneVerdict::ReceiveRaised, Record::RAISE, reason as u8, bytes)
        }
    }
}

pub fn of_other(other: Other) -> LaneVerdict {
    match other {
        Other::NotIp => LaneVerdict::ReceiveNotIp,
        Other::NotTcp => LaneVerdict::ReceiveNotTcp,
        Other::Fragment => LaneVerdict::ReceiveFragment,
        Other::Runt => LaneVerdict::ReceiveRunt,
        Other::Malformed => LaneVerdict::ReceiveMalformed,
        Other::TooDeep => LaneVerdict::ReceiveTooDeep,
    }
}

/// Loads the programs, with the tests' clock.
pub fn load() -> Lanes {
    let options = LaneOptions { ports: vec![443, PORT], lanes_max: 64, has_test_clock: true, ..LaneOptions::default() };
    let mut lanes = Lanes::load(&options).unwrap();
    lanes.set_test_time(NOW_NS);
    lanes
}

/// Puts a lane of this kind into the maps, as number 5.
pub fn place(lanes: &mut Lanes, kind: Kind) {
    lanes.set_path(0, &kind.path()).unwrap();
    lanes.set_lane(INDEX, &kind.lane()).unwrap();
    // Kinds share their flows.
    lanes.leave(&kind.flow(), INDEX).unwrap();
    lanes.enter(&kind.flow(), INDEX).unwrap();
}

/// The verdict that was counted since `before`: exactly one.
#[track_caller]
pub fn verdict_since(lanes: &Lanes, before: &mut [(&'static str, u64)]) -> LaneVerdict {
    let now = lanes.verdicts().unwrap();
    let moved: Vec<_> = (0..now.len()).filter(|at| now[*at] != before[*at]).collect();
    let [at] = moved[..] else { panic!("not one verdict: {moved:?}") };
    assert_eq!(now[at].1, before[at].1 + 1, "{}", now[at].0);
    before.copy_from_slice(&now);
    LaneVerdict::ALL[at]
}

/// The oldest record, with its bytes.
pub fn next_record(lanes: &mut Lanes) -> Option<(Record, Vec<u8>)> {
    lanes.next_record(|record, bytes| (*record, bytes.to_vec()))
}

pub const INDEX: u32 = 5;
/// A test run's packets come by the loopback interface.
pub const LOOPBACK: u32 = 1;
