//! Each session has one deadline at a time; which one it is follows from the session's state.

use std::io;

use fanblade_net::Engine;
use fanblade_wire::close;

use crate::clock::WorkerMs;
use crate::ids::SessionId;
use crate::session::State;
use crate::worker::Worker;

impl Worker {
    /// Meets the deadlines that have passed, and pings the sessions that have been silent.
    pub(crate) fn expire(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(&mut self.sessions, self.now_ms, &mut due);
        for index in due.drain(..) {
            self.on_deadline(index);
        }
        self.due = due;
        let mut pinged = std::mem::take(&mut self.pinged);
        let said = self.say_same(engine, &pinged, PING);
        pinged.clear();
        self.pinged = pinged;
        said
    }

    fn on_deadline(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        match session.state {
            State::Free => {}
            State::Preface | State::Handshake => {
                self.stats.handshake_timeouts.add(1);
                self.drop_session(index);
            }
            State::Open => self.on_deadline_of_open(index),
            State::Closing | State::Lingering => self.drop_session(index),
        }
    }

    /// The session is too slow, does not subscribe, does not answer, or is to be pinged; else its deadline has moved.
    fn on_deadline_of_open(&mut self, index: SessionId) {
        let now_ms = self.now_ms;
        let silence_ms_max = self.silence_ms_max(index);
        let limits = &self.config.limits;
        let (pong_ms_max, lag_ms_max) = (u64::from(limits.pong_ms_max), u64::from(limits.lag_ms_max));
        let (half_closed_ms_max, subscribe_ms_max) = (u64::from(limits.half_closed_ms_max), limits.subscribe_ms_max);
        let Some(session) = self.sessions.find(index) else { return };
        // If the client has ended its side, `received_ms` says when.
        let has_ended = session.has_ended;
        let finish_ms = session.received_ms + half_closed_ms_max;
        if has_ended && now_ms >= finish_ms {
            self.stats.slow_evicted.add(1);
            return self.begin_close(index, close::TOO_SLOW, "did not take in time what it had asked for");
        }
        if let Some(behind) = session.extra.as_ref().and_then(|extra| extra.behind.as_ref())
            && session.blocked
        {
            // Its socket is full, and a ping would wait in the queue behind everything else. That it takes bytes is its
            // sign of life.
            let deadline = behind.progress_ms + lag_ms_max;
            if now_ms >= deadline {
                self.stats.slow_evicted.add(1);
                return self.begin_close(index, close::TOO_SLOW, "too slow");
            }
            return self.arm(index, if has_ended { deadline.min(finish_ms) } else { deadline });
        }
        if has_ended {
            // It cannot answer a ping.
            return self.arm(index, finish_ms);
        }
        if !session.subscribed_once && subscribe_ms_max > 0 {
            // The upgrade armed this deadline for exactly this.
            self.stats.subscribe_timeouts.add(1);
            return self.begin_close(index, close::POLICY, "subscribed to nothing in time");
        }
        if session.pinged {
            self.stats.pong_timeouts.add(1);
            return self.drop_session(index);
        }
        // It may have said something since the deadline was set.
        let silent_until = session.received_ms + silence_ms_max;
        if now_ms < silent_until {
            return self.arm(index, silent_until);
        }
        session.pinged = true;
        self.stats.pings.add(1);
        if session.owes_nothing() {
            // All of these are pinged at once, from the same bytes.
            self.pinged.push(index);
        } else {
            self.say(index, |out| out.extend_from_slice(PING));
        }
        self.arm(index, now_ms + pong_ms_max);
    }

    /// The silence after which this session is pinged, in milliseconds. It is shorter than the configured interval by
    /// up to a quarter, for each session by the same every time, so that sessions which came together are soon pinged
    /// apart.
    pub(crate) fn silence_ms_max(&self, index: SessionId) -> u64 {
        silence_ms(index, self.config.limits.ping_interval_ms).into()
    }

    /// Sets the session's deadline, in place of the one before.
    pub(crate) fn arm(&mut self, index: SessionId, deadline_ms: WorkerMs) {
        self.wheel.arm(&mut self.sessions, index, deadline_ms);
    }

    /// Sets the session's deadline if that is earlier than the one before.
    pub(crate) fn arm_earlier(&mut self, index: SessionId, deadline_ms: WorkerMs) {
        if self.sessions.find(index).is_some_and(|session| deadline_ms < session.links.deadline_ms) {
            self.arm(index, deadline_ms);
        }
    }
}

fn silence_ms(index: SessionId, ping_interval_ms: u32) -> u32 {
    ping_interval_ms - spread(index, 0, ping_interval_ms / 4)
}

/// A number up to `max`, far apart for neighbours (Fibonacci hashing).
pub(crate) fn spread(index: SessionId, salt: u32, max: u32) -> u32 {
    let hashed = (index.0 ^ salt.rotate_left(16)).wrapping_mul(0x9E37_79B9);
    u32::try_from((u64::from(hashed) * u64::from(max)) >> 32).unwrap_or(max)
}

/// An empty ping (RFC 6455, 5.5.2).
const PING: &[u8] = &[0x89, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_spread_over_a_quarter_of_their_interval() {
        let mut sorted: Vec<u32> = (70_000..80_000).map(|index| silence_ms(SessionId(index), 30_000)).collect();
        sorted.sort_unstable();
        assert!(sorted[0] >= 22_500 && sorted[9_999] <= 30_000, "{} to {}", sorted[0], sorted[9_999]);
        // Evenly: 10,000 in 7.5 s are 67 in any 50 ms.
        let most = sorted.windows(100).map(|some| some[99] - some[0]).min();
        assert!(most >= Some(50), "a hundred within {most:?} ms");
    }
}
