//! The least severe line that is logged, which can be changed while the blade runs.
//!
//! `tracing_subscriber::reload` would offer this with a lock, behind which a thread that stands still would hold up all
//! others that log. Here it is one atomic word.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A filter; copies of it share the level. Written by the thread that reloads, read by all.
#[derive(Debug, Clone)]
pub(super) struct Level(Arc<AtomicUsize>);

impl Level {
    /// None: there is no level of that name.
    pub(super) fn new(name: &str) -> Option<Level> {
        Some(Level(Arc::new(AtomicUsize::new(position(name)?))))
    }

    /// Changes the level. False: there is no level of that name.
    pub(super) fn set(&self, name: &str) -> bool {
        let Some(position) = position(name) else { return false };
        self.0.store(position, Relaxed);
        // Every call of a log macro has kept the old answer, those of the crate `log` as well.
        tracing::callsite::rebuild_interest_cache();
        log::set_max_level(LEVELS[position].2);
        true
    }

    fn filter(&self) -> LevelFilter {
        LEVELS.get(self.0.load(Relaxed)).map_or(LevelFilter::INFO, |(_, filter, _)| *filter)
    }
}

impl<S: Subscriber> Layer<S> for Level {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= self.filter() { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= self.filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter())
    }
}

fn position(name: &str) -> Option<usize> {
    LEVELS.iter().position(|(level, ..)| *level == name)
}

const LEVELS: [(&str, LevelFilter, log::LevelFilter); 5] = [
    ("error", LevelFilter::ERROR, log::LevelFilter::Error),
    ("warn", LevelFilter::WARN, log::LevelFilter::Warn),
    ("info", LevelFilter::INFO, log::LevelFilter::Info),
    ("debug", LevelFilter::DEBUG, log::LevelFilter::Debug),
    ("trace", LevelFilter::TRACE, log::LevelFilter::Trace),
];
