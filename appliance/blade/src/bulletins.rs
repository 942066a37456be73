//! What the service manager is told at intervals: that the blade is ready, how it is, and that it moves.
//! [`crate::supervisor`] describes the messages.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::view::Blade;

/// What the manager has heard so far, for the thread that looks at all others ([`crate::Watch`]).
#[derive(Debug)]
pub(crate) struct Bulletins {
    is_ready_told: bool,
    status: String,
    status_at: Option<Instant>,
    pinged_at: Option<Instant>,
}

impl Bulletins {
    pub(crate) fn new() -> Bulletins {
        Bulletins { is_ready_told: false, status: String::new(), status_at: None, pinged_at: None }
    }

    /// Sends what is due. `look_interval`: until the next call.
    pub(crate) fn send_due(&mut self, blade: &Blade, look_interval: Duration) {
        let supervisor = &blade.supervisor;
        if !supervisor.is_there() {
            return;
        }
        supervisor.tell_end();
        let (now, is_stopping) = (Instant::now(), blade.stopping.load(Relaxed));
        let has_begun = || blade.vitals.iter().all(|vital| vital.turns() > 0);
        if !self.is_ready_told && !is_stopping && has_begun() {
            self.is_ready_told = supervisor.tell("READY=1");
        }
        if let Some(watchdog) = supervisor.watchdog()
            && self.pinged_at.is_none_or(|then| now.duration_since(then) + look_interval > watchdog / 2)
            && blade.ailment().is_none()
            && supervisor.tell("WATCHDOG=1")
        {
            self.pinged_at = Some(now);
        }
        if !is_stopping && self.status_at.is_none_or(|then| now.duration_since(then) >= STATUS_INTERVAL) {
            let status = status(blade);
            // After an attempt that failed, too, the next one waits: a lost line is soon out of date.
            self.status_at = Some(now);
            if status != self.status && supervisor.tell(&format!("STATUS={status}")) {
                self.status = status;
            }
        }
    }
}

/// The blade in a line, for `systemctl status`.
fn status(blade: &Blade) -> String {
    let of_all = |value: fn(&fanblade_worker::WorkerStats) -> u64| -> u64 {
        blade.workers.iter().map(|worker| value(&worker.stats)).sum()
    };
    let (sessions, subscribed) =
        (of_all(|stats| stats.sessions.value()), of_all(|stats| stats.sessions_subscribed.value()));
    let ailment = blade.ailment().map(|ailment| format!("; unhealthy: {ailment}")).unwrap_or_default();
    let line = format!("feed {}; {sessions} sessions, {subscribed} subscribed{ailment}", blade.report().state.name());
    line.replace(char::is_control, " ")
}

/// The shortest time between two `STATUS=` lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(3);
