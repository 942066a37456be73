//! Why nobody can publish. Each message is complete: an error's source is part of its text.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use fanblade_net::ports::PortError;

use super::state::StateError;

/// Why the feed cannot be opened, in words for the operator who configured it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Records may be longer than frames.
    #[error(
        "`data_len_max` in [feed.publisher] is {data_len_max} bytes, but a frame of this ring holds {data_len_possible} \
         of them in base64; lower it, or raise `json` and `binary` in [ring]"
    )]
    DataLen {
        /// What is configured.
        data_len_max: usize,
        /// What fits the ring.
        data_len_possible: usize,
    },
    /// No address is configured.
    #[error("nobody can publish: `listen` in [feed.publisher] is empty, and there is no `unix`")]
    NoListener,
    /// A port cannot be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A port's socket does not take an option.
    #[error("cannot listen on {address}, `listen` in [feed.publisher]: {error}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A Unix socket cannot be opened.
    #[error("cannot listen on {}, `unix` in [feed.publisher]: {error}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A Unix socket has an owner that lives.
    #[error("cannot listen on {}, `unix` in [feed.publisher]: another process listens there", .0.display())]
    UnixTaken(PathBuf),
    /// The file that keeps the numbering cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The first numbers cannot be reserved.
    #[error("cannot reserve numbers, `state` in [feed.publisher]: {0}")]
    Reserve(io::Error),
    /// The publishers' thread cannot be started.
    #[error("cannot start the publishers' thread: {0}")]
    Thread(io::Error),
}
