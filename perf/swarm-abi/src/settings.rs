//! What userspace tells the program.

use crate::marker::Pattern;

/// Value of `SETTINGS` (one entry): what userspace tells the program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What to add to `CLOCK_MONOTONIC`, wrapping, to get `CLOCK_REALTIME`, which stands in the messages.
    pub realtime_offset_ns: u64,
    /// Messages that count: those published from `from_ns` on and before `to_ns`.
    pub from_ns: u64,
    /// The end of the window.
    pub to_ns: u64,
    /// Stands before a message's time of publishing. Empty: the time of receipt counts.
    pub timestamp: Pattern,
    /// Stands before a message's number. Empty: messages have no numbers.
    pub sequence: Pattern,
    /// Address of the first subscriber, in host order.
    pub addr_first: u32,
    /// First port of a subscriber, on each address.
    pub port_first: u32,
    /// Ports in use on each address.
    pub ports: u32,
    /// How many subscribers there are.
    pub subscribers: u32,
    /// Messages that a subscriber gets before it is ready.
    pub preamble: u32,
    /// Of a thousand segments with data, of either side, this many are dropped unseen, to test the counting.
    pub drop_per_mille: u32,
}

impl Settings {
    /// Number of the subscriber with this address and port, in host order.
    #[expect(clippy::cast_possible_truncation, reason = "it is below `subscribers`")]
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
    #[expect(clippy::cast_possible_truncation, reason = "whoever makes the settings has the ports end below 65,536")]
    #[must_use]
    pub fn place(&self, subscriber: u32) -> (u32, u16) {
        let (row, column) = (subscriber / self.ports, subscriber % self.ports);
        (self.addr_first.wrapping_add(row), (self.port_first + column) as u16)
    }
}

const _: () = assert!(size_of::<Settings>() == 24 + 2 * 24 + 24);

#[cfg(test)]
mod tests {
    use super::*;

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
