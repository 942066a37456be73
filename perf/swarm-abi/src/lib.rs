//! What the subscribers that live in an XDP program (`ebpf/swarm`) share with the load generator that drives them.
//!
//! Everything that does not touch the packet itself is here and tested on the host: what a frame's beginning says,
//! where the numbers stand in a message, what a subscriber makes of it. No dependency, no std, no allocation.
#![no_std]

mod counters;
mod frame;
mod histogram;
mod limits;
mod marker;
mod message;
mod settings;
mod subscriber;

pub use counters::{CLOSES, Counters};
pub use frame::{Fault, Frame, frame};
pub use histogram::{BUCKETS, bucket, bucket_middle_ns};
pub use limits::{HEAD_END, HEAD_LEN, HEADS_MAX, SCRATCH_LEN, SUBSCRIBERS_MAX};
pub use marker::{Found, Pattern, Search};
pub use message::Reception;
pub use settings::Settings;
pub use subscriber::{ANSWERED, ASKED, AWAITED, CALLED, CLOSED, FOLLOWS, OPEN, OVER, READY, REFUSED, Subscriber};
