//! The feed over a simulator: its packets take the way that real ones take.

use super::{ConfigError, Simulator, SimulatorConfig};
use crate::limits::{POLL_MESSAGES_MAX, SIMULATOR_LAG_NS_MAX};
use crate::moldudp64::{InOrder, Start};
use crate::{Event, Feed, FeedCounters, FeedError, Poll, Session, UnixNs};

/// Plays a simulated market, live or as fast as it is polled.
pub struct SimulatedFeed {
    config: SimulatorConfig,
    simulator: Simulator,
    in_order: InOrder,
    /// When the packet in hand is due, nanoseconds since midnight.
    due_ns: Option<u64>,
    /// The midnight of the day in which a time lies. None: not live.
    midnight_of: Option<Box<dyn Fn(UnixNs) -> UnixNs + Send>>,
    /// The midnight of the live session under way.
    midnight_ns: Option<UnixNs>,
    finished: bool,
    clock_skips: u64,
}

impl SimulatedFeed {
    /// A market that runs as fast as it is polled. The same settings give the same events. It is finished when its day
    /// ends, at the latest when timestamps run out (62 hours after the open).
    ///
    /// # Errors
    /// A setting is out of its bounds.
    pub fn unpaced(config: &SimulatorConfig) -> Result<Self, ConfigError> {
        Self::new(config, None)
    }

    /// A market that runs by the clock of `poll` and begins with its first call. Its timestamps count from the midnight
    /// that `midnight_of` gives for the time at which a session starts (the exchange's time zone is the caller's
    /// business). Unless the settings bound it, it never ends: when timestamps run out, after two days and more, a new
    /// session follows.
    ///
    /// # Errors
    /// A setting is out of its bounds.
    pub fn live(
        config: &SimulatorConfig,
        midnight_of: impl Fn(UnixNs) -> UnixNs + Send + 'static,
    ) -> Result<Self, ConfigError> {
        Self::new(config, Some(Box::new(midnight_of)))
    }

    fn new(
        config: &SimulatorConfig,
        midnight_of: Option<Box<dyn Fn(UnixNs) -> UnixNs + Send>>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            config: config.clone(),
            simulator: Simulator::new(config)?,
            in_order: InOrder::new(Start::Beginning),
            due_ns: None,
            midnight_of,
            midnight_ns: None,
            finished: false,
            clock_skips: 0,
        })
    }

    /// Begins a session, if it is live and has none.
    fn begin(&mut self, now_ns: UnixNs) -> Result<(), ConfigError> {
        let (Some(midnight_of), None) = (&self.midnight_of, self.midnight_ns) else { return Ok(()) };
        let midnight_ns = midnight_of(now_ns).min(now_ns);
        self.midnight_ns = Some(midnight_ns);
        self.simulator = Simulator::new(&SimulatorConfig {
            seed: self.config.seed.wrapping_add(self.in_order.counters().sessions),
            start_ns: now_ns.since(midnight_ns),
            session: session_at(now_ns),
            ..self.config.clone()
        })?;
        Ok(())
    }

    /// The session is over: another follows, if it was only timestamps that ran out.
    fn end(&mut self) -> Poll {
        let endless = self.config.messages_max.is_none() && self.config.duration_max.is_none();
        if endless && self.midnight_ns.take().is_some() {
            return Poll::Busy;
        }
        self.finished = true;
        Poll::Finished
    }
}

impl Feed for SimulatedFeed {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        if self.finished {
            return Ok(Poll::Finished);
        }
        self.begin(now_ns)?;
        let messages_max = self.in_order.counters().messages + POLL_MESSAGES_MAX as u64;
        while self.in_order.counters().messages < messages_max {
            let Some(due_ns) = self.due_ns.take().or_else(|| self.simulator.advance()) else { return Ok(self.end()) };
            if let Some(midnight_ns) = self.midnight_ns {
                let due_at = midnight_ns.plus(due_ns);
                if due_at > now_ns {
                    self.due_ns = Some(due_ns);
                    return Ok(Poll::IdleUntil(due_at));
                }
                if now_ns.since(due_at) > SIMULATOR_LAG_NS_MAX {
                    self.clock_skips += 1;
                    self.simulator.skip_to(now_ns.since(midnight_ns));
                }
            }
            self.in_order.accept(self.simulator.packet(), now_ns, &mut *sink);
        }
        Ok(Poll::Busy)
    }

    fn counters(&self) -> FeedCounters {
        FeedCounters { clock_skips: self.clock_skips, ..*self.in_order.counters() }
    }
}

