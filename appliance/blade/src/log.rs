//! The log: lines to standard error, for people or as JSON, written by a thread of its own.
//!
//! ```text
//! any thread ──add──▶ queue (LINES_MAX, QUEUE_BYTES_MAX) ──▶ thread "log" ──write──▶ standard error
//! ```
//! Logging is best effort: no thread ever waits for the log's reader, or for another thread that logs, and none dies of
//! it. A line that finds the queue full (the reader stands still), or that cannot be written (the reader has gone, or
//! the disk is full), is lost and counted, and the log reports the number once lines can be written again.
//! `tracing-appender` offers the queue; but it does not count lines that cannot be written, and its guard prints to the
//! blocked pipe when it ends.

mod level;
mod queue;

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::Thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use level::Level;
use queue::Queue;

/// A handle to the log's thread.
#[derive(Debug, Clone)]
pub struct Log {
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    thread: Thread,
    /// None: the variable RUST_LOG decides what is logged.
    level: Option<Level>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Counts that any thread writes; each is right by itself, but they are not consistent with each other.
#[derive(Debug, Default)]
struct Counts {
    /// Lines that threads have logged.
    lines: AtomicU64,
    /// Lines that were written or lost.
    done: AtomicU64,
    lost: AtomicU64,
    /// Bytes of the lines that wait.
    waiting_bytes: AtomicUsize,
    /// Whether the last write succeeded.
    works: AtomicBool,
}

impl Log {
    /// Starts logging, to standard error: lines of `level` (`error`, `warn`, `info`, `debug` or `trace`) and those that
    /// are more severe. RUST_LOG overrides it.
    ///
    /// # Errors
    /// The thread cannot be started, or there is no such level.
    pub fn start(level: &str, format: Format) -> io::Result<Log> {
        let mut log = Log::to(io::stderr())?;
        let filter: Box<dyn Layer<Registry> + Send + Sync> = match EnvFilter::try_from_default_env() {
            Ok(filter) => Box::new(filter),
            Err(_) => {
                let level = Level::new(level).ok_or_else(|| io::Error::other(format!("no log level `{level}`")))?;
                log.level = Some(level.clone());
                Box::new(level)
            }
        };
        let lines = log.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || lines.clone()).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        match format {
            Format::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
            Format::Json => registry.with(layer.json()).init(),
        }
        Ok(log)
    }

    /// Changes the level. False: RUST_LOG overrides it.
    #[must_use]
    pub fn set_level(&self, level: &str) -> bool {
        self.level.as_ref().is_some_and(|filter| filter.set(level))
    }

    /// A log that writes to this place.
    fn to(place: impl AsFd + Send + 'static) -> io::Result<Log> {
        let (queue, counts) = (Arc::new(Queue::new()), Arc::<Counts>::default());
        let mut outlet = Outlet { place, is_torn: false };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn({
            let (queue, counts) = (Arc::clone(&queue), Arc::clone(&counts));
            move || outlet.run(&queue, &counts)
        })?;
        Ok(Log { queue, counts, thread: thread.thread().clone(), level: None })
    }

    /// Adds this text unchanged. It never waits.
    pub fn add(&self, text: &[u8]) {
        let Counts { lines, done, lost, waiting_bytes, .. } = &*self.counts;
        lines.fetch_add(1, Relaxed);
        let bytes = waiting_bytes.fetch_add(text.len(), Relaxed) + text.len();
        if bytes <= QUEUE_BYTES_MAX && self.queue.add(text) {
            self.thread.unpark();
        } else {
            waiting_bytes.fetch_sub(text.len(), Relaxed);
            lost.fetch_add(1, Relaxed);
            done.fetch_add(1, Relaxed);
        }
    }

    /// Lines logged so far, and how many of them were lost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.lines.load(Relaxed), self.counts.lost.load(Relaxed))
    }

    /// Waits, up to a limit, until everything added so far has been written. Lines that still wait are lost with the
    /// process.
    pub fn finish(&self) {
        let deadline = Instant::now() + FINISH_MAX;
        let lines = self.counts.lines.load(Relaxed);
        while self.counts.done.load(Relaxed) < lines && Instant::now() < deadline {
            std::thread::sleep(FINISH_STEP);
        }
    }
}

