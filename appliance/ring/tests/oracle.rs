//! Random publishes into tiny rings, against a model that forgets nothing.

use std::collections::HashMap;

use fanblade_ring::{
    Descriptor, LANES, Lane, Lapped, NewFrame, Reader, RingConfig, RingError, RingIndex, SubjectId, UnixNs, Writer,
    WriterStats,
};
use proptest::prelude::*;

/// All that was ever published, by the ring index of its first place.
#[derive(Default)]
struct Model {
    frames: HashMap<RingIndex, Frame>,
    /// Origins per subject, oldest first.
    subjects: Vec<Vec<RingIndex>>,
}

struct Frame {
    subject: u32,
    seq: u64,
    prev: u64,
    bytes: [Vec<u8>; LANES],
}

impl Model {
    fn newest(&self, subject: u32) -> Option<(RingIndex, &Frame)> {
        let origin = *self.subjects[subject as usize].last()?;
        Some((origin, &self.frames[&origin]))
    }
}

#[derive(Debug, Clone)]
struct Step {
    subject: u32,
    seq_step: u64,
    /// Payload lengths as fractions of the longest possible.
    lengths: [u16; LANES],
}

#[derive(Debug, Clone)]
struct Case {
    index_len: usize,
    lane_len: [usize; LANES],
    subjects: u32,
    steps: Vec<Step>,
}

fn subjects_max(index_len: usize) -> u32 {
    u32::try_from(index_len).unwrap() / 2
}

/// The channel of a subject.
fn channel(subject: u32) -> u16 {
    u16::try_from(subject).unwrap()
}

