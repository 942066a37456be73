//! Once a ring stands and its subjects exist, neither side asks the allocator for anything.

use std::hint::black_box;

use fanblade_ring::{Lane, LanePosition, NewFrame, RingConfig, SubjectId, UnixNs, Writer, pair};
use fanblade_testkit::allocations::{self, Counting};

#[test]
fn publishing_and_reading_allocate_nothing() {
    let lane_len = [1 << 18, 1 << 17, 0, 0];
    let config = RingConfig { index_len: 1 << 10, lane_len, subjects_max: 1 << 8, checksums: true };
    let mut writer = Writer::create(&config, "20191230-1").unwrap();
    let reader = writer.open_reader().unwrap();
    let (waker, sleeper) = pair().unwrap();
    writer.add_waker(waker);
    let subjects: Vec<SubjectId> = (0..100).map(|n| writer.subject(&format!("/V/{n}/book"), 3).unwrap()).collect();
    let (json, binary) = ([b'j'; 600], [b'b'; 360]);
    // A reader's buffer has the size of the longest frame that it has seen.
    let mut frame = Vec::with_capacity(1024);

    let before = allocations::count();
    for seq in 1..20_000_u64 {
        // Some subjects are rarely heard of: their frames have to be carried along.
        let place = if seq % 100 < 90 { seq % 10 } else { seq % 97 };
        let subject = subjects[usize::try_from(place).unwrap()];
        let update = NewFrame { subject, channel: 3, seq, ts_feed_ns: UnixNs(seq), ts_publish_ns: UnixNs(seq) };
        sleeper.prepare();
        let len = 100 + (seq % 500) as usize;
        let index = writer.append(&update, &[&json[..len], &binary[..len / 2], b"", b""]).unwrap();
        writer.wake();
        sleeper.clear();

        assert_eq!(reader.tail(), index.next());
        let descriptor = reader.descriptor(reader.newest(subject).unwrap()).unwrap();
        for lane in [Lane::Json, Lane::Binary] {
            frame.clear();
            reader.copy_frame(&descriptor, lane, &mut frame).unwrap();
            assert_eq!(frame.len(), descriptor.lanes[lane as usize].length as usize);
        }
        let subject = reader.subject(subject).unwrap();
        black_box((
            &*subject.name,
            reader.oldest(),
            reader.generation(),
            reader.frame_ptr(Lane::Json, LanePosition(0)),
        ));
    }
    assert_eq!(allocations::count() - before, 0);
    assert!(writer.stats().refreshed > 100, "{:?}", writer.stats());

    // The measure itself works.
    drop(black_box(vec![0_u8; 10]));
    assert_eq!(allocations::count() - before, 1);
}

#[global_allocator]
static COUNTING: Counting = Counting;
