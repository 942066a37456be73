//! The code that the kernel programs and userspace share: the map types, the packet parser, the choice of a worker,
//! the lookup of a lane.
//!
//! The programs in `ebpf/` compile this crate for BPF; `fanblade-steer` reads the same types out of the maps; the
//! tests run the same parsing and choosing on the host. No dependency, no std, no allocation, no panic reachable from
//! a packet.
//!
//! Every map type is `repr(C)` and free of padding, because the verifier refuses keys and values with uninitialised
//! bytes, and because `bpftool map dump` prints these field names to people.
#![no_std]

pub mod balance;
pub mod lane;
pub mod limits;
pub mod lookup;
pub mod packet;
mod verdict;

pub use verdict::{Hook, Verdict, VerdictCounters};

/// Version of all layouts here; userspace replaces pinned maps that were made for another version.
pub const LAYOUT_VERSION: u32 = 1;

/// One TCP connection, seen from outside: `src` is always the client, the remote end, in both directions.
///
/// IPv4 addresses are v4-mapped IPv6 (`::ffff:a.b.c.d`), addresses are in network order, ports in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Address of the client.
    pub src: [u8; 16],
    /// Address of the blade.
    pub dst: [u8; 16],
    /// Port of the client.
    pub src_port: u16,
    /// Port of the blade.
    pub dst_port: u16,
}

/// Value of `FLOWS`. Bytes are those of the IP packet, header included, without the link layer and its padding (what
/// IPFIX calls `octetDeltaCount`); packets are those on the wire, even if the kernel hands over 64 KiB at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets from the client, written by `ingress`.
    pub packets_in: u64,
    /// Bytes from the client, written by `ingress`.
    pub bytes_in: u64,
    /// Packets to the client, written by `egress`.
    pub packets_out: u64,
    /// Bytes to the client, written by `egress`.
    pub bytes_out: u64,
    /// `CLOCK_MONOTONIC` of the first packet, in nanoseconds.
    pub first_ns: u64,
    /// `CLOCK_MONOTONIC` of the newest packet, in nanoseconds.
    pub last_ns: u64,
    /// All TCP flags seen from the client, or-ed together.
    pub flags_in: u8,
    /// All TCP flags seen from the blade, or-ed together.
    pub flags_out: u8,
    /// Always zero.
    pub reserved: [u8; 6],
}

impl FlowCounters {
    /// Both sides have said FIN, or one of them RST. Such a flow stays in the map until the LRU needs its place, or
    /// until a SYN starts another connection on the same addresses and ports, which begins again from zero.
    #[inline(always)]
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        (self.flags_in | self.flags_out) & packet::RST != 0 || self.flags_in & self.flags_out & packet::FIN != 0
    }
}

/// Value of `WORKERS`, one per worker. Userspace writes `weight` and `connections` through a shared mapping, `steer`
/// writes `steered`; each field has one writer, so that no writer overwrites another's value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSlot {
    /// Share of the new connections, relative to the other workers; 0: none (draining), at most [`limits::WEIGHT_MAX`].
    pub weight: u32,
    /// Connections that the worker holds now, as the worker publishes them.
    pub connections: u32,
    /// Connections that `steer` gave to the worker, including those that had waited at another listener which closed.
    pub steered: u64,
}

/// Value of `CONFIG` (one entry): the settings that userspace gives to the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`LAYOUT_VERSION`] of the program that made the maps.
    pub layout_version: u32,
    /// Workers in use: the slots `0..workers` of `WORKERS` and `LISTENERS`.
    pub workers: u32,
    /// TCP ports that are ours, in host order; 0 in places that are not used.
    pub ports: [u16; limits::PORTS_MAX],
}

impl Config {
    /// Is this port (in host order) one of ours?
    #[inline(always)]
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        // No early exit: eight comparisons without a branch each cost less than a mispredicted loop, and the verifier
        // sees one path instead of eight.
        let mut found = false;
        let mut index = 0;
        while index < limits::PORTS_MAX {
            found |= self.ports[index] == port;
            index += 1;
        }
        found & (port != 0)
    }
}

const _: () = assert!(size_of::<FlowKey>() == 36 && align_of::<FlowKey>() == 2);
const _: () = assert!(size_of::<FlowCounters>() == 56);
const _: () = assert!(size_of::<WorkerSlot>() == 16);
const _: () = assert!(size_of::<Config>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_places_match_no_port() {
        let config = Config { ports: [443, 9001, 0, 0, 0, 0, 0, 0], ..Config::default() };
        assert!(config.has_port(443) && config.has_port(9001));
        assert!(!config.has_port(0) && !config.has_port(80));
    }

    #[test]
    fn a_flow_is_closed_by_two_fins_or_one_reset() {
        let flow = |flags_in, flags_out| FlowCounters { flags_in, flags_out, ..FlowCounters::default() }.is_closed();
        assert!(!flow(packet::SYN | packet::ACK, packet::ACK));
        assert!(!flow(packet::FIN | packet::ACK, packet::ACK));
        assert!(flow(packet::FIN | packet::ACK, packet::FIN | packet::ACK));
        assert!(flow(packet::ACK, packet::RST));
        assert!(flow(packet::RST, packet::ACK));
    }
}
