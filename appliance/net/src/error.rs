//! What can go wrong before an engine runs. Afterwards a session's failure is an event, and only the loss of the engine
//! itself an `io::Error`.

use std::io;
use std::net::SocketAddr;

/// Why there is no listener, or no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket option of the listener was refused.
    #[error("cannot set {option} on the listener at {addr}: {source}")]
    Option {
        /// The address of the listener.
        addr: SocketAddr,
        /// The option's name.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `epoll_create1` or the registration of the listener or waker failed.
    #[error("cannot set up epoll: {0}")]
    Epoll(io::Error),
    /// io_uring is switched off here.
    #[error(
        "io_uring is not permitted (sysctl kernel.io_uring_disabled = {sysctl}, or a seccomp filter): {source}; \
         `sysctl kernel.io_uring_disabled=0` permits it"
    )]
    UringForbidden {
        /// The content of the sysctl, `?` where it cannot be read.
        sysctl: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no io_uring, or too old a one.
    #[error("this kernel's io_uring lacks {what}; Linux 6.1 or later has it")]
    UringTooOld {
        /// The missing feature.
        what: &'static str,
    },
    /// A ring could not be made.
    #[error("cannot set up an io_uring ({what}): {source}")]
    Uring {
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Limits that contradict each other or the machine.
    #[error("{0}")]
    Config(&'static str),
}
