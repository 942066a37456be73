//! What real files have and specifications allow, or nobody should write: each is read, or told.

use super::*;

/// A block as it is, with any length.
fn block_of(kind: u32, body: &[u8], len: u32, again: u32) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &again.to_le_bytes()].concat()
}

fn whole_block(kind: u32, body: &[u8]) -> Vec<u8> {
    let body = padded(body);
    let len = 12 + u32::try_from(body.len()).unwrap();
    block_of(kind, &body, len, len)
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), &padded(value)].concat()
}

/// A section header with these options, little-endian; the length is left open.
fn section(options: &[u8]) -> Vec<u8> {
    let fixed = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    whole_block(0x0a0d_0d0a, &[&fixed, options].concat())
}

fn interface(link: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
    whole_block(1, &[&link.to_le_bytes()[..], &[0, 0], &snap_len.to_le_bytes(), options].concat())
}

/// An enhanced packet block.
fn enhanced(interface: u32, units: u64, packet: &[u8]) -> Vec<u8> {
    let len = u32::try_from(packet.len()).unwrap();
    let words =
        [interface, (units >> 32) as u32, (units & 0xffff_ffff) as u32, len, len].map(u32::to_le_bytes).concat();
    whole_block(6, &[words, padded(packet)].concat())
}

/// Times and packets of a capture that is read to its end.
fn all(bytes: &[u8]) -> Vec<(Option<u64>, Vec<u8>, bool)> {
    let mut capture = Capture::new(std::io::Cursor::new(bytes.to_vec())).unwrap().unwrap();
    let (mut packets, mut buffer) = (Vec::new(), Vec::new());
    loop {
        match capture.next(&mut buffer).unwrap() {
            Item::Packet(frame) => packets.push((frame.ts_ns, buffer.clone(), frame.is_cut)),
            Item::EndOfFile => return packets,
            malformed => panic!("{malformed:?} after {} packets", packets.len()),
        }
    }
}

#[test]
fn no_option_makes_a_file_unreadable() {
    let nanoseconds = option(9, &[9]);
    let end = option(0, b"");
    for options in [
        nanoseconds.clone(),
        [&nanoseconds[..], &end].concat(),
        [&option(3, b"Verbindung f\xfcr A"), &nanoseconds[..], &end].concat(),
        // if_tzone as the draft has it, and as nobody has it.
        [&option(10, &[0, 0, 0x0e, 0x10]), &nanoseconds[..]].concat(),
        [&option(10, &[0]), &option(14, &[1, 2]), &option(4, &[1; 7]), &nanoseconds[..]].concat(),
        // Behind its end there may be anything; an option that is longer than its block ends them.
        [&nanoseconds[..], &end, &option(9, &[6])].concat(),
        [&nanoseconds[..], &[2, 0, 0xff, 0xff, 1, 2, 3, 4]].concat(),
        [&nanoseconds[..], &[9]].concat(),
    ] {
        for header in [vec![], option(4, b"dumpcap"), option(2, b"\xe4\xf6"), [&option(3, b"os")[..], &end].concat()] {
            let file = [section(&header), interface(1, 0, &options), enhanced(0, TS + 7, b"packet")].concat();
            assert_eq!(all(&file), [(Some(TS + 7), b"packet".to_vec(), false)], "{options:?} {header:?}");
        }
    }
}

