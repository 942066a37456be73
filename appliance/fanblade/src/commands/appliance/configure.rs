//! `fanblade configure`: takes configuration from outside: from a USB stick, or from credentials of the hypervisor or
//! the kernel's command line. The image calls it at each boot, before the network and the blade.
//!
//! What was taken is kept on the state partition: the blade's file in its own directory, all else where root alone
//! writes. Each thing comes from the strongest source that has it; it is checked, and if it is wrong the old one stays.

mod network;
mod place;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::terminal::out;
use place::Place;
use sources::{Source, Stick};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take what lies in this directory, as if it were a stick. Left out: a stick with the label FANBLADE, and
    /// credentials
    dir: Option<PathBuf>,
    /// Do not say how to let it take effect: the blade and the network start later
    #[arg(long)]
    boot: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    super::need_root("configure")?;
    let place = Place::here();
    let (mut sources, mut wrong) = (Vec::new(), 0);
    let stick = match &args.dir {
        Some(dir) => Source::stick(dir).map(Some),
        None => Stick::mount().and_then(|stick| stick.map(|stick| Source::stick(stick.dir())).transpose()),
    };
    match stick {
        Ok(stick) => sources.extend(stick),
        Err(error) => {
            wrong += 1;
            out::say(format_args!("fanblade: nothing is taken from the stick: {error:#}"))?;
        }
    }
    if args.dir.is_none()
        && let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY")
    {
        sources.push(Source::credentials(Path::new(&dir))?);
    }
    let report = place.take(&sources);
    for line in &report.lines {
        out::say(format_args!("fanblade: {line}"))?;
    }
    place.link_networks()?;
    if !args.boot {
        for hint in report.hints() {
            out::say(hint)?;
        }
    }
    wrong += report.wrong;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
