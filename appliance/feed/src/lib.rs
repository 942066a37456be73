//! Upstream feeds: packets and files in, exchange messages in order out, gaps explicit.

pub mod itch;
