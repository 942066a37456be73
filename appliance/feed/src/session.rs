//! What upstream calls a numbering.

/// The name of a session: one unbroken numbering of messages, ASCII padded with spaces.
pub type Session = [u8; 10];
