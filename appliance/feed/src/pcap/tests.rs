//! Captures made by hand, in every format.

mod variants;

use std::io::Write as _;
use std::net::SocketAddr;

use etherparse::PacketBuilder as Frames;
use proptest::prelude::*;

use super::*;
use crate::moldudp64::PacketBuilder;
use crate::pace::Pace;
use crate::{Event, Feed as _, Poll, UnixNs};

const GROUP: [u8; 4] = [239, 192, 1, 1];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [1, 0, 0x5e, 0x40, 1, 1]];

/// A packet for a file: time in nanoseconds, bytes, length on the wire.
type Sample = (u64, Vec<u8>, usize);

/// An Ethernet frame with a datagram to this port of the group.
fn frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = Frames::ethernet2(MACS[0], MACS[1]).ipv4([10, 0, 0, 1], GROUP, 1).udp(40_000, port);
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A MoldUDP64 packet of `count` messages from `sequence` on, each saying its own number.
fn mold(session: &[u8; 10], sequence: u64, count: u64) -> Vec<u8> {
    let mut builder = PacketBuilder::new(*session, sequence, 1_400);
    for seq in sequence..sequence + count {
        assert!(builder.push(&seq.to_be_bytes()));
    }
    builder.finish().to_vec()
}

fn sample(ts_ns: u64, bytes: Vec<u8>) -> Sample {
    let len = bytes.len();
    (ts_ns, bytes, len)
}

/// A number in one of the two byte orders.
fn u32_of(value: u64, big: bool) -> [u8; 4] {
    let value = u32::try_from(value).unwrap();
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn classic(packets: &[Sample], link: u64, big: bool, nanoseconds: bool) -> Vec<u8> {
    let word = |value| u32_of(value, big);
    let (magic, unit_ns) = if nanoseconds { (0xa1b2_3c4d, 1) } else { (0xa1b2_c3d4, 1_000) };
    let version: [u8; 4] = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let mut bytes = [word(magic), version, word(0), word(0), word(65_535), word(link)].concat();
    for (ts_ns, packet, wire_len) in packets {
        let (s, fraction) = (ts_ns / 1_000_000_000, ts_ns % 1_000_000_000 / unit_ns);
        let words = [word(s), word(fraction), word(packet.len() as u64), word(*wire_len as u64)];
        bytes.extend_from_slice(&words.concat());
        bytes.extend_from_slice(packet);
    }
    bytes
}

/// A block of pcapng.
fn block(kind: u64, body: &[u8], big: bool) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let len = u32_of(12 + (body.len() + padding.len()) as u64, big);
    [&u32_of(kind, big)[..], &len, body, &padding, &len].concat()
}

