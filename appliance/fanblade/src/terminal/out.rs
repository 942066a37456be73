//! What commands print: the one place, for `println!` panics where its reader has gone or its disk is full.
//!
//! What was asked for goes to standard output ([`print`], [`say`], [`stdout`]), or beside it ([`conclude`]): when
//! nobody reads it any more, the command ends quietly, as in `fanblade … | head`; when it cannot be written for
//! another reason, that is told, and the exit code says so. What is said by the way ([`tell`]) may be lost. The blade
//! itself (`fanblade run`) prints by its log's thread, for it must not wait for a reader either.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Who read the output has gone. Nothing is wrong, and there is nobody to work for.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// Standard output, locked. Its errors say whose they are.
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

/// The same, as a line.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    print(format_args!("{line}\n"))
}

/// A result that goes to standard error, because standard output carries something else.
pub(crate) fn conclude(text: impl Display) -> io::Result<()> {
    io::stderr().write_all(text.to_string().as_bytes()).map_err(|error| of("standard error", &error))
}

/// A line by the way, to standard error.
pub(crate) fn tell(line: impl Display) {
    // In one piece, so that threads do not mix. Where it cannot be written there is nobody to tell.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Says why a command has failed, and how it ends.
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

/// What failed, because of what, because of what. A cause is not told again where the error before it has its words:
/// many errors end with their cause, since logs show them without the rest of the chain.
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

/// Help, the version, or what is wrong with the arguments.
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
        // Words that only repeat by chance, further up, are told.
        let error = anyhow::Error::from(missing()).context("the second try").context("entity not found");
        assert_eq!(in_one_line(&error), "entity not found: the second try: entity not found");
    }
}
