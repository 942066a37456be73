//! What a lane makes of one segment: a row for each behaviour of a client.

use fanblade_abi::lane::receive::{DATA_LEN_MAX, DUPLICATES_MAX, TIMEOUT_UNMEASURED_MS};
use fanblade_abi::lane::{Drop, Header, Lane, Outcome, Reason, Seq};
use fanblade_abi::packet::{self, ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

use crate::frames::{Addresses, Segment};

/// A lane that has sent 3,000 bytes from 1,000 on, of which nothing is acknowledged.
fn busy(has_timestamps: bool) -> Lane {
    let mut lane = Addresses::PLAIN.lane(has_timestamps);
    lane.sent(Seq(5_000), 1_000, 1_052);
    lane.sent(Seq(5_000), 1_000, 1_052);
    lane.sent(Seq(5_000), 1_000, 1_052);
    lane
}

/// An acknowledgement in order that says nothing new.
fn plain() -> Segment {
    Segment {
        seq: Seq(5_000),
        ack: Seq(1_000),
        flags: ACK,
        window: 500,
        timestamps: Some((401, 2_077)),
        ..Segment::default()
    }
}

/// Gives the segment to the lane as a frame.
fn give(lane: &mut Lane, segment: &Segment) -> Outcome {
    let frame = Addresses::PLAIN.client_frame(segment);
    let parsed = packet::parse(frame.as_slice()).unwrap();
    lane.receive(&Header::read(frame.as_slice(), &parsed).unwrap(), NOW_MS, NOW_NS)
}

/// Gives one changed segment to a busy lane.
fn on_busy(change: impl FnOnce(&mut Segment)) -> (Outcome, Lane) {
    let (mut lane, mut segment) = (busy(true), plain());
    change(&mut segment);
    let outcome = give(&mut lane, &segment);
    (outcome, lane)
}

#[track_caller]
fn raises(reason: Reason, change: impl FnOnce(&mut Segment)) {
    let (outcome, lane) = on_busy(change);
    assert_eq!(outcome, Outcome::Raise(reason));
    assert_eq!(lane.receiving.raised, reason as u8);
    // Nothing of it has been taken: Linux gets the packet as it was.
    let untouched = busy(true).receiving;
    let taken = (lane.receiving.snd_una, lane.receiving.rcv_nxt, lane.receiving.ts_recent);
    assert_eq!(taken, (untouched.snd_una, untouched.rcv_nxt, untouched.ts_recent), "{reason:?}");
}

#[test]
fn an_acknowledgement_moves_the_lane_on() {
    let (outcome, lane) = on_busy(|segment| (segment.ack, segment.window) = (Seq(2_000), 400));
    assert_eq!(outcome, Outcome::Taken);
    let receiving = lane.receiving;
    assert_eq!((receiving.snd_una, receiving.window, receiving.ts_recent), (Seq(2_000), 400 << 7, 401));
    assert_eq!((receiving.advanced_ns, receiving.taken_ns), (NOW_NS, NOW_NS));
    // Now is 2,100 on our clock, 77 more in timestamps: sent 100 ms ago.
    assert_eq!((receiving.srtt, receiving.rttvar, receiving.timeout_ms()), (100 << 3, 100 << 1, 300));
}

#[test]
fn a_stretch_and_a_part_of_a_segment_are_acknowledged_as_well() {
    for ack in [1_001, 1_500, 3_999, 4_000] {
        let (outcome, lane) = on_busy(|segment| segment.ack = Seq(ack));
        assert_eq!((outcome, lane.receiving.snd_una), (Outcome::Taken, Seq(ack)));
    }
}

#[test]
fn the_third_duplicate_raises_and_new_data_between_them_changes_nothing() {
    let mut lane = busy(true);
    for round in 1..DUPLICATES_MAX {
        assert_eq!(give(&mut lane, &plain()), Outcome::Taken, "{round}");
        lane.sent(Seq(5_000), 100, 152);
    }
    assert_eq!(give(&mut lane, &plain()), Outcome::Raise(Reason::Duplicates));
}

#[test]
fn what_only_looks_like_a_duplicate_is_none() {
    type Change = fn(&mut Segment, u32);
    let rows: [(&str, Change); 3] = [
        ("a window that opens", |segment, round| segment.window = 500 + u16::try_from(round).unwrap()),
        ("an old acknowledgement", |segment, _| segment.ack = Seq(999)),
        ("data", |segment, round| {
            segment.seq = Seq(5_000 + 2 * (round - 1));
            segment.payload = vec![1; 2];
        }),
    ];
    for (what, change) in rows {
        let mut lane = busy(true);
        for round in 1..=10 {
            let mut segment = plain();
            change(&mut segment, round);
            let outcome = give(&mut lane, &segment);
            let len = u32::try_from(segment.payload.len()).unwrap();
            lane.receiving.received(len);
            let expected = if len > 0 { Outcome::Data { len } } else { Outcome::Taken };
            assert_eq!((outcome, lane.receiving.duplicates), (expected, 0), "{what}, {round}");
        }
    }
    // With nothing in flight, a repeated acknowledgement is a client that shows that it lives.
    let mut idle = Addresses::PLAIN.lane(true);
    (0..10).for_each(|_| assert_eq!(give(&mut idle, &plain()), Outcome::Taken));
}

#[test]
fn acknowledgements_that_were_swapped_on_their_way_leave_the_newer_one() {
    let mut lane = busy(true);
    let newer = Segment { ack: Seq(3_000), window: 300, timestamps: Some((410, 2_077)), ..plain() };
    let older = Segment { ack: Seq(2_000), window: 450, timestamps: Some((405, 2_050)), ..plain() };
    assert_eq!(give(&mut lane, &newer), Outcome::Taken);
    let before = lane.receiving;
    assert_eq!(give(&mut lane, &older), Outcome::Taken);
    let after = lane.receiving;
    assert_eq!((after.snd_una, after.window, after.ts_recent), (before.snd_una, before.window, before.ts_recent));
    assert_eq!(after.duplicates, 0);
}

#[test]
fn an_edge_of_the_window_that_moves_left_and_a_window_that_shuts_are_taken() {
    let (outcome, lane) = on_busy(|segment| segment.window = 10);
    assert_eq!((outcome, lane.receiving.window, lane.receiving.window_max), (Outcome::Taken, 1_280, 64_000));
    assert!(lane.admit(9, Seq(4_000), 1).is_err());
    let (outcome, lane) = on_busy(|segment| segment.window = 0);
    assert_eq!((outcome, lane.receiving.window), (Outcome::Taken, 0));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_raises_and_one_that_is_too_old_is_dropped() {
    raises(Reason::AckOfUnsent, |segment| segment.ack = Seq(4_001));
    raises(Reason::AckOfUnsent, |segment| segment.ack = Seq(1_000_u32.wrapping_add(1 << 31).wrapping_sub(1)));
    let (outcome, lane) = on_busy(|segment| segment.ack = Seq(1_000_u32.wrapping_sub(64_001)));
    assert_eq!((outcome, lane.receiving.snd_una, lane.receiving.ts_recent), (TOO_OLD, Seq(1_000), 400));
    let (outcome, _) = on_busy(|segment| segment.ack = Seq(1_000_u32.wrapping_sub(64_000)));
    assert_eq!(outcome, Outcome::Taken);
}

#[test]
fn who_is_told_again_where_we_are() {
    // RFC 9293, 3.10.7.4, first and fifth; RFC 5961, 5.2.
    let no: [Outcome; 5] = [
        Outcome::Taken,
        Outcome::Data { len: 1 },
        Outcome::Raise(Reason::Fin),
        Outcome::Drop(Drop::ResetOutside),
        Outcome::Drop(Drop::NoAck),
    ];
    assert!(Outcome::Answer.is_answered() && TOO_OLD.is_answered());
    assert!(no.into_iter().all(|outcome| !outcome.is_answered()));
}

#[test]
fn short_data_in_order_is_handed_over_and_counts_only_when_it_has_been() {
    let (outcome, mut lane) = on_busy(|segment| {
        segment.flags |= PSH;
        segment.payload = vec![7; DATA_LEN_MAX as usize];
    });
    assert_eq!(outcome, Outcome::Data { len: DATA_LEN_MAX });
    assert_eq!(lane.receiving.rcv_nxt, Seq(5_000));
    lane.receiving.received(DATA_LEN_MAX);
    assert_eq!(lane.receiving.rcv_nxt, Seq(5_000 + DATA_LEN_MAX));
    raises(Reason::LongData, |segment| segment.payload = vec![7; DATA_LEN_MAX as usize + 1]);
}

#[test]
fn what_does_not_begin_where_the_last_one_ended_is_answered_or_raises() {
    let data =
        |from: u32, len: usize| move |segment: &mut Segment| (segment.seq, segment.payload) = (Seq(from), vec![7; len]);
    raises(Reason::OutOfOrder, data(5_001, 1));
    raises(Reason::OutOfOrder, data(5_000 + WINDOW - 1, 1));
    raises(Reason::OutOfOrder, |segment| segment.seq = Seq(5_001));
    raises(Reason::Overlap, data(4_999, 2));
    raises(Reason::Overlap, data(4_000, 1_001));
    for (what, from, len) in [
        ("repeated", 4_990, 10),
        ("repeated in part", 4_980, 10),
        ("a keep-alive with a byte", 4_999, 1),
        ("a keep-alive", 4_999, 0),
        ("beyond the window", 5_000 + WINDOW, 1),
        ("far beyond it", 5_000 + (1 << 30), 1),
    ] {
        let (outcome, lane) = on_busy(data(from, len));
        assert_eq!((outcome, lane.receiving.rcv_nxt), (Outcome::Answer, Seq(5_000)), "{what}");
    }
    // An acknowledgement that was overtaken by data.
    assert_eq!(on_busy(|segment| segment.seq = Seq(4_990)).0, Outcome::Taken);
}

#[test]
fn odd_flags_and_options_raise_nothing_where_the_number_is_wrong() {
    type Change = fn(&mut Segment);
    let odd: [(&str, Change); 5] = [
        ("urgent", |segment| segment.flags |= URG),
        ("ECE", |segment| segment.flags |= ECE),
        ("CWR", |segment| segment.flags |= CWR),
        ("SACK", |segment| segment.sack = vec![(2_000, 3_000)]),
        ("no options", |segment| segment.timestamps = None),
    ];
    for (what, change) in odd {
        // Before the window, beyond it, and far away.
        for seq in [4_900, 5_000 + WINDOW, 5_000 + (1 << 30), 5_000_u32.wrapping_sub(1 << 30)] {
            for (len, expected) in [(0, Outcome::Taken), (7, Outcome::Answer)] {
                let (outcome, lane) = on_busy(|segment| {
                    (segment.seq, segment.payload) = (Seq(seq), vec![1; len]);
                    change(segment);
                });
                assert_eq!((outcome, lane), (expected, busy(true)), "{what} at {seq}, {len} bytes");
            }
        }
    }
}

#[test]
fn an_end_a_reset_a_syn_and_urgent_data_raise() {
    raises(Reason::Fin, |segment| segment.flags |= FIN);
    raises(Reason::Fin, |segment| (segment.flags, segment.payload) = (FIN | ACK, vec![7; 10]));
    raises(Reason::OutOfOrder, |segment| (segment.flags, segment.seq) = (FIN | ACK, Seq(5_010)));
    raises(Reason::Syn, |segment| segment.flags = SYN);
    raises(Reason::Syn, |segment| segment.flags = SYN | ACK);
    raises(Reason::Urgent, |segment| segment.flags |= URG);
    raises(Reason::Reset, |segment| segment.flags = RST);
    raises(Reason::Reset, |segment| (segment.flags, segment.seq) = (RST, Seq(5_000 + WINDOW - 1)));
    for seq in [4_999, 5_000 + WINDOW] {
        let (outcome, lane) = on_busy(|segment| (segment.flags, segment.seq) = (RST, Seq(seq)));
        assert_eq!((outcome, lane), (Outcome::Drop(Drop::ResetOutside), busy(true)), "{seq}");
    }
    assert_eq!(on_busy(|segment| segment.flags = PSH).0, Outcome::Drop(Drop::NoAck));
    assert_eq!(on_busy(|segment| segment.flags = 0).0, Outcome::Drop(Drop::NoAck));
}

#[test]
fn a_word_of_congestion_raises() {
    raises(Reason::Congestion, |segment| segment.flags |= ECE);
    raises(Reason::Congestion, |segment| segment.flags |= CWR);
    // The ninth flag (accurate ECN), and bits that nobody has given a meaning.
    for bit in [1, 2, 4, 8] {
        let mut frame = Addresses::PLAIN.client_frame(&plain());
        let parsed = packet::parse(frame.as_slice()).unwrap();
        frame[parsed.tcp_at as usize + 12] |= bit;
        let header = Header::read(frame.as_slice(), &parsed).unwrap();
        assert_eq!(busy(true).receive(&header, NOW_MS, NOW_NS), Outcome::Raise(Reason::Congestion));
    }
}

#[test]
fn options_raise_unless_they_are_the_timestamps_that_were_agreed_on() {
    raises(Reason::Options, |segment| segment.timestamps = None);
    raises(Reason::Sack, |segment| segment.sack = vec![(2_000, 3_000)]);
    raises(Reason::Sack, |segment| (segment.sack, segment.timestamps) = (vec![(2_000, 3_000), (3_500, 3_600)], None));
    raises(Reason::Sack, |segment| (segment.sack, segment.timestamps) = (vec![(2_000, 3_000)], None));
    let mut without = busy(false);
    assert_eq!(give(&mut without, &plain()), Outcome::Raise(Reason::Options));
    let mut without = busy(false);
    let bare = Segment { ack: Seq(2_000), timestamps: None, ..plain() };
    assert_eq!((give(&mut without, &bare), without.receiving.snd_una), (Outcome::Taken, Seq(2_000)));
    // Without timestamps nothing is measured here, and the timeout is the first one.
    assert_eq!((without.receiving.srtt, without.receiving.timeout_ms()), (0, TIMEOUT_UNMEASURED_MS));
    // The timestamps in another place: right, but not known.
    let mut frame = Addresses::PLAIN.client_frame(&plain());
    let parsed = packet::parse(frame.as_slice()).unwrap();
    let at = parsed.tcp_at as usize + 20;
    frame[at..at + 12].rotate_left(2);
    let header = Header::read(frame.as_slice(), &parsed).unwrap();
    assert_eq!(busy(true).receive(&header, NOW_MS, NOW_NS), Outcome::Raise(Reason::Options));
}

#[test]
fn timestamps_do_not_go_back() {
    // Data, an end or news that are older than what was there: of an old connection, or a numbering that has wrapped.
    let old = |segment: &mut Segment| segment.timestamps = Some((399, 2_077));
    raises(Reason::OldTimestamp, |segment| {
        old(segment);
        segment.payload = vec![7; 3];
    });
    raises(Reason::OldTimestamp, |segment| {
        old(segment);
        segment.ack = Seq(2_000);
    });
    let (outcome, lane) = on_busy(old);
    assert_eq!((outcome, lane.receiving.ts_recent), (Outcome::Taken, 400));
    // The first one that a lane hears of may be any.
    let mut lane = busy(true);
    (lane.receiving.ts_recent, lane.receiving.has_ts_recent) = (0, 0);
    let first = Segment { timestamps: Some((1 << 31 | 5, 2_077)), ..plain() };
    assert_eq!((give(&mut lane, &first), lane.receiving.ts_recent), (Outcome::Taken, 1 << 31 | 5));
    let older = Segment { timestamps: Some((1 << 31 | 4, 2_077)), payload: vec![7], ..plain() };
    assert_eq!(give(&mut lane, &older), Outcome::Raise(Reason::OldTimestamp));
    // Across the wrap.
    let mut lane = busy(true);
    lane.receiving.ts_recent = u32::MAX;
    let wrapped = Segment { timestamps: Some((3, 2_077)), ..plain() };
    assert_eq!((give(&mut lane, &wrapped), lane.receiving.ts_recent), (Outcome::Taken, 3));
}

#[test]
fn the_newest_timestamp_is_that_of_what_was_acknowledged_last() {
    // Two segments in a row, before the first one is acknowledged: the echo is that of the first (RFC 7323, 4.3).
    let mut lane = busy(true);
    let first = Segment { payload: vec![1; 10], timestamps: Some((410, 2_077)), ..plain() };
    let second = Segment { seq: Seq(5_010), timestamps: Some((420, 2_077)), ..first.clone() };
    for segment in [first, second] {
        assert_eq!(give(&mut lane, &segment), Outcome::Data { len: 10 });
        lane.receiving.received(10);
        assert_eq!(lane.receiving.ts_recent, 410);
    }
    lane.sent(lane.receiving.rcv_nxt, 0, 52);
    let third = Segment { seq: Seq(5_020), timestamps: Some((430, 2_077)), ..plain() };
    assert_eq!((give(&mut lane, &third), lane.receiving.ts_recent), (Outcome::Taken, 430));
}

#[test]
fn the_round_trip_time_is_smoothed_and_an_echo_that_cannot_be_is_not_counted() {
    let mut receiving = Addresses::PLAIN.lane(true).receiving;
    receiving.measured(80);
    // RFC 6298, 2.2 and 2.3, in milliseconds: SRTT 80, RTTVAR 40; then SRTT 90, RTTVAR 50.
    receiving.measured(160);
    assert_eq!((receiving.srtt, receiving.rttvar), (90 << 3, 50 << 2));
    assert_eq!(receiving.timeout_ms(), 90 + 200);
    let before = receiving;
    receiving.measured(60_001);
    receiving.measured(u32::MAX);
    assert_eq!(receiving, before);
    (0..200).for_each(|_| receiving.measured(0));
    assert!((1 << 3..2 << 3).contains(&receiving.srtt), "{receiving:?}");
    assert!((201..=203).contains(&receiving.timeout_ms()), "{}", receiving.timeout_ms());
}

/// The window that the lane advertises: 500, shifted by 7.
const WINDOW: u32 = 64_000;
const NOW_MS: u32 = 2_100;
const NOW_NS: u64 = 2_100_000_000;
const TOO_OLD: Outcome = Outcome::Drop(Drop::TooOld);