/// `resolution`: units a second, and the option that says so, if one does.
fn ng(packets: &[Sample], link: u8, big: bool, resolution: (u64, Option<u8>)) -> Vec<u8> {
    let word = |value| u32_of(value, big);
    let half = |value: u8| if big { [0, value] } else { [value, 0] };
    let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let mut interface = [&half(link)[..], &half(0), &word(0)].concat();
    if let Some(resolution) = resolution.1 {
        interface.extend_from_slice(&[&half(9)[..], &half(1), &[resolution, 0, 0, 0], &half(0), &half(0)].concat());
    }
    let mut bytes = [block(0x0a0d_0d0a, &section, big), block(1, &interface, big)].concat();
    for (ts_ns, packet, wire_len) in packets {
        let units = u128::from(*ts_ns) * u128::from(resolution.0) / 1_000_000_000;
        let units = u64::try_from(units).unwrap();
        let words = [0, units >> 32, units & 0xffff_ffff, packet.len() as u64, *wire_len as u64].map(word);
        // With a comment that has no end of options after it, as some write them.
        let comment = [&half(1)[..], &half(2), b"hi\0\0"].concat();
        let padding = vec![0; packet.len().next_multiple_of(4) - packet.len()];
        bytes.extend_from_slice(&block(6, &[&words.concat()[..], packet, &padding, &comment].concat(), big));
        // Blocks that are of no interest.
        bytes.extend_from_slice(&block(5, &[0; 12], big));
        bytes.extend_from_slice(&block(0xbad, b"whatever", big));
    }
    bytes
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Time, where its block has room for one, bytes, whether cut.
type Captured = (Option<u64>, Vec<u8>, bool);

/// What a capture yields, and how it ends.
fn read(bytes: &[u8]) -> Option<(Vec<Captured>, Item)> {
    let mut capture = Capture::new(std::io::Cursor::new(bytes.to_vec())).unwrap()?;
    let (mut packets, mut buffer) = (Vec::new(), Vec::new());
    loop {
        match capture.next(&mut buffer).unwrap() {
            Item::Packet(frame) => packets.push((frame.ts_ns, buffer.clone(), frame.is_cut)),
            end => {
                assert_eq!(capture.next(&mut buffer).unwrap(), end, "an end stays");
                return Some((packets, end));
            }
        }
    }
}

const TS: u64 = 1_577_716_200_123_456_000;

#[test]
fn all_formats_say_the_same() {
    let packets: Vec<Sample> = vec![(TS, vec![7; 60], 60), (TS + 1_000, vec![8; 61], 1_400), (TS + 5_000, vec![], 0)];
    let expected: Vec<_> =
        packets.iter().map(|(ts, bytes, wire)| (Some(*ts), bytes.clone(), *wire > bytes.len())).collect();
    let mut files = Vec::new();
    for big in [false, true] {
        files.extend([false, true].map(|nanoseconds| classic(&packets, 1, big, nanoseconds)));
        files.extend([(1_000_000, None), (1_000_000_000, Some(9))].map(|resolution| ng(&packets, 1, big, resolution)));
        // Picoseconds: 64 bits of them last for seven months since 1970.
        let early: Vec<Sample> = packets.iter().map(|(ts, bytes, wire)| (ts - TS, bytes.clone(), *wire)).collect();
        let picoseconds = read(&ng(&early, 1, big, (1_000_000_000_000, Some(12)))).unwrap();
        let times: Vec<u64> = picoseconds.0.iter().map(|(ts, _, _)| ts.unwrap()).collect();
        assert_eq!(times, [0, 1_000, 5_000]);
        let halves = read(&ng(&early, 1, big, (1 << 20, Some(0x80 | 20)))).unwrap();
        assert_eq!(halves.0[2].0, Some(5 * 1_000_000_000 / (1 << 20)));
    }
    for file in files {
        assert_eq!(read(&file), Some((expected.clone(), Item::EndOfFile)));
        assert_eq!(read(&gzipped(&file)), Some((expected.clone(), Item::EndOfFile)));
    }
    for other in [&b""[..], b"\x0a\x0d\x0d\x0a", b"\xd4\xc3\xb2\xa1", b"S000 no capture at all", &gzipped(b"neither")] {
        assert_eq!(read(other), None);
    }
    assert_eq!(read(&gzipped(b"cut short")[..12]), None);
}

#[test]
fn every_truncation_is_told_where_it_is() {
    let packets: Vec<Sample> = vec![(TS, vec![7; 20], 20), (TS, vec![8; 23], 23)];
    let ng = ng(&packets, 1, true, (1_000_000, None));
    // Where something ends: the header and two packets; seven blocks and the section's.
    let mut ng_ends = vec![0];
    while let Some(length) = ng.get(ng_ends[ng_ends.len() - 1] + 4..).and_then(<[u8]>::first_chunk) {
        ng_ends.push(ng_ends[ng_ends.len() - 1] + u32::from_be_bytes(*length) as usize);
    }
    assert_eq!(ng_ends.len(), 1 + 8);
    for (file, ends) in [(classic(&packets, 1, false, true), vec![24, 60, 99]), (ng, ng_ends.split_off(1))] {
        let whole = read(&file).unwrap().0;
        for len in ends[0]..=file.len() {
            let (packets, end) = read(&file[..len]).unwrap();
            assert_eq!(packets, whole[..packets.len()]);
            let last_end = *ends.iter().rfind(|end| **end <= len).unwrap();
            let fault = CaptureFault::Truncated;
            let expected =
                if last_end == len { Item::EndOfFile } else { Item::Malformed { offset: last_end as u64, fault } };
            assert_eq!(end, expected, "cut at {len}");
        }
    }
    let gz = gzipped(&classic(&packets, 1, false, true));
    assert!(matches!(read(&gz[..gz.len() - 9]).unwrap().1, Item::Malformed { fault: CaptureFault::Truncated, .. }));
}

#[test]
fn nonsense_is_told() {
    let packets: Vec<Sample> = vec![(TS, vec![7; 20], 20)];
    let good = ng(&packets, 1, false, (1_000_000, None));
    // The packet's block begins behind 28 bytes of section and 20 of interface.
    let broken = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        match read(&bytes).unwrap().1 {
            Item::Malformed { offset: 48, fault: CaptureFault::Corrupt(what) } => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken(56, 7), "a packet of an interface that was not described");
    assert_eq!(broken(68, 40), "a packet is longer than its block");
    assert_eq!(broken(52, 4), "a block is shorter than its header");
}

fn datagram(link: LinkType, bytes: &[u8], is_cut: bool) -> Result<(SocketAddr, &[u8]), Skipped> {
    let datagram = Datagram::parse(&Frame { ts_ns: Some(0), link, is_cut }, bytes)?;
    Ok((datagram.destination, datagram.payload))
}

#[test]
fn datagrams_are_found_behind_every_link_layer() {
    let destination = SocketAddr::from((GROUP, 26_400));
    let plain = frame(26_400, b"payload");
    let ip = &plain[14..];
    // A short frame is padded to the 60 bytes that Ethernet wants.
    let padded = [&plain[..], &[0; 11]].concat();
    let mut tagged = Vec::new();
    let builder = Frames::ethernet2(MACS[0], MACS[1]).double_vlan(1.try_into().unwrap(), 7.try_into().unwrap());
    builder.ipv4([10, 0, 0, 1], GROUP, 1).udp(1, 26_400).write(&mut tagged, b"payload").unwrap();
    let cooked = [&[0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], ip].concat();
    let cooked_2 = [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 1, 6, 2, 0, 0, 0, 0, 1, 0, 0], ip].concat();
    for (link, bytes) in [
        (LinkType::ETHERNET, &plain),
        (LinkType::ETHERNET, &padded),
        (LinkType::ETHERNET, &tagged),
        (LinkType::LINUX_SLL, &cooked),
        (LinkType::LINUX_SLL2, &cooked_2),
        (LinkType::RAW, &ip.to_vec()),
        (LinkType::IPV4, &ip.to_vec()),
        (LinkType::RAW_BSD, &ip.to_vec()),
        (LinkType::RAW_OPENBSD, &ip.to_vec()),
        (LinkType::NULL, &[&[2, 0, 0, 0], ip].concat()),
        (LinkType::NULL, &[&[0, 0, 0, 2], ip].concat()),
        (LinkType::LOOP, &[&[0, 0, 0, 2], ip].concat()),
    ] {
        assert_eq!(datagram(link, bytes, false), Ok((destination, &b"payload"[..])), "{link:?}");
        for len in 0..bytes.len() {
            let cut = datagram(link, &bytes[..len], true);
            assert!(cut.is_err() || bytes.len() - len <= 11, "{link:?} cut at {len}: {cut:?}");
        }
    }
    let mut six = Vec::new();
    let to = "ff15::1".parse::<std::net::Ipv6Addr>().unwrap();
    Frames::ipv6([0; 16], to.octets(), 1).udp(1, 5).write(&mut six, b"payload").unwrap();
    assert_eq!(datagram(LinkType::RAW, &six, false), Ok((SocketAddr::from((to, 5)), &b"payload"[..])));
}

