//! What can go wrong.

use std::io;

/// Why a ring could not be made or opened, or a frame not be published.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The configuration asks for a layout that cannot be.
    #[error("ring configuration: {0}")]
    Config(&'static str),
    /// The machine does not have the memory. Asking for it all the same would call the kernel's OOM killer.
    #[error("the ring takes {need} bytes of memory, of which {available} are available")]
    Memory {
        /// Bytes that the configuration needs.
        need: u64,
        /// `MemAvailable` of /proc/meminfo.
        available: u64,
    },
    /// The process may not make files of this size (RLIMIT_FSIZE), which counts for memory files, too.
    #[error("the ring takes {need} bytes, and files of this process may not be that large (`ulimit -f`, LimitFSIZE=)")]
    FileSize {
        /// Bytes that the configuration needs.
        need: u64,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor is no ring, or one of another layout.
    #[error("not a ring that this version can read: {0}")]
    Foreign(&'static str),
    /// An epoch name is empty or longer than [`EPOCH_LEN_MAX`](crate::limits::EPOCH_LEN_MAX).
    #[error("an epoch has 1 to 31 bytes, this one {0}")]
    Epoch(usize),
    /// A subject name is empty or longer than [`SUBJECT_LEN_MAX`](crate::limits::SUBJECT_LEN_MAX).
    #[error("a subject has 1 to 128 bytes, this one {0}")]
    SubjectName(usize),
    /// All places of the subject table are taken.
    #[error("the subject table is full ({0} subjects)")]
    SubjectTableFull(u32),
    /// An update for a subject that was never created.
    #[error("subject {0} does not exist")]
    UnknownSubject(u32),
    /// Upstream's numbers must not go backwards within an epoch: recovery searches by them.
    #[error("seq {seq} after {last} in the same epoch")]
    SeqBackwards {
        /// The number of the update.
        seq: u64,
        /// The number that was published last.
        last: u64,
    },
    /// A frame is longer than its lane allows.
    #[error("a frame of {len} bytes in lane {lane}, which takes {max}")]
    FrameTooLong {
        /// The lane's name.
        lane: &'static str,
        /// The frame's length, header included.
        len: usize,
        /// The longest frame that the lane takes.
        max: usize,
    },
    /// The newest frames of all subjects would fill too much of a lane.
    #[error("the newest frames would take {live} bytes of lane {lane}, of which {max} may be live")]
    LiveBytes {
        /// The lane's name.
        lane: &'static str,
        /// Bytes that they would take.
        live: u64,
        /// Bytes that they may take.
        max: u64,
    },
}

impl RingError {
    pub(crate) fn system(call: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::System { call, source: errno.into() }
    }
}

/// The ring does not hold this frame: the writer has overwritten it, or not come to it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is not in the ring any more")]
pub struct Lapped;
