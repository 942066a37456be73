//! The messages of a measurement: message number `n` has the same bytes for every server, so that a client can check
//! each byte that it receives.

/// The messages of one payload length, as frames on the wire.
pub(crate) struct Messages {
    payload_len: u16,
    /// Frames of the latest numbers, by number modulo their count.
    frames: Vec<(u64, Vec<u8>)>,
}

impl Messages {
    /// Payloads of 16 to 65,535 bytes: the number must fit.
    pub(crate) fn new(payload_len: usize) -> Messages {
        let payload_len = u16::try_from(payload_len).unwrap_or(0);
        assert!(payload_len >= 16, "payloads of 16 to 65,535 bytes only");
        Messages { payload_len, frames: vec![(u64::MAX, Vec::new()); 64] }
    }

    pub(crate) fn frame_len(&self) -> usize {
        self.header_len() + usize::from(self.payload_len)
    }

    /// Length of the WebSocket header (RFC 6455, section 5.2).
    fn header_len(&self) -> usize {
        if self.payload_len < 126 { 2 } else { 4 }
    }

    /// The message as a text frame.
    pub(crate) fn frame(&mut self, number: u64) -> &[u8] {
        let at = usize::try_from(number % self.frames.len() as u64).unwrap_or_default();
        let (held, frame) = &mut self.frames[at];
        if *held != number {
            *held = number;
            frame.clear();
            match u8::try_from(self.payload_len) {
                Ok(len @ ..126) => frame.extend_from_slice(&[0x81, len]),
                _ => {
                    frame.extend_from_slice(&[0x81, 126]);
                    frame.extend_from_slice(&self.payload_len.to_be_bytes());
                }
            }
            let digits = format!("{number:016x}");
            frame.extend(digits.bytes().cycle().take(self.payload_len.into()));
        }
        frame
    }

    pub(crate) fn payload(&mut self, number: u64) -> &[u8] {
        let header_len = self.header_len();
        &self.frame(number)[header_len..]
    }

    /// Compares `bytes` with the stream of all messages at `position`.
    pub(crate) fn check(&mut self, position: u64, bytes: &[u8]) -> bool {
        let len = self.frame_len() as u64;
        let (mut position, mut bytes) = (position, bytes);
        while !bytes.is_empty() {
            let from = usize::try_from(position % len).unwrap_or_default();
            let rest = &self.frame(position / len)[from..];
            let taken = rest.len().min(bytes.len());
            if rest[..taken] != bytes[..taken] {
                return false;
            }
            position += taken as u64;
            bytes = &bytes[taken..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_the_wire_crate_writes() {
        for payload_len in [16, 64, 125, 126, 512] {
            let mut messages = Messages::new(payload_len);
            let mut frame = Vec::new();
            fanblade_wire::frame::write_frame(&mut frame, fanblade_wire::frame::Opcode::Text, messages.payload(7));
            assert_eq!(messages.frame(7), frame);
            assert_eq!(messages.frame_len(), frame.len());
        }
    }

    #[test]
    fn a_lost_or_torn_message_is_found() {
        let mut messages = Messages::new(200);
        let stream: Vec<u8> = (0..100).flat_map(|number| messages.frame(number).to_vec()).collect();
        assert!(messages.check(0, &stream));
        assert!(messages.check(777, &stream[777..5000]));
        let lost = [&stream[..204], &stream[408..]].concat();
        assert!(!messages.check(0, &lost));
        assert!(!messages.check(0, &stream[1..]));
    }
}