#[test]
fn what_is_no_datagram_is_skipped() {
    let mut tcp = Vec::new();
    Frames::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1).tcp(1, 2, 3, 4).write(&mut tcp, b"stream").unwrap();
    assert_eq!(datagram(LinkType::RAW, &tcp, false), Err(Skipped::Tcp));
    let plain = frame(26_400, &[1; 100]);
    assert_eq!(datagram(LinkType::ETHERNET, &plain[..60], true), Err(Skipped::Cut));
    assert_eq!(datagram(LinkType::ETHERNET, &plain[..60], false), Err(Skipped::Broken), "it contradicts itself");
    assert_eq!(datagram(LinkType(189), &plain, false), Err(Skipped::Link(LinkType(189))));
    // The first part of a fragmented datagram: "more fragments" is set.
    let mut fragment = plain;
    fragment[20] |= 0x20;
    assert_eq!(datagram(LinkType::ETHERNET, &fragment, false), Err(Skipped::Fragment));
}

/// A capture of these packets as a file.
fn file_of(packets: &[Sample]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&classic(packets, 1, false, true)).unwrap();
    file
}

/// Polls once; what came, in words.
fn poll(feed: &mut CaptureFeed, now_ns: u64) -> (Vec<String>, Poll) {
    let now_ns = UnixNs(now_ns);
    let mut words = Vec::new();
    let poll = feed.poll(now_ns, &mut |event| {
        words.push(match event {
            Event::SessionStart { session } => format!("session {}", String::from_utf8_lossy(&session)),
            Event::Message { seq, bytes, received_ns, .. } => {
                assert_eq!((bytes, received_ns), (&seq.to_be_bytes()[..], now_ns));
                format!("{seq}")
            }
            Event::Gap { from, to } => format!("gap {from}..{to}"),
            Event::Trouble(trouble) => format!("{} {}", trouble.kind(), trouble),
            other => format!("{other:?}"),
        });
    });
    (words, poll.unwrap())
}