#[test]
fn every_resolution_and_offset_has_its_time() {
    let time = |options: &[u8], units: u64| {
        let file = [section(b""), interface(1, 0, options), enhanced(0, units, b"")].concat();
        all(&file)[0].0.unwrap()
    };
    let second = 1_000_000_000;
    for exponent in 0..=127_u8 {
        let ten = 10_u64.checked_pow(exponent.into());
        assert_eq!(time(&option(9, &[exponent]), ten.unwrap_or(0)), if ten.is_some() { second } else { 0 });
        let two = 1_u64.checked_shl(exponent.into());
        assert_eq!(time(&option(9, &[0x80 | exponent]), two.unwrap_or(0)), if two.is_some() { second } else { 0 });
        // It does not overflow.
        for resolution in [exponent, 0x80 | exponent] {
            for offset in [i64::MIN, -1, i64::MAX] {
                time(&[option(9, &[resolution]), option(14, &offset.to_le_bytes())].concat(), u64::MAX);
            }
        }
    }
    assert_eq!(time(b"", TS / 1_000), TS, "microseconds where nothing is said");
    let shifted = |seconds: i64| time(&[option(9, &[9]), option(14, &seconds.to_le_bytes())].concat(), TS);
    assert_eq!((shifted(-3_600), shifted(3_600)), (TS - 3_600 * second, TS + 3_600 * second));
    assert_eq!((shifted(i64::MIN), shifted(i64::MAX)), (0, u64::MAX));
    // In the section's byte order.
    let big = |value: u32| value.to_be_bytes();
    let offset = [&[0, 14, 0, 8], &(-60_i64).to_be_bytes()[..]].concat();
    let body = [&[0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0], &offset[..]].concat();
    let interface = [&big(1)[..], &big(12 + 28), &body, &big(12 + 28)].concat();
    let words = [0, (TS >> 32) as u32, (TS & 0xffff_ffff) as u32, 0, 0].map(big).concat();
    let packet = [&big(6)[..], &big(32), &words, &big(32)].concat();
    let header = [&big(0x0a0d_0d0a)[..], &big(28), &big(0x1a2b_3c4d), &[0, 1, 0, 0], &[0xff; 8], &big(28)].concat();
    assert_eq!(all(&[header, interface, packet].concat())[0].0, Some(TS - 60 * second));
}

#[test]
fn all_three_kinds_of_packet_blocks_are_packets() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let obsolete = |interface: u16, original_len: u32| {
        // Drops in the upper half of its first word.
        let head =
            words(&[u32::from(interface) | 9 << 16, (TS >> 32) as u32, (TS & 0xffff_ffff) as u32, 6, original_len]);
        whole_block(2, &[&head[..], &padded(b"packet")].concat())
    };
    let simple = |original_len: u32, packet: &[u8]| whole_block(3, &[&words(&[original_len])[..], packet].concat());
    let file = [
        section(b""),
        interface(1, 8, &option(9, &[9])),
        interface(101, 0, &option(9, &[9])),
        enhanced(1, TS, b"one"),
        obsolete(0, 6),
        obsolete(1, 7),
        simple(5, b"short"),
        // Cut to the snap length; what follows is padding.
        simple(9, b"longer st--"),
        simple(0, b""),
    ]
    .concat();
    let packet = b"packet".to_vec();
    assert_eq!(
        all(&file),
        [
            (Some(TS), b"one".to_vec(), false),
            (Some(TS), packet.clone(), false),
            (Some(TS), packet, true),
            (None, b"short".to_vec(), false),
            (None, b"longer s".to_vec(), true),
            (None, vec![], false),
        ]
    );
}

