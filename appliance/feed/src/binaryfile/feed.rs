//! The feed over a file.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{FileError, Item, Reader};
use crate::itch;
use crate::limits::POLL_MESSAGES_MAX;
use crate::pace::{Pace, Pacer};
use crate::{Event, Feed, FeedCounters, FeedError, Poll, Session, Trouble, UnixNs};

/// Plays a file of ITCH messages, numbered from 1.
#[derive(Debug)]
pub struct FileFeed {
    path: PathBuf,
    reader: Reader,
    pacer: Pacer,
    session: Session,
    next_seq: u64,
    finished: bool,
    counters: FeedCounters,
}

impl FileFeed {
    /// Opens a file, plain or gzipped, and looks at its first message.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or is something else.
    pub fn open(path: &Path, pace: Pace) -> Result<Self, FileError> {
        let path = path.to_owned();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) => return Err(FileError::Open { path, source }),
        };
        let mut reader = match Reader::new(file) {
            Ok(reader) => reader,
            Err(source) => return Err(FileError::Read { path, source }),
        };
        match reader.peek() {
            Ok(Item::Message { bytes, .. }) => match itch::Message::parse(bytes) {
                Ok(_) => {}
                Err(source) => return Err(FileError::NotItch { path, source }),
            },
            Ok(Item::EndOfSession | Item::EndOfFile) => return Err(FileError::Empty { path }),
            Ok(Item::Malformed { fault, .. }) => return Err(FileError::Framing { path, fault }),
            Err(source) => return Err(FileError::Read { path, source }),
        }
        Ok(Self {
            session: session_of(&path),
            path,
            reader,
            pacer: Pacer::new(pace),
            next_seq: 1,
            finished: false,
            counters: FeedCounters::default(),
        })
    }

    /// The day that the file's name tells, as Nasdaq names its files.
    pub fn day(&self) -> Option<Day> {
        Day::of(&self.path)
    }
}

impl Feed for FileFeed {
    fn name(&self) -> &'static str {
        "file"
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        if self.finished {
            return Ok(Poll::Finished);
        }
        if self.counters.sessions == 0 {
            self.counters.sessions = 1;
            sink(Event::SessionStart { session: self.session });
        }
        for _ in 0..POLL_MESSAGES_MAX {
            match self.reader.peek() {
                Ok(Item::Message { offset, bytes }) => {
                    let due_ns = self.pacer.due_ns(bytes, now_ns);
                    if due_ns > now_ns {
                        return Ok(Poll::IdleUntil(due_ns));
                    }
                    self.counters.messages += 1;
                    self.counters.bytes += 2 + bytes.len() as u64;
                    sink(Event::Message { seq: self.next_seq, bytes, offset, received_ns: now_ns });
                    self.next_seq += 1;
                    self.reader.consume();
                    continue;
                }
                Ok(Item::EndOfSession) => sink(Event::EndOfSession { seq: self.next_seq }),
                Ok(Item::EndOfFile) => {}
                Ok(Item::Malformed { offset, fault }) => {
                    self.counters.malformed += 1;
                    sink(Event::Malformed { offset, reason: fault.into() });
                }
                Err(source) => return Err(FileError::Read { path: self.path.clone(), source }.into()),
            }
            if let Some(text) = self.reader.ignored_tail(&self.path) {
                sink(Event::Trouble(Trouble::Told { kind: "gzip_tail", text: &text }));
            }
            self.finished = true;
            return Ok(Poll::Finished);
        }
        Ok(Poll::Busy)
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// 2019
    pub year: u16,
    /// 1 to 12
    pub month: u8,
    /// 1 to 31
    pub day: u8,
}

impl Day {
    /// The day in a file's name: `12302019.NASDAQ_ITCH50.gz` (month, day, year) or `S123019-v50.txt.gz`.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_encoded_bytes();
        let name = name.strip_prefix(b"S").unwrap_or(name);
        let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = |from: usize, to: usize| {
            name.get(from..to)?.iter().try_fold(0_u16, |sum, digit| Some(sum * 10 + u16::from(digit - b'0')))
        };
        let year = match digits {
            8 => number(4, 8)?,
            6 => 2000 + number(4, 6)?,
            _ => return None,
        };
        let month = u8::try_from(number(0, 2)?).ok().filter(|month| (1..=12).contains(month))?;
        let day = u8::try_from(number(2, 4)?).ok().filter(|day| (1..=31).contains(day))?;
        Some(Self { year, month, day })
    }
}

