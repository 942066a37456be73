//! The feed for the sequencer: the queue, and the counts of the connection at its other end.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fanblade_feed::{Condition, Event, Feed, FeedCounters, FeedError, Line, Poll, QueueFeed, UnixNs};
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use super::mapper::Totals;

/// The feed of a WebSocket server.
#[derive(Debug)]
pub(super) struct WebsocketFeed {
    queue: QueueFeed,
    name: String,
    counters: Arc<Counters>,
    /// The task that fills the queue; `None` once its end has been seen.
    task: Option<JoinHandle<()>>,
}

/// The connection's counts. Its task writes them, the sequencer's thread reads them; they are independent of each
/// other.
#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: AtomicU64,
    bytes: AtomicU64,
    unmatched: AtomicU64,
    malformed: AtomicU64,
    duplicates: AtomicU64,
    without_book: AtomicU64,
    dropped: AtomicU64,
    /// Messages that were only signs of life.
    heartbeats: AtomicU64,
    pongs: AtomicU64,
    heard_ns: AtomicU64,
}

impl Counters {
    pub(super) fn store(&self, totals: &Totals, heard_ns: UnixNs, is_pong: bool) {
        let Totals { messages, bytes, unmatched, malformed, duplicates, without_book, dropped, heartbeats } = *totals;
        let pairs = [
            (&self.messages, messages),
            (&self.bytes, bytes),
            (&self.unmatched, unmatched),
            (&self.malformed, malformed),
            (&self.duplicates, duplicates),
            (&self.without_book, without_book),
            (&self.dropped, dropped),
            (&self.heartbeats, heartbeats),
            (&self.heard_ns, heard_ns.0),
        ];
        pairs.iter().for_each(|(place, value)| place.store(*value, Relaxed));
        self.pongs.fetch_add(is_pong.into(), Relaxed);
    }
}

impl WebsocketFeed {
    pub(super) fn new(queue: QueueFeed, name: String, counters: Arc<Counters>, task: JoinHandle<()>) -> WebsocketFeed {
        WebsocketFeed { queue, name, counters, task: Some(task) }
    }
}

impl Feed for WebsocketFeed {
    fn name(&self) -> &'static str {
        self.queue.name()
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        let polled = self.queue.poll(now_ns, sink)?;
        // The task ends only with the queue. So it has panicked, and nothing will come.
        if polled != Poll::Busy
            && let Some(task) = self.task.take_if(|task| task.is_finished())
            && let Some(Err(error)) = task.now_or_never()
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
        Ok(polled)
    }

    fn counters(&self) -> FeedCounters {
        let Counters { messages, bytes, unmatched, malformed, duplicates, without_book, dropped, pongs, .. } =
            &*self.counters;
        let pongs = pongs.load(Relaxed);
        FeedCounters {
            packets: messages.load(Relaxed) + pongs,
            heartbeats: pongs + self.counters.heartbeats.load(Relaxed),
            bytes: bytes.load(Relaxed),
            unmatched: unmatched.load(Relaxed),
            malformed: malformed.load(Relaxed),
            duplicates: duplicates.load(Relaxed),
            stale: without_book.load(Relaxed),
            dropped: dropped.load(Relaxed),
            ..self.queue.counters()
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.queue.wait(timeout);
    }

    fn condition(&self) -> Condition {
        self.queue.condition()
    }

    fn lines(&self) -> Vec<Line> {
        let heard = UnixNs(self.counters.heard_ns.load(Relaxed));
        let counters = self.counters();
        vec![Line {
            name: self.name.clone(),
            packets: counters.packets,
            bytes: counters.bytes,
            wins: counters.packets,
            gaps: counters.gaps,
            kernel_drops: 0,
            lead_ns_mean: 0,
            lead_ns_max: 0,
            silent_ns: (heard > UnixNs::default()).then(|| UnixNs::now().since(heard)),
        }]
    }
}

#[cfg(test)]
mod tests {
    use fanblade_feed::queue::{QueueConfig, queue};

    use super::*;

    #[tokio::test]
    async fn each_count_has_its_own_place() {
        let (_sender, queue) = queue(&QueueConfig::new("websocket", *b"session   "));
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(std::future::pending());
        let feed = WebsocketFeed::new(queue, "venue".to_owned(), Arc::clone(&counters), task);
        let totals = Totals {
            messages: 1,
            bytes: 2,
            unmatched: 3,
            malformed: 4,
            duplicates: 5,
            without_book: 6,
            dropped: 7,
            heartbeats: 8,
        };
        counters.store(&totals, UnixNs(9), true);
        let told = FeedCounters {
            packets: 2,
            heartbeats: 9,
            bytes: 2,
            unmatched: 3,
            malformed: 4,
            duplicates: 5,
            stale: 6,
            dropped: 7,
            ..FeedCounters::default()
        };
        // The queue's own counts.
        let FeedCounters { messages, sessions, gaps, gap_messages, .. } = feed.queue.counters();
        assert_eq!(feed.counters(), FeedCounters { messages, sessions, gaps, gap_messages, ..told });
    }
}
