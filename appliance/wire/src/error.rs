//! How a client can break the protocol, and what it is told.

use crate::close;

/// How a client broke the protocol or a limit. The text fits a close frame's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// RSV1 to RSV3 without an extension (section 5.2).
    #[error("reserved bits are set, but no extension was negotiated")]
    ReservedBits,
    /// An opcode that the RFC reserves (section 5.2).
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// Not masked (section 5.1).
    #[error("a client's frames must be masked")]
    Unmasked,
    /// A control frame in fragments (section 5.5).
    #[error("control frames must not be fragmented")]
    ControlFragmented,
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("a control frame holds at most 125 bytes")]
    ControlTooLong,
    /// The length is not in its shortest form, or beyond 63 bits (section 5.2).
    #[error("the payload length is not in its shortest form")]
    LengthEncoding,
    /// A continuation of nothing (section 5.4).
    #[error("a continuation frame, but no message has begun")]
    UnexpectedContinuation,
    /// A new message amid another one's fragments (section 5.4).
    #[error("a new message before the last one's final fragment")]
    ExpectedContinuation,
    /// A close frame with a payload of one byte (section 5.5.1).
    #[error("a close frame's payload is empty or begins with a two-byte code")]
    CloseLength,
    /// A code that may not be sent (section 7.4).
    #[error("close code {0} may not be sent")]
    CloseCode(u16),
    /// A close reason that is not UTF-8 (section 5.5.1).
    #[error("the close reason is not UTF-8")]
    CloseReason,
    /// A text message that is not UTF-8 (section 8.1).
    #[error("the text message is not UTF-8")]
    InvalidUtf8,
    /// A message longer than [`crate::InboundLimits::skipped_len_max`].
    #[error("the message is longer than this server takes, even to refuse it")]
    TooBig,
    /// A message in more frames than [`crate::InboundLimits::fragments_max`].
    #[error("the message has too many fragments")]
    TooManyFragments,
}

impl InboundError {
    /// The code for the close frame that answers this (section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            InboundError::InvalidUtf8 | InboundError::CloseReason => close::INVALID_DATA,
            InboundError::TooBig => close::TOO_BIG,
            InboundError::TooManyFragments => close::POLICY,
            InboundError::ReservedBits
            | InboundError::ReservedOpcode(_)
            | InboundError::Unmasked
            | InboundError::ControlFragmented
            | InboundError::ControlTooLong
            | InboundError::LengthEncoding
            | InboundError::UnexpectedContinuation
            | InboundError::ExpectedContinuation
            | InboundError::CloseLength
            | InboundError::CloseCode(_) => close::PROTOCOL_ERROR,
        }
    }
}