#[test]
fn sections_have_their_own_interfaces_and_byte_orders() {
    let packets = vec![(TS, b"big".to_vec(), 3)];
    let big = ng(&packets, 1, true, (1_000_000_000, Some(9)));
    let little = [section(b""), interface(1, 0, b""), interface(1, 0, &option(9, &[9]))].concat();
    let file = [&little[..], &enhanced(1, TS, b"little"), &big, &section(b""), &interface(1, 0, b"")].concat();
    let file = [file, whole_block(0x4000_0bad, &[1; 4_000]), enhanced(0, TS / 1_000, b"again")].concat();
    let texts: Vec<_> = all(&file).into_iter().map(|(_, bytes, _)| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(texts, ["little", "big", "again"]);
    // A packet of an interface that only the section before described.
    let file = [little, section(b""), enhanced(1, TS, b"x")].concat();
    let (_, end) = read(&file).unwrap();
    let fault = CaptureFault::Corrupt("a packet of an interface that was not described");
    assert!(matches!(end, Item::Malformed { fault: told, .. } if told == fault), "{end:?}");
}

#[test]
fn the_modified_form_and_the_upper_bits_of_a_link_type() {
    for big in [false, true] {
        let word = |value: u64| u32_of(value, big);
        let packets: Vec<Sample> = vec![(TS, frame(9, b"payload"), 49), (TS, vec![7; 20], 30)];
        // "4 bytes of frame check sequence follow", and all other bits, too.
        for bits in [0x4400_0000, 0xffff_0000_u64] {
            let mut file = classic(&packets, bits | 1, big, true);
            let plain = classic(&packets, 1, big, true);
            assert_eq!(all(&file), all(&plain));
            let mut capture = Capture::new(std::io::Cursor::new(file.clone())).unwrap().unwrap();
            let Item::Packet(frame) = capture.next(&mut Vec::new()).unwrap() else { panic!() };
            assert_eq!(frame.link, LinkType::ETHERNET);
            // Modified: eight bytes more in each record, and microseconds.
            file[..4].copy_from_slice(&word(0xa1b2_cd34));
            let mut modified = file[..24].to_vec();
            for (ts_ns, bytes, wire_len) in &packets {
                let (s, us) = (ts_ns / 1_000_000_000, ts_ns % 1_000_000_000 / 1_000);
                let words = [word(s), word(us), word(bytes.len() as u64), word(*wire_len as u64)];
                modified.extend_from_slice(&[&words.concat()[..], &[9; 8], bytes].concat());
            }
            assert_eq!(all(&modified), all(&plain));
        }
    }
}

#[test]
fn lengths_that_cannot_be_are_told_and_long_packets_are_bounded() {
    let kinds: [(u32, u32, &str); 4] = [
        (6, 8, "a block is shorter than its header"),
        (6, 16, "a packet block is shorter than its header"),
        (1, 16, "an interface's block is shorter than its header"),
        (3, 12, "a packet block is shorter than its header"),
    ];
    let before = [section(b""), interface(1, 0, b"")].concat();
    for (kind, len, expected) in kinds {
        let body = vec![0; (len as usize).saturating_sub(12)];
        let file = [&before[..], &block_of(kind, &body, len, len), &[0; 60]].concat();
        let end = read(&file).unwrap().1;
        let Item::Malformed { offset, fault: CaptureFault::Corrupt(what) } = end else { panic!("{end:?}") };
        assert_eq!((offset, what), (before.len() as u64, expected));
    }
    let contradicts = [&before[..], &block_of(5, b"", 12, 16)].concat();
    assert!(matches!(read(&contradicts).unwrap().1, Item::Malformed { fault: CaptureFault::Corrupt(_), .. }));
    // Without the padding in its lengths.
    let unpadded = [&before[..], &block_of(6, &[0; 20], 31, 31), &enhanced(0, 0, b"x")].concat();
    assert_eq!(all(&unpadded).len(), 2);
    // Nobody asks for gigabytes of memory, or skips all that there is.
    let long = [&before[..], &block_of(5, b"", u32::MAX, 0)].concat();
    let fault = CaptureFault::TooLong { len: u32::MAX };
    assert_eq!(read(&long).unwrap().1, Item::Malformed { offset: before.len() as u64, fault });
    let version =
        [&whole_block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])[..], &[0; 9]];
    assert!(read(&version.concat()).is_some());
    let huge = crate::limits::CAPTURE_PACKET_LEN_MAX + 4_000;
    let file = classic(&[(TS, vec![1; huge], huge), (TS, b"next".to_vec(), 4)], 1, false, true);
    let packets = all(&file);
    assert_eq!((packets[0].1.len(), packets[0].2), (crate::limits::CAPTURE_PACKET_LEN_MAX, true));
    assert_eq!(packets[1].1, b"next");
    // More interfaces than anybody has.
    let many = [section(b""), interface(1, 0, b"").repeat(crate::limits::CAPTURE_INTERFACES_MAX + 1)].concat();
    assert!(matches!(read(&many).unwrap().1, Item::Malformed { fault: CaptureFault::Corrupt(_), .. }));
}

