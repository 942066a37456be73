//! Opening recorded days: packet captures and BinaryFILEs. What is neither is recognised, if it can be, and named.

mod recognise;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::binaryfile::FileError;
use crate::pace::Pace;
use crate::pcap::CaptureError;
use crate::{CaptureFeed, FileFeed};

/// Why a recording cannot be played, in words for whoever named it.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// What stands behind the file's name.
    #[error("`{destination}` is not a destination; write FILE#GROUP:PORT, such as {file}#239.192.1.1:26400")]
    Destination {
        /// The file.
        file: String,
        /// What was written behind it.
        destination: String,
    },
    /// The capture cannot be read, or holds nothing to play.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The file cannot be read, or is no BinaryFILE.
    #[error(transparent)]
    File(FileError),
    /// It is something else.
    #[error("{error}; {what}")]
    Other {
        /// What prevents it from being played.
        error: FileError,
        /// What it is.
        what: String,
    },
}

/// The feed over a file, if it is a capture. `FILE#GROUP:PORT` chooses what is played of it.
///
/// # Errors
/// It is a capture that cannot be played, or what was chosen of it is no destination.
pub fn capture(path: &Path, pace: Pace) -> Result<Option<CaptureFeed>, RecordingError> {
    let (file, destination) = split(path)?;
    if !CaptureFeed::recognises(&file) {
        return Ok(None);
    }
    Ok(Some(CaptureFeed::open(&file, destination, pace)?))
}

/// What is played of a capture and what is not, in words.
#[must_use]
pub fn choice(feed: &CaptureFeed) -> String {
    let flow = feed.flow();
    format!(
        "the packets to {} are played, not those to {}; to choose: FILE#GROUP:PORT",
        flow.destination, flow.alternatives
    )
}

/// The feed over a BinaryFILE.
///
/// # Errors
/// It cannot be read, or is no BinaryFILE; then the error says what it is, if that is known.
pub fn file(path: &Path, pace: Pace) -> Result<FileFeed, RecordingError> {
    FileFeed::open(path, pace).map_err(|error| explain(path, error))
}

/// A wrong file is recognised, if it can be.
fn explain(path: &Path, error: FileError) -> RecordingError {
    let what = match &error {
        FileError::Read { .. } if path.is_dir() => Some("it is a directory; name a file in it".to_owned()),
        FileError::Framing { .. } | FileError::NotItch { .. } | FileError::Empty { .. } => {
            recognise::by_content(path).map(|kind| format!("it is {kind}"))
        }
        _ => None,
    };
    match what {
        Some(what) => RecordingError::Other { error, what },
        None => RecordingError::File(error),
    }
}

/// A file's name may have a `#` in it.
fn split(path: &Path) -> Result<(PathBuf, Option<SocketAddr>), RecordingError> {
    let Some((file, destination)) = path.to_str().and_then(|text| text.rsplit_once('#')).filter(|_| !path.exists())
    else {
        return Ok((path.to_owned(), None));
    };
    match destination.parse() {
        Ok(address) => Ok((file.into(), Some(address))),
        Err(_) => Err(RecordingError::Destination { file: file.to_owned(), destination: destination.to_owned() }),
    }
}
