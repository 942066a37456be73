//! Prints what commands say. All commands print here, since `println!` panics when its reader has gone or its disk is
//! full.
//!
//! Results go to standard output ([`print`], [`say`], [`stdout`]), or to standard error ([`conclude`]). When nobody
//! reads the output any more, the command ends quietly, as in `fanblade … | head`; when it cannot be written for
//! another reason, the command says so and its exit code reports it. Side remarks ([`tell`]) may be lost. The blade
//! itself (`fanblade run`) prints on its log's thread, since it must not wait for a reader either.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// The reader of the output has gone. This is no error, but there is nothing left to do.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// Standard output, locked. Its errors name the stream.
pub(crate) struct Stdout(io::StdoutLock<'static>);

pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| of("standard output", &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| of("standard output", &error))
    }
}

/// Prints this to standard output, now.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    let mut out = stdout();
    out.write_all(text.to_string().as_bytes())?;
    out.flush()
}

/// Prints this to standard output as a line, now.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    print(format_args!("{line}\n"))
}

/// A result that goes to standard error, because standard output carries something else.
pub(crate) fn conclude(text: impl Display) -> io::Result<()> {
    io::stderr().write_all(text.to_string().as_bytes()).map_err(|error| of("standard error", &error))
}

/// Writes a side remark to standard error, as a line.
pub(crate) fn tell(line: impl Display) {
    // One write, so that lines of several threads do not mix. If it fails, there is nobody to report it to.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints why a command failed, and returns its exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let is_reader_gone = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        matches!(inner, Some(inner) if inner.is::<ReaderGone>())
    };
    if error.chain().any(is_reader_gone) {
        return ExitCode::SUCCESS;
    }
    tell(format_args!("fanblade: {}", in_one_line(error)));
    ExitCode::FAILURE
}

/// The error and its chain of causes. A cause is left out if the error before it contains its words: many errors end
/// with their cause, since logs show them without the rest of the chain.
pub(crate) fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut before = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !line.is_empty() && before.contains(&words) {
            continue;
        }
        if !line.is_empty() {
            line += ": ";
        }
        line += &words;
        before = words;
    }
    line
}

/// Prints help, the version, or what is wrong with the arguments.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(error) => failed(&of("standard output", &error).into()),
        Ok(()) => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)),
    }
}

fn of(what: &str, error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        kind => io::Error::new(kind, format!("{what} cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the file: {source}")]
        struct Unopened {
            source: io::Error,
        }
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let error = anyhow::Error::from(Unopened { source: missing() }).context("no feed");
        assert_eq!(in_one_line(&error), "no feed: cannot open the file: entity not found");
        // Words are left out only if the error directly before has them, not if an earlier one does.
        let error = anyhow::Error::from(missing()).context("the second try").context("entity not found");
        assert_eq!(in_one_line(&error), "entity not found: the second try: entity not found");
    }
}
