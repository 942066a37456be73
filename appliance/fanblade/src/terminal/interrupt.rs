//! Ctrl-C, SIGTERM and SIGHUP as a flag, for commands that print or clean up before they end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fanblade_blade::is_hangup_ignored;
use tokio::signal::unix::{SignalKind, signal};

/// True once one of the signals has come.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the signals no longer end the process.
    pub(crate) fn watch() -> io::Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        drop(entered);
        let seen = Arc::clone(&flag);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = async { hangup.as_mut()?.recv().await }, if hangup.is_some() => {}
                }
            });
            seen.store(true, Relaxed);
        })?;
        Ok(Interrupt(flag))
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Relaxed)
    }
}