/// One call is one line: that is how `tracing_subscriber::fmt` writes.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The destination of lines. It bypasses the lock of `std::io::stderr`, so that a blocked write holds up no other
/// thread.
struct Outlet<T> {
    place: T,
    /// The last line was written only in part.
    is_torn: bool,
}

impl<T: AsFd> Outlet<T> {
    fn run(&mut self, queue: &Queue, counts: &Counts) {
        let mut told = 0;
        let mut told_at: Option<Instant> = None;
        let mut taken: usize = 0;
        loop {
            match queue.take(taken) {
                Some(line) => {
                    taken = taken.wrapping_add(1);
                    let is_written = self.write(&line).is_ok();
                    counts.works.store(is_written, Relaxed);
                    counts.lost.fetch_add(u64::from(!is_written), Relaxed);
                    counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
                    counts.done.fetch_add(1, Relaxed);
                }
                None => std::thread::park_timeout(TELL_INTERVAL),
            }
            let lost = counts.lost.load(Relaxed);
            let is_due = told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_INTERVAL);
            if lost > told && is_due && counts.works.load(Relaxed) {
                // Reported through the queue, so that the line looks like every other. If it is lost, the next report
                // includes it.
                tracing::error!(
                    "{} lines of the log were lost: its reader had stopped or gone, or its disk was full",
                    lost - told
                );
                (told, told_at) = (lost, Some(Instant::now()));
            }
        }
    }

    /// Writes the whole line, or returns an error.
    fn write(&mut self, line: &[u8]) -> Result<(), Errno> {
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> Result<(), Errno> {
        while !rest.is_empty() {
            match nix::unistd::write(&self.place, rest) {
                Ok(0) => return Err(Errno::EIO),
                Ok(len) => {
                    rest = rest.get(len..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(Errno::EINTR) => {}
                // Another process that shares the pipe has made it non-blocking.
                Err(Errno::EAGAIN) => std::thread::sleep(RETRY_INTERVAL),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Bytes of the lines that wait. A line beyond it is lost; `fanblade_log_lost_total`.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Interval between two lines that report lost lines.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// How long the end waits for the log's thread.
const FINISH_MAX: Duration = Duration::from_millis(500);
const FINISH_STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    /// Waits until the log's thread has handled all lines.
    fn settle(log: &Log) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while log.counts.done.load(Relaxed) < log.counts.lines.load(Relaxed) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(FINISH_STEP);
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_no_time() {
        let (reader, writer) = io::pipe().unwrap();
        let log = Log::to(writer).unwrap();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let begun = Instant::now();
        let added = queue::LINES_MAX as u64 * 4;
        (0..added).for_each(|_| log.add(&line));
        log.finish();
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody waited");
        let (lines, lost) = log.counts();
        assert!(lines == added && lost > 0 && lost < added, "{lost} of {lines}");
        // The lines that were not lost arrive whole once the reader reads again.
        let mut lines = io::BufReader::new(reader);
        let mut text = vec![0; usize::try_from(added - lost).unwrap() * line.len()];
        lines.read_exact(&mut text).unwrap();
        assert!(text.chunks(line.len()).all(|read| read == line));
        settle(&log);
        assert_eq!(log.counts.waiting_bytes.load(Relaxed), 0);
    }

    #[test]
    fn long_lines_count_by_their_bytes() {
        let (_reader, writer) = io::pipe().unwrap();
        let log = Log::to(writer).unwrap();
        let line = vec![b'x'; QUEUE_BYTES_MAX / 4];
        (0..8).for_each(|_| log.add(&line));
        assert!(log.counts().1 >= 4, "four fill the queue");
        log.add(&vec![b'x'; QUEUE_BYTES_MAX + 1]);
        assert!(log.counts.waiting_bytes.load(Relaxed) <= QUEUE_BYTES_MAX);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        for place in [Log::to(writer), Log::to(File::options().write(true).open("/dev/full").unwrap())] {
            let log = place.unwrap();
            (0..10).for_each(|_| log.add(b"a line\n"));
            settle(&log);
            assert_eq!(log.counts(), (10, 10));
        }
    }

    #[test]
    fn after_a_cut_line_the_next_begins_anew() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet { place: writer, is_torn: true };
        outlet.write(b"whole\n").unwrap();
        drop(outlet);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nwhole\n");
    }
}
