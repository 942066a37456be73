//! The headers of a lane's packets, read by another implementation.

use fanblade_abi::lane::{Header, Path, Refusal, Sending, Seq, checksum, segment::complete_sum, segment::is_sum_right};
use fanblade_abi::packet::{self, ACK, PSH};

use crate::frames::{Addresses, Segment};

fn all_kinds() -> impl Iterator<Item = (Addresses, bool)> {
    let addresses = [(false, None), (true, None), (false, Some(7)), (true, Some(4_094))];
    let kinds = addresses.map(|(is_v6, vlan)| Addresses { is_v6, vlan });
    kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)])
}

#[test]
fn every_kind_of_packet_says_what_the_lane_says_and_its_sums_are_right() {
    for (addresses, has_timestamps) in all_kinds() {
        for len in [0, 1, 2, 3, 16, 511, 512, 1_448] {
            let payload: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut lane = addresses.lane(has_timestamps);
            lane.receiving.rcv_nxt = Seq(u32::MAX);
            let (frame, _told) = addresses.lane_frame(&lane, &payload, 9_000);
            let expected = Segment {
                seq: Seq(1_000),
                ack: Seq(u32::MAX),
                flags: if len > 0 { PSH | ACK } else { ACK },
                window: 500,
                timestamps: has_timestamps.then_some((9_077, 400)),
                sack: Vec::new(),
                payload,
            };
            assert_eq!(addresses.client_reads(&frame), expected, "{addresses:?}, {len} bytes");
        }
    }
}

#[test]
fn sums_are_right_where_they_fold_to_zero_and_to_all_ones() {
    // Over all values of two bytes every sum comes, the ones among them that fold twice.
    let addresses = Addresses::PLAIN;
    for value in 0..=u16::MAX {
        let lane = addresses.lane(value & 1 == 0);
        addresses.client_reads(&addresses.lane_frame(&lane, &value.to_be_bytes(), u32::from(value)).0);
    }
}

#[test]
fn a_clients_packet_is_read_as_it_was_written_and_a_wrong_byte_is_seen_by_the_sum() {
    for (addresses, has_timestamps) in all_kinds() {
        for len in [0, 1, 37, 1_024] {
            let sent = Segment {
                seq: Seq(0xffff_fff0),
                ack: Seq(1_000),
                flags: ACK,
                window: 501,
                timestamps: has_timestamps.then_some((5, 6)),
                sack: Vec::new(),
                payload: vec![0xab; len],
            };
            let mut frame = addresses.client_frame(&sent);
            let segment = packet::parse(frame.as_slice()).unwrap();
            let header = Header::read(frame.as_slice(), &segment).unwrap();
            assert_eq!(frame[segment.payload_at as usize..], sent.payload);
            assert_eq!(segment.tcp_len() as usize, frame.len() - segment.tcp_at as usize);
            assert_eq!((header.seq, header.ack, header.flags, header.window), (sent.seq, sent.ack, ACK, 501));
            assert_eq!(header.payload_len as usize, len);
            let is_right = |frame: &[u8]| {
                let tcp = &frame[segment.tcp_at as usize..];
                let field = u16::from_ne_bytes([tcp[16], tcp[17]]);
                is_sum_right(&segment, checksum::sum(tcp), field, false)
            };
            assert!(is_right(&frame), "{addresses:?}");
            for at in segment.tcp_at as usize..frame.len() {
                frame[at] ^= 0x40;
                assert!(!is_right(&frame), "byte {at} of {addresses:?}");
                frame[at] ^= 0x40;
            }
        }
    }
}

