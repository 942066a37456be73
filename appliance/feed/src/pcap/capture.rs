//! From bytes to packets with their times.

use std::io::{self, BufReader, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::ENHANCED_PACKET_BLOCK;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// Reads the packets of a capture, one at a time.
pub struct Capture {
    format: Format,
    /// Where in the (inflated) file the next packet or block begins.
    offset: u64,
    /// Set once there is no more to read.
    end: Option<Item>,
}

enum Format {
    Classic(PcapReader<Source>),
    Ng(PcapNgReader<Source>),
}

type Source = Box<dyn Read + Send>;

/// What comes next in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A packet.
    Packet(Frame),
    /// Nothing follows.
    EndOfFile,
    /// The file ends badly. Nothing follows.
    Malformed {
        /// Where the packet (or block) begins that cannot be read.
        offset: u64,
        /// What is wrong.
        fault: CaptureFault,
    },
}

/// What a capture says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it was captured, Unix nanoseconds.
    pub ts_ns: u64,
    /// What it begins with.
    pub link: DataLink,
    /// Whether it was longer on the wire.
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
    /// A header makes no sense.
    #[error("the capture is corrupt: {0}")]
    Corrupt(&'static str),
}

impl Capture {
    /// Reads from `file`, inflating if it begins as gzip does. None: it is no capture.
    ///
    /// # Errors
    /// If the first bytes cannot be read.
    pub fn new(mut file: impl Read + Send + 'static) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        file.by_ref().take(HEAD_LEN).read_to_end(&mut head)?;
        let is_gzipped = head.starts_with(&GZIP_MAGIC);
        let mut source: Source = Box::new(Cursor::new(head.clone()).chain(file));
        if is_gzipped {
            source = Box::new(MultiGzDecoder::new(BufReader::new(source)));
            head.clear();
            if source.by_ref().take(HEAD_LEN).read_to_end(&mut head).is_err() {
                // What cannot be inflated is no capture.
                return Ok(None);
            }
            source = Box::new(Cursor::new(head.clone()).chain(source));
        }
        let Some(offset) = first_offset(&head) else { return Ok(None) };
        let format = match head.starts_with(&NG_MAGIC) {
            true => PcapNgReader::new(source).map(Format::Ng),
            false => PcapReader::new(source).map(Format::Classic),
        };
        match format {
            Ok(format) => Ok(Some(Self { format, offset, end: None })),
            Err(PcapError::IoError(error)) if !is_gzipped && error.kind() != ErrorKind::UnexpectedEof => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What comes next; the bytes of a packet go into `bytes`, as many as were captured.
    ///
    /// # Errors
    /// If the file cannot be read; what it holds being wrong is an item.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> io::Result<Item> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        bytes.clear();
        let next = match &mut self.format {
            Format::Classic(reader) => next_classic(reader, &mut self.offset, bytes),
            Format::Ng(reader) => next_ng(reader, &mut self.offset, bytes),
        };
        let end = match next {
            Ok(Some(frame)) => return Ok(Item::Packet(frame)),
            Ok(None) => Item::EndOfFile,
            Err(error) => Item::Malformed { offset: self.offset, fault: fault_of(error)? },
        };
        self.end = Some(end);
        Ok(end)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("offset", &self.offset).field("end", &self.end).finish_non_exhaustive()
    }
}

/// The library's own reading of a record refuses packets that are cut short; so it only finds them.
fn next_classic(
    reader: &mut PcapReader<Source>,
    offset: &mut u64,
    bytes: &mut Vec<u8>,
) -> Result<Option<Frame>, PcapError> {
    let header = reader.header();
    let Some(record) = reader.next_raw_packet().transpose()? else { return Ok(None) };
    let unit_ns = match header.ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    bytes.extend_from_slice(&record.data);
    *offset += RECORD_HEADER_LEN + u64::from(record.incl_len);
    Ok(Some(Frame {
        ts_ns: u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_frac) * unit_ns,
        link: header.datalink,
        is_cut: record.incl_len < record.orig_len,
    }))
}

/// The library takes all times for nanoseconds, and refuses packets with options that it does not know the end of; so
/// it only finds blocks and reads the interfaces.
fn next_ng(
    reader: &mut PcapNgReader<Source>,
    offset: &mut u64,
    bytes: &mut Vec<u8>,
) -> Result<Option<Frame>, PcapError> {
    loop {
        let Some(block) = reader.next_raw_block().transpose()? else { return Ok(None) };
        let (kind, len) = (block.type_, u64::from(block.initial_len));
        if kind == ENHANCED_PACKET_BLOCK {
            bytes.extend_from_slice(&block.body);
        }
        drop(block);
        if kind == ENHANCED_PACKET_BLOCK {
            let frame = enhanced_packet(reader, bytes)?;
            *offset += len;
            return Ok(Some(frame));
        }
        *offset += len;
    }
}

