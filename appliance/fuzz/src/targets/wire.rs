//! Targets for WebSocket: both handshakes, both directions of frames.

use fanblade_wire::client::{self, ServerFrames};
use fanblade_wire::frame::Opcode;
use fanblade_wire::handshake::{self, HEAD_LEN_MAX, Head};
use fanblade_wire::{Event, Flow, Inbound, InboundError, InboundLimits};

use crate::streams::{cut, pieces};

/// A request's head, whole and piece by piece; and the same bytes as an answer to our client.
pub(crate) fn handshake(input: &[u8]) {
    let (lengths, bytes) = cut(input);
    let whole = outcome(bytes, 0);
    let (mut come, mut scanned) = (0, 0);
    let mut by_pieces = (0, None);
    for piece in pieces(bytes, lengths) {
        come += piece.len();
        by_pieces = outcome(&bytes[..come], scanned);
        scanned = come;
        if by_pieces.0 != 0 {
            break;
        }
    }
    // A head without an end may be refused piece by piece, but only once the pieces are longer than the limit.
    if come <= HEAD_LEN_MAX {
        assert_eq!(whole, by_pieces, "a head that comes in pieces is another one");
    }
    let _ = client::read_response(bytes, client::KEY);
}

/// The status of the answer, 0 if there is none yet, and where the head ends.
fn outcome(bytes: &[u8], scanned: usize) -> (u16, Option<usize>) {
    let mut response = Vec::new();
    match handshake::parse(bytes, scanned) {
        Head::Incomplete => (0, None),
        Head::Upgrade(upgrade) => {
            assert!(upgrade.head_len <= bytes.len().min(HEAD_LEN_MAX));
            assert!(upgrade.path.starts_with('/'), "{}", upgrade.path);
            upgrade.response(Some("fanblade.v1.json"), &mut response);
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"\r\n\r\n"));
            (101, Some(upgrade.head_len))
        }
        Head::Reject(rejection) => {
            rejection.response(&mut response);
            assert!(response.starts_with(b"HTTP/1.1 "));
            (rejection.status, None)
        }
    }
}

/// Frames from a client: in one piece and in many they must give the same result, within the limits.
pub(crate) fn frames(input: &[u8]) {
    let (lengths, bytes) = cut(input);
    let whole = said(std::iter::once(bytes));
    assert_eq!(whole, said(pieces(bytes, lengths)), "a stream that is cut elsewhere says something else");
    let (events, end) = whole;
    for (kind, payload) in &events {
        let len_max = if *kind >= CONTROL { 125 } else { LIMITS.message_len_max };
        assert!(payload.len() <= len_max, "{kind}: {} bytes", payload.len());
    }
    if let Err(error) = end {
        assert!(error.to_string().len() <= 123, "the text fits a close frame");
        assert!((1_000..5_000).contains(&error.close_code()));
    }
}

type Said = (Vec<(u8, Vec<u8>)>, Result<(), InboundError>);

fn said<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Said {
    let (mut inbound, mut events) = (Inbound::new(), Vec::new());
    for piece in pieces {
        let result = inbound.push(&mut piece.to_vec(), &LIMITS, &mut |event| {
            events.push(match event {
                Event::Text(text) => (1, text.as_bytes().to_vec()),
                Event::Binary(bytes) => (2, bytes.to_vec()),
                Event::TooLong { is_text, len } => {
                    assert!(len > LIMITS.message_len_max as u64 && len <= LIMITS.skipped_len_max);
                    (3 + u8::from(is_text), len.to_be_bytes().to_vec())
                }
                Event::Ping(payload) => (CONTROL + 1, payload.to_vec()),
                Event::Pong(payload) => (CONTROL + 2, payload.to_vec()),
                Event::Close { code, reason } => (
                    CONTROL,
                    [&code.map_or(vec![], |code| code.to_be_bytes().to_vec())[..], reason.as_bytes()].concat(),
                ),
            });
            Flow::Continue
        });
        if result.is_err() {
            assert!(inbound.is_finished());
            return (events, result);
        }
    }
    (events, Ok(()))
}

/// Frames from a server, read by our client.
pub(crate) fn server_frames(input: &[u8]) {
    let (lengths, bytes) = cut(input);
    let heard = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut heard) = (ServerFrames::new(LIMITS.message_len_max), Vec::<(Opcode, Vec<u8>)>::new());
        for piece in pieces {
            if let Err(error) = frames.push(piece, |opcode, payload| heard.push((opcode, payload.to_vec()))) {
                assert!(!error.to_string().is_empty());
                return (heard, false);
            }
        }
        (heard, true)
    };
    let whole = heard(&mut std::iter::once(bytes));
    assert_eq!(whole, heard(&mut pieces(bytes, lengths)), "a stream that is cut elsewhere says something else");
}

const CONTROL: u8 = 8;
/// Small limits, so that short inputs reach them.
const LIMITS: InboundLimits = InboundLimits { message_len_max: 300, skipped_len_max: 600, fragments_max: 4 };
