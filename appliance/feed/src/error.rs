//! Why a feed ends.

use crate::binaryfile::FileError;
use crate::pcap::CaptureError;
use crate::simulator::ConfigError;

/// What ends a feed, or prevents it.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file cannot be opened, read, or is no feed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The capture cannot be read, or holds nothing to play.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A simulator with these settings cannot be made.
    #[error(transparent)]
    Simulator(#[from] ConfigError),
}
