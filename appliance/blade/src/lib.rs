//! The serving core of a blade: it takes a feed and settings, starts the sequencer, the workers and the eBPF programs,
//! looks after them, and ends them. It has no command line, and reads no configuration.
//!
//! ```text
//! settings, feed ─▶ Prepared ──start──▶ Running ──serve──▶ the end
//!                                          │
//!                                          └─ view: what all threads report, for readers such as the admin port
//! ```

mod bulletins;
mod calendar;
mod control;
mod drain;
mod error;
mod kernel;
mod log;
mod panics;
mod parked;
mod refused;
mod reload;
mod run;
mod sequencer;
mod settings;
mod signals;
mod supervisor;
mod threads;
mod view;
mod vitals;
mod watch;
mod workers;

pub use calendar::{Calendar, Day, DayError};
pub use error::{EndError, StartError};
pub use log::{Format as LogFormat, Log};
pub use panics::log_them as log_panics;
pub use reload::{Changes, Reread};
pub use run::{Prepared, Running};
pub use settings::{Data, Ebpf, Engine, OpenFeed, Settings};
pub use signals::is_hangup_ignored;
pub use supervisor::Supervisor;
pub use threads::workers_for;
pub use view::{Blade, FeedState, KernelView, Recent, Reloads, SequencerReport, SequencerShared, WorkerView};
pub use vitals::{Thread, Vital};
pub use watch::Watch;
