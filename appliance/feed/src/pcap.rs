//! Packet captures: what tcpdump, Wireshark and capture cards write, and the feed over them.
//!
//! Classic pcap (both byte orders, microseconds and nanoseconds, Linux 2.2's modified form) and pcapng, plain or
//! gzipped; which, the first bytes say. Link layers: Ethernet with VLAN tags, Linux cooked (`tcpdump -i any`),
//! loopback, bare IP.

mod capture;
mod classic;
mod datagram;
mod error;
mod feed;
mod input;
mod link;
mod ng;
mod survey;
#[cfg(test)]
mod tests;

pub use capture::{Capture, Item};
pub use datagram::{Datagram, Skipped};
pub use error::CaptureError;
pub use feed::CaptureFeed;
pub use input::{CaptureFault, Frame};
pub use link::LinkType;
pub use survey::Flow;
