//! The client's end of a connection, for `fanblade subscribe`, load generators and tests.

use crate::frame::{FIN, LENGTH, MASKED, OPCODE, Opcode, RSV, SERVER_HEADER_LEN_MAX, server_header};
use crate::handshake::{HEAD_LEN_MAX, accept_token, head_len};
use crate::limits::{CONTROL_LEN_MAX, HEADERS_MAX};
use crate::mask;

/// Appends one final, masked frame (RFC 6455 section 5.3). A client of the public internet takes a fresh, unpredictable
/// mask each time (section 10.3); a load generator need not.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    write_fragment(out, true, opcode, mask, payload);
}

/// Appends one masked frame, which may be a fragment (section 5.4).
pub fn write_fragment(out: &mut Vec<u8>, is_final: bool, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    let (mut header, header_len) = server_header(opcode, payload.len());
    let [first, second, ..] = &mut header;
    if !is_final {
        *first &= !FIN;
    }
    *second |= MASKED;
    out.reserve(header_len + mask.len() + payload.len());
    out.extend(header.iter().take(header_len));
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(out.get_mut(start..).unwrap_or_default(), mask, 0);
}

/// An opening handshake (section 4.1). The values go into the header as they are: they must be free of line breaks.
#[derive(Debug, Clone, Copy)]
pub struct UpgradeRequest<'a> {
    /// Host and port, as in the URL.
    pub host: &'a str,
    /// Path and query, beginning with `/`.
    pub target: &'a str,
    /// Base64 of 16 bytes; [`KEY`] where nobody's cache is between.
    pub key: &'a str,
    /// Subprotocols, comma-separated, in order of preference.
    pub protocol: Option<&'a str>,
    /// Bearer token.
    pub token: Option<&'a str>,
}

/// A valid key, the RFC's own example (section 1.3), for tests and load generators.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

impl UpgradeRequest<'_> {
    /// Appends the request.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        line(&[
            "GET ",
            self.target,
            " HTTP/1.1\r\nHost: ",
            self.host,
            "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        ]);
        line(&["Sec-WebSocket-Key: ", self.key, "\r\nSec-WebSocket-Version: 13\r\n"]);
        if let Some(protocol) = self.protocol {
            line(&["Sec-WebSocket-Protocol: ", protocol, "\r\n"]);
        }
        if let Some(token) = self.token {
            line(&["Authorization: Bearer ", token, "\r\n"]);
        }
        line(&["\r\n"]);
    }
}

/// What a server answered to an [`UpgradeRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeResponse<'a> {
    /// Bytes of the head; frames follow.
    pub head_len: usize,
    /// The subprotocol that the server chose.
    pub protocol: Option<&'a str>,
}

/// Why a server's answer to the opening handshake is none that a client may accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// No HTTP response, or one with too long a head.
    #[error("not an HTTP response to an opening handshake")]
    Malformed,
    /// The server refused, with this status.
    #[error("the server answered {0}")]
    Refused(u16),
    /// `Upgrade`, `Connection` or `Sec-WebSocket-Accept` are not as section 4.1 demands.
    #[error("the server answered 101, but its {0} header is missing or wrong")]
    Header(&'static str),
}

