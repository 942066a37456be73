//! How a client reads the messages that it gets.

use super::marker::{Marker, Pattern};

/// What a message says, and where.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Where the time of publishing stands, in nanoseconds since the Unix epoch. None: every message counts, without
    /// latency.
    pub timestamp: Option<Marker>,
    /// Where the message's number within its subject stands.
    pub sequence: Option<Marker>,
    /// Where the number of its subject stands, if clients have several subjects.
    pub subject: Option<Marker>,
    /// Where a message ends.
    pub boundary: Boundary,
    /// What comes before the first message.
    pub preamble: Preamble,
}

/// Where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Boundary {
    /// With its WebSocket message
    #[default]
    Frame,
    /// With its timestamp, however the server cuts its stream into frames (NATS, MQTT, and whoever joins messages)
    Timestamp,
}

/// What a client receives before it counts as subscribed.
#[derive(Debug, Clone)]
pub enum Preamble {
    /// This many WebSocket messages.
    Messages(u8),
    /// These bytes, in any message.
    Bytes(Pattern),
}

impl Default for Preamble {
    fn default() -> Self {
        Preamble::Messages(0)
    }
}

impl std::str::FromStr for Preamble {
    type Err = String;

    fn from_str(text: &str) -> Result<Preamble, String> {
        if let Some(pattern) = text.strip_prefix("text:") {
            return Ok(Preamble::Bytes(pattern.parse()?));
        }
        let wrong = |_| format!("`{text}` is not a preamble: write a number of messages (at most 255), or text:BYTES");
        text.parse().map(Preamble::Messages).map_err(wrong)
    }
}
