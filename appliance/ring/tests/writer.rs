//! What the writer promises: refusals that are loud and change nothing, bounded work, epochs, the wake-up.

use fanblade_ring::limits::{APPENDED_UNTOLD_MAX, RETIRE_PER_PUBLISH, frame_len_max};
use fanblade_ring::{
    Lane, Lapped, NewFrame, Payloads, Reader, RingConfig, RingError, RingIndex, SubjectId, UnixNs, Writer, WriterStats,
    pair,
};

const KIB: usize = 1024;

fn ring(index_len: usize, lane_len: usize) -> Writer {
    let config = RingConfig {
        index_len,
        lane_len: [lane_len, 0, 0, 0],
        subjects_max: u32::try_from(index_len).unwrap() / 2,
        ..RingConfig::default()
    };
    Writer::create(&config, "20191230-1").unwrap()
}

fn update(subject: SubjectId, seq: u64) -> NewFrame {
    NewFrame { subject, channel: 1, seq, ts_feed_ns: UnixNs(0), ts_publish_ns: UnixNs(0) }
}

fn json(payload: &[u8]) -> Payloads<'_> {
    [payload, b"", b"", b""]
}

/// All that a reader can see of the head of the ring.
fn head(reader: &Reader) -> (RingIndex, RingIndex, RingIndex, u32) {
    (reader.oldest(), reader.tail(), reader.tail_intent(), reader.subject_count())
}

#[test]
fn a_refusal_names_its_cause_is_counted_and_changes_nothing() {
    let mut writer = ring(16, 4 * KIB);
    let reader = writer.open_reader().unwrap();
    let subject = writer.subject("/V/A/trade", 1).unwrap();
    writer.publish(&update(subject, 10), &json(b"one")).unwrap();
    let before = (head(&reader), WriterStats { refused: 0, ..writer.stats() });

    let error = writer.publish(&update(SubjectId(7), 11), &json(b"x")).unwrap_err();
    assert!(matches!(error, RingError::UnknownSubject(7)));
    let error = writer.publish(&update(subject, 9), &json(b"x")).unwrap_err();
    assert!(matches!(error, RingError::SeqBackwards { seq: 9, last: 10 }));
    let error = writer.publish(&update(subject, 11), &json(&[b'x'; 509])).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 513 bytes in lane json, which takes 512");
    for name in ["", &"x".repeat(129)] {
        assert!(matches!(writer.subject(name, 1), Err(RingError::SubjectName(_))));
    }
    assert_eq!(writer.stats().refused, 5);
    assert_eq!((head(&reader), WriterStats { refused: 0, ..writer.stats() }), before);

    for n in 1..8 {
        writer.subject(&format!("/V/{n}/trade"), 1).unwrap();
    }
    let error = writer.subject("/V/one too many/trade", 1).unwrap_err();
    assert_eq!(error.to_string(), "the subject table is full (8 subjects)");
    assert_eq!(writer.stats().refused, 6);

    let error = writer.set_epoch("an epoch's name of 32 characters").unwrap_err();
    assert!(matches!(error, RingError::Epoch(32)));
    assert_eq!(reader.epoch(), (1, "20191230-1".to_owned()));
}

#[test]
fn a_new_subject_is_refused_at_half_of_a_lane_and_an_old_one_may_still_grow_a_little() {
    let mut writer = ring(64, 4 * KIB);
    let reader = writer.open_reader().unwrap();
    let quarter_kib = [b'x'; 252];
    for n in 0..8 {
        let subject = writer.subject(&format!("/V/{n}/book"), 3).unwrap();
        writer.publish(&update(subject, 1), &json(&quarter_kib)).unwrap();
    }
    assert_eq!(writer.stats().live_bytes[0], 2048);
    let refused = writer.subject("/V/8/book", 3).unwrap();
    let error = writer.publish(&update(refused, 1), &json(b"x")).unwrap_err();
    assert_eq!(error.to_string(), "the newest frames would take 2051 bytes of lane json, of which 2048 may be live");
    // 512 more bytes, then no more.
    for n in 0..2 {
        writer.publish(&update(SubjectId(n), 2), &json(&[b'y'; 508])).unwrap();
    }
    assert!(matches!(writer.publish(&update(SubjectId(2), 2), &json(&[b'y'; 253])), Err(RingError::LiveBytes { .. })));
    // At the limit it goes on for ever, and everybody's newest frame stays.
    for seq in 3..2000 {
        writer.publish(&update(SubjectId(0), seq), &json(&[b'z'; 508])).unwrap();
        for n in 0..8 {
            let newest = reader.newest(SubjectId(n)).unwrap();
            assert!(!reader.near_edge(newest));
            assert_eq!(reader.descriptor(newest).unwrap().subject, SubjectId(n));
        }
    }
    assert_eq!(reader.subject(refused).unwrap().newest, None);
}

