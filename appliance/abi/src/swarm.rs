//! What `ebpf/src/swarm`, the subscribers that live in an XDP program, shares with the load generator in `perf/`.
//!
//! Everything that does not touch the packet itself is here and tested on the host: what a frame's beginning says,
//! where the numbers stand in a message, what a subscriber makes of it.

mod frame;
mod histogram;
mod marker;
mod message;

pub use frame::{Fault, Frame, frame};
pub use histogram::{BUCKETS, bucket, bucket_middle_ns};
pub use marker::{Found, Pattern, Search};
pub use message::Reception;

/// The beginning of a frame, header included, that is looked at: the markers must lie in it, and a ping or close frame
/// (127 bytes at most) lies in it as a whole. A power of two, so that an index is bounded by a mask.
pub const HEAD_LEN: usize = 256;

/// Room for the bytes that a segment may bring behind those that were kept.
pub const SCRATCH_LEN: usize = 2 * HEAD_LEN;

/// Frames whose beginning is cut by the end of a segment and waits for the next: one per subscriber at most, and hardly
/// ever many at once. Beyond that the stream counts as torn: `heads_lost`.
pub const HEADS_MAX: usize = 16_384;

/// Subscribers, unless the loader sets another number.
pub const SUBSCRIBERS_MAX: usize = 1_024;

/// One subscriber: value of `SUBSCRIBERS`, by its number.
///
/// Userspace writes `sent` and `state` before it sends the packet that they speak of, and nothing once the subscriber
/// is [`OPEN`]; from then on the program alone does, until it is closed.
///
/// ```text
///  0      4      8      12     16     20     24         28    29    30    31    32
///  | next | sent | left | last | first | newest | messages | state | flags | heard | kept |
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// TCP sequence number of the next byte from the server.
    pub next: u32,
    /// TCP sequence number of our next byte.
    pub sent: u32,
    /// Bytes of the present frame that are still to come; while [`REFUSED`], the status of the server's answer.
    pub left: u32,
    /// Number of the last message.
    pub last: u32,
    /// Number of the first message of the window.
    pub first: u32,
    /// Number of its last.
    pub newest: u32,
    /// Messages of the window.
    pub messages: u32,
    /// [`CLOSED`] and what follows.
    pub state: u8,
    /// [`READY`], [`FOLLOWS`], [`AWAITED`].
    pub flags: u8,
    /// Messages of the preamble.
    pub heard: u8,
    /// While [`ASKED`], bytes of the blank line that have been seen; then, bytes of a frame's beginning that wait in
    /// `HEADS`.
    pub kept: u8,
}

/// There is no connection.
pub const CLOSED: u8 = 0;
/// Userspace has sent a SYN.
pub const CALLED: u8 = 1;
/// The server has answered it.
pub const ANSWERED: u8 = 2;
/// Userspace has acknowledged that and asked for the upgrade.
pub const ASKED: u8 = 3;
/// The server has agreed.
pub const OPEN: u8 = 4;
/// It has not.
pub const REFUSED: u8 = 5;
/// The server has closed or reset the connection, or the stream is torn.
pub const OVER: u8 = 6;

/// The preamble has been heard.
pub const READY: u8 = 1 << 0;
/// `last` holds.
pub const FOLLOWS: u8 = 1 << 1;
/// The server has not acknowledged our last pong, as far as we know.
pub const AWAITED: u8 = 1 << 2;

impl Subscriber {
    /// Bytes of our pongs that the server did not have when it sent this acknowledgement.
    #[inline(always)]
    pub fn missing(&mut self, acknowledged: u32) -> u32 {
        if self.flags & AWAITED == 0 {
            return 0;
        }
        let missing = self.sent.wrapping_sub(acknowledged);
        if missing == 0 {
            self.flags &= !AWAITED;
        }
        missing
    }
}

/// Value of `SETTINGS` (one entry): what userspace tells the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Added to `CLOCK_MONOTONIC`, wrapping: `CLOCK_REALTIME`, which stands in the messages.
    pub realtime_offset_ns: u64,
    /// Messages that count: those published from `from_ns` on and before `to_ns`.
    pub from_ns: u64,
    /// The end of the window.
    pub to_ns: u64,
    /// Stands before a message's time of publishing. Empty: the time of its receipt is taken.
    pub timestamp: Pattern,
    /// Stands before its number. Empty: it has none.
    pub sequence: Pattern,
    /// Address of the first subscriber, in host order.
    pub addr_first: u32,
    /// First port of a subscriber, on each address.
    pub port_first: u32,
    /// Ports in use on each address.
    pub ports: u32,
    /// How many there are.
    pub subscribers: u32,
    /// Messages that a subscriber gets before it is ready.
    pub preamble: u32,
    /// Of a thousand segments with data, of either side, so many are dropped unseen: a test of the counting.
    pub drop_per_mille: u32,
}

impl Settings {
    /// Number of the subscriber with this address and port, in host order.
    #[inline(always)]
    #[must_use]
    pub fn subscriber(&self, addr: u32, port: u16) -> Option<u32> {
        let (row, column) = (addr.wrapping_sub(self.addr_first), u32::from(port).wrapping_sub(self.port_first));
        if column >= self.ports || row > self.subscribers {
            return None;
        }
        let number = u64::from(row) * u64::from(self.ports) + u64::from(column);
        if number < u64::from(self.subscribers) { Some(number as u32) } else { None }
    }

    /// Address and port of a subscriber.
    #[must_use]
    pub fn place(&self, subscriber: u32) -> (u32, u16) {
        let (row, column) = (subscriber / self.ports, subscriber % self.ports);
        (self.addr_first.wrapping_add(row), (self.port_first + column) as u16)
    }
}