#[test]
fn the_busiest_destination_is_played_by_the_captures_clock() {
    let a = |sequence, count| frame(1, &mold(b"MONDAY    ", sequence, count));
    let other = frame(2, &mold(b"TUESDAY   ", 1, 1));
    let file = file_of(&[
        sample(TS, frame(3, b"no MoldUDP64")),
        sample(TS, frame(3, b"no MoldUDP64")),
        sample(TS, frame(3, b"no MoldUDP64")),
        sample(TS + 100, a(7, 2)),
        sample(TS + 200, other),
        (TS + 250, a(9, 1)[..50].to_vec(), 62),
        sample(TS + 300, a(10, 1)),
    ]);
    let mut feed = CaptureFeed::open(file.path(), None, Pace::Factor(10.0)).unwrap();
    let flow = feed.flow().clone();
    assert_eq!((flow.destination, flow.session), (SocketAddr::from((GROUP, 1)), *b"MONDAY    "));
    assert_eq!((flow.first_ns, flow.alternatives.as_str()), (Some(UnixNs(TS + 100)), "239.192.1.1:2 (1 packets)"));
    assert_eq!(
        poll(&mut feed, 50),
        (["session MONDAY    ", "7", "8"].map(String::from).into(), Poll::IdleUntil(UnixNs(70)))
    );
    assert_eq!(poll(&mut feed, 69), (vec![], Poll::IdleUntil(UnixNs(70))));
    let (words, end) = poll(&mut feed, 70);
    assert_eq!((&words[..2], end), (&["gap 9..10".to_owned(), "10".to_owned()][..], Poll::Finished));
    let told = "capture_skipped ";
    assert!(
        words[2].starts_with(told)
            && words[2].ends_with(": 4 packets were none to 239.192.1.1:1, 1 were not captured whole")
    );
    assert_eq!(words.len(), 3);
    assert_eq!(poll(&mut feed, 99), (vec![], Poll::Finished));
    let counters = feed.counters();
    assert_eq!((counters.messages, counters.gap_messages, counters.packets), (3, 1, 2));
}

