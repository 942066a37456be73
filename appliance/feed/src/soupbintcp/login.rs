//! Logging in: the request, and both answers.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::fault::HEADER_LEN;
use super::{PacketError, PacketFault};
use crate::Session;

/// What a client says first. All text is padded on the right here; on the wire the session is padded on the left.
/// Usernames and passwords mean the same in upper and lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LoginRequest {
    /// Who logs in.
    pub username: [u8; 6],
    /// Its secret. Not shown by `Debug`.
    pub password: [u8; 10],
    /// The session wanted; blank: the current one.
    pub session: Session,
    /// The first message wanted; 1: from the beginning, 0: from now on.
    pub sequence: u64,
    /// After how much silence each side takes the other for dead, milliseconds. None: a request of 3.00, which cannot
    /// say it. On the wire it has five digits; more is cut to 99,999.
    pub heartbeat_timeout_ms: Option<u32>,
}

/// The server lets the client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginAccepted {
    /// The session that it is in, padded on the right.
    pub session: Session,
    /// The number of the sequenced message that is sent next.
    pub sequence: u64,
}

/// Why the server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// `A`
    #[error("not authorised")]
    NotAuthorized,
    /// `S`
    #[error("session not available")]
    SessionUnavailable,
    /// A code that the specification does not have.
    #[error("code {:?}", char::from(*_0))]
    Other(u8),
}

/// Text as it is padded here, if it is printable ASCII and fits.
pub fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let fits = text.len() <= N && text.bytes().all(is_text);
    fits.then(|| left_justified(text.as_bytes()))
}

impl LoginRequest {
    /// Reads a payload of 46 or 51 bytes.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, PacketError> {
        let (layout, timeout) = RequestLayout::read_from_prefix(payload).map_err(|_| wrong_length(b'L', payload))?;
        let mut request = Self {
            username: text(&layout.username, 0, "username")?,
            password: text(&layout.password, 6, "password")?,
            session: text(&layout.session, 16, "requested session")?,
            sequence: number(&layout.sequence, 26, "requested sequence number")?,
            heartbeat_timeout_ms: None,
        };
        if !timeout.is_empty() {
            let timeout: &[u8; 5] = timeout.try_into().map_err(|_| wrong_length(b'L', payload))?;
            let milliseconds = number(timeout, 46, "heartbeat timeout")?;
            // Five digits fit.
            request.heartbeat_timeout_ms = u32::try_from(milliseconds).ok();
        }
        Ok(request)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let layout = RequestLayout {
            username: self.username,
            password: self.password,
            session: right_justified(&self.session),
            sequence: digits(self.sequence),
        };
        out.extend_from_slice(layout.as_bytes());
        if let Some(milliseconds) = self.heartbeat_timeout_ms {
            out.extend_from_slice(&digits::<5>(milliseconds.min(HEARTBEAT_TIMEOUT_MS_MAX).into()));
        }
    }
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest")
            .field("username", &String::from_utf8_lossy(&self.username))
            .field("session", &String::from_utf8_lossy(&self.session))
            .field("sequence", &self.sequence)
            .field("heartbeat_timeout_ms", &self.heartbeat_timeout_ms)
            .finish_non_exhaustive()
    }
}

impl LoginAccepted {
    /// Reads a payload of 30 bytes.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, PacketError> {
        let layout = AcceptedLayout::ref_from_bytes(payload).map_err(|_| wrong_length(b'A', payload))?;
        let session = text(&layout.session, 0, "session")?;
        Ok(Self { session, sequence: number(&layout.sequence, 10, "sequence number")? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let layout = AcceptedLayout { session: right_justified(&self.session), sequence: digits(self.sequence) };
        out.extend_from_slice(layout.as_bytes());
    }
}

impl From<u8> for Rejection {
    fn from(code: u8) -> Self {
        match code {
            b'A' => Rejection::NotAuthorized,
            b'S' => Rejection::SessionUnavailable,
            other => Rejection::Other(other),
        }
    }
}

impl From<Rejection> for u8 {
    fn from(rejection: Rejection) -> u8 {
        match rejection {
            Rejection::NotAuthorized => b'A',
            Rejection::SessionUnavailable => b'S',
            Rejection::Other(code) => code,
        }
    }
}

/// The number that a field of digits holds, padded with spaces on either side.
pub(crate) fn parse_digits(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    // Digits are text. More than 64 bits hold is no number.
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok())?
}