#[test]
fn what_surrounds_a_datagram_is_none_of_it() {
    let expected = Ok((SocketAddr::from((GROUP, 26_400)), &b"payload"[..]));
    let plain = frame(26_400, b"payload");
    // A frame check sequence, and the padding of a short frame before it.
    for trailer in [&[1, 2, 3, 4][..], &[0; 11], &[&[0; 11][..], &[1, 2, 3, 4]].concat()] {
        let bytes = [&plain[..], trailer].concat();
        assert_eq!(datagram(LinkType::ETHERNET, &bytes, false), expected);
    }
    // QinQ, with both numbers for its outer tag; cooked captures with a tag.
    for outer in [[0x88, 0xa8], [0x81, 0], [0x91, 0]] {
        let tagged = [&plain[..12], &outer, &[0, 1], &[0x81, 0], &[0, 7], &plain[12..]].concat();
        assert_eq!(datagram(LinkType::ETHERNET, &tagged, false), expected);
    }
    let cooked = [&[0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0][..], &[0, 7], &plain[12..]].concat();
    assert_eq!(datagram(LinkType::LINUX_SLL, &cooked, false), expected);
    // From the loopback: hardware type 772.
    let cooked = [&[0, 0, 3, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0], &plain[12..]].concat();
    assert_eq!(datagram(LinkType::LINUX_SLL, &cooked, false), expected);
    // IPv6 with extension headers: hop-by-hop options, and a destination's.
    let mut six = Vec::new();
    let to = "ff15::1".parse::<std::net::Ipv6Addr>().unwrap();
    Frames::ipv6([0; 16], to.octets(), 1).udp(1, 26_400).write(&mut six, b"payload").unwrap();
    let expected = Ok((SocketAddr::from((to, 26_400)), &b"payload"[..]));
    let mut extended = [&six[..40], &[60, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0], &six[40..]].concat();
    extended[6] = 0;
    extended[5] += 16;
    assert_eq!(datagram(LinkType::RAW, &extended, false), expected);
    for family in [24, 28, 30_u32] {
        for bytes in [family.to_le_bytes(), family.to_be_bytes()] {
            assert_eq!(datagram(LinkType::NULL, &[&bytes, &extended[..]].concat(), false), expected);
        }
    }
    assert_eq!(datagram(LinkType::NULL, &[&[7, 0, 0, 0], &six[..]].concat(), false), Err(Skipped::NotIp));
    // A later fragment, which has no header of UDP.
    let mut fragment = frame(26_400, &[1; 100]);
    fragment[21] = 9;
    assert_eq!(datagram(LinkType::ETHERNET, &fragment, false), Err(Skipped::Fragment));
    let six_fragment = [&six[..40], &[17, 0, 0, 1, 0, 0, 0, 9], &six[40..]].concat();
    let mut six_fragment = six_fragment;
    six_fragment[6] = 44;
    six_fragment[5] += 8;
    assert_eq!(datagram(LinkType::RAW, &six_fragment, false), Err(Skipped::Fragment));
    let arp = [&plain[..12], &[8, 6], &[0; 28]].concat();
    assert_eq!(datagram(LinkType::ETHERNET, &arp, false), Err(Skipped::NotIp));
}

fn opened(content: &[u8]) -> Result<CaptureFeed, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let path = file.path().display().to_string();
    CaptureFeed::open(file.path(), None, Pace::Unpaced).map_err(|error| error.to_string().replace(&path, "FILE"))
}

