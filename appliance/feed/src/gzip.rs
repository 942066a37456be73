//! Files that may be compressed: the members of a gzip file one after the other, and what follows the last of them.
//!
//! The library's own reader of several members takes whatever follows the last one for a member, and ends with an error
//! where it is none. As gzip(1) does, zeros are passed over here (tapes and `dd` pad with them), and other bytes are
//! ignored, and told.

use std::io::{self, BufRead, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::limits::{FILE_BUFFER_LEN, GZIP_PADDING_LEN_MAX};

/// The bytes of a file, inflated if it begins as gzip does.
pub(crate) enum Source {
    Plain(Box<dyn Read + Send>),
    Gzip(Box<Inflater>),
}

/// What an error says of compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GzipFault {
    Truncated,
    Corrupt,
}

impl Source {
    /// # Errors
    /// If the first bytes cannot be read.
    pub(crate) fn new(mut file: impl Read + Send + 'static) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        file.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_gzipped = magic == GZIP_MAGIC;
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(magic).chain(file));
        Ok(if is_gzipped { Self::Gzip(Box::new(Inflater::new(whole))) } else { Self::Plain(whole) })
    }

    pub(crate) fn is_gzipped(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// Where in the compressed file something follows its last member that is neither a member nor padding. Known once
    /// there is no more to read.
    fn tail(&self) -> Option<u64> {
        match self {
            Self::Gzip(inflater) => inflater.tail,
            Self::Plain(_) => None,
        }
    }

    /// The same in words.
    pub(crate) fn tail_in_words(&self, path: &Path) -> Option<String> {
        let offset = self.tail()?;
        Some(format!(
            "{}: all of its gzip data was read; what follows it, from byte {offset} of the file on, is no gzip and is \
             ignored",
            path.display()
        ))
    }

    /// What an error says of the compressed data; none if it is the disk's.
    pub(crate) fn fault(&self, error: &io::Error) -> Option<GzipFault> {
        match error.kind() {
            _ if !self.is_gzipped() => None,
            io::ErrorKind::UnexpectedEof => Some(GzipFault::Truncated),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Some(GzipFault::Corrupt),
            _ => None,
        }
    }
}

impl Read for Source {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(place),
            Self::Gzip(inflater) => inflater.read(place),
        }
    }
}

/// Inflates member after member.
pub(crate) struct Inflater {
    state: State,
    tail: Option<u64>,
}

enum State {
    Member(GzDecoder<Compressed>),
    /// Behind a member, and so many zeros.
    Between(Compressed, u64),
    End,
}

impl Inflater {
    fn new(file: Box<dyn Read + Send>) -> Self {
        Self { state: State::Member(GzDecoder::new(Compressed::new(file))), tail: None }
    }
}

