//! Why a capture cannot be played.

use std::io;
use std::path::PathBuf;

/// Why a capture cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is no capture.
    #[error("{} is not a packet capture", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it to play.
    #[error("{} holds no MoldUDP64 packets{to}; {seen}", path.display())]
    NoPackets {
        /// The file.
        path: PathBuf,
        /// Where they were to go, if that was asked for.
        to: String,
        /// What there is, in words.
        seen: String,
    },
}
