//! Telling the present from the past.
//!
//! A server that was asked for old messages sends them as fast as the network takes them, and nothing on the wire says
//! where the present begins. A heartbeat does: it means that there was nothing to send for a second. On a busy day none
//! may come for hours; but then messages come at the pace of their own timestamps, neither faster, as the past does,
//! nor slower, as when the network stalls.

use std::time::{Duration, Instant};

use zerocopy::FromBytes;

use crate::itch;

/// Watches what comes after a login until it is the present.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// When the window began, and the exchange's time of the first message in it.
    since: Instant,
    first_ns: Option<u64>,
    /// The exchange's time of the newest message.
    newest_ns: u64,
}

impl CatchUp {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, first_ns: None, newest_ns: 0 }
    }

    /// Takes note of a message's own time, if it has one.
    pub(super) fn message(&mut self, bytes: &[u8]) {
        if let Ok((header, _)) = itch::Header::ref_from_prefix(bytes) {
            self.newest_ns = header.timestamp.get();
            self.first_ns.get_or_insert(self.newest_ns);
        }
    }

    /// Has the present been reached? Ask whenever all that has come is read.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return false;
        }
        let advance = self.first_ns.map(|first_ns| Duration::from_nanos(self.newest_ns.saturating_sub(first_ns)));
        *self = CatchUp::new(now);
        advance.is_some_and(|advance| (elapsed / 2..elapsed * 2).contains(&advance))
    }

    /// When it makes sense to ask again.
    pub(super) fn due(&self) -> Instant {
        self.since + WINDOW
    }
}

/// Long enough that a retransmission does not look like the present, and short against a second of heartbeat.
const WINDOW: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn message_at(ns: u64) -> [u8; 12] {
        let mut bytes = *b"S..........O";
        bytes[5..11].copy_from_slice(&ns.to_be_bytes()[2..]);
        bytes
    }

    /// The answer after a window of so many milliseconds in which messages advanced by as many as are given.
    fn after(elapsed_ms: u64, advance_ms: Option<u64>) -> bool {
        let now = Instant::now();
        let mut catch_up = CatchUp::new(now);
        if let Some(advance_ms) = advance_ms {
            catch_up.message(&message_at(34_200_000_000_000));
            catch_up.message(&message_at(34_200_000_000_000 + advance_ms * 1_000_000));
        }
        let is_over = catch_up.is_over(now + Duration::from_millis(elapsed_ms));
        if is_over {
            assert_eq!(catch_up.due(), now + Duration::from_millis(elapsed_ms) + WINDOW, "a new window");
        }
        is_over
    }

    #[test]
    fn messages_at_their_own_pace_are_the_present() {
        assert!(after(500, Some(500)) && after(500, Some(300)) && after(2_000, Some(2_500)));
        assert!(!after(499, Some(499)), "too short to tell");
        assert!(!after(500, Some(60_000)), "faster: the past");
        assert!(!after(500, Some(2)) && !after(500, Some(0)), "slower: a stall");
        assert!(!after(60_000, None), "nothing: only a heartbeat tells");
    }

    #[test]
    fn messages_without_a_time_do_not_tell() {
        let now = Instant::now();
        let mut catch_up = CatchUp::new(now);
        catch_up.message(b"");
        catch_up.message(b"short");
        assert!(!catch_up.is_over(now + WINDOW));
        // A clock that goes back is no advance.
        catch_up.message(&message_at(2_000_000_000));
        catch_up.message(&message_at(1_000_000_000));
        assert!(!catch_up.is_over(now + WINDOW * 2));
    }
}
