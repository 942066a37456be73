//! From bytes to messages.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::gzip::{GzipFault, Source};
use crate::limits::FILE_BUFFER_LEN;

/// Reads the messages of a BinaryFILE, one at a time, through one large buffer out of which they are lent.
pub struct Reader {
    source: Source,
    /// Set once `source` has no more to give.
    exhausted: bool,
    /// Why that is, if it is not the end of the file.
    fault: Option<FileFault>,
    buffer: Box<[u8]>,
    /// What is read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Where in the (inflated) file `buffer` begins.
    buffer_offset: u64,
    /// Length of what `peek` returned last, with its framing.
    peeked_len: usize,
}

/// What comes next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A message, and where it begins, behind its length.
    Message {
        /// Byte offset in the inflated file.
        offset: u64,
        /// The message without its framing, never empty.
        bytes: &'a [u8],
    },
    /// The mark that ends the session. Nothing follows.
    EndOfSession,
    /// The file ends after a whole message, without a mark. Nothing follows.
    EndOfFile,
    /// The file ends badly. Nothing follows.
    Malformed {
        /// Where the first message begins, with its framing, that cannot be read.
        offset: u64,
        /// What is wrong.
        fault: FileFault,
    },
}

/// How a file can end badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Within the two bytes of a length.
    #[error("the file ends within the length of a message")]
    LengthTruncated,
    /// Within a message, or right after its length.
    #[error("the file ends within a message: {available} of {length} bytes are there")]
    MessageTruncated {
        /// The length that was announced.
        length: u16,
        /// The bytes that were found.
        available: usize,
    },
    /// The compressed data ends too soon.
    #[error("the gzip data is truncated")]
    GzipTruncated,
    /// The compressed data contradicts itself.
    #[error("the gzip data is corrupt")]
    GzipCorrupt,
}

impl Reader {
    /// Reads from `source`, inflating if it begins as gzip does.
    ///
    /// # Errors
    /// If the first bytes cannot be read.
    pub fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        Ok(Self {
            source: Source::new(source)?,
            exhausted: false,
            fault: None,
            buffer: vec![0; FILE_BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
            buffer_offset: 0,
            peeked_len: 0,
        })
    }

    /// The next item, which stays the next until it is consumed.
    ///
    /// # Errors
    /// If the file cannot be read; what it holds being wrong is an item.
    pub fn peek(&mut self) -> io::Result<Item<'_>> {
        self.peeked_len = 0;
        // The whole of the next message into the buffer, or as much as there is.
        let length = loop {
            let available = self.available();
            let length = available.first_chunk().map(|&length| u16::from_be_bytes(length));
            let wanted = 2 + usize::from(length.unwrap_or(0));
            if available.len() >= wanted || self.exhausted {
                break length;
            }
            self.fill()?;
        };
        if length == Some(0) {
            // The mark comes before the end of the compressed data: a look at what follows both.
            while !self.exhausted && self.available().len() < self.buffer.len() {
                self.fill()?;
            }
            return Ok(Item::EndOfSession);
        }
        let offset = self.buffer_offset + self.start as u64;
        let available = &self.buffer[self.start..self.end];
        let fault = match (length, available.get(2..)) {
            (Some(length), Some(rest)) => match rest.get(..length.into()) {
                Some(bytes) => {
                    self.peeked_len = 2 + bytes.len();
                    return Ok(Item::Message { offset: offset + 2, bytes });
                }
                None => FileFault::MessageTruncated { length, available: rest.len() },
            },
            _ if available.is_empty() && self.fault.is_none() => return Ok(Item::EndOfFile),
            _ => FileFault::LengthTruncated,
        };
        Ok(Item::Malformed { offset, fault: self.fault.unwrap_or(fault) })
    }

    /// Goes on behind the message that was peeked last; does nothing at the end.
    pub fn consume(&mut self) {
        self.start += self.peeked_len;
        self.peeked_len = 0;
    }

    /// Is the file compressed, so that offsets are not those in the file itself?
    pub fn is_gzipped(&self) -> bool {
        self.source.is_gzipped()
    }

    /// At the end, and if something follows the compressed data that is ignored, since it is neither gzip nor
    /// padding: that, in words.
    pub fn ignored_tail(&self, path: &Path) -> Option<String> {
        self.source.tail_in_words(path)
    }

    fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads once, behind what is there already.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.buffer_offset += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        match self.source.read(&mut self.buffer[self.end..]) {
            // There was room: the buffer is longer than any message.
            Ok(0) => self.exhausted = true,
            Ok(len) => self.end += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                self.fault = match self.source.fault(&error) {
                    Some(GzipFault::Truncated) => Some(FileFault::GzipTruncated),
                    Some(GzipFault::Corrupt) => Some(FileFault::GzipCorrupt),
                    None => return Err(error),
                };
                self.exhausted = true;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offset = self.buffer_offset + self.start as u64;
        f.debug_struct("Reader").field("offset", &offset).field("gzipped", &self.is_gzipped()).finish_non_exhaustive()
    }
}

