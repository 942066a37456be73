//! Packet captures: what tcpdump, Wireshark and capture cards write, and the feed over them.
//!
//! Classic pcap (both byte orders, microseconds and nanoseconds) and pcapng, plain or gzipped; which, the first bytes
//! say. Link layers: Ethernet with any VLAN tags, Linux cooked (`tcpdump -i any`), bare IP.

mod capture;
mod datagram;
mod feed;
#[cfg(test)]
mod tests;

pub use capture::{Capture, CaptureFault, Frame, Item};
pub use datagram::{Datagram, Skipped};
pub use feed::{CaptureError, CaptureFeed, Flow};
