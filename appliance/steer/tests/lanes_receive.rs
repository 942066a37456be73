//! The programs that take what lanes' clients send, and that keep the kernel's resets from them.

mod common;

use common::frames::table;
use common::is_privileged;
use common::lane::{
    INDEX, Kind, NOW_MS, Segment, XDP_DROP, XDP_PASS, host_takes, load, next_record, of_other, place, timestamps,
    verdict_since,
};
use fanblade_steer::abi::FlowKey;
use fanblade_steer::abi::lane::{Lane, LaneHook, LaneVerdict, Path, Reason, Record, Sending, Seq, checksum};
use fanblade_steer::abi::packet::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
use fanblade_steer::lanes::Lanes;

type Change = fn(&mut Lane, &mut Segment);
type Row = (&'static str, Change, LaneVerdict, Option<Reason>);

/// One row for each outcome and each reason.
fn rows() -> Vec<Row> {
    use LaneVerdict::{
        ReceiveAnswer, ReceiveData, ReceiveNoAck, ReceiveRaised, ReceiveResetOutside, ReceiveTaken, ReceiveTooOld,
    };
    let raised = |name, change: Change, reason| (name, change, ReceiveRaised, Some(reason));
    let mut rows: Vec<Row> = vec![
        ("acknowledgement", |_, _| (), ReceiveTaken, None),
        ("overtaken", |_, it| it.ack = 900, ReceiveTaken, None),
        (
            "first duplicate",
            |lane, it| (it.ack, it.window, lane.receiving.window) = (1_000, 500, 64_000),
            ReceiveTaken,
            None,
        ),
        ("late without data", |_, it| it.seq = 4_000, ReceiveTaken, None),
        ("one byte", |_, it| payload(it, 1), ReceiveData, None),
        ("a pong", |_, it| payload(it, 6), ReceiveData, None),
        ("the longest data", |_, it| payload(it, 1_024), ReceiveData, None),
        ("keep-alive", |_, it| it.seq = 4_999, ReceiveAnswer, None),
        ("repeated data", |_, it| (it.seq, it.payload) = (4_990, vec![1; 10]), ReceiveAnswer, None),
        (
            "beyond our window",
            |lane, it| (lane.receiving.advertised, it.payload) = (0, vec![1; 2]),
            ReceiveAnswer,
            None,
        ),
        ("urgent, but late", |_, it| (it.seq, it.flags) = (4_000, ACK | URG), ReceiveTaken, None),
        ("reset outside", |_, it| (it.seq, it.flags) = (4_000, RST), ReceiveResetOutside, None),
        ("much too old", |_, it| it.ack = 1_000_u32.wrapping_sub(64_001), ReceiveTooOld, None),
        ("no ACK", |_, it| it.flags = PSH, ReceiveNoAck, None),
    ];
    rows.extend([
        raised("FIN", |_, it| it.flags |= FIN, Reason::Fin),
        raised("reset", |_, it| it.flags = RST, Reason::Reset),
        raised("reset in the window", |_, it| (it.seq, it.flags) = (5_100, RST | ACK), Reason::Reset),
        raised("SYN", |_, it| it.flags = SYN, Reason::Syn),
        raised("urgent", |_, it| it.flags |= URG, Reason::Urgent),
        raised("ECE", |_, it| it.flags |= ECE, Reason::Congestion),
        raised("CWR", |_, it| it.flags |= CWR, Reason::Congestion),
        raised("AE", |_, it| it.reserved = 1, Reason::Congestion),
        raised("third duplicate", third_duplicate, Reason::Duplicates),
        raised("SACK", |_, it| it.options = sack(), Reason::Sack),
        raised("SACK behind timestamps", |_, it| it.options.extend(sack()), Reason::Sack),
        raised("unsent", |_, it| it.ack = 1_301, Reason::AckOfUnsent),
        raised("other options", |_, it| it.options = vec![1; 4], Reason::Options),
        raised("after a gap", |_, it| (it.seq, it.payload) = (5_001, vec![1; 3]), Reason::OutOfOrder),
        raised("overlap", |_, it| (it.seq, it.payload) = (4_999, vec![1; 3]), Reason::Overlap),
        raised("long data", |_, it| payload(it, 1_025), Reason::LongData),
    ]);
    rows
}

fn payload(segment: &mut Segment, len: usize) {
    segment.payload = (0..len).map(|at| (at * 5 + 1).to_le_bytes()[0]).collect();
}

fn third_duplicate(lane: &mut Lane, segment: &mut Segment) {
    (lane.receiving.duplicates, segment.ack, segment.window) = (2, 1_000, 500);
}

fn sack() -> Vec<u8> {
    vec![1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 5, 0]
}

#[test]
fn every_outcome_is_what_the_host_says_in_verdict_state_and_record() {
    if !is_privileged("every_outcome_is_what_the_host_says_in_verdict_state_and_record") {
        return;
    }
    for kind in Kind::all() {
        let mut lanes = load();
        place(&mut lanes, kind);
        let mut verdicts = lanes.verdicts().unwrap();
        for (name, change, verdict, reason) in rows() {
            let (mut lane, mut segment) = (kind.lane(), Segment::of(kind));
            change(&mut lane, &mut segment);
            lanes.set_lane(INDEX, &lane).unwrap();
            let frame = kind.client_frame(&segment);
            let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
            assert_eq!(expected.verdict, verdict, "{name}, {kind:?}");
            assert_eq!(lane.receiving.raised, reason.map_or(0, |reason| reason as u8), "{name}, {kind:?}");
            takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, name);
        }
        // Timestamps that go back, or none where they were agreed on.
        let older = Segment { options: timestamps(399, NOW_MS), payload: vec![1], ..Segment::of(kind) };
        let bare = Segment { options: Vec::new(), ..Segment::of(kind) };
        let reasons = if kind.has_timestamps {
            [Reason::OldTimestamp as u8, Reason::Options as u8]
        } else {
            [Reason::Options as u8, 0]
        };
        for (segment, reason) in [older, bare].into_iter().zip(reasons) {
            let mut lane = kind.lane();
            lanes.set_lane(INDEX, &lane).unwrap();
            let frame = kind.client_frame(&segment);
            let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
            assert_eq!(lane.receiving.raised, reason);
            takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, "timestamps");
        }
    }
}

