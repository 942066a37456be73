//! The time of day, as feeds, frames and latencies are stamped with it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in nanoseconds: what [`crate::Feed::poll`] takes. It may step backwards.
#[must_use]
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
