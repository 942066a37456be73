//! Log lines of the kernel programs, passed on to the daemon's log.

use log::{Level, Log, Metadata, Record};

/// Hands the records of `aya-log` to `tracing`. Each record names its own source file and line.
#[derive(Debug)]
pub(crate) struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: TARGET, "{message}"),
            Level::Warn => tracing::warn!(target: TARGET, "{message}"),
            Level::Info => tracing::info!(target: TARGET, "{message}"),
            Level::Debug => tracing::debug!(target: TARGET, "{message}"),
            Level::Trace => tracing::trace!(target: TARGET, "{message}"),
        }
    }

    fn flush(&self) {}
}

const TARGET: &str = "fanblade::ebpf";
