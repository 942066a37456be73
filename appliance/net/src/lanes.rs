//! The path below the sockets: what userspace does for lanes ([`fanblade_abi::lane`]), established connections whose
//! packets the kernel programs send and take.
//!
//! A list of slices is staged once, however many lanes it is for ([`staging`]): cut into packets whose bytes and sums
//! lie in memory that the sending program reads. An item of work is then all that a lane costs. Staged bytes and items
//! are rings that keep what was sent ([`history`]) until it is acknowledged or the lane is raised.

pub mod handover;
pub mod history;
pub mod shared;
pub mod staging;