/// Runs the program over a frame, and compares what it did with what the host has done.
#[track_caller]
fn takes(
    lanes: &mut Lanes,
    verdicts: &mut [(&'static str, u64)],
    frame: &[u8],
    lane: &Lane,
    expected: &common::lane::Expected,
    name: &str,
) {
    let run = lanes.run(LaneHook::Receive, frame, 1).unwrap();
    assert_eq!((run.action, run.frame.as_slice()), (XDP_DROP, frame), "{name}");
    assert_eq!(verdict_since(lanes, verdicts), expected.verdict, "{name}");
    assert_eq!(lanes.lane(INDEX).unwrap(), *lane, "{name}");
    assert_eq!(next_record(lanes), expected.record, "{name}");
    assert_eq!(next_record(lanes), None, "{name}");
}

#[test]
fn each_wrong_byte_of_a_segment_is_seen_in_its_checksum() {
    if !is_privileged("each_wrong_byte_of_a_segment_is_seen_in_its_checksum") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    for (kind, len) in [(Kind::PLAIN, 0), (Kind { has_timestamps: false, ..Kind::PLAIN }, 0), (Kind::PLAIN, 33)] {
        place(&mut lanes, kind);
        let frame = kind.client_frame(&Segment { payload: vec![3; len], ..Segment::of(kind) });
        // Behind the ports, by which the lane is found, and without the header's length.
        for at in (14 + 20 + 4..frame.len()).filter(|at| *at != 14 + 20 + 12) {
            let mut wrong = frame.clone();
            wrong[at] ^= 0x10;
            assert_eq!(lanes.run(LaneHook::Receive, &wrong, 1).unwrap().action, XDP_DROP);
            assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::ReceiveBadSum, "byte {at}");
        }
        let lane = lanes.lane(INDEX).unwrap();
        let counted = u32::try_from(frame.len() - 14 - 20 - 4 - 1).unwrap();
        assert_eq!(lane.receiving.packets, counted, "what is dropped was sent all the same");
        let untouched = kind.lane();
        assert_eq!((lane.sending, lane.receiving.snd_una), (untouched.sending, untouched.receiving.snd_una));
        assert_eq!(next_record(&mut lanes), None);
    }
}

#[test]
fn a_sum_without_the_payload_is_taken_only_from_a_peer_on_this_machine() {
    if !is_privileged("a_sum_without_the_payload_is_taken_only_from_a_peer_on_this_machine") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    let kind = Kind::PLAIN;
    place(&mut lanes, kind);
    let mut frame = kind.client_frame(&Segment { payload: vec![7; 5], ..Segment::of(kind) });
    let len = u16::try_from(frame.len() - 34).unwrap();
    let pseudo = checksum::sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from(len.to_be());
    frame[50..52].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
    for (flags, verdict) in [(0, LaneVerdict::ReceiveBadSum), (Path::UNSUMMED, LaneVerdict::ReceiveData)] {
        lanes.set_path(0, &Path { flags, ..kind.path() }).unwrap();
        lanes.run(LaneHook::Receive, &frame, 1).unwrap();
        assert_eq!(verdict_since(&lanes, &mut verdicts), verdict);
    }
}

#[test]
fn of_a_held_lane_every_packet_goes_to_userspace_as_it_is() {
    if !is_privileged("of_a_held_lane_every_packet_goes_to_userspace_as_it_is") {
        return;
    }
    for kind in Kind::all() {
        let mut lanes = load();
        let mut verdicts = lanes.verdicts().unwrap();
        place(&mut lanes, kind);
        lanes.hold(INDEX).unwrap();
        let mut lane = lanes.lane(INDEX).unwrap();
        assert!(lane.sending.has(Sending::HELD | Sending::USED));
        let long = Segment { payload: vec![9; 9_000], ..Segment::of(kind) };
        let reset = Segment { flags: RST, ..Segment::of(kind) };
        for segment in [Segment::of(kind), long, reset] {
            let mut frame = kind.client_frame(&segment);
            // Not even the checksum is looked at: Linux will.
            *frame.last_mut().unwrap() ^= 1;
            let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
            assert_eq!(expected.verdict, LaneVerdict::ReceiveHeld);
            takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, "held");
        }
        // Longer than a record can be.
        let frame = kind.client_frame(&Segment { payload: vec![9; 10_500], ..Segment::of(kind) });
        let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
        assert_eq!(expected.verdict, LaneVerdict::ReceiveHeldLost);
        takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, "held, too long");
        lanes.release(INDEX).unwrap();
        lane.sending.flags &= !Sending::HELD;
        assert_eq!(lanes.lane(INDEX).unwrap(), lane);
        // As the last, but not held: the lane is raised, without the bytes.
        let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
        assert_eq!(expected.record.as_ref().unwrap().0.len, 0);
        takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, "raised, too long");
        let frame = kind.client_frame(&Segment::of(kind));
        let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
        assert_eq!(expected.verdict, LaneVerdict::ReceiveHeld, "once raised, packets go on as they are");
        takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, "after raising");
    }
}

