//! The exchange itself: packets when they are due, heartbeats in between, and the end of the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fanblade_feed::Session;
use fanblade_feed::moldudp64::{HEADER_LEN, PacketBuilder};

use super::error::ExchangeError;
use super::limits::STOP_CHECK_INTERVAL;
use super::line::Line;
use super::pace::{Pace, Pacer};
use super::source::{Source, time_ns};
use super::store::Store;

/// What is published, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) session: Session,
    pub(super) pace: Pace,
    pub(super) packet_len_max: usize,
    pub(super) heartbeat: Duration,
    /// How long the end of the session is repeated.
    pub(super) linger: Duration,
}

/// Orders to the publisher.
#[derive(Debug, Default)]
pub struct Orders {
    /// Begin with the first message. Heartbeats go before.
    pub(super) begin: AtomicBool,
    /// End at once.
    pub(super) stop: AtomicBool,
}

/// Publishes a source. Everything is in the store before it is on a line.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) plan: Plan,
    pub(super) source: Source,
    pub(super) lines: Vec<Line>,
    pub(super) store: Arc<Store>,
    pub(super) orders: Arc<Orders>,
}

/// Why it ends before the end of the session has been said often enough.
enum End {
    /// An order said so.
    Stopped,
    Failed(ExchangeError),
}

impl From<ExchangeError> for End {
    fn from(error: ExchangeError) -> Self {
        End::Failed(error)
    }
}

impl Publisher {
    /// Publishes everything, and returns the lines with what they counted.
    pub(super) fn run(mut self) -> Result<Vec<Line>, ExchangeError> {
        match self.publish() {
            Ok(()) | Err(End::Stopped) => Ok(self.lines),
            Err(End::Failed(error)) => Err(error),
        }
    }

    fn publish(&mut self) -> Result<(), End> {
        let Plan { session, packet_len_max, heartbeat, linger, pace } = self.plan;
        let mut clock = Clock { heartbeat, next_heartbeat: Instant::now() };
        while !self.orders.begin.load(Relaxed) {
            let soon = Instant::now() + STOP_CHECK_INTERVAL;
            clock.wait(soon, || idle(session, 1), &mut self.lines, &self.orders)?;
        }
        let mut pacer = Pacer::new(pace);
        let mut builder = PacketBuilder::new(session, 1, packet_len_max);
        while let Some(last_ns) = gather(&mut self.source, &mut builder, pacer.span_ns())? {
            let due = pacer.due(last_ns, builder.count(), Instant::now());
            // Until it is due, the packets before it are all there is.
            let next = builder.next_sequence() - u64::from(builder.count());
            clock.wait(due, || idle(session, next), &mut self.lines, &self.orders)?;
            let packet = builder.finish();
            self.store
                .append(packet.get(HEADER_LEN..).unwrap_or_default())
                .map_err(|error| ExchangeError::KeepPublished { directory: std::env::temp_dir(), error })?;
            for line in &mut self.lines {
                line.send(packet);
            }
            clock.next_heartbeat = Instant::now() + heartbeat;
            builder.reset();
        }
        self.store.end();
        // The end is repeated for those who missed it, and meanwhile they can ask for what they missed before.
        clock.next_heartbeat = Instant::now();
        let end = clock.next_heartbeat + linger;
        clock.say(builder.end_of_session(), &mut self.lines);
        clock.wait(end, || builder.bytes().to_vec(), &mut self.lines, &self.orders)
    }
}

/// Puts the messages of the next packet into `builder`: those that happened within `span_ns` of the first, as far as
/// they fit. Returns when the last of them happened; none at the end.
fn gather(source: &mut Source, builder: &mut PacketBuilder, span_ns: u64) -> Result<Option<u64>, ExchangeError> {
    let (mut first_ns, mut last_ns) = (None, None);
    while let Some(message) = source.peek()? {
        // A message without a time happened with the one before it.
        let at_ns = time_ns(message).or(last_ns).unwrap_or(0);
        if at_ns.saturating_sub(*first_ns.get_or_insert(at_ns)) > span_ns {
            break;
        }
        let len = message.len();
        if !builder.push(message) {
            if builder.count() > 0 {
                break;
            }
            return Err(ExchangeError::MessageTooLong { number: builder.next_sequence(), len });
        }
        last_ns = Some(at_ns);
        source.consume(len);
    }
    Ok(last_ns)
}

/// A packet that only tells the next number.
fn idle(session: Session, next: u64) -> Vec<u8> {
    PacketBuilder::new(session, next, HEADER_LEN).finish().to_vec()
}

/// When a heartbeat is due.
struct Clock {
    heartbeat: Duration,
    next_heartbeat: Instant,
}

impl Clock {
    /// Waits until `due`, and says `words` whenever nothing was said for the heartbeat's interval.
    fn wait(
        &mut self,
        due: Instant,
        words: impl Fn() -> Vec<u8>,
        lines: &mut [Line],
        orders: &Orders,
    ) -> Result<(), End> {
        loop {
            let now = Instant::now();
            if orders.stop.load(Relaxed) {
                return Err(End::Stopped);
            }
            if now >= due {
                return Ok(());
            }
            if now >= self.next_heartbeat {
                self.say(&words(), lines);
            }
            std::thread::sleep(
                due.min(self.next_heartbeat).min(now + STOP_CHECK_INTERVAL).saturating_duration_since(now),
            );
        }
    }

    fn say(&mut self, words: &[u8], lines: &mut [Line]) {
        lines.iter_mut().for_each(|line| line.say(words));
        self.next_heartbeat = Instant::now() + self.heartbeat;
    }
}