/// Reads an enhanced packet block, and leaves its packet in `body`.
///
/// ```text
///  0 interface        u32
///  4 time             two u32, the upper half first
/// 12 captured length  u32
/// 16 original length  u32
/// 20 packet, padding, options
/// ```
fn enhanced_packet(reader: &PcapNgReader<Source>, body: &mut Vec<u8>) -> Result<Frame, PcapError> {
    let word = |at: usize| {
        let bytes = *body.get(at..)?.first_chunk()?;
        Some(match reader.section().endianness {
            Endianness::Big => u32::from_be_bytes(bytes),
            Endianness::Little => u32::from_le_bytes(bytes),
        })
    };
    let words = || Some((word(0)?, u64::from(word(4)?) << 32 | u64::from(word(8)?), word(12)?, word(16)?));
    let Some((interface, units, len, original_len)) = words() else {
        return Err(PcapError::InvalidField("a packet block is shorter than its header"));
    };
    let Some(interface) = reader.interfaces().get(interface as usize) else {
        return Err(PcapError::InvalidField("a packet of an interface that was not described"));
    };
    if len as usize > body.len() - PACKET_HEADER_LEN {
        return Err(PcapError::InvalidField("a packet is longer than its block"));
    }
    body.drain(..PACKET_HEADER_LEN);
    body.truncate(len as usize);
    Ok(Frame { ts_ns: unix_ns(interface, units), link: interface.linktype, is_cut: len < original_len })
}

/// A time in an interface's own units, microseconds if it does not say.
fn unix_ns(interface: &InterfaceDescriptionBlock<'_>, units: u64) -> u64 {
    let (mut units_per_s, mut offset_s) = (Some(1_000_000), 0);
    for option in &interface.options {
        match option {
            // The uppermost bit tells powers of two from powers of ten.
            InterfaceDescriptionOption::IfTsResol(power) => {
                let (base, exponent) = (if power & 0x80 == 0 { 10_u64 } else { 2 }, u32::from(power & 0x7f));
                units_per_s = base.checked_pow(exponent);
            }
            InterfaceDescriptionOption::IfTsOffset(seconds) => offset_s = *seconds,
            _ => {}
        }
    }
    // Finer units than 64 bits can count are below a nanosecond each.
    let ns = u128::from(units) * 1_000_000_000 / u128::from(units_per_s.unwrap_or(u64::MAX));
    u64::try_from(ns).unwrap_or(u64::MAX).saturating_add(offset_s.saturating_mul(1_000_000_000))
}

/// What an error says of the file; the error itself if it is the disk's.
fn fault_of(error: PcapError) -> io::Result<CaptureFault> {
    match error {
        PcapError::IncompleteBuffer => Ok(CaptureFault::Truncated),
        PcapError::IoError(error) => match error.kind() {
            ErrorKind::UnexpectedEof => Ok(CaptureFault::Truncated),
            ErrorKind::InvalidInput | ErrorKind::InvalidData => Ok(CaptureFault::GzipCorrupt),
            _ => Err(error),
        },
        PcapError::InvalidField(what) => Ok(CaptureFault::Corrupt(what)),
        PcapError::Utf8Error(_) | PcapError::FromUtf8Error(_) => Ok(CaptureFault::Corrupt("a text is not UTF-8")),
        PcapError::InvalidInterfaceId(_) => Ok(CaptureFault::Corrupt("an interface that was not described")),
    }
}

/// Where the first packet (or the second block) begins in a file with this head; none if it is no capture's.
fn first_offset(head: &[u8]) -> Option<u64> {
    let magic = head.first_chunk::<4>()?;
    if CLASSIC_MAGICS.contains(magic) {
        return Some(CLASSIC_HEADER_LEN);
    }
    let (len, order) = (*head.get(4..)?.first_chunk()?, *head.get(8..)?.first_chunk()?);
    match (*magic == NG_MAGIC, u32::from_be_bytes(order)) {
        (true, 0x1a2b_3c4d) => Some(u32::from_be_bytes(len).into()),
        (true, 0x4d3c_2b1a) => Some(u32::from_le_bytes(len).into()),
        _ => None,
    }
}

const HEAD_LEN: u64 = 12;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const NG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Microseconds and nanoseconds, big-endian and little-endian.
const CLASSIC_MAGICS: [[u8; 4]; 4] =
    [[0xa1, 0xb2, 0xc3, 0xd4], [0xa1, 0xb2, 0x3c, 0x4d], [0xd4, 0xc3, 0xb2, 0xa1], [0x4d, 0x3c, 0xb2, 0xa1]];
const CLASSIC_HEADER_LEN: u64 = 24;
const RECORD_HEADER_LEN: u64 = 16;
const PACKET_HEADER_LEN: usize = 20;