impl Read for Inflater {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        if place.is_empty() {
            return Ok(0);
        }
        loop {
            let (next, result) = match std::mem::replace(&mut self.state, State::End) {
                State::End => return Ok(0),
                State::Member(mut member) => match member.read(place) {
                    Ok(0) => (State::Between(member.into_inner(), 0), None),
                    result => (State::Member(member), Some(result)),
                },
                State::Between(mut file, zeros) => match file.ahead() {
                    Ok([]) => (State::End, None),
                    Ok([0, ..]) if zeros < GZIP_PADDING_LEN_MAX => {
                        file.consume(1);
                        (State::Between(file, zeros + 1), None)
                    }
                    Ok(ahead) if ahead.starts_with(&MEMBER_MAGIC) => (State::Member(GzDecoder::new(file)), None),
                    Ok(_) => {
                        self.tail = Some(file.offset());
                        (State::End, None)
                    }
                    Err(error) => (State::Between(file, zeros), Some(Err(error))),
                },
            };
            self.state = next;
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// A buffer that tells where in the file it is, and can look some bytes ahead.
struct Compressed {
    file: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the file, up to the end of what is in the buffer.
    taken: u64,
}

impl Compressed {
    fn new(file: Box<dyn Read + Send>) -> Self {
        Self { file, buffer: vec![0; FILE_BUFFER_LEN].into_boxed_slice(), start: 0, end: 0, taken: 0 }
    }

    fn offset(&self) -> u64 {
        self.taken - (self.end - self.start) as u64
    }

    /// The next bytes, as many as a member's magic has, or all that are left.
    fn ahead(&mut self) -> io::Result<&[u8]> {
        while self.end - self.start < MEMBER_MAGIC.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.fill()? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn fill(&mut self) -> io::Result<usize> {
        let len = self.file.read(&mut self.buffer[self.end..])?;
        self.end += len;
        self.taken += len as u64;
        Ok(len)
    }
}

impl Read for Compressed {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(place)?;
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Compressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// A member's magic, with the only method that there is.
const MEMBER_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Gives so many bytes at a time.
    struct Trickle(io::Cursor<Vec<u8>>, usize);

    impl Read for Trickle {
        fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
            let len = place.len().min(self.1);
            self.0.read(&mut place[..len])
        }
    }

    /// What a file holds, what is wrong with it, and where its tail is.
    fn read(file: &[u8]) -> (Vec<u8>, Option<GzipFault>, Option<u64>) {
        let read = |step: usize| {
            let mut source = Source::new(Trickle(io::Cursor::new(file.to_vec()), step)).unwrap();
            let mut content = Vec::new();
            let fault = source.read_to_end(&mut content).err().map(|error| source.fault(&error).unwrap());
            (content, fault, source.tail())
        };
        let whole = read(usize::MAX);
        for step in [1, 2, 3, 7] {
            assert_eq!(read(step), whole, "{step} bytes at a time");
        }
        whole
    }

    #[test]
    fn what_follows_the_last_member_is_no_fault() {
        let one = gzip(b"one");
        let len = one.len() as u64;
        let whole = |content: &[u8], tail| (content.to_vec(), None, tail);
        assert_eq!(read(&one), whole(b"one", None));
        for zeros in [1, 2, 3, 511, 10_240] {
            let padding = vec![0; zeros];
            assert_eq!(read(&[&one[..], &padding].concat()), whole(b"one", None), "{zeros} zeros");
            // Members go on behind padding.
            assert_eq!(read(&[&one[..], &padding, &gzip(b"two"), &padding].concat()), whole(b"onetwo", None));
            let garbage = [&one[..], &padding, b"x"].concat();
            assert_eq!(read(&garbage), whole(b"one", Some(len + zeros as u64)));
        }
        for tail in [&b"garbage"[..], b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x07member", b"\n"] {
            assert_eq!(read(&[&one[..], tail].concat()), whole(b"one", Some(len)), "{tail:?}");
            assert_eq!(read(&[&one[..], &gzip(b""), tail].concat()).0, b"one");
        }
        // Nobody waits for the end of a file of nothing but zeros.
        let padding = vec![0; usize::try_from(GZIP_PADDING_LEN_MAX).unwrap() + 9];
        let mut source = Source::new(io::Cursor::new([&one[..], &padding].concat())).unwrap();
        assert_eq!(source.read_to_end(&mut Vec::new()).unwrap(), 3);
        assert_eq!(source.tail(), Some(len + GZIP_PADDING_LEN_MAX));
    }

    #[test]
    fn truncated_and_corrupt_data_are_told_in_every_member() {
        let (one, two) = (gzip(b"one"), gzip(b"two"));
        for cut in 3..two.len() {
            let (content, fault, tail) = read(&[&one[..], &two[..cut]].concat());
            assert_eq!((&content[..3], fault, tail), (&b"one"[..], Some(GzipFault::Truncated), None), "{cut}");
        }
        let mut corrupt = [one, two].concat();
        let checksum = corrupt.len() - 6;
        corrupt[checksum] ^= 1;
        assert_eq!(read(&corrupt), (b"onetwo".to_vec(), Some(GzipFault::Corrupt), None));
        assert_eq!(read(b"plain \x1f\x8b"), (b"plain \x1f\x8b".to_vec(), None, None));
    }
}