#[test]
fn a_capture_that_cannot_be_used_says_what_it_holds() {
    let mut tcp = Vec::new();
    Frames::ethernet2(MACS[0], MACS[1]).ipv4([10, 0, 0, 1], GROUP, 1).tcp(1, 2, 3, 4).write(&mut tcp, b"x").unwrap();
    let mut fragment = frame(1, b"payload");
    fragment[20] |= 0x20;
    let udp = frame(9, b"text");
    let packet = |bytes: &[u8]| enhanced(0, TS, bytes);
    let before = [section(b""), interface(1, 0, b""), interface(105, 0, b""), interface(197, 0, b"")].concat();
    let cut = whole_block(6, &[&[0; 12][..], &40_u32.to_le_bytes(), &80_u32.to_le_bytes(), &udp[..40]].concat());
    let file = |packets: &[Vec<u8>]| opened(&[&before[..], &packets.concat()].concat()).unwrap_err();
    let none = "FILE holds no MoldUDP64 packets; ";
    assert_eq!(file(&[packet(&tcp)]), format!("{none}there is no UDP among its 1 packets: 1 of TCP"));
    assert_eq!(
        file(&[enhanced(1, TS, b"?"), enhanced(1, TS, b"?"), enhanced(2, TS, b"?")]),
        format!(
            "{none}no UDP was found among its 3 packets: 2 of link type 105 (IEEE 802.11), which is not read, 1 of link \
             type 197 (Endace ERF), which is not read"
        )
    );
    assert_eq!(
        file(&[packet(&tcp), packet(&fragment), cut]),
        format!(
            "{none}no UDP was found among its 3 packets: 1 of TCP, 1 that were not captured whole (raise the snap \
             length), 1 that are fragments, which are not put together"
        )
    );
    let at = before.len() + packet(&udp).len() + packet(&tcp).len();
    assert_eq!(
        file(&[packet(&udp), packet(&tcp), b"\x06".to_vec()]),
        format!(
            "{none}its UDP packets go to 239.192.1.1:9 (1 packets); besides there are: 1 of TCP; at byte {at}: the \
             capture ends within a packet"
        )
    );
}

#[test]
fn fragments_and_what_follows_gzip_are_told_when_a_capture_is_played() {
    let mold = |sequence| frame(1, &mold(b"MONDAY    ", sequence, 1));
    let mut fragment = mold(2);
    fragment[20] |= 0x20;
    let packets = [sample(TS, mold(1)), sample(TS, fragment), sample(TS, mold(3)), (TS, mold(4)[..50].to_vec(), 62)];
    let zipped = gzipped(&classic(&packets, 1, false, true));
    for (tail, told) in [(&[0; 700][..], 0), (&b"garbage"[..], 1), (b"", 0)] {
        let mut feed = opened(&[&zipped[..], tail].concat()).unwrap();
        let (words, end) = poll(&mut feed, 1);
        assert_eq!(
            (&words[..4], end),
            (&["session MONDAY    ", "1", "gap 2..3", "3"].map(String::from)[..], Poll::Finished)
        );
        let fragments = "0 packets were none to 239.192.1.1:1, 1 were not captured whole, 1 are fragments, which are not put together";
        assert!(words[4].ends_with(fragments), "{}", words[4]);
        assert_eq!(words.len(), 5 + told, "{words:?}");
        let offset = format!("from byte {} of the file on, is no gzip and is ignored", zipped.len());
        assert!(told == 0 || words[5].starts_with("gzip_tail") && words[5].ends_with(&offset), "{words:?}");
        assert_eq!(feed.counters().malformed, 0);
    }
}

#[test]
fn packets_without_a_time_are_played_with_those_before_them() {
    let simple = |sequence| {
        let packet = frame(1, &mold(b"MONDAY    ", sequence, 1));
        whole_block(3, &[&u32::try_from(packet.len()).unwrap().to_le_bytes()[..], &packet].concat())
    };
    let file = [section(b""), interface(1, 0, b""), simple(1), simple(2)].concat();
    let mut feed = opened(&file).unwrap();
    assert_eq!(feed.flow().first_ns, None);
    assert_eq!(poll(&mut feed, 1), (["session MONDAY    ", "1", "2"].map(String::from).into(), Poll::Finished));
}
