//! Lanes: established connections without a socket, whose packets the kernel programs send and take.

pub mod buckets;
pub mod table;
