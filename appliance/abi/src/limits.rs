//! The limits of the kernel programs: sizes of maps and bounds of loops.

/// TCP ports that can be ours: more than a blade listens on (data, TLS), but few, as every TCP packet is compared with
/// all of them. Userspace refuses a longer list.
pub const PORTS_MAX: usize = 8;

/// Workers that `steer` can choose among: one per core of the largest machine we target. `steer` walks over all of them
/// twice for each new connection. Userspace refuses a greater number.
pub const WORKERS_MAX: u32 = 64;

/// Greatest weight of a worker, so that `connections * weight` and sums of weights are far from the end of a `u64`.
/// Userspace refuses a greater one.
pub const WEIGHT_MAX: u32 = 65_535;

/// Flows counted at once unless the loader sets another size: 18 MiB, taken when the map is made. When it is full, the
/// flow that was idle longest is removed; its packets stay in the verdicts, but its own counts are lost.
pub const FLOWS_MAX: u32 = 131_072;

/// VLAN tags looked through (802.1Q in 802.1ad). A packet with more passes uncounted in `FLOWS`, verdict `too_deep`.
pub const VLAN_TAGS_MAX: usize = 2;

/// IPv6 extension headers looked through. RFC 8200 names six kinds and wants each at most once (destination options
/// twice). A packet with more passes uncounted in `FLOWS`, verdict `too_deep`.
pub const EXTENSION_HEADERS_MAX: usize = 7;

/// Headers lie within this many bytes of the start of the packet: Ethernet, tags, IPv6 and its longest extension
/// headers, TCP. The verifier needs a bound for every offset.
pub const HEADERS_LEN_MAX: usize = 16 * 1024;

/// Lanes of a blade at most. Their indices fill 24 bits, their states 2 GiB, their lookup 0.33 GiB.
pub const LANES_MAX: u32 = 16_777_216;
