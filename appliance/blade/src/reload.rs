//! SIGHUP: the configuration is read again, and what can change without ending a session changes.
//!
//! ```text
//! thread "signals" ──order──▶ thread "reload": reads and checks the file ──changes──▶ control thread: applies them
//!                                   ▲                                                       │
//!                                   └────────────────────── done ───────────────────────────┘
//! ```
//! The file is read on a thread of its own, since a disk may not answer. Nothing changes before the whole file has been
//! checked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use fanblade_worker::Limits;
use tokio::sync::mpsc;

use crate::supervisor;
use crate::view::{Blade, Reloads};

/// Reads the configuration again. The error is a message for the log: why everything stays as it is.
pub type Reread = Box<dyn FnMut() -> Result<Changes, String> + Send>;

/// What a configuration that was read again says.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The least severe line that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: &'static str,
    /// The limits of workers and sessions. Those that size tables stay as they were ([`Limits::taking`]).
    pub limits: Limits,
    /// The keys that take effect now and differ from before.
    pub applied: Vec<String>,
    /// The keys that differ from the start of the blade and take effect at the next start.
    pub at_restart: Vec<String>,
}

/// Changes on their way to the control thread, and the way back.
pub(crate) struct Applying {
    pub(crate) changes: Changes,
    pub(crate) done: SyncSender<()>,
}

/// The orders to reload. If one waits already, a further one is the same.
pub(crate) fn orders() -> (SyncSender<()>, Receiver<()>) {
    sync_channel(1)
}

/// Starts the thread. It lasts as long as the process.
pub(crate) fn spawn(
    orders: Receiver<()>,
    mut reread: Reread,
    blade: Arc<Blade>,
    control: mpsc::Sender<Applying>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
        while orders.recv().is_ok() {
            tell(&blade, &supervisor::reloading());
            let outcome = reread().and_then(|changes| apply(&blade, &control, changes));
            let Reloads { applied, refused, is_refused, .. } = &blade.reloads;
            is_refused.store(outcome.is_err(), Relaxed);
            match outcome {
                Ok(()) => applied.fetch_add(1, Relaxed),
                Err(why) => {
                    tracing::error!("reload refused, everything stays as it is: {why}");
                    refused.fetch_add(1, Relaxed)
                }
            };
            tell(&blade, "READY=1");
        }
    })?;
    Ok(())
}

fn apply(blade: &Blade, control: &mpsc::Sender<Applying>, changes: Changes) -> Result<(), String> {
    let Changes { log_level, applied, at_restart, .. } = changes.clone();
    let (done, is_done) = sync_channel(1);
    let still = || format!("the control thread does not take it within {} s", APPLY_MAX.as_secs());
    control.try_send(Applying { changes, done }).map_err(|_| still())?;
    is_done.recv_timeout(APPLY_MAX).map_err(|_| still())?;
    let say = |keys: &[String]| keys.join(", ");
    match (applied.is_empty(), at_restart.is_empty()) {
        (true, true) => tracing::info!("reloaded: nothing has changed"),
        (false, true) => tracing::info!("reloaded: {}", say(&applied)),
        (true, false) => tracing::warn!("reloaded: nothing takes effect now; needs a restart: {}", say(&at_restart)),
        (false, false) => {
            tracing::warn!("reloaded: {}; needs a restart: {}", say(&applied), say(&at_restart));
        }
    }
    blade.reloads.keys_waiting.store(at_restart.len() as u64, Relaxed);
    let is_set = blade.log.set_level(log_level);
    if applied.iter().any(|key| key == LOG_LEVEL) {
        // Said again: one of the two levels, the old one or the new one, may hide these lines.
        match is_set {
            true => tracing::info!("reloaded: the log shows lines from level {log_level} on"),
            false => tracing::warn!("{LOG_LEVEL} changes nothing: the variable RUST_LOG overrides it"),
        }
    }
    Ok(())
}

/// Tells the service manager, which waits for these messages: for a while again and again, if it does not take one.
fn tell(blade: &Blade, message: &str) {
    for _ in 0..TELL_ATTEMPTS_MAX {
        // A blade that ends is not ready again.
        if blade.stopping.load(Relaxed) || blade.supervisor.tell(message) {
            return;
        }
        std::thread::sleep(TELL_INTERVAL);
    }
}

const LOG_LEVEL: &str = "log.level";
/// Limit for the control thread to pass changes on. Then the reload counts as refused (`fanblade_reloads_total`), and
/// has no effect, even if that thread moves again.
const APPLY_MAX: Duration = Duration::from_secs(5);
const TELL_ATTEMPTS_MAX: usize = 100;
const TELL_INTERVAL: Duration = Duration::from_millis(20);