#[test]
fn another_destination_can_be_asked_for() {
    let packets = [
        sample(TS, frame(1, &mold(b"MONDAY    ", 1, 1))),
        sample(TS, frame(1, &mold(b"MONDAY    ", 2, 1))),
        sample(TS, frame(2, &mold(b"TUESDAY   ", 1, 2))),
        sample(TS, frame(9, b"text")),
    ];
    let file = file_of(&packets);
    let open = |port: u16| CaptureFeed::open(file.path(), Some(SocketAddr::from((GROUP, port))), Pace::Unpaced);
    let mut feed = open(2).unwrap();
    assert_eq!(poll(&mut feed, 1).0[..3], ["session TUESDAY   ", "1", "2"].map(String::from));
    let error = open(3).unwrap_err().to_string();
    assert!(
        error
            .contains("holds no MoldUDP64 packets to 239.192.1.1:3; its UDP packets go to 239.192.1.1:1 (2 packets), ")
    );
    assert!(open(9).unwrap_err().to_string().contains("holds no MoldUDP64 packets to 239.192.1.1:9"));
    let error = CaptureFeed::open(file_of(&packets[3..]).path(), None, Pace::Unpaced).unwrap_err().to_string();
    assert!(error.ends_with("holds no MoldUDP64 packets; its UDP packets go to 239.192.1.1:9 (1 packets)"), "{error}");
    let error = CaptureFeed::open(file_of(&[]).path(), None, Pace::Unpaced).unwrap_err().to_string();
    assert!(error.ends_with("there is no UDP among its 0 packets"), "{error}");
    let text = tempfile::NamedTempFile::new().unwrap();
    assert!(!CaptureFeed::recognises(text.path()) && CaptureFeed::recognises(file.path()));
    let error = CaptureFeed::open(text.path(), None, Pace::Unpaced).unwrap_err();
    assert!(matches!(error, CaptureError::NotACapture { .. }));
}

#[test]
fn polls_are_bounded_and_a_truncated_end_is_told() {
    let mut packets: Vec<_> = (1..600).map(|n| sample(TS, frame(1, &mold(b"MONDAY    ", n, 1)))).collect();
    packets.extend((0..300).map(|_| sample(TS, frame(2, b"noise"))));
    let bytes = classic(&packets, 1, false, true);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes[..bytes.len() - 3]).unwrap();
    let mut feed = CaptureFeed::open(file.path(), None, Pace::Unpaced).unwrap();
    let polls: Vec<_> = std::iter::repeat_with(|| poll(&mut feed, 1)).take(5).collect();
    assert_eq!(polls.iter().map(|(words, _)| words.len()).collect::<Vec<_>>(), [257, 256, 87, 2, 0]);
    assert!(polls[3].0[0].contains("Truncated"), "{:?}", polls[3]);
    assert_eq!(feed.counters().malformed, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Flipped bytes and garbage neither panic nor go on for ever.
    #[test]
    fn any_bytes(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..100),
        format in 0..4,
    ) {
        let packets: Vec<Sample> = (1..9).map(|n| sample(TS, frame(1, &mold(b"MONDAY    ", n, 1)))).collect();
        let (big, is_ng) = (format & 1 == 1, format & 2 == 2);
        let mut bytes = if is_ng { ng(&packets, 1, big, (1_000_000_000, Some(9))) } else { classic(&packets, 1, big, true) };
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.extend_from_slice(&tail);
        if let Some((packets, _)) = read(&bytes) {
            for (_, bytes, is_cut) in packets {
                for link in [LinkType::ETHERNET, LinkType::LINUX_SLL, LinkType::LINUX_SLL2, LinkType::RAW] {
                    let _ = Datagram::parse(&Frame { ts_ns: Some(0), link, is_cut }, &bytes);
                }
            }
        }
    }
}
