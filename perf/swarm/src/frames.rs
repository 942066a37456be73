//! Reads a server's WebSocket stream with eight bytes of state: the stream may be cut anywhere, reading continues where
//! it stopped, and nothing is kept of the payload.
//!
//! Not `fanblade_wire`'s client: that one joins a split frame in a buffer, and expects what a Fanblade sends. This one
//! reads any server (RFC 6455 section 5), fragments and interleaved control frames included.

use std::fmt;

/// Where one connection's stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Payload bytes still to come; while the header is read, the length so far.
    left: u32,
    phase: Phase,
    /// First byte of the present frame: FIN and opcode.
    first: u8,
    /// A message has begun and its last fragment has not been seen.
    in_message: bool,
}

const _: () = assert!(size_of::<Frames>() == 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    First,
    Second,
    /// This many bytes of an extended length are to come.
    Length1,
    Length2,
    Length3,
    Length4,
    Length5,
    Length6,
    Length7,
    Length8,
    /// The header is whole, and no byte of the payload has been seen.
    Start,
    Payload,
}

/// A part of what was received, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of a text or binary message; its first or last byte may be among these, or both.
    Message { bytes: &'a [u8], is_first: bool, is_last: bool },
    /// Bytes of a ping, pong or close frame.
    Control { opcode: u8, bytes: &'a [u8], is_last: bool },
}

pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;

/// What no server may send. After that, the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    #[error("a frame begins with {0:#04x}: reserved bits or opcode, or the stream is torn")]
    Header(u8),
    #[error("a masked frame from a server")]
    Masked,
    #[error("a continuation without a beginning")]
    Continuation,
    #[error("a message begins within another")]
    Interleaved,
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a frame of 4 GiB or more")]
    TooLong,
}

impl Default for Frames {
    fn default() -> Self {
        Frames { left: 0, phase: Phase::First, first: 0, in_message: false }
    }
}

impl Frames {
    /// Takes the bytes that came next, and calls `sink` for each piece of a message or control frame among them.
    pub(crate) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Piece<'_>)) -> Result<(), FrameFault> {
        let mut bytes = bytes;
        loop {
            // A frame without payload is complete with its header.
            if matches!(self.phase, Phase::Start | Phase::Payload) && (self.left == 0 || !bytes.is_empty()) {
                let (piece, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                bytes = rest;
                self.piece(piece, &mut sink);
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.header(byte)?;
        }
    }

    fn piece(&mut self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        #[expect(clippy::cast_possible_truncation, reason = "no more than `left`")]
        let len = bytes.len() as u32;
        self.left -= len;
        let opcode = self.opcode();
        let ends_frame = self.left == 0;
        if opcode >= CLOSE {
            sink(Piece::Control { opcode, bytes, is_last: ends_frame });
        } else {
            let is_first = self.phase == Phase::Start && opcode != CONTINUATION;
            let is_last = ends_frame && self.first & FIN != 0;
            self.in_message = !is_last;
            sink(Piece::Message { bytes, is_first, is_last });
        }
        self.phase = if ends_frame { Phase::First } else { Phase::Payload };
    }

    fn header(&mut self, byte: u8) -> Result<(), FrameFault> {
        self.phase = match self.phase {
            Phase::First => {
                self.first = byte;
                self.check_first()?;
                Phase::Second
            }
            Phase::Second => {
                if byte & MASKED != 0 {
                    return Err(FrameFault::Masked);
                }
                if self.opcode() >= CLOSE && byte > CONTROL_LEN_MAX {
                    return Err(FrameFault::Control);
                }
                self.left = 0;
                match byte {
                    126 => Phase::Length2,
                    127 => Phase::Length8,
                    len => {
                        self.left = len.into();
                        Phase::Start
                    }
                }
            }
            length => {
                if self.left >> 24 != 0 {
                    return Err(FrameFault::TooLong);
                }
                self.left = self.left << 8 | u32::from(byte);
                match length {
                    Phase::Length8 => Phase::Length7,
                    Phase::Length7 => Phase::Length6,
                    Phase::Length6 => Phase::Length5,
                    Phase::Length5 => Phase::Length4,
                    Phase::Length4 => Phase::Length3,
                    Phase::Length3 => Phase::Length2,
                    Phase::Length2 => Phase::Length1,
                    _ => Phase::Start,
                }
            }
        };
        Ok(())
    }

    fn check_first(&self) -> Result<(), FrameFault> {
        match (self.first & !FIN, self.in_message) {
            (CONTINUATION, false) => Err(FrameFault::Continuation),
            (TEXT | BINARY, true) => Err(FrameFault::Interleaved),
            (CONTINUATION, true) | (TEXT | BINARY, false) => Ok(()),
            (CLOSE..=10, _) if self.first & FIN == 0 => Err(FrameFault::Control),
            (CLOSE..=10, _) => Ok(()),
            _ => Err(FrameFault::Header(self.first)),
        }
    }

    fn opcode(&self) -> u8 {
        self.first & OPCODE
    }
}

impl fmt::Display for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Piece::Message { bytes, .. } | Piece::Control { bytes, .. }) = self;
        String::from_utf8_lossy(bytes).fmt(f)
    }
}

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTROL_LEN_MAX: u8 = 125;