const _: () = assert!(FILE_BUFFER_LEN >= 2 + u16::MAX as usize, "any message fits the buffer");

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Messages of all sorts of lengths, more than the buffer holds, and the file of them without an end mark.
    fn sample() -> (Vec<Vec<u8>>, Vec<u8>) {
        let messages: Vec<Vec<u8>> =
            (1..=120_u32).map(|n| (0..n * n * 40 % 65_535 + 1).map(|i| ((i * n) & 0xff) as u8).collect()).collect();
        let mut file = Vec::new();
        for message in &messages {
            file.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
            file.extend_from_slice(message);
        }
        assert!(file.len() > FILE_BUFFER_LEN * 2);
        (messages, file)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Reads to the end: the messages, with their offsets checked against `file`, and what came last.
    fn read(source: impl Read + Send + 'static, file: &[u8]) -> (Vec<Vec<u8>>, Item<'static>) {
        let mut reader = Reader::new(source).unwrap();
        let mut messages = Vec::new();
        loop {
            let last = match reader.peek().unwrap() {
                Item::Message { offset, bytes } => {
                    let offset = usize::try_from(offset).unwrap();
                    assert_eq!(bytes, &file[offset..offset + bytes.len()]);
                    messages.push(bytes.to_vec());
                    reader.consume();
                    continue;
                }
                Item::EndOfSession => Item::EndOfSession,
                Item::EndOfFile => Item::EndOfFile,
                Item::Malformed { offset, fault } => Item::Malformed { offset, fault },
            };
            reader.consume();
            assert_eq!(reader.peek().unwrap(), last, "the end stays the end");
            return (messages, last);
        }
    }

    /// Gives a few bytes at a time, as a pipe may.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1 + (self.0.position() % 977) as usize);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn plain_and_gzipped_and_in_pieces() {
        let (messages, file) = sample();
        assert_eq!(read(io::Cursor::new(file.clone()), &file), (messages.clone(), Item::EndOfFile));
        assert_eq!(read(io::Cursor::new(gzip(&file)), &file), (messages.clone(), Item::EndOfFile));
        assert_eq!(read(Trickle(io::Cursor::new(file.clone())), &file), (messages.clone(), Item::EndOfFile));
        assert_eq!(read(Trickle(io::Cursor::new(gzip(&file))), &file), (messages, Item::EndOfFile));
    }

    #[test]
    fn gzip_members_may_follow_each_other() {
        let (messages, file) = sample();
        let (one, two) = file.split_at(file.len() / 3);
        let members = [gzip(one), gzip(two)].concat();
        assert_eq!(read(io::Cursor::new(members), &file), (messages, Item::EndOfFile));
    }

    #[test]
    fn a_length_of_zero_ends_the_session() {
        let file = b"\0\x03abc\0\0\0\x01x";
        assert_eq!(read(io::Cursor::new(*file), file), (vec![b"abc".to_vec()], Item::EndOfSession));
    }

    #[test]
    fn every_truncation() {
        let file = b"\0\x01x\0\x05abcde";
        for len in 0..file.len() {
            let (messages, last) = read(io::Cursor::new(file[..len].to_vec()), file);
            let expected = match len {
                0 | 3 => Item::EndOfFile,
                1 => Item::Malformed { offset: 0, fault: FileFault::LengthTruncated },
                2 => Item::Malformed { offset: 0, fault: FileFault::MessageTruncated { length: 1, available: 0 } },
                4 => Item::Malformed { offset: 3, fault: FileFault::LengthTruncated },
                _ => {
                    let fault = FileFault::MessageTruncated { length: 5, available: len - 5 };
                    Item::Malformed { offset: 3, fault }
                }
            };
            assert_eq!((messages.len(), last), (usize::from(len >= 3), expected), "{len}");
        }
    }

    #[test]
    fn bad_gzip() {
        let (messages, file) = sample();
        let good = gzip(&file);

        let (some, last) = read(io::Cursor::new(good[..good.len() / 2].to_vec()), &file);
        assert!(some.len() < messages.len() && some[..] == messages[..some.len()]);
        let Item::Malformed { offset, fault: FileFault::GzipTruncated } = last else { panic!("{last:?}") };
        assert_eq!(offset, some.iter().map(|message| 2 + message.len() as u64).sum::<u64>());

        let mut bad = good.clone();
        let checksum = bad.len() - 6;
        bad[checksum] ^= 1;
        let (all, last) = read(io::Cursor::new(bad), &file);
        assert_eq!(all.len(), messages.len());
        assert_eq!(last, Item::Malformed { offset: file.len() as u64, fault: FileFault::GzipCorrupt });

        let mut header = good;
        header[2] = 99;
        let expected = Item::Malformed { offset: 0, fault: FileFault::GzipCorrupt };
        assert_eq!(read(io::Cursor::new(header), &file), (vec![], expected));
    }

    #[test]
    fn a_disk_that_fails_is_no_matter_of_format() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("a broken disk"))
            }
        }
        let mut reader = Reader::new(io::Cursor::new(b"\0\x01x\0").chain(Broken)).unwrap();
        assert_eq!(reader.peek().unwrap(), Item::Message { offset: 2, bytes: b"x" });
        reader.consume();
        assert_eq!(reader.peek().unwrap_err().to_string(), "a broken disk");
    }
}
