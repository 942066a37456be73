//! Why a message is refused.

use fanblade_feed::itch::ItchError;

/// The message is malformed: it is not applied, nothing is published, and the next one may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// It is not an ITCH message at all.
    #[error(transparent)]
    Itch(#[from] ItchError),
    /// A field holds a letter that the specification does not know.
    #[error("ITCH message {:?}: {field} is {:?}", char::from(*kind), char::from(*code))]
    Code {
        /// Type byte of the message.
        kind: u8,
        /// Field of the message.
        field: &'static str,
        /// What it holds.
        code: u8,
    },
    /// A text cannot be part of a subject.
    #[error("ITCH message {:?}: {field} is \"{}\"", char::from(*kind), text.escape_ascii())]
    Text {
        /// Type byte of the message.
        kind: u8,
        /// Field of the message.
        field: &'static str,
        /// What it holds; shorter ones end in spaces.
        text: [u8; 8],
    },
}
