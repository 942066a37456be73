//! The end of a blade. Every wait has a deadline, and a further signal cuts it short.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fanblade_worker::Command;
use tokio::time::sleep;

use crate::control::Control;
use crate::signals::{END_TOLD, Signals, Stop};

impl Control {
    /// Stops publishing, lets every worker send what it owes and close its sessions, and waits for all threads. False:
    /// a thread has not ended, and ends with the process.
    #[must_use]
    pub(crate) async fn stop(mut self, stop: Stop, signals: &mut Signals) -> bool {
        self.blade.stopping.store(true, Relaxed);
        self.unready.store(true, Relaxed);
        self.blade.supervisor.end_within(END_TOLD);
        let (is_published, is_hurried) = self.end_sequencer(signals).await;
        let (close_code, reconnect_ms_max) = match stop {
            Stop::Down => (fanblade_wire::close::GOING_AWAY, 0),
            Stop::Restart => (fanblade_wire::close::RESTART, RECONNECT_MS_MAX),
        };
        let sessions: u64 = self.workers.stats().map(|stats| stats.sessions.value()).sum();
        tracing::info!("stopping: {sessions} sessions are told {close_code}; another signal stops at once");
        let deadline_ms = if is_hurried { 0 } else { DRAIN_MS_MAX };
        self.workers.tell_all(&Command::Drain { close_code, reconnect_ms_max, deadline_ms });
        self.end_workers(signals).await && is_published
    }

    /// Returns whether the sequencer has ended, and whether to hurry because of a further signal.
    async fn end_sequencer(&mut self, signals: &mut Signals) -> (bool, bool) {
        let Some(sequencer) = self.sequencer.take() else { return (true, false) };
        sequencer.stop();
        let deadline = Instant::now() + SEQUENCER_END_MAX;
        while !sequencer.has_ended() {
            if Instant::now() >= deadline {
                let seconds = SEQUENCER_END_MAX.as_secs();
                tracing::error!(
                    "the sequencer has not ended within {seconds} s; the blade stops without waiting for it"
                );
                return (false, false);
            }
            tokio::select! {
                () = sleep(STEP) => {}
                _ = signals.next() => {
                    tracing::warn!("another signal: stopping at once, without waiting for the sequencer");
                    return (false, true);
                }
            }
        }
        sequencer.join();
        (true, false)
    }

    async fn end_workers(self, signals: &mut Signals) -> bool {
        let mut deadline = Instant::now() + Duration::from_millis(DRAIN_MS_MAX.into()) + DRAIN_GRACE;
        while !self.workers.are_finished() && Instant::now() < deadline {
            tokio::select! {
                () = sleep(STEP) => {}
                _ = signals.next() => {
                    tracing::warn!("another signal: stopping at once");
                    self.workers.tell_all(&Command::Stop);
                    deadline = deadline.min(Instant::now() + AT_ONCE_MAX);
                }
            }
        }
        self.workers.join()
    }
}

/// Limit for the sequencer and its feed to end: the feed tells publishers, and writes where their numbering stops.
const SEQUENCER_END_MAX: Duration = Duration::from_secs(5);
/// Limit for sessions to be told and to take what they are owed.
const DRAIN_MS_MAX: u32 = 10_000;
/// A worker measures that time by itself, without its stalls; this is added for them.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Limit for workers that are told to end at once.
const AT_ONCE_MAX: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(5);
/// The time over which clients spread their return after a restart.
const RECONNECT_MS_MAX: u32 = 5_000;
