//! Reports a panic as one line in the log, with the thread, the place and the message.

use std::panic::{self, PanicHookInfo};

/// From here on panics are lines of the log. The thread decides what follows: docs/ARCHITECTURE.md, "When something
/// breaks".
pub fn log_them() {
    panic::set_hook(Box::new(|info| tracing::error!("{}", describe(info))));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = info.payload_as_str().unwrap_or("no message");
    // Line breaks in the message would split the log line.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("thread {name} has panicked at {place}: {message}")
}
