//! What publishers and the blade say to each other over TCP and Unix sockets, version 1: frames of bytes, both ways.
//!
//! ```text
//! frame     0 length  u32, of all that follows it
//!           4 kind    u8
//!           5 body
//!
//! kinds from the publisher                          kinds from the blade
//!  1 hello  0 magic      "fanblade"                 129 welcome  0 version     u8, 1
//!           8 version    u8, 1                                   1 data_len_max u32
//!           9 flags      u8, bit 0: no acks                      5 epoch       text
//!          10 name_len   u8                         130 ack      0 records     u64
//!          11 name       text                                    8 seq         u64
//!             token      the rest                   131 error    0 record      u64, 0: none of them
//!  2 JSON   0 ts_ns      u64, 0: on arrival                      8 flags       u8, bit 0: the blade closes
//!  3 opaque 8 subject_len u8                                     9 code_len    u8
//!           9 subject    text                                   10 code        text
//!             data       the rest                                  message     the rest, text
//! ```
//! Numbers are little-endian, text is UTF-8. The first frame of a publisher is its hello. Records count from 1 on each
//! connection; docs/PUBLISHING.md says what the answers mean. A WebSocket publisher puts the same frames of kinds 2 and
//! 3, one or more, into its binary messages.

mod frames;
mod reply;
mod request;

pub use frames::{FrameAndRest, FrameTooLong, Frames, split};
pub use reply::{ErrorReply, Reply, ReplyFault};
pub use request::{Hello, Record, Request, RequestFault, Value, is_name};

/// The version of these layouts.
pub const VERSION: u8 = 1;

/// Bytes of the length field.
pub const LENGTH_LEN: usize = 4;

/// What a record's frame holds at most beside its data: kind, time, length of the subject, subject.
pub const RECORD_HEAD_LEN_MAX: usize = 1 + 8 + 1 + u8::MAX as usize;

/// The longest hello, in bytes behind its length field: the head, the longest name, and a token.
pub const HELLO_LEN_MAX: usize = 1 + 11 + u8::MAX as usize + crate::limits::PUBLISHER_TOKEN_LEN_MAX;

#[cfg(test)]
mod tests;
