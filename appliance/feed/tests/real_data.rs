//! Real messages, as Nasdaq publishes them. They are not part of the project: `FANBLADE_DATA` says where they are, else
//! they are looked for beside the checkout.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use fanblade_feed::binaryfile::{Day, FileFault};
use fanblade_feed::itch::Message;
use fanblade_feed::pace::Pace;
use fanblade_feed::{CaptureFeed, Event, Feed, FileFeed, Malformed, Poll, UnixNs};
use fanblade_testkit::data;

/// What a file has: messages by type, and all else that was said.
fn play(path: &Path) -> (BTreeMap<char, u32>, Vec<String>) {
    let mut feed = FileFeed::open(path, Pace::Unpaced).unwrap();
    let (mut kinds, mut others, mut next) = (BTreeMap::new(), Vec::new(), 1);
    loop {
        let poll = feed.poll(UnixNs(0), &mut |event| match event {
            Event::Message { seq, bytes, .. } => {
                assert_eq!(seq, next);
                next += 1;
                let kind = Message::parse(bytes).unwrap().header().kind;
                *kinds.entry(char::from(kind)).or_default() += 1;
            }
            other => others.push(format!("{other:?}")),
        });
        if poll.unwrap() == Poll::Finished {
            assert_eq!(u64::from(kinds.values().sum::<u32>()), feed.counters().messages);
            return (kinds, others);
        }
    }
}

const HEAD: &str = "itch50/01302019_head_1MiB.NASDAQ_ITCH50";
const OPEN: &str = "itch50/12302019_open_1000msgs.NASDAQ_ITCH50";

#[test]
fn the_head_of_a_day() {
    let Some(path) = data::real(HEAD) else { return };
    let (kinds, others) = play(&path);
    let expected = [('H', 8_707), ('L', 9_453), ('R', 8_713), ('S', 1), ('Y', 8_707)];
    assert_eq!(kinds, BTreeMap::from(expected));
    // Its last two bytes are the length of a message that is not there.
    let tail = std::fs::read(&path).unwrap();
    let length = u16::from_be_bytes(*tail.last_chunk().unwrap());
    let fault = FileFault::MessageTruncated { length, available: 0 };
    let malformed = Event::Malformed { offset: (1 << 20) - 2, reason: Malformed::File(fault) };
    let session = Event::SessionStart { session: *b"01302019  " };
    assert_eq!(others, [format!("{session:?}"), format!("{malformed:?}")]);
}

#[test]
fn an_open() {
    let Some(path) = data::real(OPEN) else { return };
    let (kinds, others) = play(&path);
    let expected = "A 367, F 193, U 225, D 167, E 28, X 6, C 1, P 4, Q 4, I 4, S 1";
    let expected = expected.split(", ").map(|entry| (entry.chars().next().unwrap(), entry[2..].parse().unwrap()));
    assert_eq!(kinds, expected.collect());
    assert_eq!(others.len(), 1, "{others:?}");
    let day = FileFeed::open(&path, Pace::Unpaced).unwrap().day();
    assert_eq!(day, Some(Day { year: 2019, month: 12, day: 30 }));
}

#[test]
fn gzipped_it_is_the_same() {
    let Some(path) = data::real(HEAD) else { return };
    let mut file = tempfile::NamedTempFile::with_prefix("01302019.").unwrap();
    let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&path).unwrap()).unwrap();
    encoder.finish().unwrap();
    assert_eq!(play(file.path()), play(&path));
}

const CAPTURES: &str = "moldudp64-pcap/Nasdaq.Equities.TotalView.Itch.v5.0";

#[test]
fn real_packets() {
    let Some(directory) = data::real(CAPTURES) else { return };
    let mut captures = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let mut feed = CaptureFeed::open(&path, None, Pace::Unpaced).unwrap();
        assert_eq!((feed.flow().destination.port(), feed.flow().alternatives.as_str()), (26_477, ""));
        let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
        let poll = feed.poll(UnixNs(0), &mut |event| match event {
            Event::Message { seq, bytes, .. } => {
                Message::parse(bytes).unwrap();
                seqs.push(seq);
            }
            Event::Gap { from, to } => gaps.push((from, to)),
            Event::SessionStart { session } => assert_eq!(&session, b"000010059B"),
            // Above all no bytes that could not be read, and no packets that are not of the feed.
            other => panic!("{other:?} in {}", path.display()),
        });
        assert_eq!(poll.unwrap(), Poll::Finished);
        assert!(seqs.is_sorted_by(|one, other| one < other));
        captures += 1;
        let packets = feed.counters().packets;
        if path.ends_with("Multiple.Packets.pcap") {
            assert_eq!(packets, 2);
            assert_eq!((seqs.len(), seqs[0], seqs[1], seqs[38]), (39, 0xe1_49d0, 0x122_0e5d, 0x122_0e5d + 37));
            assert_eq!(gaps, [(0xe1_49d1, 0x122_0e5d)]);
        } else {
            assert_eq!((packets, seqs.len(), gaps.len()), (1, 1, 0), "{}", path.display());
        }
    }
    assert_eq!(captures, 8);
}