/// A test run's frames lie in buffers of somewhat less than a page. The extension headers move the TCP header across
/// the end of the first.
#[test]
fn a_header_that_lies_in_two_buffers_raises_its_lane() {
    if !is_privileged("a_header_that_lies_in_two_buffers_raises_its_lane") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    let kind = Kind { is_v6: true, ..Kind::PLAIN };
    let whole = kind.client_frame(&Segment::of(kind));
    let (mut taken, mut raised, mut passed) = (0, 0, 0);
    for units in 120..200_u8 {
        place(&mut lanes, kind);
        // Two destination options before TCP, the first of 2,048 bytes.
        let (mut first, mut second) = (vec![0; 2_048], vec![0; 8 + usize::from(units) * 8]);
        (first[0], first[1], second[0], second[1]) = (60, 255, 6, units);
        let mut frame = [&whole[..54], &first, &second, &whole[54..]].concat();
        let len = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame[20] = 60;
        lanes.run(LaneHook::Receive, &frame, 1).unwrap();
        let record = next_record(&mut lanes);
        let lane = lanes.lane(INDEX).unwrap();
        match verdict_since(&lanes, &mut verdicts) {
            LaneVerdict::ReceiveTaken => taken += 1,
            LaneVerdict::ReceiveRaised => {
                raised += 1;
                let (record, bytes) = record.unwrap();
                assert_eq!((record.kind, record.reason, bytes), (Record::RAISE, Reason::Options as u8, frame));
                assert_eq!(lane.receiving.raised, Reason::Options as u8);
            }
            // Not even its ports can be read.
            LaneVerdict::ReceiveRunt => passed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(taken > 0 && raised > 0 && passed > 0, "{taken} {raised} {passed}");
}

#[test]
fn what_finds_no_room_in_the_ring_buffer_is_not_taken() {
    if !is_privileged("what_finds_no_room_in_the_ring_buffer_is_not_taken") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    let kind = Kind::PLAIN;
    place(&mut lanes, kind);
    let mut data = Segment { payload: vec![3; 1_024], ..Segment::of(kind) };
    let mut taken = 0;
    loop {
        lanes.run(LaneHook::Receive, &kind.client_frame(&data), 1).unwrap();
        match verdict_since(&lanes, &mut verdicts) {
            LaneVerdict::ReceiveData => taken += 1,
            LaneVerdict::ReceiveDataLost => break,
            other => panic!("{other:?}"),
        }
        data.seq += 1_024;
    }
    assert!(taken > 900, "{taken} in a megabyte");
    let lane = lanes.lane(INDEX).unwrap();
    assert_eq!(lane.receiving.rcv_nxt, Seq(data.seq), "the next is still the one that was lost");
    // Smaller records may find the last room; then there is none for any.
    let probe = Segment { seq: data.seq - 1, ..Segment::of(kind) };
    let lost = (0..100).any(|_| {
        lanes.run(LaneHook::Receive, &kind.client_frame(&probe), 1).unwrap();
        verdict_since(&lanes, &mut verdicts) == LaneVerdict::ReceiveAnswerLost
    });
    assert!(lost);
    lanes.run(LaneHook::Receive, &kind.client_frame(&Segment { flags: FIN | ACK, ..data.clone() }), 1).unwrap();
    assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::ReceiveRaisedLost);
    assert_eq!(lanes.lane(INDEX).unwrap().receiving.raised, Reason::Fin as u8);
    lanes.run(LaneHook::Receive, &kind.client_frame(&data), 1).unwrap();
    assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::ReceiveHeldLost);

    // With room again, what is repeated comes through, and what came before is whole and in order.
    for _ in 0..taken {
        let (record, bytes) = next_record(&mut lanes).unwrap();
        assert!((record.kind, record.len, &bytes) == (Record::DATA, 1_024, &data.payload), "{record:?}");
    }
    let mut lane = lanes.lane(INDEX).unwrap();
    lane.receiving.raised = 0;
    lanes.set_lane(INDEX, &lane).unwrap();
    lanes.run(LaneHook::Receive, &kind.client_frame(&data), 1).unwrap();
    assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::ReceiveData);
    assert_eq!(lanes.lane(INDEX).unwrap().receiving.rcv_nxt, Seq(data.seq + 1_024));
}

