//! From bytes to packets with their times.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::classic::Classic;
use super::error::CaptureError;
use super::input::{CaptureFault, Frame, Input, Stop};
use super::ng::Section;

/// Reads the packets of a capture, one at a time.
pub struct Capture {
    input: Input,
    format: Format,
    /// Set once there is no more to read.
    end: Option<Item>,
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Ng(Section),
}

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

impl Capture {
    /// Reads from `file`, inflating if it begins as gzip does. None: it is no capture.
    ///
    /// # Errors
    /// If the first bytes cannot be read.
    pub fn new(file: impl Read + Send + 'static) -> io::Result<Option<Self>> {
        let mut input = Input::new(file)?;
        match Format::of(&mut input) {
            Ok(format) => Ok(format.map(|format| Self { input, format, end: None })),
            // What cannot be inflated, or ends within its first header, is no capture.
            Err(Stop::End | Stop::Fault(_)) => Ok(None),
            Err(Stop::Disk(error)) => Err(error),
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
            Format::Classic(classic) => classic.next(&mut self.input, bytes),
            Format::Ng(section) => section.next(&mut self.input, bytes),
        };
        let end = match next {
            Ok(frame) => return Ok(Item::Packet(frame)),
            Err(Stop::End) => Item::EndOfFile,
            Err(Stop::Fault(fault)) => Item::Malformed { offset: self.input.offset, fault },
            Err(Stop::Disk(error)) => return Err(error),
        };
        self.end = Some(end);
        Ok(end)
    }

    /// At the end, and if something follows the compressed data that is ignored, since it is neither gzip nor
    /// padding: that, in words.
    pub fn ignored_tail(&self, path: &Path) -> Option<String> {
        self.input.tail_in_words(path)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("format", &self.format).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Format {
    /// None: it is no capture.
    fn of(input: &mut Input) -> Result<Option<Self>, Stop> {
        let mut head = [0; 12];
        input.read(&mut head)?;
        if let Some(classic) = Classic::begin(&head, input)? {
            return Ok(Some(Self::Classic(classic)));
        }
        Ok(Section::first(&head, input)?.map(Self::Ng))
    }
}

/// Opens a file that is to be a capture.
pub(super) fn open(path: &Path) -> Result<Capture, CaptureError> {
    match File::open(path).and_then(Capture::new) {
        Ok(Some(capture)) => Ok(capture),
        Ok(None) => Err(CaptureError::NotACapture { path: path.to_owned() }),
        Err(source) => Err(CaptureError::Read { path: path.to_owned(), source }),
    }
}
