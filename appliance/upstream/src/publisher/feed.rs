//! The feed for the sequencer: the queue, and the thread at its other end.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanblade_feed::{Condition, Event, Feed, FeedCounters, FeedError, Line, Poll, Pulse, QueueFeed, UnixNs};
use tokio::sync::watch;

use super::limits::END_MS_MAX;
use super::listener::Listener;
use super::server;
use super::shared::Shared;
use super::state::StateFile;

/// The feed of all publishers. Dropping it ends the thread, which then writes down where the numbering stopped.
pub(super) struct PublisherFeed {
    queue: Option<QueueFeed>,
    stop: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl PublisherFeed {
    pub(super) fn start(
        queue: QueueFeed,
        listeners: Vec<Listener>,
        shared: Arc<Shared>,
        state: StateFile,
        seq_end: u64,
        pulse: Pulse,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepting = {
            let _context = runtime.enter();
            listeners.into_iter().map(Listener::into_accepting).collect::<io::Result<Vec<_>>>()?
        };
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("publishers".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            runtime.spawn(keep_beating(pulse));
            move || {
                runtime.block_on(server::serve(accepting, shared, Arc::new(state), seq_end, stopped));
                // Do not wait for a write of the state: it may be stuck for ever.
                runtime.shutdown_background();
            }
        })?;
        Ok(Self { queue: Some(queue), stop: Some(stop), thread: Some(thread), shared })
    }
}

/// Beats as long as the thread gets round to running its tasks.
async fn keep_beating(pulse: Pulse) {
    loop {
        pulse.beat();
        tokio::time::sleep(BEAT_INTERVAL).await;
    }
}

impl Feed for PublisherFeed {
    fn name(&self) -> &'static str {
        "publisher"
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        // The queue is taken only while the feed is dropped.
        let Some(queue) = &mut self.queue else { return Ok(Poll::Finished) };
        let polled = queue.poll(now_ns, sink)?;
        // The thread ends only when the feed is dropped, after the last poll. So it has panicked: nothing will come.
        if polled != Poll::Busy
            && let Some(thread) = self.thread.take_if(|thread| thread.is_finished())
            && let Err(panic) = thread.join()
        {
            resume_unwind(panic);
        }
        Ok(polled)
    }

    fn counters(&self) -> FeedCounters {
        let queued = self.queue.as_ref().map_or_else(FeedCounters::default, Feed::counters);
        let (packets, malformed) = self.shared.counts();
        FeedCounters { packets, malformed, ..queued }
    }

    fn wait(&mut self, timeout: Duration) {
        if let Some(queue) = &mut self.queue {
            queue.wait(timeout);
        }
    }

    fn condition(&self) -> Condition {
        self.queue.as_ref().map_or(Condition::Live, Feed::condition)
    }

    fn lines(&self) -> Vec<Line> {
        self.shared.lines.snapshot()
    }
}

impl Drop for PublisherFeed {
    fn drop(&mut self) {
        // Tell the thread to stop before the queue closes, so that its tasks know why it is closed. Nothing is polled
        // any more, so that the last number is final.
        if let Some(stop) = self.stop.take() {
            stop.send_replace(true);
        }
        self.queue.take();
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + Duration::from_millis(END_MS_MAX);
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(END_STEP);
        }
        if !thread.is_finished() {
            tracing::error!("the publishers' thread has not ended within {END_MS_MAX} ms");
        } else if thread.join().is_err() {
            tracing::error!("the publishers' thread panicked");
        }
    }
}

/// The thread is taken for stuck when its pulse is older than several intervals.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
const END_STEP: Duration = Duration::from_millis(2);
