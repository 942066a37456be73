//! What the packets of a capture begin with.

use std::fmt;

/// A link type, as captures number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD's loopback: the family in four bytes of the machine's own order.
    pub const NULL: Self = Self(0);
    /// Ethernet, with any VLAN tags.
    pub const ETHERNET: Self = Self(1);
    /// Bare IP, under the numbers that some systems give it.
    pub const RAW_BSD: Self = Self(12);
    /// OpenBSD's.
    pub const RAW_OPENBSD: Self = Self(14);
    /// Bare IP.
    pub const RAW: Self = Self(101);
    /// OpenBSD's loopback: the family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked, as `tcpdump -i any` writes it.
    pub const LINUX_SLL: Self = Self(113);
    /// Bare IPv4.
    pub const IPV4: Self = Self(228);
    /// Bare IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(link, _)| *link == self.0).map(|(_, name)| *name)
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link type {}", self.0)?;
        self.name().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// Those that people meet.
const NAMES: [(u16, &str); 26] = [
    (0, "BSD loopback"),
    (1, "Ethernet"),
    (6, "Token Ring"),
    (9, "PPP"),
    (10, "FDDI"),
    (12, "bare IP"),
    (14, "bare IP"),
    (50, "PPP in HDLC framing"),
    (51, "PPPoE"),
    (101, "bare IP"),
    (104, "Cisco HDLC"),
    (105, "IEEE 802.11"),
    (108, "OpenBSD loopback"),
    (113, "Linux cooked"),
    (127, "IEEE 802.11 with radiotap headers"),
    (149, "user 2, which Apple uses for PKTAP"),
    (189, "USB of Linux"),
    (192, "PPI"),
    (197, "Endace ERF"),
    (220, "USB of Linux"),
    (228, "bare IPv4"),
    (229, "bare IPv6"),
    (247, "InfiniBand"),
    (249, "USBPcap"),
    (258, "PKTAP"),
    (276, "Linux cooked, version 2"),
];
