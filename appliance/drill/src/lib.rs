//! Lanes as packetdrill drives them: a shared object, in virtual time.
//!
//! A script of packetdrill says which packets come from the client and when, and which ones it expects. This crate
//! answers it with a [`stack::Stack`]: a passive open of its own ([`handshake`]), and then [`fanblade_abi::lane`] for
//! everything else ([`connection`]). What raises the lane ends the lane's part: scripts ask by `getsockopt` why, and
//! what was handed over ([`numbers`]). packetdrill does not check checksums and sees only zeros as payload; the
//! [`wire`] checks both.

pub mod connection;
pub mod handshake;
pub mod numbers;
pub mod stack;
mod sys;
pub mod wire;
