//! `fanblade check FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, FeedSource};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.file)?;
    let feed = match &config.feed.source {
        FeedSource::Simulator => "the simulator".to_owned(),
        FeedSource::File(path) => path.display().to_string(),
    };
    println!("{}: good", args.file.display());
    println!("  {feed} to {}, admin on {}", config.data.listen, config.admin.listen.get_ref());
    Ok(ExitCode::SUCCESS)
}
