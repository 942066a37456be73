//! Signals: what each one asks for, and the deadline behind every stop.
//!
//! A separate thread takes the signals, so that they count even while the control thread waits for something. It passes
//! stops on; if a stop is not done in time, it ends the process itself. Several signals within a moment are one order:
//! `timeout` and service managers signal a process and then its whole group.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT | stop: subscribers are told 1001 |
//! | SIGUSR2 | stop because a successor comes: 1012, and when to return |
//! | SIGHUP | stop if a terminal started the blade, since it has gone; else read the configuration again ([`crate::reload`]) |
//! | SIGUSR1 | logged: there is no file to open again |
//! | SIGPIPE | ignored, as Rust leaves it: every write checks its error |
//! | SIGXFSZ | blocked by `main`: a write beyond the file size limit (`ulimit -f`) fails with an error |
//! | SIGQUIT | the kernel's: ends at once, with a core |

use std::fs::File;
use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::log::Log;

/// How to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Clients are told that the blade goes away: 1001.
    Down,
    /// A successor is coming: 1012, and each client is told when to return.
    Restart,
}

/// The orders to stop, in order.
pub(crate) struct Signals(mpsc::Receiver<Stop>);

impl Signals {
    /// `reloads` takes the orders to reload. `delay`: how long the blade goes on serving after the first order to stop.
    pub(crate) fn watch(log: Log, reloads: SyncSender<()>, delay: Duration) -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stops, orders) = mpsc::channel(STOPS_MAX);
        let watched = {
            let _context = runtime.enter();
            Watched::new(reloads)?
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watched.run(&stops, &log, delay)))?;
        Ok(Signals(orders))
    }

    /// Waits for the next order.
    pub(crate) async fn next(&mut self) -> Stop {
        match self.0.recv().await {
            Some(stop) => stop,
            // The thread ends only with the process.
            None => std::future::pending().await,
        }
    }
}

struct Watched {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    restart: tokio::signal::unix::Signal,
    user: tokio::signal::unix::Signal,
    /// None: the program that started us wants SIGHUP to be ignored, as nohup does.
    hangup: Option<tokio::signal::unix::Signal>,
    /// When the terminal goes, nobody can stop the blade from it any more.
    has_terminal: bool,
    /// Orders to read the configuration again.
    reloads: SyncSender<()>,
}

impl Watched {
    fn new(reloads: SyncSender<()>) -> io::Result<Watched> {
        let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Watched {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined2())?,
            user: signal(SignalKind::user_defined1())?,
            hangup,
            has_terminal: File::open("/dev/tty").is_ok(),
            reloads,
        })
    }

    async fn run(mut self, stops: &mpsc::Sender<Stop>, log: &Log, delay: Duration) {
        let mut deadline: Option<Instant> = None;
        let mut count = 0;
        let mut ordered: Option<Instant> = None;
        loop {
            let stop = tokio::select! {
                stop = self.next() => stop,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    tracing::error!("the end takes too long: the process ends now, with whatever is left undone");
                    log.finish();
                    std::process::exit(1);
                }
            };
            let now = Instant::now();
            if ordered.is_some_and(|before| now < before + MOMENT) {
                continue;
            }
            ordered = Some(now);
            let by = now + allowed(count, delay);
            deadline = Some(deadline.map_or(by, |before| before.min(by)));
            count += 1;
            // If the queue is full, the control thread has not yet taken earlier orders, and those are enough.
            let _ = stops.try_send(stop);
        }
    }

    /// Waits for the next order to stop.
    async fn next(&mut self) -> Stop {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return Stop::Down,
                _ = self.interrupt.recv() => return Stop::Down,
                _ = self.restart.recv() => return Stop::Restart,
                _ = self.user.recv() => tracing::warn!("SIGUSR1 changes nothing: the blade has no log file to reopen"),
                _ = hangup => {
                    if self.has_terminal {
                        tracing::info!("the terminal has gone: stopping");
                        return Stop::Down;
                    }
                    // If an order waits already, that one reads the newest file.
                    let _ = self.reloads.try_send(());
                }
            }
        }
    }
}

/// How long the end may take, given the number of orders before this one.
fn allowed(before: usize, delay: Duration) -> Duration {
    match before {
        0 => delay + END_MAX,
        // The second order ends the delay.
        1 if !delay.is_zero() => END_MAX,
        _ => AT_ONCE_MAX,
    }
}

/// Whether the program that started us (nohup) wants SIGHUP to be ignored. Watching it would undo that.
#[must_use]
pub fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // Bit n - 1 is signal n.
    mask.is_some_and(|mask| mask & 1 << (libc::SIGHUP - 1) != 0)
}

/// All orders within this time are one.
const MOMENT: Duration = Duration::from_millis(50);
/// Orders that wait for the control thread.
const STOPS_MAX: usize = 8;
/// Limit for the whole end: a little more than all deadlines in `drain.rs` together.
const END_MAX: Duration = Duration::from_secs(20);
/// What the service manager is told of that limit: a little more, so that the blade ends itself, with its reasons in
/// the log.
pub(crate) const END_TOLD: Duration = Duration::from_secs(25);
const _: () = assert!(END_TOLD.as_secs() > END_MAX.as_secs());
/// Limit for the whole end after an order to end at once.
const AT_ONCE_MAX: Duration = Duration::from_secs(3);