#[test]
fn one_publish_retires_few_frames_even_when_all_of_the_live_ones_lie_in_a_row() {
    let mut writer = ring(1 << 12, 1 << 20);
    let subjects: Vec<_> = (0..2000).map(|n| writer.subject(&format!("/V/{n}/status"), 4).unwrap()).collect();
    // Like a morning: every subject once, then one of them for ever.
    for (seq, subject) in (1..).zip(&subjects) {
        writer.publish(&update(*subject, seq), &json(&[b'x'; 256])).unwrap();
    }
    for seq in 2000..20_000 {
        writer.publish(&update(subjects[0], seq), &json(&[b'y'; 256])).unwrap();
    }
    let stats = writer.stats();
    assert_eq!(stats.published, 20_000);
    assert!(stats.refreshed > 5 * 1999, "{stats:?}");
    assert!(stats.retired_burst_max <= u64::from(RETIRE_PER_PUBLISH), "{stats:?}");
}

#[test]
fn retired_frames_stay_whole_for_an_eighth_of_the_ring() {
    let mut writer = ring(256, 1 << 20);
    let reader = writer.open_reader().unwrap();
    let subject = writer.subject("/V/A/trade", 1).unwrap();
    for seq in 0..1000 {
        writer.publish(&update(subject, seq), &json(b"payload")).unwrap();
    }
    let edge = reader.oldest();
    // The margin is 32; of the reserve of two, the last publish took one.
    assert_eq!(reader.tail().since(edge), 256 - 32 - 1);
    let last = edge.previous().unwrap();
    assert!(reader.near_edge(last) && !reader.near_edge(edge));
    let descriptor = reader.descriptor(last).unwrap();
    // What is retired is about 32 frames from the bytes that are being written.
    for seq in 1000..1030 {
        assert!(reader.is_intact(last), "lost after {} frames", seq - 1000);
        writer.publish(&update(subject, seq), &json(b"payload")).unwrap();
    }
    for seq in 1030..1040 {
        writer.publish(&update(subject, seq), &json(b"payload")).unwrap();
    }
    assert!(!reader.is_intact(last));
    assert_eq!(reader.descriptor(last), Err(Lapped));
    let mut out = b"kept".to_vec();
    assert_eq!(reader.copy_frame(&descriptor, Lane::Json, &mut out), Err(Lapped));
    assert_eq!(out, b"kept");
}

#[test]
fn a_new_epoch_starts_the_chains_anew_and_keeps_the_last_values() {
    let mut writer = ring(16, 4 * KIB);
    let reader = writer.open_reader().unwrap();
    let kept = writer.subject("/V/KEPT/status", 4).unwrap();
    let busy = writer.subject("/V/BUSY/trade", 1).unwrap();
    writer.publish(&update(kept, 500), &json(b"old")).unwrap();
    writer.publish(&update(busy, 501), &json(b"old")).unwrap();
    assert_eq!(writer.last_seq(busy), 501);

    writer.set_floor(400);
    assert_eq!((reader.floor(), reader.epoch().0), (400, 1));
    writer.set_epoch("20191231-1").unwrap();
    assert_eq!(reader.floor(), 0, "each numbering has its own");
    assert_eq!(reader.epoch(), (2, "20191231-1".to_owned()));
    assert_eq!((reader.generation(), reader.epoch_start()), (2, RingIndex(2)));
    assert_eq!((reader.oldest_seq(), reader.seek_seq(0)), (None, None));
    assert_eq!(writer.last_seq(busy), 0);
    // Upstream begins at 1 again.
    let first = writer.publish(&update(busy, 1), &json(b"new")).unwrap();
    let descriptor = reader.descriptor(first).unwrap();
    assert_eq!((descriptor.prev, descriptor.prev_index), (0, RingIndex::NONE));
    assert_eq!((reader.oldest_seq(), reader.seek_seq(0), reader.seek_seq(1)), (Some(1), Some(first), None));
    for seq in 2..100 {
        writer.publish(&update(busy, seq), &json(b"new")).unwrap();
    }
    // The other subject's frame has been carried along: by its origin it belongs to the old epoch.
    let descriptor = reader.descriptor(reader.newest(kept).unwrap()).unwrap();
    assert!(descriptor.is_refresh());
    assert_eq!((descriptor.seq, descriptor.origin), (500, RingIndex(0)));
    assert!(descriptor.index >= reader.epoch_start() && descriptor.origin < reader.epoch_start());
}

