//! What a socket of a multicast group takes.

use std::net::{IpAddr, SocketAddr};

/// A multicast group, and where and from whom it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group and its port.
    pub group: SocketAddr,
    /// The interface by its name; none: that to which the routing table sends the group.
    pub interface: Option<String>,
    /// Only packets of this sender (source-specific multicast); none: of any.
    pub source: Option<IpAddr>,
}