/// A number as digits, padded with spaces on the left. Digits beyond the field are lost.
pub(crate) fn digits<const N: usize>(number: u64) -> [u8; N] {
    let (mut field, mut rest) = ([b' '; N], number);
    for place in field.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    field
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RequestLayout {
    username: [u8; 6],
    password: [u8; 10],
    session: [u8; 10],
    sequence: [u8; 20],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AcceptedLayout {
    session: [u8; 10],
    sequence: [u8; 20],
}

/// A field of text at `offset` of the payload, padded on whatever side, in our form.
fn text<const N: usize>(field: &[u8; N], offset: usize, name: &'static str) -> Result<[u8; N], PacketError> {
    if field.iter().copied().all(is_text) {
        return Ok(left_justified(field.trim_ascii()));
    }
    Err(at(offset, PacketFault::NotText { field: name }))
}

fn number<const N: usize>(field: &[u8; N], offset: usize, name: &'static str) -> Result<u64, PacketError> {
    let digits = || left_justified(field.get(..20).unwrap_or(field));
    parse_digits(field).ok_or_else(|| at(offset, PacketFault::NotNumeric { field: name, digits: digits() }))
}

fn at(payload_offset: usize, fault: PacketFault) -> PacketError {
    PacketError { offset: (HEADER_LEN + payload_offset) as u64, fault }
}

/// The caller has checked the length already; this is how it would be told.
fn wrong_length(kind: u8, payload: &[u8]) -> PacketError {
    let length = u16::try_from(payload.len() + 1).unwrap_or(u16::MAX);
    PacketError { offset: 0, fault: PacketFault::WrongLength { kind, length } }
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// `bytes`, as far as they fit, padded on the right.
fn left_justified<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut field = [b' '; N];
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
    field
}

/// The same text, padded on the left.
fn right_justified<const N: usize>(field: &[u8; N]) -> [u8; N] {
    let mut moved = [b' '; N];
    for (place, byte) in moved.iter_mut().rev().zip(field.trim_ascii().iter().rev()) {
        *place = *byte;
    }
    moved
}

/// The largest number of five digits.
const HEARTBEAT_TIMEOUT_MS_MAX: u32 = 99_999;

#[cfg(test)]
pub(super) mod vectors {
    //! Bytes worked out by hand.

    use super::*;

    pub(crate) const LOGIN_3: LoginRequest = LoginRequest {
        username: *b"User01",
        password: *b"secret    ",
        session: *b"          ",
        sequence: 1,
        heartbeat_timeout_ms: None,
    };
    pub(crate) const LOGIN_3_BYTES: &[u8] = &[
        0x00, 0x2f, 0x4c, 0x55, 0x73, 0x65, 0x72, 0x30, 0x31, 0x73, 0x65, 0x63, 0x72, 0x65, 0x74, 0x20, 0x20, 0x20,
        0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
        0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x31,
    ];
    pub(crate) const LOGIN_4: LoginRequest = LoginRequest {
        username: *b"fan   ",
        session: *b"00001A    ",
        sequence: 1_234_567,
        heartbeat_timeout_ms: Some(15_000),
        ..LOGIN_3
    };
    pub(crate) const LOGIN_4_BYTES: &[u8] = b"\0\x34Lfan   secret        00001A             123456715000";
    pub(crate) const ACCEPTED: LoginAccepted = LoginAccepted { session: *b"00001A    ", sequence: u64::MAX };
    pub(crate) const ACCEPTED_BYTES: &[u8] = b"\0\x1fA    00001A18446744073709551615";
}

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::*;

    #[test]
    fn padding_is_taken_on_either_side() {
        let left = b"\0\x1fA0001      42                  ";
        let accepted = LoginAccepted { session: *b"0001      ", sequence: 42 };
        assert_eq!(Packet::parse(left), Ok(Some((Packet::LoginAccepted(accepted), left.len()))));
        let zeros = b"\0\x1fA      000100000000000000000042";
        assert_eq!(Packet::parse(zeros), Ok(Some((Packet::LoginAccepted(accepted), zeros.len()))));
    }

    #[test]
    fn numbers_in_fields() {
        assert_eq!(parse_digits(b"  7 "), Some(7));
        assert_eq!(parse_digits(b"18446744073709551616"), None, "one more than 64 bits hold");
        for wrong in [&b"    "[..], b"", b"1 2", b"+1", b"1\0", b"0x1", b"\xff"] {
            assert_eq!(parse_digits(wrong), None, "{wrong:?}");
        }
        assert_eq!(&digits::<5>(0), b"    0");
        assert_eq!(&digits::<20>(u64::MAX), b"18446744073709551615");
        let long = LoginRequest { heartbeat_timeout_ms: Some(1_000_000), ..vectors::LOGIN_4 };
        let mut out = Vec::new();
        long.write(&mut out);
        assert!(out.ends_with(b"123456799999"));
    }

    #[test]
    fn text_that_fits_is_padded() {
        assert_eq!(padded::<6>("User01"), Some(*b"User01"));
        assert_eq!(padded::<6>("a"), Some(*b"a     "));
        for wrong in ["1234567", "ü", "a\nb"] {
            assert_eq!(padded::<6>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", Packet::LoginRequest(vectors::LOGIN_3)).contains("secret"));
    }
}
