//! SoupBinTCP 3.00 and 4.x: numbered messages over TCP, with a login that can resume.
//!
//! ```text
//! packet                                   login request `L`, 46 bytes of payload, or 51 in 4.x
//!  0 length  u16, of all that follows       0 username             6 bytes, padded on the right
//!  2 type    u8                             6 password            10 bytes, padded on the right
//!  3 payload length - 1 bytes              16 requested session   10 bytes, padded on the left; blank: the current one
//!                                          26 requested sequence  20 digits, padded on the left
//! login accepted `A`, 30 bytes             46 heartbeat timeout    5 digits, ms, padded on the left (4.x only)
//!  0 session   10 bytes, padded on the left
//! 10 sequence  20 digits, of the message that is sent next
//! ```
//! Integers are big-endian, padding is spaces. Sequenced messages bear no number: who receives them counts, from what
//! the login's answer said. A connection that was lost is made again, and asks for the number that comes next. Number 1
//! asks for all there is, 0 for what comes from now on. Each side says something at least once a second; who hears
//! nothing for [`SILENCE_MS_MAX`] takes the connection for dead.
//!
//! Source: "SoupBinTCP", version 3.00, Nasdaq 2017; the heartbeat timeout is of its later versions.

mod catch_up;
mod connection;
mod fault;
mod feed;
mod inbound;
mod login;
mod numbering;
mod packet;
mod retry;

pub use connection::{Connection, ConnectionError, Host, Received, Timing};
pub use fault::{PacketError, PacketFault};
pub use feed::{SoupbintcpConfig, SoupbintcpFeed};
pub use inbound::Inbound;
pub use login::{LoginAccepted, LoginRequest, Rejection, padded};
pub use packet::{Packet, PayloadTooLong};
pub use retry::Retry;

pub(crate) use login::{digits, parse_digits};

/// The longest silence before a side says that it is there, milliseconds.
pub const HEARTBEAT_INTERVAL_MS: u64 = 1_000;

/// Who has been silent for so long is taken for dead, milliseconds; a login request of 4.x may name another time.
pub const SILENCE_MS_MAX: u64 = 15_000;
