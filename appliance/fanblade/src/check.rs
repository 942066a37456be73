//! `fanblade check FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.file)?;
    let feed = &config.feed.source;
    println!("{}: good", args.file.display());
    println!("  {feed} to {}, admin on {}", config.data.listen, config.admin.listen.get_ref());
    Ok(ExitCode::SUCCESS)
}
