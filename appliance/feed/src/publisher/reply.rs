//! What the blade answers.

use super::VERSION;
use super::frames::{begin, end, short};

/// One frame of the blade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The answer to a hello.
    Welcome {
        /// Bytes of data that a record may have.
        data_len_max: u32,
        /// The name of the numbering.
        epoch: &'a str,
    },
    /// All records up to this one have been published, or refused by an error that came before.
    Ack {
        /// The newest of them, counted on this connection from 1.
        records: u64,
        /// The number that the newest published one has for subscribers; 0 if none was.
        seq: u64,
    },
    /// Something was refused.
    Error(ErrorReply<'a>),
}

/// What was refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// The record, counted on this connection from 1; 0: it is about the connection.
    pub record: u64,
    /// Nothing more is taken on this connection.
    pub closes: bool,
    /// For programs.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

/// Why bytes are no frame of the blade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// A kind that is not known.
    #[error("a frame of an unknown kind")]
    Kind,
    /// It speaks another version.
    #[error("it speaks version {0} of the protocol, this program version {VERSION}")]
    Version(u8),
    /// It ends too early, or is not text where it should be.
    #[error("a frame that contradicts itself")]
    Layout,
}

impl<'a> Reply<'a> {
    /// Reads a frame without its length field.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ReplyFault> {
        let (kind, body) = frame.split_first().ok_or(ReplyFault::Kind)?;
        match *kind {
            WELCOME => {
                let (version, rest) = body.split_first().ok_or(ReplyFault::Layout)?;
                if *version != VERSION {
                    return Err(ReplyFault::Version(*version));
                }
                let (data_len_max, epoch) = rest.split_first_chunk::<4>().ok_or(ReplyFault::Layout)?;
                Ok(Reply::Welcome { data_len_max: u32::from_le_bytes(*data_len_max), epoch: text(epoch)? })
            }
            ACK => {
                let (records, rest) = body.split_first_chunk::<8>().ok_or(ReplyFault::Layout)?;
                let (seq, _) = rest.split_first_chunk::<8>().ok_or(ReplyFault::Layout)?;
                Ok(Reply::Ack { records: u64::from_le_bytes(*records), seq: u64::from_le_bytes(*seq) })
            }
            ERROR => {
                let (record, rest) = body.split_first_chunk::<8>().ok_or(ReplyFault::Layout)?;
                let ([flags, code_len], rest) = rest.split_first_chunk::<2>().ok_or(ReplyFault::Layout)?;
                let (code, message) = rest.split_at_checked(usize::from(*code_len)).ok_or(ReplyFault::Layout)?;
                Ok(Reply::Error(ErrorReply {
                    record: u64::from_le_bytes(*record),
                    closes: flags & CLOSES != 0,
                    code: text(code)?,
                    message: text(message)?,
                }))
            }
            _ => Err(ReplyFault::Kind),
        }
    }

    /// Appends it to `out` as a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Reply::Welcome { data_len_max, epoch } => {
                let start = begin(out, WELCOME);
                out.push(VERSION);
                out.extend_from_slice(&data_len_max.to_le_bytes());
                out.extend_from_slice(epoch.as_bytes());
                end(out, start);
            }
            Reply::Ack { records, seq } => {
                let start = begin(out, ACK);
                out.extend_from_slice(&records.to_le_bytes());
                out.extend_from_slice(&seq.to_le_bytes());
                end(out, start);
            }
            Reply::Error(ErrorReply { record, closes, code, message }) => {
                let start = begin(out, ERROR);
                out.extend_from_slice(&record.to_le_bytes());
                // Codes stand in the source, and are short.
                let (code_len, code) = short(code.as_bytes());
                out.extend_from_slice(&[if closes { CLOSES } else { 0 }, code_len]);
                out.extend_from_slice(code);
                out.extend_from_slice(message.as_bytes());
                end(out, start);
            }
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, ReplyFault> {
    std::str::from_utf8(bytes).map_err(|_| ReplyFault::Layout)
}

const WELCOME: u8 = 129;
const ACK: u8 = 130;
const ERROR: u8 = 131;
const CLOSES: u8 = 1;