/// Reads a server's answer; `None` until its head is whole.
pub fn read_response<'a>(bytes: &'a [u8], key: &str) -> Result<Option<UpgradeResponse<'a>>, ResponseError> {
    let Some(head_len) = head_len(bytes, 0) else {
        return if bytes.len() >= HEAD_LEN_MAX { Err(ResponseError::Malformed) } else { Ok(None) };
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    if response.parse(bytes.get(..head_len).unwrap_or_default()) != Ok(httparse::Status::Complete(head_len)) {
        return Err(ResponseError::Malformed);
    }
    match response.code {
        Some(101) => {}
        Some(status) => return Err(ResponseError::Refused(status)),
        None => return Err(ResponseError::Malformed),
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    // Section 4.1, the client's checks 2 to 4.
    if !value("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(ResponseError::Header("Upgrade"));
    }
    let is_upgrade = |value: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if !value("connection").is_some_and(is_upgrade) {
        return Err(ResponseError::Header("Connection"));
    }
    if value("sec-websocket-accept").map(str::as_bytes) != Some(&accept_token(key)) {
        return Err(ResponseError::Header("Sec-WebSocket-Accept"));
    }
    let protocol = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-protocol"));
    let protocol = protocol.and_then(|header| std::str::from_utf8(header.value).ok());
    Ok(Some(UpgradeResponse { head_len, protocol }))
}

/// Frames as a server sends them: unmasked and, from Fanblade, never fragmented.
///
/// A frame that is whole in the bytes of one call is lent from there; one that is split is joined in a buffer, which is
/// kept for the next one.
#[derive(Debug)]
pub struct ServerFrames {
    carry: Vec<u8>,
    payload_len_max: usize,
}

/// What a Fanblade never sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerFrameError {
    /// Reserved bits or a reserved opcode: the stream is torn, or an extension that nobody asked for.
    #[error("a frame header begins with {0:#04x}: the stream is torn")]
    Header(u8),
    /// A fragment.
    #[error("a fragmented message")]
    Fragment,
    /// A masked frame (section 5.1: the client must close).
    #[error("a masked frame from a server")]
    Masked,
    /// A payload longer than this client takes.
    #[error("a frame of {0} bytes")]
    TooBig(u64),
}

impl ServerFrames {
    /// A connection whose handshake is done. Payloads of more than `payload_len_max` bytes are an error.
    pub fn new(payload_len_max: usize) -> ServerFrames {
        ServerFrames { carry: Vec::new(), payload_len_max }
    }