#[test]
fn what_is_of_no_lane_passes_untouched() {
    if !is_privileged("what_is_of_no_lane_passes_untouched") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    place(&mut lanes, Kind::PLAIN);
    for case in table(true) {
        let verdict = match case.expected {
            Ok(_) if case.is_ours => LaneVerdict::ReceiveNoLane,
            Ok(_) => LaneVerdict::ReceiveNotOurs,
            Err(other) => of_other(other),
        };
        let run = lanes.run(LaneHook::Receive, &case.frame, 1).unwrap();
        assert_eq!((run.action, run.frame), (XDP_PASS, case.frame), "{}", case.name);
        assert_eq!(verdict_since(&lanes, &mut verdicts), verdict, "{}", case.name);
    }
    // Entries that lead nowhere, to no lane, or to a lane of somebody else.
    let kind = Kind::PLAIN;
    let frame = kind.client_frame(&Segment::of(kind));
    let passes = |lanes: &mut Lanes, verdicts: &mut [(&'static str, u64)], name: &str| {
        assert_eq!(lanes.run(LaneHook::Receive, &frame, 1).unwrap().action, XDP_PASS, "{name}");
        assert_eq!(verdict_since(lanes, verdicts), LaneVerdict::ReceiveNoLane, "{name}");
    };
    let with = |change: fn(&mut Sending)| {
        let mut lane = kind.lane();
        change(&mut lane.sending);
        lane
    };
    for (name, lane) in [
        ("not in use", with(|sending| sending.flags &= !Sending::USED)),
        ("another client", with(|sending| sending.client[15] ^= 1)),
        ("another port", with(|sending| sending.client_port ^= 1)),
        ("another path", with(|sending| sending.path = 1)),
    ] {
        lanes.set_lane(INDEX, &lane).unwrap();
        passes(&mut lanes, &mut verdicts, name);
        assert_eq!(lanes.lane(INDEX).unwrap(), lane, "{name}");
    }
    lanes.set_lane(INDEX, &kind.lane()).unwrap();
    let error = lanes.enter(&kind.flow(), INDEX + 1).unwrap_err();
    assert_eq!(error.to_string(), "the flow has lane 5 already: it leaves that one first");
    assert!(lanes.leave(&kind.flow(), INDEX).unwrap());
    assert!(!lanes.leave(&kind.flow(), INDEX).unwrap());
    passes(&mut lanes, &mut verdicts, "no entry");
    lanes.enter(&kind.flow(), 64).unwrap();
    passes(&mut lanes, &mut verdicts, "an index out of range");
}

/// The lookup of 64 lanes has 128 slots, and room for 66 in its overflow.
#[test]
fn flows_are_found_in_their_buckets_and_in_the_overflow() {
    if !is_privileged("flows_are_found_in_their_buckets_and_in_the_overflow") {
        return;
    }
    let mut lanes = load();
    let mut verdicts = lanes.verdicts().unwrap();
    lanes.set_path(0, &Kind::PLAIN.path()).unwrap();
    // One lane for all, which is one flow's after the other. With another port the checksum is wrong: that it is looked
    // at shows that the lane was found.
    let (whole, flow) = (Kind::PLAIN.client_frame(&Segment::of(Kind::PLAIN)), Kind::PLAIN.flow());
    let mut verdict = |lanes: &mut Lanes, port: u16| {
        let mut lane = Kind::PLAIN.lane();
        lane.sending.client_port = port;
        lanes.set_lane(INDEX, &lane).unwrap();
        let mut frame = whole.clone();
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        lanes.run(LaneHook::Receive, &frame, 1).unwrap();
        verdict_since(lanes, &mut verdicts)
    };
    let flows = |ports: std::ops::Range<u16>| ports.map(move |port| (port, FlowKey { src_port: port, ..flow }));
    for (port, flow) in flows(1..171) {
        assert_eq!(verdict(&mut lanes, port), LaneVerdict::ReceiveNoLane, "port {port}");
        lanes.enter(&flow, INDEX).unwrap();
        assert_eq!(verdict(&mut lanes, port), LaneVerdict::ReceiveBadSum, "port {port}");
    }
    let error = flows(171..300).find_map(|(_, flow)| lanes.enter(&flow, INDEX).err()).unwrap();
    assert!(error.to_string().starts_with("map OVERFLOW"), "{error}");
    for (port, flow) in flows(1..171) {
        assert_eq!(verdict(&mut lanes, port), LaneVerdict::ReceiveBadSum, "port {port}");
        assert!(!lanes.leave(&flow, INDEX + 1).unwrap() && lanes.leave(&flow, INDEX).unwrap(), "port {port}");
        assert_eq!(verdict(&mut lanes, port), LaneVerdict::ReceiveNoLane, "port {port}");
    }
}

#[test]
fn the_kernel_does_not_reset_a_lane_and_everything_else_goes_on() {
    if !is_privileged("the_kernel_does_not_reset_a_lane_and_everything_else_goes_on") {
        return;
    }
    for kind in Kind::all() {
        let mut lanes = load();
        let mut verdicts = lanes.verdicts().unwrap();
        place(&mut lanes, kind);
        let reset = kind.kernel_frame(&Segment { flags: RST, ..Segment::of(kind) });
        let acknowledged = kind.kernel_frame(&Segment { flags: RST | ACK, payload: vec![0; 9], ..Segment::of(kind) });
        let data = kind.kernel_frame(&Segment { payload: vec![1; 100], ..Segment::of(kind) });
        // From the client, not to it.
        let other_way = kind.client_frame(&Segment { flags: RST, ..Segment::of(kind) });
        let dropped = (TC_ACT_SHOT, LaneVerdict::GuardDropped);
        let passed = (TC_ACT_UNSPEC, LaneVerdict::GuardPassed);
        let mut guards = |lanes: &mut Lanes, frame: &[u8], expected: (i32, LaneVerdict)| {
            let action = lanes.run(LaneHook::Guard, frame, 1).unwrap().action;
            assert_eq!((action, verdict_since(lanes, &mut verdicts)), expected, "{kind:?}");
        };
        guards(&mut lanes, &reset, dropped);
        guards(&mut lanes, &acknowledged, dropped);
        guards(&mut lanes, &data, passed);
        guards(&mut lanes, &other_way, passed);
        assert!(lanes.leave(&kind.flow(), INDEX).unwrap());
        guards(&mut lanes, &reset, passed);
    }
}

#[test]
fn what_was_held_passes_as_it_is_and_is_counted() {
    if !is_privileged("what_was_held_passes_as_it_is_and_is_counted") {
        return;
    }
    for kind in Kind::all() {
        let mut lanes = load();
        let mut verdicts = lanes.verdicts().unwrap();
        let frame = kind.client_frame(&Segment { payload: vec![1; 100], ..Segment::of(kind) });
        let run = lanes.run(LaneHook::Giveback, &frame, 1).unwrap();
        assert_eq!((run.action, &run.frame), (XDP_PASS, &frame), "{kind:?}");
        assert_eq!(verdict_since(&lanes, &mut verdicts), LaneVerdict::GivebackPassed);
    }
    // No such interface, and a frame that the kernel does not run a program over.
    let mut lanes = load();
    let frame = Kind::PLAIN.client_frame(&Segment::of(Kind::PLAIN));
    assert!(lanes.give_back(4_000_000_000, &frame).is_err());
    assert!(lanes.give_back(1, &[0; 10]).is_err());
    assert!(lanes.give_back(1, &[0; 5_000]).is_err());
}

/// Segments near the lane's state, thousands of them: the program and the host agree in everything.
#[test]
fn random_segments_lead_to_the_same_state_as_on_the_host() {
    if !is_privileged("random_segments_lead_to_the_same_state_as_on_the_host") {
        return;
    }
    let mut counts = std::collections::BTreeMap::new();
    for (seed, kind) in (1..).zip(Kind::all()) {
        let mut random = Random(seed);
        let mut lanes = load();
        let mut verdicts = lanes.verdicts().unwrap();
        place(&mut lanes, kind);
        let mut lane = kind.lane();
        for round in 0..1_000 {
            if lane.receiving.raised != 0 && random.below(3) != 0 {
                let (before, now) = (lane.receiving, kind.lane());
                lane.receiving = fanblade_steer::abi::lane::Receiving { snd_una: lane.sending.snd_nxt, ..before };
                (lane.receiving.raised, lane.receiving.duplicates) = (0, 0);
                lane.sending.acked = lane.receiving.rcv_nxt;
                lane.receiving.window = now.receiving.window;
            }
            // Something is sent now and then, and now and then the lane is held.
            lane.sending.snd_nxt = lane.sending.snd_nxt.plus(random.below(3) * random.below(500));
            lane.sending.flags &= !Sending::HELD;
            lane.sending.flags |= if random.below(40) == 0 { Sending::HELD } else { 0 };
            lanes.set_lane(INDEX, &lane).unwrap();
            let mut frame = kind.client_frame(&random.segment(kind, &lane));
            if random.below(40) == 0 {
                *frame.last_mut().unwrap() ^= 0x20;
            }
            let expected = host_takes(&mut lane, INDEX, &kind.path(), &frame);
            *counts.entry((expected.verdict.name(), lane.receiving.raised)).or_insert(0) += 1;
            takes(&mut lanes, &mut verdicts, &frame, &lane, &expected, &format!("round {round} of {kind:?}"));
        }
    }
    // They come everywhere: most are taken, and every reason is among the others.
    println!("{counts:?}");
    assert!(counts[&("receive_taken", 0)] > 2_000 && counts[&("receive_data", 0)] > 500, "{counts:?}");
    assert!(counts.keys().filter(|(name, _)| *name == "receive_raised").count() > 10, "{counts:?}");
    assert!(counts.keys().filter(|(_, reason)| *reason == 0).count() > 7, "{counts:?}");
}

/// Numbers from xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 32) % u64::from(limit)).unwrap()
    }

    fn near(&mut self, center: Seq, distance: u32) -> u32 {
        center.plus(self.below(2 * distance)).0.wrapping_sub(distance)
    }

    fn segment(&mut self, kind: Kind, lane: &Lane) -> Segment {
        let (sending, receiving) = (&lane.sending, &lane.receiving);
        let seq = if self.below(8) == 0 { self.near(receiving.rcv_nxt, 40) } else { receiving.rcv_nxt.0 };
        let in_flight = sending.snd_nxt.since(receiving.snd_una);
        let ack = match self.below(8) {
            0 => self.near(receiving.snd_una, 3),
            1 => self.near(sending.snd_nxt, 3),
            2 => receiving.snd_una.0,
            3 => self.near(receiving.snd_una, 140_000),
            _ => receiving.snd_una.plus(self.below(in_flight + 1)).0,
        };
        let flags = match self.below(24) {
            0 => 1 << self.below(8) | ACK,
            1 => 1 << self.below(8),
            2 => FIN | ACK,
            _ => ACK,
        };
        let value = self.near(Seq(receiving.ts_recent.wrapping_add(20)), 30);
        let echo = self.near(Seq(NOW_MS.wrapping_add(sending.ts_offset)), 200);
        let options = match self.below(30) {
            0 => sack(),
            1 => Vec::new(),
            2 => timestamps(value, echo),
            3 => vec![1; 4 * self.below(11) as usize],
            _ if kind.has_timestamps => timestamps(value, echo),
            _ => Vec::new(),
        };
        let len = match self.below(12) {
            0 => 1_022 + self.below(5),
            1 => self.below(1_461),
            2 | 3 => self.below(100),
            _ => 0,
        };
        let payload = (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect();
        let window = if self.below(4) == 0 { u16::try_from(self.below(600)).unwrap() } else { 500 };
        Segment { seq, ack, flags, reserved: u8::from(self.below(100) == 0), window, options, payload }
    }
}

const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
