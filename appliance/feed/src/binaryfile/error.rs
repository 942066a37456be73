//! Why a file cannot be played.

use std::io;
use std::path::PathBuf;

use super::FileFault;
use crate::itch::ItchError;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no message in it.
    #[error("{} holds no messages", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its very first message cannot be read.
    #[error("{} is no BinaryFILE: {fault}", path.display())]
    Framing {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: FileFault,
    },
    /// It does not begin with ITCH 5.0.
    #[error("{} is no BinaryFILE of ITCH 5.0 messages: {source}", path.display())]
    NotItch {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ItchError,
    },
}