#[cfg(test)]
mod tests {
    use fanblade_wire::frame::{Opcode, write_frame};

    use super::*;

    /// What was received, whatever the pieces: (opcode of a control frame or 0, payload).
    #[derive(Default)]
    struct Joined {
        whole: Vec<(u8, Vec<u8>)>,
        message: Option<Vec<u8>>,
        control: Vec<u8>,
    }

    impl Joined {
        fn take(&mut self, piece: Piece<'_>) {
            match piece {
                Piece::Message { bytes, is_first, is_last } => {
                    assert_eq!(is_first, self.message.is_none());
                    self.message.get_or_insert_default().extend_from_slice(bytes);
                    if is_last {
                        self.whole.push((0, self.message.take().unwrap()));
                    }
                }
                Piece::Control { opcode, bytes, is_last } => {
                    self.control.extend_from_slice(bytes);
                    if is_last {
                        self.whole.push((opcode, std::mem::take(&mut self.control)));
                    }
                }
            }
        }
    }

    fn receive(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<(u8, Vec<u8>)> {
        let (mut frames, mut joined, mut from) = (Frames::default(), Joined::default(), 0);
        for to in cuts.into_iter().chain([stream.len()]) {
            frames.push(&stream[from..to], |piece| joined.take(piece)).unwrap();
            from = to;
        }
        assert_eq!(frames.phase, Phase::First);
        joined.whole
    }

    /// Every kind of header, an empty frame, and a fragmented message with a ping and an empty fragment in it.
    fn stream() -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let mut stream = Vec::new();
        write_frame(&mut stream, Opcode::Text, b"hello");
        write_frame(&mut stream, Opcode::Ping, b"");
        write_frame(&mut stream, Opcode::Text, b"");
        stream.extend_from_slice(&[0x02, 2, 1, 2, 0x00, 0]);
        write_frame(&mut stream, Opcode::Ping, b"within");
        stream.extend_from_slice(&[0x80, 3, 3, 4, 5]);
        write_frame(&mut stream, Opcode::Binary, &[7; 130]);
        stream.extend_from_slice(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, 8, 9]);
        write_frame(&mut stream, Opcode::Close, &[3, 232, b'x']);
        let expected = vec![
            (0, b"hello".to_vec()),
            (PING, vec![]),
            (0, vec![]),
            (PING, b"within".to_vec()),
            (0, vec![1, 2, 3, 4, 5]),
            (0, vec![7; 130]),
            (0, vec![8, 9]),
            (CLOSE, vec![3, 232, b'x']),
        ];
        (stream, expected)
    }

    #[test]
    fn every_pair_of_cuts_gives_the_same_messages() {
        let (stream, expected) = stream();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(receive(&stream, [first, second]), expected, "{first} {second}");
            }
        }
        assert_eq!(receive(&stream, 1..stream.len()), expected);
    }

    #[test]
    fn what_no_server_may_send_is_a_fault() {
        let fault = |bytes: &[u8]| Frames::default().push(bytes, |_| {}).unwrap_err();
        assert_eq!(fault(&[0xc1]), FrameFault::Header(0xc1));
        assert_eq!(fault(&[0x83]), FrameFault::Header(0x83));
        assert_eq!(fault(&[0x8b]), FrameFault::Header(0x8b));
        assert_eq!(fault(&[0x81, 0x81]), FrameFault::Masked);
        assert_eq!(fault(&[0x80]), FrameFault::Continuation);
        assert_eq!(fault(&[0x01, 0, 0x81]), FrameFault::Interleaved);
        assert_eq!(fault(&[0x09]), FrameFault::Control);
        assert_eq!(fault(&[0x89, 126]), FrameFault::Control);
        assert_eq!(fault(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), FrameFault::TooLong);
    }

    #[test]
    fn a_long_frame_is_read() {
        let mut stream = Vec::new();
        write_frame(&mut stream, Opcode::Binary, &[3; 70_000]);
        assert_eq!(receive(&stream, [1, 3, 9, 11, 40_000]), [(0, vec![3; 70_000])]);
    }
}
