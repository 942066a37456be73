//! What is kept of a subscriber.

/// One subscriber: value of `SUBSCRIBERS`, by its number.
///
/// Userspace writes `sent` and `state` before it sends the packet that they describe, and nothing once the subscriber
/// is [`OPEN`]; from then on only the program writes, until the connection is closed.
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
    /// Number of the last message of the window.
    pub newest: u32,
    /// Messages of the window.
    pub messages: u32,
    /// [`CLOSED`] and what follows.
    pub state: u8,
    /// Flags: [`READY`], [`FOLLOWS`], [`AWAITED`].
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
/// The server has answered the SYN.
pub const ANSWERED: u8 = 2;
/// Userspace has acknowledged the answer and asked for the upgrade.
pub const ASKED: u8 = 3;
/// The server has agreed to the upgrade.
pub const OPEN: u8 = 4;
/// The server has refused the upgrade.
pub const REFUSED: u8 = 5;
/// The server has closed or reset the connection, or the stream is torn.
pub const OVER: u8 = 6;

/// The preamble has been heard.
pub const READY: u8 = 1 << 0;
/// `last` is valid.
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

const _: () = assert!(size_of::<Subscriber>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_is_missing_until_it_is_acknowledged() {
        let mut subscriber = Subscriber { sent: 3, flags: READY | AWAITED, ..Subscriber::default() };
        assert_eq!(subscriber.missing(u32::MAX - 2), 6);
        assert_eq!(subscriber.missing(3), 0);
        assert_eq!((subscriber.flags, subscriber.missing(u32::MAX - 2)), (READY, 0));
    }
}
