//! Why an exchange cannot be opened, or breaks off. Each message is complete: an error's source is part of its text.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use fanblade_feed::FeedError;
use fanblade_feed::moldudp64::{PacketError, PacketFault};
use fanblade_feed::recording::RecordingError;
use fanblade_feed::simulator::ConfigError;
use fanblade_net::interfaces::InterfaceError;

/// Why an exchange cannot be opened, or breaks off.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The recording cannot be played.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The file cannot be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file cannot be read, or no further.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The packet capture cannot be read any further.
    #[error(transparent)]
    Capture(#[from] FeedError),
    /// A simulated market with these settings cannot be made.
    #[error(transparent)]
    Simulator(#[from] ConfigError),
    /// The simulator has made a packet that cannot be read.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The simulator has made a message that cannot be read.
    #[error(transparent)]
    Message(#[from] PacketFault),
    /// The temporary file for the messages cannot be made.
    #[error("cannot keep messages in {}; see TMPDIR: {error}", directory.display())]
    Keep {
        /// The directory for temporary files.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The temporary file does not take any more messages.
    #[error("cannot keep what was published in {}; see TMPDIR: {error}", directory.display())]
    KeepPublished {
        /// The directory for temporary files.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A message is longer than a packet may be.
    #[error("message {number} has {len} bytes, and fits no packet; raise --packet-len")]
    MessageTooLong {
        /// Its number.
        number: u64,
        /// Its bytes.
        len: usize,
    },
    /// A line cannot be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The server of re-requests cannot be opened.
    #[error("cannot take requests at {address}: {error}")]
    Requests {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A server for SoupBinTCP or GLIMPSE cannot be opened.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The kernel does not tell the address of a server.
    #[error("cannot read the address of the server `{server}`: {error}")]
    Address {
        /// `requests`, `soup` or `glimpse`.
        server: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The publisher's thread cannot be started.
    #[error("cannot start the publisher's thread: {0}")]
    Thread(io::Error),
    /// The publisher's thread has panicked.
    #[error("the publisher broke")]
    Panicked,
}

/// Why a line cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no such interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The kernel does not list the addresses of interfaces.
    #[error("cannot list the addresses of interfaces: {0}")]
    Addresses(io::Error),
    /// Receivers would drop packets without a source address.
    #[error("interface `{name}` has no IPv4 address to send from: ip address add … dev {name}")]
    NoAddress {
        /// The interface.
        name: String,
    },
    /// The interface's address cannot be used.
    #[error("cannot send from the address of interface `{name}`: {error}")]
    Bind {
        /// The interface.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The socket cannot be bound to the interface.
    #[error("cannot send by interface `{name}`: {error}")]
    BindToDevice {
        /// The interface.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// There is no socket, or it does not take an option.
    #[error("cannot open a UDP socket for multicast: {0}")]
    Socket(io::Error),
    /// The group cannot be reached.
    #[error("no way to {group}{}: {error}", way(interface.as_deref(), *group))]
    NoWay {
        /// The group.
        group: SocketAddrV4,
        /// The interface by which to send, if one is named.
        interface: Option<String>,
        /// Why.
        error: io::Error,
    },
}

fn way(interface: Option<&str>, group: SocketAddrV4) -> String {
    match interface {
        Some(name) => format!(" by interface `{name}`"),
        None => format!("; name the interface: {group}@IF"),
    }
}
