//! The wall clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the Unix epoch: publishers write the same clock into their messages.
pub fn now_ns() -> anyhow::Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_REALTIME)?.into()))
}

/// A time as a number. After 584 years it stays at the largest.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The same in microseconds.
#[must_use]
pub fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
