//! The wall clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the Unix epoch: publishers write the same clock into their messages.
pub fn now_ns() -> anyhow::Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?).as_nanos() as u64)
}