fn cases() -> impl Strategy<Value = Case> {
    let lane = prop_oneof![1 => Just(0_usize), 3 => Just(4096_usize), 2 => Just(8192_usize)];
    let lanes = [Just(4096_usize).boxed(), lane.clone().boxed(), lane.clone().boxed(), lane.boxed()];
    (4..8_u32, lanes, 1..40_u32, 0..3_u8).prop_flat_map(|(index_bits, lane_len, subjects, skew)| {
        let index_len = 1 << index_bits;
        let subjects = subjects.min(subjects_max(index_len));
        let subject = (0..subjects, 0..subjects).prop_map(move |(a, b)| match skew {
            0 => a,
            1 => a.min(b),
            // One subject takes nearly all, so that the others must be carried along.
            _ => {
                if a == b {
                    a
                } else {
                    0
                }
            }
        });
        // Mostly small frames, sometimes the longest that fits, sometimes none.
        let length = prop_oneof![1 => Just(0_u16), 12 => 1..2500_u16, 1 => 0..u16::MAX, 1 => Just(u16::MAX)];
        let step = (subject, 0..3_u64, [length.clone(), length.clone(), length.clone(), length])
            .prop_map(|(subject, seq_step, lengths)| Step { subject, seq_step, lengths });
        proptest::collection::vec(step, 1..400).prop_map(move |steps| Case { index_len, lane_len, subjects, steps })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_tells_what_the_model_knows(case in cases()) {
        let config = RingConfig {
            index_len: case.index_len,
            lane_len: case.lane_len,
            subjects_max: subjects_max(case.index_len),
            checksums: true,
        };
        let mut writer = Writer::create(&config, "e1").unwrap();
        let reader = writer.open_reader().unwrap();
        let mut model = Model::default();
        for n in 0..case.subjects {
            let name = format!("/VENUE/S{n}/bbo");
            prop_assert_eq!(writer.subject(&name, channel(n)).unwrap(), SubjectId(n));
            model.subjects.push(Vec::new());
        }
        let mut seq = 1;
        let mut refused = 0;
        for (n, step) in case.steps.iter().enumerate() {
            seq += step.seq_step;
            match publish(&mut writer, &reader, &mut model, &case, step, seq) {
                Ok(()) => {}
                Err(RingError::LiveBytes { .. }) => refused += 1,
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            if n % 7 == 0 || n + 1 == case.steps.len() {
                check(&reader, &model, &case)?;
            }
        }
        let WriterStats { published, refreshed, refused: counted, lane_bytes, .. } = writer.stats();
        prop_assert_eq!(counted, refused);
        prop_assert_eq!(published + refused, case.steps.len() as u64);
        prop_assert_eq!(published + refreshed, reader.tail().0);
        if let Some(last) = reader.tail().previous() {
            let last = reader.descriptor(last).unwrap();
            for lane in Lane::ALL {
                let frame = last.lanes[lane as usize];
                prop_assert_eq!(lane_bytes[lane as usize], frame.end().0);
            }
        }
        check_seek(&reader, seq)?;
    }
}

fn publish(
    writer: &mut Writer,
    reader: &Reader,
    model: &mut Model,
    case: &Case,
    step: &Step,
    seq: u64,
) -> Result<(), RingError> {
    let payloads: [Vec<u8>; LANES] = std::array::from_fn(|lane| {
        let longest = (case.lane_len[lane] / 8).saturating_sub(if lane == Lane::Sse as usize { 0 } else { 4 });
        let len = longest * usize::from(step.lengths[lane]) / usize::from(u16::MAX);
        (0..len).map(|n| (seq + (lane * 31 + n * 7) as u64).to_le_bytes()[0]).collect()
    });
    let subject = SubjectId(step.subject);
    let prev = writer.last_seq(subject);
    assert_eq!(prev, model.newest(step.subject).map_or(0, |(_, frame)| frame.seq));
    let update = NewFrame {
        subject,
        channel: channel(step.subject),
        seq,
        ts_feed_ns: UnixNs(seq * 10),
        ts_publish_ns: UnixNs(seq * 10 + 1),
    };
    let index = writer.publish(&update, &std::array::from_fn(|lane| payloads[lane].as_slice()))?;
    // The link leads to where the previous frame lies now, not to a copy of it that has been retired meanwhile.
    let prev_index = reader.descriptor(index).unwrap().prev_index;
    assert!(prev_index >= reader.oldest());
    assert_eq!(prev_index == RingIndex::NONE, prev == 0);
    let bytes = std::array::from_fn(|lane| match case.lane_len[lane] {
        0 => Vec::new(),
        _ => framed(Lane::ALL[lane], &payloads[lane]),
    });
    model.frames.insert(index, Frame { subject: step.subject, seq, prev, bytes });
    model.subjects[step.subject as usize].push(index);
    Ok(())
}

/// The frame by the letter of RFC 6455 section 5.2, not by the code under test.
fn framed(lane: Lane, payload: &[u8]) -> Vec<u8> {
    let first = match lane {
        Lane::Json => 0x81,
        Lane::Binary => 0x82,
        Lane::Deflate => 0xC1,
        Lane::Sse => return payload.to_vec(),
    };
    if payload.is_empty() {
        return Vec::new();
    }
    let mut frame = match payload.len() {
        len @ 0..126 => vec![first, u8::try_from(len).unwrap()],
        len => [&[first, 126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
    };
    frame.extend(payload);
    frame
}

/// Everything that is kept is right, adjoins, and all newest frames are among it.
fn check(reader: &Reader, model: &Model, case: &Case) -> Result<(), TestCaseError> {
    let (oldest, tail) = (reader.oldest(), reader.tail());
    prop_assert_eq!(reader.tail_intent(), tail);
    prop_assert!(tail.since(oldest) <= case.index_len as u64);
    prop_assert_eq!(reader.descriptor(tail), Err(Lapped));
    let mut before: Option<Descriptor> = None;
    // From before `oldest`: what is retired but whole must be right as well.
    for index in oldest.back(case.index_len as u64).until(tail) {
        let Ok(descriptor) = reader.descriptor(index) else {
            prop_assert!(index < oldest, "{} is lapped, oldest is {}", index, oldest);
            prop_assert!(!reader.is_intact(index));
            prop_assert!(before.is_none(), "a hole before {}", index);
            continue;
        };
        check_frame(reader, model, &descriptor)?;
        if let Some(before) = before {
            for (a, b) in before.lanes.iter().zip(&descriptor.lanes) {
                prop_assert_eq!(a.end(), b.position);
            }
        }
        before = Some(descriptor);
    }
    for subject in 0..case.subjects {
        check_subject(reader, model, subject)?;
    }
    Ok(())
}

fn check_frame(reader: &Reader, model: &Model, descriptor: &Descriptor) -> Result<(), TestCaseError> {
    let origin = descriptor.origin;
    prop_assert_eq!(descriptor.is_refresh(), origin != descriptor.index);
    let Some(frame) = model.frames.get(&origin) else {
        return Err(TestCaseError::fail(format!("{descriptor:?} was never published")));
    };
    prop_assert_eq!((descriptor.subject.0, descriptor.channel), (frame.subject, channel(frame.subject)));
    prop_assert_eq!((descriptor.seq, descriptor.prev), (frame.seq, frame.prev));
    prop_assert_eq!((descriptor.ts_feed_ns.0, descriptor.ts_publish_ns.0), (frame.seq * 10, frame.seq * 10 + 1));
    let mut bytes = Vec::new();
    for lane in Lane::ALL {
        bytes.clear();
        prop_assert!(reader.copy_frame(descriptor, lane, &mut bytes).is_ok());
        let expected = &frame.bytes[lane as usize];
        prop_assert_eq!(&bytes, expected);
        let crc = if expected.is_empty() { 0 } else { crc32fast::hash(expected) };
        prop_assert_eq!(descriptor.lanes[lane as usize].crc, crc);
        if let Some(skip) = expected.len().checked_sub(3) {
            bytes.clear();
            prop_assert!(reader.copy_frame_from(descriptor, lane, skip, &mut bytes).is_ok());
            prop_assert_eq!(&bytes, &expected[skip..]);
        }
    }
    Ok(())
}

/// The newest frame is there, and the chain behind it is the subject's history without a hole.
fn check_subject(reader: &Reader, model: &Model, subject: u32) -> Result<(), TestCaseError> {
    let Some(seen) = reader.subject(SubjectId(subject)) else { return Err(TestCaseError::fail("subject is missing")) };
    prop_assert_eq!(&*seen.name, format!("/VENUE/S{subject}/bbo"));
    prop_assert_eq!(seen.channel, channel(subject));
    prop_assert_eq!(seen.frames, model.subjects[subject as usize].len() as u64);
    prop_assert_eq!(seen.newest, reader.newest(SubjectId(subject)));
    prop_assert_eq!(seen.newest.is_some(), model.newest(subject).is_some());
    let Some(newest) = seen.newest else { return Ok(()) };
    prop_assert!(newest >= reader.oldest());
    let mut index = newest;
    let mut history = model.subjects[subject as usize].iter().rev();
    while index != RingIndex::NONE {
        let Ok(descriptor) = reader.descriptor(index) else {
            prop_assert!(index != newest, "the newest frame of {} is gone", subject);
            prop_assert!(index < reader.oldest());
            return Ok(());
        };
        prop_assert_eq!(Some(&descriptor.origin), history.next());
        index = descriptor.prev_index;
    }
    prop_assert_eq!(history.next(), None);
    Ok(())
}

fn check_seek(reader: &Reader, seq_max: u64) -> Result<(), TestCaseError> {
    let originals: Vec<Descriptor> = reader
        .oldest()
        .until(reader.tail())
        .map(|index| reader.descriptor(index).unwrap())
        .filter(|descriptor| !descriptor.is_refresh())
        .collect();
    prop_assert_eq!(reader.oldest_seq(), originals.first().map(|first| first.seq));
    for seq in 0..=seq_max + 1 {
        let expected = originals.iter().find(|descriptor| descriptor.seq > seq).map(|descriptor| descriptor.index);
        prop_assert_eq!(reader.seek_seq(seq), expected, "seek {}", seq);
    }
    Ok(())
}
