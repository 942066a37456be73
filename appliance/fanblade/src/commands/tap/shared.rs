//! What several `tap` commands share.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use fanblade_ring::UnixNs;

use super::find::Tapped;
use crate::terminal::out;

/// The process is gone. What it had published was still shown.
pub(super) fn ended(tapped: &Tapped) -> ExitCode {
    let (pid, tail) = (tapped.pid, tapped.reader.tail());
    out::tell(format_args!("fanblade: the blade (process {pid}) has ended; its ring ends at index {tail}"));
    ExitCode::from(EXIT_ENDED)
}

pub(super) fn print_json(out: &mut impl Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("cannot write the result as JSON")?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Accepts text that selects subjects: a subject or a pattern.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    fanblade_ring::subject::check(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Nanoseconds since a frame was published. The clock may have been set back in between.
pub(super) fn age_ns(published_ns: UnixNs) -> u64 {
    UnixNs::now().since(published_ns)
}

/// Exit code when the blade has ended meanwhile, so that scripts can tell it from a mistake.
const EXIT_ENDED: u8 = 3;
