//! WebSocket, both directions, without a socket: bytes in, bytes out.
//!
//! - [`handshake`] reads the opening handshake (RFC 6455 section 4.2) and writes the answer, `101` or a refusal;
//! - [`proxy`] reads what a balancer says before it (PROXY protocol);
//! - [`Inbound`] turns a client's bytes into events, unmasking them in place (sections 5, 6.2, 7.4 and 8.1);
//! - [`frame`] writes what a server sends (section 5.2): never masked, hence the same bytes for every subscriber;
//! - [`close`] names the close codes (section 7.4, and our own);
//! - [`client`] is the other end, for our own clients, load generators and tests;
//! - [`json`] and [`decimal`] are what all that read JSON and numbers from outside have in common, [`float`] what all
//!   that calculate have;
//! - [`UnixNs`] is the time that messages are stamped with.
//!
//! Origins, tokens and paths are the worker's business: here they are parsed, not judged. Nothing that a peer sends
//! panics, allocates beyond the limits of [`InboundLimits`], or costs more than time linear in its length.
#![forbid(unsafe_code)]

pub mod client;
pub mod close;
pub mod decimal;
mod error;
pub mod float;
pub mod frame;
pub mod handshake;
mod inbound;
pub mod json;
pub mod limits;
mod mask;
pub mod proxy;
mod time;

pub use error::InboundError;
pub use inbound::{Event, Flow, Inbound};
pub use limits::InboundLimits;
pub use time::UnixNs;
