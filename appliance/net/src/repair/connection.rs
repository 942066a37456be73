//! What makes an established connection, as plain data.

use std::net::SocketAddr;
use std::time::Duration;

use fanblade_abi::lane::Seq;

/// Largest shift of a window (RFC 7323, 2.3).
const WINDOW_SCALE_MAX: u8 = 14;

/// All that the kernel tells about an established connection. Names of sequence numbers are those of RFC 9293, 3.3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our address. As in the connection's packets: IPv4 even if an IPv6 socket serves it.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The first byte sent that the peer has not acknowledged.
    pub snd_una: Seq,
    /// The next byte to send. [`super::take`] returns only connections where it is `snd_una`.
    pub snd_nxt: Seq,
    /// The next byte expected from the peer.
    pub rcv_nxt: Seq,
    /// The windows of both sides.
    pub windows: Windows,
    /// Payload that a segment may have now, in bytes: the path's MTU and the options of each segment are taken off.
    /// Of a connection without timestamps that was restored before, it may be 12 bytes too little.
    pub mss_bytes: u16,
    /// The bound of `mss_bytes`: the MSS option of the peer's SYN, or our TCP_MAXSEG if that is smaller. Options of
    /// each segment count against it (RFC 6691).
    pub mss_limit_bytes: u16,
    /// Shifts of the windows in packets. `None`: the option was not negotiated, and nothing is shifted.
    pub window_scales: Option<WindowScales>,
    /// Selective acknowledgements (RFC 2018) were negotiated.
    pub sack: bool,
    /// Timestamps (RFC 7323, 3) go on from here. `None`: they were not negotiated.
    pub timestamps: Option<Timestamps>,
    /// The congestion window, in bytes.
    pub cwnd_bytes: u32,
    /// The smoothed round-trip time; the kernel keeps microseconds. `None`: it was not measured yet.
    pub smoothed_rtt: Option<Duration>,
}

/// `struct tcp_repair_window` (`include/uapi/linux/tcp.h`). Windows are in bytes, after scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The sequence number of the peer's segment that gave `snd_wnd` last (SND.WL1).
    pub snd_wl1: Seq,
    /// The peer's window, which begins at `snd_una`.
    pub snd_wnd: u32,
    /// The largest window that the peer has had.
    pub max_window: u32,
    /// Our window, as it was advertised last. It begins at `rcv_wup`.
    pub rcv_wnd: u32,
    /// What our last packet acknowledged.
    pub rcv_wup: Seq,
}

/// How far windows in packets are shifted (RFC 7323, 2), 14 at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowScales {
    /// In packets of the peer: the window that we may fill.
    pub send: u8,
    /// In our packets: the window that the peer may fill.
    pub receive: u8,
}

/// How the timestamps of our packets (TSval) come from a clock: the machine's `CLOCK_MONOTONIC` in `unit`, plus
/// `offset`, wrapping. In a time namespace this process's clock is not the kernel's (time_namespaces(7)); then the
/// offset is that of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// What is added to the clock.
    pub offset: u32,
    /// What the clock counts.
    pub unit: TimestampUnit,
}

/// The unit of a connection's timestamps. A peer that has seen one of them would take the other for a step back, so it
/// never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Linux's default.
    Millisecond,
    /// Since Linux 6.7, where the route says so (`ip route … features tcp_usec_ts`).
    Microsecond,
}

impl Timestamps {
    /// TSval at a time of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn value_at(&self, monotonic: Duration) -> u32 {
        self.offset.wrapping_add(self.unit.clock(monotonic))
    }

    /// From what the option TCP_TIMESTAMP says at a time of `CLOCK_MONOTONIC`. Since Linux 6.7 its bit 0 does not
    /// belong to the value, but says the unit. TSval may have been the higher of the two.
    pub(super) fn from_option(value: u32, unit: TimestampUnit, monotonic: Duration) -> Timestamps {
        Timestamps { offset: (value | 1).wrapping_sub(unit.clock(monotonic)), unit }
    }

    /// The value of the option TCP_TIMESTAMP by which TSval goes on at a time of `CLOCK_MONOTONIC`, or runs ahead by
    /// one.
    pub(super) fn to_option(self, monotonic: Duration) -> u32 {
        let value = self.value_at(monotonic);
        match self.unit {
            TimestampUnit::Millisecond => value.wrapping_add(value & 1),
            TimestampUnit::Microsecond => value | 1,
        }
    }
}

impl TimestampUnit {
    /// The lower 32 bits of a clock in this unit.
    fn clock(self, monotonic: Duration) -> u32 {
        let ticks = match self {
            TimestampUnit::Millisecond => monotonic.as_millis(),
            TimestampUnit::Microsecond => monotonic.as_micros(),
        };
        u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or_default()
    }
}

impl Connection {
    /// Has the peer sent bytes that no packet of ours has acknowledged? It sends them again after a while, unless
    /// somebody speaks: the kernel had an acknowledgement in mind, and a restored socket has not.
    #[must_use]
    pub fn owes_acknowledgement(&self) -> bool {
        self.rcv_nxt != self.windows.rcv_wup
    }

    /// Two of its fields that cannot both be true, in words.
    #[must_use]
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let windows = &self.windows;
        let is_scaled_too_far = |scales: WindowScales| scales.send.max(scales.receive) > WINDOW_SCALE_MAX;
        if self.local.is_ipv4() != self.peer.is_ipv4() {
            Some("its addresses are of different families")
        } else if windows.snd_wnd > windows.max_window {
            Some("the peer's window (snd_wnd) is larger than the largest it has had (max_window)")
        } else if windows.snd_wl1.is_after(self.rcv_nxt.plus(windows.rcv_wnd)) {
            Some("the peer's window was updated by a segment that was never received (snd_wl1)")
        } else if windows.rcv_wup.is_after(self.rcv_nxt) {
            Some("bytes were acknowledged that were never received (rcv_wup, rcv_nxt)")
        } else if self.window_scales.is_some_and(is_scaled_too_far) {
            Some("a window is scaled by more than 14")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_goes_on_with_the_clock_across_its_wrap() {
        for (unit, tick) in UNITS {
            // The clock has gone round 7 times.
            let before = tick * u32::MAX * 7;
            let timestamps = Timestamps::from_option(u32::MAX, unit, before);
            assert_eq!(timestamps.value_at(before), u32::MAX);
            assert_eq!(timestamps.value_at(before + tick * 5), 4);
        }
    }

    #[test]
    fn a_timestamp_does_not_go_back_by_the_bit_that_says_its_unit() {
        let now = Duration::from_secs(12_345);
        for (unit, _) in UNITS {
            for sent in [6, 7, u32::MAX] {
                // What Linux 6.7 and later make of it.
                let bit = u32::from(unit == TimestampUnit::Microsecond);
                let timestamps = Timestamps::from_option(sent & !1 | bit, unit, now);
                let value = timestamps.value_at(now);
                assert!(value.wrapping_sub(sent) <= 1, "{value} after {sent}");
                let option = timestamps.to_option(now);
                assert!(option.wrapping_sub(value) <= 1 && option & 1 == bit, "{option} after {value}");
            }
        }
    }

    const UNITS: [(TimestampUnit, Duration); 2] = [
        (TimestampUnit::Millisecond, Duration::from_millis(1)),
        (TimestampUnit::Microsecond, Duration::from_micros(1)),
    ];
}