/// Value of `COUNTERS` (one entry per CPU).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments with data, of any connection that stands.
    pub segments: u64,
    /// Their bytes, each once.
    pub bytes: u64,
    /// Segments whose bytes had all been received: sent again by the server.
    pub again: u64,
    /// Segments before which some are missing: lost, or overtaken. They are not kept; the server sends them again.
    pub ahead: u64,
    /// Segments of either side that the program dropped because it was told to.
    pub dropped: u64,
    /// Packets for no subscriber, or none that has a connection.
    pub strays: u64,
    /// Packets that could not be made into an answer.
    pub unanswered: u64,
    /// Messages of the window, each once.
    pub messages: u64,
    /// Messages published before the window or after it.
    pub outside: u64,
    /// Messages without a timestamp.
    pub others: u64,
    /// Numbers left out between two messages of a subscriber.
    pub missing: u64,
    /// Places where some were.
    pub gaps: u64,
    /// Messages that came again, or behind a later one.
    pub repeated: u64,
    /// Pings.
    pub pings: u64,
    /// Pings that were answered: the last one of a segment (RFC 6455, 5.5.3).
    pub pongs: u64,
    /// Pongs that were sent again, because the server had not acknowledged them.
    pub pongs_again: u64,
    /// Connections that the server has ended without a close frame.
    pub ended: u64,
    /// Connections that it has reset.
    pub resets: u64,
    /// Streams that are no WebSocket.
    pub torn: u64,
    /// Streams that were given up because `HEADS` was full.
    pub heads_lost: u64,
    /// The longest latency of the window.
    pub latency_max_ns: u64,
    /// Close frames by code: 1000 to 1014, and all others.
    pub closes: [u64; CLOSES],
}

impl Counters {
    /// With those of another CPU.
    #[must_use]
    pub fn plus(&self, other: &Counters) -> Counters {
        let latency_max_ns = self.latency_max_ns.max(other.latency_max_ns);
        Counters { latency_max_ns, ..self.with(other, u64::wrapping_add) }
    }

    /// What has come since `before`. The longest latency is that of all time.
    #[must_use]
    pub fn since(&self, before: &Counters) -> Counters {
        Counters { latency_max_ns: self.latency_max_ns, ..self.with(before, u64::wrapping_sub) }
    }

    fn with(&self, other: &Counters, operation: fn(u64, u64) -> u64) -> Counters {
        let mut closes = [0; CLOSES];
        for (at, count) in closes.iter_mut().enumerate() {
            *count = operation(self.closes[at], other.closes[at]);
        }
        Counters {
            segments: operation(self.segments, other.segments),
            bytes: operation(self.bytes, other.bytes),
            again: operation(self.again, other.again),
            ahead: operation(self.ahead, other.ahead),
            dropped: operation(self.dropped, other.dropped),
            strays: operation(self.strays, other.strays),
            unanswered: operation(self.unanswered, other.unanswered),
            messages: operation(self.messages, other.messages),
            outside: operation(self.outside, other.outside),
            others: operation(self.others, other.others),
            missing: operation(self.missing, other.missing),
            gaps: operation(self.gaps, other.gaps),
            repeated: operation(self.repeated, other.repeated),
            pings: operation(self.pings, other.pings),
            pongs: operation(self.pongs, other.pongs),
            pongs_again: operation(self.pongs_again, other.pongs_again),
            ended: operation(self.ended, other.ended),
            resets: operation(self.resets, other.resets),
            torn: operation(self.torn, other.torn),
            heads_lost: operation(self.heads_lost, other.heads_lost),
            latency_max_ns: 0,
            closes,
        }
    }
}

/// Places of [`Counters::closes`].
pub const CLOSES: usize = 16;

const _: () = assert!(size_of::<Subscriber>() == 32);
const _: () = assert!(size_of::<Settings>() == 24 + 2 * 24 + 24);
const _: () = assert!(size_of::<Counters>() == (21 + CLOSES) * 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_subtract_and_the_longest_latency_stays() {
        let one = Counters { segments: 3, closes: [1; CLOSES], latency_max_ns: 5, ..Counters::default() };
        let sum = one.plus(&Counters { segments: 4, latency_max_ns: 9, ..Counters::default() });
        assert_eq!((sum.segments, sum.closes, sum.latency_max_ns), (7, [1; CLOSES], 9));
        let since = sum.since(&one);
        assert_eq!((since.segments, since.closes, since.latency_max_ns), (4, [0; CLOSES], 9));
    }

    #[test]
    fn a_pong_is_missing_until_it_is_acknowledged() {
        let mut subscriber = Subscriber { sent: 3, flags: READY | AWAITED, ..Subscriber::default() };
        assert_eq!(subscriber.missing(u32::MAX - 2), 6);
        assert_eq!(subscriber.missing(3), 0);
        assert_eq!((subscriber.flags, subscriber.missing(u32::MAX - 2)), (READY, 0));
    }

    #[test]
    fn each_subscriber_has_a_place_of_its_own() {
        let settings =
            Settings { addr_first: 0x0a40_0000, port_first: 4_000, ports: 3, subscribers: 8, ..Settings::default() };
        for number in 0..8 {
            let (addr, port) = settings.place(number);
            assert_eq!(settings.subscriber(addr, port), Some(number));
        }
        assert_eq!(settings.place(7), (0x0a40_0002, 4_001));
        for (addr, port) in [
            (0x0a40_0002, 4_002),
            (0x0a40_0003, 4_000),
            (0x0a3f_ffff, 4_000),
            (0x0a40_0000, 4_003),
            (0x0a40_0000, 3_999),
        ] {
            assert_eq!(settings.subscriber(addr, port), None, "{addr:x} {port}");
        }
    }
}
