//! What a publisher says.

use super::VERSION;
use super::frames::{begin, end, short};
use crate::limits::{PUBLISHER_NAME_LEN_MAX, PUBLISHER_TOKEN_LEN_MAX};

/// One frame of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first one.
    Hello(Hello<'a>),
    /// Every other frame.
    Record(Record<'a>),
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Does it want records to be acknowledged?
    pub wants_acks: bool,
    /// What the publisher calls itself, for the blade's status and log; may be empty.
    pub name: &'a str,
    /// The shared secret; empty where none is needed.
    pub token: &'a [u8],
}

/// A subject's new value, of which only the layout has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it happened, Unix nanoseconds; none: when it arrives.
    pub ts_ns: Option<u64>,
    /// The subject; UTF-8, nothing else is known.
    pub subject: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// A value as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// What should be JSON.
    Json(&'a [u8]),
    /// Anything.
    Opaque(&'a [u8]),
}

/// Why a frame is none of the above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// It has no bytes.
    #[error("an empty frame; the first byte of a frame is its kind")]
    Empty,
    /// Its kind is none of a publisher's.
    #[error("a frame of kind {0}; a publisher sends 1 (hello), 2 (JSON) or 3 (opaque)")]
    Kind(u8),
    /// The hello is not this protocol's.
    #[error("a hello that does not begin with \"fanblade\"")]
    Magic,
    /// It is, in a version that is not known.
    #[error("version {0} of the protocol; this blade speaks {VERSION}")]
    Version(u8),
    /// It ends within a field.
    #[error("a frame of kind {kind} that ends after {len} bytes, within its {field}")]
    Short {
        /// The frame's.
        kind: u8,
        /// Bytes in the frame.
        len: usize,
        /// The field.
        field: &'static str,
    },
    /// A name is not what it may be.
    #[error("a name has at most {PUBLISHER_NAME_LEN_MAX} characters of printable ASCII")]
    Name,
    /// A token is longer than any can be.
    #[error("a token has at most {PUBLISHER_TOKEN_LEN_MAX} bytes")]
    Token,
    /// A subject is not text.
    #[error("a subject that is not UTF-8")]
    Subject,
}

impl RequestFault {
    /// Is it only this record that cannot be read, so that the next may follow?
    #[must_use]
    pub fn spares_connection(self) -> bool {
        matches!(self, RequestFault::Short { kind: JSON | OPAQUE, .. } | RequestFault::Subject)
    }
}

impl<'a> Request<'a> {
    /// Reads a frame without its length field.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(frame: &'a [u8]) -> Result<Self, RequestFault> {
        let (kind, body) = frame.split_first().ok_or(RequestFault::Empty)?;
        match *kind {
            HELLO => Hello::parse(body, frame.len()).map(Request::Hello),
            JSON => {
                let (ts_ns, subject, data) = Record::parse(body, JSON)?;
                Ok(Request::Record(Record { ts_ns, subject, value: Value::Json(data) }))
            }
            OPAQUE => {
                let (ts_ns, subject, data) = Record::parse(body, OPAQUE)?;
                Ok(Request::Record(Record { ts_ns, subject, value: Value::Opaque(data) }))
            }
            other => Err(RequestFault::Kind(other)),
        }
    }

    /// Appends it to `out` as a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Request::Hello(hello) => hello.write(out),
            Request::Record(record) => record.write(out),
        }
    }
}

impl<'a> Hello<'a> {
    fn parse(body: &'a [u8], len: usize) -> Result<Self, RequestFault> {
        let short = |field| RequestFault::Short { kind: HELLO, len, field };
        let (magic, rest) = body.split_first_chunk::<8>().ok_or(short("magic"))?;
        if magic != MAGIC {
            return Err(RequestFault::Magic);
        }
        let ([version, flags, name_len], rest) = rest.split_first_chunk::<3>().ok_or(short("head"))?;
        if *version != VERSION {
            return Err(RequestFault::Version(*version));
        }
        let (name, token) = rest.split_at_checked(usize::from(*name_len)).ok_or(short("name"))?;
        if token.len() > PUBLISHER_TOKEN_LEN_MAX {
            return Err(RequestFault::Token);
        }
        let name = std::str::from_utf8(name).map_err(|_| RequestFault::Name)?;
        if !is_name(name) {
            return Err(RequestFault::Name);
        }
        Ok(Self { wants_acks: flags & NO_ACKS == 0, name, token })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = begin(out, HELLO);
        out.extend_from_slice(MAGIC);
        let (name_len, name) = short(self.name.as_bytes());
        out.extend_from_slice(&[VERSION, if self.wants_acks { 0 } else { NO_ACKS }, name_len]);
        out.extend_from_slice(name);
        out.extend_from_slice(self.token);
        end(out, start);
    }
}

impl<'a> Record<'a> {
    fn parse(body: &'a [u8], kind: u8) -> Result<(Option<u64>, &'a str, &'a [u8]), RequestFault> {
        let short = |field| RequestFault::Short { kind, len: body.len() + 1, field };
        let (ts_ns, rest) = body.split_first_chunk::<8>().ok_or(short("time"))?;
        let (subject_len, rest) = rest.split_first().ok_or(short("subject"))?;
        let (subject, data) = rest.split_at_checked(usize::from(*subject_len)).ok_or(short("subject"))?;
        let subject = std::str::from_utf8(subject).map_err(|_| RequestFault::Subject)?;
        let ts_ns = u64::from_le_bytes(*ts_ns);
        Ok(((ts_ns != 0).then_some(ts_ns), subject, data))
    }

    /// Appends it to `out` as a frame; of a subject longer than 255 bytes, which the blade refuses, only the beginning.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self.value {
            Value::Json(data) => (JSON, data),
            Value::Opaque(data) => (OPAQUE, data),
        };
        let start = begin(out, kind);
        out.extend_from_slice(&self.ts_ns.unwrap_or(0).to_le_bytes());
        let (subject_len, subject) = short(self.subject.as_bytes());
        out.push(subject_len);
        out.extend_from_slice(subject);
        out.extend_from_slice(data);
        end(out, start);
    }
}

/// May a publisher call itself so? It stands in logs and as a metric's label.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= PUBLISHER_NAME_LEN_MAX && name.bytes().all(|byte| byte.is_ascii_graphic())
}

const MAGIC: &[u8; 8] = b"fanblade";
const HELLO: u8 = 1;
const JSON: u8 = 2;
const OPAQUE: u8 = 3;
const NO_ACKS: u8 = 1;