#[test]
fn a_lane_sends_only_into_the_window_and_only_for_its_own_connection() {
    let fresh = Addresses::PLAIN.lane(true);
    let with = |change: fn(&mut fanblade_abi::lane::Lane)| {
        let mut lane = fresh;
        change(&mut lane);
        lane.admit(9, lane.sending.snd_nxt, 1_000)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|lane| lane.receiving.window = 999), Err(Refusal::Window));
    assert_eq!(with(|lane| lane.receiving.window = 1_000), Ok(()));
    assert_eq!(with(|lane| lane.sending.in_flight_max = 999), Err(Refusal::InFlight));
    assert_eq!(with(|lane| lane.sending.mss = 999), Err(Refusal::TooLong));
    assert_eq!(with(|lane| lane.sending.flags |= Sending::HELD), Err(Refusal::Held));
    assert_eq!(with(|lane| lane.receiving.raised = 1), Err(Refusal::Held));
    assert_eq!(with(|lane| lane.sending.flags = 0), Err(Refusal::Gone));
    assert_eq!(with(|lane| lane.sending.generation = 10), Err(Refusal::Gone));
    // What is in flight counts, across the place where the numbers wrap.
    let mut lane = fresh;
    lane.receiving.snd_una = Seq(u32::MAX - 499);
    lane.sending.snd_nxt = Seq(500);
    lane.receiving.window = 1_999;
    assert_eq!(lane.admit(9, Seq(500), 1_000), Err(Refusal::Window));
    lane.receiving.window = 2_000;
    assert_eq!(lane.admit(9, Seq(500), 1_000), Ok(()));
    // An acknowledgement goes even where the window is shut: it takes no room there.
    lane.receiving.window = 0;
    assert_eq!(lane.admit(9, Seq(0), 0), Ok(()));
    // What is not next is not sent, though there were room for it.
    let fresh = Addresses::PLAIN.lane(true);
    for seq in [999, 1_001] {
        assert_eq!(fresh.admit(9, Seq(seq), 1), Err(Refusal::OutOfTurn));
    }
}

#[test]
fn what_was_sent_is_counted_and_the_acknowledgement_that_it_had_is_known() {
    let addresses = Addresses::PLAIN;
    let mut lane = addresses.lane(true);
    lane.receiving.received(30);
    let (frame, told) = addresses.lane_frame(&lane, &[1; 512], 0);
    // The receiver goes on before the sender has counted its packet: the client has been told the older number.
    lane.receiving.received(8);
    lane.sent(told, 512, 564);
    assert_eq!((addresses.client_reads(&frame).ack, lane.sending.acked), (Seq(5_030), Seq(5_030)));
    let (_frame, told) = addresses.lane_frame(&lane, &[], 0);
    lane.sent(told, 0, 52);
    assert_eq!((lane.sending.snd_nxt, lane.sending.acked), (Seq(1_512), Seq(5_038)));
    assert_eq!((lane.sending.packets, lane.sending.bytes), (2, 616));
}

#[test]
fn a_checksum_that_was_left_to_a_card_is_completed_and_no_other_is_touched() {
    for (addresses, has_timestamps) in all_kinds() {
        for len in [0, 1, 37, 1_024] {
            let timestamps = has_timestamps.then_some((5, 6));
            let sent = Segment { flags: ACK, timestamps, payload: vec![0xab; len], ..Segment::default() };
            let right = addresses.client_frame(&sent);
            let parsed = packet::parse(right.as_slice()).unwrap();
            let at = parsed.tcp_at as usize + 16;
            let mut frame = right.clone();
            complete_sum(&mut frame, &parsed);
            assert_eq!(frame, right, "right as it is");
            // The sum of the pseudo-header is what the complete one lacks of all ones, less the segment's own.
            frame[at..at + 2].fill(0);
            let tcp = &frame[parsed.tcp_at as usize..];
            let wanted = u64::from(!u16::from_ne_bytes([right[at], right[at + 1]]));
            let pseudo = checksum::fold(wanted + u64::from(!checksum::fold(checksum::sum(tcp))));
            frame[at..at + 2].copy_from_slice(&pseudo.to_ne_bytes());
            complete_sum(&mut frame, &parsed);
            assert_eq!(frame, right, "{addresses:?}, {len} bytes");
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let before = wrong.clone();
            complete_sum(&mut wrong, &parsed);
            assert_eq!(wrong, before, "what is wrong stays wrong");
        }
    }
}

#[test]
fn a_sum_without_the_payload_is_fine_only_where_the_peer_is_on_this_machine() {
    let addresses = Addresses::PLAIN;
    let mut frame = addresses.client_frame(&Segment { flags: ACK, payload: vec![1; 9], ..Segment::default() });
    let segment = packet::parse(frame.as_slice()).unwrap();
    let at = segment.tcp_at as usize;
    let tcp_len = u32::try_from(frame.len() - at).unwrap();
    // As the kernel leaves it for a card: the pseudo-header's sum, not complemented.
    let pseudo =
        checksum::sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from(u16::try_from(tcp_len).unwrap().to_be());
    let field = checksum::fold(pseudo);
    frame[at + 16..at + 18].copy_from_slice(&field.to_ne_bytes());
    let is_right = |is_fine| is_sum_right(&segment, checksum::sum(&frame[at..]), field, is_fine);
    assert!(is_right(true) && !is_right(false));
    assert!(!addresses.path().has(Path::UNSUMMED), "nobody is on this machine unless userspace says so");
}