impl std::fmt::Debug for SimulatedFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedFeed").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A name for the session of a live feed that begins now: milliseconds since 1970 in base 36, so that numbering which
/// begins anew never passes for the old one.
fn session_at(now_ns: UnixNs) -> Session {
    let mut rest = now_ns.ms();
    let mut session = *b"0000000000";
    for place in session.iter_mut().rev() {
        *place = char::from_digit((rest % 36) as u32, 36).map_or(b'0', |digit| digit.to_ascii_uppercase() as u8);
        rest /= 36;
    }
    session
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::itch::Message;

    const MIDNIGHT: UnixNs = UnixNs(1_700_000_000_000_000_000);
    const S: u64 = 1_000_000_000;

    fn small() -> SimulatorConfig {
        SimulatorConfig { symbols: 50, messages_per_s: 2_000, ..SimulatorConfig::default() }
    }

    /// Polls until idle at each of these times; how many messages and other events each time.
    fn drain(feed: &mut SimulatedFeed, now_ns: UnixNs, events: &mut Vec<String>) -> Poll {
        loop {
            let poll = feed.poll(now_ns, &mut |event| match event {
                Event::Message { bytes, .. } => {
                    let message = Message::parse(bytes).unwrap();
                    assert!(MIDNIGHT.plus(message.header().timestamp.get()) <= now_ns, "nothing comes before its time");
                }
                Event::SessionStart { .. } => events.push("session".into()),
                other => events.push(format!("{other:?}")),
            });
            match poll.unwrap() {
                Poll::Busy => {}
                poll => return poll,
            }
        }
    }

    #[test]
    fn live_by_a_fake_clock() {
        let mut feed = SimulatedFeed::live(&small(), |_| MIDNIGHT).unwrap();
        let mut events = Vec::new();
        let mut now_ns = MIDNIGHT.plus(40_000 * S);
        let mut idle = 0;
        // Six seconds: it opens after three, with a burst.
        while now_ns < MIDNIGHT.plus(40_006 * S) {
            match drain(&mut feed, now_ns, &mut events) {
                Poll::IdleUntil(due_ns) => {
                    assert!(due_ns > now_ns);
                    assert!(due_ns < now_ns.plus(S / 4), "never long without a message");
                    now_ns = due_ns;
                    idle += 1;
                }
                poll => panic!("{poll:?}"),
            }
        }
        assert!(idle > 1_000);
        assert_eq!(events, ["session"]);
        let counters = feed.counters();
        assert_eq!((counters.gaps, counters.duplicates, counters.malformed, counters.clock_skips), (0, 0, 0, 0));
        assert!((10_000..40_000).contains(&counters.messages), "{counters:?}");

        // Someone closes the lid for an hour.
        let messages = counters.messages;
        now_ns = now_ns.plus(3_600 * S);
        drain(&mut feed, now_ns, &mut events);
        let counters = feed.counters();
        assert_eq!(counters.clock_skips, 1);
        assert!(counters.messages - messages < 100, "what was missed is not made up for");
        assert_eq!((events.len(), counters.gaps), (1, 0));
    }

    #[test]
    fn sessions_follow_each_other_without_end() {
        let mut feed =
            SimulatedFeed::live(&small(), |now_ns| MIDNIGHT.plus(now_ns.since(MIDNIGHT) / (86_400 * S) * 86_400 * S));
        let feed = feed.as_mut().unwrap();
        let mut events = Vec::new();
        let start_ns = MIDNIGHT.plus(80_000 * S);
        drain(feed, start_ns, &mut events);
        for hour in 1..=80 {
            // Asleep but for a tenth of a second in every hour.
            let mut now_ns = start_ns.plus(hour * 3_600 * S);
            let until_ns = now_ns.plus(S / 10);
            while now_ns < until_ns {
                let Poll::IdleUntil(due_ns) = drain(feed, now_ns, &mut events) else { panic!("finished") };
                now_ns = due_ns;
            }
        }
        assert!(events.len() == 3 && events[1].starts_with("EndOfSession") && events[2] == "session", "{events:?}");
    }

    #[test]
    fn bounded_days_finish() {
        let config = SimulatorConfig { messages_max: Some(5_000), ..small() };
        let mut feed = SimulatedFeed::unpaced(&config).unwrap();
        let mut polls = 0;
        let mut ends = Vec::new();
        while feed
            .poll(UnixNs(0), &mut |event| {
                if let Event::EndOfSession { seq } = event {
                    ends.push(seq);
                }
            })
            .unwrap()
            == Poll::Busy
        {
            polls += 1;
        }
        let counters = feed.counters();
        assert_eq!(ends, [counters.messages + 1]);
        assert!((5_000..5_200).contains(&counters.messages), "{counters:?}");
        assert!(polls >= counters.messages / (POLL_MESSAGES_MAX as u64 + 32));
    }

    #[test]
    fn sessions_have_names_of_their_own() {
        assert_eq!(&session_at(UnixNs(0)), b"0000000000");
        assert_eq!(&session_at(UnixNs(35_000_000)), b"000000000Z");
        assert_eq!(&session_at(UnixNs(1_700_000_000_000_000_000)), b"00LOYW3V28");
        assert_ne!(session_at(UnixNs(u64::MAX)), session_at(UnixNs(u64::MAX - 1_000_000)));
    }
}
