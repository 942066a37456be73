//! The bytes of a capture, record by record, and what can be wrong with them.

use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::link::LinkType;
use crate::gzip::{GzipFault, Source};
use crate::limits::{CAPTURE_BLOCK_LEN_MAX, CAPTURE_PACKET_LEN_MAX, FILE_BUFFER_LEN};

/// What a capture says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it was captured, Unix nanoseconds; none where its block has no room for it.
    pub ts_ns: Option<u64>,
    /// What it begins with.
    pub link: LinkType,
    /// Was it longer on the wire?
    pub is_cut: bool,
}

/// How a capture can end badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureFault {
    /// Within a packet; or a length is so wrong that the packet would be longer than the file.
    #[error("the capture ends within a packet")]
    Truncated,
    /// The compressed data contradicts itself.
    #[error("the gzip data of the capture is corrupt")]
    GzipCorrupt,
    /// A length that no writer permits.
    #[error("the capture is corrupt: a packet or block of {len} bytes; at most {CAPTURE_BLOCK_LEN_MAX} are believed")]
    TooLong {
        /// The length that was announced.
        len: u32,
    },
    /// A header makes no sense.
    #[error("the capture is corrupt: {0}")]
    Corrupt(&'static str),
}

/// The bytes of a capture.
pub(super) struct Input {
    source: BufReader<Source>,
    /// Where in the (inflated) file the record begins that is being read.
    pub(super) offset: u64,
    /// Where the next byte is.
    next: u64,
}

/// Why there is no packet.
#[derive(Debug)]
pub(super) enum Stop {
    End,
    Fault(CaptureFault),
    Disk(io::Error),
}

impl Stop {
    pub(super) fn corrupt<T>(what: &'static str) -> Result<T, Self> {
        Err(Self::Fault(CaptureFault::Corrupt(what)))
    }
}

impl Input {
    pub(super) fn new(file: impl Read + Send + 'static) -> io::Result<Self> {
        let source = BufReader::with_capacity(FILE_BUFFER_LEN, Source::new(file)?);
        Ok(Self { source, offset: 0, next: 0 })
    }

    /// See [`Source::tail_in_words`].
    pub(super) fn tail_in_words(&self, path: &Path) -> Option<String> {
        self.source.get_ref().tail_in_words(path)
    }

    /// The bytes read so far are a whole record, and the next one begins.
    pub(super) fn begin_record(&mut self) {
        self.offset = self.next;
    }

    /// Reads as many bytes as `place` has.
    pub(super) fn read(&mut self, place: &mut [u8]) -> Result<(), Stop> {
        let mut len = 0;
        while len < place.len() {
            match self.source.read(place.get_mut(len..).unwrap_or_default()) {
                Ok(0) if self.next == self.offset => return Err(Stop::End),
                Ok(0) => return Err(Stop::Fault(CaptureFault::Truncated)),
                Ok(more) => {
                    len += more;
                    self.next += more as u64;
                }
                Err(error) => self.failed(error)?,
            }
        }
        Ok(())
    }

    /// Reads `len` bytes, of which the first [`CAPTURE_PACKET_LEN_MAX`] are kept in `bytes`.
    pub(super) fn read_body(&mut self, len: u32, bytes: &mut Vec<u8>) -> Result<(), Stop> {
        bytes.resize((len as usize).min(CAPTURE_PACKET_LEN_MAX), 0);
        self.read(bytes)?;
        self.skip(u64::from(len) - bytes.len() as u64)
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), Stop> {
        match io::copy(&mut self.source.by_ref().take(len), &mut io::sink()) {
            Ok(skipped) => {
                self.next += skipped;
                if skipped == len { Ok(()) } else { Err(Stop::Fault(CaptureFault::Truncated)) }
            }
            Err(error) => self.failed(error),
        }
    }

    /// What an error of the file means; none: it is to be tried again.
    fn failed(&self, error: io::Error) -> Result<(), Stop> {
        Err(match self.source.get_ref().fault(&error) {
            _ if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Some(GzipFault::Truncated) => Stop::Fault(CaptureFault::Truncated),
            Some(GzipFault::Corrupt) => Stop::Fault(CaptureFault::GzipCorrupt),
            None => Stop::Disk(error),
        })
    }
}

/// Refuses lengths that cannot be.
pub(super) fn believed(len: u32) -> Result<u32, Stop> {
    if len > CAPTURE_BLOCK_LEN_MAX { Err(Stop::Fault(CaptureFault::TooLong { len })) } else { Ok(len) }
}

/// The words of a header, in its byte order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) is_big: bool,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    pub(super) fn i64(self, bytes: [u8; 8]) -> i64 {
        if self.is_big { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }
    }

    /// The word at a place, if there is one.
    pub(super) fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(at..)?.first_chunk()?))
    }

    pub(super) fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        Some(self.u16(*bytes.get(at..)?.first_chunk()?))
    }
}