    /// Takes the bytes that came next and calls `sink` for each frame that they complete.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Opcode, &[u8])) -> Result<(), ServerFrameError> {
        let mut bytes = bytes;
        // The rest of a frame begun in an earlier call: first its header, which tells how much more to take.
        while !self.carry.is_empty() {
            let (wanted_len, frame) = match self.header(&self.carry)? {
                Some(header) => (header.frame_len(), Some(header)),
                None => (self.carry.len() + 1, None),
            };
            let missing_len = wanted_len.saturating_sub(self.carry.len());
            if let (0, Some(header)) = (missing_len, frame) {
                sink(header.opcode, self.carry.get(header.header_len..).unwrap_or_default());
                self.carry.clear();
                break;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let (taken, rest) = bytes.split_at(missing_len.min(bytes.len()));
            self.carry.extend_from_slice(taken);
            bytes = rest;
        }
        while let Some(header) = self.header(bytes)? {
            let Some((frame, rest)) = bytes.split_at_checked(header.frame_len()) else {
                break;
            };
            sink(header.opcode, frame.get(header.header_len..).unwrap_or_default());
            bytes = rest;
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// Does the stream stand between frames, where a server may end it?
    pub fn is_between_frames(&self) -> bool {
        self.carry.is_empty()
    }

    fn header(&self, bytes: &[u8]) -> Result<Option<ServerHeader>, ServerFrameError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let Some(opcode) = Opcode::from_bits(first & OPCODE).filter(|_| first & RSV == 0) else {
            return Err(ServerFrameError::Header(first));
        };
        if first & FIN == 0 || opcode == Opcode::Continuation {
            return Err(ServerFrameError::Fragment);
        }
        if second & MASKED != 0 {
            return Err(ServerFrameError::Masked);
        }
        let (payload_len, header_len) = match second & LENGTH {
            126 => match rest.first_chunk() {
                Some(short) => (u64::from(u16::from_be_bytes(*short)), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(long) => (u64::from_be_bytes(*long), SERVER_HEADER_LEN_MAX),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        let payload_len_max = if opcode.is_control() { CONTROL_LEN_MAX } else { self.payload_len_max };
        match usize::try_from(payload_len) {
            Ok(payload_len) if payload_len <= payload_len_max => {
                Ok(Some(ServerHeader { opcode, header_len, payload_len }))
            }
            _ => Err(ServerFrameError::TooBig(payload_len)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct ServerHeader {
    opcode: Opcode,
    header_len: usize,
    payload_len: usize,
}

impl ServerHeader {
    fn frame_len(self) -> usize {
        self.header_len + self.payload_len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame;
    use crate::handshake::{self, Head};

    fn receive(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<(Opcode, Vec<u8>)> {
        let mut frames = ServerFrames::new(70_000);
        let mut received = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([stream.len()]) {
            frames.push(&stream[from..to], |opcode, payload| received.push((opcode, payload.to_vec()))).unwrap();
            from = to;
        }
        assert!(frames.is_between_frames());
        received
    }

    #[test]
    fn masked_example_of_section_5_7() {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn every_pair_of_cuts_gives_the_same_frames() {
        let sent = [
            (Opcode::Text, vec![b'a'; 5]),
            (Opcode::Ping, vec![]),
            (Opcode::Binary, vec![7; 130]),
            (Opcode::Text, vec![]),
        ];
        let mut stream = Vec::new();
        sent.iter().for_each(|(opcode, payload)| frame::write_frame(&mut stream, *opcode, payload));
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(receive(&stream, [first, second]), sent);
            }
        }
        assert_eq!(receive(&stream, 1..stream.len()), sent);
    }

    #[test]
    fn long_frames_and_limits() {
        let mut stream = Vec::new();
        frame::write_frame(&mut stream, Opcode::Binary, &[3; 70_000]);
        assert_eq!(receive(&stream, [1, 3, 9, 11, 40_000]), [(Opcode::Binary, vec![3; 70_000])]);
        let error = |bytes: &[u8]| ServerFrames::new(100).push(bytes, |_, _| {}).unwrap_err();
        assert_eq!(error(&stream), ServerFrameError::TooBig(70_000));
        assert_eq!(error(&[0x81, 101]), ServerFrameError::TooBig(101));
        assert_eq!(error(&[0x89, 126, 0, 126]), ServerFrameError::TooBig(126));
        assert_eq!(error(&[0x01, 1]), ServerFrameError::Fragment);
        assert_eq!(error(&[0x80, 1]), ServerFrameError::Fragment);
        assert_eq!(error(&[0x81, 0x81]), ServerFrameError::Masked);
        assert_eq!(error(&[0xc1, 1]), ServerFrameError::Header(0xc1));
        assert_eq!(error(&[0x83, 1]), ServerFrameError::Header(0x83));
    }

    #[test]
    fn handshake_with_our_own_server() {
        let mut request = Vec::new();
        let target = "/v1/stream?subjects=/NASDAQ/**";
        let protocol = Some("fanblade.v1.json, fanblade.v1.binary");
        UpgradeRequest { host: "[::1]:9090", target, key: KEY, protocol, token: Some("abc") }.write(&mut request);
        let Head::Upgrade(upgrade) = handshake::parse(&request, 0) else { panic!("refused") };
        assert_eq!((upgrade.path, upgrade.query), ("/v1/stream", Some("subjects=/NASDAQ/**")));
        assert_eq!(upgrade.authorization, Some("Bearer abc"));
        let mut response = Vec::new();
        upgrade.response(Some("fanblade.v1.binary"), &mut response);
        for cut in 0..response.len() {
            assert_eq!(read_response(&response[..cut], KEY), Ok(None));
        }
        let head_len = response.len();
        response.extend_from_slice(b"\x81\x00");
        let accepted = UpgradeResponse { head_len, protocol: Some("fanblade.v1.binary") };
        assert_eq!(read_response(&response, KEY), Ok(Some(accepted)));
        let other_key = read_response(&response, "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(other_key, Err(ResponseError::Header("Sec-WebSocket-Accept")));
        let refused = read_response(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", KEY);
        assert_eq!(refused, Err(ResponseError::Refused(403)));
        assert_eq!(read_response(b"what?\r\n\r\n", KEY), Err(ResponseError::Malformed));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ServerFrames::new(100).push(&bytes, |_, _| {});
            let _ = read_response(&bytes, KEY);
        }
    }
}
