//! `fanblade reset`: the next boot makes the state partition anew.
//!
//! It sets systemd's variable `FactoryReset` of the firmware. fanblade-reset.service sees it before anything is
//! mounted, lets systemd-repart remove the partitions with `FactoryReset=yes` and make them as at the first boot, and
//! takes the variable away. A marker on the state partition would not work where that partition is broken, which is one
//! reason to reset. The power may fail at any moment: until the variable is gone the reset begins again, and a
//! partition that is not there is made.

use std::io::{self, BufRead as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    super::need_root("reset")?;
    super::running("reset")?;
    if !args.yes {
        out::say(EXPLANATION)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        if answer.trim() != WORD {
            bail!("nothing was changed: the answer was not `{WORD}`");
        }
    }
    super::set_firmware_variable("FactoryReset", SYSTEMD, "yes")?;
    out::say("the next boot makes the state partition anew: `systemctl reboot`")?;
    Ok(ExitCode::SUCCESS)
}

const WORD: &str = "reset";
const EXPLANATION: &str = "\
At the next boot the state partition is made anew. Lost are: the configuration, addresses, SSH keys and who may log in,
the journal, and the numbering of publishers. Both versions of the image stay, and the one that would start next. The old
data is not overwritten: destroy the disk if nobody may ever read it. A stick with the label FANBLADE and credentials of a
hypervisor are taken again at the next boot: remove them first if you do not want that.
Type `reset` to do it:";
/// The vendor part of systemd's variables.
const SYSTEMD: &str = "8cf2644b-4b0b-428f-9387-6d876050dc67";