#[test]
fn publishing_wakes_a_sleeping_worker_in_another_thread() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut writer = ring(1 << 10, 1 << 16);
    let reader = writer.open_reader().unwrap();
    let subject = writer.subject("/V/A/trade", 1).unwrap();
    let (waker, sleeper) = pair().unwrap();
    writer.add_waker(waker);
    const FRAMES: u64 = 20_000;
    let worker = std::thread::spawn(move || {
        let mut sleeps = 0;
        while reader.tail() < RingIndex(FRAMES) {
            let seen = reader.tail();
            sleeper.prepare();
            if reader.tail() == seen {
                let mut fds = [PollFd::new(sleeper.fd(), PollFlags::POLLIN)];
                assert_ne!(poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap(), 0, "slept on {seen} frames");
                sleeps += 1;
            }
            sleeper.clear();
        }
        sleeps
    });
    for seq in 0..FRAMES {
        writer.publish(&update(subject, seq), &json(b"payload")).unwrap();
        if seq % 100 == 0 {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }
    assert_ne!(worker.join().unwrap(), 0, "the worker never slept, so this tested nothing");
}

#[test]
fn appended_frames_ring_for_a_sleeper_once_the_caller_or_the_limit_says() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut writer = ring(1 << 10, 1 << 16);
    let reader = writer.open_reader().unwrap();
    let subject = writer.subject("/V/A/trade", 1).unwrap();
    let (waker, sleeper) = pair().unwrap();
    writer.add_waker(waker);
    let rung = || poll(&mut [PollFd::new(sleeper.fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0;
    sleeper.prepare();
    for seq in 1..u64::from(APPENDED_UNTOLD_MAX) {
        writer.append(&update(subject, seq), &json(b"payload")).unwrap();
        assert_eq!(reader.tail(), RingIndex(seq), "who is awake sees it");
    }
    assert!(!rung());
    writer.append(&update(subject, 100), &json(b"payload")).unwrap();
    assert!(rung(), "nobody sleeps through a long burst");
    sleeper.clear();

    sleeper.prepare();
    writer.append(&update(subject, 101), &json(b"payload")).unwrap();
    assert!(!rung());
    writer.wake();
    assert!(rung());
}

#[test]
fn header_lengths_of_all_sizes_reach_the_lanes() {
    let lane_len = [1 << 20, 1 << 20, 1 << 20, 1 << 20];
    let config = RingConfig { index_len: 64, lane_len, subjects_max: 8, checksums: true };
    let mut writer = Writer::create(&config, "e").unwrap();
    let reader = Reader::open(writer.fd()).unwrap();
    let subject = writer.subject("/V/A/book", 3).unwrap();
    let longest = frame_len_max(1 << 20) - 10;
    for (seq, len) in [1, 125, 126, 65_535, 65_536, longest].into_iter().enumerate() {
        let payload = vec![b'p'; len];
        let index = writer.publish(&update(subject, seq as u64), &[payload.as_slice(); 4]).unwrap();
        let descriptor = reader.descriptor(index).unwrap();
        let lengths = descriptor.lanes.map(|frame| frame.length as usize - len);
        let header = if len < 126 {
            2
        } else if len < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(lengths, [header, header, header, 0]);
        for (lane, first) in Lane::ALL.into_iter().zip([0x81, 0x82, 0xC1, b'p']) {
            let mut frame = Vec::new();
            reader.copy_frame(&descriptor, lane, &mut frame).unwrap();
            assert_eq!((frame[0], frame.len()), (first, descriptor.lanes[lane as usize].length as usize));
            assert_eq!(crc32fast::hash(&frame), descriptor.lanes[lane as usize].crc);
        }
    }
}
