//! Targets for files: the exchange's messages, and captures of its packets.

use std::io::{Cursor, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use fanblade_feed::binaryfile::{Item, Reader};
use fanblade_feed::pace::Pace;
use fanblade_feed::{CaptureFeed, Event, Feed as _, Poll, UnixNs};

/// Messages with their lengths, plain or gzipped.
pub(crate) fn binaryfile(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(Cursor::new(bytes.to_vec())) else { return };
    let mut offset_before = 0;
    for _ in 0..4_096 {
        match reader.peek().expect("memory can be read") {
            Item::Message { offset, bytes } => {
                assert!(offset > offset_before);
                offset_before = offset + bytes.len() as u64;
            }
            Item::Malformed { fault, .. } => return assert!(!fault.to_string().is_empty()),
            Item::EndOfSession | Item::EndOfFile => return,
        }
        reader.consume();
    }
}

/// A capture, read from a file as the blade reads it.
pub(crate) fn pcap(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).expect("writing a temporary file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut feed = match CaptureFeed::open(Path::new(&path), None, Pace::Unpaced) {
        Ok(feed) => feed,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut newest = 0;
    for now_ns in 1..10_000 {
        let poll = feed.poll(UnixNs(now_ns), &mut |event| match event {
            Event::SessionStart { .. } => newest = 0,
            Event::Message { seq, .. } => {
                assert!(seq > newest, "messages are in order");
                newest = seq;
            }
            Event::Gap { from, to } => assert!(from < to),
            _ => {}
        });
        if !matches!(poll, Ok(Poll::Busy)) {
            return;
        }
    }
}
