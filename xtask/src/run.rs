//! `cargo xtask run`: builds the blade and starts it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{child, repository};

/// Build the blade (release) and run it, by default with a simulated market
///
/// Without arguments: `fanblade run --feed sim`. Arguments after `--` go to `fanblade run`:
///
///   cargo xtask run -- --feed file:DAY.NASDAQ_ITCH50
///   cargo xtask run -- --config blade.toml
///
/// The blade replaces this process (exec), so Ctrl-C and other signals reach it directly.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Arguments of `fanblade run`
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    let program = repository::build_dir(&root).join("release/fanblade");
    if !program.exists() {
        eprintln!("building the blade; the first time takes some minutes");
    }
    let mut build = repository::cargo(&root);
    child::succeed(build.args(["build", "--release", "--package", "fanblade"]))?;
    let mut blade = Command::new(&program);
    blade.arg("run");
    if args.args.is_empty() {
        blade.args(["--feed", "sim"]);
    } else {
        blade.args(&args.args);
    }
    Err(blade.exec()).with_context(|| format!("starting {}", program.display()))
}