/// A file has no session but its name, as far as its first word goes.
fn session_of(path: &Path) -> Session {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut session = [b' '; 10];
    for (place, &byte) in session.iter_mut().zip(name.iter().take_while(|byte| byte.is_ascii_alphanumeric())) {
        *place = byte;
    }
    session
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::binaryfile::FileFault;

    /// `count` system events, `step_ns` apart.
    fn file_of(count: u64, step_ns: u64, tail: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::with_prefix("12302019-").unwrap();
        for n in 0..count {
            let ns = (n * step_ns).to_be_bytes();
            file.write_all(&[0, 12, b'S', 0, 0, 0, 0]).unwrap();
            file.write_all(&ns[2..]).unwrap();
            file.write_all(b"O").unwrap();
        }
        file.write_all(tail).unwrap();
        file.flush().unwrap();
        file
    }

    /// Polls once; what came, in words.
    fn poll(feed: &mut FileFeed, now_ns: u64) -> (Vec<String>, Poll) {
        let mut words = Vec::new();
        let poll = feed.poll(UnixNs(now_ns), &mut |event| {
            words.push(match event {
                Event::SessionStart { session } => format!("session {}", String::from_utf8_lossy(&session)),
                Event::Message { seq, offset, .. } => format!("{seq} at {offset}"),
                other => format!("{other:?}"),
            });
        });
        (words, poll.unwrap())
    }

    #[test]
    fn paced_by_a_fake_clock() {
        let file = file_of(4, 1_000, &[0, 0]);
        let mut feed = FileFeed::open(file.path(), Pace::Factor(2.0)).unwrap();
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(poll(&mut feed, 70), (own(&["session 12302019  ", "1 at 2"]), Poll::IdleUntil(UnixNs(570))));
        assert_eq!(poll(&mut feed, 569), (vec![], Poll::IdleUntil(UnixNs(570))));
        assert_eq!(poll(&mut feed, 1_069), (own(&["2 at 16"]), Poll::IdleUntil(UnixNs(1_070))));
        assert_eq!(poll(&mut feed, 9_000), (own(&["3 at 30", "4 at 44", "EndOfSession { seq: 5 }"]), Poll::Finished));
        assert_eq!(poll(&mut feed, 9_001), (vec![], Poll::Finished));
    }

    #[test]
    fn bounded_per_poll() {
        let count = POLL_MESSAGES_MAX as u64 * 2 + 1;
        let file = file_of(count, 1, &[0, 9, b'S']);
        let mut feed = FileFeed::open(file.path(), Pace::Unpaced).unwrap();
        let polls: Vec<_> = std::iter::repeat_with(|| poll(&mut feed, 1)).take(4).collect();
        assert_eq!(polls.iter().map(|(words, _)| words.len()).collect::<Vec<_>>(), [257, 256, 2, 0]);
        assert_eq!(polls[0].1, Poll::Busy);
        assert_eq!(polls[2].1, Poll::Finished);
        assert!(polls[2].0[1].contains("MessageTruncated { length: 9, available: 1 }"), "{:?}", polls[2]);
        let counters = feed.counters();
        assert_eq!((counters.messages, counters.bytes, counters.malformed), (count, count * 14, 1));
    }

    #[test]
    fn what_follows_the_compressed_data_is_ignored_and_told() {
        for mark in [&[0, 0][..], &[]] {
            let plain = std::fs::read(file_of(3, 1, mark).path()).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain).unwrap();
            let zipped = encoder.finish().unwrap();
            for (tail, told) in [(&b""[..], false), (&[0; 9_999], false), (b"garbage", true), (b"\0\0\x1f", true)] {
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(&[&zipped[..], tail].concat()).unwrap();
                let mut feed = FileFeed::open(file.path(), Pace::Unpaced).unwrap();
                let (words, end) = poll(&mut feed, 1);
                assert_eq!((words.len(), end), (4 + mark.len() / 2 + usize::from(told), Poll::Finished), "{words:?}");
                assert_eq!((feed.counters().messages, feed.counters().malformed), (3, 0));
                let last = &words[words.len() - 1];
                assert_eq!(last.contains("kind: \"gzip_tail\"") && last.contains("is ignored"), told, "{last}");
            }
        }
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str, content: Option<&[u8]>| {
            let path = directory.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            FileFeed::open(&path, Pace::Unpaced).expect_err("must not open")
        };
        assert!(matches!(open("missing", None), FileError::Open { .. }));
        assert!(matches!(open("", None), FileError::Read { .. }), "a directory");
        assert!(matches!(open("empty", Some(b"")), FileError::Empty { .. }));
        assert!(matches!(open("zeros", Some(&[0; 99])), FileError::Empty { .. }));
        let error = open("text", Some(b"\0\x05zebra"));
        assert!(error.to_string().ends_with("messages: unknown ITCH message type 'z' (5 bytes)"), "{error}");
        assert!(matches!(
            open("short", Some(b"hello")),
            FileError::Framing { fault: FileFault::MessageTruncated { length: 0x6865, available: 3 }, .. }
        ));
        assert!(matches!(
            open("bad.gz", Some(&[0x1f, 0x8b, 8, 0])),
            FileError::Framing { fault: FileFault::GzipTruncated, .. }
        ));
    }

    #[test]
    fn days_in_names() {
        let day = |name: &str| Day::of(Path::new(name)).map(|day| (day.year, day.month, day.day));
        assert_eq!(day("/data/12302019.NASDAQ_ITCH50.gz"), Some((2019, 12, 30)));
        assert_eq!(day("01302019_head_1MiB.NASDAQ_ITCH50"), Some((2019, 1, 30)));
        assert_eq!(day("S013020-v50.txt.gz"), Some((2020, 1, 30)));
        for name in ["", "feed", "1230201.x", "123020199.x", "13302019.x", "12002019.x", "20191230.x"] {
            assert_eq!(day(name), None, "{name}");
        }
    }
}
