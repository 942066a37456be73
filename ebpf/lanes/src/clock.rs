//! The time.

use aya_ebpf::helpers::bpf_ktime_get_ns;

use crate::maps::TEST_TIME;

/// Set by the loader of a test: the time is what `TEST_TIME` says. The verifier knows the value, and removes the branch
/// that is not taken.
#[unsafe(no_mangle)]
static TEST_CLOCK: u32 = 0;

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: a static of this object, which the loader may have changed: hence volatile.
    if unsafe { core::ptr::read_volatile(&raw const TEST_CLOCK) } != 0 {
        return TEST_TIME.get(0).map_or(0, |time| *time);
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The clock of TCP's timestamps, as the kernel counts it (`tcp_time_stamp_ms` in include/net/tcp.h).
#[inline(always)]
pub fn milliseconds(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}
