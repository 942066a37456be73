//! The frame ring: at once the queue to the workers, the last-value cache and the recovery history.
//!
//! One [`Writer`] (the sequencer) puts every update into shared memory once per encoding, as the bytes that go on the
//! wire. Any number of [`Reader`]s, in threads or other processes, point the kernel at those bytes. Nobody waits for
//! anybody: the writer overwrites what is old, and a reader checks *after* using something whether it was still there.
//! docs/ring.md tells the story and the costs; layout.rs draws the memory, lap.rs argues the protocol, model.rs checks
//! it.
//!
//! ```
//! use fanblade_ring::{Lane, NewFrame, Payloads, RingConfig, UnixNs, Writer};
//!
//! let config = RingConfig { index_len: 64, lane_len: [1 << 16, 0, 0, 0], subjects_max: 16, ..RingConfig::default() };
//! let mut writer = Writer::create(&config, "20191230-1")?;
//! let reader = writer.open_reader()?;
//!
//! let subject = writer.subject("/NASDAQ/AAPL/bbo", 2)?;
//! let now = UnixNs::now();
//! let new = NewFrame { subject, channel: 2, seq: 1841923, ts_feed_ns: now, ts_publish_ns: now };
//! let payloads: Payloads = [br#"{"q":1841923}"#, b"", b"", b""];
//! let index = writer.publish(&new, &payloads)?;
//!
//! let descriptor = reader.descriptor(index)?;
//! let mut frame = Vec::new();
//! reader.copy_frame(&descriptor, Lane::Json, &mut frame)?;
//! assert_eq!(frame, b"\x81\x0d{\"q\":1841923}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(all(loom, test), expect(dead_code, reason = "the model uses the protocol without its users"))]

mod cursor;
mod epoch;
mod error;
mod ids;
mod lap;
mod layout;
pub mod limits;
mod news;
pub mod subject;
mod sync;
mod table;
mod wake;
mod words;

// The model checker's atomics are no memory that could be mapped: it gets the protocol, not the mappings.
#[cfg(not(all(loom, test)))]
mod mapping;
#[cfg(not(all(loom, test)))]
mod reader;
#[cfg(not(all(loom, test)))]
mod writer;

#[cfg(all(loom, test))]
mod model;

pub use fanblade_wire::UnixNs;

pub use error::{Lapped, RingError};
pub use ids::{LanePosition, RingIndex, SubjectId};
pub use news::{Currency, Unplaced};
#[cfg(not(all(loom, test)))]
pub use reader::Reader;
pub use table::{Subject, SubjectName};
pub use wake::{Sleeper, Waker, pair};
#[cfg(not(all(loom, test)))]
pub use writer::{NewFrame, Payloads, Writer, WriterStats};

/// One encoding's bytes.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// WebSocket text frames.
    Json = 0,
    /// WebSocket binary frames.
    Binary = 1,
    /// WebSocket text frames with RSV1: JSON deflated without context takeover (RFC 7692).
    Deflate = 2,
    /// Server-sent events: bytes of an HTTP body, no WebSocket header.
    Sse = 3,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; LANES] = [Lane::Json, Lane::Binary, Lane::Deflate, Lane::Sse];
}

/// How many lanes a descriptor has room for.
pub const LANES: usize = 4;

/// Capacities of a ring, fixed when it is made.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// Descriptors: a power of two, at least twice `subjects_max`.
    pub index_len: usize,
    /// Bytes per lane: a power of two and at least a page; 0: the lane is not made.
    pub lane_len: [usize; LANES],
    /// Places in the subject table.
    pub subjects_max: u32,
    /// Store each frame's CRC-32 in its descriptor. For tests and for hunting: it costs a
    /// publish about a fifth more.
    pub checksums: bool,
}

impl Default for RingConfig {
    /// Enough for all of Nasdaq: 65,536 subjects, 131,072 frames, 64 MiB of JSON and 32 MiB of binary.
    fn default() -> Self {
        Self { index_len: 1 << 17, lane_len: [64 << 20, 32 << 20, 0, 0], subjects_max: 1 << 16, checksums: false }
    }
}

/// A frame's entry in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its own ring index.
    pub index: RingIndex,
    /// Upstream's number of the message that caused it.
    pub seq: u64,
    /// `seq` of the subject's previous frame in this epoch; 0: there is none.
    pub prev: u64,
    /// Ring index of that frame, where it lay when this one was published; [`RingIndex::NONE`]: there is none.
    pub prev_index: RingIndex,
    /// When the exchange says that it happened.
    pub ts_feed_ns: UnixNs,
    /// When we published it.
    pub ts_publish_ns: UnixNs,
    /// The subject that the frame belongs to.
    pub subject: SubjectId,
    /// The subject's channel.
    pub channel: u16,
    /// [`REFRESH`] or 0.
    pub flags: u16,
    /// The ring index at which it was first published: its own, unless it is a refreshed copy.
    pub origin: RingIndex,
    /// Where its bytes are, by [`Lane`].
    pub lanes: [FrameRef; LANES],
}

impl Descriptor {
    /// Is it a copy, made so that a subject's newest frame does not leave the ring? Workers do not deliver copies.
    #[must_use]
    pub fn is_refresh(&self) -> bool {
        self.flags & REFRESH != 0
    }
}

/// A frame's bytes in one lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameRef {
    /// Position of the first byte. Positions only grow. Frames adjoin: the next one begins at this one's
    /// [`end`](Self::end).
    pub position: LanePosition,
    /// Header and payload; 0: no frame in this lane.
    pub length: u32,
    /// CRC-32 of its bytes, if the ring has checksums; else 0.
    pub crc: u32,
}

impl FrameRef {
    /// Position after the last byte.
    #[must_use]
    pub const fn end(self) -> LanePosition {
        self.position.plus(self.length as u64)
    }
}

/// Flag of a [`Descriptor`]: a refreshed copy.
pub const REFRESH: u16 = 1;
