//! An established TCP connection out of a kernel socket and into one again, by `TCP_REPAIR` (Linux, `net/ipv4/tcp.c`).
//!
//! [`take`] reads from a socket all that makes its connection, and ends the connection there. The peer is told nothing,
//! and believes the connection to be as it was. Whoever has the [`Connection`] may speak for it,
//! or leave it alone. [`restore`] makes a socket of it again, which is established at once and sends nothing by itself.
//!
//! # What the peer says meanwhile
//!
//! While nobody holds a connection, the kernel answers the peer's packets with RST, and the connection is lost. So the
//! caller holds packets of the connection back, before [`take`] and until [`restore`] has returned, and gives them to
//! the kernel again afterwards (or answers them). That is the job of the ingress program, not of this module. It also
//! makes [`take`] exact: a packet that reaches the socket between the look at its queues and its end would be lost.
//!
//! # What does not come along
//!
//! - The peer's last timestamp (`ts_recent`): `TCP_REPAIR` has no word for it. A restored socket sends TSecr 0 until
//!   it has received a packet, and takes any timestamp as new (RFC 7323, 5). Linux as a peer does not measure a round
//!   trip by TSecr 0.
//! - Congestion window and round-trip time: [`Connection`] has them, for whoever speaks for it, but a restored socket
//!   begins with the initial window and an RTO of a second.
//! - Segments received out of order: they stop [`take`] ([`Obstacle::OutOfOrder`]).
//! - Explicit congestion notification: it stops [`take`] ([`Obstacle::Ecn`]).
//! - Socket options, but for those that [`restore`] is given; kernel TLS, MD5 and AO signatures. A connection with one
//!   of the latter must not come here: its socket knows keys that nobody asks for.
//!
//! Both need CAP_NET_ADMIN in the network namespace of the socket. `restore` of a port below
//! `net.ipv4.ip_unprivileged_port_start` also needs CAP_NET_BIND_SERVICE.

mod connection;
mod error;
mod restore;
mod sys;
mod take;

pub use connection::{Connection, TimestampUnit, Timestamps, WindowScales, Windows};
pub use error::RepairError;
pub use restore::restore;
pub use take::{Obstacle, Taken, take};
