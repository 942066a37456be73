//! `fanblade check FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Config, FeedSource};
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.file)?;
    let feed = &config.feed.source;
    let (file, data, admin) = (args.file.display(), config.data.listen, config.admin.listen.get_ref());
    if let FeedSource::Moldudp64(lines) = feed
        && let Some(warning) =
            config::lines_of_anybody(lines.as_deref().unwrap_or(config.feed.moldudp64.lines.get_ref()))
    {
        out::tell(format_args!("{file}: {warning}"));
    }
    out::say(format_args!("{file}: good\n  {feed} to {data}, admin on {admin}"))?;
    Ok(ExitCode::SUCCESS)
}
